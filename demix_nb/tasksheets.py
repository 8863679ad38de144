"""What scores mean: a table of tasks as somebody wrote it, checked cell by cell, or what tasks' names tell.

Whether higher is better turns every rank round, so it is never guessed: the table says it, or the caller, or the file
of scores, or the last word of the task's name where that is a measure that everybody knows (DIRECTIONS).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb import sheets
from demix_nb.ranges import near
from demix_nb.scored import describe
from demix_nb.store import Refusal

FACTS = ("family", "unit", "higher_is_better")  # of a task, that must be told
MORE = ("items", "chance", "target", "version", "left_out", "metric", "suite")  # that may be
MORE += ("ratio", "luck", "in_rank")  # that notebook 03 adds
MORE += ("mode", "window", "filter", "cut")  # of tasks that models were measured on

DIRECTIONS = {  # how a task's name ends, words parted by _ → whether higher is better
    "loss|nll|cross_entropy|perplexity|ppl|bpb|bits_per_byte|error|error_rate": False,
    r"acc|accuracy|acc_norm|acc_bytes|exact_match|em|f1|bleu|mcc|pass(_at)?_?\d+": True,
}


def direction(task: str) -> bool | None:
    """Return whether higher is better for a task of this name; None where its last word does not tell."""
    words = re.sub("[^a-z0-9]+", "_", f"_{task.lower()}")
    return next((higher for ends, higher in DIRECTIONS.items() if re.fullmatch(f".*_({ends})", words)), None)


def named(
    tasks: Sequence[str],
    file: str,
    told: bool | Mapping[str, bool] | None = None,
    written: Mapping[str, bool] | None = None,
    rest: bool | None = None,
) -> pd.DataFrame:
    """Return a task table in which every task is a family of its own, from names alone.

    Directions are what is `told` of all tasks or of some, then what the file of scores says (`written`), then the
    names' own, then `rest`. Raises Refusal for a task whose direction nobody tells, and for one told that is not there.
    """
    some = told if isinstance(told, Mapping) else {}
    if odd := [name for name in some if name not in tasks]:
        hint = near(odd[0], tasks, "did you mean {!r}? ")
        raise Refusal(f"{file}: higher_is_better names {odd[0]!r}, which has no scores; {hint}there are {_few(tasks)}")
    known = {task: direction(task) for task in tasks} | dict(written or {}) | dict(some)
    known = {task: rest if higher is None else higher for task, higher in known.items()}
    higher = [told if isinstance(told, bool) else known[task] for task in tasks]
    if None in higher:
        task = tasks[higher.index(None)]
        raise Refusal(f"{file}: the name {task!r} does not tell whether higher is better; write higher_is_better, true "
                      "or false, for this task")  # fmt: skip
    return describe(tasks, unit="score", higher_is_better=False).assign(higher_is_better=higher)


def read(path: str | Path, scored: Sequence[str], *, some: bool = False) -> pd.DataFrame:
    """Read a task table (index task: family, unit, higher_is_better, and more as `data/README.md` says), cell by cell.

    `scored`: the tasks that have scores, each of which it must describe, or, with `some`, may: the others are left out.
    `target`: whether a task steers, true where the column is missing. Raises Refusal naming row and column of what is
    missing or unknown.
    """
    path = sheets.there(path, "task", "a .csv whose first column names the task")
    cells = sheets.table(path)
    if missing := [name for name in FACTS if name not in cells]:
        raise Refusal(f"{path.name}: no column {missing[0]!r}; it has {', '.join(cells)}")
    if unknown := [name for name in cells if name not in (*FACTS, *MORE)]:
        hint = near(unknown[0], (*FACTS, *MORE), "did you mean {!r}? ")
        raise Refusal(f"{path.name}: unknown column {unknown[0]!r}; {hint}known are {', '.join((*FACTS, *MORE))}")
    described = list(cells.index)
    wanted = [name for name in scored if name in described] if some else list(scored)
    for kind, ours, theirs, whose in (
        ("task without scores", described, list(scored), "the scores' columns are"),
        ("scores without a task", wanted, described, "the tasks are"),
    ):
        if odd := [name for name in ours if name not in theirs]:
            hint = near(odd[0], theirs, "did you mean {!r}? ")
            raise Refusal(f"{path.name}: {odd[0]!r} is a {kind}; {hint}{whose} {_few(theirs)}")
    return _typed(cells, path.name).loc[wanted]


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:12])


def _typed(cells: pd.DataFrame, file: str) -> pd.DataFrame:
    """The task table with its columns' types; a cell that has another is refused."""
    table = pd.DataFrame(index=cells.index.rename("task"))
    for name in ("family", "unit"):
        if (empty := cells[name] == "").any():
            raise Refusal(f"{file}: task {empty.idxmax()!r} has no {name}; write one")
        table[name] = cells[name]
    for name in ("higher_is_better", "target", "in_rank"):
        if name in cells:
            told = cells[name].str.lower().map(sheets.TRUTH)
            if told.isna().any():
                task = told.isna().idxmax()
                held = repr(cells.loc[task, name]) if cells.loc[task, name] else "nothing"
                raise Refusal(f"{file}: task {task!r}, column {name!r} holds {held}; write true or false")
            table[name] = told.astype(bool)
    table["items"], table["chance"] = 0, np.nan
    for name in ("items", "chance", "left_out", "ratio", "luck", "window", "cut"):
        if name in cells and (filled := cells[name] != "").any():
            table.loc[filled, name] = sheets.numbers(cells.loc[filled, [name]], file)[name]
    others = {name: cells[name] for name in ("version", "metric", "suite", "mode", "filter") if name in cells}
    return table.assign(**others, items=table["items"].astype(int))
