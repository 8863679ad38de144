"""How sure we are: rank correlation and the interval around it.

Every figure that is quoted carries an interval, and every module that quotes one takes it from here, so that two
numbers in one table always mean the same thing. Correlations work along the last axis: a bootstrap is then one call
on an array (resamples, rows) and not a Python loop.

Spearman (1904); percentile bootstrap: Efron & Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
"""

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from demix_nb.store import Refusal


def spearman(a: Float[ndarray, "..."], b: Float[ndarray, "..."]) -> Float[ndarray, "..."] | float:
    """Spearman's ρ along the last axis, ties sharing their mean rank; −1 … 1.

    NaN where one side is constant: there is no order to agree on. Raises Refusal when the shapes differ.
    """
    from scipy.stats import rankdata  # here: it takes most of a second, which whoever moves a slider would wait

    return pearson(rankdata(a, axis=-1), rankdata(b, axis=-1))


def pearson(a: Float[ndarray, "..."], b: Float[ndarray, "..."]) -> Float[ndarray, "..."] | float:
    """Pearson's r along the last axis, −1 … 1; NaN and Refusal as for `spearman`."""
    if a.shape != b.shape:
        raise Refusal(f"correlated arrays need one shape, got {a.shape} and {b.shape}; align them by name first")
    a, b = (values - values.mean(axis=-1, keepdims=True) for values in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        r = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return r if r.ndim else float(r)


def interval(values: Float[ndarray, " draw"], level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds a share `level` of the finite values, in their unit; NaN where none is."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return np.nan, np.nan
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    statistic: Callable,
    *arrays: Float[ndarray, "..."],
    rng: np.random.Generator,
    n: int = 2000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of `statistic(*arrays)` over resampled rows, the same rows for every (one-dimensional) array.

    `statistic` works along the last axis, as `spearman` does. Raises Refusal for fewer than three rows, arrays of
    different lengths, and when the statistic is undefined in more than half of the resamples.
    """
    rows = {len(array) for array in arrays}
    if len(rows) != 1 or min(rows) < 3:
        raise Refusal(f"a bootstrap needs arrays of one length of at least 3 rows, got lengths {sorted(rows)}")
    draws = rng.integers(0, min(rows), size=(n, min(rows)))
    values = np.asarray(statistic(*(array[draws] for array in arrays)))
    undefined = n - int(np.isfinite(values).sum())
    if undefined > n / 2:
        raise Refusal(f"the statistic is undefined in {undefined} of {n} resamples: is one array almost constant?")
    return interval(values, level)


def student(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the mean of a few values and its 95 % interval by Student's t; of fewer than three the mean alone, NaN."""
    from scipy.stats import t  # here: as above

    few = np.asarray(list(values), dtype=float)
    if len(few) < 3:
        return float(few.mean()), np.nan, np.nan
    reach = t.ppf(0.975, len(few) - 1) * few.std(ddof=1) / np.sqrt(len(few))
    return float(few.mean()), float(few.mean() - reach), float(few.mean() + reach)


def with_interval(
    value: float, low: float, high: float, *, digits: int = 2, undefined: str = "undefined", beyond: str = ""
) -> str:
    """Return a value with its interval, as in "0.91 [0.79, 0.95]"; for NaN `undefined`, which may say why.

    `beyond`: "above" or "below" where the value is a bound and no more is known.
    """
    bound = {"above": "more than ", "below": "less than "}.get(beyond, "")
    return undefined if np.isnan(value) else f"{bound}{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
