"""Where calls run, in which order they come back, and that none takes more than its one thread."""

import os
import time

import joblib
import pytest
from threadpoolctl import threadpool_info

from demix_nb.parallel import fan_out


def process(_):
    return os.getpid()


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def threads(_):
    return max(library["num_threads"] for library in threadpool_info())


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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_stops_all_and_nothing_to_do_is_no_error(n_jobs):
    with pytest.raises(ValueError, match="call 1 failed"):
        list(fan_out(fail, CALLS, n_jobs=n_jobs))
    assert list(fan_out(fail, [], n_jobs=n_jobs)) == []
