"""The simplex: make, check and average data mixtures.

A *mixture table* is a DataFrame with one row per mixture (index `mixture`) and one float column per candidate; rows are
non-negative and sum to 1. A single mixture is a Series over the candidates. A mixture α says how the candidates share
the space that β leaves them; the *recipe* is what is really trained on, (1−β)·general + β·α. Which mixtures are
allowed, and how they are drawn, is in `region`.

Source: DeMix (arXiv 2602.00747) 2.2.
"""

from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations_with_replacement, count
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from demix_nb.store import Refusal

SUM_TOLERANCE = 1e-6  # float64 rounding of a sum of a few dozen shares, with room for CSVs printed to 7 digits
SPARSE_BELOW = 2e-4  # weights under this become zero, RegMix and DeMix code


def validate(mixtures: pd.DataFrame, candidates: Sequence[str] | None = None) -> pd.DataFrame:
    """Return `mixtures` as a clean mixture table (columns in the order of `candidates`).

    Raises Refusal naming the row and column for unknown, missing or duplicate names, NaN, negative weights and
    rows whose sum is off 1 by more than 1e-6.
    """
    if mixtures.empty:
        raise Refusal("the mixture table is empty; give at least one mixture")
    check_names(mixtures, candidates)
    table = mixtures[list(candidates)] if candidates is not None else mixtures
    table = table.astype(float).rename_axis(index="mixture", columns=None)
    bad = ~np.isfinite(table.to_numpy()) | (table.to_numpy() < 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise Refusal(
            f"mixture {table.index[row]!r} has weight {table.iat[row, column]} for {table.columns[column]!r}; "
            "weights must be finite and not negative"
        )
    sums = table.sum(axis=1)
    if (off := (sums - 1).abs() > SUM_TOLERANCE).any():
        name = off.idxmax()
        raise Refusal(f"mixture {name!r} sums to {sums[name]:.6g}, not 1; divide its weights by their sum")
    return table


def check_names(mixtures: pd.DataFrame, candidates: Sequence[str] | None) -> None:
    """Raise Refusal for a duplicate mixture or candidate name, or candidates other than those expected."""
    for kind, names in (("mixture", mixtures.index), ("candidate", mixtures.columns)):
        if names.has_duplicates:
            raise Refusal(f"{kind} {names[names.duplicated()][0]!r} appears twice; give each {kind} one name")
    if candidates is None:
        return
    if unknown := [name for name in mixtures.columns if name not in candidates]:
        raise Refusal(f"unknown candidate {unknown[0]!r}; the candidates are {', '.join(candidates)}")
    if missing := [name for name in candidates if name not in mixtures.columns]:
        raise Refusal(f"no weight for candidate {missing[0]!r}; write 0 if it is not to be used")


def as_table(mixtures: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Stack named single mixtures into a mixture table."""
    return validate(pd.DataFrame(dict(mixtures)).T)


def uniform(candidates: Sequence[str]) -> pd.Series:
    """Return equal shares."""
    return pd.Series(1.0 / len(candidates), index=list(candidates))


def one_hot(candidates: Sequence[str], name: str) -> pd.Series:
    """Return all weight on `name`; raises Refusal when it is no candidate."""
    if name not in candidates:
        raise Refusal(f"unknown candidate {name!r}; the candidates are {', '.join(candidates)}")
    return pd.Series({candidate: float(candidate == name) for candidate in candidates})


def natural(tokens: pd.Series) -> pd.Series:
    """Return shares in proportion to the tokens there are (the mixture one gets by concatenating everything)."""
    if not (tokens > 0).all():
        raise Refusal(f"candidate {tokens.idxmin()!r} has {tokens.min()} tokens; drop it or give it text")
    return tokens.astype(float) / tokens.sum()


def temperature(tokens: pd.Series, power: float) -> pd.Series:
    """Return natural shares to the power `power`, renormalised: 1 = natural, 0 = uniform (mT5, 2010.11934)."""
    return natural(natural(tokens) ** power)


def average(mixtures: pd.DataFrame) -> pd.Series:
    """Return the mean mixture (DeMix 3 averages the top 128; a mean of points of the simplex is on the simplex)."""
    return validate(mixtures).mean()


def recipe(mixture: pd.Series, general: str | None, beta: float) -> pd.Series:
    """Return the token shares really trained on, (1−β)·general + β·α (DeMix 2.2); without `general` the mixture's."""
    if not 0 <= beta <= 1:
        raise Refusal(f"beta is {beta}; it is the share of the candidates and lies between 0 and 1")
    mixture = validate(mixture.to_frame("mixture").T).iloc[0]
    return mixture if general is None else beta * mixture + (1 - beta) * one_hot(list(mixture.index), general)


def apportion(shares: Mapping[Hashable, float] | pd.Series, total: int) -> dict[Any, int]:
    """Return how many of `total` things (sequences, documents) each share above 0 gets, by largest remainder."""
    shares = {name: share for name, share in shares.items() if share > 0}
    counts = {name: int(share * total) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * total)
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def seed_grid(
    candidates: Sequence[str], n: int, *, rng: np.random.Generator, prior: pd.Series | None = None
) -> pd.DataFrame:
    """Return `n` mixtures: each candidate alone, equal shares, `prior` if given, then points of a coarse simplex grid.

    The grid is the coarsest with `n` points or more, of which as many as are missing are drawn. Raises Refusal for a
    single candidate, or when `n` does not even hold the first ones.
    """
    names = list(candidates)
    fixed = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    fixed.loc["uniform"] = uniform(names)
    if prior is not None:
        fixed.loc["natural"] = prior[names]
    if len(names) < 2 or n < len(fixed):
        raise Refusal(f"{n} seeds for {len(names)} candidates; search two or more, with {len(fixed)} seeds or more")
    level = next(level for level in count(1) if comb(level + len(names) - 1, level) >= n)
    steps = _grid(len(names), level)
    steps = steps[(steps.max(axis=1) < level) & (np.ptp(steps, axis=1) > 0)]  # corners and equal shares: in `fixed`
    drawn = steps[rng.permutation(len(steps))[: n - len(fixed)]] / level
    points = pd.DataFrame(drawn, index=[f"grid-{i:02d}" for i in range(len(drawn))], columns=names)
    return pd.concat([fixed, points]).rename_axis(index="mixture")


def _grid(parts: int, level: int) -> Int[np.ndarray, "point part"]:
    """Return every way to share `level` steps among `parts`."""
    choices = combinations_with_replacement(range(parts), level)
    return np.array([np.bincount(choice, minlength=parts) for choice in choices])
