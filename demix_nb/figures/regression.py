"""Figures of what predictors learn: curves, errors, spread, and the interactions they find.

Tables in, figure out; None where they hold too little to draw.

Predictors have no colours: each has a dash, and its label at the line's end.
"""

from collections.abc import Mapping
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demix_nb.figures import marks
from demix_nb.figures.colours import GREY, INK
from demix_nb.interactions import square
from demix_nb.predictors import PREDICTORS


def label(predictor: str) -> str:
    """Return what a predictor is called in figures: its own name where no row knows better."""
    return PREDICTORS[predictor].label if predictor in PREDICTORS else predictor


def dash(predictor: str) -> object:
    """Return how a predictor's line is dashed."""
    return PREDICTORS[predictor].dash if predictor in PREDICTORS else "-"


def learning_curves(curve: pd.DataFrame, *, least: float | None = None) -> Figure | None:
    """Spearman's ρ against the number of runs, a panel per test set, a line per predictor, with 95 % intervals.

    `curve`: index predictor, columns runs, test, rho, low, high (`judging.over_subsets`). The vertical axis begins at
    `least`, or at the tenth below the lowest ρ; what is below leaves the panel.
    """
    if curve["rho"].isna().all():
        return None
    tests = list(pd.unique(curve["test"]))
    figure, grid = marks.panels(len(tests), height=3.6, sharey=True)
    low = np.floor(10 * max(curve["rho"].min(), 0)) / 10 if least is None else least
    grid[0].set(ylabel="Spearman's ρ on unseen mixtures", ylim=(low, 1.005))
    for axes, test in zip(grid, tests, strict=True):
        mine = curve[curve["test"] == test].rename(columns={"rho": "value"})
        for predictor, rows in mine.groupby(level=0, sort=False):
            table = rows.set_index("runs").sort_index().dropna(subset="value")
            marks.lines(axes, table[["value"]], dash=dash(predictor), marker=".", width=1.3)  # one size is no line
            axes.vlines(table.index, table["low"], table["high"], color=INK, lw=3, alpha=0.12)
        _runs(axes, test, sorted(set(mine["runs"])))
    last = mine.sort_values("runs").groupby(level=0, sort=False)["value"].last().dropna().clip(lower=low)
    marks.ends(grid[-1], last.rename(label).to_dict())
    return figure


def _runs(axes: Axes, test: str, sizes: list[int | float]) -> None:
    axes.set(xscale="log", title=test, xlabel="runs fitted")
    axes.set_xticks(sizes, sizes)
    axes.minorticks_off()


def predicted_against_true(predictions: pd.DataFrame, *, unit: str = "") -> Figure:
    """What each predictor predicted against what came out, for the first task on the first test set.

    `predictions`: index mixture, columns predictor, test, task, predicted, true; the diagonal is perfection.
    """
    task = predictions["task"].iloc[0]
    mine = predictions[(predictions["test"] == predictions["test"].iloc[0]) & (predictions["task"] == task)]
    shown = list(pd.unique(mine["predictor"]))
    figure, grid = marks.panels(len(shown), height=2.9, sharey=True)
    for axes, name in zip(grid, shown, strict=True):
        rows = mine[mine["predictor"] == name]
        marks.points(axes, rows["true"], rows["predicted"], size=12, diagonal=True)
        axes.set(title=label(name))
    grid[0].set_ylabel("predicted")
    figure.supxlabel(f"true: {task}{unit and ', '}{unit}", fontsize="medium")
    return figure


def residuals(predictions: pd.DataFrame) -> Figure:
    """Errors of each predictor by task, in standard deviations of the task: median and 5–95 %, offset is bias.

    Columns as for `predicted_against_true`, whose test set it takes.
    """
    mine = predictions[predictions["test"] == predictions["test"].iloc[0]]
    scale = mine.drop_duplicates(["task", "true"]).groupby("task")["true"].std()
    error = (mine["predicted"] - mine["true"]) / mine["task"].map(scale)
    parts = error.groupby([mine["predictor"], mine["task"]], sort=False).quantile([0.05, 0.5, 0.95]).unstack()
    spread = parts.set_axis(["low", "value", "high"], axis=1)
    shown = list(pd.unique(mine["predictor"]))
    figure, grid = marks.panels(len(shown), height=0.9 + 0.3 * mine["task"].nunique(), sharey=True, sharex=True)
    for axes, name in zip(grid, shown, strict=True):
        marks.dots(axes, spread.loc[name])
        axes.axvline(0, color=GREY, lw=0.8)
        axes.set(title=label(name))
        marks.rows(axes, spread.loc[name].index)
    figure.supxlabel("predicted − true, standard deviations of the task", fontsize="medium")
    return figure


def coverage(table: pd.DataFrame) -> Figure:
    """Share of unseen runs inside the predicted interval against the interval's level: on the diagonal is honest.

    `table`: index predictor, columns level, covered.
    """
    figure, ((axes,),) = marks.canvas(height=3.4)
    axes.plot([0, 1], [0, 1], color=GREY, lw=1)
    axes.set(xlabel="level of the predicted interval", ylabel="share of unseen runs inside it", ylim=(0, 1.02))
    axes.set_xlim(table["level"].min() - 0.03, 1)
    for name, rows in table.groupby(level=0, sort=False):
        line = rows.set_index("level")["covered"].to_frame("value")
        marks.lines(axes, line, dash=dash(name), marker="o")
    last = table.groupby(level=0, sort=False)["covered"].last()
    marks.ends(axes, {"honest": 1.0} | last.rename(label).to_dict())
    return figure


