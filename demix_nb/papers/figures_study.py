"""Figures of the study behind the papers' notebooks: kinds of proxy, strategies, landscapes, stages.

Tables in, figure out, as in `demix_nb.figures`; what is printed in a paper is drawn grey beside what was measured here.
"""

from collections.abc import Sequence
from itertools import product

import matplotlib.pyplot as plt
import mpltern  # noqa: F401, registers matplotlib's ternary projection
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from demix_nb.figures import colours, marks
from demix_nb.figures.colours import GREY, INK
from demix_nb.figures.pipeline import CEILING, REFERENCE, kind_label, quality
from demix_nb.papers.readings import merged_over_trained, printed_merged_over_trained
from demix_nb.proxies import KINDS

CORNERS = (1.07, -0.035, -0.035), (-0.16, 1.08, 0.08), (-0.16, 0.08, 1.08)  # of a triangle, where their names stand


def kinds(report: pd.DataFrame) -> Figure:
    """Every kind of proxy with its cost, ρ over the families (filled) and of the macro rank (hollow), and its error.

    Columns: measure, value, low, high, tokens (training tokens of a search), budget; the band is a second seed.
    """
    rows = report.set_index(["budget", "measure"], append=True).drop(index=CEILING, level=0)
    by = {measure: rows.xs(measure, level="measure") for measure in ("rho_macro", "rho_rank", "error")}
    order = by["rho_rank"]["value"].sort_values(ascending=False).index
    figure, ((axes,),) = marks.canvas(height=1.1 + 0.4 * len(order))
    shape = [KINDS[kind].marker for kind, _ in order]
    marks.dots(axes, by["rho_macro"].loc[order], marker=shape, aside=-0.16)
    marks.dots(axes, by["rho_rank"].loc[order], marker=shape, aside=0.16, hollow=True)
    ceiling = report.loc[CEILING].set_index("measure")
    marks.band(axes, ceiling.loc["rho_rank"], "", across=True)
    cost = by["error"]["tokens"] / 1e6
    marks.rows(axes, [f"{kind_label(*key)}\n{cost[key]:.1f} M tokens" for key in order])
    for height, key in enumerate(order):
        axes.text(1.05, height, f"{by['error'].loc[key, 'value']:.3f}", va="center")
    above = {"va": "bottom", "fontsize": marks.SMALL}
    axes.text(1.05, -0.65, "error,\nbits/byte", **above)
    axes.text(1.01, -0.65, "grey: second seed of the references, macro rank", ha="right", **above)
    axes.set(xlabel="Spearman's ρ with the references\nmean over the families (filled), macro rank (hollow)")
    axes.set_xlim(None, 1.02)
    return figure


MAPPED = {
    "rho_macro": "ρ, mean of\nthe families",
    "rho_rank": "ρ of the\nmacro rank",
    "error": "error / spread\nof references",
}
LINES = {
    "merged": "-",
    "mixed": marks.DASHES[1],
    "blended": marks.DASHES[3],
    "trained": marks.DASHES[2],
    CEILING: ":",
}


def regimes(table: pd.DataFrame, *, suite: str = "heldout") -> Figure | None:
    """What kind of proxy to trust, regime by regime, against δ of the components; means over bases, each a point.

    Columns: base, share, delta, suite, proxy, budget, measure, value. Errors are mean absolute ones in standard
    deviations of the references over mixtures. Of trained proxies the dearest are shown.
    """
    rows = table[table["suite"] == suite]
    if rows.empty:
        return None
    key = ["regime", "base", "share"]
    spread = rows.query("proxy == 'bracket' and measure == 'spread'").reset_index().set_index(key)["value"]
    rows = rows[rows["measure"].isin(MAPPED) & rows["proxy"].isin(LINES)].reset_index().set_index(key)
    scaled = rows["measure"] == "error"
    rows.loc[scaled, "value"] /= spread.reindex(rows.index[scaled]).to_numpy()
    rows = rows.reset_index()
    dearest = rows["budget"].where(rows["proxy"] == "trained").groupby([rows[name] for name in key]).transform("max")
    rows = rows[(rows["proxy"] != "trained") | (rows["budget"] == dearest)]
    names = list(dict.fromkeys(rows["regime"]))
    figure, grid = marks.canvas(3, len(names), height=6.0, sharey="row", sharex="col")
    for (down, measure), (across, name) in product(enumerate(MAPPED), enumerate(names)):
        _regime(grid[down, across], rows[(rows["measure"] == measure) & (rows["regime"] == name)])
        grid[down, across].set(title=name if not down else "", ylabel="" if across else MAPPED[measure])
    for axes in grid[-1]:
        marks.plain_log(axes.xaxis)
        axes.set(xlabel="δ of components, %")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return figure


