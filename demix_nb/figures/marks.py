"""Five marks that every quoted figure is made of, the theme, and how a figure reaches the disk.

Dots with an interval, lines with a band, scattered points, a heat map, stacked bars: a figure is a short function that
takes tables and calls these. All are as wide as a README's column, 800 pixels, and legible at that size. A figure
stays open in pyplot, so that a notebook shows it once.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from demix_nb.figures.colours import GREY, INK, PALE, ink_on

DPI = 110  # small enough to commit, sharp enough for a README's column
WIDTH = 7.2  # inches: 792 pixels
SMALL = 8  # points of what is written inside a figure
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 1, 1, 1, 1, 1)),
          (0, (2, 3)), (0, (9, 2, 1.2, 2)))  # fmt: skip
WRITABLE = 20  # columns of a heat map up to which numbers fit into its cells, and names below it
TINY = 6  # points, where a name must fit into a narrow bar
NAMED = 0.06  # share of a bar from which on a part's name is written into it


def theme() -> None:
    """Set the look that all figures share."""
    look = {"figure.dpi": DPI, "savefig.dpi": DPI, "font.size": 9, "axes.titlesize": 9.5, "axes.labelsize": 9,
            "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "legend.fontsize": SMALL, "legend.frameon": False,
            "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "#999999", "grid.color": "#E6E6E6",
            "axes.labelcolor": INK, "text.color": INK, "svg.fonttype": "none"}  # fmt: skip
    sns.set_theme(style="whitegrid", font="DejaVu Sans", rc=look)  # matplotlib brings it: the same picture anywhere


def canvas(rows: int = 1, columns: int = 1, *, height: float, **options: object) -> tuple[Figure, np.ndarray]:
    """Return a figure of the house's width, `height` in inches, and its panels, row × column."""
    theme()
    return plt.subplots(rows, columns, figsize=(WIDTH, height), squeeze=False, layout="constrained", **options)


