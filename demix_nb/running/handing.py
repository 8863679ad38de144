"""`demix-nb export` and `demix-nb merge`: mixtures as the files that trainers read, and as a merged checkpoint.

What is exported are the shares that are trained on: the recipe of a `mixture.yaml` that has one, else its mixture; a
table's mixtures, by the study's β; a study's answer, or, with `--all`, the recipes of its components and references,
whose checkpoints its file then names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from demix_nb import door, entries, faults, reading, sheets, studyfile
from demix_nb import mixtures as simplex
from demix_nb.exports import FORMATS, SEQUENCE, Format, Order, Phase, Source, export
from demix_nb.ranges import closest
from demix_nb.sections import Amount, Part
from demix_nb.store import Refusal
from demix_nb.studyfile import StudyFile

ALL = "all"

Phased = Mapping[str, tuple[Phase, ...]]


class Place(Part):
    """What a file of paths says of a candidate."""

    path: str
    tokens: Amount | None = None
    document_tokens: Amount | None = None
    valid: str | None = None
    test: str | None = None


class Places(Part):
    """A file of paths."""

    candidates: dict[str, Place]


@dataclass(frozen=True)
class Size:
    """The run that is exported for, as far as somebody says: tokens, tokens of a sequence, sequences of a step."""

    tokens: float | None = None
    sequence: int | None = None
    batch: int | None = None


def rows(names: list[str]) -> list[Format]:
    """Return the formats by name, `all` for all; raises Refusal for an unknown one, with the nearest."""
    if odd := [name for name in names if name not in (*FORMATS, ALL)]:
        raise Refusal(f"no format {odd[0]!r}; {closest(odd[0], [*FORMATS, ALL])}")
    return list(FORMATS.values()) if ALL in names else [FORMATS[name] for name in dict.fromkeys(names)]


def sources(path: Path, study: StudyFile | None) -> dict[str, Source]:
    """Read a file of paths, candidate → path, or → path and more; what it leaves out the study's candidates say.

    Paths are the trainer's and stay as they stand. Raises Refusal as for any typed mapping.
    """
    content = sheets.mapping(sheets.there(path, "path", "candidate: path, as YAML"), "candidates to paths")
    whole = {name: {"path": one} if isinstance(one, str) else one for name, one in content.items()}
    try:
        said = Places.model_validate({"candidates": whole}).candidates
    except ValidationError as error:
        raise Refusal(f"{path.name}: {faults.told(error, Places)}") from error
    known = study.candidates if study else {}
    found = {name: Source(**place.model_dump()) for name, place in said.items()}
    return {name: _filled(source, known.get(name)) for name, source in found.items()}


def _filled(source: Source, known: Any) -> Source:
    if known is None:
        return source
    return replace(source, tokens=source.tokens or known.tokens,
                   document_tokens=source.document_tokens or known.document_tokens)  # fmt: skip


def asked(path: Path, study: StudyFile | None, *, everything: bool = False) -> Phased:
    """Return what a file asks for, by name: phases with the shares trained on; a single mixture's name is empty.

    `everything`: of a study, its components and references. Raises Refusal as `reading.mixtures` does.
    """
    path = sheets.there(path, "mixture", "a .csv, .yaml or .json file")
    content = sheets.mapping(path) if sheets.suffix(path) in sheets.MAPPINGS else {}
    if _is_study(content):
        return _of_study(path, studyfile.read(path), everything)
    if everything:
        raise Refusal(f"{path.name} is no study file; --all exports the components and references of one")
    table, phases = reading.opened(path, trained=True).table, entries.phases_of(path, content)
    if phases is not None:
        return {"": _phased(path, _diluted(table, study, ["recipe" in one for one in phases]), phases)}
    told = isinstance(content.get("mixture"), Mapping) and "recipe" in content
    return _alone(_diluted(table, study, [told] * len(table)))


def _is_study(content: Mapping[str, Any]) -> bool:
    return "candidates" in content and {*content} <= {*StudyFile.model_fields}


def _alone(table: pd.DataFrame) -> Phased:
    named = len(table) > 1
    return {(name if named else ""): (Phase(shares),) for name, shares in table.iterrows()}


def _diluted(table: pd.DataFrame, study: StudyFile | None, already: Sequence[bool] = ()) -> pd.DataFrame:
    """The recipes of mixtures, by the study's general candidate and β; `already`: row by row, which are recipes."""
    if study is None or study.general is None:
        return table
    beta = 1.0 if study.beta is None else study.beta
    named = table.reindex(columns=list(dict.fromkeys([*table, study.general])), fill_value=0.0)
    betas = [1.0 if told else beta for told in already] or [beta] * len(table)
    rows = zip(named.iterrows(), betas, strict=True)
    return simplex.as_table({name: simplex.recipe(one, study.general, share) for (name, one), share in rows})


