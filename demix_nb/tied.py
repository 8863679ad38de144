"""The tied set: the mixtures that cannot be told from the best, what they have in common, and which of them to take.

An answer to the thousandth promises more than is known. Surfaces are drawn that agree with what was scored, and every
mixture has a chance, the share of surfaces in which it is not behind the one predicted best by more than a seed's
noise: a second run would put them in another order. Tied are the mixtures of the highest chances, so many that the set
holds the best of 95 % of the surfaces: where little is known it is wide, where much is known it is what a seed cannot
tell. (Held against the best of each surface hardly any is tied where little is known, and a fixed chance makes a set
too wide where a region is narrow, see DECISIONS.) Over the set every candidate has a range, narrow where its share
matters, wide where it does not. Where a team has a mixture already, the nearest of the set is the smallest change that
is worth making.

Source: ours; regions of a level under a posterior: Bolin & Lindgren (2015).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from demix_nb.decide import CAUTION, Objective, best, drawn
from demix_nb.mixtures import average
from demix_nb.region import Region
from demix_nb.store import Refusal

DRAWS = 200  # surfaces
HELD = 0.95  # of the surfaces whose best mixture is in the set
POOL = 20_000  # fresh mixtures of the region
NEAREST = 500  # of them, those predicted best, which surfaces are drawn for: their covariance is a square
RULES = ("best", "nearest", "robust")


@dataclass(frozen=True)
class Tied:
    """The set: its `mixtures`, best first; `facts` (mixture): chance, in how many surfaces it is as good as the best,
    `value`, the objective's mean, and `worst`, its worse 90 % quantile.
    """

    mixtures: pd.DataFrame
    facts: pd.DataFrame

    @property
    def ranges(self) -> pd.DataFrame:
        """Candidate → least and largest share in the set: columns low, high."""
        return pd.DataFrame({"low": self.mixtures.min(), "high": self.mixtures.max()}).rename_axis("candidate")

    def choose(self, rule: str = "best", baseline: pd.Series | None = None) -> pd.Series:
        """Return one mixture of the set: the mean of those as good as the best most often (`best`), the `nearest` to a
        baseline in KL divergence, or that with the best worse quantile (`robust`).

        Raises Refusal for another rule, and for the nearest to nothing.
        """
        if rule not in RULES:
            raise Refusal(f"there is no rule {rule!r} in the tied set; take one of {', '.join(RULES)}")
        if rule == "robust":
            return self.mixtures.loc[self.facts["worst"].idxmin()]
        if rule == "best":
            top = self.facts["chance"].nlargest(max(len(self.facts) // 10, 1)).index
            return average(self.mixtures.loc[top])
        if baseline is None:
            raise Refusal("the nearest mixture needs a baseline; give one, or take another rule")
        shares, other = self.mixtures.clip(lower=1e-9), baseline[list(self.mixtures)].clip(lower=1e-9)
        return self.mixtures.loc[(shares * np.log(shares / other)).sum(axis=1).idxmin()]


def none() -> pd.DataFrame:
    """Return the ranges of nothing, where no set can be told."""
    return pd.DataFrame(columns=["low", "high", "share"], dtype=float).rename_axis("candidate")


def tied(
    predictor,
    region: Region,
    by: Objective,
    noise: float,
    *,
    rng: np.random.Generator,
    also: pd.DataFrame | None = None,
    keep: Callable[[pd.DataFrame], pd.Series] | None = None,
) -> Tied:
    """Return the set of a region's mixtures that are tied with the best.

    `by`: the objective, the smaller the better, of each mixture by itself (a level, not a rank among others); `noise`:
    the standard deviation of one run in its unit. `also`: mixtures to be told of too, such as a search's answer.
    `keep`: which mixtures keep the guardrails; no other is in the set. Raises Refusal for a predictor that cannot say
    how sure it is, for a noise that is not positive, and where no mixture of the pool keeps them.
    """
    if not noise > 0:
        raise Refusal(f"a second seed changes {noise}; it must be above 0, or nobody knows what a tie is")
    pool = _within(region.draw(POOL, rng=rng, prefix="t"), keep)
    if not len(pool):
        raise Refusal(f"none of {POOL} mixtures of the region keeps the guardrails; widen their margins")
    pool, given = best(predictor, pool, NEAREST, by), 0
    if also is not None:
        more = _within(also[list(pool)], keep)
        pool, given = pd.concat([more, pool]), len(more)
    values = drawn(predictor, pool, DRAWS, by, rng=rng)
    chance = (values <= values[:, [values.mean(axis=0).argmin()]] + noise).mean(axis=0)
    least = np.quantile(chance[given:][values[:, given:].argmin(axis=1)], 1 - HELD, method="lower")
    facts = {
        "chance": chance,
        "value": values.mean(axis=0),
        "worst": values.mean(axis=0) + CAUTION * values.std(axis=0),
    }
    told = pd.DataFrame(facts, pool.index)
    kept = told[told["chance"] >= least].sort_values("value")
    return Tied(pool.loc[kept.index], kept)


def _within(pool: pd.DataFrame, keep: Callable[[pd.DataFrame], pd.Series] | None) -> pd.DataFrame:
    return pool if keep is None or not len(pool) else pool[keep(pool)]
