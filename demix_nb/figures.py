"""The look of every quoted figure, in one place: theme, figures, and how a figure reaches the disk.

A quoted figure is a named function that takes tables and returns a matplotlib figure; notebooks show it, `save` writes
it, and the tests draw it again.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from demix_nb.colours import BLACK, BLUE, FAMILY_COLOURS, GREEN, GREY, ORANGE, PROXY_COLOURS, PURPLE, SKY, VERMILION

DASHES = ("-", "--", ":", "-.")
DPI = 110  # small enough to commit, sharp enough for a README column


def style() -> None:
    """Seaborn theme shared by all figures; call it once at the top of a notebook."""
    sns.set_theme(
        style="whitegrid",
        palette=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK],
        rc={
            "figure.dpi": DPI,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
        },
    )


def save(figure: Figure, path: Path | str) -> Path:
    """Write a PNG at 110 dpi under a temporary name beside `path`, then rename: nobody ever sees half a figure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        figure.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


# --- the pipeline's figures: tables in, figure out ------------------------------------------------------------------


def _plain_log(axis: Axis) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2 and 5."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def component_heatmap(scores: pd.DataFrame, tasks: pd.DataFrame, base: pd.Series) -> Figure:
    """Bits per byte that each component saves (blue) or costs (red) against the base, component × benchmark."""
    gain = (base - scores)[list(tasks.index)]
    limit = float(np.abs(gain.to_numpy()).max())
    figure, axes = plt.subplots(figsize=(1.6 + 0.55 * gain.shape[1], 1.2 + 0.42 * len(gain)))
    sns.heatmap(gain, ax=axes, cmap="RdBu", center=0, vmin=-limit, vmax=limit, annot=True, fmt=".2f",
                annot_kws={"size": 7}, cbar_kws={"label": "bits per byte saved"})  # fmt: skip
    axes.set(xlabel="", ylabel="component")
    axes.set_xticklabels(axes.get_xticklabels(), rotation=40, ha="right")
    return figure


def drift(table: pd.DataFrame) -> Figure:
    """Size δ of every component's update, layer by layer (DeMix eq. 4).

    Rows layers, columns components.
    """
    return _matrix(table, "δ of the layer", cmap="Blues", vmin=0)


def cosines(table: pd.DataFrame) -> Figure:
    """Cosine between the components' updates: which components moved the same way."""
    return _matrix(table, "cosine between updates", cmap="RdBu", center=0)


def _matrix(table: pd.DataFrame, label: str, **colours: object) -> Figure:
    figure, axes = plt.subplots(figsize=(2.2 + 0.6 * table.shape[1], 1.2 + 0.34 * len(table)))
    sns.heatmap(table, ax=axes, annot=True, fmt=".2f", annot_kws={"size": 7}, cbar_kws={"label": label}, **colours)
    axes.set(xlabel="", ylabel="")
    axes.set_xticklabels(axes.get_xticklabels(), rotation=40, ha="right")
    return figure


def _number_in_family(families: Mapping[str, str]) -> dict[str, int]:
    """Return candidate → 0, 1, 2, … among those of its family, in their order."""
    return pd.Series(families).groupby(pd.Series(families)).cumcount().to_dict()


