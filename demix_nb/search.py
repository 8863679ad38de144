"""Search the simplex with a predictor and a way to score mixtures; yield one `Round` at a time.

Search knows no models. It takes a function from a mixture table to a score table, whatever stands behind it (merged or
trained proxies, a replayed table, a planted test function), and a predictor. DeMix samples uniformly, scores, fits the
predictor from mixture to benchmark scores, scores a large fresh pool with it, evaluates the predicted best, and repeats
with fewer and fewer mixtures; the answer is the average of the pool's predicted top. CLIMB draws its next round from
that top at random; RegMix has one round, around the natural shares. Where a loss has a gradient, `optimise` needs none
of this.

Sources: DeMix (arXiv 2602.00747) 2.4 and 3; CLIMB (2504.13161); RegMix (2407.01492) 3; MixMin (2502.10510). As in
DeMix's code, one regressor per benchmark is fitted and the predictions are ranked. We differ: caps are met by exact
projection, where that code clips once and rescales, and every strategy ranks by the macro rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from demix_nb.mixtures import FLOOR, average, project, sample_dirichlet, sample_uniform, uniform
from demix_nb.ranking import check_scores, macro_rank

ROUNDS = (64, 32, 16)  # mixtures scored per round, DeMix 3 and CLIMB
TOP_K = 128  # predicted best mixtures averaged into the answer, DeMix 3
POOL = 20_000  # fresh mixtures the predictor ranks; DeMix: "a large sample", its code 200,000; RegMix 1,000,000
REGMIX_TOP_K = 100  # RegMix 3; its code 128
REGMIX_STRENGTHS = tuple(np.geomspace(0.1, 5.0, 15))  # range of RegMix 3.1, log grid of its code
CLIMB_TOP_N = 1000  # what CLIMB's next round is drawn from; the number is ours: 5 % of the pool
CLIMB_TOP_K = 1  # CLIMB: the answer is the mixture predicted best
STEPS, RATE = 100, 1.0  # of exponentiated gradient, MixMin

Score = Callable[[pd.DataFrame], pd.DataFrame]  # mixture table → score table
Draw = Callable[[int, str], pd.DataFrame]  # how many, prefix of their names → mixture table
Choose = Callable[[pd.DataFrame, int], pd.DataFrame]  # pool, how many → those of the pool to score next
Objective = Callable[[pd.Series], tuple[float, pd.Series]]  # mixture → loss, gradient by candidate


@dataclass(frozen=True)
class Round:
    """What one turn of sample → score → fit → resample knows; tables hold everything scored so far."""

    number: int
    mixtures: pd.DataFrame
    scores: pd.DataFrame
    rounds: pd.Series  # mixture → the round it was scored in
    ranks: pd.Series  # macro rank among everything scored so far, 1 = best
    winner: pd.Series  # the mixture to train on, as far as is known
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

    def best(fresh: pd.DataFrame, size: int) -> pd.DataFrame:
        return predicted_top(predictor, fresh, tasks, size)

    draw = partial(_fresh, candidates, upper, rng)
    yield from turns(score, predictor, tasks, rounds, draw, draw, best, pool=pool, top_k=top_k)


def climb(
    score: Score,
    predictor,
    candidates: Sequence[str],
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    rounds: Sequence[int] = ROUNDS,
    pool: int = POOL,
    top_n: int = CLIMB_TOP_N,
    top_k: int = CLIMB_TOP_K,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield CLIMB's rounds: later ones are drawn at random from the pool's predicted `top_n`, not its very best."""

    def any_good(fresh: pd.DataFrame, size: int) -> pd.DataFrame:
        return predicted_top(predictor, fresh, tasks, max(top_n, size)).sample(size, random_state=rng)

    draw = partial(_fresh, candidates, upper, rng)
    yield from turns(score, predictor, tasks, rounds, draw, draw, any_good, pool=pool, top_k=top_k)


