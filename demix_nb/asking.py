"""What to score next, when scoring is dear: one batch at a time, until a seed may change as much as is to be gained.

While little is known the most telling mixtures are those farthest from all others. Then surfaces are drawn that agree
with what was scored, and a batch is chosen by what it may gain together: the first mixture has the largest expected
improvement on the best so far, each next the largest on what the batch has already, surface by surface, so that no two
ask the same question. What the whole batch may gain is a number in the objective's unit; where it is less than twice a
seed's noise, asking on is paying for luck, and the search ends (`enough`).

Sources: expected improvement: Jones, Schonlau & Welch (1998); batches chosen greedily under draws: Wilson, Hutter &
Deisenroth, Maximizing acquisition functions (2018). Gonzalez et al. (2016) penalise neighbours of what is in the batch
instead, for want of draws.
"""

import numpy as np
import pandas as pd

from demix_nb.decide import Search, best, drawn, level, telling, winner
from demix_nb.headroom import WORTH
from demix_nb.scored import Scored

SIZES = (8,) * 20  # mixtures at a time, rounds at most; the numbers are ours
KNOWN = 4  # times the candidates: so many are spread out before anything is believed
POOL, NEAREST = 5000, 400  # fresh mixtures, and those of them that surfaces are drawn for
DRAWS = 200


def improve(
    region, predictor, tasks, *, rng, start=None, sizes=SIZES, noise=0.0, rule="average", top_k=None, pool=POOL
) -> Search:  # fmt: skip
    """Ask for a few mixtures at a time: spread out first, then what may improve most; the answer as `rule` takes it.

    `sizes`: mixtures per round, at most so many rounds. `noise`: the standard deviation of a level that a seed makes;
    where a round promises too little beside it (`enough`) it is not asked. `start`: scored before.
    """
    seen = Scored.none(tasks) if start is None else start
    for turn, n in enumerate(sizes, start=1):
        fresh = region.pool(pool, how="dirichlet", rng=rng, prefix=f"r{turn}-")
        asked, gain = ask(predictor, fresh, seen, n, rng=rng)
        if enough(gain, noise):
            break
        seen += yield asked
    predictor.fit(seen)
    last = region.pool(pool, how="dirichlet", rng=rng, prefix="p")
    return (yield from winner(rule, predictor, last, top_k))


def ask(
    predictor,
    pool: pd.DataFrame,
    seen: Scored,
    n: int,
    *,
    rng: np.random.Generator,
    waiting: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, float]:
    """Return the `n` mixtures of a pool to score next, and what they may gain together (infinite while few are known).

    `waiting`: what was asked for and has not come back, which nobody asks for again.
    """
    known = seen.mixtures if waiting is None else pd.concat([seen.mixtures, waiting])
    if len(seen) < KNOWN * pool.shape[1]:
        return telling(pool, known, n), np.inf
    predictor.fit(seen)
    return batch(predictor, pool, seen, n, rng=rng, waiting=waiting)


def enough(gain: float, noise: float) -> bool:
    """Return whether to stop: a batch may gain less than `WORTH` times a seed's noise, both of a level.

    As little as there is nothing to find for. Never where the noise is not known (NaN).
    """
    return bool(gain < WORTH * noise)


def batch(
    predictor,
    pool: pd.DataFrame,
    seen: Scored,
    n: int,
    *,
    rng: np.random.Generator,
    waiting: pd.DataFrame | None = None,
) -> tuple[pd.DataFrame, float]:
    """Return the `n` mixtures of a pool that may improve most together on what was seen, and by how much of a level.

    Beyond what those `waiting` may gain already. Levels are the families' mean in standard deviations of what was seen.
    Raises Refusal for a predictor that cannot say how sure it is.
    """
    some = seen.only(list(predictor.tasks.index))
    by = level(some)
    pool = best(predictor, pool, NEAREST, by)
    everything = pool if waiting is None else pd.concat([pool, waiting[list(pool)].add_prefix("waiting ", axis=0)])
    values = drawn(predictor, everything, DRAWS, by, rng=rng)
    values, theirs = values[:, : len(pool)], values[:, len(pool) :]
    bar = np.full(len(values), float(by(predictor.predict(some.mixtures)).min()))
    bar = np.minimum(bar, theirs.min(axis=1, initial=np.inf))
    chosen: list[int] = []
    before = bar.mean()
    for _ in range(n):
        gains = np.maximum(bar[:, None] - values, 0.0).mean(axis=0)
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        bar = np.minimum(bar, values[:, chosen[-1]])
    return pool.iloc[chosen], float(before - bar.mean())
