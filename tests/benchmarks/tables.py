"""Replay tables of really trained runs: which predictor orders, chooses and knows how sure it is, from how many runs.

Run by hand: `python -m tests.benchmarks.tables FOLDER… [--quick] [--tasks 6] [--out DIR]`. A folder holds
`mixtures.csv` and `scores.csv`, perhaps `tasks.csv`; or RegMix's eight files. Two folders whose mixtures share names,
candidates and tasks are scales of one another: what is fitted to one's runs is held against the other's too.

Every draw deals the runs anew into a test set (a quarter, 16 to 128 mixtures, and a third at most; RegMix's own where
it has one), the same for all predictors, designs and sizes, and runs to fit, of which a design takes 16, 24, … in its
order. A task that a predictor refuses is predicted by the mean of what was fitted, as `the mean` is everywhere.

Columns: those of `predictors.appraisal` as means over the tasks (`rho`; `regret` of the run that a rule would choose,
in standard deviations of the task: the predicted best, the one nearest to the mean of the predicted top 8, the best at
its worse 90 % quantile; `covered` share of runs in the 90 % interval), but `error`, squared by the variance of the task
over the table, and `worst`, its largest of tasks; `refused` share of tasks.

Then, without `--quick`, regret by the number of runs on the tasks' mean in standard deviations, the default having
fitted random runs, maximin ones, or those that it asked for itself where mean − spread is lowest.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb import reading, store  # noqa: E402
from demix_nb.decide import telling  # noqa: E402
from demix_nb.figures import gallery  # noqa: E402
from demix_nb.intervals import bootstrap_interval  # noqa: E402
from demix_nb.papers import regmix  # noqa: E402
from demix_nb.parallel import fan_out  # noqa: E402
from demix_nb.predictors import PREDICTORS, appraisal  # noqa: E402
from demix_nb.predictors.measures import JUDGED  # noqa: E402
from demix_nb.scored import Scored  # noqa: E402
from demix_nb.store import Refusal  # noqa: E402

SIZES, QUICK = (16, 24, 32, 48, 64, 128), (24, 64)
DRAWS, TASKS = 5, 6
QUARTER, FEWEST, MOST, THIRD = 0.25, 16, 128, 1 / 3  # of the runs are a test set
SLIGHT = 1e-2  # precision of the plane's prior in a D-optimal design
FIRST, TURN, LONGEST = 12, 8, 64  # runs that a design by variance begins with, adds at a time, and has at most
ASKED, ASKED_SIZES = 4, (12, 16, 24, 32, 48, 64)  # runs that are asked for at a time; when regret is told
MEAN = "the mean"
DEFAULT = "stack"


@dataclass(frozen=True)
class Table:
    """Runs to fit and to be tested on, and other scales of them: name → runs."""

    name: str
    runs: Scored
    fixed: Scored | None
    scales: Mapping[str, Scored]

    def dealt(self, draw: int) -> tuple[Scored, dict[str, Scored]]:
        """Return runs to fit, and test sets that hold none of their mixtures."""
        order = np.random.default_rng([11, draw]).permutation(len(self.runs))
        if self.fixed is not None:
            return self.runs.take(order), {self.name: self.fixed, **self.scales}
        out = int(min(np.clip(QUARTER * len(order), FEWEST, MOST), THIRD * len(order)))
        test = self.runs.take(np.sort(order[:out]))
        others = {name: one.of([n for n in one.names if n in set(test.names)]) for name, one in self.scales.items()}
        return self.runs.take(order[out:]), {self.name: test, **{n: one for n, one in others.items() if len(one) > 2}}


def opened(folders: Sequence[Path], tasks: int) -> list[Table]:
    """Return a table per folder, with so many of its tasks, evenly over their order (0: all)."""
    plain, found = {}, []
    for folder in folders:
        if (folder / "train_mixture_1m.csv").is_file():
            sets = {name: _few(one, tasks) for name, one in regmix.load(folder).items()}
            scales = {f"RegMix {name}": sets[name] for name in ("60M", "1B")}
            found.append(Table("RegMix", sets["train"], sets["1M"], scales))
        else:
            meaning = folder / "tasks.csv"
            files = [folder / "mixtures.csv", folder / "scores.csv", *([meaning] if meaning.is_file() else [])]
            how = {} if len(files) == 3 else {"higher_is_better": False}
            plain[folder.name] = reading.scored(*files, **how).averaged()
    for name, one in plain.items():
        scales = {other: _scale(one, two) for other, two in plain.items() if other != name}
        runs = _few(one, tasks)
        kept = {n: two.only(list(runs.tasks.index)) for n, two in scales.items() if two is not None}
        found.append(Table(name, runs, None, kept))
    return found


def _few(runs: Scored, tasks: int) -> Scored:
    names = [task for task in runs.tasks.index if np.ptp(runs.scores[task]) > 0]
    if tasks and len(names) > tasks:
        names = [names[i] for i in np.linspace(0, len(names) - 1, tasks).round().astype(int)]
    return runs.only(names)


def _scale(one: Scored, two: Scored) -> Scored | None:
    """Return `two` where it scores mixtures of `one` on the same tasks, under the same names."""
    names = [name for name in two.names if name in set(one.names)]
    if set(one.candidates) != set(two.candidates) or not set(one.tasks.index) <= set(two.tasks.index) or len(names) < 3:
        return None
    same = two.of(names)
    gap = (same.mixtures[one.candidates] - one.of(names).mixtures).abs().to_numpy().max()
    return replace(same, mixtures=same.mixtures[one.candidates]) if gap < 1e-6 else None


# --- designs: (runs, n, draw) → the names of those that are fitted


def at_random(runs: Scored, n: int, draw: int) -> list[str]:
    return runs.names[:n]  # they were dealt


def maximin(runs: Scored, n: int, draw: int) -> list[str]:
    return list(telling(runs.mixtures, runs.mixtures.iloc[:0], n).index)


def d_optimal(runs: Scored, n: int, draw: int) -> list[str]:
    """Each next run is the one that a plane in √shares, with a slight prior, knows least about."""
    z = np.sqrt(runs.mixtures.to_numpy())
    z, chosen, inverse = z - z.mean(axis=0), [], np.eye(z.shape[1]) / SLIGHT
    for _ in range(n):
        doubt = np.einsum("ij,jk,ik->i", z, inverse, z)
        doubt[chosen] = -np.inf
        chosen.append(int(np.argmax(doubt)))
        turned = inverse @ z[chosen[-1]]
        inverse -= np.outer(turned, turned) / (1 + z[chosen[-1]] @ turned)
    return [runs.names[i] for i in chosen]


def by_variance(runs: Scored, n: int, draw: int) -> list[str]:
    """Those that the default is least sure of, in turns of `TURN`, after `FIRST` random ones."""
    chosen = runs.names[: min(FIRST, n)]
    while len(chosen) < n:
        fitted = PREDICTORS[DEFAULT].new(rng=np.random.default_rng(draw)).fit(runs.of(chosen))
        doubt = (fitted.spread(runs.mixtures) / runs.scores[list(fitted.tasks.index)].std()).mean(axis=1)
        chosen = chosen + list(doubt.drop(chosen).nlargest(min(TURN, n - len(chosen))).index)
    return chosen


DESIGNS: dict[str, Callable] = {
    "random": at_random, "maximin": maximin, "d_optimal": d_optimal, "variance": by_variance,
}  # fmt: skip


# --- one fit, judged


def judged(
    table: str, predictor: str, design: str, train: Scored, tests: dict[str, Scored], draw: int, scale: pd.Series
) -> list[dict]:
    """Return a row per test set of one fit; `scale`: task → variance over the table."""
    began, fitted, lost = time.process_time(), None, list(train.tasks.index)
    if predictor != MEAN:
        try:
            fitted = PREDICTORS[predictor].new(rng=np.random.default_rng([draw, len(train)])).fit(train)
            lost = list(fitted.refused)
        except Refusal:  # of all tasks: each is predicted by the mean
            pass
    facts = {"table": table, "design": design, "runs": len(train), "predictor": predictor, "draw": draw}
    facts["refused"] = len(lost) / len(train.tasks)
    rows = []
    for name, test in tests.items():
        of_train = (train.scores.mean(), train.scores.std())
        guess, spread = (pd.DataFrame(one.to_dict(), index=test.mixtures.index) for one in of_train)
        if fitted is not None:
            known = fitted.predict(test.mixtures).scores
            guess[list(known)] = known
            spread = spread if PREDICTORS[predictor].spread else None
        if fitted is not None and spread is not None:
            spread[list(known)] = fitted.spread(test.mixtures)
        row = measured(replace(test, scores=guess), spread, test, lost, scale)
        rows.append({**facts, "test": name, **row, "seconds": time.process_time() - began})
    return rows


def measured(guess: Scored, spread: pd.DataFrame | None, test: Scored, lost: list[str], scale: pd.Series) -> dict:
    """Return the measures as means over the tasks; those `lost` order nothing, and choose a run at random."""
    table = appraisal(guess, spread, test)
    at_random = table.index.isin(lost)
    for name in (name for name in table if name.startswith("regret")):
        table[name] = table[name].where(~at_random, table["typical"])
    table["rho"] = table["rho"].where(~at_random, 0.0).fillna(0.0)
    table["error"] = ((guess.scores - test.scores) ** 2).mean() / scale
    means = table.mean().drop("typical")
    if spread is None:
        means[["regret robust", "covered"]] = np.nan
    return means.to_dict() | {"worst": table["error"].max()}


def replayed(table: Table, draw: int, design: str, predictors: Sequence[str], sizes: Sequence[int]) -> list[dict]:
    """Return a row per size, predictor and test set; a design of few runs is the beginning of one of many."""
    scale = pd.concat([table.runs.scores, *([table.fixed.scores] if table.fixed is not None else [])]).var()
    pool, tests = table.dealt(draw)
    longest = LONGEST if design == "variance" else len(pool)
    kept = sorted({min(size, len(pool)) for size in sizes if design == "random" or size < len(pool)})
    kept = [size for size in kept if size <= longest]
    order, rows = DESIGNS[design](pool, max(kept, default=0), draw), []
    for size in kept:
        some = pool.of(order[:size])
        for predictor in (MEAN, *predictors):
            rows += judged(table.name, predictor, design, some, tests, draw, scale)
    return rows


MEASURES = ("rho", *(f"regret {rule}" for rule in JUDGED), "covered", "error", "worst", "refused", "seconds")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over draws, with 95 % intervals of ρ and regret over them; `worst` is the largest of all."""
    found = []
    for key, group in rows.groupby(["table", "test", "design", "runs", "predictor"], sort=False):
        row = dict(zip(["table", "test", "design", "runs", "predictor"], key, strict=True)) | {"draws": len(group)}
        for measure in MEASURES:
            row[measure] = group[measure].max() if measure == "worst" else group[measure].mean()
            if measure in ("rho", "regret single") and len(group) > 2:
                low, high = bootstrap_interval(
                    lambda a: a.mean(axis=-1), group[measure].to_numpy(), rng=np.random.default_rng(0)
                )
                row |= {f"{measure.split()[0]} {end}": value for end, value in (("low", low), ("high", high))}
        found.append(row)
    return pd.DataFrame(found)


