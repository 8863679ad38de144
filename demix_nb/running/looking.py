"""What lies in a folder that a study could be made of: checkpoints with their roles, text, tables of runs.

Nothing is guessed where two things may be meant: `look` asks back, naming what was found and the option that decides.
What cannot be used (adapters, half checkpoints) is told, never left out in silence. Weights are read as far as their
headers.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

from demix_nb import longsheets, reading, scoresheets, sheets, studyfile, textfiles
from demix_nb.store import Refusal

MOST = 10**8  # bytes of a file that may be a table; text is larger
DEPTH = 3  # folders below the one that is looked through
ROLES = {  # role → what the folder above a checkpoint is called
    "replicates": re.compile(r"replic.*|.*seed[-_]?2.*", re.I),
    "references": re.compile(r"ref(s|erences?)?([-_.\d].*)?", re.I),
}
BASE = re.compile(r"base([-_.\d].*)?", re.I)
KIND = re.compile(r"(components?|checkpoints?|ckpt|models?)[-_.]", re.I)  # before a candidate's name, our own runs' too
MARKS = ("config.json", "adapter_config.json", "model.safetensors", "model.safetensors.index.json")
RESULTS = "results*.json"  # of lm-eval
FAMILIES = ("families.yml", "families.yaml")


@dataclass(frozen=True)
class Found:
    """What was found: candidate → component, the base, role → checkpoints by mixture, and places of files.

    `corpora`: text to train on. `pairs`: mixtures with their scores. `left_out`: what cannot be used, and why.
    """

    components: Mapping[str, Path] = field(default_factory=dict)
    base: Path | None = None
    roles: Mapping[str, Path] = field(default_factory=dict)
    text: Path | None = None
    corpora: Path | None = None
    mixtures: Path | None = None
    scores: Path | None = None
    families: Path | None = None
    left_out: tuple[str, ...] = ()

    @property
    def told(self) -> str:
        """What was found, in a line."""
        parts = [f"{len(self.components)} components"] if self.components else []
        parts += [name for name in ("base", "text", "corpora", "mixtures", "scores", "families") if getattr(self, name)]
        return ", ".join([*parts, *self.roles])


def look(folder: Path, chosen: Mapping[str, Path]) -> Found:
    """Look through a folder, three levels deep; `chosen` decides what else would be asked back, by option.

    Raises Refusal where there is nothing of a study, and where two things may be meant.
    """
    if not folder.is_dir():
        raise Refusal(f"no folder {folder}; name one with checkpoints, text, or tables of runs")
    if gone := [place for place in chosen.values() if not place.exists()]:
        raise Refusal(f"there is nothing at {gone[0]}; mend the path")
    places = list(_folders(folder))
    opened, broken = _checkpoints(places)
    models = _models(opened, chosen)
    inside = [*opened, *broken]
    places = [place for place in places if not any(place.is_relative_to(one) for one in inside)]
    tables = _tables(places, list(models["components"]), chosen)
    text = _text(folder, places, models["components"], tables, chosen)
    if not (models["components"] or tables or text):
        if broken:
            raise Refusal(next(iter(broken.values())))
        raise Refusal(f"{folder} holds no two checkpoints, no text of candidates and no mixtures with scores; name "
                      "another folder")  # fmt: skip
    families = next((place / name for place in places for name in FAMILIES if (place / name).is_file()), None)
    return Found(**models, **tables, **text, families=families, left_out=tuple(broken.values()))


def _folders(folder: Path, depth: int = 0) -> Iterator[Path]:
    """A folder and those in it, but hidden ones and the results of other studies."""
    yield folder
    if depth < DEPTH:
        for one in sorted(folder.iterdir()):
            if one.is_dir() and one.name[0] not in "._" and not (one / studyfile.NAME).exists():
                yield from _folders(one, depth + 1)


def _ask(what: str, found: list[Path] | list[str], option: str) -> Refusal:
    return Refusal(f"{what} may be {' or '.join(map(str, found))}; say which by {option}")


# --- checkpoints


def _checkpoints(places: list[Path]) -> tuple[dict[Path, Any], dict[Path, str]]:
    """The checkpoints among some folders, opened, and what is none although it looks like one: folder → why."""
    opened, broken = {}, {}
    for place in places:
        if any((place / mark).exists() for mark in MARKS):
            from demix_nb.merging.folders import open_checkpoint  # imports torch

            try:
                opened[place] = open_checkpoint(place)
            except Refusal as refusal:
                broken[place] = str(refusal)
    return opened, broken


def _models(opened: Mapping[Path, Any], chosen: Mapping[str, Path]) -> dict[str, Any]:
    """The components, their base, and the folders of references and replicates among checkpoints."""
    called = {place: next((role for role, name in ROLES.items() if name.fullmatch(place.parent.name)), None)
              for place in opened}  # fmt: skip
    roles = {place: role for place, role in called.items() if role}
    free = [place for place in opened if place not in roles]
    base = _same(free, chosen["base"]) if "base" in chosen else _base(free)
    group = _components([place for place in free if place != base], opened, chosen)
    if base is None and group:
        base = _start(free, group, opened)
    group = [place for place in group if place != base]
    given: dict[str, Path] = {}
    for role in reversed(ROLES):
        above = sorted({place.parent for place, one in roles.items() if one == role})
        if len(above) > 1:
            raise Refusal(f"{role} may be in {' or '.join(map(str, above))}; keep one under such a name")
        if above:
            given[role] = above[0]
    return {"components": _named(group), "base": base, "roles": given}


def _named(group: list[Path]) -> dict[str, Path]:
    """Candidate → folder; what all folders are called before the candidate's name is left out."""
    plain = [KIND.sub("", place.name, count=1) for place in group]
    alike = all(KIND.match(place.name) for place in group) and len(set(plain)) == len(plain)
    return dict(zip(plain if alike else [place.name for place in group], group, strict=True))


