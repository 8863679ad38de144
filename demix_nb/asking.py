"""What to score next, when scoring is dear: one batch at a time, until no more is to be gained than a seed changes.

While little is known the most telling mixtures are those farthest from all others. Then surfaces are drawn that agree
with what was scored, and a batch is chosen by what it may gain together: the first mixture has the largest expected
improvement on the best so far, each next the largest on what the batch has already, surface by surface, so that no two
ask the same question. What the whole batch may gain is a number in the objective's unit; where it is less than a seed's
noise, asking on is paying for luck, and the search ends.

Sources: expected improvement: Jones, Schonlau & Welch (1998); batches chosen greedily under draws: Wilson, Hutter &
Deisenroth, Maximizing acquisition functions (2018). González et al. (2016) penalise neighbours of what is in the batch
instead, for want of draws.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from demix_nb.decide import Search, best, telling, winner
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
    below it a round is not asked. `start`: scored before.
    """
    seen = Scored.none(tasks) if start is None else start
    for turn, n in enumerate(sizes, start=1):
        fresh = region.pool(pool, how="dirichlet", rng=rng, prefix=f"r{turn}-")
        if len(seen) < KNOWN * len(region.candidates):
            asked = telling(fresh, seen.mixtures, n)
        else:
            predictor.fit(seen)
            asked, gain = batch(predictor, fresh, seen, n, rng=rng)
            if gain < noise:
                break
        seen += yield asked
    predictor.fit(seen)
    last = region.pool(pool, how="dirichlet", rng=rng, prefix="p")
    return (yield from winner(rule, predictor, last, top_k))


def batch(
    predictor, pool: pd.DataFrame, seen: Scored, n: int, *, rng: np.random.Generator
) -> tuple[pd.DataFrame, float]:
    """Return the `n` mixtures of a pool that may improve most together on what was seen, and by how much of a level.

    Levels are the families' mean in standard deviations of what was seen. Raises Refusal for a predictor that cannot
    say how sure it is.
    """
    some = seen.only(list(predictor.tasks.index))

    def by(scored: Scored) -> pd.Series:
        return scored.level(some)

    pool = best(predictor, pool, NEAREST, by)
    values = np.array([by(one).to_numpy() for one in predictor.draws(pool, DRAWS, rng=rng)])
    bar = np.full(len(values), float(by(predictor.predict(some.mixtures)).min()))
    chosen: list[int] = []
    before = bar.mean()
    for _ in range(n):
        gains = np.maximum(bar[:, None] - values, 0.0).mean(axis=0)
        gains[chosen] = -1.0
        chosen.append(int(gains.argmax()))
        bar = np.minimum(bar, values[:, chosen[-1]])
    return pool.iloc[chosen], float(before - bar.mean())


def pending(search: Search, known: Callable[[pd.DataFrame], pd.Series], scored: Callable[[pd.DataFrame], Scored]):
    """Return what a search asks for that is not known yet, or None and its answer.

    A search that was left, whatever ended it, is begun anew with the same seed and gets what is known already;
    `known(mixtures)` says which these are, `scored(mixtures)` gives their scores.
    """
    asked = next(search)
    while True:
        missing = asked[~known(asked)]
        if len(missing):
            return missing, None
        try:
            asked = search.send(scored(asked))
        except StopIteration as end:
            return None, end.value
