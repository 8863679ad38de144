"""The door for other people's mixtures, scores and tasks: they are checked, and what was repaired is said.

Mixtures come as CSV, YAML or JSON, as shares, percent or counts; scores and tasks as CSV (`sheets` says what counts as
one). Whatever passes is a mixture table, a score table, a task table or a `Scored`; whatever does not is refused by
file, row and column. What could be read in two ways is refused, too: a column too many (a seed, a total, a step) makes
a mixture that nobody trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from demix_nb import DATA, sheets
from demix_nb.mixtures import SUM_TOLERANCE, validate
from demix_nb.ranges import near
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal

NEAR = 0.01  # how far from 1 (or 100) shares may sum by rounding: RegMix's three digits in 17 columns are 0.4 % off
EQUAL = 1e-6  # of a sum: amounts of one total differ by less
FACTS = ("family", "unit", "higher_is_better")  # of a task, that must be told
MORE = ("items", "chance", "target", "version", "left_out", "metric", "suite", "ratio", "in_rank")  # that may be


# --- mixtures


def mixtures(path: str | Path, candidates: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read mixtures as people have them; return the mixture table and one note per mixture that was normalised.

    Takes CSV (the first column names the mixture), YAML or JSON (name → candidate → weight; a flat candidate → weight
    mapping is one mixture); a candidate that is not named weighs 0. Weights are shares, off 1 by at most 1 %, or
    percent or amounts, which are divided by their sum: in a table all rows are one of these, in a mapping every entry.
    Raises Refusal naming the entry for unknown candidates, weights that are no numbers or negative, entries without
    weight, and sums that are neither.
    """
    path = there(path, "mixture", "a .csv, .yaml or .json file")
    is_table = sheets.suffix(path) in sheets.TABLES
    weights = _table(path, candidates) if is_table else _entries(path, candidates)
    if len(negative := np.argwhere(weights.to_numpy() < 0)):
        row, column = negative[0]
        name, value = weights.columns[column], weights.iat[row, column]
        raise Refusal(f"{path.name}: entry {weights.index[row]!r} has weight {value:g} for {name!r}; "
                      "weights are not negative")  # fmt: skip
    if (empty := weights.sum(axis=1) == 0).any():
        raise Refusal(f"{path.name}: entry {empty.idxmax()!r} is all zero; give at least one candidate a weight")
    for _, rows in [("", weights)] if is_table else weights.groupby(level=0, sort=False):
        _check_sums(path.name, rows)
    sums = weights.sum(axis=1)
    notes = [f"{name}: weights summed to {total:.6g}, divided by it" for name, total in sums.items()
             if abs(total - 1) > SUM_TOLERANCE]  # fmt: skip
    return validate(weights.div(sums, axis=0), candidates), notes


def _table(path: Path, candidates: Sequence[str] | None) -> pd.DataFrame:
    cells = sheets.table(path)
    if sheets.unnamed(cells) or (candidates is not None and cells.index.name in {*candidates} - {*cells}):
        raise Refusal(f"{path.name}: the first column, {cells.index.name or cells.index[0]!r}, holds shares where the "
                      "mixtures' names belong; put a column of names, or of numbers from 1 on, before it")  # fmt: skip
    _check_known(path, cells.index[0], list(cells), candidates)
    weights = sheets.numbers(cells, path.name)
    return weights if candidates is None else weights.reindex(columns=list(candidates), fill_value=0.0)


def _entries(path: Path, candidates: Sequence[str] | None) -> pd.DataFrame:
    content = sheets.mapping(path)
    nested = [isinstance(value, Mapping) for value in content.values()]
    if any(nested) and not all(nested):
        name = next(key for key, flag in zip(content, nested, strict=True) if not flag)
        raise Refusal(f"{path.name}: entry {name!r} is not a mapping from candidates to weights")
    if not content:
        raise Refusal(f"{path.name} is empty; give at least one mixture")
    entries = content if any(nested) else {path.name.partition(".")[0]: content}
    rows = {name: _weights(path, name, weights, candidates) for name, weights in entries.items()}
    names = dict.fromkeys(name for row in rows.values() for name in row) if candidates is None else candidates
    return pd.DataFrame({key: {name: row.get(name, 0.0) for name in names} for key, row in rows.items()}).T


