"""Replay tables of really trained runs: which predictor orders, chooses and knows how sure it is, from how many runs.

Run by hand: `python -m tests.benchmarks.tables FOLDER… [--quick] [--tasks 6] [--out DIR]`. A folder holds
`mixtures.csv` and `scores.csv`, perhaps `tasks.csv`; or RegMix's eight files. Two folders whose mixtures share names,
candidates and tasks are scales of one another: what is fitted to one's runs is held against the other's too.

Every draw deals the runs anew into a test set (a quarter, 16 to 128 mixtures; RegMix's own where it has one), the same
for all predictors, designs and sizes, and runs to fit, of which a design takes 16, 24, … in its order. A task that a
predictor refuses is predicted by the mean of what was fitted, as `the mean` is everywhere.

Columns: `rho` mean over tasks of Spearman's ρ; regret of the run that would be chosen, in standard deviations of the
task, `regret` of the predicted best, `regret_robust` of the best at its worse 90 % quantile, `regret_average` of the
run nearest to the mean of the predicted top 8; `covered` share of runs in the 90 % interval; `error` and `worst`
squared error by the variance of the task over the table, mean and largest of tasks; `refused` share of tasks.

`--sequential`: ask and tell with the default, on the tasks' mean in standard deviations: the runs it needs for the
regret that random runs reach with 64.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb import reading  # noqa: E402
from demix_nb.intervals import bootstrap_interval, spearman  # noqa: E402
from demix_nb.papers import regmix  # noqa: E402
from demix_nb.parallel import fan_out  # noqa: E402
from demix_nb.predictors import PREDICTORS  # noqa: E402
from demix_nb.scored import Scored  # noqa: E402
from demix_nb.store import Refusal  # noqa: E402

SIZES, QUICK = (16, 24, 32, 48, 64, 128), (24, 64)
DRAWS, TASKS = 5, 6
QUARTER, FEWEST, MOST = 0.25, 16, 128  # of the runs are a test set
Z90 = 1.6448536  # half the width of a central 90 % interval, in standard deviations
QUANTILE, TOP = 1.2815516, 8  # of the robust choice: 90 %; of the average: runs
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
        out = int(np.clip(QUARTER * len(order), FEWEST, MOST))
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


# --- designs: an order of the rows, of which the first n are fitted


def random_order(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    return np.arange(n)


def maximin_order(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Each next row is the farthest, on √shares, from all that were taken; the most central comes first."""
    z = np.sqrt(x)
    gap, chosen = -np.linalg.norm(z - z.mean(axis=0), axis=1), []
    for _ in range(n):
        chosen.append(int(np.argmax(gap)))
        fresh = np.linalg.norm(z - z[chosen[-1]], axis=1)
        gap = fresh if len(chosen) == 1 else np.minimum(gap, fresh)
        gap[chosen] = -np.inf
    return np.array(chosen)


