"""Where the output has no ρ there is rho, in every command, and never an error; in UTF-8 nothing changes."""

import io
import os
import subprocess
import sys

import nbformat
import pytest
from fixtures_running import two_steps
from rich.console import Console
from rich.table import Table

from demix_nb import __main__, store
from demix_nb.running import letters, runner

OURS = {"ρ": "rho", "α": "alpha", "Σ": "Sigma", "Θ": "Theta", "≥": ">=", "→": "->", "·": "*", "−": "-", "…": "..."}
OURS |= {"δ": "delta", "²": "^2", "₂": "2", "ᵢ": "i", "×": "x", "±": "+-", "–": "-", "⁻": "^-", "ℓ": "l", "µ": "mu"}
STRANGE = ["数学", "é", "\udcff", "🙂", "ё", "\x85", "\u200b"]
ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "shift_jis", "utf-8"]


@pytest.mark.parametrize("letter", OURS)
def test_a_letter_is_spelt(letter):
    assert letters.spelt(letter) == OURS[letter]


def test_every_letter_of_ours_has_a_spelling():
    """What the package and its notebooks write is never a bare code."""
    from demix_nb import NOTEBOOKS, PACKAGE

    texts = [path.read_text(encoding="utf-8") for path in (*PACKAGE.rglob("*.py"), *NOTEBOOKS.rglob("*.ipynb"))]
    used = {letter for text in texts for letter in text if not letter.isascii()} - set("é")  # of a name
    assert "ρ" in used and not [letter for letter in sorted(used) if "\\" in letters.spelt(letter)]


def test_names_that_differ_stay_apart():
    spelt = ["".join(map(letters.spelt, name)) for name in STRANGE]
    assert all(name.isascii() for name in spelt) and len(set(spelt)) == len(STRANGE)


def output(monkeypatch, encoding):
    """Put standard output and error where they can be read as bytes."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", stream)
    letters.use()
    return raw


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_can_be_shown_is_shown_as_it_is(monkeypatch, encoding):
    raw = output(monkeypatch, encoding)
    table = Table("macro ρ", "Σ αᵢ ≥ 0")
    table.add_row("a → b", "… 数学")
    for text in [*OURS, *STRANGE]:
        print(text)
    Console().print(table)
    told = raw.getvalue().decode(encoding)
    assert "rho" in told or encoding not in ("ascii", "latin-1", "cp1252")
    for letter in OURS:
        try:
            letter.encode(encoding)
        except UnicodeEncodeError:
            assert letter not in told and OURS[letter] in told
        else:
            assert letter in told


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A run that is up to date, with letters in its summary and in its answer."""
    root = two_steps(tmp_path, monkeypatch)
    (step,) = runner.plan(["01"], "small", {})
    step.executed.parent.mkdir(parents=True)
    step.stamp.parent.mkdir(parents=True)
    copy = nbformat.read(step.notebook, as_version=4)
    copy.cells.insert(0, nbformat.v4.new_markdown_cell("# First\n\n**Question.** Which ρ?\n\nThis."))
    nbformat.write(copy, step.executed)
    stamp = f'{{"key": "{step.key()}", "files": {{}}, "seconds": 1.0, "machine": "m", "versions": {{}}, "commit": "c"}}'
    step.stamp.write_text(stamp)
    (step.run_dir / "mixture.yaml").write_text("ρ: 数学", encoding="utf-8")
    frame = store.pd.DataFrame({"value": ["α → 0.5", "≥ 3"]}, index=["macro ρ", "Σ"]).rename_axis("result")
    store.write(frame, step.run_dir / "summary" / "01_first.csv", "summary")
    return root


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_every_command_is_readable_in_any_encoding(finished, monkeypatch, encoding):
    monkeypatch.setattr(__main__, "RUNS", finished / "runs")
    raw = output(monkeypatch, encoding)
    small = ["--profile", "small"]
    assert __main__.main(["run", *small, "01"]) == 0
    closing = raw.getvalue().decode(encoding)
    assert "macro rho" in closing and "alpha -> 0.5" in closing and ">= 3" in closing and "Sigma" in closing
    assert __main__.main(["report", *small]) == 0
    assert "ρ: 数学" in (finished / "runs/small/report/index.html").read_text(encoding="utf-8")
    assert __main__.main(["params"]) == __main__.main(["params", "01"]) == __main__.main(["--help"]) == 0
    for refused in (["run", *small, "ρ≥数"], ["params", "ρ≥数"], ["doctor", "ρ≥数"], ["report", "--run-dir", "ρ≥数"]):
        before = len(raw.getvalue())
        assert __main__.main(refused) == 2
        told = raw.getvalue()[before:].decode(encoding)
        assert "rho>=\\u6570" in told and told.splitlines()[-1].startswith("demix-nb: ")
    assert __main__.main(["report", "-ρ"]) == 2


PROCESS = [sys.executable, "-m", "demix_nb"]
NOWHERE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("setting", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, NOWHERE])
def test_a_dry_run_is_readable_under_any_locale(tmp_path, setting):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "PYTHONIO"))}
    asked = [*PROCESS, "run", "01", "--profile", "smoke", "--run-dir", str(tmp_path / "ρ-数"), "--dry-run"]
    done = subprocess.run(asked, capture_output=True, env=environment | setting)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"rho-" in done.stdout and b"01_components" in done.stdout
