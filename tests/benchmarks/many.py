"""What grows with the number of candidates: seconds and memory of everything that is done without training.

Run by hand: `python tests/benchmarks/growth.py candidates search [--candidates 13 30 100 300] [--out DIR]`.

`candidates`: each step by itself, in a process of its own: CPU seconds, and the rise of the most memory in use (MB).
`search`: what notebook 05 does, one step after the other in a process and its `--workers`: rounds of 64, 32 and 16 on
nine tasks, a stack as predictor and a pool of 20,000; then calibration, the tied set, prices of the bounds that are met
(no share may be above twenty times an equal one), the most telling mixtures. Proxies are those of a planted problem,
which cost nothing. The last row is the whole; what is beyond `LIMIT` is said. On a busy machine CPU seconds, of all
workers together, are what to look at. `--out`: the folder of `growth.csv`.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil

from demix_nb import store

SCRIPT = Path(__file__).resolve().parent / "growth.py"  # what a cell's process runs
GROWN = (13, 30, 100, 300)  # candidates
LIMIT = (240.0, 2000.0)  # CPU seconds (two minutes of two cores) and MB that a whole search may take
RUNS, PROJECTED, TASKS = 128, 1_000, 9
NOISE = 0.01  # of a planted score
WHOLE = "whole search"


def region(k: int) -> object:
    """Return a region of K candidates in which every share has both bounds."""
    from demix_nb.region import Region

    names = [f"candidate {number:03} of {k}" for number in range(k)]
    return Region(names, dict.fromkeys(names, 0.1 / k), dict.fromkeys(names, min(1.0, 20 / k)))


def capped(k: int) -> object:
    """Return a region of K candidates as data cap it: no share above twenty times an equal one."""
    from demix_nb.region import Region

    names = [f"candidate {number:03} of {k}" for number in range(k)]
    return Region(names, upper=dict.fromkeys(names, min(1.0, 20 / k)))


def answers(k: int) -> Callable:
    """Return a proxy of K candidates: nine tasks of three families, each of which likes some candidates."""
    from demix_nb.scored import Scored, describe

    draw, names = np.random.default_rng(1), [f"candidate {number:03} of {k}" for number in range(k)]
    liked = pd.DataFrame(draw.random((k, TASKS)), names, [f"task {number}" for number in range(TASKS)])
    tasks = describe(liked, unit="bpb", higher_is_better=False).assign(family=[f"family {n % 3}" for n in range(TASKS)])

    def proxy(mixtures: pd.DataFrame) -> Scored:
        noise = draw.normal(0, NOISE, (len(mixtures), TASKS))
        return Scored(mixtures, 3 - (mixtures @ liked) ** 0.5 + noise, tasks)

    return proxy


def planted(k: int) -> object:
    """Return 128 scored mixtures of K candidates, on nine tasks that each like some candidates."""
    from demix_nb.region import Region

    names = [f"candidate {number:03} of {k}" for number in range(k)]
    return answers(k)(Region(names).design(RUNS, how="dirichlet", rng=np.random.default_rng(0)))


def _sample(how: str, k: int) -> Callable:
    there = region(k)
    return lambda: there.design(RUNS, how=how, rng=np.random.default_rng(0))


def _project(k: int) -> Callable:
    there, draw = region(k), np.random.default_rng(0)
    drawn = pd.DataFrame(draw.dirichlet(np.ones(k), PROJECTED), columns=there.candidates)
    return lambda: there.project(drawn.rename_axis("mixture"))


def _fit(name: str, k: int) -> Callable:
    from demix_nb.predictors import PREDICTORS

    seen = planted(k)
    return lambda: PREDICTORS[name].new(rng=np.random.default_rng(0)).fit(seen)


def _predict(name: str, k: int) -> Callable:
    fitted, drawn = _fit(name, k)(), region(k).draw(PROJECTED, rng=np.random.default_rng(2))
    return lambda: fitted.predict(drawn)


def _effects(what: str, k: int) -> Callable:
    from demix_nb import interactions

    seen = planted(k)
    return lambda: getattr(interactions, what)(seen, permutations=20, rng=np.random.default_rng(0))


def _pairs(k: int) -> Callable:
    from demix_nb import interactions

    seen, fitted = planted(k), _fit("gaussian_process", k)()
    return lambda: interactions.pairs(fitted, seen.mixtures.mean(), step=interactions.step_of(seen.mixtures))


def _panel(name: str, k: int) -> Callable:
    from fixtures_panels import Crowd

    from demix_nb.panels import Playground

    os.environ["DEMIX_NB_STATIC"] = "1"
    playground = Playground(Crowd(k))
    return lambda: getattr(playground, name)().still


PANELS = ("standing", "desk", "landscape", "interactions", "replay")
WORK: dict[str, Callable[[int], Callable]] = {
    **{f"sample 128, {how}": lambda k, how=how: _sample(how, k) for how in ("uniform", "dirichlet", "maximin")},
    "project 1,000": _project,
    **{
        f"{verb}, {name}": lambda k, make=make, name=name: make(name, k)
        for name in ("gaussian_process", "lightgbm_demix")
        for verb, make in (("fit 128 runs × 9", _fit), ("predict 1,000", _predict))
    },
    **{f"{what} effects, 20 deals": lambda k, what=what: _effects(what, k) for what in ("linear", "curved")},
    "all pairs": _pairs,
    **{f"panel {name}": lambda k, name=name: _panel(name, k) for name in PANELS},
}


# --- a whole search, step by step


def steps(k: int, workers: int) -> Iterator[tuple[str, Callable]]:
    """Yield the steps of a whole search of K candidates in their order; each is to be done before the next is asked."""
    from demix_nb import decide, prices, tied
    from demix_nb import search as searches
    from demix_nb.predictors import PREDICTORS, calibrated

    seen, made, found = planted(k), {}, {}
    model = PREDICTORS["stack"].new(rng=np.random.default_rng(0), n_jobs=workers)
    yield "region", lambda: made.update(region=capped(k))
    how = {"rng": np.random.default_rng(0), "design": "dirichlet"}
    ask = answers(k)
    yield "search", lambda: found.update(it=searches.run("demix", ask, made["region"], model, seen.tasks, **how))
    scored = found["it"].scored
    by = decide.level(scored)
    yield "calibration", lambda: made.update(model=calibrated(model, scored, rng=np.random.default_rng(1))[0])
    told = made["model"], made["region"], by
    rng, answer = np.random.default_rng(2), found["it"].winner
    yield "tied set", lambda: tied.tied(*told, 0.05, rng=rng, also=answer.to_frame("answer").T)
    yield "prices", lambda: prices.prices(*told, answer, rng=rng)
    yield "telling", lambda: decide.telling(made["region"].draw(PROJECTED, rng=rng), scored.mixtures, 8)


def whole(k: int, workers: int) -> None:
    """Print a line for every step of a whole search: seconds, CPU seconds, most MB in use; then for all."""
    began, spent, todo = time.perf_counter(), used(), steps(k, workers)
    for name, work in todo:
        start, before = time.perf_counter(), used()
        work()
        print(f"{name}\t{time.perf_counter() - start}\t{used() - before}\t{most()}", flush=True)
    print(f"{WHOLE}\t{time.perf_counter() - began}\t{used() - spent}\t{most()}", flush=True)


def used() -> float:
    """CPU seconds of this process and its workers."""
    own = psutil.Process()
    times = [each.cpu_times() for each in (own, *own.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def most() -> float:
    """The most MB in use so far, of this process, and what its workers use now."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return own + sum(each.memory_info().rss for each in psutil.Process().children(recursive=True)) / 2**20


