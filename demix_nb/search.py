"""Search the simplex with a predictor and a way to score mixtures; yield one `Round` at a time.

Search knows no models. It takes a function from a mixture table to a score table, whatever stands behind it (merged or
trained proxies, a replayed table, a planted test function), and a predictor. DeMix samples uniformly, scores, fits the
predictor from mixture to benchmark scores, scores a large fresh pool with it, evaluates the predicted best, and repeats
with fewer and fewer mixtures; the answer is the average of the pool's predicted top.

Source: DeMix (arXiv 2602.00747) 2.4 and 3. As in its code, one regressor per benchmark is fitted and the predictions
are ranked. We differ: caps are met by exact projection, where that code clips once and rescales.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from demix_nb.mixtures import average, project, sample_uniform
from demix_nb.ranking import check_scores, macro_rank

ROUNDS = (64, 32, 16)  # mixtures scored per round, DeMix 3
TOP_K = 128  # predicted best mixtures averaged into the answer, DeMix 3
POOL = 20_000  # fresh mixtures the predictor ranks; paper: "a large sample", its code 200,000

Score = Callable[[pd.DataFrame], pd.DataFrame]  # mixture table → score table


@dataclass(frozen=True)
class Round:
    """What one turn of sample → score → fit → resample knows; tables hold everything scored so far."""

    number: int
    mixtures: pd.DataFrame
    scores: pd.DataFrame
    rounds: pd.Series  # mixture → the round it was scored in
    ranks: pd.Series  # macro rank among everything scored so far, 1 = best
    winner: pd.Series  # average of the predicted top of a fresh pool
    predicted: pd.Series  # task → predicted score of the winner

    @property
    def best(self) -> str:
        """Return the name of the best mixture scored so far."""
        return self.ranks.idxmin()


def demix(
    score: Score,
    predictor,
    candidates: Sequence[str],
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    rounds: Sequence[int] = ROUNDS,
    pool: int = POOL,
    top_k: int = TOP_K,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield DeMix's rounds; the last one's `winner` is the answer. `upper` caps shares per candidate."""
    mixtures, scores, number = pd.DataFrame(), pd.DataFrame(), pd.Series(dtype=int)
    for turn, size in enumerate(rounds, start=1):
        fresh = _fresh(candidates, pool if turn > 1 else size, upper, rng, prefix=f"r{turn}-")
        chosen = fresh if turn == 1 else fresh.loc[predicted_ranks(predictor, fresh, tasks).nsmallest(size).index]
        mixtures = pd.concat([mixtures, chosen])
        scores = pd.concat([scores, check_scores(score(chosen), tasks)])
        number = pd.concat([number, pd.Series(turn, index=chosen.index)])
        predictor.fit(mixtures, scores)
        winner = propose(predictor, _fresh(candidates, pool, upper, rng, prefix="p"), tasks, top_k)
        guess = predictor.predict(winner.to_frame("winner").T).iloc[0]
        yield Round(turn, mixtures, scores, number, macro_rank(scores, tasks), winner, guess)


def _fresh(
    candidates: Sequence[str], n: int, upper: pd.Series | None, rng: np.random.Generator, prefix: str
) -> pd.DataFrame:
    sample = sample_uniform(candidates, n, rng=rng, prefix=prefix)
    return sample if upper is None else project(sample, upper=upper)


def predicted_ranks(predictor, mixtures: pd.DataFrame, tasks: pd.DataFrame) -> pd.Series:
    """Return the macro rank of the predicted scores within `mixtures`, 1 = best."""
    return macro_rank(predictor.predict(mixtures), tasks)


def propose(predictor, pool: pd.DataFrame, tasks: pd.DataFrame, top_k: int = TOP_K) -> pd.Series:
    """Return the average of the `top_k` mixtures of `pool` that are predicted best (DeMix 3)."""
    return average(pool.loc[predicted_ranks(predictor, pool, tasks).nsmallest(top_k).index])
