"""What a study file holds, what it lacks, and what each notebook will show of it, told before anything runs.

Everything is read from configurations, headers of weights and tables; no model is opened. What a notebook shows follows
from what there is: `STEPS` has a row for each, and says it in a line.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from demix_nb import given, studyfile
from demix_nb.engines import Engine, unguarded
from demix_nb.fidelity import MIN_REFERENCES
from demix_nb.running import runner
from demix_nb.running.given import Given
from demix_nb.studyfile import HELDOUT, StudyFile, Task

SHOWN = 8  # tasks of a table of scores, and notes on tables, that are told


@dataclass(frozen=True)
class Holdings:
    """What there is of everything that decides what notebooks show, in numbers of models, mixtures or candidates."""

    components: int = 0
    trained: bool = False
    base: bool = False
    text: int = 0
    runs: int = 0
    references: int = 0
    replicates: int = 0
    tokens: bool = False
    baseline: str = "uniform"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, opened: Given) -> "Holdings":
        """Count what a study names; models that are trained here stand for themselves (`trained`)."""
        file, names = opened.file, opened.candidates
        brought = given.references(file, names, None)
        runs = [] if opened.runs is None else [opened.runs]
        return cls(
            components=len(names) if file.to_train else len(file.folders),
            trained=file.to_train or file.trained_here,
            base=file.to_train or file.base is not None,
            text=len(names) if file.to_train else len(given.texts(file, names)),
            runs=sum(map(len, runs)),
            references=len(brought["reference"]),
            replicates=len(brought["replicate"]),
            tokens=file.to_train or all(one.tokens for one in file.candidates.values()),
            baseline=_baseline(file),
            notes=tuple(note for table in (*runs, brought["reference"]) for note in table.notes),
        )

    @property
    def lacking(self) -> list[str]:
        """What is not there, by name; runs stand in the place of components, base and text."""
        facts = {
            "components": self.components or self.runs,
            "a base": self.base or self.runs,
            "held-out text": self.text or self.runs,
            "references": self.references or self.trained,
            "a second seed": self.replicates or self.trained,
            "tokens of every candidate": self.tokens,
        }
        return [name for name, there in facts.items() if not there]


def _baseline(file: StudyFile) -> str:
    said = file.run.baseline
    return said if isinstance(said, str) else "the baseline" if said is not None else "plain mixtures"


# --- what each notebook will show


def _merging(has: Holdings) -> str:
    if not has.components:
        return "nothing to merge, there are no components"
    barrier = "" if has.text else "; no loss barrier, no held-out text"
    drift = "every merge method, drift and cosines" if has.base else "linear merges alone: no base, so no drift"
    return f"{drift}{barrier}" + ("" if has.trained else "; nothing really trained on the path")


def _fidelity(has: Holdings) -> str:
    if has.trained:
        return "references are trained, and trained once more with another seed: every proxy gets a verdict"
    if not has.references:
        return "nothing to validate, no references; notebook 05 proposes what to train"
    if has.references < MIN_REFERENCES:
        return f"too few references for a verdict, {has.references} of {MIN_REFERENCES}; notebook 05 proposes more"
    noise = f"noise of {has.replicates} second seeds" if has.replicates else "no second seed: no noise, no ceiling"
    return f"proxies against {has.references} references; {noise}"


def _regression(has: Holdings) -> str:
    learnt = f"{has.runs} runs" if has.runs else "proxies of fresh mixtures"
    judged = "the references" if has.trained or has.references >= MIN_REFERENCES else "a third held out"
    return f"predictors learn from {learnt}, judged on {judged}"


def _search(has: Holdings) -> str:
    verdict = "references" if has.trained or has.references >= MIN_REFERENCES else "none"
    return f"a mixture, beside {has.baseline}; evidence: {verdict}" + ("" if has.tokens else "; no natural shares")


def _quality(has: Holdings) -> str:
    if has.trained:
        return "winners and plain mixtures are trained and placed among the references"
    return "no verdict: the winner is not trained here; train it, and name it among the references"


def _playground(has: Holdings) -> str:
    if not has.components:
        return "the desk and the landscape, from predictions; no live model"
    return "the desk, the landscape and a live merged model" + ("" if has.text else "; no held-out text to score it on")


STEPS: dict[str, Callable[[Holdings], str]] = {
    "02_merging": _merging,
    "03_proxy_fidelity": _fidelity,
    "04_regression": _regression,
    "05_search": _search,
    "06_domain_interactions": lambda has: "which candidate helps which task, in the mixtures that notebook 05 scored",
    "07_mixture_quality": _quality,
    "08_playground": _playground,
}


# --- tables


def told(path: Path) -> list[Table]:
    """Return what `demix-nb study check` prints of a study file; raises Refusal as the run of it would."""
    opened = Given.open(path)
    runner.plan([], "laptop", {}, None, opened)
    has = Holdings.of(opened)
    shows = _table("notebook", "will show")
    for step, row in STEPS.items():
        shows.add_row(step, Text(row(has)))
    return [part for part in (_candidates(opened), _facts(opened, has), _tasks(opened), shows) if part.row_count]


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _candidates(opened: Given) -> Table:
    """The candidates, with the columns of which something is known."""
    file = opened.file
    columns = {
        "candidate": {name: name for name in opened.candidates},
        "family": {name: one.family for name, one in file.candidates.items() if one.family},
        "tokens": {name: f"{one.tokens:,.0f}" for name, one in file.candidates.items() if one.tokens},
        "component": {name: _short(folder, opened) for name, folder in file.folders.items()},
    }
    filled = {column: said for column, said in columns.items() if said}
    shown = _table(*filled)
    for name in opened.candidates:
        shown.add_row(*(Text(said.get(name, "")) for said in filled.values()))
    return shown


def _facts(opened: Given, has: Holdings) -> Table:
    file = opened.file
    facts = {
        "components": _components(opened),
        "base": _short(file.base, opened) if file.base else "",
        "tokenizer": _tokenizer(opened),
        "models": _model(file),
        "engine": _engine(opened.engine),
        "runs": f"{has.runs} scored mixtures" if has.runs else "",
        "references": _references(opened, has),
        "of these": _notes(has),
        "recipes": f"{file.beta:g} of the candidates, the rest {file.general}" if file.general else "",
        "region": _region(opened.file),
        "run": _run(opened),
        "lacks": ", ".join(has.lacking),
        "results in": _short(opened.folder, opened),
    }
    shown = _table("study", _short(opened.path, opened))
    for name, said in facts.items():
        if said:
            shown.add_row(name, Text(said))
    return shown


def _engine(engine: Engine | None) -> str:
    """What does the work, and what is to be said of an address that others reach."""
    if engine is None:
        return ""
    warning = unguarded(engine.address) if engine.address else ""
    return "; ".join(filter(None, (engine.told, warning)))


def _components(opened: Given) -> str:
    """Architecture and size of all components, which are alike, from the first one's configuration and headers."""
    if opened.file.to_train:
        return "trained by notebook 01"
    if not opened.file.folders:
        return ""
    from demix_nb.devices import saved_dtype
    from demix_nb.merging.folders import open_checkpoint

    first = next(iter(opened.file.folders.values()))
    found = open_checkpoint(first)
    size = sum(math.prod(shape) for shape in found.shapes.values())
    return f"{len(opened.file.folders)} × {found.config.get('model_type')}, {size:,} parameters, {saved_dtype(first)}"