def _same(places: list[Path], wanted: Path) -> Path:
    return next((place for place in places if place.resolve() == wanted.resolve()), wanted)


def _base(places: list[Path]) -> Path | None:
    """The checkpoint that is called base, or lies in a folder that is."""
    called = [place for place in places if BASE.fullmatch(place.name)]
    called = called or [place for place in places if BASE.fullmatch(place.parent.name)]
    if len(called) > 1:
        raise _ask("the base", called, "--base")
    return next(iter(called), None)


def _components(places: list[Path], opened: Mapping[Path, Any], chosen: Mapping[str, Path]) -> list[Path]:
    """The most numerous checkpoints of one architecture in one folder."""
    if "components" in chosen:
        places = [place for place in places if place.parent.resolve() == chosen["components"].resolve()]
    groups: dict[Any, list[Path]] = {}
    for place in places:
        groups.setdefault((place.parent, _shape(opened[place])), []).append(place)
    most = max(map(len, groups.values()), default=0)
    largest = [group for group in groups.values() if len(group) == most]
    if most < 2:
        return []
    if len(largest) > 1:
        raise _ask("the components", [group[0].parent for group in largest], "--components")
    return largest[0]


def _start(places: list[Path], group: list[Path], opened: Mapping[Path, Any]) -> Path | None:
    """The one checkpoint of the components' architecture that lies elsewhere, or is not called as all others are."""
    alike = [place for place in places if _shape(opened[place]) == _shape(opened[group[0]])]
    if elsewhere := [place for place in alike if place not in group]:
        if len(elsewhere) > 1:
            raise _ask("the base", elsewhere, "--base")
        return elsewhere[0]
    if len(group) < 3:
        return None
    heads = {place: _shared(group, place) for place in group}
    return next((place for place, head in heads.items() if place.name.removeprefix(head) == place.name and head), None)


def _shared(group: list[Path], odd: Path) -> str:
    """What the names of all others begin with, up to a mark."""
    first, *others = (re.split(r"(?<=[-_.])", place.name)[:-1] for place in group if place != odd)
    alike = takewhile(lambda parts: len(set(parts)) == 1, zip(first, *others, strict=False))
    return "".join(parts[0] for parts in alike)


def _shape(checkpoint: Any) -> tuple:
    return checkpoint.config.get("model_type"), *sorted(checkpoint.shapes.items())


# --- tables of mixtures and scores


