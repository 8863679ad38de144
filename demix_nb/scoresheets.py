"""Scores as programs leave them: wide and long tables, OLMix's, lm-eval's results, an export of Weights & Biases.

All become one sheet of text, run × task, from which the tasks that count are read as numbers. A wide table's columns
are its tasks; what else holds more than one set of tasks (metrics and filters of one task, groups beside their members,
settings beside scores) is never chosen from: the reader is asked to name the tasks.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from demix_nb import longsheets, sheets
from demix_nb.ranges import near
from demix_nb.store import Refusal
from demix_nb.tasksheets import direction

ITEMS, VALUES = ("task", "benchmark", "metric"), ("score", "value", "result")  # columns of a long table
SIGNS = {"State", "Runtime", "Created", "_step", "_runtime", "_timestamp"}  # that only an export of W&B has
BESIDE = "Name,name,ID,Notes,User,Tags,Sweep,Group,Job Type,Updated,Hostname,Description,Commit,End Time,_wandb"
KEPT = SIGNS.union(BESIDE.split(","))  # its columns that are neither scores nor settings
COUNTS = ("sample_len", "sample_count", "samples")  # numbers of lm-eval's that are no scores

Key = tuple[str, str, str]  # task, metric, filter


@dataclass(frozen=True)
class ScoreSheet:
    """Scores as text, run × task; `clear`: the tasks to take where none are named, `unclear`: what must be named first.

    `some`: whether a task list chooses among the columns, instead of having to describe them all. `higher`: task →
    whether higher is better, as far as the file says. `again`: mixtures of which some score came twice, the same.
    """

    file: str
    cells: pd.DataFrame
    clear: Sequence[str]
    unclear: Sequence[str] = ()
    some: bool = False
    higher: Mapping[str, bool] = field(default_factory=dict)
    again: Sequence[str] = ()

    def tasks(self, asked: Sequence[str] | None = None) -> list[str]:
        """Return the tasks that count, `asked` or all; raises Refusal for an unknown one, or where they are unclear."""
        if asked is None:
            if self.unclear or not self.clear:
                raise Refusal(f"{self.file}: name the tasks that count, for not all columns may be scores to rank by: "
                              f"{', '.join(list(self.unclear)[:12]) or 'none is known'}")  # fmt: skip
            return list(self.clear)
        if odd := [name for name in asked if name not in self.cells]:
            hint = near(odd[0], self.cells, "did you mean {!r}? ")
            raise Refusal(f"{self.file}: no scores of task {odd[0]!r}; {hint}there are {', '.join(self.cells)[:300]}")
        return list(asked)

    def scores(self, tasks: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
        """Return these tasks' scores, mixture × task, and a note of rows that came again with the same scores.

        Raises Refusal naming row and column of what is no number, and a row that comes twice with two scores.
        """
        cells, again = self.cells[list(tasks)], self.again
        if cells.index.has_duplicates:
            told = ((row, task, cell) for row, line in zip(cells.index, cells.to_numpy(), strict=True)
                    for task, cell in zip(cells, line, strict=True))  # fmt: skip
            cells, again = longsheets.gathered(self.file, told)
        table = sheets.numbers(cells, self.file).rename_axis(index="mixture", columns=None)
        return table, [f"{self.file}: row {row!r} comes twice with the same scores, one is kept" for row in again]


def read(path: str | Path, runs: Collection[str] = ()) -> ScoreSheet:
    """Open a file of scores, or a folder of lm-eval's results; `runs`: the mixtures' names, where they are known.

    Raises Refusal naming the file for what holds no scores.
    """
    if Path(path).is_dir():
        return _results(Path(path), runs)
    path = sheets.there(path, "score", "a .csv whose first column names the mixture, or lm-eval's results")
    ending = sheets.suffix(path)
    if ending == ".json":
        return _results(path, runs)
    if ending not in sheets.TABLES:
        raise Refusal(f"{path.name} is no table of scores; give a .csv, or lm-eval's results*.json")
    return _table(path)


def scores(path: str | Path) -> pd.DataFrame:
    """Return all scores of a file; raises Refusal naming the file and the row and column that is no number."""
    sheet = read(path)
    return sheet.scores(sheet.tasks())[0]


def paired(shares: pd.DataFrame, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `scores` in the row order of `shares`; raises Refusal for a row missing or unknown."""
    odd = shares.index.symmetric_difference(scores.index)
    if len(odd):
        raise Refusal(f"{name}: {len(odd)} rows have no partner among the mixtures or scores, first {odd[0]!r}")
    return scores.loc[shares.index]


# --- tables


def _table(path: Path) -> ScoreSheet:
    cells = sheets.table(path, repeats=True)
    if (told := longsheets.unpivoted(cells, ITEMS, VALUES)) is not None:
        items = [name for name in told if name not in ("row", "value")]
        keys = [(*line, "", "")[:3] for line in told[items].itertuples(index=False, name=None)]
        return _of(path.name, list(zip(told["row"], keys, told["value"], strict=True)))
    if sheets.unnamed(cells):
        raise Refusal(f"{path.name}: the first column, {cells.index.name or cells.index[0]!r}, holds scores where the "
                      "mixtures' names belong; put a column of names before it")  # fmt: skip
    return _export(path, cells) if SIGNS & {*cells} else ScoreSheet(path.name, cells, list(cells))


