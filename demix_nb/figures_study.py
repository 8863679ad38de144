"""Figures of the study and of the paper notebooks: kinds of proxy, strategies, consistency, landscapes, stages.

Tables in, figure out, as in `figures`; what is printed in a paper is drawn grey beside what was measured here.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from demix_nb.colours import BLACK, BLUE, FAMILY_COLOURS, GREY, PROXY_COLOURS, VERMILION

TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])  # corners of a ternary plot


def _dots(axes: Axes, table: pd.DataFrame, colours: Sequence[str] | str) -> None:
    """Values with their intervals (columns value, low, high), one row each, first on top."""
    heights = np.arange(len(table))
    axes.hlines(heights, table["low"], table["high"], color=colours, lw=2, alpha=0.6)
    axes.scatter(table["value"], heights, color=colours, s=36, zorder=3)
    axes.set_yticks(heights, table.index)
    axes.invert_yaxis()


def kinds(report: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Every kind of proxy by measure, with 95 % intervals; the grey band is a second seed of the references.

    `report` as from `fidelity.report`; `measures`: measure → axis label.
    """
    names = [name for name in pd.unique(report.index) if name != "ceiling"]
    size = (4.1 * len(measures) + 1.2, 1 + 0.34 * len(names))
    figure, panels = plt.subplots(1, len(measures), figsize=size, sharey=True)
    for axes, (measure, label) in zip(np.atleast_1d(panels), measures.items(), strict=True):
        rows = report[report["measure"] == measure]
        ceiling = rows.loc["ceiling"]
        axes.axvspan(ceiling["low"], ceiling["high"], color=GREY, alpha=0.15, lw=0)
        axes.axvline(ceiling["value"], color=GREY, ls="--", lw=1)
        _dots(axes, rows.loc[names], [PROXY_COLOURS.get(name, PROXY_COLOURS["trained proxies"]) for name in names])
        axes.set(xlabel=label)
    np.atleast_1d(panels)[0].set_ylim(len(names) - 0.5, -0.5)
    figure.tight_layout()
    return figure


def strategies(summary: pd.DataFrame, measure: str, label: str) -> Figure:
    """Every search strategy by one measure of its trained winners, mean over seeds with interval, best on top."""
    rows = summary[summary["measure"] == measure].sort_values("value")
    figure, axes = plt.subplots(figsize=(6.6, 0.9 + 0.32 * len(rows)))
    colours = [VERMILION if name.startswith(("demix", "gradient", "mergemix")) else BLUE for name in rows.index]
    _dots(axes, rows, colours)
    axes.set(xlabel=label)
    return figure


