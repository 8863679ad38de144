"""Studies of what somebody else has, through the notebooks and with no parameter beside the file: they read well."""

import json
import os
import re
from pathlib import Path

import fixtures_studies as studies
import nbformat
import pytest
import yaml
from commands import ALONE, Command

from demix_nb import store

pytestmark = pytest.mark.notebooks
APART = """
import sys

class Apart:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[:2] in (["demix_nb", "lab"], ["demix_nb", "papers"]):
            raise ImportError(f"{name} is not for the core")

sys.meta_path.insert(0, Apart())
"""


def run(file: Path, *steps: str, run_dir: Path, env: dict[str, str] | None = None) -> str:
    """Run a study file's notebooks at `smoke`, which say how little is scored; all else is in the file."""
    return Command(run_dir, "--study", str(file), *steps, *ALONE, env=env).finish()


def outputs(run_dir: Path) -> dict[str, list]:
    """Return step → all outputs of its executed copy."""
    read = {path.stem: nbformat.read(path, as_version=4) for path in sorted((run_dir / "notebooks").glob("*.ipynb"))}
    return {
        step: [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        for step, notebook in read.items()
    }


def texts(found: list) -> str:
    """Return what outputs print and show as text."""
    printed = [output.text for output in found if output.output_type == "stream"]
    return "\n".join([*printed, *(str(output.get("data", {}).get("text/plain", "")) for output in found)])


def is_quiet(run_dir: Path) -> None:
    for step, found in outputs(run_dir).items():
        assert not [one.text for one in found if one.output_type == "stream" and one.name == "stderr"], step
        assert not [one for one in found if one.output_type == "error"], step
        assert "Empty DataFrame" not in texts(found), step


@pytest.fixture(scope="module")
def no_lab(tmp_path_factory):
    """The environment of processes in which the lab and the papers cannot be imported."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "sitecustomize.py").write_text(APART)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def seven(tmp_path_factory, no_lab):
    """Seven checkpoints with references as models, and the folder of a run through all notebooks."""
    folder = tmp_path_factory.mktemp("seven")
    file = studies.checkpoints(folder, references=True)
    return file, folder / "run", run(file, run_dir=folder / "run", env=no_lab)


def test_seven_checkpoints_go_through_all_notebooks(seven):
    _, run_dir, printed = seven
    assert re.findall(r"(?m)^\[\d/7\] (\d\d)_\w+ +\d+\.\d s$", printed) == [f"{number:02d}" for number in range(2, 9)]
    is_quiet(run_dir)
    answer = yaml.safe_load((run_dir / "mixture.yaml").read_text())
    assert answer["evidence"] == "references" and answer["beta"] == 1 and answer["mixture"] == answer["recipe"]
    assert sum(answer["mixture"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["rank"]["place"] >= 1 and set(answer["scored"]) == set(answer["units"]) == {"general", "math", "code"}
    fidelity = store.read(run_dir / "tables" / "fidelity.csv", "fidelity")
    assert {"merged", "mixed", "ceiling"} == set(fidelity.index)
    assert fidelity.query("suite == 'ranked' and measure == 'rho_macro'").loc["merged", "value"] > 0.5
    tasks = store.read(run_dir / "tables" / "tasks.csv", "tasks")
    assert tasks.loc["say_word", "mode"] == "generated" and not tasks.loc["say_word", "in_rank"]
    assert tasks.drop(index="say_word")["mode"].eq("likelihood").all()
    shown = str(outputs(run_dir)["02_merging"])
    checks = ("checkpoints", "architecture", "tensors", "tokenizer", "dtype", "finite", "model", "drift", "cosines")
    assert all(told in shown for told in (*checks, "loss barrier", "web → papers", "grown by"))
    path = store.read(run_dir / "tables" / "path_merged_scores.csv", "scores")
    assert list(path.index)[:: len(path) - 1] == ["0.00", "1.00"] and list(path) == list(tasks.index)
    rivals = store.read(run_dir / "tables" / "method_scores.csv", "scores")
    assert len(rivals) == 11
    assert rivals.loc["linear", "word_bits"] == pytest.approx(rivals.loc["task_arithmetic", "word_bits"])


@pytest.mark.cluster
def test_a_cluster_named_in_the_file_writes_the_same_tables(seven, tmp_path):
    """Started once for the run, and gone with it; each kernel finds it."""
    file, run_dir, _ = seven
    printed = run(studies.changed(file, engine={"dask": "local"}), "03", run_dir=tmp_path / "run")
    is_quiet(tmp_path / "run")
    assert "can run code" not in printed, "it listens on the loopback interface alone"
    tables = sorted(path.name for path in (tmp_path / "run" / "tables").glob("*.csv"))
    assert {"fidelity.csv", "reference_scores.csv", "merged_scores.csv"} <= set(tables)
    for name in tables:
        assert (tmp_path / "run" / "tables" / name).read_bytes() == (run_dir / "tables" / name).read_bytes(), name
    assert len(list((tmp_path / "run" / "cache" / "suites").glob("*.pickle"))) >= 1


def test_references_as_scores_say_the_same_as_the_models(seven, tmp_path):
    file, run_dir, _ = seven
    content = yaml.safe_load(file.read_text())["references"]
    first, second = (str(run_dir / "tables" / f"{name}_scores.csv") for name in ("reference", "replicate"))
    given = {"mixtures": content["mixtures"], "scores": first, "replicates": second}
    other = studies.changed(file, references=given)
    run(other, "03", run_dir=tmp_path / "run")
    is_quiet(tmp_path / "run")
    places = (run_dir, tmp_path / "run")
    ours, theirs = (store.read(place / "tables" / "fidelity.csv", "fidelity") for place in places)
    assert ours["value"].round(6).equals(theirs["value"].round(6)) and len(ours)


def test_without_references_nothing_is_validated_and_what_to_train_is_said(seven, tmp_path):
    file, _, _ = seven
    printed = run(studies.changed(file, references=None), "03", "05", "07", run_dir=tmp_path / "run")
    is_quiet(tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "mixture.yaml").read_text())["evidence"] == "none"
    assert "none: no proxy is validated" in printed
    assert store.read(tmp_path / "run" / "tables" / "fidelity.csv", "fidelity").empty
    telling = store.read(tmp_path / "run" / "tables" / "telling_mixtures.csv", "mixtures")
    assert len(telling) == 8 and list(telling) == list(studies.CANDIDATES)
    assert "named_mixtures.csv says what to train" in texts(outputs(tmp_path / "run")["07_mixture_quality"])


def test_tables_of_runs_go_through_all_notebooks(shared, tmp_path, no_lab):
    given = {"mixtures": str(shared / "regmix" / "train_mixture_1m.csv")}
    given |= {"scores": str(shared / "regmix" / "train_pile_loss_1m.csv")}
    losses = ["metric/the_pile_pile_cc_val_loss"]
    (tmp_path / "regmix.yaml").write_text(yaml.safe_dump({"proxies": given, "tasks": losses}))
    run(tmp_path / "regmix.yaml", run_dir=tmp_path / "run", env=no_lab)
    is_quiet(tmp_path / "run")
    found = store.read(tmp_path / "run" / "summary" / "04_regression.csv", "summary")["value"]
    assert found["best predictor out of fold"] == "gaussian_process"
    assert float(found["its mean ρ on held out"]) > 0.95  # ridge has 0.87, always predicting the mean has no order
    answer = yaml.safe_load((tmp_path / "run" / "mixture.yaml").read_text())
    assert answer["found_by"] == "demix, table" and answer["evidence"] == "none" and answer["proxies"] == 512
    assert len(answer["mixture"]) == 17 and set(answer["predicted"]) == set(losses)


def test_two_files_of_text_are_trained_by_notebook_01_and_judged(tmp_path):
    for name, words in (("rivers", "the river ran slowly past an old town"), ("sums", "three and four are seven")):
        lines = [{"text": f"{words} {n} {words[::-1]} {n * n} {words.title()} {n**3}"} for n in range(900)]
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
    training = {"corpora": "texts", "megabytes": 0.05, "heldout_kb": 4, "vocab_size": 300, "suites": ["heldout"],
                "steer": "heldout", "base_tokens": 20000, "component_tokens": 10000}  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"general": "rivers", "beta": 0.5, "training": training}))
    printed = run(tmp_path / "study.yaml", "07", run_dir=tmp_path / "run")
    assert "[1/4] 01_components" in printed and "[4/4] 07_mixture_quality" in printed
    is_quiet(tmp_path / "run")
    answer = yaml.safe_load((tmp_path / "run" / "mixture.yaml").read_text())
    assert set(answer["mixture"]) == {"rivers", "sums"} and answer["evidence"] == "references"
    assert answer["recipe"]["rivers"] == pytest.approx(0.5 + answer["mixture"]["rivers"] / 2, abs=1e-5)
