"""Predictors: from scored mixtures to the score of a mixture that nobody has scored.

RegMix's idea (arXiv 2407.01492, section 3.2) and the third step of DeMix (2602.00747, section 2.4): the shares of a
mixture are features, a score is the target, and a cheap regression then ranks a million mixtures. Each task is a
problem of its own. `PREDICTORS[name].new(rng=rng)` gives an object with `fit(scored)` and `predict(mixtures)`.

Where we differ: a predictor that cannot learn from what it was given says so, and names what does learn.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import numpy as np
import pandas as pd

from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out
from demix_nb.predictors.gaussian import GaussianProcess
from demix_nb.predictors.laws import ExponentialLaw, Ridge
from demix_nb.predictors.regressor import FOLDS, deal_folds, learn
from demix_nb.predictors.stack import Shared, Stack
from demix_nb.predictors.trees import MIN_LEAF, SMALL_LEAF, BaggedLightGBM, LightGBM
from demix_nb.scored import Scored
from demix_nb.store import Refusal

BEYOND = 1.0  # ranges of the scores seen: farther out than the runs reach, no prediction is believed
CHUNK = 8192  # mixtures predicted at a time: bounds the memory of every predictor, however large the pool


@dataclass(frozen=True)
class Row:
    """All there is to know about a predictor.

    `make(rng)`, or `make()` where it is not `random`, gives what learns one column; with `share`, `make(shared, rng)`
    gets what `share(x, y, rng)` learnt from all columns together, and `settle` what was learnt of each. `dash` is that
    of its lines (matplotlib's). `least` runs it needs, and `per_parameter` for each of candidates + 2; below `proven`
    for each of them it must beat the mean out of fold: 0 for what draws towards the mean by itself, as averages and
    processes do. `spread`: whether it says how sure it is.
    """

    make: Callable
    label: str
    dash: str | tuple
    paper: str
    least: int = FOLDS
    per_parameter: float = 0.0
    proven: float = 2.0
    spread: bool = False
    random: bool = False
    share: Callable | None = None
    settle: Callable | None = None

    def new(self, *, rng: np.random.Generator, n_jobs: int = 1) -> "Predictor":
        """Return one that has learnt nothing yet."""
        return Predictor(self, rng=rng, n_jobs=n_jobs)

    def needs(self, candidates: int) -> int:
        """Return the least number of runs of mixtures of so many candidates."""
        return max(self.least, ceil(self.per_parameter * (candidates + 2)))

    @property
    def judged(self) -> "Row":
        """The same, which need not beat the mean before it speaks: whoever asks holds it against something."""
        return replace(self, proven=0.0)

    def trusted(self, candidates: int) -> int:
        """Return the number of runs from which on it need not beat the mean out of fold before it is believed."""
        return max(self.needs(candidates), ceil(self.proven * (candidates + 2)))


class Predictor:
    """One regressor per task behind one contract: tables in, tables out, columns by name.

    Every task has its own child of `rng` and one thread, so that any `n_jobs` gives the same result bit for bit.
    `refused`: why a task was not learnt, by task; it is in nothing that is predicted. `times`: task → by how much its
    spread is multiplied (`calibration`), 1 where nothing is said.
    """

    def __init__(self, row: Row, *, rng: np.random.Generator, n_jobs: int = 1):
        self.row, self.rng, self.n_jobs = row, rng, n_jobs
        self.refused: dict[str, str] = {}
        self.times = pd.Series(dtype=float)

    def fit(self, seen: Scored) -> "Predictor":
        """Learn every task of `seen` that can be learnt; why another could not is in `refused`.

        Raises Refusal for what is no mixture table, a score that is not finite, fewer runs than the predictor needs,
        and where no task can be learnt: each is constant, or not what the regressor learns from, or the runs are few
        for so many candidates and predicted out of fold no better than by their mean.
        """
        mixtures, self.times = validate(seen.mixtures), pd.Series(dtype=float)
        self._check(seen)
        x, y = mixtures.to_numpy(), seen.scores.to_numpy(float).T
        streams = copy.deepcopy(self.rng).spawn(len(y))  # copied: fitting twice gives the same model twice
        common = (self.row.share(x, y.T, copy.deepcopy(self.rng)),) if self.row.share else ()
        given = [(*common, *([stream] if self.row.random else [])) for stream in streams]
        calls = [(self.row.make, x, column, *one) for column, one in zip(y, given, strict=True)]
        learnt = dict(zip(seen.tasks.index, fan_out(_learnt, calls, n_jobs=self.n_jobs, ordered=True), strict=True))
        self.refused = {task: str(found) for task, found in learnt.items() if isinstance(found, Refusal)}
        if len(seen) < self.row.trusted(len(seen.candidates)) and len(self.refused) < len(learnt):
            self.refused |= self._unproven(seen.only([task for task in learnt if task not in self.refused]))
        if len(self.refused) == len(learnt):
            task, reason = next(iter(self.refused.items()))
            raise Refusal(f"{self.row.label}, {task!r}: {reason}")
        self.regressors = {task: found for task, found in learnt.items() if task not in self.refused}
        if self.row.settle:
            self.row.settle(list(self.regressors.values()))
        self.ends = {task: (column.min(), column.max()) for task, column in zip(seen.tasks.index, y, strict=True)}
        self.candidates, self.tasks = seen.candidates, seen.tasks.loc[list(self.regressors)]
        return self

    def _check(self, seen: Scored) -> None:
        bad = np.argwhere(~np.isfinite(seen.scores.to_numpy(float)))
        if len(bad):
            row, column = seen.scores.index[bad[0, 0]], seen.scores.columns[bad[0, 1]]
            raise Refusal(f"score of {row!r} on {column!r} is not a finite number; score it again or drop the row")
        if len(seen) < (needs := self.row.needs(len(seen.candidates))):
            able = [name for name, row in PREDICTORS.items() if row.needs(len(seen.candidates)) <= len(seen)]
            other = f" or take {able[0]!r}" if able else ""
            raise Refusal(f"{self.row.label} needs {needs} runs, not {len(seen)}; score more mixtures{other}")

    def _unproven(self, seen: Scored) -> dict[str, str]:
        """Return task → why, of those that are predicted out of fold no better than by their mean."""
        told, other = f"{len(seen)} runs of {len(seen.candidates)} candidates", copy.copy(self)
        try:
            guess = out_of_fold(other, seen, rng=np.random.default_rng(0)).scores
        except Refusal as refusal:
            reason = f"{told} have to be held against their mean, and cannot: {refusal}"
            return dict.fromkeys(seen.tasks.index, reason)
        error = ((guess - seen.scores[list(guess)]) ** 2).mean() / seen.scores[list(guess)].var(ddof=0)
        return other.refused | {
            task: f"{told} are predicted out of fold no better than by their mean (squared error {times:.2f} of its); "
            "score more mixtures"
            for task, times in error[error >= 1].items()
        }

    def predict(self, mixtures: pd.DataFrame) -> Scored:
        """Return the predicted means, on the tasks that `fit` learnt.

        Raises Refusal before `fit`, and for what is no mixture table over the candidates of `fit`.
        """
        mixtures = self._known(mixtures)
        guess = {task: self._near(task, values) for task, values in self._values("predict", mixtures).items()}
        return Scored(mixtures, pd.DataFrame(guess, mixtures.index), self.tasks)

    def spread(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the standard deviations of what `predict` returns, mixture × task, in the tasks' units.

        Raises Refusal as `predict` does, and where the predictor's row has no spread.
        """
        if not self.row.spread:
            able = " or ".join(repr(name) for name, row in PREDICTORS.items() if row.spread)
            raise Refusal(f"{self.row.label} has no spread; take {able}")
        mixtures = self._known(mixtures)
        own = {task: self.times.get(task, 1.0) * one for task, one in self._values("spread", mixtures).items()}
        return pd.DataFrame(own, mixtures.index)

    def draws(self, mixtures: pd.DataFrame, n: int, *, rng: np.random.Generator) -> list[Scored]:
        """Return `n` answers to what these mixtures would score without a run's noise, each for all of them together.

        What is open about one mixture is open about its neighbours, so that differences are told as sharply as they are
        known. Tasks are drawn apart. Raises Refusal as `spread` does.
        """
        if not self.row.spread:
            self.spread(mixtures)
        mixtures, streams = self._known(mixtures), rng.spawn(len(self.regressors))
        shares, drawn = mixtures.to_numpy(), {}
        for (task, one), own in zip(self.regressors.items(), streams, strict=True):
            found, times = one.draw(shares, n, own), self.times.get(task, 1.0)
            if times != 1.0:
                mean = one.predict(shares)
                found = mean + times * (found - mean)
            drawn[task] = self._near(task, found)
        tables = (pd.DataFrame({t: rows[i] for t, rows in drawn.items()}, mixtures.index) for i in range(n))
        return [Scored(mixtures, table, self.tasks) for table in tables]

    def _near(self, task: str, guess: np.ndarray) -> np.ndarray:
        low, high = self.ends[task]
        return np.clip(guess, low - BEYOND * (high - low), high + BEYOND * (high - low))

    def _known(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        if not hasattr(self, "regressors"):
            raise Refusal("predict comes after fit: call fit(scored) first")
        return validate(mixtures, self.candidates)

    def _values(self, method: str, mixtures: pd.DataFrame) -> dict[str, np.ndarray]:
        shares = mixtures.to_numpy()
        chunks = [shares[start : start + CHUNK] for start in range(0, len(shares), CHUNK)]
        # chunk by chunk: what tasks have in common is then said once of each
        said = [{t: getattr(c, method)(x) for t, c in self.regressors.items()} for x in chunks]
        return {t: np.concatenate([one[t] for one in said]) for t in self.regressors}


def _learnt(make: Callable, x: np.ndarray, y: np.ndarray, *given: object) -> object:
    """What learns one column, or the Refusal: one task that cannot be learnt keeps no other from it."""
    try:
        return learn(make, x, y, *given)
    except Refusal as refusal:
        return refusal


def in_turn(
    predictor: Predictor, seen: Scored, *, folds: int = FOLDS, rng: np.random.Generator
) -> Iterator[tuple[Predictor, Scored]]:
    """Yield, fold by fold, a copy of `predictor` that was fitted to all others, and the runs of this one.

    The split is made once, by mixture; why a task could not be learnt in some fold is in the predictor's `refused`.
    """
    fold = deal_folds(validate(seen.mixtures).to_numpy(), folds, rng)
    predictor.refused = {}
    for k in range(folds):
        fitted = copy.deepcopy(predictor)
        fitted.row = predictor.row.judged
        fitted.fit(seen.take(np.flatnonzero(fold != k)))
        predictor.refused |= fitted.refused
        yield fitted, seen.take(np.flatnonzero(fold == k))


def out_of_fold(predictor: Predictor, seen: Scored, *, folds: int = FOLDS, rng: np.random.Generator) -> Scored:
    """Return `seen` with each row's scores as a copy of `predictor` that never saw that mixture predicts them.

    The split is made once, by mixture. A task that some fold could not learn is left out, why is in the predictor's
    `refused`. Raises Refusal when there are fewer distinct mixtures than folds, whatever `fit` raises on the rows of a
    fold, and where no task is left.
    """
    parts = [fitted.predict(held.mixtures).scores for fitted, held in in_turn(predictor, seen, folds=folds, rng=rng)]
    kept = [task for task in seen.tasks.index if task not in predictor.refused]
    if not kept:
        raise Refusal(
            f"{predictor.row.label}: no task can be learnt in every fold; {next(iter(predictor.refused.values()))}"
        )
    return replace(seen.only(kept), scores=pd.concat(parts)[kept])


PREDICTORS = {
    "ridge": Row(Ridge, "ridge", (0, (5, 1.5)), "RegMix (2407.01492) appendix E", random=True),
    "lightgbm_regmix": Row(
        partial(LightGBM, rounds=1000, learning_rate=0.01), "LightGBM (RegMix)", (0, (1.2, 1.2)),
        "RegMix (2407.01492) appendix E", least=2 * MIN_LEAF,
    ),
    "lightgbm_demix": Row(
        partial(LightGBM, rounds=300, learning_rate=0.02), "LightGBM (DeMix)", (0, (2, 3)),
        "DeMix (2602.00747) 3", least=2 * MIN_LEAF,
    ),
    "lightgbm_bagged": Row(
        BaggedLightGBM, "bagged LightGBM", (0, (5, 1.5, 1.2, 1.5)), "Breiman (1996)",
        least=2 * SMALL_LEAF, proven=0, spread=True, random=True,
    ),
    "gaussian_process": Row(
        GaussianProcess, "Gaussian process", "-", "Rasmussen & Williams (2006)", proven=0, spread=True,
    ),
    "mixing_law": Row(
        ExponentialLaw, "data mixing law", (0, (9, 2)), "data mixing laws (2403.16952)", per_parameter=1, proven=4,
        random=True,
    ),
    "log_linear": Row(
        partial(ExponentialLaw, positive=True), "log-linear law", (0, (9, 2, 1.2, 2)), "OLMix (2602.12237)",
        per_parameter=1, proven=4, random=True,
    ),
    "stack": Row(
        Stack, "stack", (0, (3, 1, 1, 1, 1, 1)), "van der Laan et al. (2007)", least=2 * FOLDS, proven=0, spread=True,
        random=True, share=Shared.learn, settle=Stack.settle,
    ),
}  # fmt: skip
