"""The study file: what a study has, in one YAML; whatever is wrong with it is told before anything is loaded.

`StudyFile` is the file as typed fields, `sections` its parts. Everything in the YAML is read as text (`sheets`): `no`,
`2023` and `nan` are names, and only what a field says becomes a number. Paths are relative to the file. `read` refuses
unknown keys with the nearest one; what cannot stand together, and whether files fit each other, asks `door`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from demix_nb import faults, sheets, store
from demix_nb.engines import PROCESSES, Said
from demix_nb.ranges import PRETRAINED
from demix_nb.sections import (
    RANK,
    Bounds,
    Candidate,
    Model,
    Part,
    Place,
    Rails,
    References,
    Run,
    Runs,
    Share,
    Task,
    Weight,
    Window,
)
from demix_nb.store import Refusal

NAME = "study.yaml"
EMPTY = ("", "~", "null", None)  # how YAML spells nothing
HELDOUT = "heldout"  # the entry of `tasks` that is held-out text
PLACES = ("corpora", "families", "tokenizer", "start")  # of `training`
# words for the text that we have: what comes with `pip install`, DeMix's roles in it → whose tables name its candidates
BUILTIN = {"builtin": "laptop", "seven": "study"}


class StudyFile(Part):
    """A study: candidates, models, tasks, references, region."""

    candidates: dict[str, Candidate] = Field({}, description="in the order of every table")
    components: Place | None = Field(None, description="a folder with a component's folder for every candidate")
    base: Place | None = Field(
        None, description="the checkpoint all components began from; none: no drift, linear merges"
    )
    tokenizer: Place | None = Field(None, description="none: the base's, else the first component's")
    general: str | None = Field(None, description="the candidate that recipes are diluted with")
    beta: Share | None = Field(None, description="share of the candidates in every recipe; none: 1")
    tasks: list[str | dict[str, Any]] = Field([], description="names, or name: what is to be different")
    include_path: Place | None = Field(None, description="a folder of lm-eval task files of your own")
    unsafe_code: bool = Field(False, description="allow tasks that run generated code")
    window: Window | None = Field(None, description="tokens a model sees at once; none: 2048, or what the model has")
    model: Model = Model()
    references: References | None = None
    proxies: Runs | None = Field(None, description="runs somebody has, instead of components")
    region: Bounds = Bounds()
    run: Run = Run()
    objective: str | dict[str, Weight] = Field(
        RANK, description="rank, level, worst family, family: weight, or module:function"
    )
    guardrails: Rails = Field({}, description="family or task: how far it may fall behind the baseline, in its unit")
    engine: Said = Field(PROCESSES, description="processes; dask: an address or local; slurm, pbs, …: its words; cuda")
    training: dict[str, Any] | None = Field(
        None, description="of studies whose models we train: notebook 01's parameters"
    )

    @property
    def trained_here(self) -> bool:
        """Whether notebook 01 wrote it, so that `training` names what trains its models."""
        return "trainer" in (self.training or {})

    @property
    def to_train(self) -> bool:
        """Whether notebook 01 is to train its models first."""
        return self.training is not None and not self.trained_here

    @property
    def families(self) -> dict[str, str]:
        """Candidate → family; one that says none is a family of its own."""
        return {name: one.family or name for name, one in self.candidates.items()}

    @property
    def folders(self) -> dict[str, Path]:
        """Candidate → its component's folder, of those that have one."""
        said = {name: one.component for name, one in self.candidates.items()}
        return {name: path or self.components / name for name, path in said.items() if path or self.components}

    @property
    def asked(self) -> list[tuple[str, Task]]:
        """The entries of `tasks`, name and what is said of it."""
        return [next(iter(one.items())) if isinstance(one, dict) else (one, Task()) for one in self.tasks]


