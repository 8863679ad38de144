"""How well cheap proxies stand in for really trained references, and how much of that is luck.

A proxy is useful when it orders mixtures as the references do. We report Spearman's ρ per family and their mean
(macro), the same on the best quarter of the references, the ρ of the *macro rank* that search optimises (not printed in
the paper), capability recovery, the mean absolute error, and the regret of trusting the proxies' favourite. Each comes
with a bootstrap interval over mixtures; a second seed of the references, measured the same way, is the ceiling. A study
may have no references, no second seed, or too few: what cannot be known is then no row, never a number.

Source: DeMix (arXiv 2602.00747) 3.3.1, appendix D. We differ: recovery of a lower-is-better unit is inverted, so that 1
always means full recovery and less than 1 always means worse.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import rankdata

from demix_nb.intervals import interval, spearman
from demix_nb.scored import Scored
from demix_nb.store import Refusal, check_families

CEILING, TRAINED = "ceiling", "trained"  # kinds of proxy with a part of their own: a second seed, short training
RANKED = "ranked"  # what the ranked tasks are called together where several suites have some of them
TRUSTED = 0.5  # least ρ of the macro rank, over its whole interval, for a proxy to be used without care; ours
NEAR_CEILING = 0.1  # how far below a second training run's ρ a trusted proxy may be; ours
TOP_SHARE = 0.25  # the best quarter of the references, DeMix 3.3.1
MODES = ("likelihood", "generated")  # kinds of task: answers are read, or written
MIN_REFERENCES = 4  # below this a quarter of the references is no set


def measure(
    proxy: Float[ndarray, "*batch row family"],
    reference: Float[ndarray, "*batch row family"],
    higher: Bool[ndarray, " family"],
    families: list[str],
) -> dict[str, ndarray | float]:
    """Return every fidelity measure by name for paired family scores; batches are bootstrap resamples."""
    sign = np.where(higher, 1.0, -1.0)
    rank_p, rank_r = (rankdata(-sign * scores, axis=-2).mean(-1) for scores in (proxy, reference))
    top = np.argsort(rank_r, axis=-1, kind="stable")[..., : -(-rank_r.shape[-1] // int(1 / TOP_SHARE))]
    chosen = np.argmin(rank_p, axis=-1)[..., None]
    columns = (
        _rhos("rho", proxy, reference, families)
        | {"rho_rank": np.asarray(spearman(rank_p, rank_r))}
        | _rhos("top25", *(np.take_along_axis(s, top[..., None], axis=-2) for s in (proxy, reference)), families)
        | _recovery(proxy.mean(-2), reference.mean(-2), higher, families)
    )
    return columns | {
        "error": np.abs(proxy - reference).mean((-1, -2)),
        "regret": np.take_along_axis(rank_r, chosen, axis=-1)[..., 0] - rank_r.min(-1),
    }


def _rhos(name: str, proxy: ndarray, reference: ndarray, families: list[str]) -> dict[str, ndarray | float]:
    rho = np.asarray(spearman(np.moveaxis(proxy, -1, 0), np.moveaxis(reference, -1, 0)))
    return {f"{name}_{f}": rho[i] for i, f in enumerate(families)} | {f"{name}_macro": rho.mean(0)}


def _recovery(proxy: ndarray, reference: ndarray, higher: ndarray, families: list[str]) -> dict[str, ndarray | float]:
    with np.errstate(divide="ignore", invalid="ignore"):  # what scored 0 has no ratio, and no warning either
        ratio = np.where(higher, proxy / reference, reference / proxy)
    return {f"recovery_{f}": ratio[..., i] for i, f in enumerate(families)} | {"recovery_macro": ratio.mean(-1)}


def compare(proxies: Scored, references: Scored, *, rng: np.random.Generator, n: int = 2000) -> pd.DataFrame:
    """Compare the mixtures that both have on the references' tasks; index measure, columns value, low, high.

    The interval holds 95 % of `n` bootstrap resamples of the mixtures. Where they share fewer than 4 mixtures the table
    is empty. Raises Refusal for a task that the proxies lack.
    """
    found = _resampled([proxies], references, rng, n)
    return _with_intervals(found[0] if found else {})


def paired_difference(
    a: Scored, b: Scored, references: Scored, *, rng: np.random.Generator, n: int = 2000
) -> pd.DataFrame:
    """Return how much more proxy `a` has of each measure than proxy `b`, resampling the same mixtures for both.

    Index and columns as in `compare`, refusals too; empty where the three share fewer than 4 mixtures.
    """
    found = _resampled([a, b], references, rng, n)
    return _with_intervals({name: found[0][name] - found[1][name] for name in found[0]} if found else {})


def _resampled(
    kinds: Sequence[Scored], references: Scored, rng: np.random.Generator, n: int
) -> list[dict[str, ndarray]]:
    """Return per kind of proxy every measure on all shared mixtures (first) and `n` resamples; nothing of too few."""
    *proxies, truth = _families(kinds, references)
    if len(truth) < MIN_REFERENCES:
        return []
    higher, rows = references.directions[list(truth)].to_numpy(bool), len(truth)
    draws = np.vstack([np.arange(rows), rng.integers(0, rows, size=(n, rows))])
    true = truth.to_numpy()[draws]
    return [measure(proxy.to_numpy()[draws], true, higher, list(truth)) for proxy in proxies]


def _families(kinds: Sequence[Scored], references: Scored) -> list[pd.DataFrame]:
    """Return the family scores of the mixtures all share, of each kind and last of the references, on their tasks."""
    check_families(references.tasks["family"])
    shared = [name for name in references.names if all(name in kind.scores.index for kind in kinds)]
    return [replace(scored, tasks=references.tasks).of(shared).families for scored in (*kinds, references)]


def _with_intervals(measured: Mapping[str, ndarray]) -> pd.DataFrame:
    rows = {name: (float(values[0]), *interval(values[1:])) for name, values in measured.items()}
    return pd.DataFrame(rows, index=["value", "low", "high"], dtype=float).T.rename_axis("measure")


def report(
    proxies: Iterable[tuple[str, float, Scored, float]], references: Scored, *, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the fidelity table of several kinds of proxy: index proxy; measure, value, low, high, budget, tokens.

    `proxies`: (kind, budget, scored, tokens) each. Budget: the share of the full training a trained proxy gets, 1 for
    every other kind; tokens: what a search with it spends on training. Both are NaN for the ceiling. A kind that shares
    fewer than 4 mixtures with the references has no rows; the columns are there.
    """
    parts = [_with_intervals({}).reset_index().assign(proxy=pd.Series(dtype=object), budget=np.nan, tokens=np.nan)]
    parts += [
        compare(scored, references, rng=rng).reset_index().assign(proxy=kind, budget=budget, tokens=tokens)
        for kind, budget, scored, tokens in proxies
    ]
    return _stacked(parts).set_index("proxy")


