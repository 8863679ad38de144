"""Turned round: from a wanted score to the mixture, by the smallest step inside the region.

Of all mixtures whose predicted score is the wanted one, argmin KL(x‖start) within the bounds. The prediction is a
Gaussian process, whose slope is known in closed form; on the scale of √x, where its surface is smooth, sequential
quadratic programs get there in a few dozen steps. Where none does, what the score can be at most is told.

Source: ours; Kraft (1988) for the programs (scipy's SLSQP), Rasmussen & Williams (2006) 9.4 for the slope.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import minimize
from scipy.special import rel_entr

from demix_nb.predictors.gaussian import GaussianProcess
from demix_nb.region import Region

STEPS = 50
CLOSE = 1e-3  # of a standard deviation of the scores: reached
LEAST = 1e-3  # share that a candidate without any starts from: nothing is near to a zero in KL divergence
TINY = 1e-8  # share at which a logarithm is taken where there is none

Roots = Float[np.ndarray, " k"]
Smooth = Callable[[Roots], tuple[float, Roots]]  # a function of √shares, and its slope


@dataclass(frozen=True)
class Reached:
    """Where the smallest step ended: the `mixture`, its predicted `score`, and whether that is the wanted one."""

    mixture: pd.Series
    score: float
    there: bool


def reach(process: GaussianProcess, region: Region, start: pd.Series, wanted: float) -> Reached:
    """Return the mixture of the region nearest to `start` that a process predicts to score `wanted`.

    `process`: a fitted one, of one task (`Predictor.regressors`). Where no step gets there, the mixture found on the
    way whose score is as far towards the wanted one as it can be.
    """
    origin = region.nearest(start.clip(lower=LEAST))
    shares = origin.to_numpy()

    def score(roots: Roots) -> tuple[float, Roots]:
        x = (roots**2)[None]
        return float(process.predict(x)[0] - wanted) / process.scale, process.slopes(x)[0] * 2 * roots / process.scale

    def far(roots: Roots) -> tuple[float, Roots]:
        x, of = np.maximum(roots**2, TINY), np.maximum(shares, TINY)
        return float(rel_entr(x, of).sum()), (np.log(x / of) + 1) * 2 * roots

    found = _ended(process, region, origin, wanted, _solved(region, np.sqrt(shares), far, score))
    if found.there:
        return found
    side = np.sign(score(np.sqrt(shares))[0])
    utmost = _solved(region, np.sqrt(shares), lambda roots: tuple(side * part for part in score(roots)))
    return min((found, _ended(process, region, origin, wanted, utmost)), key=lambda end: abs(end.score - wanted))


def _solved(region: Region, start: Roots, least: Smooth, zero: Smooth | None = None) -> Roots:
    """Return the √shares of the region where `least` is least and `zero` is 0, as near as `STEPS` steps come."""
    bounds = region.limits.bounds
    rows = [bound for bound in region.limits.named if bound.grouped]
    held = [_constraint("eq", lambda z: ((z**2).sum() - 1, 2 * z)), *([_constraint("eq", zero)] if zero else [])]
    held += [_constraint("ineq", lambda z, b=bound: (b.most - b.row @ z**2, -2 * b.row * z)) for bound in rows]
    if bounds.centre is not None:
        held.append(_constraint("ineq", lambda z: _nearness(z, bounds.centre, bounds.reach)))
    ends = np.sqrt(np.maximum([bounds.low, bounds.high], TINY)).T
    done = minimize(least, start, jac=True, bounds=ends, constraints=held, method="SLSQP", options={"maxiter": STEPS})
    return done.x


def _nearness(roots: Roots, centre: Roots, reach: float) -> tuple[float, Roots]:
    away = roots**2 - centre
    return reach - np.abs(away).sum() / 2, -np.sign(away) * roots


def _constraint(kind: str, function: Smooth) -> dict[str, object]:
    return {"type": kind, "fun": lambda roots: function(roots)[0], "jac": lambda roots: function(roots)[1]}


def _ended(process: GaussianProcess, region: Region, origin: pd.Series, wanted: float, roots: Roots) -> Reached:
    mixture = region.nearest(pd.Series(np.maximum(roots, 0.0) ** 2, origin.index))
    score = float(process.predict(mixture.to_numpy()[None])[0])
    return Reached(mixture, score, bool(abs(score - wanted) <= CLOSE * process.scale))
