"""How well cheap proxies stand in for really trained references, and how much of that is luck.

A proxy is useful when it orders mixtures as the references do. We report Spearman's ρ per family and their mean
(macro), the same on the best quarter of the references, the ρ of the *macro rank* that search optimises (not printed in
the paper), capability recovery, the mean absolute error, and the regret of trusting the proxies' favourite. Each comes
with a bootstrap interval over mixtures; a second seed of the references, measured the same way, is the ceiling.

Source: DeMix (arXiv 2602.00747) 3.3.1, appendix D. We differ: recovery of a lower-is-better unit is inverted, so that 1
always means full recovery and less than 1 always means worse.
"""

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
TRUSTED = 0.5  # least ρ of the macro rank, over its whole interval, for a proxy to be used without care; ours
NEAR_CEILING = 0.1  # how far below a second training run's ρ a trusted proxy may be; ours
TOP_SHARE = 0.25  # the best quarter of the references, DeMix 3.3.1
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
    ratio = np.where(higher, proxy / reference, reference / proxy)
    return {f"recovery_{f}": ratio[..., i] for i, f in enumerate(families)} | {"recovery_macro": ratio.mean(-1)}


def compare(proxies: Scored, references: Scored, *, rng: np.random.Generator, n: int = 2000) -> pd.DataFrame:
    """Compare the mixtures that both have on the references' tasks; index measure, columns value, low, high.

    The interval holds 95 % of `n` bootstrap resamples of the mixtures. Raises Refusal when they share fewer than 4
    mixtures, and for a task that the proxies lack.
    """
    (measured,) = _resampled([proxies], references, rng, n)
    return _with_intervals(measured)


def paired_difference(
    a: Scored, b: Scored, references: Scored, *, rng: np.random.Generator, n: int = 2000
) -> pd.DataFrame:
    """Return how much more proxy `a` has of each measure than proxy `b`, resampling the same mixtures for both.

    Index and columns as in `compare`, refusals too.
    """
    first, second = _resampled([a, b], references, rng, n)
    return _with_intervals({name: first[name] - second[name] for name in first})


def _resampled(
    kinds: Sequence[Scored], references: Scored, rng: np.random.Generator, n: int
) -> list[dict[str, ndarray]]:
    """Return per kind of proxy every measure on all shared mixtures (first) and on `n` resamples of them."""
    *proxies, truth = _families(kinds, references)
    higher, rows = references.directions[list(truth)].to_numpy(bool), len(truth)
    draws = np.vstack([np.arange(rows), rng.integers(0, rows, size=(n, rows))])
    true = truth.to_numpy()[draws]
    return [measure(proxy.to_numpy()[draws], true, higher, list(truth)) for proxy in proxies]


def _families(kinds: Sequence[Scored], references: Scored) -> list[pd.DataFrame]:
    """Return the family scores of the mixtures all share, of each kind and last of the references, on their tasks."""
    check_families(references.tasks["family"])
    shared = [name for name in references.names if all(name in kind.scores.index for kind in kinds)]
    if len(shared) < MIN_REFERENCES:
        raise Refusal(
            f"proxies and references share {len(shared)} mixtures; at least {MIN_REFERENCES} are needed: train more "
            "references (parameter n_references) or score the proxies of the same mixtures"
        )
    return [replace(scored, tasks=references.tasks).of(shared).families for scored in (*kinds, references)]


def _with_intervals(measured: Mapping[str, ndarray]) -> pd.DataFrame:
    rows = {name: (float(values[0]), *interval(values[1:])) for name, values in measured.items()}
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("measure")


def report(
    proxies: Iterable[tuple[str, float, Scored, float]], references: Scored, *, rng: np.random.Generator
) -> pd.DataFrame:
    """Return the fidelity table of several kinds of proxy: index proxy; measure, value, low, high, budget, tokens.

    `proxies`: (kind, budget, scored, tokens) each. Budget: the share of the full training a trained proxy gets, 1 for
    every other kind; tokens: what a search with it spends on training. Both are NaN for the ceiling.
    """
    parts = [
        compare(scored, references, rng=rng).reset_index().assign(proxy=kind, budget=budget, tokens=tokens)
        for kind, budget, scored, tokens in proxies
    ]
    return pd.concat(parts).set_index("proxy")


