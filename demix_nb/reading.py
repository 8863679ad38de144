"""The door for other people's mixtures, scores and tasks: they are checked, and what was repaired is said.

Mixtures come as CSV, YAML or JSON (`entries`), as shares, percent or counts; what is a table, `sheets` says, what are
scores, `scoresheets`, and what these mean, `tasksheets`. Whatever passes is a mixture table or a `Scored`; whatever
does not is refused by file, row and column. What could be read in two ways is refused, too: a column too many (a seed,
a total, a step) makes a mixture that nobody trained.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from demix_nb import DATA, entries, longsheets, scoresheets, sheets, tasksheets
from demix_nb.mixtures import SUM_TOLERANCE, validate
from demix_nb.ranges import near
from demix_nb.scored import Scored
from demix_nb.store import Refusal

NEAR = 0.01  # how far from 1 (or 100) shares may sum by rounding: RegMix's three digits in 17 columns are 0.4 % off
EQUAL = 1e-6  # of a sum: amounts of one total differ by less
ITEMS, VALUES = (
    ("candidate", "domain", "source", "dataset", "topic"),
    ("share", "weight", "ratio", "proportion", "value"),
)


# --- mixtures


def mixtures(
    path: str | Path,
    candidates: Sequence[str] | None = None,
    *,
    folders: Mapping[str, Path] | None = None,
    grown: bool = False,
) -> tuple[pd.DataFrame, list[str]]:
    """Read mixtures as people have them; return the mixture table and notes of what was normalised or left out.

    Takes CSV (the first column names the mixture; or long, a share a line), YAML or JSON (name → candidate → weight; a
    flat candidate → weight mapping is one mixture; our `mixture.yaml`; mergekit's linear merge, whose models are known
    by `folders`, candidate → component, or their last name). A candidate that is not named weighs 0; one without a
    column does where rows sum to 1 without it. Weights are shares, off 1 by at most 1 %, or percent or amounts, which
    are divided by their sum: in a table all rows are one of these, in a mapping every entry. `grown`: the study's
    candidates may no longer be those of the file; mixtures that give nothing to what is none any more are kept. More
    candidates without a column than columns without a candidate are a split; otherwise a name is changed or misspelt.
    Raises Refusal naming the entry for unknown candidates, weights that are no numbers or negative, entries without
    weight, and sums that are neither.
    """
    read = opened(path, candidates, folders=folders, grown=grown)
    return read.table, read.notes


class Opened(NamedTuple):
    """Mixtures, notes of repairs, what a grown study has no more (mixtures left out, candidates), sums of weights."""

    table: pd.DataFrame
    notes: list[str]
    left: list[str]
    gone: list[str]
    sums: pd.Series

    @property
    def names(self) -> list[str]:
        """All mixtures that the file names."""
        return [*self.table.index, *self.left]


def opened(
    path: str | Path,
    candidates: Sequence[str] | None = None,
    *,
    folders: Mapping[str, Path] | None = None,
    grown: bool = False,
    trained: bool = False,
) -> Opened:
    """Read mixtures as `mixtures` does, and say what else the file holds; `trained`: recipes, where it has them."""
    path = sheets.there(path, "mixture", "a .csv, .yaml or .json file")
    if is_table := sheets.suffix(path) in sheets.TABLES:
        weights = _table(path, candidates, grown)
    else:
        weights = _entries(path, entries.read(path, folders, trained=trained), candidates, grown)
    if len(negative := np.argwhere(weights.to_numpy() < 0)):
        row, column = negative[0]
        name, value = weights.columns[column], weights.iat[row, column]
        raise Refusal(f"{path.name}: entry {weights.index[row]!r} has weight {value:g} for {name!r}; "
                      "weights are not negative")  # fmt: skip
    if (empty := weights.sum(axis=1) == 0).any():
        raise Refusal(f"{path.name}: entry {empty.idxmax()!r} is all zero; give at least one candidate a weight")
    for _, rows in [("", weights)] if is_table else weights.groupby(level=0, sort=False):
        _check_sums(path.name, rows)
    kept, told = _of_candidates(path.name, weights, candidates, is_table)
    sums = sum(kept[name] for name in kept)  # one by one: with another candidate of zeros, not a digit differs
    notes = [f"{name}: weights summed to {total:.6g}, divided by it" for name, total in sums.items()
             if abs(total - 1) > SUM_TOLERANCE]  # fmt: skip
    left = [name for name in weights.index if name not in kept.index]
    gone = [name for name in weights if candidates is not None and name not in candidates]
    return Opened(validate(kept.div(sums, axis=0), candidates), [*told, *notes], left, gone, sums)


def _table(path: Path, candidates: Sequence[str] | None, grown: bool) -> pd.DataFrame:
    cells = sheets.table(path, repeats=True)
    if (told := longsheets.unpivoted(cells, ITEMS, VALUES)) is not None:
        item = next(name for name in told if name not in ("row", "value"))
        lines = told[["row", item, "value"]].itertuples(index=False, name=None)
        cells, _ = longsheets.gathered(path.name, lines, untold="0")
    sheets.check_names(path.name, "row", list(cells.index))
    if sheets.unnamed(cells) or (candidates is not None and cells.index.name in {*candidates} - {*cells}):
        raise Refusal(f"{path.name}: the first column, {cells.index.name or cells.index[0]!r}, holds shares where the "
                      "mixtures' names belong; put a column of names, or of numbers from 1 on, before it")  # fmt: skip
    _check_known(path.name, {cells.index[0]: list(cells)}, candidates, grown)
    return sheets.numbers(cells, path.name)


def _entries(path: Path, given: Mapping[str, Any], candidates: Sequence[str] | None, grown: bool) -> pd.DataFrame:
    _check_known(path.name, given, candidates, grown)
    rows = {name: _weights(path, name, weights) for name, weights in given.items()}
    names = dict.fromkeys([*(candidates or ()), *(name for row in rows.values() for name in row)])
    return pd.DataFrame({key: {name: row.get(name, 0.0) for name in names} for key, row in rows.items()}).T


def _weights(path: Path, entry: str, given: Mapping[str, Any]) -> dict[str, float]:
    if not given:
        raise Refusal(f"{path.name}: entry {entry!r} is empty; give at least one candidate a weight")
    read = {name: sheets.number(value) for name, value in given.items()}
    for name, value in read.items():
        if value is None:
            held = given[name] if not isinstance(given[name], str) else repr(given[name])
            raise Refusal(f"{path.name}: entry {entry!r} has weight {held} for {name!r}; weights are finite numbers")
    return read


def _check_known(
    file: str, given: Mapping[str, Collection[str]], candidates: Sequence[str] | None, grown: bool
) -> None:
    """Refuse a name that is no candidate; in a `grown` study only where it may be the new name of a missing one."""
    if candidates is None:
        return
    found = {name for names in given.values() for name in names}
    missing = {*candidates} - found
    if grown and (not missing or len(found - {*candidates}) < len(missing)):
        return
    remedy = f"; is {min(missing)!r} new, give it a column of zeros" if grown else ""
    for entry, names in given.items():
        if unknown := [name for name in names if name not in candidates]:
            hint = near(unknown[0], candidates, "did you mean {!r}? ")
            raise Refusal(f"{file}: entry {entry!r} names unknown candidate {unknown[0]!r}; {hint}"
                          f"candidates: {', '.join(candidates)}{remedy}")  # fmt: skip


def _of_candidates(
    file: str, weights: pd.DataFrame, candidates: Sequence[str] | None, is_table: bool
) -> tuple[pd.DataFrame, list[str]]:
    """The mixtures of these candidates alone, in their order, and what is to be told of others and of missing ones."""
    if candidates is None:
        return weights, []
    missing = [name for name in candidates if name not in weights] if is_table else []
    if missing and not _plain(weights):
        raise Refusal(f"{file}: no column for candidate {missing[0]!r}, and rows are no shares that sum to 1 without "
                      "it; add the column")  # fmt: skip
    notes = [f"no column for {name!r}: taken as 0" for name in missing]
    gone = [name for name in weights if name not in candidates]
    for name in gone:
        without = int((weights[name] == 0).sum())
        notes.append(f"{name!r} is no candidate any more: {without} mixtures without it kept, "
                     f"{len(weights) - without} with it left out")  # fmt: skip
    kept = weights[(weights[gone] == 0).all(axis=1)]
    if kept.empty:
        raise Refusal(f"{file}: every mixture gives a share to {_listed(gone)}, no candidate any more, so none is "
                      "left; make it a candidate, or give other mixtures")  # fmt: skip
    return kept.reindex(columns=list(candidates), fill_value=0.0), notes


def _check_sums(file: str, weights: pd.DataFrame) -> None:
    """Refuse weights that are neither shares nor percent nor amounts, with what they sum to and what may be wrong."""
    if _sum_to(weights, 1.0):
        return
    if odd := _too_many(weights):
        raise Refusal(f"{file}: without {_listed(odd)} every row sums to the same, with it to "
                      f"{_span(weights.sum(axis=1))}; is {odd[0]!r} a candidate? If not, drop the column")  # fmt: skip
    if (weights.where(weights > 0, 1.0) >= 1).all(axis=None) or _sum_to(weights, 100.0):
        return
    off, span = ((sums := weights.sum(axis=1)) - 1).abs().idxmax(), _span(sums)
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


# --- mixtures with their scores


def scored(
    mixtures: str | Path,
    scores: str | Path,
    tasks: str | Path | None = None,
    *,
    candidates: Sequence[str] | None = None,
    higher_is_better: bool | Mapping[str, bool] | None = None,
    asked: Sequence[str] | None = None,
) -> Scored:
    """Read mixtures and their scores, matched by the mixtures' names (`scoresheets.read`: which files of scores).

    `tasks`: a table of what they mean; without it every task is a family of its own, in the direction that
    `higher_is_better` tells of all or of some, or the file of scores, or the task's name. Tasks that are no target are
    left out, and all that are not `asked` where these are named. With `candidates` the mixtures are theirs, grown or
    not. Raises Refusal naming file, row, column.
    """
    read = opened(mixtures, candidates, grown=candidates is not None)
    sheet = scoresheets.read(scores, read.names)
    return joined(read, sheet, tasks, higher_is_better=higher_is_better, asked=asked)


def joined(
    read: Opened,
    sheet: scoresheets.ScoreSheet,
    tasks: str | Path | None = None,
    *,
    higher_is_better: bool | Mapping[str, bool] | None = None,
    rest: bool | None = None,
    asked: Sequence[str] | None = None,
) -> Scored:
    """Return what `scored` does of opened mixtures and scores; `rest`: the direction where nobody else tells one."""
    if tasks:
        described = _described(tasks, sheet, asked)
    else:
        described = tasksheets.named(sheet.tasks(asked), sheet.file, higher_is_better, sheet.higher, rest)
    table, again = sheet.scores(list(described.index))
    table = scoresheets.paired(read.table, table.drop(index=read.left, errors="ignore"), sheet.file)
    return Scored(read.table, table, described, (*read.notes, *again))


def _described(tasks: str | Path, sheet: scoresheets.ScoreSheet, asked: Sequence[str] | None) -> pd.DataFrame:
    """The task table, of the tasks asked and of those that are targets."""
    described = tasksheets.read(tasks, list(sheet.cells), some=sheet.some or asked is not None)
    name = Path(tasks).name
    if asked is not None:
        if odd := [task for task in sheet.tasks(asked) if task not in described.index]:
            raise Refusal(f"{name}: no row for task {odd[0]!r}, which is asked for; add it")
        described = described.loc[list(asked)]
    described = described[described["target"]] if "target" in described else described
    if described.empty:
        raise Refusal(f"{name}: no task is a target; set `target` to true for what is to steer")
    return described


def printed(table: str) -> pd.DataFrame:
    """Return a table of a paper as it was printed, from `data/published/<table>.csv`."""
    return pd.read_csv(DATA / "published" / f"{table}.csv")
