"""Which candidate helps or hurts which task, and which pairs do more together than apart.

On the simplex a share can only grow at the expense of the others, so an effect needs a direction: from a centre c, the
candidate's share grows by a step h while all others shrink in proportion, m = (1−h)·c + h·eᵢ (Cox 1971). That is the
same question to a linear and to a non-linear predictor. For ridge and the uniform centre the answer is the coefficient
itself, as coefficients of shares that sum to 1 sum to 0: it is what RegMix's Figure 7 shows (2407.01492, section 5.4).
Where we differ: a sign is only believed beside its permutation null, corrected for asking many questions at once.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.parallel import fan_out

STEP = 0.1  # of share moved: large enough to leave the noise of trees behind, small enough to stay among the runs


def towards(centre: pd.Series, *names: str, step: float = STEP) -> pd.Series:
    """Return the centre with `step` of share moved to each named candidate, taken from all in proportion."""
    moved = (1 - step * len(names)) * centre
    for name in names:
        moved[name] += step
    return moved


def reached(mixtures: pd.DataFrame, *, step: float = STEP) -> list[str]:
    """Return the candidates that some run gave a share of at least `step`: of others, an effect would be invented."""
    return [name for name in mixtures if mixtures[name].max() >= step]


def effects(
    predictor, centre: pd.Series, tasks: pd.DataFrame, *, names: Sequence[str] = (), step: float = STEP
) -> pd.DataFrame:
    """Return candidate × task: what the task gains per unit of share given to the candidate; positive is better.

    Gains are in the unit of the scores that `predictor` was fitted to, signed by `higher_is_better`. `names`: of these
    candidates only, see `reached`.
    """
    names = list(names) or list(centre.index)
    rows = pd.DataFrame({"": centre} | {name: towards(centre, name, step=step) for name in names}).T
    predicted = predictor.predict(rows)
    gain = (predicted.drop(index="") - predicted.loc[""]) / step
    return (gain * _sign(tasks)[gain.columns]).rename_axis("candidate")


def linear_effects(
    mixtures: pd.DataFrame, scores: pd.DataFrame, tasks: pd.DataFrame, penalties: pd.Series
) -> pd.DataFrame:
    """Return the same for ridge with one ℓ₂ penalty per task, around the uniform centre, every task in one solve."""
    from sklearn.linear_model import Ridge  # here: the playground's panels take `effects` alone, and start quickly

    model = Ridge(alpha=penalties[scores.columns].to_numpy()).fit(mixtures.to_numpy(), scores.to_numpy())
    table = pd.DataFrame(model.coef_.T, index=mixtures.columns, columns=scores.columns)
    return (table * _sign(tasks)[scores.columns]).rename_axis("candidate")


def pairs(
    predictor, centre: pd.Series, tasks: pd.DataFrame, *, names: Sequence[str] = (), step: float = STEP
) -> pd.DataFrame:
    """Return (first, second) × task: second differences of the gain, per unit of share squared.

    f(both) − f(first) − f(second) + f(centre): positive where two candidates help more together than one by one, 0
    everywhere for a linear predictor. `names` as for `effects`.
    """
    names = list(names) or list(centre.index)
    points = {(): centre} | {(name,): towards(centre, name, step=step) for name in names}
    points |= {pair: towards(centre, *pair, step=step) for pair in combinations(names, 2)}
    predicted = predictor.predict(pd.DataFrame(list(points.values()), index=["+".join(key) for key in points]))
    value = dict(zip(points, (predicted * _sign(tasks)[predicted.columns]).to_numpy(), strict=True))
    rows = {(a, b): (value[a, b] - value[a,] - value[b,] + value[()]) / step**2 for a, b in combinations(names, 2)}
    return pd.DataFrame(rows, index=predicted.columns).T.rename_axis(["first", "second"])


def square(pair_values: pd.Series) -> pd.DataFrame:
    """Return one task's pairs as a symmetric candidate × candidate table, the diagonal missing."""
    names = list(dict.fromkeys([name for pair in pair_values.index for name in pair]))
    half = pair_values.unstack().reindex(index=names, columns=names)
    return half.combine_first(half.T).loc[names, names].rename_axis(index=None, columns=None)


def _sign(tasks: pd.DataFrame) -> pd.Series:
    return tasks["higher_is_better"].map({True: 1.0, False: -1.0})


def permutation_null(
    effect: Callable[[pd.DataFrame], pd.DataFrame],
    scores: pd.DataFrame,
    *,
    permutations: int,
    rng: np.random.Generator,
    n_jobs: int = 1,
) -> Float[ndarray, "permutation candidate task"]:
    """Return `effect(scores)` for score tables whose rows were dealt to the mixtures at random.

    Whole rows are dealt, so that tasks keep their correlation. That is the world in which no candidate has any effect.
    """
    deals = [(pd.DataFrame(scores.to_numpy()[rng.permutation(len(scores))], scores.index, scores.columns),)
             for _ in range(permutations)]  # fmt: skip
    return np.stack([table.to_numpy() for table in fan_out(effect, deals, n_jobs=n_jobs, ordered=True)])


def significance(
    effect: pd.DataFrame, null: Float[ndarray, "permutation candidate task"], *, pooled: bool = False
) -> pd.DataFrame:
    """Return Benjamini–Hochberg q-values of all cells together: the false share among what is called an effect.

    p = (1 + draws at least as extreme) / (1 + draws), two-sided (Phipson & Smyth 2010). `pooled` lets the tasks share
    their draws: for standardised scores and one kind of predictor their nulls are alike, and few permutations suffice.
    """
    from scipy.stats import false_discovery_control  # here for the same reason as Ridge

    draws, cells = np.abs(null), np.abs(effect.to_numpy())
    if pooled:
        draws = np.swapaxes(draws, 1, 2).reshape(-1, draws.shape[1], 1)
    p = (1 + (draws >= cells).sum(axis=0)) / (1 + len(draws))
    return pd.DataFrame(false_discovery_control(p.ravel()).reshape(p.shape), effect.index, effect.columns)


def standardised(scores: pd.DataFrame) -> pd.DataFrame:
    """Return scores in standard deviations over the mixtures, so that tasks with other units can share one picture."""
    return (scores - scores.mean()) / scores.std()
