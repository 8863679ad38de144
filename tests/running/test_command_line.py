"""The command line: help at once, every refusal one sentence and status 2, Ctrl-C status 130, never a traceback."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fixtures_running import notebook, set_up, two_steps

from demix_nb import __main__, __version__
from demix_nb.running import runner

COMMAND = [sys.executable, "-m", "demix_nb"]


@pytest.fixture
def root(tmp_path, monkeypatch):
    return two_steps(tmp_path, monkeypatch)


def test_a_bare_command_is_help(capsys):
    assert __main__.main([]) == 0
    shown = capsys.readouterr().out
    assert all(
        name in shown for name in ("run", "figures", "report", "lab", "doctor", "params", "--install-completion")
    )
    assert __main__.main(["--version"]) == 0 and capsys.readouterr().out == f"demix-nb {__version__}\n"


@pytest.mark.parametrize(
    "asked", [["--help"], ["run", "--help"], ["study", "init", "--help"], ["export", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(asked):
    code = f"import sys; from demix_nb.__main__ import main; main({asked}); print('loaded:', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rpartition("loaded:")[2].split())
    assert not loaded & {"numpy", "pandas", "nbformat", "papermill", "torch", "IPython", "yaml"}


def test_params_lists_what_a_step_can_be_told(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert __main__.main(["params", "05"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in runner.STEPS["05_search"].declared)
    assert "20000" in shown and "fresh mixtures that the predictor ranks" in shown
    assert __main__.main(["params"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in runner.STEPS) and "02_merging, 05_search" in shown


def test_a_dry_run_runs_nothing(tmp_path, capsys):
    assert __main__.main(["run", "--dry-run", "--profile", "smoke", "--run-dir", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "demix-nb" in shown.splitlines()[0] and "minutes" in shown and "nothing was run" in shown
    assert all(step in shown for step in runner.STORY)
    assert not (tmp_path / "run").exists()


REFUSED = {
    "run": ["run", "-p", "beta=1.5"],
    "run, no value": ["run", "-p", "beta"],
    "run, no step": ["run", "nothing"],
    "run, no profile": ["run", "--profile", "laptpo"],
    "run, folder": ["run", "00", "--run-dir", "{file}/run"],
    "dry run": ["run", "--dry-run", "-p", "hidden=0"],
    "params": ["params", "nothing"],
    "figures": ["figures", "--run-dir", "{empty}"],
    "report": ["report", "--run-dir", "{empty}"],
    "study check": ["study", "check", "{file}"],
    "study init": ["study", "init", "{empty}"],
    "doctor": ["doctor", "{empty}"],
    "export": ["export", "{file}", "--to", "megatron", "--data", "{file}", "-o", "{empty}/out"],
    "doctor, text": ["doctor", "{empty}", "--text", "{empty}/none.txt"],
    "doctor, base": ["doctor", "{empty}", "{empty}", "--base", "{file}"],
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED)
def test_every_command_refuses_in_one_sentence(arguments, tmp_path, capfd):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    given = [part.format(file=tmp_path / "file", empty=tmp_path / "empty") for part in arguments]
    assert __main__.main(given) == 2
    told = capfd.readouterr().err
    assert told.startswith("demix-nb: ") and told.count("\n") == 1 and "Traceback" not in told


@pytest.mark.parametrize("arguments", [["report", "--colour"], ["repot"], ["doctor"]])
def test_a_command_line_that_cannot_be_read_is_refused_with_help(arguments, capsys):
    assert __main__.main(arguments) == 2
    told = capsys.readouterr().err
    assert "--help" in told and "Traceback" not in told


def test_the_lab_refuses_in_its_own_process(tmp_path):
    asked = [*COMMAND, "lab", "--ServerApp.port=many"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)})
    assert done.returncode != 0 and "port" in done.stderr and "Traceback" not in done.stdout + done.stderr


def test_a_fault_of_ours_is_seen_whole(monkeypatch):
    monkeypatch.setattr(runner, "plan", lambda *_: [][0])
    with pytest.raises(IndexError):
        __main__.main(["run"])


@pytest.mark.notebooks
def test_a_failed_cell_is_a_refusal(root, capfd):
    assert __main__.main(["run", "--profile", "small", "-p", "layers=13"]) == 2
    told = capfd.readouterr().err
    told = told[told.index("demix-nb: ") :]  # a dying kernel's own library may have had a word before
    assert told.startswith("demix-nb: 02_second failed in cell") and "AssertionError" in told and "unlucky" in told
    assert str(root / "runs/small/notebooks/02_second.ipynb") in told and "Traceback" not in told


@pytest.mark.notebooks
def test_a_good_run_prints_no_error_and_starts_with_a_line(root, capfd):
    assert __main__.main(["run", "--profile", "small"]) == 0
    shown = capfd.readouterr()
    assert shown.out.startswith(f"demix-nb {__version__}, profile small\n[1/2] 01_first")
    assert "ERROR" not in shown.out + shown.err and shown.err == ""


@pytest.mark.notebooks
def test_no_kernel_is_interrupted_at_its_end(tmp_path, monkeypatch):
    quarrel = """
import signal
from pathlib import Path
signal.signal(signal.SIGINT, lambda *_: Path(run_dir, "interrupted").write_text(""))
"""
    set_up(tmp_path, monkeypatch, **{"01_first": notebook(quarrel)})
    assert __main__.main(["run", "--profile", "small"]) == 0
    assert not (tmp_path / "runs/small/interrupted").exists()


CHILD = """
import sys
from pathlib import Path
import pytest
from fixtures_running import notebook, set_up
with pytest.MonkeyPatch.context() as patch:
    folder = Path(sys.argv[1])
    busy = "from pathlib import Path; import time; Path(run_dir, 'busy').write_text(''); time.sleep(60)"
    set_up(folder, patch, **{"01_first": notebook(busy)})
    from demix_nb.__main__ import main
    sys.exit(main(["run", "--profile", "small"]))
"""


@pytest.mark.notebooks
def test_stopping_ends_with_one_line_and_status_130(tmp_path):
    path = os.pathsep.join(sys.path)
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    while not (tmp_path / "runs/small/busy").exists():
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, told = child.communicate(timeout=30)
    assert child.returncode == 130
    assert told == "demix-nb: stopped; the same command goes on where this run ended\n"
