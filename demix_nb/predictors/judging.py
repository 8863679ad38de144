"""Is a predictor any good? One judge, who asks everything of runs that the predictor never saw.

Whatever is reported here was held out: a predictor sees `train` and is judged on `tests`, once. Nothing is tuned,
stopped or selected on rows that are reported; RegMix's public notebook stops LightGBM early on the test set it reports.
What comes back are long tables: a figure is drawn from one, a file holds one. Where nothing is held out, or nobody is
asked, they have no rows.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import ceil

import numpy as np
import pandas as pd
from scipy.special import ndtr

from demix_nb.intervals import spearman
from demix_nb.options import check
from demix_nb.parallel import fan_out
from demix_nb.predictors.measures import APPRAISED, appraisal, coverage, errors, long, over_subsets, regret
from demix_nb.predictors.predictor import PREDICTORS, Predictor, out_of_fold
from demix_nb.predictors.regressor import FOLDS
from demix_nb.scored import Scored, dealt
from demix_nb.store import Refusal

ERRORS = ["rho", "low", "high", "mse", "mae", "mean_mse"]  # columns of `errors`
ASKED, QUICK = 192, ("ridge", "gaussian_process")  # mixtures and predictors that tell whether a task can be learnt
UNLIKELY = 0.01  # a plane that chance would hardly equal needs no second opinion
LEAST = 3  # mixtures of a test set: of two, any order is the right one half of the time


@dataclass(frozen=True)
class Judge:
    """Judges predictors, by their names in `PREDICTORS`: fits them to `train` and holds them against `tests`.

    Every question begins with a copy of `rng`, so that no answer depends on what was asked before. A mixture that was
    scored several times is one in a test, its scores averaged; a test set of no mixtures is none. Raises Refusal when a
    test set has a mixture that `train` has too (a seen run is no test), or too few to tell an order.
    """

    train: Scored
    tests: Mapping[str, Scored]
    rng: np.random.Generator
    n_jobs: int = 1
    _fitted: dict[str, Predictor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tests", {name: test.averaged() for name, test in self.tests.items() if len(test)})
        for test, scored in self.tests.items():
            if len(scored) < LEAST:
                raise Refusal(
                    f"test set {test!r}: {len(scored)} mixtures tell no order, {LEAST} are needed; score more"
                )
            if (seen := scored.shared_with(self.train)).any():
                first = scored.names[seen.argmax()]
                raise Refusal(f"test set {test!r}: {seen.sum()} of its mixtures are fitted too, first {first!r}; "
                              "drop them")  # fmt: skip

    def only(self, tasks: Sequence[str]) -> "Judge":
        """The same of these tasks alone."""
        return replace(
            self, train=self.train.only(tasks), tests={n: test.only(tasks) for n, test in self.tests.items()}
        )

    def fitted(self, name: str) -> Predictor:
        """Return the predictor fitted to all of `train`; the second time the same one."""
        if name not in self._fitted:
            self._fitted[name] = PREDICTORS[name].judged.new(rng=self._rng(), n_jobs=self.n_jobs).fit(self.train)
        return self._fitted[name]

    def cross_validated(self, names: Sequence[str]) -> pd.DataFrame:
        """Return `errors` of out-of-fold predictions of `train`, index (predictor, task); all share the split.

        What is refused, a task or all, has rows without numbers and the reason in `refused`. Raises Refusal with the
        runs that are needed where there are too few for every predictor.
        """
        rng, rows, tasks = self._rng(), {}, self.train.tasks.index.rename("task")
        for name, stream in zip(names, rng.spawn(len(names)), strict=True):
            split, predictor = copy.deepcopy(rng), PREDICTORS[name].new(rng=stream, n_jobs=self.n_jobs)
            try:
                guess = out_of_fold(predictor, self.train, rng=split)
                found = errors(guess, self.train, rng=split).assign(refused="")
            except Refusal as refusal:
                found = pd.DataFrame({"rho": np.nan, "refused": str(refusal)}, index=tasks)
            lost = pd.DataFrame({"refused": predictor.refused}).rename_axis("task")
            rows[name] = pd.concat([found, lost.drop(found.index, errors="ignore")]).loc[tasks]
        if not any((table["refused"] == "").any() for table in rows.values()):
            check_enough(self.train, names)
        return pd.concat(rows, names=["predictor", "task"])

    def held_out(self, names: Sequence[str]) -> pd.DataFrame:
        """Return `errors` on every test set, index (predictor, test, task)."""
        rng = self._rng()
        rows = {(name, test): errors(self.fitted(name).predict(scored.mixtures), scored, rng=rng)
                for name in names for test, scored in self.tests.items()}  # fmt: skip
        return _joined(rows, ["predictor", "test", "task"], ERRORS)

    def shuffled(self, name: str) -> pd.DataFrame:
        """Return `errors` on the tests, index (test, task), after fitting scores dealt at random: ρ should be 0."""
        rng = self._rng()
        fitted = PREDICTORS[name].judged.new(rng=self._rng(), n_jobs=self.n_jobs).fit(dealt(self.train, rng=rng))
        rows = {test: errors(fitted.predict(scored.mixtures), scored, rng=rng) for test, scored in self.tests.items()}
        return _joined(rows, ["test", "task"], ERRORS)

    def trials(self, names: Sequence[str], *, sizes: Sequence[int], subsets: int) -> pd.DataFrame:
        """Return ρ and regret on every test set after fitting to `subsets` random choices of each size of `train`.

        One row per predictor, size, subset, test set and task. All predictors see the same subsets; a size of all rows
        has one subset. A predictor that refuses a size has rows without numbers and its reason in `refused`.
        """
        check(curve_sizes=list(sizes), subsets=subsets, learners=list(names))
        rng, calls = self._rng(), []
        for size in sizes:
            for subset, stream in enumerate(rng.spawn(1 if size == len(self.train) else subsets)):
                some = self.train.sample(size, rng=stream)
                streams = zip(names, stream.spawn(len(names)), strict=True)
                calls += [(name, some, self.tests, subset, child) for name, child in streams]
        return pd.concat(fan_out(_one, calls, n_jobs=self.n_jobs, ordered=True), ignore_index=True)

    def learning_curve(self, names: Sequence[str], *, sizes: Sequence[int], subsets: int) -> pd.DataFrame:
        """Return mean ρ with its interval per predictor, size and test set: `over_subsets` of the `trials`."""
        trials = self.trials(names, sizes=sizes, subsets=subsets)
        if trials.empty:
            return _joined({}, ["predictor"], ["runs", "test", "rho", "low", "high", "subsets", "refused"])
        return over_subsets(trials, rng=self._rng())

    def predictions(self, names: Sequence[str]) -> pd.DataFrame:
        """Return every prediction on the tests; index mixture, columns predictor, test, task, predicted, true."""
        parts = {}
        for name in names:
            for test, scored in self.tests.items():
                guess = self.fitted(name).predict(scored.mixtures).scores
                true = scored.scores[list(guess)].to_numpy().T.ravel()
                rows = long(guess, "predicted").assign(true=true, predictor=name, test=test).rename_axis("mixture")
                parts[name, test] = rows[["predictor", "test", "task", "predicted", "true"]]
        if not parts:
            return _joined({}, ["mixture"], ["predictor", "test", "task", "predicted", "true"])
        return pd.concat(parts.values())

    def coverage(self, names: Sequence[str], test: str = "") -> pd.DataFrame:
        """Return `coverage` of the spreads on one test set, the first unless named; index predictor."""
        scored, tables = self._test(test), {}
        for name in names if scored is not None else ():
            fitted = self.fitted(name)
            tables[name] = coverage(fitted.predict(scored.mixtures), fitted.spread(scored.mixtures), scored)
        return _joined(tables, ["predictor", "row"], ["level", "covered"]).droplevel("row")

    def appraisal(self, names: Sequence[str], test: str = "") -> pd.DataFrame:
        """Return `appraisal` as means over the tasks on one test set, the first unless named; index predictor."""
        scored, rows = self._test(test), {}
        for name in names if scored is not None else ():
            fitted, known = self.fitted(name), PREDICTORS[name].spread
            spread = fitted.spread(scored.mixtures) if known else None
            rows[name] = appraisal(fitted.predict(scored.mixtures), spread, scored).mean().to_frame().T
        return _joined(rows, ["predictor", "row"], APPRAISED).droplevel("row")

    def regret(self, names: Sequence[str], test: str = "") -> pd.DataFrame:
        """Return `regret` of the choices on one test set, the first unless named; index (predictor, task)."""
        scored = self._test(test)
        asked = names if scored is not None else ()
        rows = {name: regret(self.fitted(name).predict(scored.mixtures), scored) for name in asked}
        return _joined(rows, ["predictor", "task"], ["chosen", "rank", "of", "regret", "typical"])

    def _test(self, name: str) -> Scored | None:
        """A test set by name, else the first; None where there is none."""
        return self.tests[name] if name else next(iter(self.tests.values()), None)

    def _rng(self) -> np.random.Generator:
        return copy.deepcopy(self.rng)


def luck(seen: Scored, *, rng: np.random.Generator, n_jobs: int = 1) -> pd.Series:
    """Return for each task how often chance would order mixtures as well as a quick predictor does out of fold.

    1: what is seen tells nothing of what is not; that task would only add noise to a rank. A plane is asked first, and
    where that may be luck, a surface; each on at most `ASKED` mixtures. Of too few to fill the folds it is not known:
    NaN.
    """
    found, left = pd.Series(np.nan, seen.tasks.index, name="luck"), list(seen.tasks.index)
    once = seen.averaged()
    once = once.sample(min(len(once), ASKED), rng=rng)
    for name in QUICK if len(once) > FOLDS else ():
        rho = _order(PREDICTORS[name].new(rng=rng, n_jobs=n_jobs), once.only(left), rng)
        tail = len(QUICK) * ndtr(-rho * np.sqrt(len(once) - 1))  # of nothing, ρ has a deviation of 1/√(n − 1)
        found[left] = np.fmin(found[left], np.minimum(tail, 1.0))
        left = [task for task in left if found[task] > UNLIKELY]
        if not left:
            break
    return found


def _order(predictor: Predictor, seen: Scored, rng: np.random.Generator) -> pd.Series:
    """ρ out of fold by task; −1 where nothing was learnt, or always the same is said."""
    try:
        guess = out_of_fold(predictor, seen, rng=copy.deepcopy(rng)).scores
    except Refusal:
        return pd.Series(-1.0, seen.tasks.index)
    rho = {task: spearman(guess[task].to_numpy(), seen.of(guess.index).scores[task].to_numpy()) for task in guess}
    return pd.Series(rho, seen.tasks.index, dtype=float).fillna(-1.0)


def check_enough(seen: Scored, names: Sequence[str], *, held: float = 0.0) -> None:
    """Raise Refusal, with the number needed, for too few mixtures to cross-validate any of these predictors.

    `held`: the share of them that is held out as a test before.
    """
    candidates, there = len(seen.candidates), len(np.unique(seen.groups))
    least, easiest = min((PREDICTORS[name].needs(candidates), name) for name in names)

    def enough(n: int) -> bool:
        test = round(held * n)
        return (test >= LEAST or not held) and n - test - ceil((n - test) / FOLDS) >= least

    if not enough(there):
        needed = next(n for n in count(least) if enough(n))
        first = f"{held:.0%} are held out first, " if held else ""
        how = f"{easiest} learns from {least}; {first}1 in {FOLDS} of the rest in turn"
        raise Refusal(f"{there} mixtures are too few to judge by, {needed} are needed ({how}); score more")


def _joined(parts: Mapping, index: list[str], columns: list[str]) -> pd.DataFrame:
    """All parts below each other, their keys in the index; of none, a table without rows."""
    return pd.concat(parts, names=index) if parts else pd.DataFrame(columns=[*index, *columns]).set_index(index)


def _one(name: str, train: Scored, tests: Mapping[str, Scored], subset: int, rng: np.random.Generator) -> pd.DataFrame:
    predictor = PREDICTORS[name].judged.new(rng=rng)
    try:
        predictor.fit(train)
        parts = {test: _judged(predictor.predict(scored.mixtures), scored) for test, scored in tests.items()}
        lost = predictor.refused
    except Refusal as refusal:
        parts, lost = dict.fromkeys(tests, pd.DataFrame()), dict.fromkeys(train.tasks.index, str(refusal))
    nothing = pd.DataFrame({"rho": np.nan, "regret": np.nan, "refused": pd.Series(lost, dtype=str)})
    parts = {test: pd.concat([part, nothing]) if len(part) else nothing for test, part in parts.items()}
    table = _joined(parts, ["test", "task"], ["rho", "regret", "refused"]).reset_index()
    return table.assign(predictor=name, runs=len(train), subset=subset)


def _judged(predicted: Scored, actual: Scored) -> pd.DataFrame:
    tasks = predicted.tasks.index
    rho = spearman(predicted.scores.to_numpy().T, actual.scores[tasks].to_numpy().T)
    return pd.DataFrame({"rho": rho, "regret": regret(predicted, actual)["regret"], "refused": ""}, index=tasks)
