"""Figures of the studies of many candidates and of luck: three ways to spend tokens, seeds of a search, growth.

Tables in, figure out, as in `demix_nb.figures`; every base is a point, lines and dots are means over bases.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demix_nb.fidelity import CEILING
from demix_nb.figures import marks
from demix_nb.figures.colours import GREY, INK

SHAPES = {"whole": "s", "parts": "^", "runs": "X"}  # by what the tokens were spent on


def _spent(name: str) -> str:
    """What a row's tokens were spent on: `mixed, parts` and `runs, gaussian_process` say it on either side."""
    return next((what for what in SHAPES if what in name.split(", ")), "")


def hundred(table: pd.DataFrame, winners: pd.DataFrame) -> Figure:
    """Order of trained mixtures by tokens spent on whole candidates, a hundred parts or runs, and levels of winners.

    `table`: measure, value, base, tokens, references; the upper panels show macro ρ on each set of references.
    `winners`: strategy, level of the really trained winner, base.
    """
    rows = table[(table["measure"] == "rho_macro") & (table.index != CEILING)]
    sets = list(pd.unique(rows["references"]))
    figure, grid = marks.canvas(2, len(sets), height=6.2)
    for axes, which in zip(grid[0], sets, strict=True):
        _orders(axes, rows[rows["references"] == which])
        axes.set(title=f"references {which}")
    for axes in grid[1]:
        axes.remove()
    _levels(figure.add_subplot(grid[1][0].get_gridspec()[1, :]), winners)
    return figure


def _orders(axes: Axes, rows: pd.DataFrame) -> None:
    """A line, or a mark, per row through its means over bases, and every base's value as a point."""
    at = {}
    for name, mine in rows.groupby(level=0, sort=False):
        means = mine.assign(tokens=mine["tokens"] / 1e6).groupby("tokens")["value"].mean().to_frame()
        marks.lines(axes, means, marker=SHAPES[_spent(name)], dash="-" if len(means) > 1 else "")
        marks.points(axes, mine["tokens"] / 1e6, mine["value"], size=8)
        at[name.replace("gaussian_process", "process")] = means["value"].iloc[-1]
    axes.set(xlabel="million tokens of training", ylabel="Spearman's ρ, mean")
    marks.ends(axes, at)


def _levels(axes: Axes, winners: pd.DataFrame) -> None:
    """Every base's winner as a point, their mean as a diamond, best on top."""
    means = winners.groupby("strategy")["level"].mean().sort_values()
    for height, name in enumerate(means.index):
        mine = winners[winners["strategy"] == name]["level"]
        marks.points(axes, mine, [height] * len(mine), size=14, colour=GREY)
    axes.scatter(means, range(len(means)), marker="D", s=30, color=INK, zorder=3)
    marks.rows(axes, means.index)
    axes.set(xlabel="level of the trained winner, standard deviations of the references (lower is better)")


def noise(table: pd.DataFrame) -> Figure:
    """How good a search's winner is and how far it lies from others', by proxies scored, a point per seed and base.

    Columns: kind, proxies, base, real (level by the fused mixed proxy), away, width, noise (of one training run).
    """
    rows, (figure, (left, right)) = table[table["kind"] == "mixed"], marks.panels(2, across=2, height=3.4)
    for base, mine in rows.groupby("base"):
        marks.points(left, mine["proxies"] * (1 + 0.04 * (base - 1)), mine["real"], size=7)
    means = rows.groupby("proxies")["real"].mean().to_frame("value")
    spread = rows["noise"].mean()
    marks.lines(left, means.assign(low=means["value"] - spread, high=means["value"] + spread), marker="o")
    left.set(ylabel="level of the winner, standard deviations\nof the references (lower is better)")
    for column, dash, label in (("away", "-", "winner, from the mean one"), ("width", "--", "width of the tied set")):
        line = rows.groupby("proxies")[column].mean().to_frame("value")
        marks.lines(right, line, dash=dash, marker="o", label=label)
    right.set(ylabel="share of the data")
    right.legend()
    for axes in (left, right):
        axes.set(xlabel="mixed proxies scored", xscale="log")
        axes.set_xticks(sizes := sorted(set(rows["proxies"])), sizes)
        axes.minorticks_off()
    left.set_title("band: noise of one training run", fontsize=marks.SMALL)
    return figure


def growth(table: pd.DataFrame) -> Figure:
    """CPU seconds and most memory of a whole search without training, by number of candidates and step.

    Columns: candidates, cpu, mb; the last step is the whole.
    """
    figure, (left, right) = marks.panels(2, across=2, height=3.6)
    steps, at = list(pd.unique(table.index)), {}
    for number, step in enumerate(steps):
        mine = table.loc[[step]].set_index("candidates")["cpu"].to_frame("value").sort_index()
        whole = step == steps[-1]
        look = {"colour": INK if whole else GREY, "dash": "-" if whole else marks.DASHES[number % len(marks.DASHES)]}
        marks.lines(left, mine, marker="o", **look)
        at[step] = mine["value"].iloc[-1]
    memory = table.loc[[steps[-1]]].set_index("candidates")["mb"].to_frame("value").sort_index()
    marks.lines(right, memory, marker="o")
    left.set(ylabel="CPU seconds, all workers", ylim=(0, None))
    right.set(ylabel="most memory in use, MB", ylim=(0, None))
    for axes in (left, right):
        axes.set(xlabel="candidates", xscale="log")
        axes.set_xticks(sizes := sorted(set(table["candidates"])), sizes)
        axes.minorticks_off()
    marks.ends(left, at)
    return figure
