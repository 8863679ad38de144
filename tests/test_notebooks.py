"""The whole story at profile `smoke`, through the command a user calls: killed twice, resumed, finished, skipped."""

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


def test_a_cap_and_another_predictor_change_only_the_search(story):
    run_dir, _, _ = story
    before = times("models/*/training.json", run_dir)
    printed = Command(run_dir, "search", *ALONE, "-p", "caps={code_cpp: 0.05}").finish()
    assert printed.count("up to date") == 2
    answer = yaml.safe_load((run_dir / "mixture.yaml").read_text())
    assert answer["mixture"]["code_cpp"] <= 0.05 + 1e-6 and answer["caps"] == {"code_cpp": 0.05}
    assert times("models/*/training.json", run_dir) == before


def test_regmix_is_replayed_from_a_folder(shared, tmp_path):
    printed = Command(tmp_path / "run", "paper_regmix", *ALONE, "-p", f"regmix_dir={shared / 'regmix'}").finish()
    assert "[1/1] paper_regmix" in printed
    assert len(times("figures/regmix_*.png", tmp_path / "run")) >= 10


def test_regmix_as_own_runs_trains_nothing_and_predicts_what_was_held_out(shared, tmp_path):
    files = {"mixtures_csv": "train_mixture_1m.csv", "scores_csv": "train_pile_loss_1m.csv"}
    given = [f"{name}={shared / 'regmix' / file}" for name, file in files.items()]
    given += ["learners=[ridge, gaussian_process]", "curve_sizes=[16, 64]", "subsets=2"]
    printed = Command(
        tmp_path / "run", *ALONE, *[part for text in given for part in ("-p", text)], profile="regmix"
    ).finish()
    assert "[1/1] 04_regression" in printed
    found = store.read(tmp_path / "run" / "summary" / "04_regression.csv", "summary")["value"]
    assert found["best predictor out of fold"] == "gaussian_process"
    assert float(found["its mean ρ on held out"]) > 0.95  # ridge has 0.87, always predicting the mean has no order


@pytest.fixture
def own_checkpoints(tmp_path):
    """Three components and their base in a folder beside each other, held-out text, and two tasks of one's own."""
    import fixtures_models as families  # torch, which no other test here needs

    _, base = families.family(tmp_path / "models", families.ARCHITECTURES["qwen3"](), drift=0.002)
    texts = [f"w{n} w{n + 7} w{n + 3} w{2 * n}" for n in range(3, 9)]
    (tmp_path / "text.txt").write_text("\n".join(texts))
    tasks = families.own_tasks(tmp_path / "tasks", [{"text": text, "word": "w5"} for text in texts])
    (tmp_path / "counts.yaml").write_text("mine: {a: 300, b: 100}\nplain: {c: 1.0}\n")
    given = {"components_dir": base.parent, "base_dir": base, "text": tmp_path / "text.txt"}
    given |= {"mixtures_file": tmp_path / "counts.yaml", "save_as": tmp_path / "kept"}
    return given | {"tasks": tasks, "include_path": tmp_path / "tasks", "window": 16, "path_points": 3}


def run_merging(run_dir, given):
    pairs = [part for name, value in given.items() for part in ("-p", f"{name}={value}")]
    printed = Command(run_dir, "02", *ALONE, *pairs).finish()
    assert "[1/1] 02_merging" in printed  # and nothing of notebook 01
    return nbformat.read(run_dir / "notebooks" / "02_merging.ipynb", as_version=4)


def test_merging_stands_alone_on_own_checkpoints(own_checkpoints, tmp_path):
    shown = str(run_merging(tmp_path / "run", own_checkpoints).cells)
    checks = ["checkpoints", "architecture", "tensors", "tokenizer", "dtype", "finite", "model"]
    assert all(check in shown for check in [*checks, "drift", "cosines", "loss barrier", "a → c", "grown by"])
    files = {path.name for path in (tmp_path / "run" / "figures").iterdir()}
    assert files == {"drift.png", "cosines.png"}
    path = store.read(tmp_path / "run" / "tables" / "path_merged_scores.csv", "scores")
    assert list(path.columns) == ["say_word", "word_bits", "heldout_text"] and list(path.index) == [
        "0.00",
        "0.50",
        "1.00",
    ]
    assert "mine: weights summed to 400, divided by it" in shown
    own = store.read(tmp_path / "run" / "tables" / "own_mixture_scores.csv", "scores")
    assert own.loc["plain", "word_bits"] == pytest.approx(path.loc["1.00", "word_bits"])
    assert (
        "| a | 0.75 |" in (tmp_path / "kept" / "README.md").read_text() and (tmp_path / "kept" / "config.json").exists()
    )
    rivals = store.read(tmp_path / "run" / "tables" / "method_scores.csv", "scores")
    assert len(rivals) == 11 and rivals.loc["linear", "word_bits"] == pytest.approx(
        rivals.loc["task_arithmetic", "word_bits"]
    )


def test_without_tasks_and_text_nothing_is_scored_and_all_else_is_shown(own_checkpoints, tmp_path):
    given = {name: own_checkpoints[name] for name in ("components_dir", "path_points")}
    shown = str(run_merging(tmp_path / "run", given).cells)
    assert "nothing is scored: give lm-eval tasks" in shown and "grown by" in shown
    assert not (tmp_path / "run" / "tables").exists()


@pytest.mark.parametrize("step", [name for name in runner.STORY if runner.STEPS[name].needs])
def test_a_notebook_without_its_inputs_says_which_command_makes_them(step, tmp_path):
    cells = nbformat.read(REPOSITORY / "notebooks" / f"{step}.ipynb", as_version=4).cells
    setup = [cell.source for cell in cells if cell.cell_type == "code"][:5]
    namespace = {"show_source": print}
    with pytest.raises(ValueError, match=r"^[^\n]*`demix-nb run[^\n]*$"):
        for number, source in enumerate(setup):
            exec(source, namespace)
            namespace |= {"run_dir": str(tmp_path)} if number == 0 else {}
