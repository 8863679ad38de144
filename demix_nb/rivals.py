"""What rivals really wrote: their tables of mixtures and scores, recognised by their shape and read unchanged.

OLMix (`run`, `name`, `index` before the shares), RegMix (`index` first), mixprior (Parquet with a map of weights for
each phase), an export of Weights & Biases (shares among settings, beside scores), folders of lm-eval's results, DeMix's
JSON of shares and amounts. What each file holds is found out here; the reading rooms (`reading`, `scoresheets`) read
it. Whatever may be meant in two ways is asked back, with the option that decides it.
"""

import csv
import io
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from demix_nb import longsheets, reading, scoresheets, sheets, tasksheets
from demix_nb.reading import NEAR, Opened
from demix_nb.scoresheets import ScoreSheet
from demix_nb.store import Refusal

MARKS = "/:.-_"  # what parts the words of a column's name
PHASES = {"1": "phase0_weights", "2": "phase1_weights"}  # of mixprior's observations, with both scores and names
OUTCOMES, RUN, OBSERVATION = "grouped_bpb", "run_name", "observation_id"
MEAN = "mean"  # of both phases, in place of one


@dataclass(frozen=True)
class Choice:
    """What a caller decides: which file holds mixtures, what its columns of shares are called after, phase, tasks."""

    mixtures: Path | None = None
    shares: str | None = None
    phase: str | None = None
    tasks: Sequence[str] = ()
    higher_is_better: bool | None = None


ASKED_NOTHING = Choice()


@dataclass(frozen=True)
class Brought:
    """Mixtures and their scores with their tasks, where there are some; `told`: what each file was read as."""

    mixtures: pd.DataFrame
    scores: pd.DataFrame | None = None
    tasks: pd.DataFrame | None = None
    told: Sequence[str] = field(default=())

    @property
    def summary(self) -> str:
        """What was read, in a line."""
        parts = [f"{len(self.mixtures)} mixtures", f"{len(self.mixtures.columns)} candidates"]
        if self.tasks is not None:
            losses = int((~self.tasks["higher_is_better"]).sum())
            all_losses = losses == len(self.tasks)
            parts.append(f"{losses} losses" if all_losses else f"{len(self.tasks)} tasks, of which {losses} losses")
        return ", ".join(parts)


@dataclass(frozen=True)
class Held:
    """What one file holds: a shape's name, and mixtures or scores or both."""

    shape: str
    mixtures: Opened | None = None
    scores: ScoreSheet | None = None


def read(paths: Sequence[Path], choice: Choice = ASKED_NOTHING) -> Brought:
    """Read files of mixtures and of scores, in any order; raises Refusal for what is ambiguous, with its option."""
    held = {path: opened(path, choice) for path in paths}
    given = [path for path, one in held.items() if one.mixtures is not None]
    if len(given) != 1:
        found = " and ".join(path.name for path in given) or "none of the files"
        raise Refusal(f"mixtures may be in {found}; say which file holds them by --mixtures")
    mixtures = held[given[0]].mixtures
    told = [f"{path.name}: {_told(one)}" for path, one in held.items()]
    sheets_ = [one.scores for one in held.values() if one.scores is not None]
    if not sheets_:
        return Brought(mixtures.table, told=told)
    scores, tasks = _joined(sheets_, mixtures, choice)
    return Brought(mixtures.table.loc[scores.index], scores, tasks, told)


def opened(path: Path, choice: Choice) -> Held:
    """Return what a file or folder holds, by the first of SHAPES that it has."""
    if not path.exists():
        raise Refusal(f"there is nothing at {path}; mend the path")
    return next(found for shape in SHAPES if (found := shape(path, choice)) is not None)


def _told(held: Held) -> str:
    parts = []
    if held.mixtures is not None:
        table, sums = held.mixtures.table, held.mixtures.sums
        low, high = sums.min(), sums.max()
        span = f"{low:.4g}" if high - low < 5e-4 else f"{low:.4g}–{high:.4g}"
        again = "" if not held.mixtures.notes else ": renormalised"
        parts.append(f"{len(table)} mixtures, {len(table.columns)} candidates; rows sum to {span}{again}")
    if held.scores is not None:
        parts.append(f"{len(held.scores.cells)} rows of {len(held.scores.cells.columns)} columns of scores")
    return f"{held.shape}: {'; '.join(parts)}"


