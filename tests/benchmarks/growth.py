"""How the engine's own cost grows with proxies and workers, and what grows with the number of candidates (`many`).

Run by hand: `python tests/benchmarks/growth.py [cluster|candidates|search …] [--cells 1000x64 …] [--longest S]`,
default all.

`cluster`: workers live in this process and a proxy is a sleep. Its length is drawn, by seed, from seconds that real
small proxies took here, scaled to a mean of one second. In this simulation alone a task does not wait for others of its
process and counts no threads (`cluster.ONE_AT_A_TIME`, `parallel.with_threads`): these are for real models, of which a
process has one at a time; nor is there a limit of memory, a profiler, or a monitor that asks each second (`QUIET`):
every machine would have its own.

Columns: `ideal` is the wall time of handing each next proxy to the first free worker at no cost, `efficiency` is
ideal by wall, `busy` the share of the workers' time in which they work; `ms a proxy` CPU of this process, which is
driver, scheduler and all workers: `loop` that of the thread of scheduler and workers' links, `driver` that of the
thread that asks. Cells whose ideal is longer than `--longest` are not run.
"""

import argparse
import heapq
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np
import psutil

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "panels"), str(HERE.parent)]

import many  # noqa: E402

QUIET = {  # what each worker's own machine does beside its work, which here the one thread of all would
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "60s",
}
TIMED = 24  # real proxies that are timed, for the spread of their seconds
PROXIES, WORKERS = (100, 1_000, 10_000), (1, 8, 64, 512)


# --- a simulated cluster


def relative() -> np.ndarray:
    """Time real small proxies, one after another; return their seconds by the mean."""
    import torch
    from engines import sources

    from demix_nb.region import Region

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        bank, suite = sources(Path(folder), "small")
        model, seconds = bank.model(torch.float32, "cpu"), []
        for _, mixture in Region(bank.names).draw(TIMED + 2, rng=np.random.default_rng(0)).iterrows():
            began = time.perf_counter()
            bank.write(model, mixture, "linear", rng=np.random.default_rng(0))
            suite.measure(model)
            seconds.append(time.perf_counter() - began)
    steady = np.array(seconds[2:])
    print(f"{TIMED} real proxies: {steady.mean():.2f} s, from {steady.min():.2f} to {steady.max():.2f}")
    return steady / steady.mean()


def ideal(seconds: np.ndarray, workers: int) -> float:
    """Return the wall time where each next call goes to the first free worker, at no cost."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heapreplace(free, free[0] + each)
    return max(free)


@contextmanager
def simulated(workers: int) -> Iterator:
    """Give a `Cluster` of so many workers in this process, whose tasks wait for nobody."""
    import dask
    import distributed

    from demix_nb import cluster as clusters
    from demix_nb.engines import STARTED, Engine

    inside = {"processes": False, "dashboard_address": None, "silence_logs": 50, "memory_limit": 0}  # all share one
    patches = [
        mock.patch.object(clusters, "ONE_AT_A_TIME", nullcontext()),
        mock.patch("demix_nb.parallel.with_threads", lambda call, threads: call()),
    ]
    with tempfile.TemporaryDirectory() as folder, patches[0], patches[1]:
        made = clusters.Cluster(Engine.of({"dask": "local"}), Path(folder))
        with dask.config.set({**STARTED, **QUIET}):
            local = distributed.LocalCluster(n_workers=workers, threads_per_worker=1, **inside)
        made.__dict__["cluster"] = local
        try:
            made.check()
            yield made
        finally:
            made.close()


def asleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def threads() -> dict[int, float]:
    """Return thread → CPU seconds."""
    return {each.id: each.user_time + each.system_time for each in psutil.Process().threads()}


def loop_thread(cluster: object) -> int:
    """Return the number of the thread in which scheduler and workers exchange messages."""
    said: list[int] = []
    asked = threading.Event()
    cluster.client.loop.add_callback(lambda: (said.append(threading.get_native_id()), asked.set()))
    asked.wait()
    return said[0]


def spent(cluster: object, seconds: np.ndarray) -> dict[str, float]:
    """Do the calls; return wall, and CPU seconds of the process, of the loop's thread and of this one."""
    loop, before, used = loop_thread(cluster), threads(), time.process_time()
    began = time.perf_counter()
    done = list(cluster.run(asleep, [(float(each),) for each in seconds], ordered=False, heavy=False))
    wall, used, after = time.perf_counter() - began, time.process_time() - used, threads()
    assert len(done) == len(seconds)
    mine = threading.get_native_id()
    return {"wall": wall, "all": used} | {
        name: after[number] - before[number] for name, number in (("loop", loop), ("driver", mine))
    }


def grown(asked: argparse.Namespace) -> None:
    """Print a line per cell as it is done."""
    drawn, draw = relative(), np.random.default_rng(0)
    cells = [tuple(map(int, cell.split("x"))) for cell in asked.cells] or itertools.product(PROXIES, WORKERS)
    planned = sorted(((workers, proxies) for proxies, workers in cells))
    print(f"{'proxies':>8} {'workers':>8} {'ideal s':>8} {'wall s':>8} {'efficiency':>10} {'busy':>6}  ms a proxy")
    for workers, group in itertools.groupby(planned, key=lambda cell: cell[0]):
        tables = {proxies: asked.mean * draw.choice(drawn, size=proxies) for _, proxies in group}
        best = {proxies: ideal(seconds, workers) for proxies, seconds in tables.items()}
        for proxies in (each for each in tables if best[each] > asked.longest):
            print(f"{proxies:>8} {workers:>8} {best[proxies]:>8.1f}  not run: {best[proxies]:.0f} s", flush=True)
        short = [each for each in tables if best[each] <= asked.longest]
        if not short:
            continue
        began = time.perf_counter()
        with simulated(workers) as cluster:
            print(f"{workers} workers there after {time.perf_counter() - began:.1f} s", flush=True)
            for proxies in short:
                _told(proxies, workers, best[proxies], tables[proxies], spent(cluster, tables[proxies]))


def _told(proxies: int, workers: int, best: float, seconds: np.ndarray, took: dict[str, float]) -> None:
    wall, costs = took.pop("wall"), ", ".join(f"{name} {1000 * each / proxies:.2f}" for name, each in took.items())
    rates = f"{best / wall:>10.2f} {seconds.sum() / workers / wall:>6.2f}"
    print(f"{proxies:>8} {workers:>8} {best:>8.1f} {wall:>8.1f} {rates}  {costs}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=[], help="cluster, candidates, search; all where none is named")
    parser.add_argument("--cells", nargs="*", default=[], help="PROXIESxWORKERS")
    parser.add_argument("--longest", type=float, default=180)
    parser.add_argument("--mean", type=float, default=1.0, help="seconds a proxy")
    many.arguments(parser)
    asked = parser.parse_args()
    if asked.measure:
        what, k = asked.measure[0], int(asked.measure[1])
        return many.whole(k, asked.workers) if what == many.WHOLE else many.measured(what, k)
    for part, work in (("cluster", grown), ("candidates", many.each), ("search", many.search)):
        if part in (asked.parts or ("cluster", "candidates", "search")):
            work(asked)


if __name__ == "__main__":
    main()
