"""What a study file may say of its engine, and what is said of an address that others reach."""

import subprocess
import sys

import pytest

from demix_nb import engines
from demix_nb.cluster import Cluster
from demix_nb.engines import Engine, unguarded
from demix_nb.running import holdings
from demix_nb.store import Refusal


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:8786", "tls://10.0.0.5:8786", "inproc://a/1/2"],
)
def test_nobody_is_warned_of_what_others_cannot_reach_or_use(address):
    assert unguarded(address) == ""


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.5:8786", "tcp://head.cluster:8786", "tcp://[fe80::1]:8786", "ws://0.0.0.0:8786"]
)
def test_an_open_scheduler_is_told_with_the_remedy(address):
    told = unguarded(address)
    assert address in told and "can run code" in told and "tls://" in told and "\n" not in told
    assert told in holdings._engine(Engine.of({"dask": address})), "`study check` says so"


def test_without_dask_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    for said in ({"dask": "local"}, {"dask": "tcp://127.0.0.1:1"}, {"slurm": {"n_workers": "1"}}):
        with pytest.raises(Refusal, match=r"needs \w+, which is not installed; `pip install 'demix_nb\[cluster\]'`"):
            Engine.of(said).check()
        with pytest.raises(Refusal, match=r"pip install 'demix_nb\[cluster\]'"):
            Cluster(Engine.of(said), tmp_path).check()
    with pytest.raises(Refusal, match="pip install dask-cuda"):
        Engine.of("cuda").check()


def test_a_local_cluster_takes_its_workers_words_too():
    """dask-cuda's takes what Dask's own does; GPUs are declared by `resources`."""
    pytest.importorskip("distributed", reason="no Dask: pip install 'demix_nb[cluster]'")
    words = {"n_workers": "2", "resources": {"GPU": 1}, "memory_limit": "2GB", "local_directory": "/tmp"}
    assert engines.ENGINES["dask"].typed(words) == words | {"n_workers": 2}
    with pytest.raises(Refusal, match=r"engine.dask has no 'memory_limt'; did you mean 'memory_limit'\?"):
        engines.ENGINES["dask"].typed({"memory_limt": "2GB"})


@pytest.mark.parametrize(("queue", "submit"), [("slurm", "sbatch"), ("pbs", "qsub"), ("lsf", "bsub")])
def test_a_queue_is_used_where_jobs_are_submitted(queue, submit, monkeypatch):
    pytest.importorskip("dask_jobqueue", reason="no dask-jobqueue: pip install 'demix_nb[cluster]'")
    monkeypatch.setattr(engines.shutil, "which", lambda name: None)
    with pytest.raises(Refusal, match=rf"engine.{queue} needs `{submit}`, which is not here; run where jobs are"):
        Engine.of({queue: {"n_workers": "1", "cores": "1", "memory": "1GB"}}).start(1)


def test_processes_are_no_engine():
    assert Engine.of("processes") is None


def test_a_started_cluster_leaves_dasks_own_defaults_where_they_were():
    """In a process that had not imported `distributed`, which sets them when it is."""
    words = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    code = f"""if True:
        from demix_nb.engines import ENGINES
        started = ENGINES["dask"].cluster({words!r})
        import dask
        assert dask.config.get("distributed.scheduler.events-cleanup-delay")
        assert dask.config.get("distributed.scheduler.worker-saturation") == 1.1, "Dask's own"
        started.close()"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
