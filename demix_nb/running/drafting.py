"""A first study file from what was found in a folder; what nobody can know from files is a comment in it.

The text is written section by section, each as YAML with its comments before it, so that whoever fills it in finds the
question where the answer belongs. What is written can always be read by `studyfile.read`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demix_nb import reading, scoresheets, sheets, store, studyfile, tasksheets, textfiles
from demix_nb.running.looking import Found
from demix_nb.store import Refusal

TOKENS = "tokens: how many there are of each candidate, e.g. `tokens: 1.2e12` in its line, for natural shares"
FAMILY = "family: what each candidate counts to, e.g. `family: math` in its line"
TASKS = "tasks: name what models are to be measured on, lm-eval's names or `heldout: FOLDER`"
BASE = "base: the checkpoint that all components began from; without it merges are linear, and there is no drift"
REFERENCES = "references: {mixtures: FILE, checkpoints: FOLDER}, or scores: FILE; without them nothing is validated"
RUN = "run: {target_tokens: 1.0e12, baseline: natural}, what the mixture is for and what it must beat"
DIRECTION = "higher_is_better: true or false, of {0!r} and the like, beside mixtures and scores"
COUNTED = "tasks: name those that count, not all columns are scores to rank by: {0}, …"
GENERAL = "general: the candidate that the base is trained on, with `beta`, the share of the candidates in a recipe"
UNNAMED = "references: {0} holds checkpoints; give the table of their mixtures, `references: {{mixtures: FILE, …}}`"


@dataclass(frozen=True)
class Draft:
    """A study file to be written at `path`: sections of keys, and the questions that are left open before them."""

    path: Path
    sections: tuple[tuple[tuple[str, ...], dict[str, Any]], ...]

    @property
    def open(self) -> list[str]:
        """What is left to fill in."""
        return [question for questions, _ in self.sections for question in questions]

    @property
    def text(self) -> str:
        """The file."""
        parts = []
        for questions, content in self.sections:
            parts += [f"# {question}\n" for question in questions]
            parts += [_dumped(content)] if content else []
        return "".join(parts)

    def write(self) -> None:
        """Write the file, whole or not at all; raises Refusal where there is one, or it cannot be written."""
        refuse_existing(self.path)
        with store.atomic(self.path) as temporary:
            temporary.write_text(self.text, encoding="utf-8")


def refuse_existing(path: Path) -> None:
    """Raise Refusal where a file is: study files are written by people."""
    if path.exists():
        raise Refusal(f"{path} is there already; give another file by -o, or move it away")


def draft(found: Found, path: Path, *, higher_is_better: bool | None = None) -> Draft:
    """Return the study file for what was found; `higher_is_better`: of scores, where somebody said so."""
    home = path.resolve().parent
    if found.corpora:
        sections = _to_train(found, home)
    elif found.components:
        sections = [*_of_models(found, home), *_references(found, home)]
    else:
        sections = [*_of_tables(found, home, higher_is_better), ((REFERENCES,), {})]
    made = Draft(path, (*sections, ((RUN,), {})))
    studyfile.parse(sheets.spelt(made.text)[0], path)
    return made


def _dumped(content: dict[str, Any]) -> str:
    """A section as YAML, a line for every candidate."""
    flow = None if all(isinstance(said, dict | list) for said in content.values()) else False
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000, default_flow_style=flow)


Section = tuple[tuple[str, ...], dict[str, Any]]


def _near(path: Path, home: Path) -> str:
    return studyfile.beside(path.parent.resolve() / path.name, home)


def _to_train(found: Found, home: Path) -> list[Section]:
    training = {"corpora": _near(found.corpora, home)}
    training |= {"families": _near(found.families, home)} if found.families else {}
    general = () if "general" in textfiles.texts(found.corpora) else (GENERAL,)
    return [((), {"training": training}), (general, {})]


def _of_models(found: Found, home: Path) -> list[Section]:
    families = _families(found)
    lines = {
        name: ({"family": families[name]} if name in families else {}) | {"component": _near(place, home)}
        for name, place in found.components.items()
    }
    base = {"base": _near(found.base, home)} if found.base else {}
    tasks = {"tasks": [{studyfile.HELDOUT: _near(found.text, home)}]} if found.text else {}
    return [
        ((TOKENS, *(() if families else (FAMILY,))), {"candidates": lines}),
        (() if base else (BASE,), base),
        (() if tasks else (TASKS,), tasks),
    ]


def _references(found: Found, home: Path) -> list[Section]:
    if found.mixtures is None:
        places = [_near(place, home) for place in found.roles.values()]
        return [((UNNAMED.format(places[0]),) if places else (REFERENCES,), {})]
    if "references" in found.roles:
        roles = {"references": "checkpoints", "replicates": "replicates"}
        kept = {roles[role]: _near(place, home) for role, place in found.roles.items()}
        return [((), {"references": {"mixtures": _near(found.mixtures, home)} | kept})]
    if found.scores is None:
        return [((REFERENCES,), {})]
    places = {"mixtures": _near(found.mixtures, home), "scores": _near(found.scores, home)}
    return [((), {"references": places})]


def _of_tables(found: Found, home: Path, higher_is_better: bool | None) -> list[Section]:
    families = _families(found)
    names = reading.mixtures(found.mixtures)[0].columns
    lines = {name: {"family": families[name]} if name in families else {} for name in names}
    asked = (TOKENS, *(() if families else (FAMILY,)))
    return [(asked, {"candidates": lines}), *_runs(found, home, higher_is_better)]


def _runs(found: Found, home: Path, higher_is_better: bool | None) -> list[Section]:
    """Runs somebody has, and what the names of their scores leave open."""
    sheet = scoresheets.read(found.scores, list(reading.mixtures(found.mixtures)[0].index))
    said = {"mixtures": _near(found.mixtures, home), "scores": _near(found.scores, home)}
    if higher_is_better is not None:
        said["higher_is_better"] = higher_is_better
    told = {name: tasksheets.direction(name) for name in sheet.cells} | dict(sheet.higher)
    unknown = [name for name in sheet.clear if told[name] is None] if higher_is_better is None else []
    asked = [COUNTED.format(", ".join(list(sheet.unclear)[:3]))] if sheet.unclear else []
    asked += [DIRECTION.format(unknown[0])] if unknown else []
    return [(tuple(asked), {"proxies": said})]


def _families(found: Found) -> dict[str, str]:
    return sheets.mapping(found.families) if found.families else {}
