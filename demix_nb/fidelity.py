"""How well cheap proxies stand in for really trained references, and how much of that is luck.

A proxy is useful when it orders mixtures as the references do. We report Spearman's ρ per family and their mean
(macro), the same on the best quarter of the references, the ρ of the *macro rank* that search optimises (not printed in
the paper), capability recovery, the mean absolute error, and the regret of trusting the proxies' favourite. Each comes
with a bootstrap interval over mixtures; a second seed of the references, measured the same way, is the ceiling.

Source: DeMix (arXiv 2602.00747) 3.3.1, appendix D. We differ: recovery of a lower-is-better unit is inverted, so that 1
always means full recovery and less than 1 always means worse.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy.stats import rankdata

from demix_nb.evidence import interval, spearman
from demix_nb.ranking import directions, family_scores

TRUSTED = 0.5  # least ρ of the macro rank, over its whole interval, for a proxy to be used without care; ours
NEAR_CEILING = 0.1  # how far below a second training run's ρ a trusted proxy may be; ours
TOP_SHARE = 0.25  # the best quarter of the references, DeMix 3.3.1
MIN_REFERENCES = 4  # below this a quarter of the references is no set


class FidelityError(ValueError):
    """Proxies and references that cannot be compared."""


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


def compare(
    proxies: pd.DataFrame, references: pd.DataFrame, tasks: pd.DataFrame, *, rng: np.random.Generator, n: int = 2000
) -> pd.DataFrame:
    """Compare score tables over the mixtures both have; index measure, columns value, low, high (95 % bootstrap).

    Raises FidelityError when they share fewer than 4 mixtures, and RankingError when a benchmark is missing.
    """
    (measured,) = _resampled([proxies], references, tasks, rng, n)
    return _with_intervals(measured)


def paired_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    references: pd.DataFrame,
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    n: int = 2000,
) -> pd.DataFrame:
    """Return how much more proxy `a` has of each measure than proxy `b`, resampling the same mixtures for both.

    Index and columns as in `compare`, errors too.
    """
    first, second = _resampled([a, b], references, tasks, rng, n)
    return _with_intervals({name: first[name] - second[name] for name in first})


def _resampled(
    kinds: list[pd.DataFrame], references: pd.DataFrame, tasks: pd.DataFrame, rng: np.random.Generator, n: int
) -> list[dict[str, ndarray]]:
    """Return per kind of proxy every measure on all shared mixtures (first) and on `n` resamples of them."""
    shared = [name for name in references.index if all(name in table.index for table in kinds)]
    if len(shared) < MIN_REFERENCES:
        raise FidelityError(
            f"proxies and references share {len(shared)} mixtures; at least {MIN_REFERENCES} are needed: train more "
            "references (parameter n_references) or score the proxies of the same mixtures"
        )
    *proxies, truth = (family_scores(table.loc[shared], tasks) for table in (*kinds, references))
    higher = directions(tasks)[list(truth)].to_numpy(bool)
    draws = np.vstack([np.arange(len(shared)), rng.integers(0, len(shared), size=(n, len(shared)))])
    true = truth.to_numpy()[draws]
    return [measure(proxy.to_numpy()[draws], true, higher, list(truth)) for proxy in proxies]


def _with_intervals(measured: Mapping[str, ndarray]) -> pd.DataFrame:
    rows = {name: (float(values[0]), *interval(values[1:])) for name, values in measured.items()}
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("measure")


def report(
    proxies: Mapping[str, tuple[pd.DataFrame, float]],
    references: pd.DataFrame,
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return the fidelity table of several kinds of proxy: index proxy; measure, value, low, high, tokens.

    `proxies`: kind → (score table, training tokens a search with this kind costs; NaN for the ceiling).
    """
    parts = [
        compare(scores, references, tasks, rng=rng).reset_index().assign(proxy=kind, tokens=tokens)
        for kind, (scores, tokens) in proxies.items()
    ]
    return pd.concat(parts).set_index("proxy")


