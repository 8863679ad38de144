"""The runner refuses what papermill lets pass, skips what is done, and says where it failed."""

import json

import nbformat
import pytest

from demix_nb import __main__, runner
from demix_nb.runner import RunError

FIRST = 'run_dir = "x"\nsize = 2\nrate = 0.5\nname = ""\nshares = [1, 2]'


def notebook(*cells, parameters=FIRST):
    made = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.v4.new_notebook(cells=made + [nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)


WRITE = """
from pathlib import Path
folder = Path(run_dir) / "tables"
folder.mkdir(parents=True, exist_ok=True)
(folder / "out.csv").write_text(str(size))
log = Path(run_dir) / "log"
log.write_text((log.read_text() if log.exists() else "") + "first ")
"""
READ = """
from pathlib import Path
assert size != 13, "unlucky"
log = Path(run_dir) / "log"
log.write_text(log.read_text() + "second ")
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    for folder in ("notebooks", "demix_nb", "data/tasks"):
        (tmp_path / folder).mkdir(parents=True)
    nbformat.write(notebook(WRITE), tmp_path / "notebooks" / "01_first.ipynb")
    nbformat.write(notebook(READ), tmp_path / "notebooks" / "02_second.ipynb")
    (tmp_path / "notebooks" / "profiles.yml").write_text("small: {size: 3}\nlarge: {}\n")
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    monkeypatch.setattr(runner, "STEPS", {"01_first": (), "02_second": ("01_first",)})
    monkeypatch.setattr(runner, "STORY", ("01_first", "02_second"))
    return tmp_path


def test_parameters_come_from_notebook_profile_and_command_line(root):
    first, second = runner.plan([], "small", {"rate": "1", "shares": "[3]"})
    assert first.parameters == second.parameters == {"size": 3, "rate": 1.0, "name": "", "shares": [3]}
    assert first.run_dir == root / "data/runs/small"


@pytest.mark.parametrize(
    "steps, profile, overrides, message",
    [
        ([], "smal", {}, "no profile 'smal'; did you mean small"),
        ([], "small", {"sise": "1"}, "no parameter 'sise'; did you mean size"),
        ([], "small", {"size": "many"}, "parameter size wants int, e.g. 2; got 'many'"),
        ([], "small", {"size": "true"}, "parameter size wants int"),
        ([], "small", {"rate": "fast"}, "parameter rate wants float, e.g. 0.5; got 'fast'"),
        ([], "small", {"shares": "3"}, "parameter shares wants list"),
        ([], "small", {"shares": "[3"}, r"parameter shares wants list, e.g. \[1, 2\]; got '\[3'"),
        ([], "small", {"run_dir": "/tmp"}, "no parameter 'run_dir'"),
        (["thrd"], "small", {}, "step 'thrd' is unknown"),
        (["0"], "small", {}, "step '0' is ambiguous"),
    ],
)
def test_misspelt_and_mistyped_input_is_refused_before_anything_runs(root, steps, profile, overrides, message):
    with pytest.raises(RunError, match=message):
        runner.plan(steps, profile, overrides)
    assert not (root / "data" / "runs").exists()


def test_a_profile_that_names_a_stranger_is_refused(root):
    (root / "notebooks" / "profiles.yml").write_text("small: {colour: 3}\n")
    with pytest.raises(RunError, match="no notebook has a parameter 'colour'"):
        runner.plan([], "small", {})


def planned(steps, profile="small", overrides=None):
    return [step.name for step in runner.plan(steps, profile, overrides or {})]


def test_naming_a_step_runs_what_it_needs(root):
    assert planned(["second"]) == ["01_first", "02_second"]
    assert planned(["01"]) == ["01_first"]


def test_a_step_that_is_given_its_input_stands_alone(root, monkeypatch):
    monkeypatch.setattr(runner, "STANDALONE", ("name",))
    assert planned(["second"], overrides={"name": "mine.csv"}) == ["02_second"]
    assert planned(["second"], overrides={"name": ""}) == planned(["second"]) == ["01_first", "02_second"]
    (root / "notebooks" / "profiles.yml").write_text("small: {name: mine.csv}\n")
    assert planned(["second"]) == ["02_second"]


@pytest.mark.parametrize("step, parameter", [("02", "components_dir"), ("04", "mixtures_csv"), ("06", "mixtures_csv")])
def test_own_files_spare_the_training(step, parameter):
    assert len(planned([step], "laptop")) > 1
    assert planned([step], "laptop", {parameter: "mine"}) == [runner.step_of(step)]


def test_a_profile_may_name_the_steps_it_is_for(root):
    (root / "notebooks" / "profiles.yml").write_text("small: {size: 3, steps: [01_first]}\n")
    assert planned([]) == ["01_first"] and planned(["02"]) == ["01_first", "02_second"]
    (root / "notebooks" / "profiles.yml").write_text("small: {steps: [third]}\n")
    with pytest.raises(RunError, match="step 'third' is unknown"):
        planned([])
    (root / "notebooks" / "profiles.yml").write_text("small: {steps: first}\n")
    with pytest.raises(RunError, match="steps wants list"):
        planned([])


def test_small_numbers_may_be_written_as_python_does(root):
    (step,) = runner.plan(["01"], "small", {"rate": "1e-3"})
    assert step.parameters["rate"] == 0.001


@pytest.mark.notebooks
def test_up_to_date_steps_are_skipped_and_changed_ones_are_not(root):
    def log():
        return (root / "data/runs/small/log").read_text().split()

    steps = runner.plan([], "small", {})
    assert all(runner.run(steps, say=str).values())
    assert runner.run(steps, say=str) == {"01_first": None, "02_second": None} and log() == ["first", "second"]
    (root / "data/runs/small/tables/out.csv").write_text("tampered")
    runner.run(runner.plan([], "small", {}), say=str)
    assert log() == ["first", "second", "first"]
    runner.run(runner.plan([], "small", {"size": "4"}), say=str)
    assert log()[3:] == ["first", "second"]
    (root / "demix_nb" / "new.py").write_text("")
    runner.run(runner.plan(["01"], "small", {"size": "4"}), say=str)
    assert log()[5:] == ["first"]
    runner.run(runner.plan(["01"], "small", {"size": "4"}), force=True, say=str)
    assert log()[6:] == ["first"]


@pytest.mark.notebooks
def test_a_failed_cell_is_named_with_its_error_and_copy(root, capsys):
    status = __main__.main(["run", "--profile", "small", "-p", "size=13"])
    message = capsys.readouterr().err
    assert status == 1 and "02_second failed in cell" in message and "AssertionError" in message
    assert "unlucky" in message and str(root / "data/runs/small/notebooks/02_second.ipynb") in message
    stamps = root / "data/runs/small/stamps"
    assert (stamps / "01_first.json").is_file() and not (stamps / "02_second.json").exists()


def test_a_target_that_cannot_be_written_is_named(root, capsys):
    (root / "file").write_text("")
    assert __main__.main(["run", "--profile", "small", "--run-dir", str(root / "file" / "run")]) == 1
    assert "cannot write to" in capsys.readouterr().err


def test_a_parameter_without_value_is_refused(root, capsys):
    assert __main__.main(["run", "--profile", "small", "-p", "size"]) == 1
    assert "write -p name=value" in capsys.readouterr().err


def test_a_changed_input_file_changes_the_key(root):
    (root / "own.txt").write_text("one")
    (before,) = runner.plan(["01"], "small", {"name": str(root / "own.txt")})
    old = before.key()
    (root / "own.txt").write_text("other text")
    assert before.key() != old


@pytest.mark.parametrize("profile", runner.profiles())
def test_every_profile_fits_the_real_notebooks(profile):
    steps = planned([], profile)
    assert set(steps) >= set(runner.profiles()[profile].get("steps", runner.STORY))
    assert steps == [step for step in runner.STEPS if step in steps]


def test_lean_copies_lose_widgets_only(tmp_path):
    copy = notebook("1")
    view = nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}})
    text = nbformat.v4.new_output("display_data", {"text/plain": "kept"})
    copy.cells[1].outputs = [view, text]
    copy.metadata["widgets"] = {"state": "x" * 1000}
    nbformat.write(copy, tmp_path / "copy.ipynb")
    runner.lean(tmp_path / "copy.ipynb")
    stored = json.loads((tmp_path / "copy.ipynb").read_text())
    assert "widgets" not in stored["metadata"] and len(stored["cells"][1]["outputs"]) == 1
