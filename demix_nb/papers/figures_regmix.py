"""Figures of the RegMix replay, each beside what the paper (arXiv 2407.01492) printed. Tables in, figure out.

The replay's tables are written by its notebook; `printed` values stand in them, beside ours.
"""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from demix_nb.figures import marks, regression
from demix_nb.figures.colours import GREY, INK, PALE

LEAST = 5e-4  # a share of zero has no logarithm: drawn here
SHAPES = "osD^v"  # of what is compared in one row, in the table's order


def rank_invariance(comparison: pd.DataFrame) -> Figure:
    """Table 2: ρ replayed with its 95 % interval (dot), and the printed value (bar).

    `comparison`: index predictor, columns test, rho, low, high, printed, in percent.
    """
    figure, ((axes,),) = marks.canvas(height=1.1 + 0.34 * len(comparison))
    marks.dots(axes, comparison.rename(columns={"rho": "value"}), label="replayed, 95 % interval")
    axes.scatter(comparison["printed"], range(len(comparison)), color=INK, marker="|", s=260, label="printed")
    tests = zip(comparison.index, comparison["test"], strict=True)
    marks.rows(axes, [f"{regression.label(name)} on {test}" for name, test in tests])
    axes.set(xlabel="Spearman's ρ on unseen mixtures, percent; fitted to 512 runs of 1M parameters")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def learning_curves(curve: pd.DataFrame, comparison: pd.DataFrame, *, least: float = 0.7) -> Figure:
    """Figure 4: ρ against the number of runs, a panel per test set, a line per predictor; dashed: printed for 512."""
    figure = regression.learning_curves(curve, least=least)
    printed = comparison.loc["lightgbm_regmix"].set_index("test")["printed"]
    for axes in figure.axes:
        axes.axhline(printed[axes.get_title()] / 100, color=GREY, ls="--", lw=1)
    return figure


def choice_of_64(predictions: pd.DataFrame, *, test: str = "1B") -> Figure:
    """Figure 2 (right): predicted against true loss of the 1B models, per predictor; the chosen one is the star.

    `predictions`: index mixture, columns predictor, test, task, predicted, true.
    """
    mine = predictions[predictions["test"] == test]
    shown = list(pd.unique(mine["predictor"]))
    figure, grid = marks.panels(len(shown), height=2.9, sharey=True)
    for axes, name in zip(grid, shown, strict=True):
        rows = mine[mine["predictor"] == name]
        best = rows.loc[rows["predicted"].idxmin()]
        marks.points(axes, rows["predicted"], rows["true"], colour=GREY)
        marks.points(axes, [best["predicted"]], [best["true"]], marker="*", size=150)
        axes.set(title=regression.label(name), xlabel="predicted for 1M, nats")
    grid[0].set_ylabel(f"{mine['task'].iloc[0]} loss of the {test} model, nats")
    return figure


def found_mixtures(mixtures: pd.DataFrame) -> Figure:
    """Table 7: shares of the mixtures found (filled) and printed (hollow), a row per domain above half a percent.

    `mixtures`: index domain, columns mixture, share, printed; domains by their share in the first mixture.
    """
    largest = mixtures.groupby(level=0)["share"].max()
    first = mixtures[mixtures["mixture"] == mixtures["mixture"].iloc[0]]["share"]
    domains = first[largest[first.index] >= 0.005].sort_values(ascending=False).index
    figure, ((axes,),) = marks.canvas(height=1.3 + 0.3 * len(domains))
    for (name, mine), shape in zip(mixtures.groupby("mixture", sort=False), SHAPES, strict=False):
        printed = mine["printed"].any()
        axes.scatter(mine.loc[domains, "share"].clip(lower=LEAST), range(len(domains)), label=name, marker=shape, s=44,
                     edgecolors=INK, facecolors="none" if printed else PALE, zorder=4 if printed else 3)  # fmt: skip
    _shares(axes, domains)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _shares(axes, domains: pd.Index) -> None:
    """Name a row per domain, and lay out the logarithmic axis of shares."""
    marks.rows(axes, domains)
    axes.set(xscale="log", xlim=(0.8 * LEAST, 1.1), xlabel=f"share of the mixture (below {LEAST:g}: drawn there)")
    axes.set_xticks([1e-3, 1e-2, 0.1, 1], ["0.001", "0.01", "0.1", "1"])


def top_distributions(tops: pd.DataFrame) -> Figure:
    """Figure 14: shares in the 1,024 best predicted mixtures, mean and 5–95 %, by what the predictor was fitted to.

    `tops`: index domain, columns fitted, value, low, high; domains with a mean above half a percent, largest first.
    """
    means = tops.groupby(level=0)["value"].max()
    domains = means[means > 0.005].sort_values(ascending=False).index
    fits = list(pd.unique(tops["fitted"]))
    figure, ((axes,),) = marks.canvas(height=1.2 + 0.45 * len(domains))
    for number, fitted in enumerate(fits):
        mine = tops[tops["fitted"] == fitted].loc[domains, ["value", "low", "high"]].clip(lower=LEAST)
        aside = 0.26 * (number - (len(fits) - 1) / 2)
        marks.dots(axes, mine, marker=SHAPES[number], aside=aside, label=f"fitted to {fitted}", hollow=number > 0)
    _shares(axes, domains)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def downstream(correlations: pd.DataFrame) -> Figure:
    """Figure 5a: correlation of minus the validation loss (rows) with downstream scores (columns), 1B models."""
    figure, ((axes,),) = marks.canvas(height=1.7 + 0.28 * len(correlations))
    marks.heat(axes, correlations, unit="Pearson's r of −loss and score", most=1)
    axes.set(ylabel="validation loss on")
    return figure


def own_weight(mixtures: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    """Figure 8: loss of each domain against its own share, both axes logarithmic; shares of 0 at the left edge."""
    figure, grid = marks.panels(losses.shape[1], across=4, height=1.7)
    for axes, domain in zip(grid, losses, strict=True):
        marks.points(axes, mixtures[domain].clip(lower=LEAST), losses[domain], size=5)
        axes.set(xscale="log", yscale="log", title=domain)
        axes.set_ylim(0.95 * losses[domain].min(), 1.05 * losses[domain].max())
        axes.set_xticks([1e-3, 1e-2, 0.1], ["0.001", "0.01", "0.1"])
        ticks = np.unique(np.quantile(losses[domain], [0, 0.5, 1]).round(1))
        axes.set_yticks(ticks, ticks)
        axes.minorticks_off()
        axes.tick_params(labelsize=7.5)
    figure.supxlabel("share of the domain in training", fontsize="medium")
    figure.supylabel("validation loss on the domain, nats per token", fontsize="medium")
    return figure
