"""Runs: mixtures and the scores that the models made of them got, wherever the two tables come from.

Predictors, interactions and their notebooks speak of nothing else: our own proxies and references, a user's pair of CSV
files, or RegMix's public tables (`regmix.py`) all become one `Runs`, checked at the door.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb import mixtures


class RunsError(ValueError):
    """Mixtures and scores that do not belong together, or a score that is none."""


@dataclass(frozen=True)
class Runs:
    """A mixture table, the score table with the same rows, and the task table that says what the scores mean."""

    mixtures: pd.DataFrame
    scores: pd.DataFrame
    tasks: pd.DataFrame
    notes: tuple[str, ...] = ()  # what was repaired on the way in, one line each

    def __len__(self) -> int:
        return len(self.mixtures)

    def take(self, rows: Sequence[int] | np.ndarray) -> "Runs":
        """Return the runs at these positions."""
        return Runs(self.mixtures.iloc[rows], self.scores.iloc[rows], self.tasks, self.notes)

    def only(self, tasks: list[str]) -> "Runs":
        """Return the same runs with these tasks alone."""
        return Runs(self.mixtures, self.scores[tasks], self.tasks.loc[tasks], self.notes)

    def shared_with(self, other: "Runs") -> np.ndarray:
        """Return, run by run, whether `other` has a run with the same shares (to six digits, under any name)."""
        known = set(map(tuple, other.mixtures[list(self.mixtures)].to_numpy().round(6)))
        return np.array([tuple(row) in known for row in self.mixtures.to_numpy().round(6)])

    def split(self, share: float, *, rng: np.random.Generator) -> tuple["Runs", "Runs"]:
        """Return (the rest, a random `share` to hold out); raises RunsError when either would be empty."""
        rows, held = rng.permutation(len(self)), round(share * len(self))
        if not 0 < held < len(self):
            raise RunsError(f"holding out {share:g} of {len(self)} runs leaves nothing on one side; give more runs")
        return self.take(rows[held:]), self.take(rows[:held])

    def sample(self, n: int, *, rng: np.random.Generator) -> "Runs":
        """Return `n` runs drawn without replacement; raises RunsError when there are fewer."""
        if n > len(self):
            raise RunsError(f"cannot draw {n} runs out of {len(self)}; ask for fewer")
        return self.take(rng.permutation(len(self))[:n])


def read(
    mixtures_csv: str | Path, scores_csv: str | Path, tasks_csv: str | Path = "", *, higher_is_better: bool = False
) -> Runs:
    """Read a pair of CSV files whose first column names the mixture; other columns are candidates, or tasks.

    Mixtures may be raw counts, they are divided by their sum. Without `tasks_csv` (columns as in `data/README.md`)
    every task is a family of its own in the direction `higher_is_better`. Raises MixtureError and RunsError naming
    file, row and column.
    """
    shares, notes = mixtures.read(mixtures_csv)
    scores = read_scores(scores_csv)
    if tasks_csv:
        tasks = pd.read_csv(tasks_csv, index_col=0)
        scores = scores[[task for task in tasks.index if task in scores]]
        tasks = tasks.loc[scores.columns]
    else:
        tasks = describe(scores.columns, unit="score", higher_is_better=higher_is_better)
    return Runs(shares, paired(shares, scores, Path(scores_csv).name), tasks, tuple(notes))


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read a score table; raises RunsError naming the file and the row and column that is no number."""
    path = Path(path)
    if not path.is_file():
        raise RunsError(f"no score file at {path}; give a .csv whose first column names the mixture")
    table = pd.read_csv(path, index_col=0).rename_axis(index="mixture", columns=None)
    table.index = table.index.astype(str)
    numbers = table.apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere(~np.isfinite(numbers.to_numpy(float)))
    if len(bad):
        row, column = table.index[bad[0, 0]], table.columns[bad[0, 1]]
        raise RunsError(
            f"{path.name}: row {row!r}, column {column!r} holds {str(table.iat[*bad[0]])!r}, no finite number"
        )
    return numbers.astype(float)


def paired(shares: pd.DataFrame, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `scores` in the row order of `shares`; raises RunsError for a row missing, unknown or there twice."""
    twice = scores.index[scores.index.duplicated()]
    if len(twice):
        raise RunsError(f"{name}: row {twice[0]!r} comes twice; keep one")
    odd = shares.index.symmetric_difference(scores.index)
    if len(odd):
        raise RunsError(f"{name}: {len(odd)} rows have no partner among the mixtures or scores, first {odd[0]!r}")
    return scores.loc[shares.index]


def describe(tasks: Iterable[str], *, unit: str, higher_is_better: bool) -> pd.DataFrame:
    """Return a task table in which every task is a family of its own."""
    index = pd.Index(list(tasks), name="task")
    columns = {"family": list(index), "unit": unit, "higher_is_better": higher_is_better, "items": 0, "chance": np.nan}
    return pd.DataFrame(columns, index=index)
