"""Search a region of the simplex: strategies that yield mixtures and are sent their scores.

A strategy is a generator (ask and tell). It yields a table of mixtures, is sent what they scored, and returns the
mixture to train on; whoever drives it may score for a week between two lines. It knows no models: behind the scores may
stand merged or trained proxies, a replayed table or a planted function. DeMix draws uniformly, fits a predictor, scores
what that likes best of a fresh pool, and repeats with fewer and fewer; CLIMB draws from that top at random; RegMix has
one round, around the natural shares; MergeMix verifies its optimum. Where a loss has a gradient, none of this is
needed. `STRATEGIES` holds them all, those that ask nothing too, and the search by groups (`hierarchy`); `run` drives
any of them with a proxy.

Sources: DeMix (arXiv 2602.00747) 2.4 and 3; CLIMB (2504.13161); RegMix (2407.01492) 3; MergeMix (2601.17858); MixMin
(2502.10510). We differ: bounds are met by exact projection, where DeMix's code clips once and rescales.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist

from demix_nb import mixtures as simplex
from demix_nb.asking import improve
from demix_nb.decide import (
    FINALISTS,
    RATE,
    STEPS,
    Search,
    best,
    macro_loss,
    optimise,
    propose,
    ranked,
    refine,
    winner,
)
from demix_nb.hierarchy import advance, bottom_up, top_down
from demix_nb.options import agree, check
from demix_nb.region import Region, unimax
from demix_nb.scored import Scored
from demix_nb.store import Refusal

SIZES = (64, 32, 16)  # mixtures scored per round, DeMix 3 and CLIMB
POOL = 20_000  # fresh mixtures the predictor ranks; DeMix: "a large sample", its code 200,000; RegMix 1,000,000
REGMIX_RUNS = 112  # as many as DeMix's rounds score; RegMix trains 512
REGMIX_TOP_K = 100  # RegMix 3; its code 128
REGMIX_STRENGTHS = tuple(np.geomspace(0.1, 5.0, 15))  # range of RegMix 3.1, log grid of its code
CLIMB_TOP_N = 1000  # what CLIMB's next round is drawn from; the number is ours: 5 % of the pool
SEEDS = 40  # mixtures of MergeMix's seed grid
STAGE_SEEDS = 12  # of it in one stage of a hierarchy, which has few candidates; the number is ours
POWER = 0.5  # of the natural shares, RegMix's code
CHECKED = ("sizes", "n", "pool", "top_k")  # options of strategies that have a range
SAME = 1e-9  # shares nearer than this are one mixture


# --- strategies: make(region, predictor, tasks, *, rng, **options)


def demix(
    region, predictor, tasks, *, rng, start=None, sizes=SIZES, pool=POOL, design="uniform", choose=best, rule="average",
    top_k=None, goal=ranked,
) -> Search:  # fmt: skip
    """Sample, score, fit, resample near the predicted top; the answer is the mean of the top (DeMix 2.4, 3).

    `sizes`: mixtures per round; `choose(predictor, pool, size, by)`: those of a pool that are scored next; `rule`,
    `top_k`: how the answer is taken, from how many; `goal`: what best means (`goals`). The first, blind sample is drawn
    as a row of `region.DESIGNS`, `design`, says, and pools as wide; `start`: scored mixtures in the sample's place.
    """
    seen = Scored.none(tasks) if start is None else start
    fresh = partial(region.pool, pool, how=design, rng=rng)
    if len(seen):
        predictor.fit(seen)
        last = fresh(prefix="p")
    for turn, size in enumerate(sizes, start=1):
        prefix = f"r{turn}-"
        if len(seen):
            seen += yield choose(predictor, fresh(prefix=prefix), size, goal(seen))
        else:
            seen += yield region.design(size, how=design, rng=rng, prefix=prefix)
        predictor.fit(seen)
        last = fresh(prefix="p")  # every round: so the committed searches drew their numbers
    return (yield from winner(rule, predictor, last, top_k, goal(seen)))


def climb(region, predictor, tasks, *, rng, top_n=CLIMB_TOP_N, rule="single", **options) -> Search:
    """DeMix's rounds with chance in what is scored next, any of the predicted top `top_n`; the answer is one guess."""

    def choose(predictor, pool: pd.DataFrame, size: int, by) -> pd.DataFrame:
        return best(predictor, pool, max(top_n, size), by).sample(size, random_state=rng)

    return (yield from demix(region, predictor, tasks, rng=rng, choose=choose, rule=rule, **options))


def regmix(
    region, predictor, tasks, *, rng, prior, start=None, n=REGMIX_RUNS, pool=POOL, top_k=REGMIX_TOP_K,
    strengths=REGMIX_STRENGTHS,
) -> Search:  # fmt: skip
    """One round of `n` mixtures from Dirichlet(λ·prior), then the mean of the top of a pool from Dirichlet(prior).

    `prior`: the natural shares; RegMix's code takes their square root, `mixtures.temperature(tokens, 0.5)`.
    """
    seen = Scored.none(tasks) if start is None else start
    predictor.fit(seen + (yield region.dirichlet(prior, n, rng=rng, strengths=strengths, prefix="r1-")))
    return propose(predictor, region.dirichlet(prior, pool, rng=rng, strengths=[1.0], prefix="p"), top_k)