def panels(n: int, *, across: int = 3, height: float = 2.6, **options: object) -> tuple[Figure, list[Axes]]:
    """Return a figure with `n` panels of `height` inches, `across` in a row, and the panels."""
    columns = min(n, across)
    rows = -(-n // columns)
    figure, grid = canvas(rows, columns, height=height * rows, **options)
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    return figure, list(grid.flat[:n])


def save(figure: Figure, path: Path | str) -> Path:
    """Write a PNG at 110 dpi under a temporary name beside `path`, then rename: nobody ever sees half a figure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        figure.savefig(temporary, dpi=DPI, metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def words(sentence: str) -> Figure:
    """Return a figure that is one sentence, where there is nothing to draw."""
    figure, ((axes,),) = canvas(height=0.6)
    axes.set_axis_off()
    axes.text(0.5, 0.5, wrapped(sentence, 100), transform=axes.transAxes, ha="center", va="center", color=INK)
    return figure


# --- the marks --------------------------------------------------------------------------------------------------------


def dots(axes: Axes, table: pd.DataFrame, *, marker: str | Sequence[str] = "o", colour: str = INK, label: str = "",
         hollow: bool = False, aside: float = 0.0) -> None:  # fmt: skip
    """Values with their intervals (columns value, low, high), one row of the picture each, first on top.

    `marker`: one for all, or one per row; `aside`: how far below its row a dot stands, so that several may share it.
    """
    heights = np.arange(len(table)) + aside
    axes.hlines(heights, table["low"], table["high"], color=colour, lw=1)
    markers = [marker] * len(table) if isinstance(marker, str) else marker
    for shape in dict.fromkeys(markers):
        mine = np.array([own == shape for own in markers])
        fill = "white" if hollow else colour
        axes.scatter(table["value"][mine], heights[mine], marker=shape, s=40, zorder=3, linewidths=1.2, label=label,
                     edgecolors=colour, facecolors=fill)  # fmt: skip
        label = ""  # one entry in the legend is enough


def lines(axes: Axes, table: pd.DataFrame, *, dash: object = "-", marker: str = "", colour: str = INK, label: str = "",
          width: float = 1.5) -> None:  # fmt: skip
    """A line through column `value` over the index, and a band from `low` to `high` where the table has them."""
    axes.plot(table.index, table["value"], ls=dash, marker=marker or None, ms=5, color=colour, lw=width, label=label)
    if "low" in table:
        axes.fill_between(table.index, table["low"], table["high"], color=colour, alpha=0.1, lw=0)


def points(axes: Axes, x: Iterable, y: Iterable, *, colour: str = INK, marker: str = "o", size: float = 18,
           label: str = "", diagonal: bool = False) -> None:  # fmt: skip
    """Scattered points; `diagonal` draws the line on which both coordinates agree."""
    if diagonal:
        ends = [min(y), max(y)]
        axes.plot(ends, ends, color=GREY, lw=1)
    axes.scatter(x, y, s=size, color=colour, marker=marker, lw=0.4, edgecolors="white", label=label)


def heat(axes: Axes, table: pd.DataFrame, *, unit: str, signed: bool = True, written: str = ".2f",
         crossed: pd.DataFrame | None = None, most: float = 0.0) -> None:  # fmt: skip
    """Cells by colour, and in numbers where `written` says how; what is `crossed` could as well be noise.

    Signed: blue above and red below 0. In full colour from `most` on; 0: the strongest twentieth.
    """
    sizes = np.abs(table.to_numpy(float))
    most = most or float(np.quantile(sizes[np.isfinite(sizes)], 0.95) if np.isfinite(sizes).any() else 0) or 1.0
    scale = {"cmap": "RdBu", "vmin": -most, "vmax": most} if signed else {"cmap": "Greys", "vmin": 0}
    bar = {"label": wrapped(unit, int(8 * axes.figure.get_figheight())), "fraction": 0.05, "pad": 0.02}
    written = written if table.shape[1] <= WRITABLE else ""
    sns.heatmap(table, ax=axes, annot=bool(written), fmt=written, annot_kws={"size": 7}, linewidths=0.6, **scale,
                linecolor="white", cbar_kws=bar)  # fmt: skip
    if crossed is not None:
        rows, columns = np.nonzero(crossed.to_numpy())
        for ink, width in (("white", 2.4), (INK, 0.9)):  # seen on any cell
            axes.scatter(columns + 0.5, rows + 0.5, marker="x", s=16, color=ink, lw=width)
    axes.set(xlabel="", ylabel="")
    axes.grid(False)
    angle, va = (40, "top") if table.shape[1] <= WRITABLE else (90, "center")
    axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=angle, ha="right", va=va,
                    rotation_mode="anchor")  # fmt: skip
    axes.tick_params(axis="y", rotation=0)


def bars(axes: Axes, table: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """A stacked bar per row, a part per column in its colour; wide parts bear their name."""
    left = np.zeros(len(table))
    for name in table:
        drawn = axes.barh(range(len(table)), table[name], left=left, color=colours[name], edgecolor="white", label=name)
        for bar, share in zip(drawn, table[name] / table.sum(axis=1), strict=True):
            if share >= NAMED:
                _written(axes, bar, str(name), share, ink_on(colours[name]))
        left += table[name].to_numpy(float)
    rows(axes, table.index)


def _written(axes: Axes, bar, name: str, share: float, ink: str) -> None:
    """Write a name into a bar: in lines as long as the bar, smaller where that is not enough, at last cut short."""
    room = share * WIDTH * 72 * 0.8 / (0.62 * SMALL)  # letters of that size; the bars take four fifths of the width
    lines = wrapped(name, int(room)).split("\n")
    size = max(SMALL * min(1.0, room / max(map(len, lines))), TINY)
    most = max(int(room * SMALL / size), 2)
    shown = [line if len(line) <= most else line[: most - 1] + "…" for line in lines[:3]]
    axes.text(bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2, "\n".join(shown), color=ink,
              ha="center", va="center", fontsize=size, linespacing=1.05)  # fmt: skip


def wrapped(text: str, letters: int) -> str:
    """Return a text in lines of at most so many letters, broken after blanks, hyphens and underscores alone."""
    words = re.findall(r"[^\s_-]+[\s_-]*|[\s_-]+", text)
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1] + word.rstrip()) > letters:
            lines.append("")
        lines[-1] += word
    return "\n".join(line.rstrip() for line in lines)


# --- what goes with them ----------------------------------------------------------------------------------------------


def rows(axes: Axes, names: Iterable) -> None:
    """Name the rows of dots or bars, first on top."""
    names = list(names)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def ends(axes: Axes, at: Mapping[str, float]) -> None:
    """Write a label beside each line's end, `at` its height, spread so that none covers another."""
    low, high = axes.get_ylim()
    rows = axes.get_subplotspec().get_gridspec().nrows
    gap = (high - low) * 1.25 * SMALL / 72 / (0.75 * axes.figure.get_figheight() / rows)
    names = sorted(at, key=at.get)
    heights = np.array([at[name] for name in names])
    for _ in range(200):  # push neighbours apart, evenly, until all have room
        missing = np.clip(gap - np.diff(heights), 0, None)
        heights[:-1] -= missing / 2
        heights[1:] += missing / 2
    for name, height in zip(names, heights, strict=True):
        axes.annotate(name, (1, at[name]), (1.06, height), xycoords=axes.get_yaxis_transform(), va="center",
                      textcoords=axes.get_yaxis_transform(), fontsize=SMALL,
                      arrowprops={"arrowstyle": "-", "lw": 0.6, "color": GREY, "relpos": (0, 0.5), "shrinkA": 0,
                                  "shrinkB": 2})  # fmt: skip


def plain_log(axis: Axis) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2, 3 and 5."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def band(axes: Axes, row: pd.Series, label: str, *, across: bool = False) -> None:
    """A grey band from `low` to `high` with a line at `value`, labelled; `across`: on the horizontal axis."""
    span, line = (axes.axvspan, axes.axvline) if across else (axes.axhspan, axes.axhline)
    span(row["low"], row["high"], color=PALE, alpha=0.45, lw=0, zorder=0)
    line(row["value"], color=GREY, ls="--", lw=1, zorder=1, label=label)