ON_TABLES = ("ridge", "lightgbm_demix", "mixing_law", "gaussian_process", "stack")  # more lines would hide each other
TICKS = [16, 32, 64, 128]  # runs that are written below
ASKED = {"random": ":", "maximin": (0, (5, 1.5)), "asked": "-"}  # how runs were chosen → dash


def after(table: pd.DataFrame, runs: int = 64) -> pd.DataFrame:
    """Return the rows of tests of a table's own after so many random runs, or as many as there are; see `on_tables`."""
    own = table[(table["test"] == table.index) & (table["design"] == "random") & (table["runs"] <= runs)]
    return own[own["runs"] == own.groupby(level=0)["runs"].transform("max")]


def on_tables(table: pd.DataFrame, asked: pd.DataFrame) -> Figure:
    """ρ and regret by random runs fitted on public tables, grey: the mean; below, where the stack asked for its runs.

    Regret is that of the predicted best, in standard deviations of the tests. Below, the stack learnt random runs,
    those of a maximin design, or those that it asked for.

    `table`: index table, columns test, design, runs, predictor, rho, regret single; `asked`: index table, columns how,
    runs, regret; as `tests/benchmarks/tables.py` writes them.
    """
    own = table[(table["test"] == table.index) & (table["design"] == "random")]
    names = list(own.groupby(level=0)["runs"].max().sort_values(kind="stable").index)
    figure, grid = marks.canvas(3, len(names), height=7.2, sharex=True, sharey="row")
    titles = ("Spearman's ρ, unseen runs", "regret, sd", "regret, sd")
    for row, ylabel in zip(grid, titles, strict=True):
        row[0].set_ylabel(ylabel)
    for column, name in enumerate(names):
        mine = own.loc[[name]].set_index("predictor")
        for axes, measure in zip(grid[:2, column], ("rho", "regret single"), strict=True):
            _lines(axes, mine, measure, {"the mean": "-"} | {known: dash(known) for known in ON_TABLES})
        _lines(grid[2, column], asked.loc[[name]].set_index("how"), "regret", ASKED)
        grid[0, column].set_title(fill(name.replace("_", " "), 14))
        _runs(grid[2, column], "", TICKS)
    for row in grid:
        last = {line.get_label(): line.get_ydata()[-1] for line in row[-1].lines}
        marks.ends(row[-1], {label(name): height for name, height in last.items()})
    return figure


def _lines(axes: Axes, table: pd.DataFrame, measure: str, dashes: Mapping[str, object]) -> None:
    for name in (name for name in dashes if name in table.index):
        line = table.loc[[name]].set_index("runs").sort_index()[[measure]].set_axis(["value"], axis=1)
        colour = INK if name in PREDICTORS or name in ASKED else GREY
        marks.lines(axes, line, dash=dashes[name], marker=".", width=1.3, colour=colour, label=name)


def effects(table: pd.DataFrame, *, kind: str, title: str = "", level: float = 0.05) -> Figure | None:
    """What more of a candidate does to a task: blue helps, red hurts, crossed out is what could as well be noise.

    `table`: index candidate, columns task, effect, q (false discovery rate), kind (linear or curved); positive effects
    help, whatever the score's direction. Crossed out where q exceeds `level`.
    """
    mine = table[table["kind"] == kind]
    if mine.empty:
        return None
    names, tasks = list(pd.unique(mine.index)), list(pd.unique(mine["task"]))
    effect, q = (mine.set_index("task", append=True)[name].unstack().loc[names, tasks] for name in ("effect", "q"))
    figure, ((axes,),) = marks.canvas(height=1.7 + 0.28 * len(names))
    marks.heat(axes, effect, unit="standard deviations per unit of share", written="", crossed=~(q < level))
    axes.set(ylabel="more of", title=title)
    return figure


def pairs(table: pd.DataFrame, *, level: float = 0.05) -> Figure:
    """Which two candidates do more together than apart (blue) for one task, or less (red); crossed out may be noise.

    `table`: index first, columns second, task, effect (second difference, per unit of share squared), q.
    """
    both = table.set_index("second", append=True)
    effect, q = square(both["effect"]), square(both["q"])
    figure, ((axes,),) = marks.canvas(height=1.7 + 0.3 * len(effect))
    certain = (q < level) | q.isna()  # a candidate is no pair with itself
    marks.heat(axes, effect, unit="standard deviations per unit² of share", written="", crossed=~certain)
    axes.set(title=f"{table['task'].iloc[0]}: together or apart?")
    return figure


def pair_path(table: pd.DataFrame) -> Figure:
    """A task along the edge from one candidate to another, a line per predictor.

    `table`: index first, columns second, predictor, task, share (of the second), predicted.
    """
    first, second, task = table.index[0], table["second"].iloc[0], table["task"].iloc[0]
    figure, ((axes,),) = marks.canvas(height=3.4)
    for name, rows in table.groupby("predictor", sort=False):
        marks.lines(axes, rows.set_index("share")["predicted"].to_frame("value"), dash=dash(name))
    axes.set(xlabel=f"share of {second}, the rest is {first}", ylabel=f"{task},\nstandard deviations from the mean")
    marks.ends(axes, table.groupby("predictor", sort=False)["predicted"].last().rename(label).to_dict())
    return figure
