"""Which family a candidate belongs to: said in a file, or by the candidate's name."""

from itertools import count
from pathlib import Path

import yaml

from demix_nb import sheets
from demix_nb.documents import read_text
from demix_nb.schemas import BESIDE_FAMILIES
from demix_nb.store import Refusal

FAMILIES = ("general", "math", "code")


def assign_families(candidates: list[str], path: str | Path | None = None) -> dict[str, str]:
    """Return candidate → family, from a YAML file or the names.

    Raises Refusal where file and candidates differ, and for a family that is called as a column beside families is.
    """
    if path is None:
        return {name: _by_name(name, candidates) for name in candidates}
    given = _read_families(Path(path), candidates)
    if unknown := [name for name in given if name not in candidates]:
        raise Refusal(f"{path} names unknown candidate {unknown[0]!r}; the candidates are {', '.join(candidates)}")
    if missing := [name for name in candidates if not given.get(name)]:
        raise Refusal(f"{path} has no family for candidate {missing[0]!r}; add a line `{missing[0]}: family`")
    if taken := [family for family in given.values() if family in BESIDE_FAMILIES]:
        raise Refusal(f"{path} calls a family {taken[0]!r}, as a column of our tables is; call it otherwise")
    return {name: given[name] for name in candidates}


def _by_name(name: str, candidates: list[str]) -> str:
    if (head := name.split("_")[0]) in FAMILIES:
        return head
    labels = [name] if name not in BESIDE_FAMILIES else (name + "_" * more for more in count(1))
    return next(label for label in labels if label == name or label not in candidates)


def _read_families(path: Path, candidates: list[str]) -> dict[str, str]:
    """Return what a YAML file maps to what, as it is spelt: `no`, `2023` and `nan` are names like others."""
    told, wanted = read_text(path), f"a line `candidate: family` for each of {', '.join(candidates)}, no more"
    try:
        given, twice = sheets.spelt(told)
    except yaml.YAMLError as error:
        raise Refusal(f"cannot read families from {path}: {' '.join(str(error).split())}") from error
    except Refusal as refusal:
        raise Refusal(f"{path} must have {wanted}: {refusal}") from refusal
    if twice:
        raise Refusal(f"{path} names candidate {twice[0]!r} twice; keep one line")
    if not (isinstance(given, dict) and given and all(isinstance(family, str) for family in given.values())):
        raise Refusal(f"{path} must have {wanted}")
    return given
