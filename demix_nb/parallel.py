"""One way to fan work out: cleaning text, training models, scoring proxies and fitting predictors all go through here.

Work is done by joblib's processes on this machine, or by an engine of the study (`engines`), where it is given one. A
call has one thread: with more threads than cores, loops of small matrix products crawl, and sums added in another order
would make results depend on the number of workers. Only `heavy` calls, whose products are large, share out all cores,
and one that runs alone has them all. Short calls travel several at a time: joblib measures how long they take. What a
call frees is kept for the next: products of small models spend up to half of their time on being given memory anew.
"""

import ctypes
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache, partial
from typing import TYPE_CHECKING

import joblib
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from demix_nb.cluster import Cluster

SMALL = 10_000_000  # numbers of a model below which loops of small products gain nothing from more threads

MALLOPT = {-3: 32 << 20, -1: 64 << 20}  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, bytes: as far as glibc itself may go


def fan_out(
    function: Callable,
    calls: Sequence[tuple],
    *,
    n_jobs: int,
    ordered: bool = False,
    heavy: bool = False,
    engine: "Cluster | None" = None,
    gpu: bool = False,
) -> Iterator:
    """Yield `function(*call)` for every call, as they finish or, `ordered`, as they were given; an error stops all.

    Each has one thread, or where calls are `heavy` its part of the cores. An `engine` has workers of its own, on GPUs
    where the calls need a `gpu`; `n_jobs` are then nobody's.
    """
    if not calls:
        return
    if engine is not None:
        yield from engine.run(function, calls, ordered=ordered, heavy=heavy, gpu=gpu)
        return
    workers = min(n_jobs, len(calls))
    threads = max(1, joblib.cpu_count() // workers) if heavy else 1
    order = "generator" if ordered else "generator_unordered"
    parallel = joblib.Parallel(n_jobs=workers, return_as=order)
    yield from parallel(joblib.delayed(with_threads)(partial(function, *call), threads) for call in calls)


def with_threads(call: Callable, threads: int) -> object:
    """Return `call()`, for which torch and the linear algebra have so many threads."""
    keep_memory()
    torch = sys.modules.get("torch")  # which keeps a count of its own
    before = torch and torch.get_num_threads()
    try:
        if torch:
            torch.set_num_threads(threads)
        with _libraries(len(sys.modules)).limit(limits=threads):
            return call()
    finally:
        if torch:
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """The libraries that have threads; to look for them takes longer than a short call, and they come with modules."""
    return ThreadpoolController()


@cache
def keep_memory() -> None:
    """Let this process keep freed memory for what is taken next; where the C library is not glibc, it does as it does.

    Dask's nannies tell their workers the opposite, by MALLOC_TRIM_THRESHOLD_.
    """
    if mallopt := sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None):
        for what, size in MALLOPT.items():
            mallopt(what, size)
