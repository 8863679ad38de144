"""What a study file names, read: held-out text, tasks, runs, and references as models or as scores.

Every function takes the file and returns tables and folders; none opens a model.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from demix_nb import documents, reading, scoresheets
from demix_nb.engines import Engine
from demix_nb.ranges import near
from demix_nb.scored import Scored, parted
from demix_nb.store import Refusal
from demix_nb.studyfile import HELDOUT, StudyFile, Task

if TYPE_CHECKING:
    from demix_nb.scoring import Asked

WINDOW = 2048  # tokens that a model sees at once where nothing is said; the number is ours
RECORD = {"kind": str, "seed": int, "tokens": int, "seconds": float, "loss": float, "delta": float}


def no_records() -> pd.DataFrame:
    """Return the table of what was recorded while models were trained, of none."""
    return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in RECORD.items()}).rename_axis("model")


@dataclass(frozen=True)
class Models:
    """Models by name and the mixtures they stand for: stored ones by folder, or known by their scores alone.

    `records`: what was recorded while they were trained here. `notes`: which were left out and why, and what else was
    made of the tables that name them.
    """

    folders: Mapping[str, Path]
    mixtures: pd.DataFrame
    records: pd.DataFrame = field(default_factory=no_records, repr=False)
    scores: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    notes: tuple[str, ...] = ()

    @classmethod
    def none(cls, candidates: Sequence[str]) -> "Models":
        """No model."""
        return cls({}, pd.DataFrame(columns=list(candidates), dtype=float).rename_axis("mixture"))

    def __len__(self) -> int:
        return len(self.mixtures)

    @property
    def delta(self) -> float:
        """Mean size of their updates, each Σ|Θ−Θ_base| / (Σ|Θ|+Σ|Θ_base|) (DeMix eq. 4)."""
        return float(self.records["delta"].mean())

    def of(self, names: Iterable[str]) -> "Models":
        """The models among these, by name."""
        kept = [name for name in names if name in self.mixtures.index]
        folders = {name: self.folders[name] for name in kept if name in self.folders}
        return Models(folders, self.mixtures.loc[kept], self.records, self.scores.reindex(kept), self.notes)

    def __add__(self, other: "Models") -> "Models":
        mixtures, records = (
            pd.concat(pair) for pair in ((self.mixtures, other.mixtures), (self.records, other.records))
        )
        folders, notes = {**self.folders, **other.folders}, self.notes + other.notes
        return Models(folders, mixtures, records.sort_index(), notes=notes)


@dataclass(frozen=True)
class HeldOut:
    """Documents that no model was trained on: candidate → family, candidate → texts."""

    families: Mapping[str, str]
    heldout: Mapping[str, Sequence[str]]


def texts(file: StudyFile, candidates: Sequence[str]) -> list[str]:
    """Return the candidates that have held-out text; none where the study has no text. No document is read."""
    text = dict(file.asked).get(HELDOUT, Task()).text
    return list(documents.files(text, candidates)) if text else []


def heldout(file: StudyFile, candidates: Sequence[str]) -> dict[str, list[str]]:
    """Return candidate → held-out documents, of the candidates that have some; nothing where the study has no text."""
    text = dict(file.asked).get(HELDOUT, Task()).text
    found = documents.of(text, candidates) if text else {}
    for name, held in found.items():
        if empty := [number for number, document in enumerate(held, 1) if not document.strip()]:
            raise Refusal(f"held-out text of {name!r}: document {empty[0]} is empty; take it out")
    return found


def asked(file: StudyFile, names: Sequence[str] | None, limit: int | None = None) -> list["Asked"]:
    """Return what is asked of models: entries of `tasks` by name, or all of them.

    A name that is none stands for itself, by `limit` items a task.
    """
    from demix_nb.scoring import Asked

    known = dict(file.asked)
    entries = {name: known.get(name, Task(limit=limit)) for name in (known if names is None else names)}
    return [Asked(name, **_of(task)) for name, task in entries.items()]


def _of(task: Task) -> dict[str, Any]:
    same = ("family", "filter", "num_fewshot", "limit", "window", "target", "higher_is_better")
    return {name: getattr(task, name) for name in same} | {"metrics": tuple(task.metric)}


def precision(file: StudyFile, *, here: bool = False) -> tuple[str, str]:
    """Return the dtype and the device that a study's models are opened with on its engine, or in this very process.

    Raises Refusal as `devices.resolve` and `devices.elsewhere`.
    """
    from demix_nb import devices

    dtype, device, folders = file.model.dtype, file.model.device, list(file.folders.values())
    engine = Engine.of(file.engine)
    if engine is None:
        return devices.resolve(dtype, device, folders)
    there = devices.elsewhere(dtype, device, folders, gpus=engine.row.gpu)
    return devices.resolve(there[0], "auto", folders) if here else there


def longest(folder: Path) -> int | None:
    """Return the tokens that a model sees at once; None where its configuration does not say."""
    from demix_nb.merging.folders import read_config

    return getattr(read_config(folder).get_text_config(), "max_position_embeddings", None)


def window_of(folder: Path) -> int:
    """Return the tokens that a model sees at once where the study says nothing: its own, at most `WINDOW`."""
    return min(WINDOW, longest(folder) or WINDOW)


# --- tables


def runs(file: StudyFile, candidates: Sequence[str] | None = None) -> Scored:
    """Return the runs of a study of tables, on the tasks that it names, or on all columns of scores."""
    given = file.proxies
    read = reading.opened(given.mixtures, candidates, grown=candidates is not None)
    sheet = scoresheets.read(given.scores, read.names)
    said = {name: task for name, task in file.asked if name != HELDOUT}
    said = {column: task for name, task in said.items() for column in _columns(name, task.metric, sheet.cells)}
    direction = {name: task.higher_is_better for name, task in said.items() if task.higher_is_better is not None}
    how = {"higher_is_better": direction, "rest": given.higher_is_better, "asked": list(said) or None}
    found = reading.joined(read, sheet, given.tasks, **how)
    tasks = found.tasks.assign(suite="runs", mode="likelihood", target=True)
    for name, task in said.items():
        if name not in tasks.index:  # which the task table says is no target
            continue
        told = {"family": task.family, "unit": task.unit, "target": task.target}
        for fact, value in told.items():
            tasks.loc[name, [fact]] = tasks.loc[name, fact] if value is None else value
    return Scored(found.mixtures, found.scores, parted(tasks), found.notes)


def _columns(task: str, metrics: Sequence[str], held: Collection[str]) -> list[str]:
    """The columns of a task in a table of scores: its name, or the metric's behind it where a table has several."""
    behind = [f"{task}/{metric}" for metric in metrics]
    return behind if behind and (len(behind) > 1 or task not in held) else [task]