# --- which tasks are reported together


def ranked_suite(tasks: pd.DataFrame) -> str:
    """Return what the rank is called: by the suite that all tasks of column `in_rank` were asked by, else "ranked"."""
    suites = pd.unique(tasks.loc[tasks["in_rank"].astype(bool), "suite"])
    return str(suites[0]) if len(suites) == 1 else RANKED


def groups(tasks: pd.DataFrame) -> dict[str, pd.Index]:
    """Return name → the tasks whose fidelity is reported together, of a task table with columns suite and in_rank.

    The rank's (`ranked_suite`) come first, where the optional column `mode` has both kinds of task of it followed by
    "<rank>, likelihood" and "<rank>, generated"; then those of every other suite. A suite in which a family is measured
    in several units has a group for each, "<suite>, <unit>": no mean runs over two.
    """
    rank, ranked = ranked_suite(tasks), tasks[tasks["in_rank"].astype(bool)]
    found = {rank: ranked} if len(ranked) else {}
    if "mode" in tasks and ranked["mode"].nunique() > 1:
        found |= {f"{rank}, {mode}": ranked[ranked["mode"] == mode] for mode in MODES}
    for suite, own in tasks[tasks["suite"] != rank].groupby("suite", sort=False):
        mixed = own.groupby("family")["unit"].nunique().max() > 1
        found |= {f"{suite}, {unit}": part for unit, part in own.groupby("unit", sort=False)} if mixed else {suite: own}
    return {str(name): part.index for name, part in found.items()}