def _regime(axes: Axes, rows: pd.DataFrame) -> None:
    """A line per kind of proxy through its means over bases, and every base's value as a point."""
    for kind, dash in LINES.items():
        mine, grey = rows[rows["proxy"] == kind], kind == CEILING
        if len(mine):
            means = mine.groupby("share")[["delta", "value"]].mean()
            look = {"marker": "" if grey else KINDS[kind].marker, "colour": GREY if grey else INK}
            label = "second seed" if grey else KINDS[kind].label
            marks.lines(axes, means.set_index(means["delta"] * 100)[["value"]], dash=dash, label=label, **look)
            marks.points(axes, mine["delta"] * 100, mine["value"], size=5, colour=look["colour"])


def strategies(summary: pd.DataFrame, *, left_out: Sequence[str] = ("general only",)) -> Figure:
    """Level of every strategy's trained winners, mean over seeds with 95 % interval, best on top.

    Columns: measure, value, low, high. `left_out` are so far off that the others could not be told apart.
    """
    rows = summary[summary["measure"] == "level"].drop(index=list(left_out), errors="ignore").sort_values("value")
    figure, ((axes,),) = marks.canvas(height=0.9 + 0.3 * len(rows))
    marks.dots(axes, rows)
    marks.rows(axes, rows.index)
    axes.set(xlabel="families' mean, standard deviations of the references (lower is better)")
    return figure


def budgets(report: pd.DataFrame) -> Figure:
    """Fidelity against the tokens of a component, merged and mixed, with 95 % intervals.

    Columns: measure, value, low, high, share (tokens per component / tokens per reference).
    """
    rows = report[report["measure"] == "rho_macro"]
    figure, ((axes,),) = marks.canvas(height=3.4)
    for kind, table in rows.groupby(level=0, sort=False):
        marks.lines(axes, table.set_index("share").sort_index(), marker=KINDS[kind].marker)
    axes.set(xlabel="tokens per component / tokens per reference", ylabel="Spearman's ρ, mean over the families")
    marks.plain_log(axes.xaxis)
    shares = sorted(set(rows["share"]))
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    last = rows.sort_values("share").groupby(level=0)["value"].last()
    marks.ends(axes, {kind_label(kind): height for kind, height in last.items()})
    return figure


def consistency(ours: pd.DataFrame, printed: pd.DataFrame) -> Figure:
    """Merged over trained score against the size δ of the updates: ours in the family's colour, DeMix's Table 12 grey.

    `ours`: family scores of both types (bits per byte, so that the ratio is inverted) by share and delta. 1 means that
    the merge is as good; `printed`: columns delta_percent, consistency_<family>.
    """
    here, told = merged_over_trained(ours), printed_merged_over_trained(printed)
    families = [name for name in ("math", "code") if name in here]
    figure, ((axes,),) = marks.canvas(height=3.4)
    hue, at = colours.families(families), {}
    for family, dash in zip(families, ("-", "--"), strict=True):
        marks.lines(axes, here[family].to_frame("value"), marker="o", colour=hue[family], dash=dash)
        paper = told[family].to_frame("value")
        marks.lines(axes, paper, marker="o", colour=GREY, dash=dash)
        at |= {f"{family}, here": here[family].iloc[-1], f"{family}, printed": paper["value"].iloc[-1]}
    axes.axhline(1, color=INK, lw=0.8)
    axes.set(xlabel="δ of the components, share of their weights", ylabel="merged / trained score (1 = as good)")
    marks.ends(axes, at)
    return figure