# --- what is allowed, and what is to be beaten


# --- references


def references(file: StudyFile, candidates: Sequence[str], tasks: pd.DataFrame | None) -> dict[str, Models]:
    """Return role → the really trained models that were given, by folder or by their scores on some of the `tasks`.

    Those of role `replicate` are second trainings of mixtures of the first. What was trained when the study had other
    candidates stays where its share of those that went is 0; the notes say what does not. Raises Refusal for a mixture
    off the simplex, a model that is missing, and scores of unknown tasks or without one that steers; `tasks` None:
    these are not asked.
    """
    given = file.references
    if given is None:
        return {role: Models.none(candidates) for role in ("reference", "replicate")}
    read = reading.opened(given.mixtures, candidates, folders=file.folders, grown=True)
    place = given.scores if given.checkpoints is None else given.checkpoints
    first = _models(place, read, tasks, "reference")
    if missing := [name for name in read.table.index if name not in first.mixtures.index]:
        raise Refusal(f"reference {missing[0]!r} has no model or scores in {place}; add it, or take its mixture out")
    first = replace(first, notes=(*read.notes, *first.notes))
    return {"reference": first, "replicate": _models(given.replicates, read, tasks, "replicate")}


def _models(
    place: Path | dict[str, Path] | None, read: reading.Opened, tasks: pd.DataFrame | None, role: str
) -> Models:
    """The models of these mixtures at a place: a mapping to folders, a folder of folders, or scores."""
    mixtures = read.table
    if place is None:
        return Models({}, mixtures.iloc[:0])
    if isinstance(place, dict) or any(place.glob("*/config.json")):
        folders = place if isinstance(place, dict) else {path.parent.name: path.parent for path in _configs(place)}
        there = [name for name in mixtures.index if name in folders]
        if not there:
            told = f"{place} holds no {role} of {', '.join(mixtures.index[:3])}, …"
            raise Refusal(f"{told}; call folders as mixtures are")
        return Models({name: folders[name] for name in there}, mixtures.loc[there])
    sheet = scoresheets.read(place, read.names)
    there = [name for name in mixtures.index if name in sheet.cells.index]
    if not there:
        told = f"{sheet.file} scores no mixture of {', '.join(mixtures.index[:3])}, …"
        raise Refusal(f"{told}; call rows as mixtures are")
    if tasks is None:
        return Models({}, mixtures.loc[there])
    columns = {_column(name, row, sheet.cells): name for name, row in tasks.iterrows()}
    found = [name for name in columns if name in sheet.cells] if sheet.some else sheet.tasks()
    notes = _check_tasks([columns.get(name, name) for name in found], tasks, sheet.file, read.gone)
    scores, again = sheet.scores([name for name in found if name in columns])
    scores = scores.rename(columns=columns).loc[there]
    return Models({}, mixtures.loc[there], scores=scores, notes=(*notes, *again))


def _configs(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/config.json"))


def _column(name: str, row: pd.Series, held: Collection[str]) -> str:
    """The column of a row of the task table in a table of scores that may have several metrics of one task."""
    task, metric = name.partition("/")[0], row.get("metric", "")
    spelt = (name, f"{task}/{metric}", f"{task}/{metric},{row.get('filter') or 'none'}")
    return next((one for one in spelt if one in held), name)


def _check_tasks(found: Sequence[str], tasks: pd.DataFrame, name: str, dropped: Collection[str]) -> list[str]:
    """Refuse scores of unknown tasks, or without one that steers; return a note of each that was a candidate's text."""
    known, gone = list(tasks.index), {f"{HELDOUT}_{candidate}" for candidate in dropped}
    if unknown := [task for task in found if task not in known and task not in gone]:
        hint = near(unknown[0], known, "did you mean {!r}? ")
        raise Refusal(f"{name}: {unknown[0]!r} is no task of the study; {hint}its tasks are {', '.join(known[:12])}")
    if missing := [task for task in known if tasks.loc[task, "target"] and task not in found]:
        raise Refusal(f"{name}: no scores of {missing[0]!r}, which steers; add them, or set its `target` to false")
    return [f"{name}: {task!r} is no task of the study any more, its scores are passed over"
            for task in found if task in gone]  # fmt: skip
