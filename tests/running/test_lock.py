"""One run at a time in a folder: the second is told who is there, and nobody is kept out by a run that is over."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest
from fixtures_running import two_steps

from demix_nb import __main__
from demix_nb.running import lock
from demix_nb.store import Refusal

HOLD = """
import sys, time
from pathlib import Path
from demix_nb.running import lock
from demix_nb.store import Refusal
try:
    with lock.held(Path(sys.argv[1])):
        print("in", flush=True)
        time.sleep(float(sys.argv[2]))
except Refusal as refused:
    print(refused, flush=True)
"""


def holding(folder, seconds=60.0):
    """Start a process that takes the folder and says so, or why not."""
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def other(tmp_path):
    """A process that is in the folder."""
    process = holding(tmp_path / "run")
    assert process.stdout.readline() == "in\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_who_is_there(other, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for folder in (tmp_path / "run", tmp_path / "link"):
        with pytest.raises(Refusal, match=f"process {other.pid} on {socket.gethostname()} .*--run-dir"):
            with lock.held(folder):
                raise AssertionError("two are in")
    with lock.held(tmp_path / "elsewhere"):
        pass


@pytest.mark.parametrize("reaped", [True, False])
def test_a_killed_run_keeps_nobody_out(other, tmp_path, reaped):
    other.kill()
    if reaped:
        other.wait()
    else:  # a zombie, which nobody has asked for its status
        while psutil.Process(other.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
    with lock.held(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / lock.NAME).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / lock.NAME).exists()


@pytest.mark.parametrize("error", [None, Refusal, KeyboardInterrupt, SystemExit])
def test_every_exit_leaves_the_folder_free(tmp_path, error):
    for _ in range(2):
        try:
            with lock.held(tmp_path / "run"):
                with pytest.raises(Refusal, match=f"process {os.getpid()} "), lock.held(tmp_path / "run"):
                    pass
                if error:
                    raise error
        except BaseException as raised:
            assert type(raised) is error
        assert list((tmp_path / "run").iterdir()) == []


def test_another_machine_is_believed_and_named(tmp_path):
    path = tmp_path / lock.NAME
    path.write_text(json.dumps({"host": "far away", "pid": os.getpid(), "begun": 0.0, "since": "yesterday"}))
    with pytest.raises(Refusal, match=f"process {os.getpid()} on far away .*yesterday.*delete {path}"):
        with lock.held(tmp_path):
            pass
    path.unlink()
    with lock.held(tmp_path):
        pass


@pytest.mark.parametrize("left", ["", "{", '{"host": "%s", "pid": %d, "begun": 1.0, "since": ""}'])
def test_what_a_power_cut_leaves_keeps_nobody_out(tmp_path, left):
    """Empty, cut short, or with a number that is another process's by now."""
    (tmp_path / lock.NAME).write_text(left % (socket.gethostname(), os.getpid()) if "%" in left else left)
    with lock.held(tmp_path):
        pass


def test_a_disk_without_locks_goes_by_the_name(other, tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    with pytest.raises(Refusal, match=f"process {other.pid} "), lock.held(tmp_path / "run"):
        pass
    other.kill()
    other.wait()
    with lock.held(tmp_path / "run"):
        pass


def test_of_many_that_start_at_once_one_is_in(tmp_path):
    started = [holding(tmp_path / "run") for _ in range(4)]
    told = [process.stdout.readline() for process in started]
    (first,) = (process for process, line in zip(started, told, strict=True) if line == "in\n")
    assert sum(f"process {first.pid} on" in line for line in told) == 3
    for process in started:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_one_after_the_other_all_get_in(tmp_path):
    for _ in range(2):
        assert holding(tmp_path / "run", 0).communicate(timeout=60)[0] == "in\n"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot write to .*--run-dir"), lock.held(tmp_path / "file" / "run"):
        pass


def test_only_a_run_takes_the_folder(tmp_path, monkeypatch, capsys):
    two_steps(tmp_path, monkeypatch)
    folder = tmp_path / "runs" / "small"
    holder = holding(folder)
    assert holder.stdout.readline() == "in\n"
    run = ["run", "--profile", "small", "01"]
    assert __main__.main(run) == 2
    told = capsys.readouterr().err
    assert f"process {holder.pid} on {socket.gethostname()}" in told and told.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == [lock.NAME], "nothing was started"
    assert __main__.main(["params"]) == 0
    assert __main__.main(["report", "--run-dir", str(folder)]) == 2
    assert "no finished notebook" in capsys.readouterr().err
    holder.kill()
    holder.wait()
