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

from demix_nb.evidence import spearman
from demix_nb.ranking import directions, family_scores

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
    shared = [name for name in references.index if name in proxies.index]
    if len(shared) < MIN_REFERENCES:
        raise FidelityError(
            f"proxies and references share {len(shared)} mixtures; at least {MIN_REFERENCES} are needed: train more "
            "references (parameter n_references) or score the proxies of the same mixtures"
        )
    p, r = (family_scores(table.loc[shared], tasks) for table in (proxies, references))
    higher, families = directions(tasks)[list(r)].to_numpy(bool), list(r)
    point = measure(p.to_numpy(), r.to_numpy(), higher, families)
    draws = rng.integers(0, len(shared), size=(n, len(shared)))
    spread = measure(p.to_numpy()[draws], r.to_numpy()[draws], higher, families)
    rows = {name: (float(point[name]), *_interval(spread[name])) for name in point}
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("measure")


def _interval(values: Float[ndarray, " resamples"]) -> tuple[float, float]:
    """Return the central 95 % of the resamples where the measure is defined, NaN where it never is."""
    defined = values[np.isfinite(values)]
    return tuple(np.quantile(defined, [0.025, 0.975]).tolist()) if len(defined) else (np.nan, np.nan)


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


def paired_difference(
    a: pd.DataFrame,
    b: pd.DataFrame,
    references: pd.DataFrame,
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    n: int = 2000,
) -> pd.DataFrame:
    """Return how much better proxy `a` is than proxy `b`, measure by measure, resampling the same mixtures for both."""
    shared = [name for name in references.index if name in a.index and name in b.index]
    scores = [family_scores(table.loc[shared], tasks) for table in (a, b, references)]
    higher, families = directions(tasks)[list(scores[2])].to_numpy(bool), list(scores[2])
    draws = np.vstack([np.arange(len(shared)), rng.integers(0, len(shared), size=(n, len(shared)))])
    pa, pb, r = (table.to_numpy()[draws] for table in scores)
    first, second = (measure(p, r, higher, families) for p in (pa, pb))
    gaps = {name: first[name] - second[name] for name in first}
    rows = {name: (gap[0], *_interval(gap[1:])) for name, gap in gaps.items()}
    return pd.DataFrame(rows, index=["value", "low", "high"]).T.rename_axis("measure")


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
