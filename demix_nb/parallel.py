"""One way to fan work out: training models, scoring proxies and fitting predictors all go through here.

joblib's backend is a parameter of the surrounding `joblib.parallel_config`, so a cluster (Ray, Dask) is a configuration
and not a rewrite. Every worker has one thread: with more threads than cores, loops of small matrix products crawl.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import joblib
from threadpoolctl import threadpool_limits


def fan_out(function: Callable, calls: Sequence[tuple], *, n_jobs: int, backend: str = "loky") -> Iterator:
    """Yield `function(*call)` for every call, in the order in which they finish; an error in one stops all."""
    if not calls:
        return
    with joblib.parallel_config(backend=backend, inner_max_num_threads=1):
        parallel = joblib.Parallel(n_jobs=min(n_jobs, len(calls)), return_as="generator_unordered", pre_dispatch="all")
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
