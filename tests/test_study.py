"""A study opens what is asked for and nothing else; tables by name, models by role."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb.brought import Brought
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
    for ask in (lambda: study.setting, lambda: study.candidates, lambda: study.bank):
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


def test_what_is_trained_elsewhere_is_not_trained_here(small_study, tmp_path):
    study = Study.open(tmp_path)
    (tmp_path / "setting.json").write_text('{"base": "base", "general": "a"}')
    with pytest.raises(Refusal, match="are not trained here; bring those of role 'reference' along"):
        study.train(small_study.corners, "reference")


def test_natural_shares_are_those_of_the_text_given(small_study):
    table = small_study["corpora"]
    assert (table["tokens"] > table["train_tokens"]).all()
    assert np.allclose(small_study.plain.loc["natural"], table["tokens"] / table["tokens"].sum())


def test_bounds_of_data_bind_the_recipe(small_study):
    tokens, general = small_study.tokens, small_study.setting["general"]
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


def test_brought_checkpoints_are_a_study_without_training(small_study, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("\n".join(small_study.heldout.heldout["math"][:3]))
    folders = {path.name: path for path in small_study.components.folders.values()}
    base = small_study.setting["base"]
    for name, path in (folders | {"base": base}).items():
        (tmp_path / "all" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "all" / name).symlink_to(path)
    study = Brought(tmp_path / "run", checkpoints=tmp_path / "all", base=base, text=text, window=32, n_jobs=1)
    assert study.candidates == sorted(folders) and not study.trains
    merged = study.proxy("merged")(study.corners)
    assert list(merged.scores) == ["heldout_text"]
    assert merged.scores["heldout_text"].idxmin() == "component-math"
    with pytest.raises(Refusal, match="holds 0 component folders beside the base"):
        _ = Brought(tmp_path / "run", checkpoints=tmp_path).candidates


@pytest.mark.parametrize("text", ["{", "[]", '{"general": "a"}'])
def test_a_damaged_setting_is_named(tmp_path, text):
    (tmp_path / "setting.json").write_text(text)
    with pytest.raises(Refusal, match=r"setting.json is damaged .* delete it and run notebook 01 again"):
        _ = Study.open(tmp_path).setting
