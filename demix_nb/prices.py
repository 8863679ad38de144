"""Shadow prices: what one more point of share would be worth, for every bound that binds the answer.

A bound that is met exactly costs something, or it would not be met. Its price is what the objective gains where it is
loosened by a point of share and the problem is solved again; a bound whose price is nothing need not be argued about.
How sure a price is, surfaces tell that are drawn for both answers together: what is open about both is open about
neither.

Source: sensitivity of constrained optima (Boyd & Vandenberghe, Convex Optimization, 5.6), by differences, as an
objective here may have no second derivative.
"""

import numpy as np
import pandas as pd

from demix_nb.decide import Loss, Objective, optimise
from demix_nb.intervals import interval
from demix_nb.region import Region

POINT = 0.01  # of share, by which a bound is loosened
BINDS = 1e-4  # how near a bound must be to bind
STEP = 1e-3  # share of the mixture that is moved to a candidate to learn the slope towards it
DRAWS = 200  # surfaces


def loss_of(predictor, by: Objective) -> Loss:
    """Return an objective of predictions as a loss with its slope towards each candidate, by differences.

    `by` must value each mixture by itself. The slopes are those of moving share from all others in proportion.
    """

    def loss(mixture: pd.Series) -> tuple[float, pd.Series]:
        names = list(mixture.index)
        moved = (1 - STEP) * mixture.to_numpy() + STEP * np.eye(len(names))
        table = pd.DataFrame(np.vstack([mixture, moved]), ["it", *names], names).rename_axis("mixture")
        values = by(predictor.predict(table))
        return float(values["it"]), (values[names] - values["it"]) / STEP

    return loss


def none() -> pd.DataFrame:
    """Return the prices of no bound."""
    return pd.DataFrame(columns=["gain", "low", "high"], dtype=float).rename_axis("bound")


def prices(
    predictor, region: Region, by: Objective, answer: pd.Series, *, rng: np.random.Generator
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the optimum that lies downhill of an answer, and what a point of share is worth at each bound it meets.

    Index `bound`, by name; columns `gain`, by how much the objective falls, with `low` and `high` (95 %).
    """
    loss = loss_of(predictor, by)
    here, _ = optimise(loss, region, start=answer)
    rows, value = {}, loss(here)[0]
    for name in region.limits.met(here[region.candidates].to_numpy(float), BINDS):
        there, _ = optimise(loss, _wider(region, name), start=here)
        both = pd.DataFrame([here, there], ["here", "there"]).rename_axis("mixture")
        drawn = [by(one) for one in predictor.draws(both, DRAWS, rng=rng)]
        low, high = interval(np.array([one["here"] - one["there"] for one in drawn]))
        rows[name] = {"gain": max(value - loss(there)[0], 0.0), "low": low, "high": high}
    return here, pd.DataFrame.from_dict(rows, "index", columns=["gain", "low", "high"]).rename_axis("bound")


def _wider(region: Region, bound: str) -> Region:
    limits = region.limits.loosened(bound, POINT)
    return Region(region.candidates, limits.lower, limits.upper, groups=limits.groups, near=limits.near)