def d_optimal_order(x: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Each next row is the one that a plane in √shares, with a slight prior, knows least about."""
    z, chosen = np.sqrt(x) - np.sqrt(x).mean(axis=0), []
    inverse = np.eye(z.shape[1]) / 1e-2
    for _ in range(n):
        doubt = np.einsum("ij,jk,ik->i", z, inverse, z)
        doubt[chosen] = -np.inf
        chosen.append(int(np.argmax(doubt)))
        turned = inverse @ z[chosen[-1]]
        inverse -= np.outer(turned, turned) / (1 + z[chosen[-1]] @ turned)
    return np.array(chosen)


DESIGNS: dict[str, Callable] = {"random": random_order, "maximin": maximin_order, "d_optimal": d_optimal_order}


def by_variance(runs: Scored, n: int, draw: int, step: int = 8) -> np.ndarray:
    """Rows that the default is least sure of, in turns of `step`, after a dozen random ones."""
    chosen = list(range(min(12, n)))
    while len(chosen) < n:
        fitted = PREDICTORS[DEFAULT].new(rng=np.random.default_rng(draw)).fit(runs.take(chosen))
        doubt = (
            (fitted.spread(runs.mixtures) / runs.scores[list(fitted.tasks.index)].std())
            .mean(axis=1)
            .to_numpy(copy=True)
        )
        doubt[chosen] = -np.inf
        chosen += list(np.argsort(-doubt, kind="stable")[: min(step, n - len(chosen))])
    return np.array(chosen)


# --- one fit, judged


def judged(
    table: str, predictor: str, design: str, train: Scored, tests: dict[str, Scored], draw: int, scale: pd.Series
):
    """Return a row per test set of one fit; `scale`: task → variance over the table."""
    began, tasks = time.process_time(), list(train.tasks.index)
    fitted, lost = None, tasks
    if predictor != MEAN:
        try:
            fitted = PREDICTORS[predictor].new(rng=np.random.default_rng([draw, len(train)])).fit(train)
            lost = list(fitted.refused)
        except Refusal:
            pass
    rows = []
    for name, test in tests.items():
        guess = pd.DataFrame(dict.fromkeys(tasks, 0.0), index=test.mixtures.index) + train.scores.mean()
        sure = fitted is None or PREDICTORS[predictor].spread
        spread = pd.DataFrame(dict.fromkeys(tasks, 0.0), index=test.mixtures.index) + train.scores.std()
        if fitted is not None:
            known = fitted.predict(test.mixtures).scores
            guess[list(known)] = known
            if sure:
                spread[list(known)] = fitted.spread(test.mixtures)
        row = _measured(guess, spread if sure else None, test, tasks, scale)
        seconds = time.process_time() - began
        facts = {
            "table": table,
            "test": name,
            "design": design,
            "runs": len(train),
            "predictor": predictor,
            "draw": draw,
        }
        rows.append(facts | row | {"refused": len(lost) / len(tasks), "seconds": seconds})
    return rows


def _measured(
    guess: pd.DataFrame, spread: pd.DataFrame | None, test: Scored, tasks: list[str], scale: pd.Series
) -> dict:
    truth, found = test.scores[tasks], []
    for task in tasks:
        sign = -1.0 if test.tasks.loc[task, "higher_is_better"] else 1.0
        y, mu = sign * truth[task].to_numpy(), sign * guess[task].to_numpy()
        flat = np.ptp(mu) < 1e-12 * max(np.abs(mu).max(), 1e-12)
        unit = y.std()
        typical = (y.mean() - y.min()) / unit  # what a run drawn at random costs
        lost = lambda pick: typical if flat else (y[pick] - y.min()) / unit  # noqa: E731, B023
        one = {"rho": 0.0 if flat else spearman(mu, y), "regret": lost(np.argmin(mu))}
        z = np.sqrt(test.mixtures.to_numpy())
        middle = np.sqrt(test.mixtures.to_numpy()[np.argsort(mu, kind="stable")[:TOP]].mean(axis=0))
        one["regret_average"] = lost(np.argmin(np.linalg.norm(z - middle, axis=1)))
        if spread is not None:
            s = spread[task].to_numpy()
            one["regret_robust"] = lost(np.argmin(mu + QUANTILE * s))
            one["covered"] = (np.abs(y - mu) <= Z90 * s).mean()
        found.append(one | {"error": ((mu - y) ** 2).mean() / scale[task]})
    means = pd.DataFrame(found).mean().to_dict()
    return means | {"worst": max(one["error"] for one in found)}


def calls(tables: list[Table], predictors: Sequence[str], designs: Sequence[str], sizes: Sequence[int]) -> Iterator:
    for table in tables:
        scale = pd.concat([table.runs.scores, *([table.fixed.scores] if table.fixed is not None else [])]).var()
        for draw in range(DRAWS):
            pool, tests = table.dealt(draw)
            there = sorted({min(size, len(pool)) for size in sizes})
            for design in designs:
                asked = [MEAN, *predictors] if design == "random" else [MEAN, DEFAULT]
                for size in there:
                    if design != "random" and size == len(pool):
                        continue  # all designs are one
                    if design == "variance":
                        rows = by_variance(pool, size, draw) if size <= 64 else None
                    else:
                        rows = DESIGNS[design](pool.mixtures.to_numpy(), size, np.random.default_rng(draw))
                    if rows is None:
                        continue
                    for predictor in asked:
                        yield table.name, predictor, design, pool.take(rows), tests, draw, scale


MEASURES = ("rho", "regret", "regret_robust", "regret_average", "covered", "error", "worst", "refused", "seconds")


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means over draws, with 95 % intervals of ρ and regret over them; `worst` is the largest of all."""
    found = []
    for key, group in rows.groupby(["table", "test", "design", "runs", "predictor"], sort=False):
        row = dict(zip(["table", "test", "design", "runs", "predictor"], key, strict=True)) | {"draws": len(group)}
        for measure in MEASURES:
            row[measure] = group[measure].max() if measure == "worst" else group[measure].mean()
            if measure in ("rho", "regret") and len(group) > 2:
                low, high = bootstrap_interval(
                    lambda a: a.mean(axis=-1), group[measure].to_numpy(), rng=np.random.default_rng(0)
                )
                row |= {f"{measure}_low": low, f"{measure}_high": high}
        found.append(row)
    return pd.DataFrame(found)


# --- ask and tell


def level(runs: Scored, tasks: list[str]) -> pd.Series:
    """The tasks' mean in standard deviations, lower is better."""
    sign = runs.tasks.loc[tasks, "higher_is_better"].map({True: -1.0, False: 1.0})
    return (sign * (runs.scores[tasks] - runs.scores[tasks].mean()) / runs.scores[tasks].std()).mean(axis=1)


def sequential(table: Table, draw: int, sizes: Sequence[int]) -> list[dict]:
    """Regret of the predicted best of all runs, by size: random runs, maximin ones, and asking where it may be best."""
    pool = table.runs.take(np.random.default_rng([11, draw]).permutation(len(table.runs)))
    value = level(pool, list(pool.tasks.index))
    one = pd.DataFrame({"level": value})
    facts = pool.tasks.iloc[:1].assign(family="level", unit="sd", higher_is_better=False).set_axis(["level"])
    runs = Scored(pool.mixtures, one, facts.rename_axis("task"))
    y, rows = value.to_numpy(), []

    def fit(chosen: list[int]) -> tuple[np.ndarray, np.ndarray]:
        try:
            fitted = PREDICTORS[DEFAULT].new(rng=np.random.default_rng(draw)).fit(runs.take(chosen))
        except Refusal:
            return np.full(len(y), y[chosen].mean()), np.full(len(y), y[chosen].std())
        mean = fitted.predict(runs.mixtures).scores["level"].to_numpy(copy=True)
        spread = fitted.spread(runs.mixtures)["level"].to_numpy(copy=True)
        mean[chosen], spread[chosen] = y[chosen], 0.0
        return mean, spread

    for how in ("random", "maximin", "asked"):
        order = list((maximin_order if how != "random" else random_order)(
            pool.mixtures.to_numpy(), max(sizes), np.random.default_rng(draw)))  # fmt: skip
        chosen = order[:12]
        for size in sizes:
            while how == "asked" and len(chosen) < size:
                mean, spread = fit(chosen)
                hope = mean - 1.0 * spread
                hope[chosen] = np.inf
                chosen += [int(i) for i in np.argsort(hope, kind="stable")[: min(4, size - len(chosen))]]
            fitted = chosen if how == "asked" else order[:size]
            mean, _ = fit(list(fitted))
            regret = (y[int(np.argmin(mean))] - y.min()) / y.std()
            rows.append({"table": table.name, "how": how, "runs": size, "draw": draw, "regret": regret})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--quick", action="store_true", help="24 and 64 runs, half of the tasks, the quick predictors")
    parser.add_argument("--tasks", type=int, default=TASKS, help="of each table, 0: all")
    parser.add_argument("--sizes", type=int, nargs="+", default=None)
    parser.add_argument("--predictors", nargs="+", default=None)
    parser.add_argument("--designs", nargs="+", default=None)
    parser.add_argument("--sequential", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None, help="folder for predictors_on_tables.csv and its figure")
    given = parser.parse_args()
    tables = opened(given.folders, given.tasks // 2 if given.quick else given.tasks)
    began = time.perf_counter()
    if given.sequential:
        sizes = given.sizes or (12, 16, 24, 32, 48, 64)
        asked = [(table, draw, sizes) for table in tables for draw in range(DRAWS)]
        rows = pd.DataFrame(
            [row for part in fan_out(sequential, asked, n_jobs=given.workers, ordered=True) for row in part]
        )
        found = rows.groupby(["table", "how", "runs"], sort=False)["regret"].mean().reset_index()
        name = "asked_on_tables"
        print(found.pivot(index=["table", "how"], columns="runs", values="regret").round(3).to_string())
    else:
        known = list(PREDICTORS) if not given.quick else ["ridge", "gaussian_process", DEFAULT]
        designs = given.designs or (["random", "maximin"] if given.quick else [*DESIGNS, "variance"])
        asked = list(
            calls(tables, given.predictors or known, designs, given.sizes or (QUICK if given.quick else SIZES))
        )
        asked.sort(key=lambda call: -len(call[3]) * len(call[3].candidates))
        rows = pd.DataFrame(
            [row for part in fan_out(judged, asked, n_jobs=given.workers, ordered=True) for row in part]
        )
        found = summary(rows.sort_values(["table", "test", "design", "runs", "predictor", "draw"]))
        name = "predictors_on_tables"
        shown = ["rho", "regret", "covered", "error", "worst", "refused", "seconds"]
        with pd.option_context("display.width", 200):
            print(found.set_index(["table", "test", "design", "runs", "predictor"])[shown].round(3).to_string())
    print(f"{len(rows)} fits judged in {time.perf_counter() - began:.0f} s")
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        found.round(4).to_csv(given.out / f"{name}.csv", index=False)


if __name__ == "__main__":
    main()
