"""One way to fan work out: cleaning text, training models, scoring proxies and fitting predictors all go through here.

The engine is joblib's: processes on this machine unless a surrounding `joblib.parallel_config` says otherwise, so a
cluster (Ray, Dask) is a configuration and not a rewrite. A call has one thread: with more threads than cores, loops of
small matrix products crawl, and sums added in another order would make results depend on the number of workers.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import joblib
from threadpoolctl import threadpool_limits


def fan_out(function: Callable, calls: Sequence[tuple], *, n_jobs: int, ordered: bool = False) -> Iterator:
    """Yield `function(*call)` for every call, as they finish or, `ordered`, as they were given; an error stops all."""
    if not calls:
        return
    order = "generator" if ordered else "generator_unordered"
    parallel = joblib.Parallel(n_jobs=min(n_jobs, len(calls)), return_as=order, pre_dispatch="all")
    yield from parallel(joblib.delayed(_alone)(partial(function, *call)) for call in calls)


def _alone(call: Callable) -> object:
    torch = sys.modules.get("torch")  # which keeps a count of its own
    threads = torch and torch.get_num_threads()
    try:
        if torch:
            torch.set_num_threads(1)
        with threadpool_limits(limits=1):
            return call()
    finally:
        if torch:
            torch.set_num_threads(threads)
