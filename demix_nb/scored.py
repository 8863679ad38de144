"""Mixtures and the scores that models of them got: one noun, wherever the numbers come from.

Proxies, references, a user's pair of CSV files and RegMix's public tables all become one `Scored`: a mixture table, the
score table with the same rows, and the task table that says what the scores mean. Tasks have different units and
spreads, so DeMix compares mixtures by rank: a family's score is the mean of its tasks, mixtures are ranked within each
family (1 = best), and the macro rank is the mean over the families. The level is the same comparison on a steadier
scale: the families' mean in standard deviations of a fixed set. Tasks are found by name and direction, never by
position: the official code reads rows by number.

Source: DeMix (arXiv 2602.00747) 2.4 and 3.3.2.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool

from demix_nb import store
from demix_nb.store import Refusal

DIGITS = 6  # to which shares of two mixtures must agree to be one: CSVs are printed to seven

File = str | Path


@dataclass(frozen=True)
class Scored:
    """Scored mixtures: tables of shares, mixture × candidate, and of scores, mixture × task, with the same rows.

    `tasks` (index task): family, unit, higher_is_better and what else is known. `notes`: what was repaired on the way
    in. Raises Refusal for a task without scores, a score that is missing, a name that comes twice, rows without match.
    """

    mixtures: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", _agreed(self.mixtures, self.scores, self.tasks))

    @classmethod
    def none(cls, tasks: pd.DataFrame) -> "Scored":
        """Nothing scored yet, on these tasks."""
        return cls(pd.DataFrame(), pd.DataFrame(columns=list(tasks.index), dtype=float), tasks)

    def __len__(self) -> int:
        return len(self.mixtures)

    def __add__(self, other: "Scored") -> "Scored":
        """Both, on the tasks of the first."""
        tables = [(a, b) for a, b in ((self.mixtures, other.mixtures), (self.scores, other.scores))]
        mixtures, scores = (b if not len(a) else a if not len(b) else pd.concat([a, b]) for a, b in tables)
        return Scored(mixtures, scores, self.tasks, (*self.notes, *other.notes))

    @property
    def names(self) -> list[str]:
        return list(self.mixtures.index)

    @property
    def candidates(self) -> list[str]:
        return list(self.mixtures.columns)

    # --- families, ranks, levels

    @cached_property
    def families(self) -> pd.DataFrame:
        """The mean task of each family, mixture × family, in the tasks' unit (DeMix 3.3.2).

        Raises Refusal when the tasks of one family differ in unit or direction: their mean would mean nothing.
        """
        return _family_means(self.scores, self.tasks)

    @property
    def directions(self) -> pd.Series:
        """Family → whether higher is better."""
        return self.tasks.groupby("family", sort=False)["higher_is_better"].first()

    @property
    def units(self) -> pd.Series:
        """Family → unit."""
        return self.tasks.groupby("family", sort=False)["unit"].first()

    @cached_property
    def family_ranks(self) -> pd.DataFrame:
        """Ranks within each family, mixture × family, 1 = best; ties share their mean rank."""
        better_high = self.directions
        return pd.DataFrame({f: self.families[f].rank(ascending=not better_high[f]) for f in self.families})

    @cached_property
    def ranks(self) -> pd.Series:
        """The macro rank: mean of the family ranks, one number per mixture, 1 = best (DeMix 3.3.2)."""
        return self.family_ranks.mean(axis=1).rename("rank")

    @property
    def best(self) -> str:
        """The name of the mixture with the best macro rank."""
        return self.ranks.idxmin()

    def standardised(self, among: "Scored") -> pd.DataFrame:
        """Family scores in standard deviations above the mean of `among`, signed so that higher is better."""
        known = among.families
        return (self.families - known.mean()) / known.std() * self.directions.map({True: 1, False: -1})

    def level(self, among: "Scored") -> pd.Series:
        """The families' mean in standard deviations of `among`; 0 = as good as its mean, lower is better."""
        return -self.standardised(among).mean(axis=1).rename("level")

    def places(self, references: "Scored") -> pd.DataFrame:
        """Rank each mixture among the references plus itself (DeMix Table 3).

        Columns: the rank in each family, `macro` (their mean), and `place`: 1 + how many references have a better macro
        rank. Families pull apart, so the best macro rank is far from 1; the place is not.
        """
        rows = {name: _place(self.take([row]), references) for row, name in enumerate(self.names)}
        return pd.DataFrame(rows).T.rename_axis(index=self.mixtures.index.name)

    def by_family(self) -> "Scored":
        """The same mixtures with one task per family, its mean: what is ranked."""
        facts = self.tasks.groupby("family", sort=False)[["unit", "higher_is_better"]].first()
        return Scored(self.mixtures, self.families, facts.assign(family=facts.index).rename_axis("task"), self.notes)

    # --- parts

    def only(self, tasks: Sequence[str] | pd.Index) -> "Scored":
        """The same mixtures on these tasks alone; raises Refusal for one that has no score."""
        if odd := [task for task in tasks if task not in self.tasks.index]:
            raise Refusal(f"no task {odd[0]!r} among the scores; there are {', '.join(map(str, self.tasks.index))}")
        return replace(self, scores=self.scores[list(tasks)], tasks=self.tasks.loc[list(tasks)])

    def of(self, names: Sequence[str] | pd.Index) -> "Scored":
        """These mixtures, by name, in this order."""
        names = list(names)
        return replace(self, mixtures=self.mixtures.loc[names], scores=self.scores.loc[names])

    def take(self, rows: Sequence[int] | np.ndarray) -> "Scored":
        """The mixtures at these positions."""
        return replace(self, mixtures=self.mixtures.iloc[rows], scores=self.scores.iloc[rows])

    def shared_with(self, other: "Scored") -> Bool[np.ndarray, " mixture"]:
        """Return, row by row, whether `other` has a mixture with the same shares (to six digits, under any name)."""
        known = set(map(tuple, other.mixtures[self.candidates].to_numpy().round(DIGITS)))
        return np.array([tuple(row) in known for row in self.mixtures.to_numpy().round(DIGITS)], dtype=bool)

    def split(self, share: float, *, rng: np.random.Generator) -> tuple["Scored", "Scored"]:
        """Return (the rest, a random `share` to hold out); raises Refusal when either would be empty."""
        rows, held = rng.permutation(len(self)), round(share * len(self))
        if not 0 < held < len(self):
            raise Refusal(f"holding out {share:g} of {len(self)} mixtures leaves nothing on one side; score more")
        return self.take(rows[held:]), self.take(rows[:held])

    def sample(self, n: int, *, rng: np.random.Generator) -> "Scored":
        """Return `n` mixtures drawn without replacement; raises Refusal when there are fewer."""
        if n > len(self):
            raise Refusal(f"cannot draw {n} mixtures out of {len(self)}; ask for fewer")
        return self.take(rng.permutation(len(self))[:n])

    # --- files

    def write(self, folder: File, name: str) -> None:
        """Write `<name>_mixtures.csv` and `<name>_scores.csv` into a folder of tables, each whole or not at all."""
        for kind, table in (("mixtures", self.mixtures), ("scores", self.scores)):
            store.write(table.rename_axis("mixture"), Path(folder) / f"{name}_{kind}.csv", kind)