def _joined(given: Sequence[ScoreSheet], mixtures: Opened, choice: Choice) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of all sheets side by side, and what they mean; the mixtures' rows must have them all."""
    tables, higher = [], {}
    for sheet in given:
        wanted = [name for name in choice.tasks if name in sheet.cells] or None
        if wanted is None and sheet.unclear:
            raise Refusal(f"{sheet.file}: not all columns may be scores; say which by --task, of "
                          f"{', '.join(list(sheet.unclear)[:12])}")  # fmt: skip
        tables.append(sheet.scores(sheet.tasks(wanted))[0])
        higher |= sheet.higher
        scoresheets.paired(mixtures.table, tables[-1], sheet.file)
    scores = pd.concat([one.loc[mixtures.table.index] for one in tables], axis=1)
    if twice := list(scores.columns[scores.columns.duplicated()]):
        raise Refusal(f"{twice[0]!r} is scored in two files; give one of them")
    if odd := [name for name in choice.tasks if name not in scores]:
        raise Refusal(f"no file has scores of {odd[0]!r}; there are {', '.join(scores)}")
    known = {name: tasksheets.direction(name) for name in scores} | higher
    if unknown := [name for name in scores if known.get(name) is None and choice.higher_is_better is None]:
        raise Refusal(f"the name {unknown[0]!r} does not tell whether higher is better; say --higher-is-better or "
                      "--lower-is-better, for all whose names do not")  # fmt: skip
    return scores, tasksheets.named(list(scores), given[0].file, None, higher, choice.higher_is_better)


# --- shapes, in the order in which they are tried; each returns what a file holds, or None where it is none of it


def _results(path: Path, choice: Choice) -> Held | None:
    """lm-eval's results: a folder, or one file of them."""
    inside = path.is_file() and sheets.suffix(path) == ".json" and sheets.mapping(path).get("results")
    return Held("lm-eval's results", scores=scoresheets.read(path)) if path.is_dir() or inside else None


def _observations(path: Path, choice: Choice) -> Held | None:
    """mixprior's runs: Parquet with maps of weights by phase, and of losses."""
    if path.suffix != ".parquet":
        return None
    frame = pd.read_parquet(path)
    if missing := [name for name in (*PHASES.values(), OUTCOMES, RUN, OBSERVATION) if name not in frame]:
        raise Refusal(f"{path.name} has no column {missing[0]!r}, as mixprior's observations have; export it as CSV")
    names = list(frame[RUN] if frame[RUN].is_unique else frame[OBSERVATION])
    phases = {name: _maps(frame[column], names) for name, column in PHASES.items()}
    first, last = phases.values()
    if choice.phase is None and not first.equals(last):
        raise Refusal(f"{path.name} holds a mixture for each of two phases; say which by --phase 1, 2 or {MEAN}")
    mean = (first + last) / 2
    if choice.phase not in (None, MEAN, *phases):
        raise Refusal(f"--phase is {choice.phase!r}; it is 1, 2 or {MEAN}")
    shares = phases.get(choice.phase or "1", mean)
    scores = _maps(frame[OUTCOMES], names).add_suffix(" bpb")
    return Held("mixprior's observations", _mixtures(path, shares.map(repr)), _scores(path, scores.map(repr)))


def _maps(column: pd.Series, names: list[str]) -> pd.DataFrame:
    """A table of a column of maps, a row each; what a map leaves out is 0."""
    return pd.DataFrame([dict(one) for one in column], pd.Index(names, name="run")).fillna(0.0).astype(float)


def _mapping(path: Path, choice: Choice) -> Held | None:
    """A mapping of mixtures, such as DeMix's sampled_mixture.json."""
    return Held("a mapping", reading.opened(path)) if sheets.suffix(path) in sheets.MAPPINGS else None


