"""Figures of the RegMix replay: each beside what the paper (arXiv 2407.01492) printed. Tables in, figure out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from demix_nb.colours import BLACK, BLUE, GREY, METHOD_COLOURS, SKY, VERMILION
from demix_nb.figures_regression import label, signed_heatmap


def rank_invariance(comparison: pd.DataFrame) -> Figure:
    """Table 2: ρ replayed with its interval, and the printed value; index predictor × test set, in percent."""
    figure, axes = plt.subplots(figsize=(6.4, 3))
    y = np.arange(len(comparison))[::-1]
    axes.hlines(y, comparison["low"], comparison["high"], color=SKY, lw=6, alpha=0.5)
    axes.scatter(comparison["rho"], y, color=BLUE, label="replayed, 95 % interval", zorder=3)
    axes.scatter(comparison["printed"], y, color=BLACK, marker="|", s=180, label="printed", zorder=4)
    axes.set_yticks(y, [f"{label(predictor)} on {test}" for predictor, test in comparison.index])
    axes.set(xlabel="Spearman's ρ, %", title="RegMix Table 2: fitted to 512 × 1M, tested on unseen mixtures")
    axes.legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    return figure


def downstream(correlations: pd.DataFrame) -> Figure:
    """Figure 5a: correlation of minus the validation loss (rows) with downstream scores (columns), 1B models."""
    figure = signed_heatmap(correlations, "Figure 5a: which validation loss tells downstream scores?",
                            unit="Pearson's r of −loss and score", annotate=True)  # fmt: skip
    figure.axes[0].set(ylabel="validation loss on", xlabel="")
    return figure


def own_weight(mixtures: pd.DataFrame, losses: pd.DataFrame) -> Figure:
    """Figure 8: loss of each domain against its own share, both axes logarithmic."""
    figure, panels = plt.subplots(3, 5, figsize=(12, 6.6))
    for axes, domain in zip(panels.flat, losses, strict=False):
        share = mixtures[domain].clip(lower=5e-4)  # zero has no logarithm: drawn at the left edge
        axes.scatter(share, losses[domain], s=6, alpha=0.5, color=BLUE, lw=0)
        axes.set(xscale="log", yscale="log", title=domain, xticks=[1e-3, 1e-2, 0.1])
        axes.set_yticks(range(2, 9), range(2, 9))
        axes.set_xticklabels(["0.001", "0.01", "0.1"])
        axes.set_ylim(0.95 * losses[domain].min(), 1.05 * losses[domain].max())
        axes.minorticks_off()
        axes.tick_params(labelsize=8)
    for axes in panels.flat[losses.shape[1] :]:
        axes.axis("off")
    figure.supxlabel("share of the domain in training (0 drawn at 0.0005)", fontsize="medium")
    figure.supylabel("validation loss on the domain, nats", fontsize="medium")
    figure.tight_layout()
    return figure


def found_mixtures(mixtures: pd.DataFrame) -> Figure:
    """Table 7: shares of the mixtures found and printed, one group of bars per domain; index names the mixture."""
    shown = mixtures.loc[:, mixtures.max() >= 0.005]
    order = shown.iloc[0].sort_values(ascending=False).index
    figure, axes = plt.subplots(figsize=(10, 3.4))
    tidy = shown[order].rename_axis("mixture").reset_index().melt("mixture", var_name="domain", value_name="share")
    palette = dict(zip(mixtures.index, [BLACK, SKY, VERMILION, GREY, "#C8C8C8"], strict=False))
    sns.barplot(tidy, x="domain", y="share", hue="mixture", palette=palette, ax=axes)
    axes.set(xlabel="", ylabel="share", ylim=(0, 1.1), title="Table 7: the mixture for Pile-CC")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_yticks([0, 0.01, 0.1, 1], ["0", "0.01", "0.1", "1"])
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=40, ha="right")
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def top_distributions(tops: dict[str, pd.DataFrame]) -> Figure:
    """Figure 14: shares per domain in the top predicted mixtures, by what the predictor was fitted to; log scale."""
    parts = [table.clip(lower=1e-4).melt(var_name="domain", value_name="share").assign(fitted=name)
             for name, table in tops.items()]  # fmt: skip
    figure, axes = plt.subplots(figsize=(11, 3.6))
    sns.boxplot(pd.concat(parts), x="domain", y="share", hue="fitted", palette=[SKY, BLUE, VERMILION], ax=axes,
                whis=(5, 95), showfliers=False, linewidth=0.7)  # fmt: skip
    axes.set(yscale="log", xlabel="", ylabel="share, 5 %–95 %", title="Figure 14: top 1,024 predicted mixtures")
    axes.set_yticks([1e-4, 1e-3, 1e-2, 0.1, 1], ["≤ 0.0001", "0.001", "0.01", "0.1", "1"])
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=40, ha="right")
    axes.legend(fontsize=8, title="fitted to", loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def choice_of_64(predicted: pd.DataFrame, actual: pd.Series) -> Figure:
    """Figure 2 (right), per predictor: predicted against true loss of the 1B models; the chosen one is the star."""
    figure, panels = plt.subplots(
        1, predicted.shape[1], figsize=(2.9 * predicted.shape[1], 3), sharey=True, squeeze=False
    )
    for axes, name in zip(panels[0], predicted, strict=True):
        guess, chosen = predicted[name], predicted[name].idxmin()
        axes.scatter(guess, actual, s=14, color=METHOD_COLOURS.get(name, BLACK), alpha=0.7, lw=0)
        axes.scatter(guess[chosen], actual[chosen], marker="*", s=160, color=VERMILION, edgecolor="white", zorder=3)
        axes.set(title=label(name), xlabel="predicted for 1M")
    panels[0][0].set_ylabel("Pile-CC loss of the 1B model, nats")
    figure.tight_layout()
    return figure
