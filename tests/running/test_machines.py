"""`demix-nb engine check`: every worker with what it has and sees, and the seconds of a proxy."""

import re

import fixtures_studies as studies
import pytest
import yaml

from demix_nb import __main__


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Lines are not folded."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return studies.checkpoints(tmp_path_factory.mktemp("study"))


def test_processes_have_no_cluster_to_ask_and_a_proxy_is_timed(file, capfd):
    assert __main__.main(["engine", "check", str(file), "--workers", "1"]) == 0
    shown = capfd.readouterr().out
    assert "engine: processes, 1 on this machine" in shown
    assert float(re.search(r"1 workers: a merged proxy takes (\S+) s of a worker", shown)[1]) > 0
    assert not list(file.parent.rglob("*.pickle")) and not list(file.parent.rglob(".timed-*"))


@pytest.mark.cluster
def test_every_worker_is_listed(file, capfd):
    pytest.importorskip("distributed", reason="no Dask: pip install 'demix_nb[cluster]'")
    other = studies.changed(file, engine={"dask": "local"})
    assert __main__.main(["engine", "check", str(other)]) == 0
    shown = capfd.readouterr().out
    assert "engine: a Dask cluster of processes on this machine" in shown and shown.count("tcp://127.0.0.1") == 2
    assert re.search(r"1 +\S+ GB +\S+ GB +0\.1\.0\+[0-9a-f]{8} +yes", shown) and "a merged proxy takes" in shown


def test_tables_have_nothing_to_time(tmp_path, capfd):
    (tmp_path / "m.csv").write_text("mixture,law,news\nr1,0.5,0.5\nr2,0.25,0.75\nr3,1,0\nr4,0,1\n")
    (tmp_path / "s.csv").write_text("mixture,x_loss,y_loss\nr1,1,2\nr2,3,4\nr3,5,6\nr4,7,8\n")
    content = {"proxies": {"mixtures": "m.csv", "scores": "s.csv", "higher_is_better": False}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    assert __main__.main(["engine", "check", str(tmp_path / "study.yaml")]) == 0
    assert "no component is there yet" in capfd.readouterr().out


def test_a_scheduler_that_is_not_there_is_one_sentence(file, capfd, monkeypatch):
    pytest.importorskip("distributed", reason="no Dask: pip install 'demix_nb[cluster]'")
    monkeypatch.setattr("demix_nb.cluster.JOIN", 2.0)
    other = studies.changed(file, engine={"dask": "tcp://127.0.0.1:9"})
    assert __main__.main(["engine", "check", str(other)]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capfd.readouterr().err
