"""What is wrong with a typed mapping, in one sentence: the key, what it is, what it must be.

pydantic finds every fault and describes it for programmers; whoever wrote a file is told the first, by its place.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from demix_nb import sheets
from demix_nb.ranges import near
from demix_nb.store import Refusal

LIMITS = {
    "greater_than_equal": ("ge", "at least"),
    "less_than_equal": ("le", "at most"),
    "greater_than": ("gt", "above"),
}
KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "finite": "a finite number"}
KINDS |= {"model": "a mapping", "dict": "a mapping", "list": "a list", "string": "text", "path": "a path"}


def told(error: ValidationError, kind: type[BaseModel], where: str = "") -> str:
    """Return the first fault that was found in a `kind`, which stands at `where` in its file; misspelt keys first."""
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    path = [str(part) for part in problem["loc"] if not _of_union(part)]
    before = [where] if where else []
    if problem["type"] == "extra_forbidden":
        *above, key = path
        known = _fields(kind, above)
        inside = f" in {'.'.join([*before, *above])}" if before + above else ""
        return f"unknown key {key!r}{inside}; {near(key, known, 'did you mean {!r}? ')}known: {', '.join(known)}"
    at = ".".join([*before, *path])
    if problem["type"] == "missing":
        return f"{at} is missing; write it"
    held = problem["input"]
    shown = repr(held) if isinstance(held, str | int | float | None) else f"a {type(held).__name__}"
    return f"{at} is {shown}; it must be {_remedy(problem)}"


def refuse_tags(path: Path) -> None:
    """Raise Refusal for YAML with a tag, by its line, and for what is no YAML; nothing is constructed of it."""
    try:
        for event in yaml.parse(sheets.text(path), yaml.BaseLoader):
            if (tag := getattr(event, "tag", None)) and tag != "!":
                raise Refusal(
                    f"{path.name}: line {event.start_mark.line + 1} has the YAML tag {tag!r}; write plain values"
                )
    except yaml.YAMLError as error:
        raise Refusal(
            f"{path.name} cannot be read ({' '.join(str(error).split())}); check it where it says so"
        ) from error


def _of_union(part: object) -> bool:
    """Whether a part of a place is pydantic's name for one type of several, not a key of the file."""
    return isinstance(part, str) and ("[" in part or part in ("str", "dict"))


def _remedy(problem: Mapping[str, Any]) -> str:
    if problem["type"] in LIMITS:
        bound, word = LIMITS[problem["type"]]
        limit = problem["ctx"][bound]
        share = isinstance(limit, float) and (bound, limit) in (("ge", 0.0), ("le", 1.0))
        return "a share, between 0 and 1" if share else f"{word} {limit:g}"
    if problem["type"] == "literal_error":
        return problem["ctx"]["expected"]
    return KINDS.get(problem["type"].partition("_")[0], problem["msg"])


def _fields(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that may stand at a place inside a `kind`."""
    for key in path:
        if field := kind.model_fields.get(key):
            kind = next((part for part in _parts(field.annotation) if issubclass(part, BaseModel)), kind)
    return list(kind.model_fields)


def _parts(annotation: Any) -> list[type]:
    inner = [part for one in getattr(annotation, "__args__", ()) for part in _parts(one)]
    return inner or ([annotation] if isinstance(annotation, type) else [])
