"""The runner refuses what papermill lets pass, skips what is done, and says where it failed."""

import io
import json

import nbformat
import pytest
from fixtures_running import notebook, set_up, two_steps
from rich.console import Console

from demix_nb.running import execution, runner
from demix_nb.running.given import Given
from demix_nb.running.terminal import Screen
from demix_nb.store import Refusal


def quiet():
    return Screen(Console(file=io.StringIO()))


@pytest.fixture
def root(tmp_path, monkeypatch):
    return two_steps(tmp_path, monkeypatch)


def test_parameters_come_from_notebook_profile_and_command_line(root):
    first, second = runner.plan([], "small", {"rate": "1", "shares": "[3]"})
    assert first.parameters == second.parameters == {"layers": 3, "rate": 1.0, "name": "", "shares": [3]}
    assert first.run_dir == root / "runs/small"
    assert runner.plan([], "small", {"rate": 1, "shares": [3]})[0].parameters == first.parameters


@pytest.mark.parametrize(
    "steps, profile, overrides, message",
    [
        ([], "smal", {}, "no profile 'smal'; did you mean small"),
        ([], "small", {"layrs": "1"}, "no parameter 'layrs'; did you mean layers"),
        ([], "small", {"layers": "many"}, "parameter layers wants int, e.g. 2; got 'many'"),
        ([], "small", {"layers": "true"}, "parameter layers wants int"),
        ([], "small", {"layers": 0}, "layers is 0; it must be a whole number, at least 1"),
        ([], "small", {"rate": "fast"}, "parameter rate wants float, e.g. 0.5; got 'fast'"),
        ([], "small", {"shares": "3"}, "parameter shares wants list"),
        ([], "small", {"shares": "[3"}, r"parameter shares wants list, e.g. \[1, 2\]; got '\[3'"),
        ([], "small", {"run_dir": "/tmp"}, "no parameter 'run_dir'"),
        (["thrd"], "small", {}, "step 'thrd' is unknown"),
        (["0"], "small", {}, "step '0' is ambiguous"),
    ],
)
def test_misspelt_and_mistyped_input_is_refused_before_anything_runs(root, steps, profile, overrides, message):
    with pytest.raises(Refusal, match=message):
        runner.plan(steps, profile, overrides)
    assert not (root / "runs").exists()


def test_a_profile_is_held_to_the_same_rules(root):
    for text, message in {
        "small: {colour: 3}": "no notebook has a parameter 'colour'",
        "small: {layers: -1}": "layers is -1",
        "small: {steps: [third]}": "step 'third' is unknown",
        "small: {steps: first}": "steps wants list",
    }.items():
        (root / "notebooks" / "profiles.yml").write_text(text)
        with pytest.raises(Refusal, match=message):
            runner.plan([], "small", {})


def planned(steps, profile="small", overrides=None):
    return [step.name for step in runner.plan(steps, profile, overrides or {})]


def test_naming_a_step_runs_what_it_needs(root):
    assert planned(["second"]) == ["01_first", "02_second"]
    assert planned(["01"]) == ["01_first"]


def test_a_step_that_is_given_its_input_stands_alone(root):
    assert planned(["second"], overrides={"name": "mine.csv"}) == ["02_second"]
    assert planned(["second"], overrides={"name": ""}) == planned(["second"]) == ["01_first", "02_second"]
    (root / "notebooks" / "profiles.yml").write_text("small: {name: mine.csv}\n")
    assert planned(["second"]) == ["02_second"]


def test_a_profile_may_name_the_steps_it_is_for(root):
    (root / "notebooks" / "profiles.yml").write_text("small: {layers: 3, steps: [01_first]}\n")
    assert planned([]) == ["01_first"] and planned(["02"]) == ["01_first", "02_second"]


def test_small_numbers_may_be_written_as_python_does(root):
    (step,) = runner.plan(["01"], "small", {"rate": "1e-3"})
    assert step.parameters["rate"] == 0.001


def test_a_notebook_is_added_by_adding_its_file(root, monkeypatch):
    (root / "notebooks" / "studies").mkdir()
    set_up(root, monkeypatch, **{"studies/a_study": notebook("1", needs=["02_second"])})
    assert list(runner.STEPS) == ["01_first", "02_second", "a_study"]
    assert planned(["study"]) == ["01_first", "02_second", "a_study"]
    (step,) = (step for step in runner.plan(["study"], "small", {}) if step.name == "a_study")
    assert step.notebook == root / "notebooks" / "studies" / "a_study.ipynb"
    assert step.executed == root / "runs" / "small" / "notebooks" / "a_study.ipynb"


