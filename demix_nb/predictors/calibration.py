"""Intervals that hold what they promise: spreads are scaled by what they missed out of fold; what is reached is told.

A predictor says how sure it is, and may be wrong about that too. Each run is held against a copy that never saw its
mixture, and its error counted in spreads; the quantile of these says by how much the spread is to be multiplied. What
is reached then is counted again out of fold: a fold's runs under the multiple that the other folds ask for. Where the
reached coverage is not near the nominal one, the runs are too few or too unlike for any multiple, and it is said.

Source: cross-conformal prediction (Vovk 2015), by its quantile; intervals of coverage: Wilson (1927).
"""

import copy

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.predictors.predictor import Predictor, in_turn
from demix_nb.predictors.regressor import LEVEL, SURE, widened
from demix_nb.scored import Scored
from demix_nb.store import Refusal

NEAR = (0.88, 0.95)  # coverage that an interval of 90 % is to have; the numbers are ours
CALIBRATED = ["runs", "nominal", "covered", "low", "high", "plain", "times", "told"]  # columns of `calibrated`


def calibrated(predictor: Predictor, seen: Scored, *, rng: np.random.Generator) -> tuple[Predictor, pd.DataFrame]:
    """Return a fitted predictor with spreads that hold what they promise, and per task what was reached, out of fold.

    `seen`: what it was fitted to. Columns: `runs`; `nominal` level of the intervals; the share of runs `covered`, with
    `low` and `high` (95 %); `plain`, covered by the spread as it was; `times`, what it is multiplied by; `told`. Of a
    predictor without spread the table has no rows; a task that some fold could not learn has no numbers, is told why,
    and keeps its spread.
    """
    if not predictor.row.spread:
        return predictor, pd.DataFrame(columns=CALIBRATED).rename_axis("task")
    parts, asked = [], copy.copy(predictor)
    tasks = list(predictor.tasks.index)
    try:
        for fitted, held in in_turn(asked, seen.only(tasks), rng=rng):
            known = list(fitted.tasks.index)
            away = held.scores[known] - fitted.predict(held.mixtures).scores
            parts.append(away / np.maximum(fitted.spread(held.mixtures), 1e-300))
    except Refusal as refusal:
        asked.refused = dict.fromkeys(tasks, str(refusal))
    without = {task: [len(seen), LEVEL, *[np.nan] * 5, f"not known: {why}"] for task, why in asked.refused.items()}
    rows = {task: without.get(task) or _row([part[task].to_numpy() for part in parts]) for task in tasks}
    table = pd.DataFrame.from_dict(rows, "index", columns=CALIBRATED).rename_axis("task")
    wide = copy.copy(predictor)
    wide.times = table["times"].astype(float).fillna(1.0)
    return wide, table


def _row(folds: list[Float[ndarray, " _"]]) -> list:
    """Return what was reached of one task; `folds`: its errors in spreads."""
    from scipy.stats import binomtest  # here: it takes most of a second, which whoever moves a slider would wait

    every, end = np.concatenate(folds), SURE
    others = [widened(np.concatenate(folds[:k] + folds[k + 1 :])) for k in range(len(folds))]
    inside = int(sum((np.abs(fold) <= times * end).sum() for fold, times in zip(folds, others, strict=True)))
    covered = inside / len(every)
    low, high = binomtest(inside, len(every)).proportion_ci(0.95, "wilson")
    plain = float((np.abs(every) <= end).mean())
    return [len(every), LEVEL, covered, low, high, plain, widened(every), told(covered, low, high)]


def told(covered: float, low: float, high: float) -> str:
    """Return in words whether intervals hold what they promise."""
    if NEAR[0] <= covered <= NEAR[1]:
        return "calibrated"
    what = "narrow" if covered < NEAR[0] else "wide"
    if low <= LEVEL <= high:
        return f"perhaps too {what}: so few runs do not tell"
    return f"too {what}: no multiple brings it into {NEAR[0]:.0%} to {NEAR[1]:.0%}"


def ranges(predictor: Predictor, mixture: pd.Series) -> pd.DataFrame:
    """Return what a mixture is predicted to score: index family, columns predicted, low, high (90 %), in its unit.

    The interval is of one run. Tasks of a family are taken to err together, which is the careful side. Of a predictor
    without spread it has no ends (NaN).
    """
    table = mixture.to_frame("it").T
    mean = predictor.predict(table)
    family = mean.tasks["family"]
    doubt = predictor.spread(table) if predictor.row.spread else mean.scores * np.nan
    both = pd.DataFrame({"predicted": mean.scores.loc["it"], "doubt": doubt.loc["it"] * SURE})
    both = both.groupby(family, sort=False).mean().rename_axis("family")
    return both.assign(low=both["predicted"] - both["doubt"], high=both["predicted"] + both["doubt"]).drop(
        columns="doubt"
    )