def report_groups(
    proxies: Iterable[tuple[str, float, Scored, float]],
    references: Scored,
    tasks: Mapping[str, Iterable[str]],
    *,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the `report` of each group of tasks (`groups`), its name in column `suite`; all have the same resamples.

    A kind that cannot measure all tasks of a group has no rows there, nor has a group of which references lack a task.
    """
    proxies, parts = list(proxies), [report([], references, rng=rng).assign(suite="")]
    for name, own in tasks.items():
        own = list(own)
        able = [(*kind, found.only(own), cost) for *kind, found, cost in proxies if {*own} <= {*found.tasks.index}]
        if {*own} <= {*references.tasks.index}:
            parts.append(report(able, references.only(own), rng=copy.deepcopy(rng)).assign(suite=name))
    return _stacked(parts)


def _stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """All rows; where there are none, the first part's columns."""
    return pd.concat([part for part in parts if len(part)] or parts[:1])


def trust(report: pd.DataFrame, references: int) -> pd.DataFrame:
    """Return a verdict per proxy from a `report`: use, use with care, or don't; none from an empty one.

    **Rule.** *use*: the whole interval of the rank's ρ lies above `TRUSTED`, both it and the macro ρ come within
    `NEAR_CEILING` of the kind `ceiling`'s, and its favourite is among the best tenth (regret in macro rank). *don't*:
    the interval of the rank's ρ or of the macro ρ reaches 0. *use with care*: all between. Without a ceiling nothing is
    held against it, and `because` says so. Index proxy; columns `budget`, `verdict`, and `because`, what decided.
    `references`: how many mixtures the ranks run over.
    """
    measures = {
        proxy: rows.set_index("measure")
        for proxy, rows in report.groupby(["proxy", "budget"], sort=False, dropna=False)
    }
    ceiling = report[report.index == CEILING].set_index("measure")["value"]
    rows = [
        {"proxy": kind, "budget": budget} | _verdict(mine["value"], mine["low"], ceiling, references)
        for (kind, budget), mine in measures.items()
        if kind != CEILING
    ]
    return pd.DataFrame(rows, columns=["proxy", "budget", "verdict", "because"]).set_index("proxy")


def _verdict(mine: pd.Series, low: pd.Series, ceiling: pd.Series, references: int) -> dict[str, str]:
    shortfalls = {f"ρ of the rank may be as low as {low['rho_rank']:.2f}": low["rho_rank"] < TRUSTED} | {
        f"{name} is {mine[measure]:.2f}, a second seed's {ceiling[measure]:.2f}":
            mine[measure] < ceiling[measure] - NEAR_CEILING
        for measure, name in (("rho_rank", "ρ of the rank"), ("rho_macro", "macro ρ")) if measure in ceiling
    } | {f"its favourite is {mine['regret']:.1f} ranks behind the best": mine["regret"] > references / 10}  # fmt: skip
    lost = [sentence for sentence, holds in shortfalls.items() if holds]
    hopeless = not (low[["rho_rank", "rho_macro"]] > 0).all()
    verdict = "don't" if hopeless else "use with care" if lost else "use"
    if ceiling.empty:
        lost.append("no second seed: the ceiling is not known")
    return {"verdict": verdict, "because": "; ".join(lost) or "as good as a second training run"}


def signal_to_noise(references: Scored, replicates: Scored) -> pd.DataFrame:
    """Return how far mixtures move each task against how far a second seed does; columns signal, noise, ratio.

    `replicates` are the same mixtures trained with another seed; pass both `by_family()` for the families. Signal is
    the standard deviation between mixtures, noise that of one training run: of the gaps between seeds, over √2. A gap
    common to all mixtures (one order of the general text happens to suit) moves no mixture past another and is not
    counted. Noise and ratio are NaN where fewer than 2 mixtures were trained twice: they are not known.
    """
    shared = [name for name in references.names if name in replicates.scores.index]
    again = replace(replicates, tasks=references.tasks).of(shared)
    gaps = references.of(shared).scores - again.scores
    table = pd.DataFrame({"signal": references.scores.std(), "noise": gaps.std() / np.sqrt(2)})
    return table.assign(ratio=table["signal"] / table["noise"].clip(lower=1e-12))


def usable(
    tasks: pd.DataFrame, ratio: pd.Series, *, least: float, luck: pd.Series | None = None, most: float = 1.0
) -> pd.DataFrame:
    """Return the tasks that steer: those that are a target (column `target`, else all), move enough, can be predicted.

    Enough is a signal-to-noise `ratio` of at least `least`, or one that is not known; predictable is what chance would
    order as well at `most` so often (`luck`), or nobody knows. Raises Refusal where no task is a target, where none is
    predictable, and for a family all of whose targets move too little.
    """
    steers = tasks["target"].fillna(True).astype(bool) if "target" in tasks else pd.Series(True, tasks.index)
    if len(tasks) and not steers.any():
        raise Refusal(f"none of {len(tasks)} tasks is a target; set `target` to true for what is to steer")
    targets = tasks[steers]
    kept = targets[~(ratio.reindex(targets.index) < least)]
    if lost := sorted(set(targets["family"]) - set(kept["family"])):
        raise Refusal(
            f"no task of family {lost[0]!r} moves {least:g} times more between mixtures than "
            "between seeds; train longer, score more items (`limit`), set its tasks' `target` to false in the "
            "study file, or lower min_signal_to_noise"
        )
    known = kept if luck is None else kept[~(luck.reindex(kept.index) > most)]
    if len(kept) and known.empty:
        raise Refusal(
            f"none of {len(kept)} tasks is ordered out of fold better than chance orders it in {most:.0%} of cases; "
            "score more mixtures, or raise max_luck"
        )
    return known


def tokens_to_reach(
    proxies: Iterable[tuple[str, float, Scored, float]], references: Scored, measures: Sequence[str], *,
    rng: np.random.Generator, n: int = 2000,
) -> pd.DataFrame:  # fmt: skip
    """Return what trained proxies must spend in training tokens to match each other kind's measures.

    `proxies`: as in `report`; a kind may come with components of several budgets. Index proxy; columns `measure`,
    `share` (the budget), `value` (what the kind has of it), `tokens` (its own cost), `trained_tokens` (interpolated in
    log tokens between the trained budgets, taken as never getting worse with tokens), `ratio` of the two with `low` and
    `high` (95 % of `n` resamples of the mixtures, the same for all), and `beyond`: "" where the budgets bracket it,
    "above" where not even the dearest reaches it (a lower bound), "below" where the cheapest is better already (an
    upper one). Raises Refusal without two budgets, and where fewer than 4 mixtures are shared.
    """
    kinds = [one for one in proxies if one[0] != CEILING]
    trained = sorted((one for one in kinds if one[0] == TRAINED), key=lambda one: one[3])
    others = [one for one in kinds if one[0] != TRAINED]
    if len(trained) < 2:
        raise Refusal("give trained proxies at two budgets or more (parameter trained_budgets)")
    if not (found := _resampled([one[2] for one in (*trained, *others)], references, rng, n)):
        raise Refusal(f"all kinds share fewer than {MIN_REFERENCES} mixtures; score the same ones")
    rows, logs = [], np.log([one[3] for one in trained])
    for measure in measures:
        values = np.stack([one[measure] for one in found])
        curve = np.maximum.accumulate(values[: len(trained)])
        for (kind, budget, _, tokens), own in zip(others, values[len(trained) :], strict=True):
            spent = np.array([_reached(value, steps, logs) for value, steps in zip(own, curve.T, strict=True)])
            low, high = interval(spent[1:] / tokens)
            beyond = "above" if own[0] > curve[-1, 0] else "below" if own[0] < curve[0, 0] else ""
            rows.append([kind, measure, budget, own[0], tokens, spent[0], beyond, spent[0] / tokens, low, high])
    columns = "proxy measure share value tokens trained_tokens beyond ratio low high".split()
    return pd.DataFrame(rows, columns=columns).set_index("proxy")


def _reached(value: float, curve: Float[ndarray, " budget"], logs: Float[ndarray, " budget"]) -> float:
    """Return the fewest tokens at which a curve that never falls has a value: the beginning of a plateau."""
    steps = slice(int(np.searchsorted(curve, value)) + 1)
    return float(np.exp(np.interp(value, curve[steps], logs[steps])))
