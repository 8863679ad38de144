"""The whole story at profile `smoke`, through the command a user calls: killed twice, resumed, finished, skipped."""

import shutil

import nbformat
import pytest
import yaml
from commands import ALONE, REPOSITORY, SCORED, Command, times

from demix_nb import store
from demix_nb.mixtures import recipe
from demix_nb.running import runner

pytestmark = pytest.mark.notebooks


def test_nothing_that_was_finished_is_done_again(story):
    run_dir, _, left = story
    assert len(left["models"]) >= 10 and len(left["scores"]) >= SCORED
    assert {path: path.stat().st_mtime_ns for path in left["models"]} == left["models"]
    assert {path: path.stat().st_mtime_ns for path in left["scores"]} == left["scores"]
    assert not list(run_dir.glob("models/.*/training.json")), "half a model lies about"


def test_the_run_ends_with_a_mixture_and_one_table(story):
    run_dir, printed, _ = story
    for number, step in enumerate(runner.STORY, start=1):
        assert f"[{number}/{len(runner.STORY)}] {step}" in printed
    assert "macro ρ" in printed and "demix, mixed beats uniform and natural" in printed
    answer = yaml.safe_load((run_dir / "mixture.yaml").read_text())
    mixture = store.read(run_dir / "tables" / "named_mixtures.csv", "mixtures").loc[answer["found_by"]]
    assert answer["mixture"] == pytest.approx(mixture.to_dict(), abs=1e-5)
    assert answer["recipe"] == pytest.approx(recipe(mixture, "general", 0.5).to_dict(), abs=1e-5)


@pytest.mark.parametrize("step", runner.STORY)
def test_executed_copies_are_lean_and_quiet(story, step):
    path = story[0] / "notebooks" / f"{step}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert path.stat().st_size < 2e6 and "widgets" not in notebook.metadata
    noise = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    assert noise == []
    drawn = {kind for output in outputs for kind in output.get("data", {})}
    assert drawn & {"image/png", "application/vnd.plotly.v1+json"}


def test_a_second_run_does_nothing(story):
    run_dir, _, _ = story
    before = times("tables/*.csv", run_dir)
    printed = Command(run_dir).finish()
    assert printed.count("up to date") == len(runner.STORY)
    assert times("tables/*.csv", run_dir) == before


def test_the_file_that_notebook_01_wrote_is_a_study_like_any_other(story, tmp_path):
    """In a copy of the story's folder: stamps of steps then name the file."""
    run_dir = shutil.copytree(story[0], tmp_path / "run", ignore=shutil.ignore_patterns("run.lock"))
    printed = Command(run_dir, "--study", str(run_dir / "study.yaml"), "04", *ALONE).finish()
    assert "04_regression" in printed and "01_components" not in printed


def test_a_cap_and_another_predictor_change_only_the_search(story):
    run_dir, _, _ = story
    before = times("models/*/training.json", run_dir)
    printed = Command(run_dir, "search", *ALONE, "-p", "caps={code_cpp: 0.05}").finish()
    assert printed.count("up to date") == 2
    answer = yaml.safe_load((run_dir / "mixture.yaml").read_text())
    assert answer["mixture"]["code_cpp"] <= 0.05 + 1e-6 and answer["bounds"] == {"upper": {"code_cpp": 0.05}}
    assert times("models/*/training.json", run_dir) == before


def test_regmix_is_replayed_from_a_folder(shared, tmp_path):
    printed = Command(tmp_path / "run", "paper_regmix", *ALONE, "-p", f"regmix_dir={shared / 'regmix'}").finish()
    assert "[1/1] paper_regmix" in printed
    assert len(times("figures/regmix_*.png", tmp_path / "run")) >= 10


def test_mixtures_of_ones_own_are_scored_and_kept(story, tmp_path):
    run_dir = story[0]
    (tmp_path / "counts.yaml").write_text("mine: {general: 300, code_cpp: 100}\nplain: {code_cpp: 1.0}\n")
    given = ("-p", f"mixtures_file={tmp_path / 'counts.yaml'}", "-p", f"save_as={tmp_path / 'kept'}")
    Command(run_dir, "02", *ALONE, *given).finish()
    shown = str(nbformat.read(run_dir / "notebooks" / "02_merging.ipynb", as_version=4).cells)
    assert "mine: weights summed to 400, divided by it" in shown and "grown by" in shown
    own = store.read(run_dir / "tables" / "own_mixture_scores.csv", "scores")
    components = store.read(run_dir / "tables" / "component_scores.csv", "scores")
    assert own.loc["plain"].to_dict() == pytest.approx(components.loc["code_cpp", own.columns].to_dict())
    assert "| general | 0.75 |" in (tmp_path / "kept" / "README.md").read_text()
    assert (tmp_path / "kept" / "config.json").exists()
    rivals = store.read(run_dir / "tables" / "method_scores.csv", "scores")
    equal = rivals.loc["task_arithmetic"].to_dict()
    assert len(rivals) == 11 and rivals.loc["linear"].to_dict() == pytest.approx(equal)


@pytest.mark.parametrize("step", [name for name in runner.STORY if runner.STEPS[name].needs])
def test_a_notebook_without_its_inputs_says_which_command_makes_them(step, tmp_path):
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{step}.ipynb", as_version=4).cells
    setup = [cell.source for cell in cells if cell.cell_type == "code"][:5]
    namespace = {"show_source": print}
    with pytest.raises(ValueError, match=r"^[^\n]*`demix-nb run[^\n]*$"):
        for number, source in enumerate(setup):
            exec(source, namespace)
            namespace |= {"run_dir": str(tmp_path)} if number == 0 else {}