# --- ask and tell


def sequential(table: Table, draw: int, sizes: Sequence[int]) -> list[dict]:
    """Regret of the predicted best of all runs, by size: random runs, maximin ones, and asking where it may be best."""
    pool = table.runs.take(np.random.default_rng([11, draw]).permutation(len(table.runs)))
    one = pool.tasks.iloc[:1].assign(family="level", unit="sd", higher_is_better=False).set_axis(["level"])
    runs = Scored(pool.mixtures, pool.level(pool).to_frame("level"), one.rename_axis("task"))
    y, rows = runs.scores["level"], []
    for how, design in (("random", at_random), ("maximin", maximin), ("asked", maximin)):
        order = design(runs, max(sizes), draw)
        chosen = order[:FIRST]
        for size in sizes:
            while how == "asked" and len(chosen) < size:
                mean, spread = _said(runs, chosen, draw)
                chosen = chosen + list((mean - spread).drop(chosen).nsmallest(min(ASKED, size - len(chosen))).index)
            mean, _ = _said(runs, chosen if how == "asked" else order[:size], draw)
            found = {"regret": (y[mean.idxmin()] - y.min()) / y.std()}
            rows.append({"table": table.name, "how": how, "runs": size, "draw": draw} | found)
    return rows


def _said(runs: Scored, chosen: list[str], draw: int) -> tuple[pd.Series, pd.Series]:
    """Mean and spread of every run by what is known of the chosen ones, which are known."""
    known = runs.scores.loc[chosen, "level"]
    try:
        fitted = PREDICTORS[DEFAULT].new(rng=np.random.default_rng(draw)).fit(runs.of(chosen))
        tables = fitted.predict(runs.mixtures).scores, fitted.spread(runs.mixtures)
        mean, spread = (one["level"].copy() for one in tables)
    except Refusal:
        mean, spread = (pd.Series(value, runs.scores.index) for value in (known.mean(), known.std()))
    mean[chosen], spread[chosen] = known, 0.0
    return mean, spread


