"""While a step runs its line says which cell, how far its loop is, how long it has taken and what is left."""

import io
import json
import time

from rich.console import Console

from demix_nb import PROGRESS
from demix_nb.running import cells
from demix_nb.running.terminal import Running, Screen


def running(tmp_path, now, **facts):
    return Running("[3/9] 03_proxy_fidelity", tmp_path / "inner.json", clock=lambda: now[0], **facts)


def test_the_line_grows_with_what_is_known(tmp_path):
    now = [100.0]
    step = running(tmp_path, now, expected=240.0)
    assert step.line() == "[3/9] 03_proxy_fidelity  starting  0 s, about 240 s left"
    now[0] = 160.0
    step.at(5, 21)
    assert step.line() == "[3/9] 03_proxy_fidelity  cell 5 of 21  60 s, about 180 s left"
    note = {"what": "references", "done": 12, "total": 40, "began": 40.0}
    (tmp_path / "inner.json").write_text(json.dumps(note))
    assert "cell 5 of 21  references 12/40  60 s, about 280 s left" in step.line(), (
        "the loop needs longer than expected"
    )
    (tmp_path / "inner.json").write_text(json.dumps(note | {"total": None}))
    assert "references 12  60 s, about 180 s left" in step.line()
    now[0] = 400.0
    assert step.line().endswith("300 s"), "what should be over is not promised again"


def test_a_step_that_no_run_has_timed_promises_nothing(tmp_path):
    now = [0.0]
    step = running(tmp_path, now)
    now[0] = 9.0
    assert step.line().endswith("starting  9 s")


def test_loops_of_a_notebook_tell_the_runner(tmp_path, monkeypatch):
    file = tmp_path / "inner.json"
    monkeypatch.setenv(PROGRESS, str(file))
    monkeypatch.setattr(cells, "TELL_EVERY", -1.0)
    told = []
    for item in cells.progress("abc", desc="letters"):
        told.append((item, json.loads(file.read_text())["done"]))
    assert told == [("a", 0), ("b", 1), ("c", 2)] and not file.exists()
    for _ in cells.progress(iter("ab"), total=2, desc="letters"):
        note = json.loads(file.read_text())
    assert (note["what"], note["done"], note["total"]) == ("letters", 1, 2)


def test_in_jupyter_a_loop_has_a_bar(monkeypatch, capsys):
    monkeypatch.delenv(PROGRESS, raising=False)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert list(cells.progress([1, 2], desc="letters")) == [1, 2]
    assert "letters" in capsys.readouterr().err


def test_where_nobody_watches_there_is_a_plain_line_now_and_then(tmp_path):
    out, now = io.StringIO(), [0.0]
    screen = Screen(Console(file=out, width=20), every=0.02)
    with screen.watching(running(tmp_path, now)):
        while out.getvalue().count("\n") < 3:
            time.sleep(0.01)
    lines = out.getvalue().splitlines()
    assert set(lines) == {"[3/9] 03_proxy_fidelity  starting  0 s"}, "whole lines, no codes for terminals"
    time.sleep(0.1)
    assert len(out.getvalue().splitlines()) == len(lines), "nothing is printed after the end"
    with Screen(Console(file=out)).watching(running(tmp_path, now)):
        time.sleep(0.1)
    assert len(out.getvalue().splitlines()) == len(lines), "by default a line per half minute"


def test_on_a_terminal_one_line_moves(tmp_path):
    out, now = io.StringIO(), [0.0]
    with Screen(Console(file=out, force_terminal=True, width=80)).watching(step := running(tmp_path, now)):
        step.at(1, 2)
        time.sleep(0.6)
    assert "cell 1 of 2" in out.getvalue() and "\x1b[2K" in out.getvalue()
