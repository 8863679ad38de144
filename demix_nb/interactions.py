"""Which candidate helps or hurts which task, and which pairs do more together than apart.

On the simplex a share can only grow at the expense of the others, so an effect needs a direction: from a centre c, the
candidate's share grows by a step h while all others shrink in proportion, m = (1−h)·c + h·eᵢ (Cox 1971). That is the
same question to a linear and to a non-linear predictor. For ridge and the uniform centre the answer is the coefficient
itself, as coefficients of shares that sum to 1 sum to 0: it is what RegMix's Figure 7 shows (2407.01492, section 5.4).
Where we differ: a sign is only believed beside its permutation null, corrected for asking many questions at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.options import check
from demix_nb.parallel import fan_out
from demix_nb.predictors import PREDICTORS
from demix_nb.predictors.measures import long
from demix_nb.scored import Scored, dealt
from demix_nb.store import Refusal

STEP = 0.1  # of share moved: large enough to leave the noise of trees behind, small enough to stay among the runs
STEPS = (STEP, 0.05, 0.02, 0.01, 0.005)  # where shares are small, as among dozens of candidates, a smaller step
EDGE_POINTS = 41  # mixtures along an edge of the simplex
CURVED = "gaussian_process"  # the predictor that is asked for curved effects

# --- one call per question: long tables of standardised scores, with q-values


def linear(seen: Scored, *, permutations: int, rng: np.random.Generator) -> pd.DataFrame:
    """Return ridge's coefficients with their q-values; index candidate, columns kind, task, effect, q.

    `effect`: standard deviations of the task per unit of share, at the expense of the average candidate; positive
    helps. `q`: of `permutations` deals, see `significance`.
    """
    seen = scaled(seen)
    ridge = PREDICTORS["ridge"].judged.new(rng=rng).fit(seen)  # by a null of its own
    penalties = pd.Series({task: model.alpha_ for task, model in ridge.regressors.items()})
    effect = partial(linear_effects, penalties=penalties)
    null = permutation_null(effect, seen, permutations=permutations, rng=rng)
    return _long(found := effect(seen), significance(found, null), "linear")


def curved(
    seen: Scored,
    *,
    permutations: int,
    rng: np.random.Generator,
    centre: pd.Series | None = None,
    names: Sequence[str] | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Return what a Gaussian process sees, as `linear` does: a step from `centre`, by default the average mixture.

    `names`: of these candidates only, by default of those that some run has `reached`; the step is `step_of` the runs.
    All tasks share their draws.
    """
    seen, ask = _curved(seen, effects, centre, names, rng)
    null = permutation_null(ask, seen, permutations=permutations, rng=rng, n_jobs=n_jobs)
    return _long(found := ask(seen), significance(found, null, pooled=True), "curved")


