"""Mixtures and what they scored, row by row: that both agree, which rows are one mixture, and any part of them.

A mixture may be scored several times (another seed, another machine). Its rows stay rows, since a predictor learns from
each; but no split parts them, a mean of them is what is ranked, and their spread is the noise of one score.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from demix_nb import store
from demix_nb.store import Refusal

DIGITS = 6  # to which shares of two mixtures must agree to be one: CSVs are printed to seven
FLAT = 1e-9  # of its size: a score that varies by less over the mixtures varies by rounding

File = str | Path


@dataclass(frozen=True)
class Runs:
    """Tables of shares, mixture × candidate, and of scores, mixture × task, with the same rows.

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
    def none(cls, tasks: pd.DataFrame, candidates: Sequence[str] = ()) -> "Runs":
        """Nothing scored yet, on these tasks; `candidates`: the columns that its table of mixtures has."""
        tables = (pd.DataFrame(columns=list(names), dtype=float) for names in (candidates, tasks.index))
        return cls(*tables, tasks)

    def __len__(self) -> int:
        return len(self.mixtures)

    def __add__(self, other: "Runs") -> "Runs":
        """Both, on the tasks of the first."""
        tables = [(a, b) for a, b in ((self.mixtures, other.mixtures), (self.scores, other.scores))]
        mixtures, scores = (b if not len(a) else a if not len(b) else pd.concat([a, b]) for a, b in tables)
        return type(self)(mixtures, scores, self.tasks, (*self.notes, *other.notes))

    @property
    def names(self) -> list[str]:
        return list(self.mixtures.index)

    @property
    def candidates(self) -> list[str]:
        return list(self.mixtures.columns)

    # --- mixtures that were scored several times

    @cached_property
    def groups(self) -> Int[np.ndarray, " mixture"]:
        """The number of each row's mixture, from 0 in order of appearance; rows with the same shares share it."""
        return pd.factorize(marks(self.mixtures))[0]

    @property
    def repeated(self) -> bool:
        """Whether some mixture was scored more than once."""
        return len(self) > 0 and int(self.groups.max()) + 1 < len(self)

    def averaged(self) -> "Runs":
        """The same with one row per mixture, the mean of its scores, under the name that came first."""
        if not self.repeated:
            return self
        first = np.unique(self.groups, return_index=True)[1]
        means = self.scores.groupby(self.groups).mean().set_axis(self.scores.index[first])
        return replace(self, mixtures=self.mixtures.iloc[first], scores=means)

    @property
    def noise(self) -> pd.Series:
        """Task → standard deviation of one score, from the mixtures that were scored several times.

        Raises Refusal where there is none.
        """
        if not self.repeated:
            raise Refusal(f"none of {len(self)} mixtures was scored twice, so noise is not known; score some again")
        apart = self.scores - self.scores.groupby(self.groups).transform("mean")
        return ((apart**2).sum() / (len(self) - self.groups.max() - 1)) ** 0.5

    # --- parts

    def varying(self) -> tuple["Runs", list[str]]:
        """The same without the tasks that all mixtures score alike, and those tasks' names.

        Raises Refusal where no task is left.
        """
        same = flat(self.scores)
        if len(same) == len(self.tasks):
            raise Refusal(f"all {len(self)} mixtures score alike, {same[0]!r} and all other tasks; nothing is to learn")
        return (self.only(self.tasks.index.difference(same, sort=False)), same) if same else (self, [])

    def only(self, tasks: Sequence[str] | pd.Index) -> "Runs":
        """The same mixtures on these tasks alone; raises Refusal for one that has no score."""
        if odd := [task for task in tasks if task not in self.tasks.index]:
            raise Refusal(f"no task {odd[0]!r} among the scores; there are {', '.join(map(str, self.tasks.index))}")
        return replace(self, scores=self.scores[list(tasks)], tasks=self.tasks.loc[list(tasks)])

    def of(self, names: Sequence[str] | pd.Index) -> "Runs":
        """These mixtures, by name, in this order."""
        names = list(names)
        return replace(self, mixtures=self.mixtures.loc[names], scores=self.scores.loc[names])

    def take(self, rows: Sequence[int] | np.ndarray) -> "Runs":
        """The mixtures at these positions."""
        return replace(self, mixtures=self.mixtures.iloc[rows], scores=self.scores.iloc[rows])

    def shared_with(self, other: "Runs") -> Bool[np.ndarray, " mixture"]:
        """Return, row by row, whether `other` has a mixture with the same shares (to six digits, under any name)."""
        return np.isin(marks(self.mixtures), marks(other.mixtures[self.candidates]))

    def split(self, share: float, *, rng: np.random.Generator) -> tuple["Runs", "Runs"]:
        """Return (the rest, a random `share` of the mixtures to hold out); all rows of a mixture are on one side.

        Raises Refusal when either would be empty.
        """
        mixtures = len(np.unique(self.groups))
        place, held = rng.permutation(mixtures).argsort(), round(share * mixtures)
        if not 0 < held < mixtures:
            raise Refusal(f"holding out {share:g} of {mixtures} mixtures leaves nothing on one side; score more")
        rows, cut = place[self.groups].argsort(kind="stable"), int((place[self.groups] < held).sum())
        return self.take(rows[cut:]), self.take(rows[:cut])

    def sample(self, n: int, *, rng: np.random.Generator) -> "Runs":
        """Return `n` mixtures drawn without replacement; raises Refusal when there are fewer."""
        if n > len(self):
            raise Refusal(f"cannot draw {n} mixtures out of {len(self)}; ask for fewer")
        return self.take(rng.permutation(len(self))[:n])

    # --- files

    def write(self, folder: File, name: str) -> None:
        """Write `<name>_mixtures.csv` and `<name>_scores.csv` into a folder of tables, each whole or not at all."""
        for kind, table in (("mixtures", self.mixtures), ("scores", self.scores)):
            store.write(table.rename_axis("mixture"), Path(folder) / f"{name}_{kind}.csv", kind)


def marks(mixtures: pd.DataFrame) -> Int[np.ndarray, " mixture"]:
    """A number for each row, the same for the same shares (to six digits); modulo 2⁶⁴ no two are alike by chance."""
    steps = (mixtures.to_numpy() * 10**DIGITS).round().astype(np.int64)
    return steps @ np.random.default_rng(DIGITS).integers(1, 2**62, steps.shape[1])


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


def flat(scores: pd.DataFrame) -> list[str]:
    """The columns that vary by rounding at most: all where there are no rows."""
    return (
        list(scores)
        if scores.empty
        else [name for name in scores if np.ptp(scores[name]) <= FLAT * scores[name].abs().max()]
    )