def _table(path: Path, choice: Choice) -> Held:
    """A table: of mixtures, of scores, or of both."""
    cells = sheets.table(path, repeats=True)
    kind = _kind(path, cells)
    if path == choice.mixtures:
        return Held(kind, reading.opened(path))
    long = longsheets.unpivoted(cells, reading.ITEMS, reading.VALUES) is not None
    groups = {} if long else _groups(cells)
    if choice.shares is not None and choice.shares in groups:
        groups = {choice.shares: groups[choice.shares]}
    whole = [head for head, names in groups.items() if len(names) == len(cells.columns)]
    if long or whole or _are_shares(cells):
        return Held(kind, reading.opened(path))
    if len(groups) > 1:
        raise Refusal(f"{path.name}: columns of {' and of '.join(map(repr, groups))} sum to 1 each; say which are the "
                      "mixture's by --shares")  # fmt: skip
    if not groups:
        return Held(kind, scores=scoresheets.read(path))
    [names] = groups.values()
    named = cells.set_axis(_run_names(cells))
    shares = named[list(names)].rename(columns=names)
    rest = named.drop(columns=list(names))
    return Held(kind, _mixtures(path, shares), _scores(path, rest))


SHAPES: tuple[Callable[[Path, Choice], Held | None], ...] = (_observations, _results, _mapping, _table)


def _kind(path: Path, cells: pd.DataFrame) -> str:
    """Whose table it is, by the columns that only theirs have."""
    first = next(csv.reader(io.StringIO(sheets.text(path).splitlines()[0])))
    if "index" in first[1:] and {*sheets.RUNS} & {*first}:
        return "OLMix's table"
    if scoresheets.SIGNS & {*cells}:
        return "an export of Weights & Biases"
    return "RegMix's table" if first[0] == "index" else "a table"


def _are_shares(cells: pd.DataFrame) -> bool:
    """Whether all cells are numbers and rows are shares or percent."""
    values = cells.map(sheets.number)
    if values.isna().any(axis=None) or (values < 0).any(axis=None) or len(values.columns) < 2:
        return False
    sums = values.astype(float).sum(axis=1)
    return any(((sums / whole - 1).abs() <= NEAR).all() for whole in (1.0, 100.0))


def _groups(cells: pd.DataFrame) -> dict[str, dict[str, str]]:
    """What names begin or end with → column → what is left of its name, of columns that sum to 1 in every row."""
    found: dict[str, dict[str, str]] = {}
    for mark in MARKS:
        parts = {name: name.split(mark) for name in cells if mark in name}
        for length in range(1, max(map(len, parts.values()), default=1)):
            for heads in (True, False):
                groups: dict[str, dict[str, str]] = {}
                for name, words in parts.items():
                    cut = length if heads else -length
                    whole, rest = (words[:cut], words[cut:]) if heads else (words[cut:], words[:cut])
                    if whole and rest:
                        groups.setdefault(mark.join(whole), {})[name] = mark.join(rest)
                found |= {head: names for head, names in groups.items() if _are_shares(cells[list(names)])}
    largest = {frozenset(names): head for head, names in found.items()}
    return {head: found[head] for head in largest.values()}


def _run_names(cells: pd.DataFrame) -> pd.Index:
    """The names of runs: Weights & Biases's, else the first column's."""
    named = next((name for name in ("Name", "name") if name in cells), None)
    return pd.Index(cells.index if named is None else cells[named], name="run")


def _mixtures(path: Path, cells: pd.DataFrame) -> Opened:
    return _reopened(path, cells, reading.opened)


def _scores(path: Path, cells: pd.DataFrame) -> ScoreSheet:
    return _reopened(path, cells, scoresheets.read)


def _reopened(path: Path, cells: pd.DataFrame, by: Callable[[Path], Any]) -> Any:
    """What a reading room makes of some cells, as a table of the file's name."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / f"{path.stem}.csv"
        cells.rename_axis(index=cells.index.name or "run").to_csv(part)
        return by(part)