def _tokenizer(opened: Given) -> str:
    file = opened.file
    if file.to_train or not file.folders:
        return ""
    return _short(file.tokenizer or file.base or next(iter(file.folders.values())), opened)


def _model(file: StudyFile) -> str:
    if not file.folders:
        return ""
    dtype, device = given.precision(file)
    window = file.window or given.window_of(next(iter(file.folders.values())))
    return f"opened in {dtype} on {device}, {window:,} tokens at once, {file.model.batch_tokens:,} in a pass"


def _references(opened: Given, has: Holdings) -> str:
    if not (said := opened.file.references):
        return ""
    seconds = f", {has.replicates} with a second seed" if has.replicates else ""
    return f"{has.references} as {'models' if said.checkpoints is not None else 'scores'}{seconds}"


def _notes(has: Holdings) -> str:
    more = [f"and {len(has.notes) - SHOWN} more such notes"] if len(has.notes) > SHOWN else []
    return "\n".join([*has.notes[:SHOWN], *more])


def _region(file: StudyFile) -> str:
    bounds = file.region
    ends = {name: (one.lower, one.upper) for name, one in bounds.groups.items()}
    often = bounds.max_epochs if isinstance(bounds.max_epochs, dict) else {"": bounds.max_epochs or 0.0}
    parts = [f"{name} {sign} {share:g}" for sign, kind in (("≥", "lower"), ("≤", "upper"), ("=", "fixed"))
             for name, share in getattr(bounds, kind).items()]  # fmt: skip
    parts += [f"{name} {low:g} to {high:g} in all" for name, (low, high) in ends.items()]
    parts += [f"{share:g} at most other than {name}" for name, share in bounds.near.items()]
    parts += [f"at most {times:g} epochs{name and f' of {name}'}" for name, times in often.items() if times]
    told = ", ".join(parts) or "every mixture"
    return f"{told} (of the recipe)" if bounds.on == "recipe" and parts else told


def _run(opened: Given) -> str:
    said = opened.file.run
    tokens = [f"{said.target_tokens:,.0f} tokens"] if said.target_tokens else []
    return ", ".join([*tokens, *([f"to beat: {_baseline(opened.file)}"] if said.baseline is not None else [])])


def _tasks(opened: Given) -> Table:
    """What models are measured on, or what the runs were, with all that is said of it."""
    shown = _table("task", "is", "what is said of it")
    for name, task in opened.file.asked:
        shown.add_row(Text(name), "a target" if task.target else "reported", Text(_said(name, task, opened)))
    if opened.file.proxies and not opened.file.tasks:
        tasks = opened.runs.tasks
        for name, row in tasks.head(SHOWN).iterrows():
            way = "higher" if row["higher_is_better"] else "lower"
            shown.add_row(Text(name), "a target" if row["target"] else "reported", f"{way} is better")
        if len(tasks) > SHOWN:
            shown.add_row(f"and {len(tasks) - SHOWN} more", "", "")
    return shown


def _said(name: str, task: Task, opened: Given) -> str:
    if name == HELDOUT:
        return f"text of {len(given.texts(opened.file, opened.candidates))} candidates"
    said: dict[str, Any] = task.model_dump(exclude_defaults=True, exclude={"target", "text"})
    return ", ".join(f"{key} {' '.join(value) if isinstance(value, list) else value}" for key, value in said.items())


def _short(path: Path, opened: Given) -> str:
    """A path as the study file would write it."""
    return studyfile.beside(path.resolve(), opened.path.resolve().parent)


__all__ = ["STEPS", "Holdings", "told"]