def _tables(places: list[Path], candidates: list[str], chosen: Mapping[str, Path]) -> dict[str, Path]:
    """The mixtures and their scores, paired by the names of their rows; with components also mixtures alone."""
    if {"mixtures", "scores"} <= chosen.keys():
        return {name: chosen[name] for name in ("mixtures", "scores")}
    files = [one for place in places for one in sorted(place.iterdir()) if one.is_file() and one.name not in FAMILIES]
    files = [one for one in files if one.stat().st_size <= MOST and _is_table(one)]
    shares = _read(chosen.get("mixtures"), files, partial(_mixtures, chosen="mixtures" in chosen))
    if candidates:
        shares = {path: rows for path, (rows, names) in shares.items() if names <= {*candidates}}
    else:
        shares = {path: rows for path, (rows, _) in shares.items()}
    rest = [path for path in files if path not in shares] + [place for place in places if any(place.glob(RESULTS))]
    scores = _read(chosen.get("scores"), rest, partial(_scores, shares))
    pairs = [(one, other) for one, rows in shares.items() for other, scored in scores.items() if rows == scored]
    if len(pairs) > 1:
        told = " or ".join(f"{one.name} with {other.name}" for one, other in pairs)
        raise Refusal(f"mixtures and scores may be {told}; say which by --mixtures and --scores")
    if pairs:
        return dict(zip(("mixtures", "scores"), pairs[0], strict=True))
    if "scores" in chosen:
        raise Refusal(f"no mixtures have the rows of {chosen['scores'].name}; name their table by --mixtures")
    return _alone(shares, candidates)


def _is_table(path: Path) -> bool:
    return Path(path.name.lower().removesuffix(".gz")).suffix in (*sheets.TABLES, *sheets.MAPPINGS)


def _alone(shares: Mapping[Path, Any], candidates: list[str]) -> dict[str, Path]:
    """Mixtures without scores, which may be those of reference checkpoints."""
    if not candidates or not shares:
        return {}
    if len(shares) > 1:
        raise _ask("the references' mixtures", list(shares), "--mixtures")
    return {"mixtures": next(iter(shares))}


def _read(chosen: Path | None, files: list[Path], read: Callable[[Path], Any]) -> dict[Path, Any]:
    """File → what it holds, of those that can be read so; the one that was chosen must be."""
    if chosen is not None:
        return {chosen: read(chosen)}
    found = {}
    for path in files:
        try:
            found[path] = read(path)
        except Refusal:
            continue  # it is something else
    return found


def _mixtures(path: Path, *, chosen: bool = False) -> tuple[set[str], set[str]]:
    """The names of a file's mixtures and of their candidates; of a table only where rows are shares or percent."""
    table, _ = reading.mixtures(path)
    if not chosen and sheets.suffix(path) in sheets.TABLES:
        cells = sheets.table(path, repeats=True)
        if longsheets.unpivoted(cells, reading.ITEMS, reading.VALUES) is None:
            totals = sheets.numbers(cells, path.name).sum(axis=1)
            if not any(((totals / whole - 1).abs() <= reading.NEAR).all() for whole in (1.0, 100.0)):
                raise Refusal(f"{path.name} holds no shares that sum to 1; name it by --mixtures if it holds amounts")
    return set(table.index), set(table)


def _scores(shares: Mapping[Path, Any], path: Path) -> set[str]:
    return set(scoresheets.read(path, {name for rows in shares.values() for name in rows}).cells.index)


# --- text


def _text(
    folder: Path, places: list[Path], components: Mapping[str, Path], tables: Mapping[str, Path],
    chosen: Mapping[str, Path],
) -> dict[str, Path]:  # fmt: skip
    """The folder of held-out text where there are components, else of text to train on where there are no tables."""
    kind = "text" if components else "corpora"
    if "text" in chosen:
        return {kind: chosen["text"]}
    if tables and not components:
        return {}
    found: list[Path] = []
    for place in places:
        if any(place.is_relative_to(one) for one in found):
            continue
        try:
            names = set(textfiles.texts(place))
        except Refusal:
            continue  # a folder of something else
        if names <= components.keys() if components else len(names) > 1:
            found.append(place)
    if len(found) > 1:
        raise _ask("the candidates' text", found, "--text")
    return {kind: found[0]} if found else {}
