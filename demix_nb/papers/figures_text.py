"""Figures of the studies that change candidates' text: repetition, and spoilt text with what cleans it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from demix_nb.figures import marks
from demix_nb.figures.colours import GREY, INK
from demix_nb.intervals import student
from demix_nb.lab.cleaners import CLEANERS
from demix_nb.papers.spoiling import NONE, SOUND
from demix_nb.proxies import KINDS

MENDS = {"as it comes": ("-", GREY), "matched": ("--", INK)}  # repetition → dash and colour
LESS = {"share": "share in the winner", "own": "bits per byte, its text", "rest": "bits per byte, others' text"}


def repetition(report: pd.DataFrame) -> Figure:
    """How far proxies miss the best share of a candidate that the run's component reads so many times, by their tokens.

    Columns: base, epochs, budget, repetition, measure, value. A panel per scarcity; means over bases.
    """
    rows = report[report["measure"] == "off"]
    longest, scarcities = rows["budget"].max(), sorted(set(rows["epochs"]))
    figure, grid = marks.panels(len(scarcities), height=3.6, sharey=True)
    for axes, often in zip(grid, scarcities, strict=True):
        mine = rows[rows["epochs"] == often]
        for (kind, how), part in mine.groupby([mine.index, "repetition"], sort=False):
            if kind in KINDS and how != "ended":
                part = part[part["budget"] < longest] if kind == "trained" else part
                means = part.groupby("budget")["value"].mean().rename(lambda budget: budget / longest).to_frame("value")
                dash, colour = MENDS[how]
                look = {"marker": KINDS[kind].marker, "dash": dash, "colour": colour}
                marks.lines(axes, means, label=f"{kind}, {how}", **look)
        axes.set(title=f"read {often:g} times", xlabel="tokens / the run's tokens")
        marks.plain_log(axes.xaxis)
    grid[0].set_ylabel("best share, missed by")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def cleaning(robustness: pd.DataFrame, counts: pd.DataFrame) -> Figure:
    """What spoilt text and its cleaners change: the winner's share, references' scores, and how much dropped was bad.

    Differences from the sound text of the same base: means with 95 % intervals over bases. `robustness`: by text,
    cleaner, drop, base; `counts`: documents, bad, dropped, found.
    """
    less = lost(robustness)
    keys = list(dict.fromkeys(less.index.droplevel("base")))
    figure, ((*grid,),) = marks.canvas(1, 3, height=1.2 + 0.24 * len(keys), sharey=True)
    dropped = counts.groupby(["text", counts.index, "drop"])[["documents", "bad", "dropped", "found"]].sum()
    for axes, column in zip(grid, ("share", "own"), strict=False):
        table = pd.DataFrame([student(less.xs(key, level=("text", "cleaner", "drop"))[column]) for key in keys],
                             columns=["value", "low", "high"])  # fmt: skip
        marks.dots(axes, table)
        axes.axvline(0, color=INK, lw=0.8)
        axes.set(xlabel=f"{LESS[column]},\nminus sound text")
    found = [dropped.loc[key] if key in dropped.index else None for key in keys]
    shares = [np.nan if row is None or not row["dropped"] else row["found"] / row["dropped"] for row in found]
    blind = [np.nan if row is None else row["bad"] / row["documents"] for row in found]
    marks.points(grid[2], shares, range(len(keys)), size=40)
    grid[2].scatter(blind, range(len(keys)), marker="|", s=90, color=GREY)
    grid[2].set(xlabel="bad among the dropped\n(line: among all)", xlim=(-0.05, 1.05))
    marks.rows(grid[0], [called(*key) for key in keys])
    return figure


def lost(robustness: pd.DataFrame) -> pd.DataFrame:
    """Return share, own and rest minus those of the sound text of the same base; index text, cleaner, drop, base."""
    keys, columns = ["text", "cleaner", "drop", "base"], list(LESS)
    values = robustness.reset_index().set_index(keys)[columns]
    sound = values.xs((SOUND, NONE), level=("text", "cleaner")).droplevel("drop")
    less = values - sound.reindex(values.index.get_level_values("base")).to_numpy()
    plain = (less.index.get_level_values("text") == SOUND) & (less.index.get_level_values("cleaner") == NONE)
    return less[~plain]


def called(text: str, cleaner: str, drop: float) -> str:
    """Return what a row of the study of cleaners is called."""
    if cleaner == NONE:
        return text
    return f"{text}, {CLEANERS[cleaner].label}" + (f" {drop:.0%}" if drop else "")
