"""Decide: from what a predictor says of a pool to the one mixture to train on.

A search ends with a fitted predictor and a pool of fresh mixtures. DeMix averages the predicted best 128, which
forgives the predictor what it gets wrong about any one of them; CLIMB takes the single best; MergeMix really scores the
best and a few that differ from it, and believes that alone; the careful take the best at its worse quantile. Each is a
row of `RULES`, and what a row's choice costs is judged like a predictor's order (`predictors.appraisal`). A rule is a
generator like a strategy: it may yield mixtures to be scored before it answers. What "best" means is an *objective*, by
default the macro rank. Where a loss has a gradient, `optimise` follows it and needs neither predictor nor pool.

Sources: DeMix (arXiv 2602.00747) 2.4 and 3; CLIMB (2504.13161); MergeMix (2601.17858) 3; MixMin (2502.10510). As in
DeMix's code, one regressor per task is fitted and the predictions are ranked.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.spatial.distance import cdist
from scipy.special import ndtri

from demix_nb.mixtures import average, uniform
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

TOP_K = 128  # predicted best mixtures averaged into the answer, DeMix 3
AMONG = 8  # the most that are averaged where the answer must be one of a few runs that exist; the number is ours
CAUTION = ndtri(0.9)  # standard deviations to the quantile that a careful rule looks at
FINALISTS = 4  # α* and its runners-up that are really scored; the number is ours
DISTINCT = 0.05  # share of the data in which two finalists differ at least: nearer ones would score alike
CLOUD, CLOUDS = 500, (30, 100, 300, 1000, 3000)  # mixtures per cloud around the best, Dirichlet strength of each
STEPS, RATE = 100, 1.0  # of exponentiated gradient, MixMin

Objective = Callable[[Scored], pd.Series]  # scored mixtures → a number for each, the smaller the better
Search = Generator[pd.DataFrame, Scored, pd.Series]  # yields mixtures, is sent their scores, returns the winner
Loss = Callable[[pd.Series], tuple[float, pd.Series]]  # mixture → loss, gradient by candidate
Gradient = Callable[[pd.Series], tuple[pd.Series, pd.DataFrame]]  # mixture → loss by task, gradient task × candidate


def macro_rank(scored: Scored) -> pd.Series:
    """The objective of DeMix: rank within each family, averaged over the families."""
    return scored.ranks


def ranked(seen: Scored) -> Objective:
    """The goal of DeMix, whatever was seen (`goals` has others)."""
    return macro_rank


def level(among: Scored) -> Objective:
    """The families' mean in standard deviations of `among`: a number of each mixture by itself."""
    return lambda scored: scored.level(among)


def best(predictor, pool: pd.DataFrame, n: int, by: Objective = macro_rank) -> pd.DataFrame:
    """Return the `n` mixtures of `pool` that are predicted best, best first; none whose objective is infinite."""
    values = by(predictor.predict(pool)).sort_values(kind="stable")
    return pool.loc[values.index[np.isfinite(values)][:n]]


def drawn(
    predictor, mixtures: pd.DataFrame, n: int, by: Objective, *, rng: np.random.Generator
) -> Float[np.ndarray, "draw mixture"]:
    """Return what `n` joint draws of a predictor make of an objective that values each mixture by itself."""
    draws = predictor.draws(mixtures, n, rng=rng)
    scores = np.concatenate([one.scores.to_numpy() for one in draws])
    table = pd.DataFrame(np.tile(mixtures.to_numpy(), (n, 1)), columns=list(mixtures))
    return (
        by(Scored(table, pd.DataFrame(scores, columns=list(draws[0].scores)), draws[0].tasks)).to_numpy().reshape(n, -1)
    )


def propose(predictor, pool: pd.DataFrame, top_k: int = TOP_K, by: Objective = macro_rank) -> pd.Series:
    """Return the average of the `top_k` mixtures of `pool` that are predicted best (DeMix 3)."""
    return average(best(predictor, pool, top_k, by))


