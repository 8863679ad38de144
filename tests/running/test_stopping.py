"""A command that is told to stop ends all that it started, leaves one line and nothing half written, and goes on later.

The signal goes to the command alone, as `kill` sends it; on a terminal Ctrl-C reaches no more than that, since kernels
have sessions of their own.
"""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from demix_nb import store
from demix_nb.running import stopping

pytestmark = pytest.mark.notebooks

LINE = "demix-nb: stopped; the same command goes on where this run ended\n"
BUSY = """
import time, joblib
from pathlib import Path
from demix_nb import store
def work(folder, name):
    model, score = folder / f"model-{name}", folder / "cache" / f"{name}.json"
    with store.atomic_folder(model) as hidden, store.atomic(score) as half:
        (hidden / "weights").write_text("half")
        half.write_text("half")
        (folder / f"busy-{name}").write_text("")
        while not (folder / "go").exists():
            sum(range(10**5))
    (folder / f"done-{name}").write_text("")
run_dir = Path(run_dir)
"""
SCENES = {  # what the notebook's cell does; how many files it leaves when it has come to it
    "workers": (BUSY + "joblib.Parallel(n_jobs=2)(joblib.delayed(work)(run_dir, name) for name in 'ab')", 2),
    "kernel": (BUSY + "work(run_dir, 'a')", 1),
    "elsewhere": (BUSY + "work(run_dir.parent, 'a')\n(run_dir / 'done-a').write_text('')", 1),
    "deaf": (
        BUSY + "while True:\n    try: work(run_dir, 'a'); break\n    except KeyboardInterrupt: pass",
        1,
    ),
}
CHILD = """
import sys
from pathlib import Path
import pytest
from fixtures_running import notebook, set_up
folder = Path(sys.argv[1])
with pytest.MonkeyPatch.context() as patch:
    set_up(folder, patch, **{"01_first": notebook((folder / "cell").read_text())})
    from demix_nb.__main__ import main
    sys.exit(main(["run", "--profile", "small", *sys.argv[2:]]))
"""


