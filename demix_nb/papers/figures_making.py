"""Figures of the study of how models are made: schedules of components, and large models that begin as small ones.

Tables in, figure out. A point is a base, a larger one the mean over bases with its 95 % interval.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demix_nb.figures import marks
from demix_nb.figures.colours import GREY, INK
from demix_nb.papers.making import WINDOW, over_bases

SHOWN = {
    "rho_macro": "ρ, mean of the families",
    "rho_rank": "ρ of the macro rank",
    "error": "mean error, bits per byte",
}
JUDGES = {"annealed": (INK, -0.12), "alike": (GREY, 0.12)}  # references → colour, aside of the row


def averaging(table: pd.DataFrame) -> Figure:
    """Fidelity of merged proxies by the schedule of their components, judged by annealed references or such made alike.

    Columns: schedule, judged, base, measure, value; of index `proxy` the merged ones are drawn.
    """
    rows = table.loc[["merged"]]
    names = list(pd.unique(rows["schedule"]))
    figure, (grid,) = marks.canvas(1, len(SHOWN), height=2.6, sharey=True)
    for axes, (measure, told) in zip(grid, SHOWN.items(), strict=True):
        for judged, (colour, aside) in JUDGES.items():
            mine = rows[(rows["measure"] == measure) & (rows["judged"] == judged)]
            _means(axes, mine, "schedule", names, colour, aside, f"references {judged}")
        axes.set(xlabel=told)
    marks.rows(grid[0], names)
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def growing(table: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Left, losses of a large base from random weights and from the small one, grown; right, how far orders agree.

    `table`: proxy, references, base, measure, value. `curves`: way, base, tokens, loss, drawn as means of WINDOW.
    """
    figure, ((left, right),) = marks.canvas(1, 2, height=3.2)
    for way, colour, dash in (("own base", GREY, "--"), ("grown base", INK, "-")):
        for number, (_, mine) in enumerate(curves[curves["way"] == way].groupby("base")):
            smooth = mine.set_index(mine["tokens"] / 1e6)[["loss"]].rolling(WINDOW).mean().dropna()
            line = smooth.rename(columns={"loss": "value"})
            marks.lines(left, line, dash=dash, colour=colour, label="" if number else _called(way))
    left.set(xlabel="tokens that the large base has read, millions", ylabel="loss, nats per token")
    left.legend()
    rows = table[table["measure"] == "rho_rank"].reset_index()
    rows["pair"] = rows["proxy"].map(_ordered) + "\norder " + rows["references"].map(_ordered)
    names = list(pd.unique(rows["pair"]))
    _means(right, rows, "pair", names, INK, 0.0, "")
    marks.rows(right, names)
    right.set(xlabel="ρ of the macro rank, large references")
    return figure


def _called(way: str) -> str:
    return {"own base": "from random weights", "grown base": "from the small one, grown"}[way]


def _ordered(way: str) -> str:
    return {"small": "small models", "own base": "own base's", "grown base": "grown base's",
            "grown reference": "grown references"}[way]  # fmt: skip


def _means(axes: Axes, rows: pd.DataFrame, by: str, names: list[str], colour: str, aside: float, label: str) -> None:
    """A row for each name: every base's value as a point, and their mean with its interval."""
    means = over_bases(rows, [by]).loc[names]
    at = {name: height for height, name in enumerate(names)}
    marks.points(axes, rows["value"], rows[by].map(at) + aside, colour=colour, size=8)
    marks.dots(axes, means, colour=colour, label=label, aside=aside)
