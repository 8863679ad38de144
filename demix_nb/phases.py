"""A mixture for each phase of a run, under bounds on every phase and, as to data, on the run as a whole.

Laid one behind the other, each times its part of the run, the phases' mixtures are one mixture of every candidate in
every phase. Searches, predictors and proxies so need not know of phases: `Phased` is a region of such mixtures, and
`steps` are components of them, of which each takes the base where its candidate led in one phase alone. A merge of
these adds up what the phases' mixtures do to the base in turn, with what a candidate does in a later phase taken to be
the same wherever it begins. That is wrong where phases warm up anew: what is read last counts for more, and steps say
that it counts for less; components trained from the merge of the first phase know it (RESULTS).

Sources: the nearest mixture that obeys both kinds of bounds: Dykstra's projections with Bregman distances (Bauschke &
Lewis 2000). The approximation is ours, of first order in the updates.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb import store
from demix_nb.given import Models
from demix_nb.limits import refuse_contradiction
from demix_nb.mixtures import as_table, one_hot, validate
from demix_nb.projection import Bound
from demix_nb.region import TOLERANCE, Region
from demix_nb.store import Refusal

TURNS, CLOSE = 2000, 1e-11  # of projections at most; how little the last moves a mixture


def names(candidates: Sequence[str], parts: Sequence[float]) -> list[list[str]]:
    """Return what the candidates are called in each phase."""
    return [[f"{name} in phase {number}" for name in candidates] for number in range(1, len(parts) + 1)]


class Phased(Region):
    """Mixtures of every candidate in every phase: each phase's within `each`, their mean within `whole`; never empty.

    `parts`: the share of the run that each phase takes. `whole`: bounds on data (`Region.of_data`), or none.
    Raises Refusal for parts that are no shares of a run, for a region near a mixture, which is of one phase, and where
    no mixtures obey all bounds.
    """

    def __init__(self, each: Region, parts: Sequence[float], whole: Region | None = None) -> None:
        self.each, self.parts, self.whole = each, np.array(parts, float), whole or Region(each.candidates)
        if len(self.parts) < 2 or (self.parts <= 0).any() or abs(self.parts.sum() - 1) > TOLERANCE:
            told = ", ".join(f"{part:g}" for part in parts)
            raise Refusal(f"the phases take {told} of the run; give two or more parts above 0 that sum to 1")
        if each.limits.near is not None or self.whole.limits.near is not None:
            raise Refusal("`near` bounds one mixture, and a run in phases has several; bound their shares instead")
        self.phases = names(each.candidates, parts)
        super().__init__([name for phase in self.phases for name in phase])
        refuse_contradiction(*self._linear(), len(self.candidates))

    @property
    def bounded(self) -> bool:
        """It is: a phase's shares sum to its part."""
        return True

    def _linear(self) -> tuple[list[Bound], list[Bound]]:
        """The bounds, and that phases take their parts, as rows over all candidates in all phases."""
        blocks = np.eye(len(self.parts)) / self.parts[:, None]
        found = [Bound(one.kind, f"{one.of} in phase {number}", one.grouped, np.kron(block, one.row), one.most)
                 for number, block in enumerate(blocks, 1) for one in self.each.limits.named]  # fmt: skip
        found += [Bound(one.kind, f"{one.of} in the whole run", one.grouped, np.tile(one.row, len(blocks)), one.most)
                  for one in self.whole.limits.named]  # fmt: skip
        ones = np.ones(len(self.each.candidates))
        whole = [Bound("phase", str(number), False, sign * np.kron(block, ones), sign)
                 for number, block in enumerate(blocks, 1) for sign in (1.0, -1.0)]  # fmt: skip
        return found, whole

    def joined(self, phases: Sequence[pd.Series], name: str = "mixture") -> pd.DataFrame:
        """Return the mixtures of all phases as one row."""
        rows = [part * one[self.each.candidates].to_numpy(float) for part, one in zip(self.parts, phases, strict=True)]
        return pd.DataFrame([np.concatenate(rows)], [name], self.candidates).rename_axis("mixture")

    def of(self, mixtures: pd.DataFrame, phase: int) -> pd.DataFrame:
        """Return the mixtures of one phase, counted from 1."""
        shares = mixtures[self.phases[phase - 1]].to_numpy(float) / self.parts[phase - 1]
        return pd.DataFrame(shares, mixtures.index, self.each.candidates)

    def mean(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the mixture of the run as a whole."""
        shares = mixtures[self.candidates].to_numpy(float).reshape(len(mixtures), len(self.parts), -1).sum(axis=1)
        return pd.DataFrame(shares, mixtures.index, self.each.candidates)

    def holds(self, mixtures: pd.DataFrame) -> pd.Series:
        """Return mixture → whether every phase and the whole run keep their bounds, phases their parts (to 1e-9)."""
        shares = validate(mixtures, self.candidates)
        return pd.Series(self._far(shares.to_numpy()) <= TOLERANCE, shares.index)

    def project(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the mixtures of the region that are nearest to these in KL divergence, row by row."""
        table = validate(mixtures, self.candidates)
        found = table.to_numpy().copy()
        given = [np.ones_like(found), np.ones_like(found)]
        going = np.flatnonzero(self._far(found) > CLOSE)
        for _ in range(TURNS):
            if not len(going):
                return pd.DataFrame(found, table.index, table.columns)
            before = found[going]
            for took, move in zip(given, (self._whole, self._each), strict=True):
                asked = found[going] * took[going]
                found[going] = move(asked)
                took[going] = np.divide(asked, found[going], out=np.ones_like(asked), where=found[going] > 0)
            moving = np.abs(found[going] - before).max(axis=1) > CLOSE  # what obeys all need not be nearest yet
            going = going[moving | (self._far(found[going]) > CLOSE)]
        if (self._far(found) > TOLERANCE).any():
            raise Refusal("the bounds of the phases and of the whole run all but contradict each other; loosen some")
        return pd.DataFrame(found, table.index, table.columns)

    def _far(self, shares: np.ndarray) -> np.ndarray:
        """By how much the worst bound of each row is broken."""
        blocks = shares.reshape(len(shares), len(self.parts), -1)
        far = [np.abs(blocks.sum(axis=2) - self.parts).max(axis=1), self.whole.limits.bounds.far(blocks.sum(axis=1))]
        far += [self.each.limits.bounds.far(blocks[:, phase] / part) for phase, part in enumerate(self.parts)]
        return np.max(far, axis=0)

    def _each(self, shares: np.ndarray) -> np.ndarray:
        blocks = shares.reshape(len(shares), len(self.parts), -1)
        moved = [part * _within(self.each, blocks[:, phase]) for phase, part in enumerate(self.parts)]
        return np.concatenate(moved, axis=1)

    def _whole(self, shares: np.ndarray) -> np.ndarray:
        """Each candidate's shares by one factor, so that their sum is what the whole run may have."""
        blocks = shares.reshape(len(shares), len(self.parts), -1)
        sums = blocks.sum(axis=1)
        within = _within(self.whole, sums)[:, None]
        spread = np.divide(blocks, sums[:, None], out=self.parts[:, None] + 0 * blocks, where=sums[:, None] > 0)
        return (spread * within).reshape(shares.shape)


def _within(region: Region, shares: np.ndarray) -> np.ndarray:
    table = pd.DataFrame(shares / shares.sum(axis=1, keepdims=True), columns=region.candidates)
    return region.project(table).to_numpy()


def steps(ends: Sequence[Mapping[str, Path]], base: Path, parts: Sequence[float], folder: Path) -> Models:
    """Return components for `Phased` mixtures, from checkpoints of the components at the end of each phase.

    `ends`: phase by phase, candidate → folder; what happened in a phase, divided by its part, is added to the base.
    They are written below `folder` once. Raises Refusal where phases and parts differ, or a phase lacks a candidate.
    """
    if len(ends) != len(parts):
        raise Refusal(f"there are checkpoints of {len(ends)} phases, and parts of {len(parts)}; give one for each")
    candidates, folders, begun = list(ends[-1]), {}, dict.fromkeys(ends[-1], Path(base))
    for called, done, part in zip(names(candidates, parts), ends, parts, strict=True):
        if missing := [name for name in candidates if not (name in done and Path(done[name]).is_dir())]:
            raise Refusal(f"{missing[0]!r} has no checkpoint at the end of a phase; save one, or leave it out")
        for name, key in zip(candidates, called, strict=True):
            folders[key] = moved(base, begun[name], done[name], 1 / part, folder / key.replace(" ", "-"))
        begun = dict(done)
    return Models(folders, as_table({key: one_hot(list(folders), key) for key in folders}))


def later(first: Path, begun: Mapping[str, Path], done: Mapping[str, Path], folder: Path) -> Models:
    """Return components of a later phase that begin at `first`, each moved as it was from `begun` to `done`."""
    folders = {name: moved(first, begun[name], done[name], 1.0, folder / name) for name in done}
    return Models(folders, as_table({name: one_hot(list(done), name) for name in done}))


def moved(anchor: Path, start: Path, end: Path, scale: float, folder: Path) -> Path:
    """Write the checkpoint anchor + scale·(end − start), unless it is there; return its folder."""
    from demix_nb.merging import save_moved  # here: it brings torch, which regions do without

    key = store.content_hash("moved", *(store.folder_hash(one) for one in (anchor, start, end)), scale)
    mark = folder / "moved.txt"
    if not (mark.is_file() and mark.read_text("utf-8") == key):
        if mark.is_file():
            shutil.rmtree(folder)  # of other checkpoints, and made here
        save_moved({"start": start, "end": end}, anchor, scale, folder, {mark.name: key})
    return folder