def _weights(path: Path, entry: str, given: Mapping[str, Any], candidates: Sequence[str] | None) -> dict[str, float]:
    if not given:
        raise Refusal(f"{path.name}: entry {entry!r} is empty; give at least one candidate a weight")
    _check_known(path, entry, list(given), candidates)
    read = {name: sheets.number(value) for name, value in given.items()}
    for name, value in read.items():
        if value is None:
            held = given[name] if not isinstance(given[name], str) else repr(given[name])
            raise Refusal(f"{path.name}: entry {entry!r} has weight {held} for {name!r}; weights are finite numbers")
    return read


def _check_known(path: Path, entry: str, names: list[str], candidates: Sequence[str] | None) -> None:
    if unknown := [name for name in names if candidates is not None and name not in candidates]:
        hint = near(unknown[0], candidates, "did you mean {!r}? ")
        raise Refusal(f"{path.name}: entry {entry!r} names unknown candidate {unknown[0]!r}; {hint}"
                      f"candidates: {', '.join(candidates)}")  # fmt: skip


def _check_sums(file: str, weights: pd.DataFrame) -> None:
    """Refuse weights that are neither shares nor percent nor amounts, with what they sum to and what may be wrong."""
    if _sum_to(weights, 1.0):
        return
    if odd := _too_many(weights):
        raise Refusal(f"{file}: without {_listed(odd)} every row sums to the same, with it to "
                      f"{_span(weights.sum(axis=1))}; is {odd[0]!r} a candidate? If not, drop the column")  # fmt: skip
    if (weights.where(weights > 0, 1.0) >= 1).all(axis=None) or _sum_to(weights, 100.0):
        return
    sums = weights.sum(axis=1)
    off, span = (sums - 1).abs().idxmax(), _span(sums)
    told = f"{file}: row {off!r} sums to {sums[off]:.4g}" + (f", all to {span}" if len(sums) > 1 else "")
    if parts := _phases(weights):
        raise Refusal(f"{told}, not 1: {_listed(parts)} sum to 1 each, so a row holds {len(parts)} mixtures; give one")
    raise Refusal(f"{told}, not to 1 and not like percent or counts; give shares of all candidates and nothing else")


def _sum_to(weights: pd.DataFrame, total: float) -> bool:
    return bool(((weights.sum(axis=1) / total - 1).abs() <= NEAR).all())


def _too_many(weights: pd.DataFrame) -> list[str]:
    """Columns that are none of the mixture's: the others make rows of one sum, or their sum is this one."""
    if len(weights) < 2 or len(weights.columns) < 3:
        return []
    whole = [name for name in weights if (weights[name] % 1 == 0).all() and weights[name].nunique() > 1]
    for odd in [[name] for name in weights] + [whole]:
        rest = weights.drop(columns=odd)
        if len(rest.columns) > 1 and ((_plain(rest) and not _plain(weights)) or (_level(rest) and not _level(weights))):
            return odd
    for name in weights:
        if len(weights) > 2 and np.allclose(weights[name], weights.drop(columns=name).sum(axis=1), rtol=1e-6):
            return [name]
    return []


def _plain(weights: pd.DataFrame) -> bool:
    """Whether rows are shares or percent."""
    return _sum_to(weights, 1.0) or _sum_to(weights, 100.0)


def _level(weights: pd.DataFrame) -> bool:
    """Whether three rows or more have one sum, whatever it is."""
    sums = weights.sum(axis=1)
    return len(sums) > 2 and bool(sums.min() > 0 and np.ptp(sums) <= EQUAL * sums.max())


def _phases(weights: pd.DataFrame) -> list[str]:
    """What names begin with where the columns fall into two groups or more that each sum to 1 in every row."""
    for mark in "_:/.-":
        for length in (2, 1):
            heads = pd.Series({name: mark.join(name.split(mark)[:length]) for name in weights})
            groups = {head: weights[list(names)] for head, names in heads.groupby(heads, sort=False).groups.items()}
            if len(groups) > 1 and all(len(group.columns) > 1 and _sum_to(group, 1.0) for group in groups.values()):
                return list(groups)
    return []


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(map(repr, names[:-1])), repr(names[-1])] if len(names) > 1 else [repr(names[0])])


def _span(sums: pd.Series) -> str:
    return f"{sums.min():.4g}" if sums.max() - sums.min() < NEAR else f"{sums.min():.4g} … {sums.max():.4g}"


# --- scores and tasks


