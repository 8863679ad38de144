"""Work on a Dask cluster of two processes equals work here, whatever dies, fills up, comes late or does not fit."""

import os
import pickle
import resource
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import fixtures_studies as studies
import numpy as np
import pandas as pd
import pytest
from fixtures_cluster import TESTS, Harmed, measured, scheduler, worker
from fixtures_proxies import Words

from demix_nb import cluster as clusters
from demix_nb import engines, resident
from demix_nb.cluster import Cluster
from demix_nb.engines import Engine
from demix_nb.merging import Bank
from demix_nb.region import Region
from demix_nb.running import lock, runner
from demix_nb.running.given import Given
from demix_nb.running.terminal import Screen
from demix_nb.sources import Checkpoints, Merges, Store
from demix_nb.store import Refusal

distributed = pytest.importorskip("distributed", reason="no Dask: pip install 'demix_nb[cluster]'")
pytestmark = pytest.mark.cluster
NAMES = ["a", "b", "c"]


@pytest.fixture(scope="module")
def forty(bank):
    return Merges(bank, Region(NAMES).draw(40, rng=np.random.default_rng(16), prefix="p"))


@pytest.fixture(scope="module")
def here(forty, tmp_path_factory):
    """What this process alone measures."""
    return Store(tmp_path_factory.mktemp("here"), n_jobs=1).scores(forty, Words())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A cluster of two processes on the loopback interface."""
    made = Cluster(Engine.of({"dask": "local"}), tmp_path_factory.mktemp("shared"), n_jobs=2)
    yield made
    made.close()


@pytest.fixture
def place(tmp_path):
    (tmp_path / "place").mkdir()
    (tmp_path / "place" / "measured").touch()
    return tmp_path / "place"


def at(address: str, folder: Path) -> Cluster:
    return Cluster(Engine.of({"dask": address}), folder)


def few(source: Merges, n: int) -> Merges:
    return replace(source, mixtures=source.mixtures.iloc[:n])


# --- equal to one machine


def test_forty_proxies_are_those_of_one_process_each_measured_once_by_either_worker(two, forty, here, place, tmp_path):
    store = Store(tmp_path / "cache", engine=two)
    there = store.scores(forty, Harmed(place=place))
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    models, workers = measured(place)
    assert set(models.values()) == {1} and len(models) == 40
    assert workers.keys() == {answer["pid"] for answer in two.check().values()}
    again = store.scores(forty, Harmed(place=place, harm="kill"))
    assert again.equals(there), "what was measured is not measured again"


def test_log_probabilities_come_back_as_they_are(two, folders, tmp_path):
    source, suite = Checkpoints(folders[0]), Words()
    found = [
        Store(tmp_path / str(engine is None), 1, engine=engine).logs(source, suite, suite.mixable)
        for engine in (None, two)
    ]
    assert all(np.array_equal(found[0][row], found[1][row]) for row in suite.mixable)


def test_results_come_as_they_finish_or_as_they_were_given(two):
    calls = [(0.8,), (0.0,), (0.1,), (0.0,)]
    assert list(two.run(_sleep, calls, ordered=True, heavy=False)) == [0.8, 0.0, 0.1, 0.0]
    found = list(two.run(_sleep, calls, ordered=False, heavy=False))
    assert found[-1] == 0.8 and sorted(found) == [0.0, 0.0, 0.1, 0.8]


def _sleep(seconds):
    time.sleep(seconds)
    return seconds


def test_freed_memory_is_kept_for_what_comes_next(two):
    """Pages are counted that the system gives while arrays come and go; Dask alone has each given anew every time."""
    for _ in range(2):
        [found] = two.run(_pages, [(200,)], ordered=False, heavy=False)
    assert found < 200 * ARRAY / resource.getpagesize() / 10


ARRAY = 1 << 20  # bytes


def _pages(arrays):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(arrays):
        np.ones(ARRAY, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_what_a_call_raises_arrives_and_stops_the_rest(two):
    with pytest.raises(ZeroDivisionError):
        list(two.run(_divide, [(number,) for number in (1, 0, 2)], ordered=False, heavy=False))
    assert list(two.run(_divide, [(2,)], ordered=False, heavy=False)) == [0.5]


def _divide(number):
    return 1 / number


def test_a_hundred_candidates_and_as_many_rows_travel_in_ten_kilobytes(two, folders, tmp_path, monkeypatch, rng):
    """As pickled for a worker, function included; the suite and the weights stay where they are."""
    names = [f"candidate_{number:03}_of_the_web" for number in range(100)]
    for number, name in enumerate(names):
        shutil.copytree(folders[0][NAMES[number % 3]], tmp_path / "models" / f"component-{name}")
    bank = Bank.load({name: tmp_path / "models" / f"component-{name}" for name in names})
    suite = Words({f"heldout_{name}": [5, 9, number % 60] for number, name in enumerate(names)}, ())
    sizes, run = [], Cluster.run

    def weighed(self, function, calls, **how):
        sizes.extend(len(pickle.dumps((function, call))) for call in calls)
        return run(self, function, calls, **how)

    monkeypatch.setattr(Cluster, "run", weighed)
    found = Store(tmp_path / "cache", engine=two).scores(Merges(bank, Region(names).draw(2, rng=rng)), suite)
    assert found.shape == (2, 100) and max(sizes) <= 10_000


def test_tasks_for_gpus_go_to_workers_that_declare_one(tmp_path):
    with scheduler(tmp_path / "s.log") as (_, address), worker(address, tmp_path / "a.log"):
        with worker(address, tmp_path / "b.log", "--resources", "GPU=1"):
            cluster = at(address, tmp_path)
            cluster.client.wait_for_workers(2, timeout=60)
            on = {
                name for name, one in cluster.client.scheduler_info(n_workers=-1)["workers"].items() if one["resources"]
            }
            found = set(cluster.run(_where, [(number,) for number in range(6)], ordered=False, heavy=False, gpu=True))
            assert found == on and len(on) == 1
            anywhere = cluster.run(_where, [(0.2,)] * 6, ordered=False, heavy=False)
            assert len(set(anywhere)) == 2
            cluster.close()


def _where(seconds):
    time.sleep(seconds)
    return distributed.get_worker().address


def test_models_are_trained_on_workers_to_the_same_bytes(two, small_study, tmp_path):
    """One task a model, written on the shared folder; records come back, and nothing is trained again."""
    from demix_nb.lab import Setting
    from demix_nb.lab.corpora import load
    from demix_nb.lab.train import train_all

    corpora, setting = load(small_study.folder / "corpora"), Setting.read(small_study.folder)
    jobs = [setting.job(f"model-{name}", "model", row) for name, row in small_study.corners.iterrows()]
    here = {record["model"]: record for record in train_all(jobs, tmp_path / "here", corpora, n_jobs=1)}
    there = {record["model"]: record for record in train_all(jobs, tmp_path / "there", corpora, engine=two)}
    assert here.keys() == there.keys() and len(here) == 3
    for name, record in here.items():
        assert {**record, "seconds": 0} == {**there[name], "seconds": 0}
        weights = [(tmp_path / side / name / "model.safetensors").read_bytes() for side in ("here", "there")]
        assert weights[0] == weights[1]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")}
    assert len(list(train_all(jobs, tmp_path / "there", corpora, engine=two))) == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "there").rglob("*")} == kept


# --- faults


def test_a_worker_that_is_killed_in_the_middle_costs_what_it_was_doing(two, forty, here, place, tmp_path):
    victim = min(answer["pid"] for answer in two.check().values())

    def kill():
        while len((place / "measured").read_text().splitlines()) < 6:
            time.sleep(0.02)
        os.kill(victim, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    there = Store(tmp_path / "cache", engine=two).scores(forty, Harmed(place=place, harm="slow"))
    killer.join()
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    models, workers = measured(place)
    assert victim in workers and sum(models.values()) <= 40 + 1 and len(models) == 40


def test_a_model_under_which_every_worker_dies_is_named_and_the_rest_is_kept(forty, here, place, tmp_path):
    source, folder = few(forty, 6), tmp_path / "cache"
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as local:
        cluster = at(local.scheduler_address, tmp_path)
        local.scheduler.allowed_failures = 1
        Store(folder, engine=cluster).scores(few(forty, 4), Harmed(place=place))
        with pytest.raises(Refusal, match=r"^p0[45]: workers died under it again and again.*give workers more"):
            Store(folder, engine=cluster).scores(source, Harmed(place=place, harm="kill"))
        there = Store(folder, engine=cluster).scores(source, Harmed(place=place))
        cluster.close()
    pd.testing.assert_frame_equal(here.loc[source.names], there, check_exact=True)
    assert set(measured(place)[0].values()) == {1}


def test_a_worker_whose_memory_runs_out_is_told_from_a_fault_of_ours(forty, place, tmp_path):
    how = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**how, memory_limit="1200MB") as local:
        cluster = at(local.scheduler_address, tmp_path)
        local.scheduler.allowed_failures = 0
        with pytest.raises(
            Refusal, match=r"^p00: workers died.*as memory ran out; give workers more, or lower model.batch_"
        ):
            Store(tmp_path / "cache", engine=cluster).scores(few(forty, 1), Harmed(place=place, harm="hunger"))
        cluster.close()


def test_a_lost_scheduler_is_told_and_another_goes_on_where_it_stopped(forty, here, place, tmp_path):
    folder = tmp_path / "cache"
    with scheduler(tmp_path / "s.log") as (process, address), worker(address, tmp_path / "a.log"):
        cluster = at(address, tmp_path)
        cluster.check()

        def kill():
            while len((place / "measured").read_text().splitlines()) < 4:
                time.sleep(0.02)
            process.kill()

        threading.Thread(target=kill).start()
        with pytest.raises(Refusal, match=rf"the scheduler at {address} is lost; start it and run again"):
            Store(folder, engine=cluster).scores(forty, Harmed(place=place, harm="slow"))
        cluster.close()
    kept = len(list(folder.glob("*.json")))
    assert 4 <= kept < 40
    with scheduler(tmp_path / "t.log") as (_, address), worker(address, tmp_path / "b.log"):
        cluster = at(address, tmp_path)
        before = sum(measured(place)[0].values())
        there = Store(folder, engine=cluster).scores(forty, Harmed(place=place))
        cluster.close()
    pd.testing.assert_frame_equal(here, there, check_exact=True)
    assert sum(measured(place)[0].values()) == before + 40 - kept


def test_a_full_folder_is_refused_and_nothing_is_half_written(two, forty, here, place, tmp_path):
    source, folder = few(forty, 4), tmp_path / "cache"
    with pytest.raises(Refusal, match=r"cannot write .*File too large"):
        Store(folder, engine=two).scores(source, Harmed(place=place, harm="full"))
    assert not list(folder.glob("*.json"))
    there = Store(folder, engine=two).scores(source, Harmed(place=place))
    pd.testing.assert_frame_equal(here.loc[source.names], there, check_exact=True)


def test_a_folder_that_workers_see_a_second_late_is_waited_for(two, folders, tmp_path, monkeypatch):
    """The components are away when tasks are sent, and come back; no worker has opened these yet."""
    late = {name: shutil.copytree(folder, tmp_path / "models" / f"late-{name}") for name, folder in folders[0].items()}
    source = Merges(Bank.load({f"late {name}": folder for name, folder in late.items()}), _corners())
    here, shelved = Store(tmp_path / "1", 1).scores(source, Words()), resident.shelved
    assert source._described.names == list(source.bank.names)

    def away(suite, folder):
        (tmp_path / "models").rename(tmp_path / "away")
        threading.Timer(1.0, (tmp_path / "away").rename, [tmp_path / "models"]).start()
        return shelved(suite, folder)

    monkeypatch.setattr("demix_nb.sources.shelved", away)
    began = time.monotonic()
    there = Store(tmp_path / "2", engine=two).scores(source, Words())
    assert time.monotonic() - began >= 1.0
    pd.testing.assert_frame_equal(here, there, check_exact=True)


def _corners() -> pd.DataFrame:
    names = [f"late {name}" for name in NAMES]
    return pd.DataFrame(np.eye(3), names, names)


def test_a_second_driver_is_refused_before_any_worker_starts(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(Engine, "start", lambda self, n_jobs: started.append(n_jobs) or pytest.fail("too far"))
    file = studies.changed(studies.checkpoints(tmp_path / "study"), engine={"dask": "local"})
    opened = Given.open(file)
    steps = runner.plan(["02"], "smoke", {}, tmp_path / "run", opened)
    with lock.held(tmp_path / "run"), pytest.raises(Refusal, match=r"process \d+ on .* runs in"):
        runner.run(steps, screen=Screen(), given=opened)
    assert not started
    with pytest.raises(pytest.fail.Exception, match="too far"):
        runner.run(steps, screen=Screen(), given=opened)
    assert started == [steps[0].parameters["workers"]], "alone, it would have started them"


def test_a_worker_of_another_version_is_refused_by_name(forty, place, tmp_path):
    """Its package is a copy with a line more; it is found when the cluster is opened, and when it joins later."""
    shutil.copytree(TESTS.parent / "demix_nb", tmp_path / "other" / "demix_nb")
    for name in ("data", "notebooks"):
        (tmp_path / "other" / name).symlink_to(TESTS.parent / name)
    with (tmp_path / "other" / "demix_nb" / "mixtures.py").open("a") as file:
        file.write("\n# another\n")
    with scheduler(tmp_path / "s.log") as (_, address):
        with worker(address, tmp_path / "a.log", path=str(tmp_path / "other")):
            cluster = at(address, tmp_path)
            with pytest.raises(
                Refusal, match=r"worker tcp://\S+ on \S+ has demix_nb 0.*, the driver 0.*; install the same"
            ):
                cluster.check()
            cluster.close()
        with worker(address, tmp_path / "b.log"):
            cluster = at(address, tmp_path)
            cluster.check()
            with worker(address, tmp_path / "c.log", path=str(tmp_path / "other")):
                cluster.client.wait_for_workers(2, timeout=60)
                with pytest.raises(
                    Refusal, match=r"a worker on \S+ has demix_nb 0.*, the driver 0.*; install the same"
                ):
                    Store(tmp_path / "cache", engine=cluster).scores(forty, Harmed(place=place, harm="slow"))
            cluster.close()


def test_a_worker_that_does_not_see_the_folder_is_refused_by_name(two, tmp_path, monkeypatch):
    """Another machine's folder of that name is another; here, one that goes as soon as it is made."""
    monkeypatch.setattr(
        clusters.tempfile, "mkstemp", lambda **how: (os.open(os.devnull, os.O_RDONLY), str(tmp_path / "gone"))
    )
    monkeypatch.setattr(clusters, "_answer", _impatient)
    with pytest.raises(Refusal, match=r"worker tcp://\S+ on \S+ does not see .*mount it there at the same path"):
        two.check()


