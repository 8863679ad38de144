"""A study opens what is asked for and nothing else; tables by name, models by role."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb.running.given import Given
from demix_nb.store import Refusal
from demix_nb.study import Study


def test_tables_are_read_and_written_by_name_and_checked(tmp_path):
    study = Study.open(tmp_path)
    table = pd.DataFrame({"a": [0.25, 1.0]}, index=pd.Index(["x", "y"], name="mixture"))
    study["some_mixtures"] = table
    pd.testing.assert_frame_equal(study["some_mixtures"], table)
    assert "some_mixtures" in study and "quality" not in study
    with pytest.raises(Refusal, match=r"no table at .*quality.csv; run the notebook"):
        study["quality"]
    with pytest.raises(Refusal, match=r"quality.csv: .*'mixture', expected 'model'"):
        study["quality"] = table
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["some_mixtures.csv"]


def test_tables_may_be_given_and_what_is_written_stays_apart(tmp_path):
    table = pd.DataFrame({"a": [0.25], "b": [0.75]}, index=pd.Index(["x"], name="mixture"))
    Study.open(tmp_path / "theirs")["named_mixtures"] = table
    study = Study.open(tmp_path / "mine", given=tmp_path / "theirs" / "tables")
    pd.testing.assert_frame_equal(study["named_mixtures"], table)
    study["named_mixtures"] = 0 * table + 0.5
    pd.testing.assert_frame_equal(study["named_mixtures"], table)
    assert (tmp_path / "mine" / "tables" / "named_mixtures.csv").is_file()


def test_opening_imports_no_torch_and_a_folder_without_a_study_says_what_to_run(tmp_path):
    code = f"""if True:
        import sys
        from demix_nb.study import Study
        study = Study.open({str(tmp_path)!r})
        print(*{{"torch", "transformers", "lm_eval", "sklearn", "seaborn"}} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    study = Study.open(tmp_path)
    for ask in (lambda: study.file, lambda: study.candidates, lambda: study.bank):
        with pytest.raises(Refusal, match="demix-nb run"):
            ask()


def test_models_are_trained_once_under_their_role_and_budget(small_study):
    design = small_study.region.draw(2, rng=np.random.default_rng(8), prefix="s")
    models = small_study.train(design, "short", budget=0.25)
    assert [path.name for path in models.folders.values()] == ["short-0.25-s0", "short-0.25-s1"]
    assert (models.records["kind"] == "short").all() and set(models.records["tokens"]) == {1280}
    before = {path: (path / "training.json").stat().st_mtime_ns for path in models.folders.values()}
    again = small_study.train(design, "short", budget=0.25)
    assert {path: (path / "training.json").stat().st_mtime_ns for path in again.folders.values()} == before
    both = models + small_study.train(design.rename(index=str.upper), "short", budget=0.25)
    assert list(both.folders) == ["s0", "s1", "S0", "S1"] and len(both.records) == 4


def brought(small_study, folder, **more):
    """The models of the small study as somebody else's: a study file, checked at the door, in a run's folder."""
    folder.mkdir(parents=True)
    text = {name: f"{name}.jsonl" for name in small_study.candidates}
    for name, documents in small_study.heldout.heldout.items():
        (folder / text[name]).write_text("\n".join(json.dumps({"text": document}) for document in documents))
    content = {
        "candidates": {name: {"component": str(path)} for name, path in small_study.components.folders.items()},
        "base": str(small_study.file.base), "window": 32, "tasks": [{"heldout": text}],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(content | more, sort_keys=False))
    opened = Given.open(folder / "study.yaml")
    opened.install(opened.folder)
    return Study.open(opened.folder, n_jobs=1)


def test_what_is_trained_elsewhere_is_not_trained_here(small_study, tmp_path):
    study = brought(small_study, tmp_path / "team")
    assert study.folder == tmp_path / "team" / "run" and not study.trains and study.opens
    models = study.train(study.corners, "reference")
    assert len(models) == 0 and not models.folders and list(models.records) == list(small_study.start.records)
    assert len(study.design(16, rng=np.random.default_rng(0))) == 0
    measured = study.measure(models)
    assert len(measured) == 0 and list(measured.scores) == list(study.tasks.index)


def test_checkpoints_of_others_are_a_study(small_study, tmp_path):
    study = brought(small_study, tmp_path / "team")
    assert study.candidates == small_study.candidates and study.general is None and study.beta == 1
    ours, theirs = small_study.proxy("merged")(study.corners), study.proxy("merged")(study.corners)
    pd.testing.assert_frame_equal(theirs.scores, ours.scores[list(theirs.scores)], rtol=1e-6)
    really = study.measure(study.components).scores
    for kind in study.kinds:
        pd.testing.assert_frame_equal(study.proxy(kind)(study.corners).scores, really, rtol=1e-5)
    assert theirs.scores["heldout_math"].idxmin() == ours.scores["heldout_math"].idxmin() == "math"
    assert study.recipe(study.corners.loc["math"])["math"] == 1


def test_references_are_models_or_scores_or_not_there(small_study, tmp_path):
    design = small_study.corners.set_axis(["x", "y", "z"])
    trained = small_study.train(design, "reference")
    (tmp_path / "refs.csv").parent.mkdir(exist_ok=True)
    design.to_csv(tmp_path / "refs.csv", index_label="mixture")
    places = {name: str(path) for name, path in trained.folders.items()}
    as_models = {"mixtures": str(tmp_path / "refs.csv"), "checkpoints": places}
    study = brought(small_study, tmp_path / "models", references=as_models)
    drawn = study.design(9, rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(drawn, design.rename_axis("mixture"), check_names=False)
    measured = study.measure(study.train(drawn, "reference"))
    measured.scores.to_csv(tmp_path / "scores.csv", index_label="mixture")
    as_scores = {"mixtures": str(tmp_path / "refs.csv"), "scores": str(tmp_path / "scores.csv")}
    again = brought(small_study, tmp_path / "scores", references=as_scores)
    taken = again.measure(again.train(drawn, "reference"))
    pd.testing.assert_frame_equal(taken.scores, measured.scores, check_names=False)
    assert len(again.brought["replicate"]) == 0


def test_natural_shares_are_those_of_the_text_given(small_study):
    table = small_study["corpora"]
    assert (table["tokens"] > table["train_tokens"]).all()
    assert np.allclose(small_study.plain.loc["natural"], table["tokens"] / table["tokens"].sum())


def test_bounds_of_data_bind_the_recipe(small_study):
    tokens, general = small_study.tokens, small_study.general
    target = 1.2 * float(tokens.sum())
    region = small_study.bounded({}, max_epochs=2.0, target_tokens=target)
    drawn = region.draw(50, rng=np.random.default_rng(0))
    recipes = drawn.apply(small_study.recipe, axis=1)
    assert (recipes * target <= 2.0 * tokens * (1 + 1e-6)).all(axis=None)
    assert region.upper[general] < region.upper.drop(general).max()
    with pytest.raises(Refusal, match="give both or neither"):
        small_study.bounded({}, max_epochs=2.0)


def test_unknown_kinds_are_named(small_study):
    with pytest.raises(Refusal, match="no kind of proxy 'ensemble'; there are merged"):
        small_study.proxy("ensemble")


def test_the_answer_is_whole(small_study):
    path = small_study.answer({"mixture": {"a": 0.5, "ü": 0.5}})
    assert yaml.safe_load(path.read_text()) == {"mixture": {"a": 0.5, "ü": 0.5}}
    assert [file.name for file in small_study.folder.glob("*mixture*")] == ["mixture.yaml"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "must map keys to values; it holds a list"),
        ("genral: a", "key 'genral'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, told):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(Refusal, match=rf"study\.yaml.*{told}"):
        _ = Study.open(tmp_path).file


def test_a_study_trained_here_opens_on_the_processor_wherever_it_is(small_study, monkeypatch):
    monkeypatch.setattr("demix_nb.devices._gpus", lambda: ["cuda:0"])
    opened = Study.open(small_study.folder, n_jobs=2)
    assert (opened.store.device, opened.store.n_jobs) == ("cpu", 2)
