"""Search the simplex with a predictor and a way to score mixtures; yield one `Round` at a time.

Search knows no models. It takes a function from a mixture table to a score table, whatever stands behind it (merged or
trained proxies, a replayed table, a planted test function), and a predictor. DeMix samples uniformly, scores, fits the
predictor from mixture to benchmark scores, scores a large fresh pool with it, evaluates the predicted best, and repeats
with fewer and fewer mixtures; the answer is the average of the pool's predicted top. CLIMB draws its next round from
that top at random; RegMix has one round, around the natural shares; MergeMix maximises a utility of the capabilities
and scores the optimum before it believes it. `top_down` and `bottom_up` split any of them into groups of candidates.
Where a loss has a gradient, `optimise` needs none of this.

Sources: DeMix (arXiv 2602.00747) 2.4 and 3; CLIMB (2504.13161); RegMix (2407.01492) 3; MergeMix (2601.17858); MixMin
(2502.10510). As in DeMix's code, one regressor per benchmark is fitted and the predictions are ranked. We differ: caps
are met by exact projection, where that code clips once and rescales, and all but MergeMix rank by the macro rank.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement, count
from math import comb

import numpy as np
import pandas as pd
from jaxtyping import Int

from demix_nb.mixtures import (
    FLOOR,
    SPARSE_BELOW,
    MixtureError,
    average,
    project,
    sample_dirichlet,
    sample_uniform,
    uniform,
)
from demix_nb.ranking import check_scores, directions, family_scores, macro_rank

ROUNDS = (64, 32, 16)  # mixtures scored per round, DeMix 3 and CLIMB
TOP_K = 128  # predicted best mixtures averaged into the answer, DeMix 3
POOL = 20_000  # fresh mixtures the predictor ranks; DeMix: "a large sample", its code 200,000; RegMix 1,000,000
REGMIX_TOP_K = 100  # RegMix 3; its code 128
REGMIX_STRENGTHS = tuple(np.geomspace(0.1, 5.0, 15))  # range of RegMix 3.1, log grid of its code
CLIMB_TOP_N = 1000  # what CLIMB's next round is drawn from; the number is ours: 5 % of the pool
CLIMB_TOP_K = 1  # CLIMB: the answer is the mixture predicted best
SEEDS = 40  # mixtures of MergeMix's seed grid
FINALISTS = 4  # α* and its runner-ups that are really scored; the number is ours
DISTINCT = 0.05  # share of the data in which two finalists differ at least: nearer ones would score alike
CLOUD, CLOUDS = 500, (30, 100, 300, 1000, 3000)  # mixtures per cloud around the best, Dirichlet strength of each
STEPS, RATE = 100, 1.0  # of exponentiated gradient, MixMin

Score = Callable[[pd.DataFrame], pd.DataFrame]  # mixture table → score table
Draw = Callable[[int, str], pd.DataFrame]  # how many, prefix of their names → mixture table
Choose = Callable[[pd.DataFrame, int], pd.DataFrame]  # pool, how many → those of the pool to score next
Utility = Callable[[pd.DataFrame], pd.Series]  # mixture × family in standard deviations, higher is better → utility
Objective = Callable[[pd.Series], tuple[float, pd.Series]]  # mixture → loss, gradient by candidate
Gradient = Callable[[pd.Series], tuple[pd.Series, pd.DataFrame]]  # mixture → loss by task, gradient task × candidate


@dataclass(frozen=True)
class Round:
    """What one turn of sample → score → fit → resample knows; tables hold everything scored so far."""

    number: int
    mixtures: pd.DataFrame
    scores: pd.DataFrame
    rounds: pd.Series  # mixture → the round it was scored in
    ranks: pd.Series  # macro rank among everything scored so far, 1 = best
    winner: pd.Series  # the mixture to train on, as far as is known
    predicted: pd.Series  # task (MergeMix: family) → predicted score of the winner

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
    top_n: int | None = None,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield DeMix's rounds; the last one's `winner` is the answer. `upper` caps shares per candidate.

    Later rounds score what the predictor likes best of a fresh pool, or with `top_n` a random choice among that many.
    """

    def liked(fresh: pd.DataFrame, size: int) -> pd.DataFrame:
        if top_n is None:
            return predicted_top(predictor, fresh, tasks, size)
        return predicted_top(predictor, fresh, tasks, max(top_n, size)).sample(size, random_state=rng)

    draw = partial(_fresh, candidates, upper, rng)
    yield from turns(score, predictor, tasks, rounds, draw, draw, liked, pool=pool, top_k=top_k)


