"""Is a predictor any good? One judge, who asks everything of runs that the predictor never saw.

Whatever is reported here was held out: a predictor sees `train` and is judged on `tests`, once. Nothing is tuned,
stopped or selected on rows that are reported; RegMix's public notebook stops LightGBM early on the test set it reports.
What comes back are long tables: a figure is drawn from one, a file holds one.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from demix_nb.intervals import spearman
from demix_nb.parallel import fan_out
from demix_nb.predictors.measures import coverage, errors, over_subsets, regret
from demix_nb.predictors.predictor import PREDICTORS, Predictor, out_of_fold
from demix_nb.scored import Scored, dealt
from demix_nb.store import Refusal


@dataclass(frozen=True)
class Judge:
    """Judges predictors, by their names in `PREDICTORS`: fits them to `train` and holds them against `tests`.

    Every question begins with a copy of `rng`, so that no answer depends on what was asked before. Raises Refusal when
    a test set has a mixture that `train` has too: a seen run is no test.
    """

    train: Scored
    tests: Mapping[str, Scored]
    rng: np.random.Generator
    n_jobs: int = 1
    _fitted: dict[str, Predictor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for test, scored in self.tests.items():
            if (seen := scored.shared_with(self.train)).any():
                first = scored.names[seen.argmax()]
                raise Refusal(f"test set {test!r}: {seen.sum()} of its mixtures are fitted too, first {first!r}; "
                              "drop them")  # fmt: skip

    def fitted(self, name: str) -> Predictor:
        """Return the predictor fitted to all of `train`; the second time the same one."""
        if name not in self._fitted:
            self._fitted[name] = PREDICTORS[name].new(rng=self._rng(), n_jobs=self.n_jobs).fit(self.train)
        return self._fitted[name]

    def cross_validated(self, names: Sequence[str]) -> pd.DataFrame:
        """Return `errors` of out-of-fold predictions of `train`, index (predictor, task); all share the split.

        One that refuses has rows without numbers and its reason in `refused`.
        """
        rng, rows = self._rng(), {}
        for name, stream in zip(names, rng.spawn(len(names)), strict=True):
            split = copy.deepcopy(rng)
            try:
                predictor = PREDICTORS[name].new(rng=stream, n_jobs=self.n_jobs)
                guess = out_of_fold(predictor, self.train, rng=split)
                rows[name] = errors(guess, self.train, rng=split).assign(refused="")
            except Refusal as refusal:
                rows[name] = pd.DataFrame({"refused": str(refusal)}, index=self.train.tasks.index.rename("task"))
        return pd.concat(rows, names=["predictor", "task"])

    def held_out(self, names: Sequence[str]) -> pd.DataFrame:
        """Return `errors` on every test set, index (predictor, test, task)."""
        rng = self._rng()
        rows = {(name, test): errors(self.fitted(name).predict(scored.mixtures), scored, rng=rng)
                for name in names for test, scored in self.tests.items()}  # fmt: skip
        return pd.concat(rows, names=["predictor", "test"])

    def shuffled(self, name: str) -> pd.DataFrame:
        """Return `errors` on the tests, index (test, task), after fitting scores dealt at random: ρ should be 0."""
        rng = self._rng()
        fitted = PREDICTORS[name].new(rng=self._rng(), n_jobs=self.n_jobs).fit(dealt(self.train, rng=rng))
        rows = {test: errors(fitted.predict(scored.mixtures), scored, rng=rng) for test, scored in self.tests.items()}
        return pd.concat(rows, names=["test"])

    def trials(self, names: Sequence[str], *, sizes: Sequence[int], subsets: int) -> pd.DataFrame:
        """Return ρ and regret on every test set after fitting to `subsets` random choices of each size of `train`.

        One row per predictor, size, subset, test set and task. All predictors see the same subsets; a size of all rows
        has one subset. A predictor that refuses a size has rows without numbers and its reason in `refused`.
        """
        rng, calls = self._rng(), []
        for size in sizes:
            for subset, stream in enumerate(rng.spawn(1 if size == len(self.train) else subsets)):
                some = self.train.sample(size, rng=stream)
                streams = zip(names, stream.spawn(len(names)), strict=True)
                calls += [(name, some, self.tests, subset, child) for name, child in streams]
        return pd.concat(fan_out(_one, calls, n_jobs=self.n_jobs, ordered=True), ignore_index=True)

    def learning_curve(self, names: Sequence[str], *, sizes: Sequence[int], subsets: int) -> pd.DataFrame:
        """Return mean ρ with its interval per predictor, size and test set: `over_subsets` of the `trials`."""
        return over_subsets(self.trials(names, sizes=sizes, subsets=subsets), rng=self._rng())

    def predictions(self, names: Sequence[str]) -> pd.DataFrame:
        """Return every prediction on the tests; index mixture, columns predictor, test, task, predicted, true."""
        parts = []
        for name in names:
            for test, scored in self.tests.items():
                guess = self.fitted(name).predict(scored.mixtures).scores
                long = guess.melt(ignore_index=False, var_name="task", value_name="predicted")
                true = scored.scores[list(guess)].to_numpy().T.ravel()
                parts.append(long.assign(true=true, predictor=name, test=test))
        return pd.concat(parts)[["predictor", "test", "task", "predicted", "true"]].rename_axis("mixture")

    def coverage(self, names: Sequence[str], test: str = "") -> pd.DataFrame:
        """Return `coverage` of the spreads on one test set, the first unless named; index predictor."""
        scored = self.tests[test or next(iter(self.tests))]
        tables = {}
        for name in names:
            fitted = self.fitted(name)
            tables[name] = coverage(fitted.predict(scored.mixtures), fitted.spread(scored.mixtures), scored)
        return pd.concat(tables, names=["predictor", None]).droplevel(1)

    def regret(self, names: Sequence[str], test: str = "") -> pd.DataFrame:
        """Return `regret` of the choices on one test set, the first unless named; index (predictor, task)."""
        scored = self.tests[test or next(iter(self.tests))]
        rows = {name: regret(self.fitted(name).predict(scored.mixtures), scored) for name in names}
        return pd.concat(rows, names=["predictor"])

    def _rng(self) -> np.random.Generator:
        return copy.deepcopy(self.rng)


def _one(name: str, train: Scored, tests: Mapping[str, Scored], subset: int, rng: np.random.Generator) -> pd.DataFrame:
    tasks = train.tasks.index
    try:
        predictor = PREDICTORS[name].new(rng=rng).fit(train)
        parts = {test: _judged(predictor.predict(scored.mixtures), scored) for test, scored in tests.items()}
    except Refusal as refusal:
        nothing = pd.DataFrame({"rho": np.nan, "regret": np.nan, "refused": str(refusal)}, index=tasks)
        parts = dict.fromkeys(tests, nothing)
    table = pd.concat(parts, names=["test", "task"]).reset_index()
    return table.assign(predictor=name, runs=len(train), subset=subset)


def _judged(predicted: Scored, actual: Scored) -> pd.DataFrame:
    tasks = predicted.tasks.index
    rho = spearman(predicted.scores.to_numpy().T, actual.scores[tasks].to_numpy().T)
    return pd.DataFrame({"rho": rho, "regret": regret(predicted, actual)["regret"], "refused": ""}, index=tasks)