def together(call: Callable, asked: list[tuple], workers: int) -> pd.DataFrame:
    return pd.DataFrame([row for part in fan_out(call, asked, n_jobs=workers, ordered=True) for row in part])


def fitted(tables: Sequence[Table], given: argparse.Namespace) -> pd.DataFrame:
    """Replay every design and predictor; all predictors first: they take longest."""
    known = list(PREDICTORS) if not given.quick else ["ridge", "gaussian_process", DEFAULT]
    designs = given.designs or (["random", "maximin"] if given.quick else list(DESIGNS))
    sizes, every = given.sizes or (QUICK if given.quick else SIZES), given.predictors or known
    widest = sorted(tables, key=lambda one: -len(one.runs.candidates))
    asked = [
        (table, draw, design, every if design == "random" else [DEFAULT], sizes)
        for design in designs
        for table in widest
        for draw in range(DRAWS)
    ]
    rows = together(replayed, asked, given.workers)
    return summary(rows.sort_values(["table", "test", "design", "runs", "predictor", "draw"]))


def asked_for(tables: Sequence[Table], given: argparse.Namespace) -> pd.DataFrame:
    """Replay asking and telling: mean regret over draws."""
    sizes = {table.name: [n for n in given.sizes or ASKED_SIZES if n <= len(table.runs)] for table in tables}
    asked = [(table, draw, sizes[table.name]) for table in tables for draw in range(DRAWS) if sizes[table.name]]
    rows = together(sequential, asked, given.workers)
    return rows.groupby(["table", "how", "runs"], sort=False)["regret"].mean().reset_index()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--quick", action="store_true", help="24 and 64 runs, half of the tasks, the quick predictors")
    parser.add_argument("--tasks", type=int, default=TASKS, help="of each table, 0: all")
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument("--predictors", nargs="+", default=None)
    parser.add_argument("--designs", nargs="+", default=None)
    parser.add_argument("--sequential", action="store_true", help="this alone")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="folder for the tables and the figure")
    given = parser.parse_args()
    tables = opened(given.folders, given.tasks // 2 if given.quick else given.tasks)
    began, kept = time.perf_counter(), {}
    if not given.sequential:
        kept["predictors_on_tables"] = found = fitted(tables, given)
        shown = ["rho", *(f"regret {rule}" for rule in JUDGED), "covered", "error", "worst", "refused", "seconds"]
        with pd.option_context("display.width", 200):
            print(found.set_index(["table", "test", "design", "runs", "predictor"])[shown].round(3).to_string())
    if given.sequential or not given.quick:
        kept["asked_on_tables"] = found = asked_for(tables, given)
        print(found.pivot(index=["table", "how"], columns="runs", values="regret").round(3).to_string())
    print(f"{time.perf_counter() - began:.0f} s")
    if given.out:
        for name, found in kept.items():
            store.write(found.set_index("table").round(4), given.out / f"{name}.csv", store.schema_of(name))
        if len(kept) == 2:
            gallery.draw("predictors_on_tables", gallery.reader(given.out), given.out)


if __name__ == "__main__":
    main()