def macro_average(families: pd.DataFrame) -> pd.Series:
    """MergeMix's utility: the mean of the families, mixture × family in standard deviations, higher is better."""
    return families.mean(axis=1)


def mergemix(
    region, predictor, tasks, *, rng, prior=None, n=SEEDS, finalists=FINALISTS, utility=macro_average, pool=POOL
) -> Search:
    """A seed grid of `n`, then the predicted optimum of a utility, really scored beside its runners-up (MergeMix).

    The predictor learns the families, one regressor per capability; `utility` gets them in standard deviations above
    the seeds' mean, higher is better, and returns a number per mixture. The finalist with the best utility wins.
    """
    seeds = region.project(simplex.seed_grid(region.candidates, n, rng=rng, prior=prior))
    seen = Scored.none(tasks) + (yield seeds)
    predictor.fit(seen.by_family())

    def by(scored: Scored) -> pd.Series:
        return -utility(scored.standardised(seen))

    fresh = region.draw(pool, rng=rng, prefix="p")
    optimum = refine(predictor, best(predictor, pd.concat([seeds, fresh]), 1, by).iloc[0], region, by, rng=rng)
    finals = pd.concat([simplex.as_table({"optimum": optimum}), fresh])
    return (yield from winner("verified", predictor, finals, finalists, by))


def gradient(region, proxy, tasks, *, rng, spread=None, steps=STEPS, rate=RATE) -> Search:
    """Follow the gradient of a proxy that has one to the least macro loss; the answer is asked once, for the record."""
    mixture, _ = optimise(macro_loss(proxy.gradient, tasks, spread), region, steps=steps, rate=rate)
    yield simplex.as_table({"optimum": mixture})
    return mixture


def staged(region, predictor, tasks, *, rng, n=STAGE_SEEDS, **options) -> Search:
    """MergeMix with a seed grid for few candidates, as a stage of a hierarchy has: `n`, or two more than there are."""
    return mergemix(region, predictor, tasks, rng=rng, n=max(n, len(region.candidates) + 2), **options)


# --- the table of strategies


@dataclass(frozen=True)
class Strategy:
    """A way to find a mixture: `make(region, predictor, tasks, *, rng, **options)` and what is to be known about it."""

    make: Callable[..., Search]
    label: str
    paper: str
    trains_on: str = ""  # the kind of proxy it is meant for (a row of `proxies.KINDS`); "": it asks for no score
    needs: tuple[str, ...] = ()  # options that it cannot do without
    predicts: bool = False  # whether its predictor speaks of the winner in the end
    uses_gradient: bool = False  # gets the differentiable proxy in place of a predictor
    starts: bool = False  # takes `start`, mixtures scored before its first round

    @property
    def asks(self) -> bool:
        """Whether it scores anything."""
        return bool(self.trains_on)


def _plain(label: str, paper: str, mixture: Callable[..., pd.Series], *needs: str) -> Strategy:
    """Return the strategy that asks nothing: `mixture(candidates, **options)`, moved into the region."""

    def make(region, predictor, tasks, *, rng, **options) -> Search:
        yield from ()
        return region.project(simplex.as_table({"winner": mixture(region.candidates, **options)})).loc["winner"]

    return Strategy(make, label, paper, needs=needs)


STRATEGIES = {
    "demix": Strategy(demix, "DeMix", "DeMix (2602.00747) 2.4, 3", "merged", predicts=True, starts=True),
    "climb": Strategy(climb, "CLIMB", "CLIMB (2504.13161)", "trained", predicts=True, starts=True),
    "regmix": Strategy(regmix, "RegMix", "RegMix (2407.01492) 3", "trained", ("prior",), predicts=True, starts=True),
    "mergemix": Strategy(mergemix, "MergeMix", "MergeMix (2601.17858)", "merged", predicts=True),
    "mergemix, top-down": Strategy(
        partial(top_down, flat=staged), "MergeMix, top-down", "MergeMix (2601.17858) Table 3", "merged", ("groups",)
    ),
    "mergemix, bottom-up": Strategy(
        partial(bottom_up, flat=staged), "MergeMix, bottom-up", "MergeMix (2601.17858) 3", "merged", ("groups",)
    ),
    "improve": Strategy(
        improve, "expected improvement", "Jones et al. (1998); Wilson et al. (2018)", "trained",
        predicts=True, starts=True,
    ),
    "gradient": Strategy(gradient, "gradient", "MixMin (2502.10510)", "mixed", uses_gradient=True),
    "uniform": _plain("uniform", "equal shares", simplex.uniform),
    "natural": _plain("natural", "token shares", lambda _, prior: prior, "prior"),
    "temperature": _plain(
        "temperature", "mT5 (2010.11934)", lambda _, prior, power=POWER: simplex.temperature(prior, power), "prior"
    ),
    "unimax": _plain("UniMax", "2304.09151", lambda _, **data: unimax(**data), "tokens", "target_tokens", "epochs"),
    "general only": _plain(
        "general only", "RegMix's Pile-CC only", lambda names, general: simplex.one_hot(names, general), "general"
    ),
}  # fmt: skip


