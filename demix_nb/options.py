"""Options, checked before anything begins: each for itself (`ranges`), and those that need or exclude each other.

Parameters are checked when a run is planned, before its first cell; functions that take an option from Python `check`
it against the same row. A parameter without a type, in a notebook of one's own, is held to the type of its default.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError
from yaml import YAMLError

from demix_nb import sheets
from demix_nb.ranges import TYPES, closest
from demix_nb.store import Refusal


def _both(one: Any, other: Any) -> bool:
    return bool(one) == bool(other)


def _knows_how_sure(rule: str, predictor: str) -> bool:
    from demix_nb.decide import RULES  # imports scipy, as predictors do
    from demix_nb.predictors import PREDICTORS

    return not RULES[rule].careful or PREDICTORS[predictor].spread


# what two options must be to each other
TOGETHER: tuple[tuple[tuple[str, str], Callable[[Any, Any], bool], str], ...] = (
    (("hidden", "head_dim"), lambda hidden, head: hidden % head == 0, "give a multiple of head_dim"),
    (("n_replicates", "n_references"), lambda few, many: few <= many, "only references are trained twice"),
    (("steer", "suites"), lambda suite, suites: suite in suites, "let a suite steer that models are scored on"),
    (("top_k", "pool"), lambda top, pool: top <= pool, "no more can be averaged than are predicted"),
    (("rule", "predictor"), _knows_how_sure, "a careful rule needs a predictor that says how sure it is"),
    (("max_epochs", "target_tokens"), _both, "they limit data together; give both or neither"),
)  # fmt: skip
OF_CANDIDATES = ("caps", "general", "spoilt", "scarce", "parts")  # options that name candidates, of which they must be


def described(name: str, default: object) -> str:
    """Return what a parameter must be, in words; for one without a type here, the type of its default."""
    return TypeAdapter(TYPES[name]).json_schema()["description"] if name in TYPES else type(default).__name__


def given(name: str, value: object, default: object) -> object:
    """Return a parameter's value, read from text where it comes from a command line, and checked.

    Raises Refusal naming the parameter, what it is and what it must be.
    """
    if isinstance(value, str) and not isinstance(default, str):
        value = _read(name, value, default)
    value = typed(value, default, name)
    if name in TYPES and value != default:
        check(**{name: value})
    return value


def check(**options: object) -> None:
    """Refuse an option that cannot be what it is, by name and with the remedy; tuples and NumPy's numbers may pass."""
    for name, value in options.items():
        try:
            TypeAdapter(TYPES[name]).validate_python(_plain(value), strict=True)
        except ValidationError as error:
            own = [problem["ctx"]["error"] for problem in error.errors() if problem["type"] == "value_error"]
            remedy = own[0] if own else f"it must be {described(name, value)}"
            raise Refusal(f"{name} is {value!r}; {remedy}") from error


def _plain(value: object) -> object:
    """The same without NumPy's numbers and without tuples, which no type here knows."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _read(name: str, text: str, default: object) -> object:
    """What a text spells; names in it stay text, and what spells nothing is left for `typed` to refuse."""
    try:
        plain, twice = sheets.spelt(text)
    except YAMLError:
        return text
    except Refusal as refusal:
        raise Refusal(f"{name}: {refusal}") from refusal
    if twice:
        raise Refusal(f"{name}: {twice[0]!r} stands twice; keep one")
    if isinstance(default, bool):
        return sheets.TRUTH.get(plain.lower(), text) if isinstance(plain, str) else text
    if isinstance(default, int | float):
        return _number(text, default)
    kind = TYPES.get(name, list[type(default[0])] if isinstance(default, list) and default else type(default))
    try:
        return TypeAdapter(kind).validate_python(plain)
    except ValidationError:
        return plain


def _number(text: str, default: float) -> object:
    """The number that a text spells, a whole one where the default is whole (`1e6` is); else the text."""
    if "_" in text:  # to Python, 1_0 is ten
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if isinstance(default, int) and number % 1 == 0 else number


def typed(value: object, default: object, name: str) -> object:
    """Return `value` if it has the type of `default` (an int may stand for a float); raises Refusal if not."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise Refusal(
            f"parameter {name} wants {type(default).__name__}, e.g. {default!r}; got {value!r} ({type(value).__name__})"
        )
    return value


def agree(values: Mapping[str, Any]) -> None:
    """Refuse options that cannot stand together, of those that are there: of a run, those of all its steps."""
    for (one, other), holds, sentence in TOGETHER:
        if one in values and other in values and not holds(values[one], values[other]):
            raise Refusal(f"{one} is {values[one]!r}, but {other} is {values[other]!r}; {sentence}")


def named(values: Mapping[str, Any], candidates: Collection[str]) -> None:
    """Refuse options that name a candidate which there is not."""
    for name in OF_CANDIDATES:
        value = values.get(name, [])
        for candidate in [value] if isinstance(value, str) else value:
            if candidate not in candidates:
                raise Refusal(
                    f"{name} names {candidate!r}, which is no candidate; {closest(candidate, list(candidates))}"
                )