def trust(report: pd.DataFrame, references: int) -> pd.DataFrame:
    """Return a verdict per proxy from a `report` that has the kind `ceiling`: use, use with care, or don't.

    **Rule.** *use*: the whole interval of the rank's ρ lies above `TRUSTED`, both it and the macro ρ come within
    `NEAR_CEILING` of the ceiling's, and its favourite is among the best tenth (regret in macro rank). *don't*: the
    interval of the rank's ρ or of the macro ρ reaches 0. *use with care*: all between. Index proxy; columns `budget`,
    `verdict`, and `because`, what decided. `references`: how many mixtures the ranks run over.
    """
    measures = {
        proxy: rows.set_index("measure")
        for proxy, rows in report.groupby(["proxy", "budget"], sort=False, dropna=False)
    }
    ceiling = report.loc[[CEILING]].set_index("measure")["value"]
    rows = [
        {"proxy": kind, "budget": budget} | _verdict(mine["value"], mine["low"], ceiling, references)
        for (kind, budget), mine in measures.items()
        if kind != CEILING
    ]
    return pd.DataFrame(rows).set_index("proxy")


def _verdict(mine: pd.Series, low: pd.Series, ceiling: pd.Series, references: int) -> dict[str, str]:
    shortfalls = {
        f"ρ of the rank may be as low as {low['rho_rank']:.2f}": low["rho_rank"] < TRUSTED,
        f"ρ of the rank is {mine['rho_rank']:.2f}, a second seed's {ceiling['rho_rank']:.2f}":
            mine["rho_rank"] < ceiling["rho_rank"] - NEAR_CEILING,
        f"macro ρ is {mine['rho_macro']:.2f}, a second seed's {ceiling['rho_macro']:.2f}":
            mine["rho_macro"] < ceiling["rho_macro"] - NEAR_CEILING,
        f"its favourite is {mine['regret']:.1f} ranks behind the best": mine["regret"] > references / 10,
    }  # fmt: skip
    lost = [sentence for sentence, holds in shortfalls.items() if holds]
    hopeless = not (low[["rho_rank", "rho_macro"]] > 0).all()
    verdict = "don't" if hopeless else "use with care" if lost else "use"
    return {"verdict": verdict, "because": "; ".join(lost) or "as good as a second training run"}


def signal_to_noise(references: Scored, replicates: Scored) -> pd.DataFrame:
    """Return how far mixtures move each task against how far a second seed does; columns signal, noise, ratio.

    `replicates` are the same mixtures trained with another seed; pass both `by_family()` for the families. Signal is
    the standard deviation between mixtures, noise that of one training run: of the gaps between seeds, over √2. A gap
    common to all mixtures (one order of the general text happens to suit) moves no mixture past another and is not
    counted. Raises Refusal when fewer than 2 mixtures were trained twice.
    """
    shared = [name for name in references.names if name in replicates.scores.index]
    if len(shared) < 2:
        raise Refusal(f"{len(shared)} mixtures were trained twice; at least 2 are needed for the seed noise")
    again = replace(replicates, tasks=references.tasks).of(shared)
    gaps = references.of(shared).scores - again.scores
    table = pd.DataFrame({"signal": references.scores.std(), "noise": gaps.std() / np.sqrt(2)})
    return table.assign(ratio=table["signal"] / table["noise"].clip(lower=1e-12))


def usable(tasks: pd.DataFrame, ratio: pd.Series, *, unit: str, least: float) -> pd.DataFrame:
    """Return the tasks of one unit whose signal-to-noise ratio is at least `least`; raises when a family has none."""
    kept = tasks[(tasks["unit"] == unit) & (ratio.reindex(tasks.index) >= least)]
    if lost := sorted(set(tasks["family"]) - set(kept["family"])):
        raise Refusal(
            f"no {unit} task of family {lost[0]!r} moves {least:g} times more between mixtures than "
            "between seeds; train longer, score more items (parameter limit), or lower min_signal_to_noise"
        )
    return kept


def tokens_to_reach(report: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return what trained proxies must spend in training tokens to match each other kind's measure.

    Index proxy; columns `value` (the kind's measure), `tokens` (its own cost), `trained_tokens` (interpolated in log
    tokens between the trained budgets, which are taken as never getting worse with tokens), `ratio` of the two, and
    `beyond`: "" where the budgets bracket it, "above" where not even the dearest reaches it (the cost is then a lower
    bound), "below" where the cheapest is better already (an upper bound). Raises Refusal without two budgets.
    """
    rows = report[report["measure"] == measure]
    trained = rows[rows.index == TRAINED].sort_values("tokens")
    if len(trained) < 2:
        raise Refusal("give trained proxies at two budgets or more (parameter trained_budgets)")
    value, log_tokens = np.maximum.accumulate(trained["value"].to_numpy()), np.log(trained["tokens"].to_numpy(float))
    others = rows[~rows.index.isin([TRAINED, CEILING])]
    table = others[["value", "tokens"]].assign(
        trained_tokens=np.exp(np.interp(others["value"], value, log_tokens)),
        beyond=np.select([others["value"] > value[-1], others["value"] < value[0]], ["above", "below"], ""),
    )
    return table.assign(ratio=table["trained_tokens"] / table["tokens"])