def schema() -> dict[str, Any]:
    """Return the JSON schema of the file, for editors."""
    made = StudyFile.model_json_schema()
    made["$defs"]["Task"] = Task.model_json_schema()
    entry = {"type": "object", "maxProperties": 1, "additionalProperties": {"$ref": "#/$defs/Task"}}
    entry["properties"] = {HELDOUT: {"type": ["string", "object"]}}
    made["properties"]["tasks"]["items"] = {"anyOf": [{"type": "string"}, entry]}
    return made | {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def read(path: str | Path) -> StudyFile:
    """Read a study file; raises Refusal naming the key and the remedy, also for YAML with a tag or without mapping."""
    path = Path(path)
    if not path.is_file():
        told = "run notebook 01 first (`demix-nb run components`), or write one by `demix-nb study init FOLDER`"
        raise Refusal(f"no study file at {path}; {told}")
    faults.refuse_tags(path)
    return parse(sheets.mapping(path, "keys to values"), path)


def parse(content: Mapping[str, Any], path: Path) -> StudyFile:
    """Return the study that a mapping of names and texts describes; `path` is the file's, for messages and places."""
    home = {"home": path.resolve().parent}
    try:
        file = StudyFile.model_validate(_said(_whole(content)), context=home)
        entries = [_entry(one, file, home) for one in file.tasks]
    except ValidationError as error:
        raise Refusal(f"{path.name}: {faults.told(error, StudyFile)}") from error
    except Refusal as refusal:
        raise Refusal(f"{path.name}: {refusal}") from refusal
    return file.model_copy(update={"tasks": entries, "training": _placed(file, home["home"])})


def _placed(file: StudyFile, home: Path) -> dict[str, Any] | None:
    """What notebook 01 is told, with whole paths."""
    if not file.to_train:
        return file.training
    words = ("", *BUILTIN, *PRETRAINED)
    places = {name: file.training[name] for name in PLACES if file.training.get(name, "") not in words}
    return file.training | {name: str(home / Path(str(said)).expanduser()) for name, said in places.items()}


def _whole(content: Mapping[str, Any]) -> dict[str, Any]:
    tasks = content.get("tasks")
    kept = {"candidates": _named(content.get("candidates"))}
    kept |= {"tasks": [_named(one) for one in tasks] if isinstance(tasks, list) else tasks}
    return dict(content) | {key: value for key, value in kept.items() if key in content}


def _said(value: Any) -> Any:
    """The same without what is left empty; a candidate or task of which nothing is said keeps its name."""
    if isinstance(value, list):
        return [_said(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {key: _said(one) for key, one in value.items() if one not in EMPTY}


def _named(value: Any) -> Any:
    return {name: {} if said in EMPTY else said for name, said in value.items()} if isinstance(value, dict) else value


def dumped(file: StudyFile) -> dict[str, Any]:
    """Return what a study file says as plain values, paths whole; what it leaves out is left out."""
    told = file.model_dump(mode="json", exclude_defaults=True)
    tasks = [{name: task.model_dump(mode="json", exclude_defaults=True)} for name, task in file.asked]
    return told | ({"tasks": tasks} if tasks else {})


def write(file: StudyFile, path: Path) -> None:
    """Write a study file, whole or not at all; what lies beside it by its relative path, so that a run can be moved."""
    content = _relative(dumped(file), path.resolve().parent)
    with store.atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _relative(value: Any, home: Path) -> Any:
    if isinstance(value, dict):
        return {key: _relative(one, home) for key, one in value.items()}
    if isinstance(value, list):
        return [_relative(one, home) for one in value]
    return beside(Path(value), home) if isinstance(value, str) and Path(value).is_absolute() else value


def beside(path: Path, home: Path) -> str:
    """Return a whole path as a file in the folder `home` writes it: relative where it lies beside the file."""
    return str(path.relative_to(home) if path.is_relative_to(home) else path)


# --- one entry of `tasks`


def _entry(one: str | dict[str, Any], file: StudyFile, home: dict[str, Path]) -> dict[str, Task]:
    """An entry with what is said of it typed; the held-out text's files may stand for all of it."""
    one = {one: {}} if isinstance(one, str) else one
    if len(one) != 1:
        raise Refusal(f"an entry of tasks names {' and '.join(map(repr, one)) or 'nothing'}; begin each with a dash")
    [(name, said)] = one.items()
    named = set(said) if isinstance(said, dict) else set()
    files = isinstance(said, str) or (named and (named <= set(file.candidates) or not named <= set(Task.model_fields)))
    if name == HELDOUT and files:
        said = {"text": said}
    try:
        task = Task.model_validate(said or {}, context=home)
    except ValidationError as error:
        raise Refusal(faults.told(error, Task, f"tasks.{name}")) from error
    if name == HELDOUT and task.text is None:
        raise Refusal("tasks names heldout without text; write `heldout: FOLDER`, or candidate: file for each")
    if name != HELDOUT and task.text is not None:
        raise Refusal(f"tasks.{name} has text, which only heldout has; drop it")
    return {name: task}


def as_json() -> str:
    """Return the JSON schema as text."""
    return json.dumps(schema(), indent=1)


__all__ = ["HELDOUT", "NAME", "StudyFile", "Task", "as_json", "parse", "read", "schema", "write"]