def dual_capability(curves: pd.DataFrame, corpora: pd.DataFrame) -> Figure:
    """Two capabilities along the way between two experts: really trained (diamonds), merged and mixed (lines).

    `curves`: bits per byte by family, type, schedule, share of the second expert, the two experts left and right.
    """
    left, right = curves["left"].iloc[0], curves["right"].iloc[0]
    families = [corpora.loc[name, "family"] for name in (left, right)]
    schedules, hue = list(pd.unique(curves["schedule"])), colours.families(corpora["family"])
    figure, grid = marks.canvas(len(schedules), len(families), height=2.6 * len(schedules), sharex=True)
    for row, schedule in zip(grid, schedules, strict=True):
        for axes, family in zip(row, families, strict=True):
            mine = curves[curves["schedule"] == schedule].set_index("share")
            _capability(axes, mine, family, hue[family])
            axes.set(title=f"{family}, {schedule} learning rate", ylabel="bits per byte")
    for axes in grid[-1]:
        axes.set(xlabel=f"weight of the {right} expert")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _capability(axes: Axes, table: pd.DataFrame, family: str, colour: str) -> None:
    trained = table[table["type"] == "reference"]
    marks.points(axes, trained.index, trained[family], colour=INK, marker=REFERENCE[1], size=40, label=REFERENCE[0])
    for kind, dash in (("merged", "-"), ("mixed", "--")):
        line = table[table["type"] == kind][family].to_frame("value")
        marks.lines(axes, line, dash=dash, colour=colour, label=kind_label(kind))


def landscape(surface: pd.DataFrame, corpora: pd.DataFrame) -> Figure:
    """Bits per byte of each family over the triangle of three candidates, merged and mixed; the star is the best point.

    Columns: share_<candidate> (three), score_<family>, type. Each family in its own colour, dark is good.
    """
    corners = {f"share_{name}": name for name in corpora.index}
    shares = surface[[name for name in surface if name in corners]].rename(columns=corners)
    hue = colours.families(corpora["family"])
    families, types = [name for name in hue if f"score_{name}" in surface], list(pd.unique(surface["type"]))
    figure, grid = marks.canvas(len(types), len(families), height=6, subplot_kw={"projection": "ternary"})
    for column, family in enumerate(families):
        score = surface[f"score_{family}"]
        levels = np.linspace(score.min(), score.max(), 9)
        scale = LinearSegmentedColormap.from_list(family, [colours.at(hue[family], 0.07), hue[family], "white"])
        for axes, kind in zip(grid[:, column], types, strict=True):
            mine = surface["type"] == kind
            drawn = _surface(axes, shares[mine], score[mine], levels, scale)
            axes.set_title(f"{family}, {kind}", pad=22)
        bar = figure.colorbar(drawn, ax=list(grid[:, column]), location="bottom", format="%.1f", shrink=0.9, aspect=14)
        bar.set_label("bits per byte\n← better")
        bar.set_ticks(levels[::4])
    return figure


def _surface(axes: Axes, shares: pd.DataFrame, score: pd.Series, levels: np.ndarray, scale: LinearSegmentedColormap):
    place = shares.to_numpy().T
    drawn = axes.tricontourf(*place, score, levels=levels, cmap=scale)
    axes.tricontour(*place, score, levels=levels, colors=INK, linewidths=0.4)
    best = place[:, [score.to_numpy().argmin()]]
    axes.scatter(*best, marker="*", s=110, color="white", edgecolors=INK, zorder=4, clip_on=False)
    for corner, name, side in zip(CORNERS, shares, ("bottom", "top", "top"), strict=True):
        axes.text(*corner, name, ha="center", va=side, fontsize=marks.SMALL)
    for axis in (axes.taxis, axes.laxis, axes.raxis):
        axis.set_ticks([0.25, 0.5, 0.75])
    axes.tick_params(labelsize=6.5, length=3, pad=2)
    axes.grid(False)
    return drawn


