"""Shadow prices: what one more point of share would be worth, for every bound that binds the answer.

A bound that is met exactly costs something, or it would not be met. Its price is what the objective gains where it is
loosened by a point of share, or by a billion tokens of data, and the problem is solved again; a bound whose price is
nothing need not be argued about.
How sure a price is, surfaces tell that are drawn for both answers together: what is open about both is open about
neither.

Source: sensitivity of constrained optima (Boyd & Vandenberghe, Convex Optimization, 5.6), by differences, as an
objective here may have no second derivative.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.decide import Loss, Objective, drawn, optimise
from demix_nb.intervals import interval
from demix_nb.region import Region

POINT = 0.01  # of share, by which a bound is loosened
BILLION = 1e9  # tokens more, where a bound is an amount of data
PRICED = [
    f"{what}{end}" for what, ends in (("", ("gain", "low", "high")), ("billion", ("", "_low", "_high"))) for end in ends
]
BINDS = 1e-4  # how near a bound must be to bind
STEP = 1e-3  # share of the mixture that is moved to a candidate to learn the slope towards it
LEAST = 1e-3  # of share, by which a bound is loosened at least: what less gains is lost in rounding
NEARBY = 30  # steps from one optimum to the next
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
    return pd.DataFrame(columns=PRICED, dtype=float).rename_axis("bound")


def prices(
    predictor,
    region: Region,
    by: Objective,
    answer: pd.Series,
    *,
    rng: np.random.Generator,
    keep: Callable[[pd.DataFrame], pd.Series] | None = None,
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the optimum that lies downhill of an answer, and what a point of share is worth at each bound it meets.

    Index `bound`, by name; columns `gain`, by how much the objective falls for a point of share, with `low` and `high`
    (95 %); for bounds that are amounts of data `billion`, by how much for a billion tokens more, with its interval. A
    billion that is less than a thousandth of the mixture counts as its part of that. `keep`: which mixtures keep the
    guardrails; where the optimum, or that of the loosened region, would not, a bound has no price by itself.
    """
    loss = loss_of(predictor, by)
    here, _ = optimise(loss, region, start=answer)
    rows = {}
    for name in region.limits.met(here[region.candidates].to_numpy(float), BINDS) if _kept(keep, here) else ():
        point = _gain(predictor, by, loss, here, region, name, POINT, keep, rng)
        more = BILLION * region.limits.tokens(name)
        billion = np.full(3, np.nan)
        if not np.isnan(more):
            solved = max(more, LEAST)
            billion = _gain(predictor, by, loss, here, region, name, solved, keep, rng) * more / solved
        rows[name] = [*point, *billion]
    table = pd.DataFrame.from_dict(rows, "index", columns=PRICED, dtype=float).rename_axis("bound")
    return here, table.dropna(subset="gain")


def _gain(predictor, by, loss, here, region, name, wider, keep, rng) -> Float[ndarray, "3"]:
    """Return what is gained where a bound is wider by so much, low and high; NaN where guardrails forbid it."""
    limits = region.limits.loosened(name, wider)
    loosened = Region(region.candidates, limits.lower, limits.upper, groups=limits.groups, near=limits.near)
    there, _ = optimise(loss, loosened, start=here, steps=NEARBY)
    if not _kept(keep, there):
        return np.full(3, np.nan)
    both = pd.DataFrame([here, there], ["here", "there"]).rename_axis("mixture")
    values = drawn(predictor, both, DRAWS, by, rng=rng)
    return np.array([max(loss(here)[0] - loss(there)[0], 0.0), *interval(values[:, 0] - values[:, 1])])


def _kept(keep: Callable[[pd.DataFrame], pd.Series] | None, mixture: pd.Series) -> bool:
    return keep is None or bool(keep(mixture.to_frame("it").T).all())