def paired(
    seen: Scored,
    *,
    permutations: int,
    rng: np.random.Generator,
    centre: pd.Series | None = None,
    names: Sequence[str] | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Return the same for `pairs`; index first, columns second, task, effect (per unit of share squared), q."""
    seen, ask = _curved(seen, pairs, centre, names, rng)
    null = permutation_null(ask, seen, permutations=permutations, rng=rng, n_jobs=n_jobs)
    return _long(found := ask(seen), significance(found, null), "curved").drop(columns="kind").reset_index("second")


def edge(
    seen: Scored, first: str, second: str, *, rng: np.random.Generator, names: Sequence[str] = ("ridge", CURVED)
) -> pd.DataFrame:
    """Return what predictors expect along the edge from all `first` to all `second`, in standard deviations.

    Index first, columns second, predictor, task, share (of the second), predicted. A plane allows only a line.
    """
    share = np.linspace(0, 1, EDGE_POINTS)
    way = pd.DataFrame(0.0, index=[f"{t:.3f}" for t in share], columns=seen.candidates)
    way[first], way[second] = 1 - share, share
    parts = []
    for name in names:
        guess = PREDICTORS[name].judged.new(rng=rng).fit(scaled(seen)).predict(way).scores
        rows = long(guess.set_axis(share).rename_axis("share"), "predicted")
        parts.append(rows.reset_index().assign(predictor=name))
    table = pd.concat(parts).assign(first=first, second=second).set_index("first")
    return table[["second", "predictor", "task", "share", "predicted"]]


def scaled(seen: Scored) -> Scored:
    """Return the same in standard deviations from the mean over the mixtures: any tasks can share one picture.

    Raises Refusal for a task that all mixtures score alike.
    """
    if flat := seen.varying()[1]:
        raise Refusal(f"all {len(seen)} mixtures score alike on {flat[0]!r}; leave the task out (`varying`)")
    scores = (seen.scores - seen.scores.mean()) / seen.scores.std()
    return replace(seen, scores=scores, tasks=seen.tasks.assign(unit="standard deviations"))


def _curved(seen: Scored, question: Callable, centre: pd.Series | None, names: Sequence[str] | None, rng) -> tuple:
    """The standardised runs, and the question as a function of nothing but them."""
    centre, step = seen.mixtures.mean() if centre is None else centre, step_of(seen.mixtures)
    names = reached(seen.mixtures, step=step) if names is None else list(names)
    return scaled(seen), partial(_asked, question, centre, names, step, rng)


def _asked(question: Callable, centre: pd.Series, names: list[str], step: float, rng, seen: Scored) -> pd.DataFrame:
    return question(PREDICTORS[CURVED].new(rng=rng).fit(seen), centre, names=names, step=step)


def _long(effect: pd.DataFrame, q: pd.DataFrame, kind: str) -> pd.DataFrame:
    return long(effect, "effect").assign(q=q.to_numpy().T.ravel(), kind=kind)[["kind", "task", "effect", "q"]]


# --- effects


def towards(centre: pd.Series, *names: str, step: float = STEP) -> pd.Series:
    """Return the centre with `step` of share moved to each named candidate, taken from all in proportion."""
    moved = (1 - step * len(names)) * centre
    for name in names:
        moved[name] += step
    return moved


def reached(mixtures: pd.DataFrame, *, step: float = STEP) -> list[str]:
    """Return the candidates that some run gave a share of at least `step`: of others, an effect would be invented."""
    return [name for name in mixtures if mixtures[name].max() >= step]


def step_of(mixtures: pd.DataFrame) -> float:
    """Return the largest of `STEPS` that some run gave to half of the candidates, or where none is, to two of them.

    Raises Refusal where there is none of either: no step from the centre stays among the runs.
    """
    for least in (max(2, len(mixtures.columns) / 2), 2):
        if possible := [step for step in STEPS if len(reached(mixtures, step=step)) >= least]:
            return possible[0]
    most = mixtures.max().nlargest(2)
    told = " and ".join(f"{name!r} {share:.2g}" for name, share in most.items())
    raise Refusal(f"no step of share stays among the runs: the largest shares are {told}, the least step {STEPS[-1]:g}")


def effects(predictor, centre: pd.Series, *, names: Sequence[str] | None = None, step: float = STEP) -> pd.DataFrame:
    """Return candidate × task: what the task gains per unit of share given to the candidate; positive is better.

    Gains are in the unit of the scores that `predictor` was fitted to, signed by `higher_is_better`. `names`: of these
    candidates only, see `reached`; raises Refusal where there are none.
    """
    names = _those(names, centre, 1)
    rows = pd.DataFrame({"": centre} | {name: towards(centre, name, step=step) for name in names}).T
    predicted = predictor.predict(rows)
    gain = (predicted.scores.drop(index="") - predicted.scores.loc[""]) / step
    return (gain * _sign(predicted)).rename_axis("candidate")


def linear_effects(seen: Scored, penalties: pd.Series) -> pd.DataFrame:
    """Return the same for ridge with one ℓ₂ penalty per task, around the uniform centre, every task in one solve.

    (XᵀX + λI) w = Xᵀy, all centred: a null asks this a thousand times, and scikit-learn's checks would take most of it.
    """
    x, y = (table.to_numpy(float) - table.to_numpy(float).mean(axis=0) for table in (seen.mixtures, seen.scores))
    ridged = x.T @ x + penalties[seen.tasks.index].to_numpy()[:, None, None] * np.eye(x.shape[1])
    found = np.linalg.solve(ridged, (x.T @ y).T[..., None])[..., 0]
    table = pd.DataFrame(found.T, index=seen.candidates, columns=seen.scores.columns)
    return (table * _sign(seen)).rename_axis("candidate")


def pairs(predictor, centre: pd.Series, *, names: Sequence[str] | None = None, step: float = STEP) -> pd.DataFrame:
    """Return (first, second) × task: second differences of the gain, per unit of share squared.

    f(both) − f(first) − f(second) + f(centre): positive where two candidates help more together than one by one, 0
    everywhere for a linear predictor. `names` as for `effects`, two or more.
    """
    names = _those(names, centre, 2)
    points = {(): centre} | {(name,): towards(centre, name, step=step) for name in names}
    points |= {pair: towards(centre, *pair, step=step) for pair in combinations(names, 2)}
    numbered = map(str, range(len(points)))  # joined names could be one: a and b, beside a candidate "a+b"
    predicted = predictor.predict(pd.DataFrame(list(points.values()), index=list(numbered)))
    value = dict(zip(points, (predicted.scores * _sign(predicted)).to_numpy(), strict=True))
    rows = {(a, b): (value[a, b] - value[a,] - value[b,] + value[()]) / step**2 for a, b in combinations(names, 2)}
    return pd.DataFrame(rows, index=predicted.scores.columns).T.rename_axis(["first", "second"])


def _those(names: Sequence[str] | None, centre: pd.Series, least: int) -> list[str]:
    """The candidates asked about: all, or those named, of which there must be enough."""
    chosen = list(centre.index if names is None else names)
    if odd := [name for name in chosen if name not in centre.index]:
        raise Refusal(f"no candidate {odd[0]!r}; there are {', '.join(centre.index)}")
    if len(chosen) < least:
        raise Refusal(f"{len(chosen)} candidates are named, {least} are needed; name more of {', '.join(centre.index)}")
    return chosen


def square(pair_values: pd.Series) -> pd.DataFrame:
    """Return one task's pairs as a symmetric candidate × candidate table, the diagonal missing."""
    names = list(dict.fromkeys([name for pair in pair_values.index for name in pair]))
    half = pair_values.unstack().reindex(index=names, columns=names)
    return half.combine_first(half.T).loc[names, names].rename_axis(index=None, columns=None)


def _sign(scored: Scored) -> pd.Series:
    return scored.tasks["higher_is_better"].map({True: 1.0, False: -1.0})


# --- which of them are more than luck


def permutation_null(
    effect: Callable[[Scored], pd.DataFrame],
    seen: Scored,
    *,
    permutations: int,
    rng: np.random.Generator,
    n_jobs: int = 1,
) -> Float[ndarray, "permutation candidate task"]:
    """Return `effect(seen)` for runs whose scores were dealt to the mixtures at random: no candidate has any effect."""
    check(permutations=permutations)
    deals = [(dealt(seen, rng=rng),) for _ in range(permutations)]
    return np.stack([table.to_numpy() for table in fan_out(effect, deals, n_jobs=n_jobs, ordered=True)])


def significance(
    effect: pd.DataFrame, null: Float[ndarray, "permutation candidate task"], *, pooled: bool = False
) -> pd.DataFrame:
    """Return Benjamini–Hochberg q-values of all cells together: the false share among what is called an effect.

    p = (1 + draws at least as extreme) / (1 + draws), two-sided (Phipson & Smyth 2010). `pooled` lets the tasks share
    their draws: for standardised scores and one kind of predictor their nulls are alike, and few permutations suffice.
    """
    from scipy.stats import false_discovery_control  # here: panels take `effects` alone, and start quickly

    draws, cells = np.abs(null), np.abs(effect.to_numpy())
    if pooled:
        draws = np.swapaxes(draws, 1, 2).reshape(-1, draws.shape[1], 1)
    p = (1 + (draws >= cells).sum(axis=0)) / (1 + len(draws))
    return pd.DataFrame(false_discovery_control(p.ravel()).reshape(p.shape), effect.index, effect.columns)