def regmix(
    score: Score,
    predictor,
    candidates: Sequence[str],
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    prior: pd.Series,
    n: int = sum(ROUNDS),
    pool: int = POOL,
    top_k: int = REGMIX_TOP_K,
    strengths: Sequence[float] = REGMIX_STRENGTHS,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield RegMix's only round: `n` mixtures from Dirichlet(λ·prior), then a pool from Dirichlet(prior).

    `prior` are the natural shares; RegMix's code takes their square root, `mixtures.temperature(tokens, 0.5)`.
    """
    prior = prior[list(candidates)]

    def draw(strengths: Sequence[float], n: int, prefix: str) -> pd.DataFrame:
        return sample_dirichlet(prior, n, rng=rng, strengths=strengths, upper=upper, prefix=prefix)

    first, fresh = partial(draw, strengths), partial(draw, [1.0])
    yield from turns(score, predictor, tasks, [n], first, fresh, None, pool=pool, top_k=top_k)


def turns(
    score: Score,
    predictor,
    tasks: pd.DataFrame,
    sizes: Sequence[int],
    first: Draw,
    fresh: Draw,
    choose: Choose | None,
    *,
    pool: int,
    top_k: int,
) -> Iterator[Round]:
    """Yield a round per size: the first is drawn blindly, later ones are chosen (`choose`) from a `fresh` pool."""
    mixtures, scores, number = pd.DataFrame(), pd.DataFrame(), pd.Series(dtype=int)
    for turn, size in enumerate(sizes, start=1):
        name = f"r{turn}-"
        chosen = first(size, name) if turn == 1 else choose(fresh(pool, name), size)
        mixtures = pd.concat([mixtures, chosen])
        scores = pd.concat([scores, check_scores(score(chosen), tasks)])
        number = pd.concat([number, pd.Series(turn, index=chosen.index)])
        predictor.fit(mixtures, scores)
        winner = propose(predictor, fresh(pool, "p"), tasks, top_k)
        guess = predictor.predict(winner.to_frame("winner").T).iloc[0]
        yield Round(turn, mixtures, scores, number, macro_rank(scores, tasks), winner, guess)


def _fresh(
    candidates: Sequence[str], upper: pd.Series | None, rng: np.random.Generator, n: int, prefix: str
) -> pd.DataFrame:
    sample = sample_uniform(candidates, n, rng=rng, prefix=prefix)
    return sample if upper is None else project(sample, upper=upper)


def predicted_ranks(predictor, mixtures: pd.DataFrame, tasks: pd.DataFrame) -> pd.Series:
    """Return the macro rank of the predicted scores within `mixtures`, 1 = best."""
    return macro_rank(predictor.predict(mixtures), tasks)


def predicted_top(predictor, pool: pd.DataFrame, tasks: pd.DataFrame, size: int) -> pd.DataFrame:
    """Return the `size` mixtures of `pool` that are predicted best, best first."""
    return pool.loc[predicted_ranks(predictor, pool, tasks).nsmallest(size).index]


def propose(predictor, pool: pd.DataFrame, tasks: pd.DataFrame, top_k: int = TOP_K) -> pd.Series:
    """Return the average of the `top_k` mixtures of `pool` that are predicted best (DeMix 3)."""
    return average(predicted_top(predictor, pool, tasks, top_k))


def optimise(
    objective: Objective,
    candidates: Sequence[str],
    *,
    upper: pd.Series | None = None,
    steps: int = STEPS,
    rate: float = RATE,
) -> tuple[pd.Series, pd.Series]:
    """Return the mixture that minimises a convex loss, and the loss after each step (index `step`, 0 = start).

    Exponentiated gradient from equal shares: α ← α·exp(−rate·∇) projected onto the caps in KL divergence, which is
    mirror descent (Kivinen & Warmuth 1997; MixMin 2502.10510). A step that would raise the loss is not taken, and the
    rate halved. Weights stay above 1e-9, so that nothing is lost for good.
    """
    mixture = _within(uniform(candidates), upper)
    loss, gradient = objective(mixture)
    curve = [loss]
    for _ in range(steps):
        slope = gradient[list(candidates)]
        trial = _within(mixture * np.exp(-rate * (slope - slope.min())), upper)
        found, after = objective(trial)
        if found <= loss:
            mixture, loss, gradient = trial, found, after
        else:
            rate /= 2
        curve.append(loss)
    return mixture, pd.Series(curve, name="loss").rename_axis("step")


def _within(weights: pd.Series, upper: pd.Series | None) -> pd.Series:
    shares = np.maximum(weights / weights.sum(), FLOOR)
    shares /= shares.sum()
    return shares if upper is None else project(shares.to_frame("mixture").T, upper=upper).loc["mixture"]