def loss_curves(curves: Mapping[str, Sequence[tuple[int, float]]], families: Mapping[str, str]) -> Figure:
    """Training loss (nats per token) against tokens, a line per model in its family's colour and a dash of its own."""
    figure, axes = plt.subplots(figsize=(7, 3.4))
    number = _number_in_family(families)
    for name, curve in curves.items():
        tokens, loss = np.array(curve).T
        look = {"color": FAMILY_COLOURS.get(families[name], GREY), "ls": DASHES[number[name] % len(DASHES)], "lw": 1.4}
        axes.plot(tokens / 1e3, pd.Series(loss).rolling(5, min_periods=1).mean(), label=name, **look)
    axes.set(xlabel="thousand tokens", ylabel="training loss, nats per token")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def merge_path(merged: pd.DataFrame, mixed: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Held-out score of the two ends' domains along the way between them, merged (lines) and really mixed (diamonds).

    Index: weight of the second end. Columns: the two domains; unit bits per byte; `families` gives their colours.
    """
    figure, axes = plt.subplots(figsize=(6, 3.6))
    for domain, line in zip(merged, ("-", "--"), strict=True):
        colour = FAMILY_COLOURS.get(families[domain], GREY)
        axes.plot(merged.index, merged[domain], line, color=colour, label=f"{domain}, merged")
        axes.scatter(mixed.index, mixed[domain], color=colour, marker="D", s=36, label=f"{domain}, mixed")
    axes.set(xlabel=f"weight of {list(merged)[-1]}", ylabel="bits per byte")
    axes.legend(fontsize=8)
    return figure


def fidelity_scatter(proxies: pd.DataFrame, references: pd.DataFrame, rho: pd.Series) -> Figure:
    """Proxy against reference, family by family, in bits per byte; `rho` gives family → Spearman's ρ."""
    figure, panels = plt.subplots(1, references.shape[1], figsize=(3.3 * references.shape[1], 3.2))
    for axes, family in zip(np.atleast_1d(panels), references, strict=True):
        axes.scatter(proxies[family], references[family], color=FAMILY_COLOURS.get(family, GREY), s=26)
        axes.set(title=f"{family}: ρ = {rho[family]:.2f}", xlabel="proxy, bits per byte")
    np.atleast_1d(panels)[0].set_ylabel("reference, bits per byte")
    figure.tight_layout()
    return figure


def signal_bars(noise: pd.DataFrame, least: float) -> Figure:
    """How many times more mixtures move a score than seeds do; columns ratio, family; below `least` it is left out."""
    figure, axes = plt.subplots(figsize=(7, 0.6 + 0.3 * len(noise)))
    table = noise.sort_values("ratio")
    axes.barh(table.index, table["ratio"], color=[FAMILY_COLOURS.get(family, GREY) for family in table["family"]])
    axes.axvline(least, color=BLACK, lw=1, ls="--")
    axes.set(xlabel="spread between mixtures / spread between seeds", xscale="log")
    _plain_log(axes.xaxis)
    axes.grid(axis="y", visible=False)
    return figure


def fidelity_cost(fidelity: pd.DataFrame, measure: str, searched: int) -> Figure:
    """Fidelity against training tokens per kind of proxy, with intervals; the ceiling is a band over all costs.

    Columns: proxy (index), measure, value, low, high, tokens (NaN for the ceiling).
    """
    rows = fidelity[fidelity["measure"] == measure]
    figure, axes = plt.subplots(figsize=(6.4, 3.6))
    ceiling = rows[rows["tokens"].isna()]
    for _, row in ceiling.iterrows():
        axes.axhspan(row["low"], row["high"], color=GREY, alpha=0.15, lw=0)
        axes.axhline(row["value"], color=GREY, ls="--", lw=1, label="second seed of the references")
    is_trained = rows.index.str.startswith("trained")
    kinds = {"trained proxies": rows[is_trained].sort_values("tokens")}
    kinds |= {name: rows.loc[[name]] for name in rows.index[~is_trained & rows["tokens"].notna()]}
    for name, table in kinds.items():
        spread = [table["value"] - table["low"], table["high"] - table["value"]]
        label = "merged (DeMix)" if name == "merged" else name
        axes.errorbar(table["tokens"] / 1e6, table["value"], yerr=np.clip(spread, 0, None), marker="o", capsize=3,
                      color=PROXY_COLOURS[name], label=label)  # fmt: skip
    axes.set(xlabel=f"million training tokens to score {searched} mixtures", ylabel="Spearman's ρ", xscale="log")
    _plain_log(axes.xaxis)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def search_rounds(rounds: pd.DataFrame, winner: float) -> Figure:
    """Macro rank of every mixture scored, round by round, and that of the proposed mixture (dashed line)."""
    figure, axes = plt.subplots(figsize=(6, 3.4))
    # spread by order of scoring: a random jitter would draw another picture every time
    aside = 0.2 * np.sin(2.4 * np.arange(len(rounds)))
    axes.scatter(rounds["round"] - 1 + aside, rounds["rank"], color=BLUE, s=14, alpha=0.7)
    best = rounds.groupby("round")["rank"].min().cummin()
    axes.plot(range(len(best)), best, color=VERMILION, marker="o", label="best so far")
    axes.axhline(winner, color=BLACK, ls="--", lw=1, label="proposed mixture")
    axes.invert_yaxis()
    axes.set(xlabel="round", ylabel="macro rank (1 = best)", xticks=range(len(best)), xticklabels=best.index)
    axes.legend(fontsize=8)
    return figure


def mixture_bars(mixtures: pd.DataFrame, families: Mapping[str, str]) -> Figure:
    """Shares of the candidates, one stacked bar per mixture, shades of the family's colour."""
    figure, axes = plt.subplots(figsize=(7.2, 0.8 + 0.42 * len(mixtures)))
    left, number = np.zeros(len(mixtures)), _number_in_family(families)
    for name in mixtures:
        shade = sns.light_palette(FAMILY_COLOURS.get(families[name], GREY), n_colors=5)[-(number[name] + 1) % 5]
        axes.barh(mixtures.index, mixtures[name], left=left, color=shade, label=name)
        left += mixtures[name].to_numpy()
    axes.set(xlabel="share", xlim=(0, 1))
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def quality(ranks: pd.DataFrame, references: int) -> Figure:
    """Place of really trained mixtures among the references by macro rank, a dot per seed and the mean.

    Columns: strategy, seed, place; 1 is best of references + 1.
    """
    order = ranks.groupby("strategy")["place"].mean().sort_values().index
    figure, axes = plt.subplots(figsize=(6.4, 0.8 + 0.45 * len(order)))
    heights = ranks["strategy"].map(list(order).index) + 0.12 * (ranks["seed"] - ranks["seed"].mean())
    axes.scatter(ranks["place"], heights, color=BLUE, s=36, alpha=0.6)
    means = ranks.groupby("strategy")["place"].mean()[order]
    axes.scatter(means, range(len(order)), marker="|", s=400, color=VERMILION, zorder=3, label="mean over seeds")
    axes.set(
        xlabel=f"place by macro rank among {references} references (1 = best)", ylabel="", xlim=(0.5, references + 1.5)
    )
    axes.set_yticks(range(len(order)), order)
    axes.invert_yaxis()
    axes.legend(fontsize=8)
    return figure