def _export(path: Path, cells: pd.DataFrame) -> ScoreSheet:
    """An export of runs: columns whose names tell a score are clear, other numbers may be settings."""
    named = next((name for name in ("Name", "name") if name in cells), None)
    cells = cells if named is None else cells.set_axis(pd.Index(cells[named]))
    cells = cells.drop(columns=[name for name in cells if name in KEPT])
    clear = [name for name in cells if direction(name) is not None]
    unclear = [name for name in cells if name not in clear and cells[name].map(sheets.number).notna().any()]
    return ScoreSheet(path.name, cells, clear, [*unclear, *clear] if unclear else (), some=True)


# --- lm-eval


def _results(path: Path, runs: Collection[str]) -> ScoreSheet:
    """Results of lm-eval: a file per run, or several of one run with different tasks."""
    root = path if path.is_dir() else path.parent
    files = sorted(path.rglob("results*.json")) if path.is_dir() else [path]
    if not files:
        raise Refusal(f"{path} holds no results*.json; give the folder that lm-eval wrote to, or a .csv of scores")
    told: list[tuple[str, Key, str]] = []
    higher: dict[Key, bool] = {}
    members: dict[str, list[str]] = {}
    for file in files:
        content = _content(file, file.relative_to(root).as_posix())
        run = _run(file, root, content, runs)
        for task, values in content["results"].items():
            directions = (content.get("higher_is_better") or {}).get(task) or {}
            for key, value in _metrics(task, values):
                told.append((run, key, value))
                if isinstance(known := directions.get(key[1]), bool):
                    higher[key] = known
        members |= content.get("group_subtasks") or {}
    scored = {key[0] for _, key, _ in told}
    nested = any(group in scored and not scored.isdisjoint(names) for group, names in members.items())
    return _of(path.name, told, higher, nested=nested, some=True)


def _content(file: Path, where: str) -> dict[str, Any]:
    """What a file of results holds, numbers as text."""
    try:
        content = json.loads(sheets.text(file), parse_int=str, parse_float=str, parse_constant=str)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Refusal(f"{where} cannot be read ({error}); run lm-eval again, or leave it out") from error
    results = content.get("results") if isinstance(content, dict) else None
    if not isinstance(results, dict) or not all(isinstance(each, dict) for each in results.values()):
        raise Refusal(f"{where} holds no `results` as lm-eval writes them; give its results*.json")
    return content


def _metrics(task: str, values: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    """Yield the metrics of a task; keys are `metric,filter` (before lm-eval 0.4 `metric` alone)."""
    for key, value in values.items():
        metric, comma, chosen = key.partition(",")
        if metric.rpartition("_")[2] == "stderr" or metric in COUNTS:
            continue
        if (comma and metric.strip()) or sheets.number(value) is not None:
            yield (task, metric, chosen), str(value)


def _run(file: Path, root: Path, content: Mapping[str, Any], runs: Collection[str]) -> str:
    """The run that a file is of: of the names that its folders, its model and it have, the one that is a mixture's."""
    model = str(content.get("model_name") or "")
    folders = file.relative_to(root).parts[:-1] or ((file.parent.name,) if runs else ())
    parts = [part for part in reversed(model.split("/")) if part]
    names = dict.fromkeys([*folders, *parts, model, file.stem.removeprefix("results_")])
    if len(found := [name for name in names if name in runs]) > 1:
        where = file.relative_to(root).as_posix()
        raise Refusal(f"{where} may be of the mixtures {found[0]!r} and {found[1]!r}, after its folder and its model's "
                      "name; rename one")  # fmt: skip
    return found[0] if found else next(name for name in names if name)


def _of(
    file: str,
    told: list[tuple[str, Key, str]],
    higher: Mapping[Key, bool] | None = None,
    *,
    nested: bool = False,
    some: bool = False,
) -> ScoreSheet:
    """The sheet of (run, key, score). Where a task has several metrics or members it is unclear what is to count."""
    names = _names(list(dict.fromkeys(key for _, key, _ in told)))
    cells, again = longsheets.gathered(file, ((run, names[key], cell) for run, key, cell in told))
    known = {key: direction(key[1]) for key in names} | dict(higher or {})
    several = len({task for task, *_ in names}) < len(names)
    directions = {names[key]: way for key, way in known.items() if way is not None}
    return ScoreSheet(file, cells, list(cells), list(cells) if several or nested else (), some, directions, again)


def _names(keys: Sequence[Key]) -> dict[Key, str]:
    """Key → the shortest name that tells it apart: task, task/metric, or task/metric,filter."""
    tasks, metrics = Counter(key[0] for key in keys), Counter(key[:2] for key in keys)
    names = {}
    for task, metric, chosen in keys:
        name = task if tasks[task] == 1 else f"{task}/{metric}"
        names[task, metric, chosen] = name if metrics[task, metric] == 1 else f"{name},{chosen}"
    return names