def mixtures(winners: pd.DataFrame, models: pd.DataFrame, corpora: pd.DataFrame) -> Figure:
    """Mean winner of each strategy, in percentage points above (blue) or below (red) the uniform mixture.

    `winners`: a mixture per trained winner; `models`: their strategies.
    """
    shares = winners.groupby(models["strategy"], sort=False).mean()[list(corpora.index)]
    points = 100 * (shares - 1 / shares.shape[1])
    figure, ((axes,),) = marks.canvas(height=1.5 + 0.3 * len(shares))
    marks.heat(
        axes,
        points.where(points.abs() >= 0.5, 0.0),  # or a share a little below is written as -0
        unit="share minus the uniform one, percentage points",
        written="+.0f",
    )
    hue = colours.families(corpora["family"])
    for tick, family in zip(axes.get_xticklabels(), corpora["family"], strict=True):
        tick.set_color(hue[family])
    return figure


def proxy_counts(counts: pd.DataFrame) -> Figure:
    """Level of searches' winners by number of proxies scored: as their own proxy believes, and as the mixed one judges.

    Columns: proxies, kind, believed and level (means over the families in standard deviations of the references). A
    panel per kind of proxy, a dot per seed, lines through the means.
    """
    shown = list(pd.unique(counts["kind"]))
    figure, grid = marks.panels(len(shown), across=2, height=3.2, sharey=True)
    for axes, kind in zip(grid, shown, strict=True):
        rows = counts[counts["kind"] == kind]
        for column, colour, dash, told in (("believed", GREY, "--", "as its proxy believes"),
                                           ("level", INK, "-", "as the mixed proxy judges")):  # fmt: skip
            marks.points(axes, rows["proxies"], rows[column], colour=colour, size=12)
            means = rows.groupby("proxies")[column].mean().to_frame("value")
            marks.lines(axes, means, dash=dash, marker="o", colour=colour, label=told)
        axes.set(title=f"searched on {kind} proxies", xlabel="proxies scored", xscale="log")
        axes.set_xticks(sizes := sorted(set(rows["proxies"])), sizes)
        axes.minorticks_off()
    grid[0].set_ylabel("level of the winner, standard deviations\nof the references (lower is better)")
    grid[0].legend()
    return figure


def partition(models: pd.DataFrame, references: pd.DataFrame) -> Figure:
    """Places of winners found with coarse and with fine candidates: a dot per seed, a line and a number at their mean.

    Columns: strategy (kind of proxy), candidates (how many), seed, place among the references.
    """
    named = models["strategy"] + ", " + models["candidates"].astype(str) + " candidates"
    return quality(models.assign(strategy=named), references)


def stages(corpora: pd.DataFrame) -> Figure:
    """Families' shares of each training stage, and epochs per source over all stages (DeMix Table 10).

    Columns: domain, source, amount_b, stage1_b, stage2_b, stage3_b (billions of tokens).
    """
    columns = ["stage1_b", "stage2_b", "stage3_b"]
    shares = corpora.groupby("domain", sort=False)[columns].sum()
    shares = (shares / shares.sum()).T.set_axis(["stage 1", "stage 2", "stage 3"])
    epochs = (corpora[columns].sum(axis=1) / corpora["amount_b"]).set_axis(corpora["source"])
    hue = {name: colours.families(map(str.lower, shares))[name.lower()] for name in shares}
    figure, (above, below) = plt.subplots(2, 1, figsize=(marks.WIDTH, 2.4 + 0.17 * len(epochs)), layout="constrained",
                                          height_ratios=[1.6, 0.17 * len(epochs)])  # fmt: skip
    marks.bars(above, shares, hue)
    above.set(xlabel="share of the stage's tokens", xlim=(0, 1))
    below.barh(range(len(epochs)), epochs, color=corpora["domain"].map(hue))
    marks.rows(below, epochs.index)
    below.axvline(1, color=INK, lw=1)
    below.tick_params(axis="y", labelsize=7)
    below.set(xlabel="epochs over all stages")
    return figure