@pytest.mark.parametrize(
    "content, message",
    [("{", "03.ipynb is no notebook"), (notebook("1", needs=["04_fourth"]), "needs '04_fourth', which is no notebook")],
)
def test_a_file_that_cannot_be_a_step_is_named(root, content, message):
    text = content if isinstance(content, str) else nbformat.writes(content)
    (root / "notebooks" / "03.ipynb").write_text(text)
    with pytest.raises(Refusal, match=message):
        runner.notebooks(root / "notebooks")


def test_the_course_runs_first_then_the_studies_then_the_papers():
    folders = [notebook.path.parent.name for notebook in runner.STEPS.values()]
    assert folders == sorted(folders, key=["notebooks", "studies", "papers"].index)
    assert set(runner.STORY) == {name for name, of in zip(runner.STEPS, folders, strict=True) if of == "notebooks"}


@pytest.mark.notebooks
def test_up_to_date_steps_are_skipped_and_changed_ones_are_not(root):
    def log():
        return (root / "runs/small/log").read_text().split()

    def run(names=(), force=False, **overrides):
        return runner.run(runner.plan(names, "small", overrides), force=force, screen=quiet())

    assert all(run().values())
    assert run() == {"01_first": None, "02_second": None} and log() == ["first", "second"]
    (root / "runs/small/tables/out.csv").write_text("tampered")
    run()
    assert log() == ["first", "second", "first"]
    run(layers="4")
    assert log()[3:] == ["first", "second"]
    (root / "package").mkdir()
    (root / "package" / "new.py").write_text("")
    run(["01"], layers="4")
    assert log()[5:] == ["first"]
    run(["01"], force=True, layers="4")
    assert log()[6:] == ["first"]


@pytest.mark.notebooks
def test_a_failed_cell_is_named_with_its_error_and_copy(root):
    with pytest.raises(Refusal) as refused:
        runner.run(runner.plan([], "small", {"layers": 13}), screen=quiet())
    message = str(refused.value)
    assert "02_second failed in cell" in message and "AssertionError" in message and "unlucky" in message
    assert str(root / "runs/small/notebooks/02_second.ipynb") in message
    stamps = root / "runs/small/stamps"
    assert (stamps / "01_first.json").is_file() and not (stamps / "02_second.json").exists()


def test_a_changed_input_file_changes_the_key(root):
    (root / "own.txt").write_text("one")
    (before,) = runner.plan(["01"], "small", {"name": str(root / "own.txt")})
    old = before.key()
    (root / "own.txt").write_text("other text")
    assert before.key() != old


def test_the_number_of_workers_does_not_change_the_key():
    keys = {runner.plan(["03"], "smoke", {"workers": workers})[-1].key() for workers in (1, 2, 8)}
    assert len(keys) == 1 and runner.plan(["03"], "smoke", {"workers": 1, "seed": 1})[-1].key() not in keys


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
    execution.lean(tmp_path / "copy.ipynb")
    stored = json.loads((tmp_path / "copy.ipynb").read_text())
    assert "widgets" not in stored["metadata"] and len(stored["cells"][1]["outputs"]) == 1


def test_results_do_not_go_among_the_text(tmp_path):
    (tmp_path / "law.txt").write_text("text")
    (tmp_path / "study.yaml").write_text("general: law\nbeta: 0.5\ntraining: {corpora: .}\n")
    given = Given.open(tmp_path / "study.yaml")
    with pytest.raises(Refusal, match=r"results would go to .*run, among the text .*; put the text in a folder"):
        runner.plan([], "smoke", {}, given=given)
    assert runner.plan([], "smoke", {}, tmp_path.parent / "elsewhere", given)[0].name == "01_components"


def test_the_profile_of_regmix_learns_its_loss_from_a_study_of_tables(shared, tmp_path):
    names = {"mixtures": "train_mixture_1m.csv", "scores": "train_pile_loss_1m.csv"}
    lines = "".join(f"  {kind}: {shared / 'regmix' / name}\n" for kind, name in names.items())
    (tmp_path / "study.yaml").write_text(f"proxies:\n{lines}")
    steps = {step.name: step for step in runner.plan([], "regmix", {}, given=Given.open(tmp_path / "study.yaml"))}
    assert list(steps) == ["03_proxy_fidelity", "04_regression"]
    assert steps["04_regression"].parameters["targets"] == ["metric/the_pile_pile_cc_val_loss"]