# --- the driver


@dataclass(frozen=True)
class Found:
    """What a search found: all it scored, mixture → round (from 1), the winner, and task → its predicted score.

    Round 0 is what it started from.

    `predicted` is empty where no predictor speaks of the winner; MergeMix's speaks of families. `left_out`: task → why
    the predictor could not learn it, so that it had no say in the end.
    """

    scored: Scored
    rounds: pd.Series
    winner: pd.Series
    predicted: pd.Series
    left_out: Mapping[str, str]

    def rank_table(self) -> pd.DataFrame:
        """Mixture → the round it was scored in and its macro rank among all scored, 1 = best; its shares are apart."""
        return pd.DataFrame({"round": self.rounds, "rank": self.scored.ranks}, index=self.scored.mixtures.index)


def run(
    strategy: str | Strategy,
    proxy: Callable[[pd.DataFrame], Scored] | None,
    region: Region,
    predictor,
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    known: Scored | None = None,
    start: Scored | None = None,
    **options,
) -> Found:
    """Drive a strategy (a row of `STRATEGIES`, or one of your own) with a proxy that scores what it asks for.

    `tasks` steer; `predictor` learns (None where nothing does); `options` go to the strategy. What has its shares in
    `known` is not scored again: a search that broke off, run with the same seed and what it had scored, goes on where
    it stopped. `start`: what was scored before the first round, which the predictor learns first; with `sizes=[]`
    nothing is asked, and what is proposed comes from it alone (`proxy` may be None). Raises Refusal for an unknown
    strategy, an option it needs, a start where it takes none, and a task that the proxy, or the start, does not score.
    """
    row = _row(strategy, options, start)
    seen, rounds = Scored.none(tasks), {}
    if start is not None and len(start):
        simplex.check_names(start.mixtures, region.candidates)
        seen = options["start"] = Scored(start.mixtures[region.candidates], start.scores, tasks)
        rounds = dict.fromkeys(seen.names, 0)
    search = row.make(region, proxy if row.uses_gradient else predictor, tasks, rng=rng, **options)
    asked, found = advance(search, None)
    while asked is not None:
        scored = _scored(asked, proxy, known, tasks)
        seen += scored
        rounds |= dict.fromkeys(asked.index, 1 + max(rounds.values(), default=0))
        asked, found = advance(search, scored)
    if not row.predicts:
        return Found(seen, pd.Series(rounds, dtype=int), found, pd.Series(dtype=float), {})
    predicted = predictor.predict(simplex.as_table({"winner": found})).scores.loc["winner"]
    return Found(seen, pd.Series(rounds, dtype=int), found, predicted, predictor.refused)


def _row(strategy: str | Strategy, options: Mapping[str, object], start: Scored | None) -> Strategy:
    if isinstance(strategy, str) and strategy not in STRATEGIES:
        raise Refusal(f"there is no strategy {strategy!r}; take one of {'; '.join(STRATEGIES)}")
    row = STRATEGIES[strategy] if isinstance(strategy, str) else strategy
    if missing := [name for name in row.needs if name not in options]:
        raise Refusal(f"strategy {row.label!r} needs {missing[0]!r}; give it as an option")
    begun = start is not None and len(start) > 0
    if begun and not row.starts:
        able = "; ".join(name for name, one in STRATEGIES.items() if one.starts)
        raise Refusal(f"strategy {row.label!r} begins with mixtures of its own; leave `start` out, or take {able}")
    given = {name: options[name] for name in CHECKED if options.get(name) is not None}
    if begun and not len(given.get("sizes", SIZES)):
        del given["sizes"]  # with something to start from, no round need follow
    check(**given)
    agree(given)
    return row


def _scored(asked: pd.DataFrame, proxy: Callable | None, known: Scored | None, tasks: pd.DataFrame) -> Scored:
    """Return the scores of what is asked: from `known` where that has a mixture of the same shares, else by proxy."""
    if proxy is None:
        raise Refusal(f"{len(asked)} mixtures are to be scored and nothing scores them; give a proxy, or no `sizes`")
    if known is None or not len(known):
        return Scored(asked, proxy(asked).scores, tasks)
    simplex.check_names(known.mixtures, list(asked))
    gaps = cdist(asked, known.mixtures[list(asked)], "chebyshev")
    old = gaps.min(axis=1) < SAME
    scores = known.scores.iloc[gaps[old].argmin(axis=1)].set_axis(asked.index[old])
    if not old.all():
        scores = pd.concat([scores, proxy(asked[~old]).scores])
    return Scored(asked, scores, tasks)