def scores(path: str | Path) -> pd.DataFrame:
    """Read a score table; raises Refusal naming the file and the row and column that is no number."""
    path = there(path, "score", "a .csv whose first column names the mixture")
    cells = sheets.table(path)
    if sheets.unnamed(cells):
        raise Refusal(f"{path.name}: the first column, {cells.index.name or cells.index[0]!r}, holds scores where the "
                      "mixtures' names belong; put a column of names before it")  # fmt: skip
    return sheets.numbers(cells, path.name).rename_axis(index="mixture", columns=None)


def paired(shares: pd.DataFrame, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `scores` in the row order of `shares`; raises Refusal for a row missing, unknown or there twice."""
    twice = scores.index[scores.index.duplicated()]
    if len(twice):
        raise Refusal(f"{name}: row {twice[0]!r} comes twice; keep one")
    odd = shares.index.symmetric_difference(scores.index)
    if len(odd):
        raise Refusal(f"{name}: {len(odd)} rows have no partner among the mixtures or scores, first {odd[0]!r}")
    return scores.loc[shares.index]


def tasks(path: str | Path, scored: Sequence[str]) -> pd.DataFrame:
    """Read a task table (index task: family, unit, higher_is_better, and more as `data/README.md` says), cell by cell.

    `scored`: the tasks that have scores, each of which it must describe. `target`: whether a task steers, true where
    the column is missing. Raises Refusal naming row and column of what is missing or unknown.
    """
    path = there(path, "task", "a .csv whose first column names the task")
    cells = sheets.table(path)
    if missing := [name for name in FACTS if name not in cells]:
        raise Refusal(f"{path.name}: no column {missing[0]!r}; it has {', '.join(cells)}")
    if unknown := [name for name in cells if name not in (*FACTS, *MORE)]:
        hint = near(unknown[0], (*FACTS, *MORE), "did you mean {!r}? ")
        raise Refusal(f"{path.name}: unknown column {unknown[0]!r}; {hint}known are {', '.join((*FACTS, *MORE))}")
    for kind, ours, theirs, whose in (
        ("task without scores", list(cells.index), list(scored), "the scores' columns are"),
        ("scores without a task", list(scored), list(cells.index), "the tasks are"),
    ):
        if odd := [name for name in ours if name not in theirs]:
            hint = near(odd[0], theirs, "did you mean {!r}? ")
            raise Refusal(f"{path.name}: {odd[0]!r} is a {kind}; {hint}{whose} {', '.join(theirs[:12])}")
    return _typed(cells, path.name).loc[list(scored)]


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
    for name in ("items", "chance", "left_out", "ratio"):
        if name in cells and (filled := cells[name] != "").any():
            table.loc[filled, name] = sheets.numbers(cells.loc[filled, [name]], file)[name]
    others = {name: cells[name] for name in ("version", "metric", "suite") if name in cells}
    return table.assign(**others, items=table["items"].astype(int))


def scored(
    mixtures_csv: str | Path, scores_csv: str | Path, tasks_csv: str | Path = "", *, higher_is_better: bool = False
) -> Scored:
    """Read mixtures and their scores: files whose first column names the mixture; columns are candidates, or tasks.

    Without `tasks_csv` every task is a family of its own in the direction `higher_is_better`. Tasks that are no target
    are left out. Raises Refusal naming file, row, column.
    """
    shares, notes = mixtures(mixtures_csv)
    table = scores(scores_csv)
    if tasks_csv:
        described = tasks(tasks_csv, list(table))
        described = described[described["target"]] if "target" in described else described
        if described.empty:
            raise Refusal(f"{Path(tasks_csv).name}: no task is a target; set `target` to true for what is to steer")
    else:
        described = describe(table.columns, unit="score", higher_is_better=higher_is_better)
    return Scored(shares, paired(shares, table, Path(scores_csv).name)[list(described.index)], described, tuple(notes))


def there(path: str | Path, kind: str, wanted: str) -> Path:
    """Return the path of a file that is there; raises Refusal saying what kind is missing and what is wanted."""
    if not Path(path).is_file():
        raise Refusal(f"no {kind} file at {path}; give {wanted}")
    return Path(path)


def printed(table: str) -> pd.DataFrame:
    """Return a table of a paper as it was printed, from `data/published/<table>.csv`."""
    return pd.read_csv(DATA / "published" / f"{table}.csv")