def _agreed(mixtures: pd.DataFrame, scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of the tasks in the row order of the mixtures, or refuse what does not match."""
    if missing := [task for task in tasks.index if task not in scores.columns]:
        raise Refusal(f"task {missing[0]!r} is missing from the score table; score it or drop it from the tasks")
    for kind, names in (("task", tasks.index), ("task", scores.columns), ("mixture", mixtures.index)):
        if names.has_duplicates:
            raise Refusal(f"{kind} {names[names.duplicated()][0]!r} comes twice; give each {kind} one name")
    scores = scores[list(tasks.index)]
    if not scores.index.equals(mixtures.index):  # a million predictions need no sorting
        odd = [*mixtures.index.symmetric_difference(scores.index), *scores.index[scores.index.duplicated()]]
        if odd:
            raise Refusal(f"mixture {odd[0]!r} lacks its one row in mixtures and scores; drop it or score it")
        scores = scores.loc[mixtures.index]
    if (holes := scores.isna()).any(axis=None):
        mixture = holes.any(axis=1).idxmax()
        raise Refusal(f"mixture {mixture!r} has no score for {holes.loc[mixture].idxmax()!r}; score it again")
    return scores


def _family_means(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    for family, group in tasks.groupby("family"):
        if group["unit"].nunique() > 1:
            units = ", ".join(sorted(set(group["unit"])))
            raise Refusal(f"family {family!r} mixes {units}; rank one unit at a time")
        if group["higher_is_better"].nunique() > 1:
            raise Refusal(f"family {family!r} mixes tasks where high is better and where low is; make it two families")
    members = tasks.groupby("family", sort=False).groups
    return pd.DataFrame({family: scores[list(names)].mean(axis=1) for family, names in members.items()})


def _place(one: Scored, references: Scored) -> dict[str, float]:
    """The family ranks of one mixture among the references plus itself, their mean, and its place."""
    new = pd.Index(["\0"])  # whatever its name is, it may be a reference's too
    ranks = (
        references + replace(one, mixtures=one.mixtures.set_axis(new), scores=one.scores.set_axis(new))
    ).family_ranks
    macro = ranks.mean(axis=1)
    return {**ranks.loc["\0"], "macro": macro["\0"], "place": 1 + int((macro < macro["\0"]).sum())}


def dealt(seen: Scored, *, rng: np.random.Generator) -> Scored:
    """Return the mixtures with rows of scores dealt to them at random: a world in which no mixture matters.

    Whole rows are dealt, so that tasks keep their correlation.
    """
    rows = seen.scores.to_numpy()[rng.permutation(len(seen))]
    return replace(seen, scores=pd.DataFrame(rows, seen.scores.index, seen.scores.columns))


def describe(tasks: Iterable[str], *, unit: str, higher_is_better: bool) -> pd.DataFrame:
    """Return a task table in which every task is a family of its own."""
    index = pd.Index(list(tasks), name="task")
    columns = {"family": list(index), "unit": unit, "higher_is_better": higher_is_better, "items": 0, "chance": np.nan}
    return pd.DataFrame(columns, index=index)
