"""What bounds a region: shares, sums of groups, a distance from a mixture; checked, named, told where they contradict.

Bounds come from a study file, from a notebook's caps or from amounts of data (`of_data`); `Limits` holds them by name,
`projection.Bounds` the same in numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy import ndarray

from demix_nb.mixtures import validate
from demix_nb.projection import Bound, Bounds, contradiction, slack
from demix_nb.store import Refusal

TOLERANCE = 1e-9  # how far beyond 0 or 1, or beyond its partner, a bound may lie by rounding
TOLD = 3  # ways to mend a contradiction that are told
MOST_TIMES = 1e6  # of the data: so many are tried when it is told what would fit
LISTED = 8  # bounds of one that are listed

Shares = Mapping[str, float] | pd.Series  # candidate → share
Group = tuple[Sequence[str], float, float]  # members, least and largest sum of their shares
Near = tuple[Shares, float]  # a mixture, largest total variation from it


@dataclass(frozen=True)
class Limits:
    """Lower and upper bound of every candidate, groups by name, and a mixture with the largest distance from it.

    `data`: candidate → share that one token more of it would allow, of those whose upper bound is an amount of data.
    """

    lower: pd.Series
    upper: pd.Series
    groups: Mapping[str, Group]
    near: tuple[pd.Series, float] | None
    data: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        candidates: list[str],
        lower: Shares | None,
        upper: Shares | None,
        fixed: Shares | None,
        groups: Mapping[str, Group],
        near: Near | None,
    ) -> "Limits":
        """Return bounds as they are given; raises Refusal for what is no bound, of no candidate, or fits no other."""
        low, high = side(lower, candidates, "lower", 0.0), side(upper, candidates, "upper", 1.0)
        pinned = side(fixed, candidates, "fixed", np.nan)
        _crossed(low, high)
        for name, share in pinned.dropna().items():
            if not low[name] - TOLERANCE <= share <= high[name] + TOLERANCE:
                bounds = f"{low[name]:g} to {high[name]:g}"
                raise Refusal(f"{name!r} is fixed at {share:g}, outside of its bounds {bounds}; widen them")
        _apart(groups, candidates)
        told = {name: (list(members), float(least), float(most)) for name, (members, least, most) in groups.items()}
        if near is not None:
            side({"near": near[1]}, ["near"], "distance", 1.0)
            centre = pd.Series(dict(near[0]), dtype=float).reindex(candidates, fill_value=0.0)
            near = (validate(centre.to_frame("near").T).iloc[0], float(near[1]))
        return cls(pinned.fillna(low), pinned.fillna(high), told, near)

    @cached_property
    def bounds(self) -> Bounds:
        """The same in numbers."""
        groups = [(np.isin(self.lower.index, members), low, high) for members, low, high in self.groups.values()]
        masks = np.array([mask for mask, _, _ in groups], bool).reshape(len(groups), len(self.lower))
        least, most = (np.array([group[end] for group in groups], float) for end in (1, 2))
        centre, reach = (None, 1.0) if self.near is None else (self.near[0].to_numpy(), self.near[1])
        return Bounds(self.lower.to_numpy(), self.upper.to_numpy(), masks, least, most, centre, reach)

    @cached_property
    def named(self) -> list[Bound]:
        """Every bound that binds anything, with its name."""
        bounds, size = self.bounds, len(self.lower)
        rows = zip(self.lower.index, np.eye(size), bounds.low, bounds.high, strict=True)
        sums = zip(self.groups, bounds.groups, bounds.least, bounds.most, strict=True)
        found = []
        for grouped, (name, row, low, high) in [*((False, one) for one in rows), *((True, one) for one in sums)]:
            found += [Bound("lower", name, grouped, -1.0 * row, -low)] if low > 0 else []
            found += [Bound("upper", name, grouped, 1.0 * row, high)] if high < 1 else []
        if self.near is not None and bounds.reach < 1:
            found.append(Bound("near", "", False, np.concatenate([np.zeros(size), np.full(size, 0.5)]), bounds.reach))
        return found

    def met(self, shares: ndarray, near: float) -> list[str]:
        """Return the names of the bounds that a mixture meets, to within `near`."""
        far = shares if self.near is None else np.concatenate([shares, np.abs(shares - self.near[0].to_numpy())])
        return [bound.name for bound in self.named if bound.row @ far[: len(bound.row)] >= bound.most - near]

    def tokens(self, name: str) -> float:
        """Return what share one token more would add to a bound by name; NaN where it is no amount of data."""
        of_data = {bound.name: bound.of for bound in self.named if bound.kind == "upper" and not bound.grouped}
        return self.data.get(of_data.get(name, ""), np.nan)

    def loosened(self, name: str, by: float) -> "Limits":
        """Return the same with one bound, by name, wider by so much; raises Refusal for a name of none."""
        bound = {bound.name: bound for bound in self.named}.get(name)
        if bound is None:
            raise Refusal(f"there is no bound {name!r}; the bounds are {', '.join(one.name for one in self.named)}")
        if self.near is not None and bound.kind == "near":
            return replace(self, near=(self.near[0], min(self.near[1] + by, 1.0)))
        if bound.grouped:
            members, low, high = self.groups[bound.of]
            ends = (max(low - by, 0.0), high) if bound.kind == "lower" else (low, min(high + by, 1.0))
            return replace(self, groups={**self.groups, bound.of: (members, *ends)})
        bounds = getattr(self, bound.kind).copy()
        bounds[bound.of] = np.clip(bounds[bound.of] + (by if bound.kind == "upper" else -by), 0.0, 1.0)
        return replace(self, **{bound.kind: bounds})

    @property
    def told(self) -> dict[str, dict]:
        """The bounds that bind anything, as a study file has them."""
        kept = {"lower": self.lower[self.lower > 0], "upper": self.upper[self.upper < 1]}
        found = {kind: bounds.round(6).to_dict() for kind, bounds in kept.items() if len(bounds)}
        if self.groups:
            found["groups"] = {name: {"members": members, "lower": round(low, 6), "upper": round(high, 6)}
                               for name, (members, low, high) in self.groups.items()}  # fmt: skip
        if self.near is not None:
            found["near"] = {"distance": round(self.near[1], 6), "mixture": self.near[0].round(6).to_dict()}
        return found

    def check(self) -> None:
        """Raise Refusal where no mixture obeys all bounds: a smallest set that none does, and ways to mend it."""
        refuse_contradiction(self.named, [], len(self.lower), self.bounds.centre)


def refuse_contradiction(
    bounds: Sequence[Bound], firm: Sequence[Bound], size: int, centre: ndarray | None = None
) -> None:
    """Raise Refusal where no mixture obeys `bounds` and those that stand firm: a smallest set that none does, with ways
    to mend it.
    """
    if not (broken := contradiction([*bounds, *firm], size, centre)):
        return
    loose = [bound for bound in broken if not any(bound is one for one in firm)]
    ways = [bound.at(slack(broken, size, centre, bound)) for bound in loose]
    told = [f"{bound.name} {abs(bound.most):.4g}" for bound in loose]
    told = ", ".join(told[:LISTED] + ([f"and {len(told) - LISTED} more"] if len(told) > LISTED else []))
    raise Refusal(f"no mixture obeys {told}; loosen one: {' or '.join(ways[:TOLD])}")


def of_data(
    tokens: pd.Series, target_tokens: float, epochs: float | Shares, general: str | None, beta: float
) -> Callable[[float], pd.Series]:
    """Return a function of how many times the data are there: candidate → largest share that repeats it so often.

    Arguments as in `Region.of_data`, refusals too.
    """
    often = pd.Series(dict(epochs) if not np.isscalar(epochs) else dict.fromkeys(tokens.index, epochs), dtype=float)
    if unknown := [name for name in often.index if name not in tokens.index]:
        raise Refusal(f"epochs of {unknown[0]!r} are limited, which is no candidate: {', '.join(tokens.index)}")
    if not (target_tokens > 0 and (often > 0).all()):
        raise Refusal(f"target_tokens is {target_tokens} and epochs {epochs}; both must be positive")
    room = often * tokens[often.index] / target_tokens - (1 - beta) * (often.index == general)
    if (room < 0).any():
        raise Refusal(
            f"diluting with {general!r} alone repeats it {(1 - beta) * target_tokens / tokens[general]:.3g} times "
            f"in {target_tokens:g} tokens, {often[general]:g} are allowed; lower target_tokens or allow more epochs"
        )

    def caps(times: float) -> pd.Series:
        more = room + (times - 1) * often * tokens[often.index] / target_tokens
        return (more / beta).clip(upper=1.0) if beta > 0 else pd.Series(1.0, often.index)

    return caps


def that_fits(make: Callable[[float], object], target_tokens: float) -> str:
    """Return in words what amount of data would do where there is too little, nothing where none would."""
    fits, short = MOST_TIMES, 1.0
    try:
        make(fits)
    except Refusal:
        return ""
    while fits / short > 1 + 1e-4:
        middle = np.sqrt(fits * short)
        try:
            make(middle)
            fits = middle
        except Refusal:
            short = middle
    return f"; at most {target_tokens / fits:.4g} target_tokens would do, or {fits:.4g} times the epochs"


def side(given: Shares | None, names: Sequence[str], kind: str, default: float) -> pd.Series:
    """Return a bound for every name; raises Refusal for one of no candidate, and for one that is no share."""
    bound = pd.Series(dict(given) if given is not None else {}, dtype=float)
    if unknown := [name for name in bound.index if name not in names]:
        raise Refusal(f"{kind} bound for unknown candidate {unknown[0]!r}; candidates: {', '.join(names)}")
    if odd := [name for name, share in bound.items() if not -TOLERANCE <= share <= 1 + TOLERANCE]:
        raise Refusal(f"{kind} bound of {odd[0]!r} is {bound[odd[0]]:g}; a bound is a share between 0 and 1")
    return bound.reindex(names).fillna(default).clip(0.0, 1.0)


def _crossed(low: pd.Series, high: pd.Series, what: str = "") -> None:
    if (crossed := low > high).any():
        name = crossed.idxmax()
        raise Refusal(f"{what}{name!r} has lower bound {low[name]:g} above its upper bound {high[name]:g}; widen them")


def _apart(groups: Mapping[str, Group], candidates: list[str]) -> None:
    """Raise Refusal for members that are no candidates or in two groups, and for bounds that are none."""
    owner: dict[str, str] = {}
    for name, (members, low, high) in groups.items():
        for member in members:
            if member not in candidates:
                told = f"candidates: {', '.join(candidates)}"
                raise Refusal(f"group {name!r} has the member {member!r}, which is no candidate; {told}")
            if member in owner:
                raise Refusal(f"{member!r} is in the groups {owner[member]!r} and {name!r}; leave it in one")
            owner[member] = name
        if not members:
            raise Refusal(f"group {name!r} has no members; name some, or drop it")
        _crossed(side({name: low}, [name], "lower", 0.0), side({name: high}, [name], "upper", 1.0), "group ")
