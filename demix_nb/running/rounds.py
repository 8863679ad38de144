"""The commands `demix-nb next` and `demix-nb tell`: what to train next, and what came of it, over weeks.

A team trains a few mixtures, writes down what they scored, and asks for more. What was asked for and what came back
lie as tables in the study's run folder, so that any day, any machine and any colleague goes on from there: nothing
waits in memory. Notebooks 04 to 06 learn from what was told as from the runs that the study began with.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb import asking, reading, scoresheets
from demix_nb.predictors import PREDICTORS
from demix_nb.ranges import closest
from demix_nb.running.given import Given
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal
from demix_nb.study import Study

PREDICTOR = "stack"  # what learns from the runs: notebook 05's
ASKED, TOLD = "asked_mixtures", "told"
SAME = 1e-6  # scores nearer than this, of their size, are one


@dataclass(frozen=True)
class Next:
    """Mixtures to train next, what they may gain (a level; infinite while few are known), a seed's noise (NaN: not
    known), how many are waiting, and where it is written.
    """

    mixtures: pd.DataFrame
    gain: float
    noise: float
    waiting: int
    path: Path

    @property
    def told(self) -> str:
        """What there is to be said of it, in a sentence."""
        wait = f"; {self.waiting} asked for before have no scores yet" if self.waiting else ""
        if np.isinf(self.gain):
            return f"too little is known: these lie as far apart as may be{wait}"
        known = "what a seed changes is not known (train a mixture twice)" if np.isnan(self.noise) else (
            f"a seed changes {self.noise:.2f}"
        )  # fmt: skip
        stop = ": stop here, more would be luck" if asking.enough(self.gain, self.noise) else ""
        return f"they may gain {self.gain:.2f} of a level (standard deviations of the runs); {known}{stop}{wait}"


def opened(path: Path) -> Study:
    """Open a study of tables; raises Refusal for one with models, whose notebook 05 says what to train."""
    found = Given.open(path)
    if found.file.proxies is None:
        told = "its proxies are made here; notebook 05 writes what to train next, tables/telling_mixtures.csv"
        raise Refusal(f"{path.name} is no study of tables: {told}")
    found.install(found.folder)
    return Study.open(found.folder)


def ask(path: Path, n: int, *, seed: int = 0) -> Next:
    """Choose the `n` mixtures of a study of tables to train next, and write down that they were asked for."""
    study = opened(path)
    seen, before = study.runs, _asked(study)
    waiting = before[~before.index.isin(seen.names)]
    rng = np.random.default_rng([seed, len(seen), len(before)])
    pool = study.region.pool(asking.POOL, how="dirichlet", rng=rng, prefix="p")
    predictor = PREDICTORS[PREDICTOR].new(rng=rng)
    found, gain = asking.ask(predictor, pool, seen, n, rng=rng, waiting=waiting if len(waiting) else None)
    names = [f"next-{len(before) + number:03d}" for number in range(len(found))]
    found = found.set_axis(pd.Index(names, name="mixture"))
    study[ASKED] = pd.concat([before, found])
    return Next(found, gain, _noise(seen), len(waiting), study.tables / f"{ASKED}.csv")


def tell(path: Path, scores: Path, mixtures: Path | None = None) -> list[str]:
    """Add what was trained to a study of tables; return notes of it.

    `scores`: a table, or lm-eval's results, by the names of what was asked for; others are taken where `mixtures` says
    what they are. Raises Refusal for a name that is nobody's, scores that a task lacks, and a mixture that has other
    scores already.
    """
    study = opened(path)
    tasks, shares = study.runs.tasks, _asked(study)
    if mixtures is not None:
        own, _ = reading.mixtures(mixtures, study.candidates)
        shares = pd.concat([shares[~shares.index.isin(own.index)], own])
    sheet = scoresheets.read(scores, list(shares.index))
    if missing := [task for task in tasks.index if task not in sheet.cells]:
        raise Refusal(f"{sheet.file}: no scores of {missing[0]!r}; the study's tasks are {', '.join(tasks.index)}")
    found, notes = sheet.scores(list(tasks.index))
    known = study.runs
    if odd := [name for name in found.index if name not in shares.index and name not in known.names]:
        hint = closest(odd[0], list(shares.index))
        raise Refusal(f"{sheet.file}: {odd[0]!r} was never asked for; {hint}, or give its shares (--mixtures)")
    again = [name for name in found.index if name in known.names]
    for name in again:
        if not np.allclose(found.loc[name], known.scores.loc[name, found.columns], rtol=SAME, atol=0):
            raise Refusal(f"{sheet.file}: {name!r} has other scores already; call a second seed by another name")
    fresh = found.drop(index=again)
    strangers = [name for name in fresh.index if name not in _asked(study).index]
    notes += [f"{name!r} was known already, with the same scores" for name in again]
    notes += [f"{name!r} was never asked for, and is taken" for name in strangers]
    if len(fresh):
        (told(study, tasks) + Scored(shares.loc[fresh.index], fresh, tasks)).write(study.tables, TOLD)
    return [f"{len(fresh)} of {len(found)} mixtures are new; {len(known) + len(fresh)} runs are known", *notes]


def told(study: Study, tasks: pd.DataFrame) -> Scored:
    """Return what was told so far."""
    if f"{TOLD}_scores" not in study:
        return Scored.none(tasks, study.candidates)
    return study.scored(TOLD, tasks=tasks)


def _asked(study: Study) -> pd.DataFrame:
    if ASKED in study:
        return study[ASKED][study.candidates]
    return pd.DataFrame(columns=study.candidates, dtype=float).rename_axis("mixture")


def _noise(seen: Scored) -> float:
    """Return what a second run of a mixture changes of its level, NaN where none has one."""
    if not seen.repeated:
        return np.nan
    level = seen.level(seen).to_frame("level")
    return float(Scored(seen.mixtures, level, describe(["level"], unit="sd", higher_is_better=False)).noise["level"])