def _phased(path: Path, table: pd.DataFrame, phases: list[Mapping[str, Any]]) -> tuple[Phase, ...]:
    """The phases of a file, in equal parts of the run where they say none."""
    parts = [sheets.number(one.get("part", repr(1 / len(phases)))) for one in phases]
    if None in parts:
        raise Refusal(f"{path.name}: phase {parts.index(None) + 1} has no number as its `part`; parts sum to 1")
    return tuple(Phase(shares, part) for (_, shares), part in zip(table.iterrows(), parts, strict=True))


def _of_study(path: Path, file: StudyFile, everything: bool) -> Phased:
    """A study's answer, or the recipes of its components and references."""
    if not everything:
        answer = door.run_folder(path, file) / "mixture.yaml"
        return asked(sheets.there(answer, "answer", "run the study first, or --all for components"), file)
    names = list(file.candidates)
    corners = {f"component-{name}": simplex.one_hot(names, name) for name in names}
    found = _diluted(simplex.as_table(corners), file)
    if file.references is not None:
        given = reading.opened(file.references.mixtures, names, folders=file.folders, grown=True).table
        given = _diluted(given, file).rename(index=lambda name: f"reference-{name}")
        found = pd.concat([found, given])
    return {name: (Phase(shares),) for name, shares in found.iterrows()}


def hand_over(file: Path, to: list[str], data: Path, output: Path, size: Size, study: Path | None, *,
              everything: bool = False, force: bool = False) -> list[str]:  # fmt: skip
    """Write what a file asks for in the formats named; return what is to be said (`demix-nb export --help`)."""
    chosen, known = rows(to), studyfile.read(study) if study else None
    phased = asked(file, known, everything=everything)
    if known is None and sheets.suffix(file) in sheets.MAPPINGS and _is_study(sheets.mapping(file)):
        known = studyfile.read(file)
    there = sources(data, known)
    tokens = size.tokens or (known.run.target_tokens if known else None)
    whole = None if tokens is None else int(tokens)
    orders = {
        name: Order(phases, there, whole, size.sequence or SEQUENCE, size.batch) for name, phases in phased.items()
    }
    if odd := [name for name in orders if "/" in name or name in (".", "..")]:
        raise Refusal(f"mixture {odd[0]!r} cannot be a folder's name; call it otherwise")
    simple = all(len(one) == 1 for one in phased.values())
    able = [row for row in chosen if ALL not in to or simple or row.phases]
    notes = export(orders, able, output, force=force)
    what = f"{len(orders)} mixtures" if len(orders) > 1 else "the mixture"
    told = [f"wrote {what} for {', '.join(row.name for row in able)} to {output}"]
    unable = ", ".join(row.name for row in chosen if row not in able)
    return [*told, *([f"no phases, so left out: {unable}"] if unable else []), *notes]


def merged(file: Path, study: Path, output: Path, method: str, seed: int) -> list[str]:
    """Save the merge of a study's components by a file's one mixture as a checkpoint; return what is to be said.

    Raises Refusal for several mixtures, a study without components, and as `merging.save`.
    """
    from demix_nb.merging import METHODS, Bank, save

    opened = door.open_study(study)
    if not opened.folders:
        raise Refusal(f"{study.name} names no components; a merge is made of their weights")
    table, _ = reading.mixtures(file, list(opened.candidates), folders=opened.folders)
    if len(table) > 1:
        raise Refusal(f"{file.name} holds {len(table)} mixtures; give a file of the one that is to be saved")
    weights = {name: share for name, share in table.iloc[0].items() if share > 0}
    random = method in METHODS and METHODS[method].random
    bank = Bank.load(opened.folders, base=opened.base)
    save(bank, weights, output, method, rng=np.random.default_rng(seed) if random else None)
    return [f"saved the {method} merge of {len(weights)} components to {output}"]