def _impatient(token, dask_worker):
    resident.PATIENCE = 0.2
    try:
        return ANSWER(token, dask_worker)
    finally:
        resident.PATIENCE = 30.0


ANSWER = clusters._answer


def test_no_scheduler_and_no_worker_are_refused_with_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "JOIN", 2.0)
    with pytest.raises(Refusal, match=r"no Dask scheduler answers at tcp://127.0.0.1:9 .*mend the address"):
        at("tcp://127.0.0.1:9", tmp_path).check()
    with (
        scheduler(tmp_path / "s.log") as (_, address),
        pytest.raises(Refusal, match=rf"no worker has joined {address}"),
    ):
        at(address, tmp_path).check()


# --- queues


def test_a_queues_own_cluster_runs_the_same_path(forty, here, tmp_path, monkeypatch):
    """dask-jobqueue's LocalCluster writes the script that a queue would get, and runs it."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(TESTS.parent), str(TESTS))))
    row = replace(engines.ENGINES["slurm"], of="dask_jobqueue.local:LocalCluster")
    monkeypatch.setitem(engines.ENGINES, "slurm", row)
    words = {"n_workers": "2", "cores": "1", "memory": "2GB", "log_directory": str(tmp_path), "walltime": "00:10:00"}
    cluster = Cluster(Engine.of({"slurm": words | {"interface": "lo"}}), tmp_path)
    try:
        there = Store(tmp_path / "cache", engine=cluster).scores(forty, Words())
    finally:
        cluster.close()
    pd.testing.assert_frame_equal(here, there, check_exact=True)


def test_a_kernel_finds_the_runs_cluster_and_its_certificates(tmp_path):
    dask = pytest.importorskip("dask")
    security = distributed.Security.temporary()
    how = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**how, security=security, protocol="tls") as local:
        started = Cluster(Engine.of({"dask": "local"}), tmp_path)
        started.__dict__["cluster"] = local
        with clusters.shared(started):
            assert os.environ[clusters.SHARED].split(":")[0] == "tls"
            dask.config.refresh()
            kernel = Cluster(Engine.of({"dask": "local"}), tmp_path)
            (answer,) = kernel.check().values()
            assert answer["sees"] and "cluster" not in kernel.__dict__
            kernel.client.close()
    dask.config.refresh()
    assert clusters.SHARED not in os.environ


def test_a_script_for_slurm_has_the_words_of_the_file(monkeypatch):
    dask_jobqueue = pytest.importorskip("dask_jobqueue", reason="no dask-jobqueue: pip install 'demix_nb[cluster]'")
    words = {
        "n_workers": "0",
        "cores": "4",
        "memory": "16GB",
        "queue": "long",
        "account": "0123",
        "walltime": "02:00:00",
    }
    engine = Engine.of({"slurm": words | {"job_extra_directives": ["--gres=gpu:1"]}})
    engine.check()
    script = dask_jobqueue.SLURMCluster(**engine.row.typed(engine.said) | {"processes": 4}).job_script()
    for line in ("#SBATCH -p long", "#SBATCH -A 0123", "#SBATCH -t 02:00:00", "#SBATCH --gres=gpu:1", "--nworkers 4"):
        assert line in script
    with pytest.raises(Refusal, match=r"engine.slurm has no 'qeue'; did you mean 'queue'\?"):
        Engine.of({"slurm": words | {"qeue": "long"}}).check()
    with pytest.raises(Refusal, match=r"engine.slurm.cores is 'four'; give a whole number"):
        Engine.of({"slurm": words | {"cores": "four"}}).check()