def climb(*arguments, top_n: int = CLIMB_TOP_N, top_k: int = CLIMB_TOP_K, **options) -> Iterator[Round]:
    """Yield CLIMB's rounds: `demix` with chance in what is scored next, and the single best guess as the answer."""
    yield from demix(*arguments, top_n=top_n, top_k=top_k, **options)


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


def mergemix(
    score: Score,
    predictor,
    candidates: Sequence[str],
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    prior: pd.Series | None = None,
    n: int = SEEDS,
    finalists: int = FINALISTS,
    utility: Utility | None = None,
    pool: int = POOL,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield MergeMix's two rounds: a seed grid of `n`, then the predicted optimum really scored with its runner-ups.

    `predictor` learns family scores, one regressor per capability. `utility` gets them in standard deviations above
    the seeds' mean, higher is better, and returns one number per mixture; None: their mean, the macro-average. The
    winner of round 1 is α* = argmax U(prediction), of round 2 whichever finalist has the best utility when scored.
    """
    utility = utility or (lambda families: families.mean(axis=1))
    seeds = _capped(seed_grid(candidates, n, rng=rng, prior=prior), upper)
    scores = check_scores(score(seeds), tasks)
    seen = family_scores(scores, tasks)
    predictor.fit(seeds, seen)

    def worth(mixtures: pd.DataFrame) -> pd.Series:
        return utility(standardised(predictor.predict(mixtures), seen, tasks))

    def turn(number: int, mixtures: pd.DataFrame, scores: pd.DataFrame, winner: pd.Series) -> Round:
        rounds = pd.Series(2, index=mixtures.index).where(~mixtures.index.isin(seeds.index), 1)
        guess = predictor.predict(winner.to_frame("winner").T).iloc[0]
        return Round(number, mixtures, scores, rounds, macro_rank(scores, tasks), winner, guess)

    fresh = pd.concat([seeds, _fresh(candidates, upper, rng, pool, "p")])
    ranked = fresh.loc[worth(fresh).sort_values(ascending=False).index]
    optimum = refine(worth, ranked.iloc[0], rng=rng, upper=upper)
    yield turn(1, seeds, scores, optimum)
    rivals = runner_ups(ranked.drop(seeds.index), optimum, finalists - 1)
    final = pd.DataFrame([optimum, *rivals], index=["optimum", *(f"runner-up-{i + 1}" for i in range(len(rivals)))])
    mixtures, scores = pd.concat([seeds, final]), pd.concat([scores, check_scores(score(final), tasks)])
    verified = utility(standardised(family_scores(scores, tasks), seen, tasks))[final.index]
    yield turn(2, mixtures, scores, final.loc[verified.idxmax()])


def seed_grid(
    candidates: Sequence[str], n: int, *, rng: np.random.Generator, prior: pd.Series | None = None
) -> pd.DataFrame:
    """Return `n` mixtures: each candidate alone, equal shares, `prior` if given, then points of a coarse simplex grid.

    The grid is the coarsest with `n` points or more, of which as many as are missing are drawn. Raises MixtureError
    for a single candidate, or when `n` does not even hold the first ones.
    """
    names = list(candidates)
    fixed = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    fixed.loc["uniform"] = uniform(names)
    if prior is not None:
        fixed.loc["natural"] = prior[names]
    if len(names) < 2 or n < len(fixed):
        raise MixtureError(
            f"{n} seeds for {len(names)} candidates; search two or more, with {len(fixed)} seeds or more"
        )
    level = next(level for level in count(1) if comb(level + len(names) - 1, level) >= n)
    steps = _grid(len(names), level)
    steps = steps[(steps.max(axis=1) < level) & (np.ptp(steps, axis=1) > 0)]  # corners and equal shares: in `fixed`
    drawn = steps[rng.permutation(len(steps))[: n - len(fixed)]] / level
    points = pd.DataFrame(drawn, index=[f"grid-{i:02d}" for i in range(len(drawn))], columns=names)
    return pd.concat([fixed, points]).rename_axis(index="mixture")


def _grid(parts: int, level: int) -> Int[np.ndarray, "point part"]:
    """Return every way to share `level` steps among `parts`."""
    choices = combinations_with_replacement(range(parts), level)
    return np.array([np.bincount(choice, minlength=parts) for choice in choices])


def standardised(families: pd.DataFrame, seen: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return family scores in standard deviations above the mean of `seen`, signed so that higher is better."""
    return (families - seen.mean()) / seen.std() * directions(tasks).map({True: 1, False: -1})


def refine(
    worth: Callable[[pd.DataFrame], pd.Series],
    start: pd.Series,
    *,
    rng: np.random.Generator,
    upper: pd.Series | None = None,
) -> pd.Series:
    """Return the best mixture found near `start`: clouds around the best so far, each narrower than the last."""
    best = start
    for strength in CLOUDS:
        cloud = sample_dirichlet(best, CLOUD, rng=rng, strengths=[strength], upper=upper)
        cloud.loc["best"] = best
        best = cloud.loc[worth(cloud).idxmax()]
    return best


def runner_ups(ranked: pd.DataFrame, optimum: pd.Series, n: int) -> list[pd.Series]:
    """Return up to `n` rows of `ranked`, best first, that differ from the optimum and each other in 5 % of the data."""
    rivals, last = [], optimum
    while len(rivals) < n and len(ranked := ranked[(ranked - last).abs().sum(axis=1) / 2 >= DISTINCT]):
        last = ranked.iloc[0]
        rivals.append(last)
    return rivals


def _capped(mixtures: pd.DataFrame, upper: pd.Series | None) -> pd.DataFrame:
    if upper is None:
        return mixtures
    lifted = mixtures.clip(lower=FLOOR)
    return project(lifted.div(lifted.sum(axis=1), axis=0), upper=upper)


def top_down(
    search: Callable[..., Iterator[Round]],
    score: Score,
    groups: Mapping[str, Sequence[str]],
    tasks: pd.DataFrame,
    *,
    prior: pd.Series | None = None,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield the rounds of a search over the groups' shares, then of one inside each group with all others fixed.

    `search` is any flat strategy, called as `search(score, candidates=…, upper=…)`: for instance
    `partial(demix, predictor=…, tasks=…, rng=…)`. At first each group is filled evenly, or like `prior` (MergeMix,
    coarse and fine, Table 3). Raises MixtureError for groups that overlap or leave nothing to search.
    """
    inside = _filled(groups, prior)
    state, mixture, shares = START, inside.iloc[0], pd.Series(1.0, index=list(groups))
    if len(groups) > 1:
        caps = _group_caps(inside, upper)
        state = yield from _stage("groups", search, score, partial(_mixed, inside), list(groups), caps, tasks, START)
        mixture, shares = state.winner, (inside > 0).astype(float) @ state.winner
    for group, members in groups.items():
        if len(members) == 1 or shares[group] < SPARSE_BELOW:
            continue
        rest, caps = mixture.where(~mixture.index.isin(members), 0.0), None
        if upper is not None:
            caps = (upper.reindex(members).fillna(1.0) / shares[group]).clip(upper=1.0)
        expand = partial(_into, rest, shares[group])
        state = yield from _stage(group, search, score, expand, list(members), caps, tasks, state)
        mixture = state.winner


def bottom_up(
    search: Callable[..., Iterator[Round]],
    score: Score,
    groups: Mapping[str, Sequence[str]],
    tasks: pd.DataFrame,
    *,
    upper: pd.Series | None = None,
) -> Iterator[Round]:
    """Yield the rounds of a search inside each group alone, then of one over the groups, each filled as was found best.

    `search` as in `top_down`. All tasks judge every group, as they judge the whole. `upper` binds the shares of the
    groups at the end, since a group on its own would have to break it.
    """
    inside, state = _filled(groups, None), START
    for group, members in groups.items():
        if len(members) > 1:
            expand, caps = partial(_into, 0.0 * inside.loc[group], 1.0), upper if len(groups) == 1 else None
            state = yield from _stage(group, search, score, expand, list(members), caps, tasks, state)
            inside.loc[group] = state.winner
    if len(groups) > 1:
        caps = _group_caps(inside, upper)
        yield from _stage("groups", search, score, partial(_mixed, inside), list(groups), caps, tasks, state)


START = Round(0, pd.DataFrame(), pd.DataFrame(), *[pd.Series(dtype=float)] * 4)  # nothing scored yet


def _stage(
    stage: str,
    search: Callable[..., Iterator[Round]],
    score: Score,
    expand: Callable[[pd.DataFrame], pd.DataFrame],
    candidates: list[str],
    upper: pd.Series | None,
    tasks: pd.DataFrame,
    before: Round,
) -> Generator[Round, None, Round]:
    """Yield the rounds of one search in terms of all candidates, on top of what was scored before; return the last."""

    def named(table: pd.DataFrame | pd.Series) -> pd.DataFrame | pd.Series:
        return table.rename(index=lambda name: f"{stage}/{name}")

    def lifted(mixtures: pd.DataFrame) -> pd.DataFrame:
        full = named(expand(mixtures))
        return score(full).loc[full.index].set_axis(mixtures.index)

    for turn in search(lifted, candidates=candidates, upper=upper):
        mixtures = pd.concat([before.mixtures, named(expand(turn.mixtures))])
        scores = pd.concat([before.scores, named(turn.scores)])
        rounds = pd.concat([before.rounds, named(turn.rounds) + before.number]).astype(int)
        winner = expand(turn.winner.to_frame("winner").T).loc["winner"]
        number, ranks = before.number + turn.number, macro_rank(scores, tasks)
        found = Round(number, mixtures, scores, rounds, ranks, winner, turn.predicted)
        yield found
    return found


def _filled(groups: Mapping[str, Sequence[str]], prior: pd.Series | None) -> pd.DataFrame:
    """Return group × candidate, how each group is filled: evenly or like `prior`."""
    names = [name for members in groups.values() for name in members]
    if twice := [name for name in names if names.count(name) > 1]:
        raise MixtureError(f"candidate {twice[0]!r} is in two groups; give it one")
    if len(names) < 2 or not all(map(len, groups.values())):
        raise MixtureError(f"groups {dict(groups)} leave nothing to search; name two candidates, one in each group")
    weights = pd.Series(1.0, index=names) if prior is None else prior[names]
    rows = {group: weights.where(weights.index.isin(members), 0.0) for group, members in groups.items()}
    filled = pd.DataFrame(rows).T
    return filled.div(filled.sum(axis=1), axis=0)


def _group_caps(inside: pd.DataFrame, upper: pd.Series | None) -> pd.Series | None:
    """Return the largest share of each group that keeps all its members within `upper`."""
    if upper is None:
        return None
    caps = upper.reindex(inside.columns).fillna(1.0)
    return (caps / inside.where(inside > 0)).min(axis=1).clip(upper=1.0)


def _mixed(inside: pd.DataFrame, shares: pd.DataFrame) -> pd.DataFrame:
    """Return mixtures of all candidates: groups as `shares` say, each filled as `inside` says."""
    return shares @ inside.loc[shares.columns]


def _into(rest: pd.Series, share: float, mixtures: pd.DataFrame) -> pd.DataFrame:
    """Return mixtures of all candidates: `share` of them as `mixtures` say, beside the fixed `rest`."""
    return (share * mixtures).reindex(columns=rest.index, fill_value=0.0) + rest


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


def macro_loss(gradient: Gradient, tasks: pd.DataFrame, spread: pd.Series | None = None) -> Objective:
    """Return the objective that averages the families' mean losses, each in units of its `spread` (family → unit).

    `gradient` gives the losses of one mixture by task and their gradient, task × candidate. Without `spread` a family
    counts by its own unit, so that one whose loss moves most decides. Raises ValueError for a task to be maximised.
    """
    if tasks["higher_is_better"].any():
        raise ValueError(f"{tasks['higher_is_better'].idxmax()!r} is no loss: higher is better; leave it out")
    weights = 1 / (tasks.groupby("family")["family"].transform("size") * tasks["family"].nunique())
    weights = weights if spread is None else weights / tasks["family"].map(spread)

    def objective(mixture: pd.Series) -> tuple[float, pd.Series]:
        losses, slopes = gradient(mixture)
        return float(weights @ losses[weights.index]), weights @ slopes.loc[weights.index]

    return objective


def _within(weights: pd.Series, upper: pd.Series | None) -> pd.Series:
    shares = np.maximum(weights / weights.sum(), FLOOR)
    shares /= shares.sum()
    return shares if upper is None else project(shares.to_frame("mixture").T, upper=upper).loc["mixture"]