# --- measuring


def measured(what: str, k: int) -> None:
    """Print seconds, CPU seconds and the rise of the most memory in use, MB; or why it is refused, beside NaN."""
    from demix_nb.store import Refusal

    try:
        work = WORK[what](k)
        before, spent, began = most(), used(), time.perf_counter()
        work()
    except Refusal as refusal:
        return print("nan nan nan", refusal)
    print(time.perf_counter() - began, used() - spent, most() - before)


def called(*told: str) -> str:
    """Return what a process of its own printed."""
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *told], env=env, capture_output=True, text=True, check=True
    ).stdout


def each(asked: argparse.Namespace) -> None:
    """Print what takes how long and how much for each number of candidates, and what is slowest."""
    rows = {}
    for what in WORK:
        rows[what], why = {}, ""
        for k in asked.candidates:
            said = called("--measure", what, str(k))
            _, cpu, memory, *refusal = said.strip().splitlines()[-1].split(maxsplit=3)
            rows[what] |= {f"{k} s": round(float(cpu), 2), f"{k} MB": round(float(memory), 1)}
            why = f"{why}  {k}: {refusal[0]}" if refusal else why
        print(f"{what:<34}", "  ".join(f"{name} {value:g}" for name, value in rows[what].items()), why, flush=True)
    last = pd.DataFrame(rows).T[f"{asked.candidates[-1]} s"]
    print(f"slowest of {asked.candidates[-1]} candidates: {last.idxmax()}, {last.max():g} CPU s")


def search(asked: argparse.Namespace) -> None:
    """Print a whole search of each number of candidates, step by step; say what is beyond the limits, and keep it."""
    rows = []
    for k in asked.candidates:
        for line in called("--measure", WHOLE, str(k), "--workers", str(asked.workers)).splitlines():
            step, *numbers = line.split("\t")
            rows.append([step, k, *(round(float(number), 2) for number in numbers)])
            print("{:>4} {:<14} {:>8.1f} s {:>8.1f} CPU s {:>7.0f} MB".format(k, step, *rows[-1][2:]), flush=True)
    table = pd.DataFrame(rows, columns=["step", "candidates", "seconds", "cpu", "mb"]).set_index("step")
    if asked.out:
        store.write(table, asked.out / "growth.csv", "growth")
    beyond = table.loc[[WHOLE]].query("cpu > @LIMIT[0] or mb > @LIMIT[1]")["candidates"]
    print(f"beyond {LIMIT[0]:g} CPU s or {LIMIT[1]:g} MB: {', '.join(map(str, beyond)) or 'none'}")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both parts here understand."""
    parser.add_argument("--candidates", nargs="*", type=int, default=GROWN)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
