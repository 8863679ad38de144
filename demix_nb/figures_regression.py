"""Figures of what predictors learn: curves, errors, spread, and the interactions they find. Tables in, figure out."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demix_nb.colours import BLACK, GREY, METHOD_COLOURS, VERMILION
from demix_nb.interactions import square

LABELS = {
    "ridge": "ridge", "lightgbm_regmix": "LightGBM (RegMix)", "lightgbm_demix": "LightGBM (DeMix)",
    "lightgbm_bagged": "bagged LightGBM", "gaussian_process": "Gaussian process", "mixing_law": "data mixing law",
    "log_linear": "log-linear law", "ensemble": "ensemble",
}  # fmt: skip


def label(predictor: str) -> str:
    """Return the name a predictor has in figures: its own if we know no better."""
    return LABELS.get(predictor, predictor)


def learning_curves(means: pd.DataFrame, marks: pd.Series | None = None, least: float = 0.7) -> Figure:
    """ρ against the number of runs, a panel per test set, a line per predictor, bars for the 95 % interval.

    `means` is `appraisal.over_subsets`; `marks` draws a dashed line per test set (a printed value). The vertical axis
    begins at `least`; predictors below it leave the panel.
    """
    tests = list(dict.fromkeys(means.index.get_level_values("test")))
    figure, panels = plt.subplots(1, len(tests), figsize=(3.1 * len(tests) + 1.7, 3.6), sharey=True, squeeze=False)
    for axes, test in zip(panels[0], tests, strict=True):
        for predictor, rows in means.xs(test, level="test").groupby(level="predictor", sort=False):
            rho = rows.droplevel("predictor")
            colour = METHOD_COLOURS.get(predictor, GREY)
            axes.plot(rho.index, rho["rho"], "o-", color=colour, label=label(predictor), ms=4, lw=1.5)
            axes.vlines(rho.index, rho["low"], rho["high"], color=colour, lw=3, alpha=0.3)
        if marks is not None and test in marks:
            axes.axhline(marks[test], color=BLACK, ls="--", lw=1)
        axes.set(xscale="log", title=test, xlabel="runs fitted", xticks=(ticks := sorted(set(rho.index))))
        axes.set_xticklabels(ticks)
        axes.minorticks_off()
    panels[0][0].set(ylabel="Spearman's ρ on unseen runs", ylim=(least, 1.005))
    panels[0][-1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8)
    figure.tight_layout()
    return figure


def predicted_against_true(predicted: Mapping[str, pd.Series], actual: pd.Series, what: str) -> Figure:
    """One panel per predictor: what it predicted against what came out, the diagonal is perfection."""
    figure, panels = plt.subplots(1, len(predicted), figsize=(3.1 * len(predicted), 3.2), sharey=True, squeeze=False)
    low, high = actual.min(), actual.max()
    for axes, (name, guess) in zip(panels[0], predicted.items(), strict=True):
        axes.plot([low, high], [low, high], color=GREY, lw=1)
        axes.scatter(actual, guess.loc[actual.index], s=10, alpha=0.6, color=METHOD_COLOURS.get(name, BLACK), lw=0)
        axes.set(title=label(name))
    panels[0][0].set_ylabel("predicted")
    figure.supxlabel(f"true: {what}", fontsize="medium")
    figure.tight_layout()
    return figure


def residuals(predicted: Mapping[str, pd.DataFrame], actual: pd.DataFrame) -> Figure:
    """Residuals in standard deviations of each task, one box per predictor and task: width is error, offset is bias."""
    errors = {name: (table - actual.loc[table.index]) / actual.std() for name, table in predicted.items()}
    parts = [error.melt(var_name="task").assign(predictor=name) for name, error in errors.items()]
    figure, axes = plt.subplots(figsize=(2.5 + 0.75 * actual.shape[1], 3.4))
    sns.boxplot(pd.concat(parts), x="task", y="value", hue="predictor", ax=axes, fliersize=1.5, linewidth=0.7,
                palette={name: METHOD_COLOURS.get(name, GREY) for name in predicted})  # fmt: skip
    axes.axhline(0, color=BLACK, lw=0.8)
    axes.set(xlabel="", ylabel="predicted − true, sd of the task")
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=40, ha="right")
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles, [label(name) for name in names], loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    return figure


def calibration(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Share of unseen runs inside the predicted interval against the interval's level; on the diagonal is honest."""
    figure, axes = plt.subplots(figsize=(4.2, 3.6))
    axes.plot([0.4, 1], [0.4, 1], color=GREY, lw=1, label="honest")
    for name, table in tables.items():
        axes.plot(table.index, table["covered"], "o-", color=METHOD_COLOURS.get(name, BLACK), label=label(name))
    axes.set(xlabel="level of the interval", ylabel="runs inside it", xlim=(0.45, 1), ylim=(0, 1.02))
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure


def signed_heatmap(table: pd.DataFrame, title: str, significant: pd.DataFrame | None = None, axes: Axes | None = None,
                   unit: str = "", annotate: bool = False) -> Figure:  # fmt: skip
    """Blue helps, red hurts, the strongest twentieth in full colour; what is not `significant` is crossed out."""
    if axes is None:
        _, axes = plt.subplots(figsize=(2.4 + 0.42 * table.shape[1], 1.6 + 0.3 * len(table)))
    limit = float(np.nanquantile(np.abs(table.to_numpy()), 0.95))
    sns.heatmap(table, ax=axes, cmap="RdBu", center=0, vmin=-limit, vmax=limit, cbar_kws={"label": unit},
                annot=annotate, fmt=".2f", annot_kws={"size": 6.5}, linewidths=0.4, linecolor="white")  # fmt: skip
    if significant is not None:
        rows, columns = np.nonzero(~significant.to_numpy())
        axes.scatter(columns + 0.5, rows + 0.5, marker="x", s=14, color=GREY, lw=0.8)
    axes.grid(False)
    axes.set(title=title, xlabel="", ylabel="")
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right", fontsize=8)
    axes.tick_params(axis="y", labelsize=8, rotation=0)
    return axes.figure


def effect_matrix(effects: pd.DataFrame, q: pd.DataFrame, title: str, unit: str, level: float = 0.05) -> Figure:
    """Candidate × task effects; crossed out where the false discovery rate exceeds `level`."""
    figure = signed_heatmap(effects, title, q < level, unit=unit)
    figure.axes[0].set(ylabel="more of", xlabel="helps (blue) or hurts (red)")
    return figure


def pair_matrix(pairs: pd.Series, q: pd.Series, title: str, unit: str, level: float = 0.05) -> Figure:
    """Candidate × candidate second differences of one task: more together than apart (blue), or less (red)."""
    certain = square(q)
    return signed_heatmap(square(pairs), title, (certain < level) | certain.isna(), unit=unit)


def pair_path(curves: Mapping[str, pd.Series], title: str, unit: str, points: pd.Series | None = None) -> Figure:
    """A task along the edge from one candidate to another, one line per predictor, scored runs as points."""
    figure, axes = plt.subplots(figsize=(5.2, 3.4))
    for name, curve in curves.items():
        axes.plot(curve.index, curve, color=METHOD_COLOURS.get(name, BLACK), label=label(name))
    if points is not None:
        axes.scatter(points.index, points, color=VERMILION, s=18, label="scored", zorder=3)
    axes.set(title=title, xlabel="share of the second", ylabel=unit)
    axes.legend(fontsize=8)
    figure.tight_layout()
    return figure
