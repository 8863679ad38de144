"""Where calls run, in which order they come back, and how many threads each takes."""

import os
import sys
import time

import joblib
import pytest
import torch
from threadpoolctl import ThreadpoolController, threadpool_info

from demix_nb import parallel
from demix_nb.parallel import fan_out


def process(_):
    return os.getpid()


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def threads(_):
    return max(library["num_threads"] for library in threadpool_info())


def torch_threads(_):
    return torch.get_num_threads()


def fail(number):
    if number == 1:
        raise ValueError(f"call {number} failed")
    return number


CALLS = [(number,) for number in range(4)]


def test_calls_run_in_processes_of_their_own_unless_the_surroundings_say_otherwise():
    assert os.getpid() not in set(fan_out(process, CALLS, n_jobs=2))
    with joblib.parallel_config(backend="threading"):
        assert set(fan_out(process, CALLS, n_jobs=2)) == {os.getpid()}


def test_results_come_as_they_finish_or_as_they_were_given():
    calls = [(0.5,), (0.0,), (0.1,)]
    with joblib.parallel_config(backend="threading"):
        assert list(fan_out(sleep, calls, n_jobs=3)) == [0.0, 0.1, 0.5]
        assert list(fan_out(sleep, calls, n_jobs=3, ordered=True)) == [0.5, 0.0, 0.1]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_call_has_one_thread(n_jobs):
    assert set(fan_out(threads, CALLS, n_jobs=n_jobs)) == {1}


def test_libraries_that_came_with_a_module_are_looked_for(monkeypatch):
    looked = []
    monkeypatch.setattr(parallel, "ThreadpoolController", lambda: looked.append(1) or ThreadpoolController())
    parallel._libraries.cache_clear()
    for _ in range(3):
        parallel.with_threads(lambda: None, 1)
    assert len(looked) == 1
    monkeypatch.setitem(sys.modules, "one_module_more", parallel)
    parallel.with_threads(lambda: None, 1)
    assert len(looked) == 2


@pytest.mark.parametrize(("n_jobs", "calls", "each"), [(1, 4, 8), (2, 4, 4), (2, 1, 8), (16, 16, 1)])
def test_heavy_calls_share_out_the_cores(monkeypatch, n_jobs, calls, each):
    """Eight cores: all for one worker, or for the one call that is left; never less than one thread."""
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    with joblib.parallel_config(backend="threading"), monkeypatch.context() as patch:
        given = []
        patch.setattr(parallel, "with_threads", lambda call, threads: given.append(threads))
        list(fan_out(threads, [(number,) for number in range(calls)], n_jobs=n_jobs, heavy=True))
    assert set(given) == {each}


def test_a_heavy_call_alone_really_has_its_threads(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 2)
    before = torch.get_num_threads()
    assert list(fan_out(torch_threads, [(0,)], n_jobs=2, heavy=True)) == [2]
    assert list(fan_out(torch_threads, [(0,)], n_jobs=2)) == [1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_stops_all_and_nothing_to_do_is_no_error(n_jobs):
    with pytest.raises(ValueError, match="call 1 failed"):
        list(fan_out(fail, CALLS, n_jobs=n_jobs))
    assert list(fan_out(fail, [], n_jobs=n_jobs)) == []