@pytest.fixture(autouse=True)
def heard():
    """Commands hear a closing terminal, though whoever tests may be deaf to it (nohup)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def start(folder, cell="1", *arguments):
    (folder / "cell").write_text(cell)
    path = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", CHILD, str(folder), *arguments]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def until(reached, child):
    while not reached():
        assert child.poll() is None, child.communicate()
        time.sleep(0.02)


def family(child):
    return psutil.Process(child.pid).children(recursive=True)


def alive(processes):
    left = [process for process in processes if process.is_running()]
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def stop(child, signum, below):
    """Send the signal; what was below the command must be gone when it ends, in time and with one line."""
    began = time.monotonic()
    child.send_signal(signum)
    child.wait(timeout=30)
    took, left = time.monotonic() - began, alive(below)
    _, told = child.communicate()
    assert (child.returncode, told, left) == (128 + signum, LINE, [])
    assert took < 5
    assert [process for process in psutil.process_iter(["cmdline"]) if process.ppid() == child.pid] == []


@pytest.mark.parametrize(
    "scene, signum",
    [
        ("workers", signal.SIGTERM),
        ("workers", signal.SIGINT),
        ("kernel", signal.SIGHUP),
        ("elsewhere", signal.SIGINT),
        ("deaf", signal.SIGTERM),
    ],
)
def test_a_signal_ends_all_and_the_next_run_goes_on(tmp_path, scene, signum):
    cell, files = SCENES[scene]
    child = start(tmp_path, cell)
    until(lambda: len(list(tmp_path.glob("runs/**/busy-*"))) == files, child)
    stop(child, signum, family(child))
    run_dir = tmp_path / "runs" / "small"
    assert not [path for path in tmp_path.rglob(".*") if stopping.TEMPORARY.fullmatch(path.name)]
    assert not list(tmp_path.rglob("model-*")) and not list(run_dir.glob("stamps/*")), "nothing counts as done"
    (run_dir / "go").write_text("")
    (run_dir.parent / "go").write_text("")
    _, told = (again := start(tmp_path, cell)).communicate(timeout=60)
    # on a machine under load ipykernel's event loop may say at the kernel's end that it was cut short
    ours = [line for line in told.splitlines() if not line.lower().startswith("task")]
    assert (again.returncode, ours) == (0, [])
    assert len(list(run_dir.glob("done-*"))) == files
    assert {path.name for path in run_dir.glob("stamps/*")} == {"01_first.json"}


@pytest.mark.parametrize("signum, later", [(signal.SIGINT, 0.0), (signal.SIGTERM, 0.5)])
def test_a_kernel_that_only_starts_is_ended_too(tmp_path, signum, later):
    child = start(tmp_path, BUSY + "work(run_dir, 'a')")
    until(lambda: family(child), child)
    time.sleep(later)
    stop(child, signum, family(child))
    assert all(path.stat().st_size for path in tmp_path.glob("runs/small/**/*.ipynb")), "a copy is whole or not there"


def test_before_anything_has_started_there_is_one_line_too(tmp_path):
    for number, arguments in enumerate([["--dry-run"], []]):
        child = start(tmp_path, "1", *arguments)
        assert child.stdout.readline().startswith("demix-nb")
        stop(child, [signal.SIGTERM, signal.SIGINT][number], [])
    assert not list(tmp_path.glob("runs/**/*.json"))


def test_an_impatient_second_signal_changes_nothing(tmp_path):
    child = start(tmp_path, SCENES["workers"][0])
    until(lambda: len(list(tmp_path.glob("runs/small/busy-*"))) == 2, child)
    below = family(child)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        child.send_signal(signum)
        time.sleep(0.1)
    _, told = child.communicate(timeout=10)
    assert (child.returncode, told, alive(below)) == (143, LINE, [])


def test_workers_whose_kernel_is_gone_are_found(tmp_path):
    """A batch system sends its signal to all at once: the kernel may be dead before the run looks for its workers."""
    child = start(tmp_path, SCENES["workers"][0])
    until(lambda: len(list(tmp_path.glob("runs/small/busy-*"))) == 2, child)
    below = family(child)
    (kernel,) = psutil.Process(child.pid).children()
    kernel.kill()
    stop(child, signal.SIGTERM, below)


def test_a_kernel_that_dies_is_a_refusal_and_leaves_no_worker(tmp_path):
    child = start(tmp_path, SCENES["workers"][0])
    until(lambda: len(list(tmp_path.glob("runs/small/busy-*"))) == 2, child)
    below = family(child)
    (kernel,) = psutil.Process(child.pid).children()
    kernel.kill()
    child.wait(timeout=30)
    assert child.returncode == 2 and alive(below) == []
    told = child.stderr.read().splitlines()[-1]
    assert told.startswith("demix-nb: the kernel of 01_first died") and "workers=1" in told


def test_where_a_closing_terminal_is_ignored_it_stays_so(tmp_path):
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        child = start(tmp_path, BUSY + "work(run_dir, 'a')")
    finally:
        signal.signal(signal.SIGHUP, ignored)
    until(lambda: list(tmp_path.glob("runs/small/busy-*")), child)
    child.send_signal(signal.SIGHUP)
    (tmp_path / "runs" / "small" / "go").write_text("")
    assert child.wait(timeout=60) == 0


def test_only_what_this_run_was_writing_is_cleared(tmp_path):
    def made(name, folder=False):
        path = tmp_path / name
        path.mkdir() if folder else path.write_text("")
        return path

    old = made(".table.csv.abcdefgh")
    os.utime(old, (1, 1))
    kept = [old, made("table.csv"), made(".hidden"), made(".ipynb_checkpoints", folder=True), made("run.lock")]
    with pytest.raises(KeyError), store.atomic(tmp_path / "x" / "other.csv") as half:
        with store.atomic_folder(tmp_path / "model") as hidden:
            (hidden / "part").write_text("")
            gone = {half, hidden}
            stopping.clear(tmp_path, since=time.time() - 60)
            assert not any(path.exists() for path in gone)
            raise KeyError
    assert all(path.exists() for path in kept)
