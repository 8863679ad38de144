"""Mixtures and the scores that models of them got: one noun, wherever the numbers come from.

Proxies, references, a user's pair of CSV files and RegMix's public tables all become one `Scored`: a mixture table, the
score table with the same rows, and the task table that says what the scores mean. Tasks have different units and
spreads, so DeMix compares mixtures by rank: a family's score is the mean of its tasks, mixtures are ranked within each
family (1 = best), and the macro rank is the mean over the families. The level is the same comparison on a steadier
scale: the families' mean in standard deviations of a fixed set. Tasks are found by name and direction, never by
position: the official code reads rows by number.

Source: DeMix (arXiv 2602.00747) 2.4 and 3.3.2.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from demix_nb import store
from demix_nb.runs import Runs, flat
from demix_nb.store import Refusal


@dataclass(frozen=True)
class Scored(Runs):
    """Scored mixtures: tables of shares, mixture × candidate, and of scores, mixture × task, with the same rows.

    `tasks` (index task): family, unit, higher_is_better and what else is known. `notes`: what was repaired on the way
    in. Raises Refusal for a task without scores, a score that is missing, a name that comes twice, rows without match.
    """

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
        """Ranks within each family, mixture × family, 1 = best; ties share their mean rank.

        A mixture that was scored several times is ranked once, by its mean; all its rows have that rank.
        """
        if not self.repeated:
            return _ranked(self.families, self.directions)
        once = self.averaged().family_ranks
        return pd.DataFrame(once.to_numpy()[self.groups], self.mixtures.index, once.columns)

    @cached_property
    def ranks(self) -> pd.Series:
        """The macro rank: mean of the family ranks, one number per mixture, 1 = best (DeMix 3.3.2)."""
        return self.family_ranks.mean(axis=1).rename("rank")

    @property
    def best(self) -> str:
        """The name of the mixture with the best macro rank; raises Refusal where nothing is scored."""
        if not len(self):
            raise Refusal("none of 0 mixtures is the best; score some")
        return self.ranks.idxmin()

    def standardised(self, among: "Scored") -> pd.DataFrame:
        """Family scores in standard deviations above the mean of `among`, signed so that higher is better.

        Raises Refusal for a family that is constant in `among`: it has no scale.
        """
        known = among.averaged().families
        if same := flat(known):
            raise Refusal(f"{same[0]!r} is the same in all {len(known)} mixtures and has no scale; leave it out")
        return (self.families - known.mean()) / known.std() * self.directions.map({True: 1, False: -1})

    def level(self, among: "Scored") -> pd.Series:
        """The families' mean in standard deviations of `among`; 0 = as good as its mean, lower is better."""
        return -self.standardised(among).mean(axis=1).rename("level")

    def places(self, references: "Scored") -> pd.DataFrame:
        """Rank each mixture among the references plus itself (DeMix Table 3).

        Columns: the rank in each family, `macro` (their mean), and `place`: 1 + how many references have a better macro
        rank. Families pull apart, so the best macro rank is far from 1; the place is not. Raises Refusal for a family
        that is called as a column of ours is.
        """
        store.check_families(self.tasks["family"])
        among = references.averaged()
        rows = {name: _place(self.take([row]), among) for row, name in enumerate(self.names)}
        columns = [*self.directions.index, "macro", "place"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float).rename_axis(
            self.mixtures.index.name
        )

    def by_family(self) -> "Scored":
        """The same mixtures with one task per family, its mean: what is ranked."""
        facts = self.tasks.groupby("family", sort=False)[["unit", "higher_is_better"]].first()
        return Scored(self.mixtures, self.families, facts.assign(family=facts.index).rename_axis("task"), self.notes)


def _family_means(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    for family, group in tasks.groupby("family"):
        if group["unit"].nunique() > 1:
            units = ", ".join(sorted(set(group["unit"])))
            raise Refusal(f"family {family!r} mixes {units}; rank one unit at a time")
        if group["higher_is_better"].nunique() > 1:
            raise Refusal(f"family {family!r} mixes tasks where high is better and where low is; make it two families")
    members = tasks.groupby("family", sort=False).groups
    return pd.DataFrame({family: scores[list(names)].mean(axis=1) for family, names in members.items()})


def _ranked(families: pd.DataFrame, directions: pd.Series) -> pd.DataFrame:
    return pd.DataFrame({name: families[name].rank(ascending=not directions[name]) for name in families})


def _place(one: Scored, references: Scored) -> dict[str, float]:
    """The family ranks of one mixture among the references plus itself, their mean, and its place."""
    new = pd.Index(["\0"])  # whatever its name is, it may be a reference's too
    both = references + replace(one, mixtures=one.mixtures.set_axis(new), scores=one.scores.set_axis(new))
    ranks = _ranked(both.families, both.directions)
    macro = ranks.mean(axis=1)
    return {**ranks.loc["\0"], "macro": macro["\0"], "place": 1 + int((macro < macro["\0"]).sum())}


def dealt(seen: Scored, *, rng: np.random.Generator) -> Scored:
    """Return the mixtures with rows of scores dealt to them at random: a world in which no mixture matters.

    Whole rows are dealt, so that tasks keep their correlation.
    """
    rows = seen.scores.to_numpy()[rng.permutation(len(seen))]
    return replace(seen, scores=pd.DataFrame(rows, seen.scores.index, seen.scores.columns))


def parted(tasks: pd.DataFrame) -> pd.DataFrame:
    """Return a task table in which every family that steers has one unit: one with several becomes `family, unit` each.

    No mean runs over bits and shares of right answers. Column `target` says which tasks steer, all where it is missing.
    """
    steering = tasks[tasks["target"]] if "target" in tasks else tasks
    several = steering.groupby("family")["unit"].nunique() > 1
    mixed = tasks["family"].isin(several.index[several])
    return tasks.assign(family=tasks["family"].mask(mixed, tasks["family"] + ", " + tasks["unit"]))


def describe(tasks: Iterable[str], *, unit: str, higher_is_better: bool) -> pd.DataFrame:
    """Return a task table in which every task is a family of its own."""
    index = pd.Index(list(tasks), name="task")
    columns = {"family": list(index), "unit": unit, "higher_is_better": higher_is_better, "items": 0, "chance": np.nan}
    return pd.DataFrame(columns, index=index)