def refine(
    predictor, start: pd.Series, region: Region, by: Objective = macro_rank, *, rng: np.random.Generator
) -> pd.Series:
    """Return the mixture predicted best near `start`: clouds around the best so far, each narrower than the last."""
    for strength in CLOUDS:
        cloud = region.dirichlet(start, CLOUD, rng=rng, strengths=[strength])
        cloud.loc["start"] = start
        start = best(predictor, cloud, 1, by).iloc[0]
    return start


def apart(ranked: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the first row of `ranked` and up to `n` − 1 more that differ from each other in 5 % of the data."""
    rows = [ranked.iloc[0]]
    while len(rows) < n and len(ranked := ranked[(ranked - rows[-1]).abs().sum(axis=1) / 2 >= DISTINCT]):
        rows.append(ranked.iloc[0])
    return pd.DataFrame(rows)


# --- where a loss has a gradient


def optimise(
    loss: Loss, region: Region, *, start: pd.Series | None = None, steps: int = STEPS, rate: float = RATE
) -> tuple[pd.Series, pd.Series]:
    """Return the mixture of a region that minimises a convex loss, and the loss after each step (index `step`).

    Exponentiated gradient from `start`, or equal shares: α ← α·exp(−rate·∇) projected onto the region in KL divergence,
    which is mirror descent (Kivinen & Warmuth 1997; MixMin 2502.10510). A step that would raise the loss is not taken,
    and the rate halved. Weights stay above 1e-9, so that nothing is lost for good.
    """
    mixture = region.nearest(uniform(region.candidates) if start is None else start)
    value, slope = loss(mixture)
    curve = [value]
    for _ in range(steps):
        slope = slope[region.candidates]
        trial = region.nearest(mixture * np.exp(-rate * (slope - slope.min())))
        found, after = loss(trial)
        if found <= value:
            mixture, value, slope = trial, found, after
        else:
            rate /= 2
        curve.append(value)
    return mixture, pd.Series(curve, name="loss").rename_axis("step")


def macro_loss(gradient: Gradient, tasks: pd.DataFrame, spread: pd.Series | None = None) -> Loss:
    """Return the loss that averages the families' mean losses, each in units of its `spread` (family → unit).

    Without `spread` a family counts by its own unit, so that one whose loss moves most decides. Raises Refusal for a
    task to be maximised.
    """
    if tasks["higher_is_better"].any():
        raise Refusal(f"{tasks['higher_is_better'].idxmax()!r} is no loss: higher is better; leave it out")
    weights = 1 / (tasks.groupby("family")["family"].transform("size") * tasks["family"].nunique())
    weights = weights if spread is None else weights / tasks["family"].map(spread)

    def loss(mixture: pd.Series) -> tuple[float, pd.Series]:
        losses, slopes = gradient(mixture)
        return float(weights @ losses[weights.index]), weights @ slopes.loc[weights.index]

    return loss


# --- what to train next


def disagreement(one: Scored, other: Scored) -> pd.Series:
    """Return how far two kinds lie apart about every mixture that both have, in standard deviations of the first.

    The mean over families; 0 where families do not vary.
    """
    shared = one.scores.index.intersection(other.scores.index, sort=False)
    first, second = one.of(shared).families, replace(other, tasks=one.tasks).of(shared).families
    return ((first - second).abs() / first.std().where(lambda spread: spread > 0)).fillna(0.0).mean(axis=1)


def telling(pool: pd.DataFrame, known: pd.DataFrame, n: int, *, disagreement: pd.Series | None = None) -> pd.DataFrame:
    """Return the `n` mixtures of `pool` whose training would tell most beside those `known`, the most telling first.

    Rule: next is the mixture with the largest gap · (1 + d / mean d), its gap being the distance on √shares from the
    nearest that is known or chosen, d its `disagreement`, how far two kinds of proxy lie apart there (None: all alike).
    Where nothing is known, the one nearest to the pool's mean comes first. Raises Refusal when the pool has fewer than
    `n`, and for a disagreement that is missing or negative.
    """
    if n > len(pool):
        raise Refusal(f"{n} mixtures are asked for, the pool has {len(pool)}; draw more")
    apart = pd.Series(0.0, pool.index) if disagreement is None else disagreement.reindex(pool.index)
    if (odd := ~(apart >= 0)).any():
        raise Refusal(f"the disagreement about {odd.idxmax()!r} is {apart[odd.idxmax()]}; give 0 or more for all")
    weight, points, chosen = 1 + (apart / (apart.mean() or 1.0)).to_numpy(), np.sqrt(pool.to_numpy(float)), []
    gap = -np.linalg.norm(points - points.mean(axis=0), axis=1) / weight  # what is most central is least below 0
    if len(known):
        gap = cdist(points, np.sqrt(known[list(pool)].to_numpy(float))).min(axis=1)
    for _ in range(n):
        chosen.append(int(np.argmax(gap * weight)))
        fresh = cdist(points, points[chosen[-1:]])[:, 0]
        gap = np.minimum(gap, fresh) if len(known) or len(chosen) > 1 else fresh
        gap[chosen] = -1.0
    return pool.iloc[chosen]


# --- rules: how the answer is taken


def _top(predictor, pool: pd.DataFrame, n: int, by: Objective) -> Search:
    yield from ()
    return propose(predictor, pool, n, by)


def _verified(predictor, pool: pd.DataFrame, n: int, by: Objective) -> Search:
    final = apart(best(predictor, pool, len(pool), by), n)
    final.index = pd.Index(["optimum", *(f"runner-up-{i}" for i in range(1, len(final)))], name="mixture")
    return final.loc[by((yield final)).idxmin()]


class Careful:
    """A predictor that says of each score its worse 90 % quantile in place of its mean."""

    def __init__(self, predictor) -> None:
        self.predictor = predictor

    def predict(self, mixtures: pd.DataFrame) -> Scored:
        return at_worst(self.predictor.predict(mixtures), self.predictor.spread(mixtures))


def at_worst(predicted: Scored, spread: pd.DataFrame) -> Scored:
    """Return the predicted scores at their worse 90 % quantile; `spread`: standard deviations, mixture × task."""
    sign = predicted.tasks["higher_is_better"].map({True: -1.0, False: 1.0})
    return replace(predicted, scores=predicted.scores + CAUTION * sign * spread[list(predicted.scores)])


@dataclass(frozen=True)
class Rule:
    """How an answer is taken from a predictor and a pool: `take(predictor, pool, n, by)`, `n` mixtures by default."""

    take: Callable[..., Search]
    n: int
    label: str
    paper: str
    asks: bool = False  # whether mixtures are scored before the answer
    careful: bool = False  # whether it looks at the worse 90 % quantile, for which a predictor needs a spread

    def among(self, shares: np.ndarray, costs: np.ndarray) -> int:
        """Return the row it would take where the answer is one of few runs, by their predicted costs: the nearest on
        √shares to the mean of its best. Of a rule that asks, the one it would ask first.
        """
        top = np.argsort(costs, kind="stable")[: 1 if self.asks else min(self.n, AMONG)]
        if len(top) == 1:
            return int(top[0])
        middle = shares[top].mean(axis=0)
        return int(np.linalg.norm(np.sqrt(shares) - np.sqrt(middle), axis=1).argmin())


RULES = {
    "average": Rule(_top, TOP_K, "mean of the predicted top", "DeMix (2602.00747) 3; RegMix (2407.01492) 3"),
    "single": Rule(_top, 1, "predicted best", "CLIMB (2504.13161)"),
    "robust": Rule(
        _top, 1, "best at its worse 90 % quantile", "robust optimisation (Ben-Tal et al. 2009)", careful=True
    ),
    "verified": Rule(_verified, FINALISTS, "best of the finalists, really scored", "MergeMix (2601.17858)", asks=True),
}


def winner(rule: str, predictor, pool: pd.DataFrame, n: int | None = None, by: Objective = macro_rank) -> Search:
    """Return the search that ends in the answer of one of `RULES`, for `yield from`; `n`: None is the rule's own.

    Raises Refusal for a rule that there is not, and where a careful one meets a predictor without spread.
    """
    if rule not in RULES:
        raise Refusal(f"there is no rule {rule!r}; take one of {', '.join(RULES)}")
    row = RULES[rule]
    return row.take(Careful(predictor) if row.careful else predictor, pool, n or row.n, by)