def budgets(report: pd.DataFrame, measure: str) -> Figure:
    """Fidelity against the components' share of the references' tokens, merged and ensemble, with intervals."""
    rows = report[report["measure"] == measure]
    figure, axes = plt.subplots(figsize=(5.6, 3.4))
    for name, table in rows.groupby(level=0, sort=False):
        table = table.sort_values("share")
        axes.plot(table["share"], table["value"], marker="o", color=PROXY_COLOURS[name], label=name)
        axes.fill_between(table["share"], table["low"], table["high"], color=PROXY_COLOURS[name], alpha=0.15, lw=0)
    axes.set(xlabel="tokens per component / tokens per reference", ylabel="Spearman's ρ", xscale="log")
    axes.set_xticks(sorted(set(rows["share"])), [f"{share:g}" for share in sorted(set(rows["share"]))])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def consistency(ours: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Merged over mixed score against the size δ of the updates: ours in colour, DeMix's Table 12 in grey.

    Both: columns family, delta (share), ratio; 1 means that the merge is as good as the mixture.
    """
    figure, axes = plt.subplots(figsize=(5.8, 3.4))
    for family, rows in ours.groupby("family", sort=False):
        axes.plot(
            rows["delta"], rows["ratio"], marker="o", color=FAMILY_COLOURS.get(family, GREY), label=f"{family}, here"
        )
    for (family, rows), mark in zip(printed.groupby("family", sort=False), "sD", strict=False):
        axes.plot(rows["delta"], rows["ratio"], marker=mark, ls=":", color=GREY, label=f"{family}, printed")
    axes.axhline(1, color=BLACK, lw=1)
    axes.set(xlabel="δ of the components", ylabel="merged / mixed")
    axes.legend(fontsize=8)
    return figure


def dual_capability(curves: pd.DataFrame, families: Sequence[str]) -> Figure:
    """Two capabilities along the way between two experts: mixed (dots), merged and ensemble (lines), per schedule.

    Columns: the two `families` (bits per byte), type, schedule, share of the second expert.
    """
    schedules = list(pd.unique(curves["schedule"]))
    figure, panels = plt.subplots(
        len(schedules), len(families), figsize=(4.2 * len(families), 2.9 * len(schedules)), sharex=True, squeeze=False
    )
    for row, schedule in zip(panels, schedules, strict=True):
        for axes, family in zip(row, families, strict=True):
            for kind, table in curves[curves["schedule"] == schedule].groupby("type", sort=False):
                axes.plot(table["share"], table[family], "o" if kind == "mixed" else "-", ms=5,
                          color=PROXY_COLOURS[kind], label=kind)  # fmt: skip
            axes.set(title=f"{family}, {schedule} rate", xlabel="weight of the code expert", ylabel="bits per byte")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def landscape(surface: pd.DataFrame, families: Sequence[str]) -> Figure:
    """Bits per byte of each family over the triangle of three domains, by merged weights and by mixed probabilities.

    Columns: share_<domain> (three), score_<family>, type.
    """
    domains = [name for name in surface if name.startswith("share_")]
    types = list(pd.unique(surface["type"]))
    figure, panels = plt.subplots(
        len(types), len(families), figsize=(3.4 * len(families), 2.9 * len(types)), squeeze=False
    )
    for column, family in enumerate(families):
        limits = surface[f"score_{family}"].agg(["min", "max"])
        for row, kind in enumerate(types):
            table, axes = surface[surface["type"] == kind], panels[row, column]
            place = table[domains].to_numpy() @ TRIANGLE
            score = table[f"score_{family}"].to_numpy()
            drawn = axes.tripcolor(
                Triangulation(*place.T),
                score,
                shading="gouraud",
                cmap="viridis_r",
                vmin=limits.min(),
                vmax=limits.max(),
            )
            best = place[score.argmin()]
            axes.scatter(*best, color=VERMILION, marker="*", s=90, zorder=3)
            for corner, name in zip(TRIANGLE, domains, strict=True):
                aside = (0, 4) if corner[1] else (0, -10)
                label = name.removeprefix("share_")
                axes.annotate(label, corner, ha="center", fontsize=8, xytext=aside, textcoords="offset points")
            axes.set(title=f"{family}, {kind}", aspect="equal")
            axes.axis("off")
            figure.colorbar(drawn, ax=axes, shrink=0.7)
    return figure


def stages(corpora: pd.DataFrame) -> Figure:
    """Families' shares of each training stage, and epochs per source over all stages (DeMix Table 10).

    Columns: domain, source, amount_b, stage1_b, stage2_b, stage3_b (billions of tokens).
    """
    columns = ["stage1_b", "stage2_b", "stage3_b"]
    shares = corpora.groupby("domain", sort=False)[columns].sum()
    shares = shares / shares.sum()
    epochs = (corpora[columns].sum(axis=1) / corpora["amount_b"]).set_axis(corpora["source"])
    colour = {"General": FAMILY_COLOURS["general"], "Math": FAMILY_COLOURS["math"], "Code": FAMILY_COLOURS["code"]}
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 7), width_ratios=[1, 1.6])
    floor = np.zeros(3)
    for domain, row in shares.iterrows():
        left.bar(["stage 1", "stage 2", "stage 3"], row, bottom=floor, color=colour.get(domain, GREY), label=domain)
        floor += row.to_numpy()
    left.set(ylabel="share of the stage's tokens")
    left.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1))
    right.barh(epochs.index, epochs, color=[colour.get(domain, GREY) for domain in corpora["domain"]])
    right.invert_yaxis()
    right.axvline(1, color=BLACK, lw=1)
    right.tick_params(axis="y", labelsize=7)
    right.set(xlabel="epochs over all stages")
    figure.tight_layout()
    return figure


def proxy_counts(counts: pd.DataFrame) -> Figure:
    """What winners of searches score, by number of proxies scored: as their own proxy believes, and as judged.

    Columns: proxies, kind, believed and level (means over the families in standard deviations of the references; lower
    is better). One panel per kind of proxy, a dot per seed, lines through the means.
    """
    kinds = list(pd.unique(counts["kind"]))
    figure, panels = plt.subplots(
        1, len(kinds), figsize=(4.2 * len(kinds), 3.2), sharex=True, sharey=True, squeeze=False
    )
    drawn = {"believed": (GREY, "as its proxy believes"), "level": (VERMILION, "as the ensemble judges")}
    for axes, kind in zip(panels[0], kinds, strict=True):
        rows = counts[counts["kind"] == kind]
        for column, (colour, label) in drawn.items():
            axes.scatter(rows["proxies"], rows[column], color=colour, s=16, alpha=0.5)
            means = rows.groupby("proxies")[column].mean()
            axes.plot(means.index, means, color=colour, marker="o", label=label)
        axes.set(title=f"searched on {kind}", xlabel="proxies scored", xscale="log")
        sizes = sorted(set(rows["proxies"]))
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
        axes.minorticks_off()
    panels[0, 0].set(ylabel="level of the winner")
    panels[0, 0].legend(fontsize=8)
    figure.tight_layout()
    return figure


def partition(quality: pd.DataFrame, references: int) -> Figure:
    """Places of winners found with coarse and with fine candidates: a dot per seed, a bar at the mean.

    Columns: strategy (kind of proxy), candidates, place among `references` + 1 models.
    """
    groups = list(quality.groupby(["strategy", "candidates"], sort=False))
    figure, axes = plt.subplots(figsize=(6.2, 0.9 + 0.4 * len(groups)))
    for height, ((kind, _), rows) in enumerate(groups):
        axes.scatter(rows["place"], [height] * len(rows), color=PROXY_COLOURS[kind], s=24, alpha=0.6)
        axes.scatter(rows["place"].mean(), height, color=PROXY_COLOURS[kind], marker="|", s=300, lw=3)
    axes.set_yticks(range(len(groups)), [f"{kind}, {candidates} candidates" for (kind, candidates), _ in groups])
    axes.set(xlabel=f"place of the trained winner among {references} references (1 = best)", xlim=(0, references + 2))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    return figure
