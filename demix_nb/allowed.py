"""What a study file allows: the region of its mixtures, and the baseline that a winner must beat.

A file speaks of families, recipes and amounts of data; a `Region` knows bounds on shares alone. Here one becomes the
other.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from demix_nb import mixtures as simplex
from demix_nb import options, reading
from demix_nb.region import Region
from demix_nb.sections import Group
from demix_nb.store import Refusal
from demix_nb.studyfile import StudyFile


def region(
    file: StudyFile,
    tokens: pd.Series,
    caps: Mapping[str, float] | None = None,
    *,
    max_epochs: float = 0.0,
    target_tokens: float = 0.0,
) -> Region:
    """Return the mixtures that a study allows; `caps` and, in a run of `target_tokens`, `max_epochs` bind beside it.

    `tokens`: candidate → tokens there are (NaN: not known). 0: as the file has it. Raises Refusal as `Region` does, and
    where one limit of data is given without the other, a candidate's tokens are not known, or a group has no members.
    """
    caps = dict(caps or {})
    options.check(caps=caps, max_epochs=float(max_epochs), target_tokens=int(target_tokens))
    bounds, target = file.region, target_tokens or file.run.target_tokens or 0.0
    epochs = max_epochs or bounds.max_epochs or 0.0
    if epochs or target_tokens:
        options.agree({"max_epochs": epochs, "target_tokens": target})
    families = {name: one.family or name for name, one in file.candidates.items()}
    shares = _of_mixtures(file, {name: _members(name, group, families) for name, group in bounds.groups.items()})
    shares["upper"] |= {name: min(cap, shares["upper"].get(name, 1.0)) for name, cap in caps.items()}
    for name, distance in bounds.near.items():
        shares["near"] = (_named(file, tokens, name), distance)
    if not epochs:
        return Region(list(tokens.index), **shares)
    limited = tokens[list(epochs)] if isinstance(epochs, dict) else tokens
    if (unknown := limited.isna()).any():
        raise Refusal(f"epochs of {unknown.idxmax()!r} cannot be counted; write its `tokens` in the study file")
    data = {"general": file.general, "beta": 1.0 if file.beta is None else file.beta}
    return Region.of_data(tokens, **data, target_tokens=target, epochs=epochs, **shares)


def _members(name: str, group: Group, families: Mapping[str, str]) -> list[str]:
    """Return the candidates of a group: those it names, or those of the family it is called by."""
    members = list(group.members) or [one for one, family in families.items() if family == name]
    if not members:
        known = ", ".join(dict.fromkeys(families.values()))
        raise Refusal(f"region.groups.{name} is no family and has no members; families: {known}")
    return members


def _of_mixtures(file: StudyFile, members: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the file's bounds as bounds on mixtures; those on recipes, r = (1−β)·general + β·α, are turned into them.

    Raises Refusal for a bound on recipes that diluting alone goes beyond.
    """
    bounds, beta = file.region, 1.0 if file.beta is None or file.region.on == "mixture" else file.beta

    def turned(share: float, where: str, holders: Sequence[str], least: bool) -> float:
        own = (share - (1 - beta) * (file.general in holders)) / beta
        if own < 0 and not least:
            told = f"diluting with {file.general!r} alone is {1 - beta:g} of every recipe"
            raise Refusal(f"region.{where} is {share:g}, but {told}; raise it, or bound the mixture (`on: mixture`)")
        return min(max(own, 0.0), 1.0)

    found: dict[str, Any] = {
        kind: {name: turned(share, f"{kind}.{name}", [name], kind == "lower") for name, share in given.items()}
        for kind, given in (("lower", bounds.lower), ("upper", bounds.upper), ("fixed", bounds.fixed))
    }
    found["groups"] = {
        name: (members[name], turned(one.lower, f"groups.{name}", members[name], True),
               turned(one.upper, f"groups.{name}", members[name], False))
        for name, one in bounds.groups.items()
    }  # fmt: skip
    return found


def _named(file: StudyFile, tokens: pd.Series, name: str) -> pd.Series:
    """Return the mixture that a region is near: the study's baseline, or a plain one by name."""
    plain = {"natural": lambda: simplex.natural(tokens), "uniform": lambda: simplex.uniform(list(tokens.index))}
    said = file.run.baseline
    name = said if name == "baseline" and isinstance(said, str) and said in plain else name
    if name in plain:
        if name == "natural" and tokens.isna().any():
            raise Refusal(f"region.near natural: nobody said how many tokens of {tokens.isna().idxmax()!r} there are")
        return plain[name]()
    own = baseline(file) if name == "baseline" else None
    if own is None:
        raise Refusal(f"region.near names {name!r}; name baseline (with run.baseline), natural or uniform")
    return own


def baseline(file: StudyFile) -> pd.Series | None:
    """Return the mixture that a winner must beat where the file gives one; None for the plain ones, by name."""
    names, said = list(file.candidates), file.run.baseline
    if said in (None, "natural", "uniform"):
        return None
    if isinstance(said, dict):
        return simplex.validate(pd.Series(said).reindex(names, fill_value=0.0).to_frame("run.baseline").T).iloc[0]
    table, _ = reading.mixtures(said, names, folders=file.folders)
    if len(table) > 1:
        raise Refusal(f"run.baseline, {said}, holds {len(table)} mixtures; give a file of one")
    return table.iloc[0]