def trust(report: pd.DataFrame, references: int) -> pd.DataFrame:
    """Return a verdict per kind of proxy from a `report` that has the kind `ceiling`: use, use with care, or don't.

    **Rule.** *use*: the whole interval of the rank's ρ lies above `TRUSTED`, both it and the macro ρ come within
    `NEAR_CEILING` of the ceiling's, and its favourite is among the best tenth (regret in macro rank). *don't*: the
    interval of the rank's ρ or of the macro ρ reaches 0. *use with care*: all between. Column `because` names what
    decided. `references`: how many mixtures the ranks run over.
    """
    values, low = (report.pivot(columns="measure", values=column) for column in ("value", "low"))
    rows = {}
    for kind in (name for name in values.index if name != "ceiling"):
        mine, ceiling = values.loc[kind], values.loc["ceiling"]
        shortfalls = {
            f"ρ of the rank may be as low as {low.loc[kind, 'rho_rank']:.2f}": low.loc[kind, "rho_rank"] < TRUSTED,
            f"ρ of the rank is {mine['rho_rank']:.2f}, a second seed's {ceiling['rho_rank']:.2f}":
                mine["rho_rank"] < ceiling["rho_rank"] - NEAR_CEILING,
            f"macro ρ is {mine['rho_macro']:.2f}, a second seed's {ceiling['rho_macro']:.2f}":
                mine["rho_macro"] < ceiling["rho_macro"] - NEAR_CEILING,
            f"its favourite is {mine['regret']:.1f} ranks behind the best": mine["regret"] > references / 10,
        }  # fmt: skip
        lost = [sentence for sentence, holds in shortfalls.items() if holds]
        hopeless = not (low.loc[kind, ["rho_rank", "rho_macro"]] > 0).all()
        verdict = "don't" if hopeless else "use with care" if lost else "use"
        rows[kind] = {"verdict": verdict, "because": "; ".join(lost) or "as good as a second training run"}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("proxy")


def signal_to_noise(references: pd.DataFrame, replicates: pd.DataFrame) -> pd.DataFrame:
    """Return how far mixtures move each column against how far a second seed does; columns signal, noise, ratio.

    `replicates` are the same mixtures trained with another seed. Signal is the standard deviation between mixtures,
    noise that of one training run: of the gaps between seeds, over √2. A gap common to all mixtures (one order of the
    general text happens to suit) moves no mixture past another and is not counted.
    """
    shared = [name for name in references.index if name in replicates.index]
    if len(shared) < 2:
        raise FidelityError(f"{len(shared)} mixtures were trained twice; at least 2 are needed for the seed noise")
    gaps = references.loc[shared] - replicates.loc[shared]
    table = pd.DataFrame({"signal": references.std(), "noise": gaps.std() / np.sqrt(2)})
    return table.assign(ratio=table["signal"] / table["noise"].clip(lower=1e-12))


def usable(tasks: pd.DataFrame, ratio: pd.Series, *, unit: str, least: float) -> pd.DataFrame:
    """Return the tasks of one unit whose signal-to-noise ratio is at least `least`; raises when a family has none."""
    kept = tasks[(tasks["unit"] == unit) & (ratio.reindex(tasks.index) >= least)]
    if lost := sorted(set(tasks["family"]) - set(kept["family"])):
        raise FidelityError(
            f"no {unit} benchmark of family {lost[0]!r} moves {least:g} times more between mixtures than "
            "between seeds; train longer, score more items (parameter limit), or lower min_signal_to_noise"
        )
    return kept


def search_cost(components: int, component_tokens: float, trained: int = 0, trained_tokens: float = 0.0) -> float:
    """Return the training tokens a search spends; base and references are not counted (DeMix 3.3.1)."""
    return components * component_tokens + trained * trained_tokens


def tokens_to_reach(report: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return what trained proxies (`trained-<share>`) must spend in training tokens to match each other kind's measure.

    Index proxy; columns `value` (the kind's measure), `tokens` (its own cost), `trained_tokens` (interpolated in log
    tokens between the trained budgets, which are taken as never getting worse with tokens), `ratio` of the two, and
    `beyond`: "" where the budgets bracket it, "above" where not even the dearest reaches it (the cost is then a lower
    bound), "below" where the cheapest is better already (an upper bound). Raises FidelityError without two budgets.
    """
    rows = report[report["measure"] == measure]
    trained = rows[rows.index.str.startswith("trained-")].sort_values("tokens")
    if len(trained) < 2:
        raise FidelityError("give trained proxies at two budgets or more (parameter trained_shares)")
    value, log_tokens = np.maximum.accumulate(trained["value"].to_numpy()), np.log(trained["tokens"].to_numpy(float))
    others = rows[~rows.index.isin([*trained.index, "ceiling"])]
    table = others[["value", "tokens"]].assign(
        trained_tokens=np.exp(np.interp(others["value"], value, log_tokens)),
        beyond=np.select([others["value"] > value[-1], others["value"] < value[0]], ["above", "below"], ""),
    )
    return table.assign(ratio=table["trained_tokens"] / table["tokens"])
