"""Runs in two phases, really trained, and what proxies make of them: of both phases in turn, or of their mean alone.

Every first mixture is trained on for half of the tokens, and from there every second one for the other half. The same
is done to each candidate alone, whose checkpoints at half-way and at the end are all that `phases` needs. What it costs
to be exact is told too: components of the second phase that are really trained from the merge of the first.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from demix_nb import phases
from demix_nb.given import Models
from demix_nb.lab.jobs import RECORD
from demix_nb.mixtures import as_table
from demix_nb.phases import Phased
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.study import Study

PARTS = (0.5, 0.5)
KINDS = ("merged", "mixed")
BLIND, STEPS, LATER, EXACT = "mean of both phases", "steps", "moved from the merge", "trained from the merge"


@dataclass(frozen=True)
class TwoPhases:
    """Pairs of a first and a second mixture, in a study whose models are trained here, with `budget` of its tokens."""

    study: Study
    firsts: pd.DataFrame
    seconds: pd.DataFrame
    budget: float = 1.0
    seed: int = 0

    def _train(self, design: pd.DataFrame, role: str, phase: int, **changes) -> Models:
        """Train half of the tokens; a second phase reads other text than the first."""
        return self.study.train(design, role, seed=2 * self.seed + phase, budget=self.budget / 2, **changes)

    def pairs(self, first: str) -> pd.DataFrame:
        """Return the second mixtures as they follow a first."""
        return self.seconds.set_axis([f"{first}-{name}" for name in self.seconds.index])

    def references(self) -> Scored:
        """Return what really trained runs of two phases score, named by both mixtures."""
        begun = self._train(self.firsts, "first", 0).folders
        found = [self._train(self.pairs(name), "second", 1, base=begun[name]) for name in self.firsts.index]
        return self.study.measure(sum(found[1:], found[0]))

    def proxies(self) -> Iterator[tuple[str, str, Scored]]:
        """Yield what every proxy says of the same runs: what it looks at, its kind, scores."""
        study, corners = self.study, self.study.corners
        half = self._train(corners, "halfway", 0)
        ends = [self._train(corners.loc[[one]], "whole", 1, base=half.folders[one]) for one in corners.index]
        whole = sum(ends[1:], ends[0])
        region = Phased(Region(study.candidates), PARTS)
        rows = {f"{one}-{other}": region.joined([self.firsts.loc[one], self.seconds.loc[other]]).iloc[0]
                for one in self.firsts.index for other in self.seconds.index}  # fmt: skip
        table, place = as_table(rows), study.models.absolute() / f"phases-{self.budget:g}-{self.seed}"
        steps = phases.steps([half.folders, whole.folders], study.file.base, PARTS, place / "steps")
        for kind in KINDS:
            yield BLIND, kind, study.proxy(kind, components=whole)(region.mean(table))
            yield STEPS, kind, study.proxy(kind, components=steps)(table)
        parts = {(LATER, kind): [] for kind in KINDS} | {(EXACT, kind): [] for kind in KINDS}
        for name, first in self.firsts.iterrows():
            merged = self.merged(half, first, place / f"merge-{name}")
            made = {LATER: phases.later(merged, half.folders, whole.folders, place / f"later-{name}"),
                    EXACT: self._train(corners, f"from-{name}", 1, base=merged)}  # fmt: skip
            for how, kind in parts:
                parts[how, kind].append(study.proxy(kind, components=made[how])(self.pairs(name)))
        yield from ((how, kind, sum(found[1:], found[0])) for (how, kind), found in parts.items())

    def merged(self, half: Models, first: pd.Series, folder: Path) -> Path:
        """Return the folder of the merge of the first phase's components, with a record of their shape."""
        from demix_nb.merging import Bank, save

        if not folder.is_dir():
            save(Bank.load(half.folders), first, folder)
        if not (folder / RECORD).is_file():
            shutil.copy(next(iter(half.folders.values())) / RECORD, folder / RECORD)
        return folder

    def table(self) -> pd.DataFrame:
        """Return family scores of every pair, by `looks` (what a proxy looks at; reference) and `kind`."""
        found = [("reference", "reference", self.references()), *self.proxies()]
        ranked = self.study.ranked.index
        tables = [scored.only(ranked).families.assign(looks=looks, kind=kind) for looks, kind, scored in found]
        return pd.concat(tables).rename_axis("mixture")
