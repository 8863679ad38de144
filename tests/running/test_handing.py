"""`demix-nb export`: which shares a file means, and what is refused at the door."""

import pandas as pd
import pytest
import yaml

from demix_nb.__main__ import main
from demix_nb.running import handing
from demix_nb.store import Refusal

NAMES = ["web", "maths", "code"]
SHARES = {"web": 0.5, "maths": 0.3, "code": 0.2}
RECIPE = {"web": 0.75, "maths": 0.15, "code": 0.1}


@pytest.fixture
def desk(tmp_path):
    """A folder with paths, an answer, a table of mixtures and a study of three candidates, diluted by half."""

    def write(name, content):
        (tmp_path / name).write_text(yaml.safe_dump(content, sort_keys=False))

    write("paths.yaml", {name: {"path": f"/d/{name}.jsonl", "tokens": "1e9", "document_tokens": 300} for name in NAMES})
    write("bare.yaml", {"mixture": SHARES})
    write("mixture.yaml", {"found_by": "demix", "mixture": SHARES, "recipe": RECIPE, "beta": 0.5})
    write("phases.yaml", {"phases": [{"part": 0.8, "mixture": SHARES}, {"part": 0.2, "mixture": {"maths": 1}}]})
    pd.DataFrame([SHARES, {"web": 0, "maths": 1, "code": 0}], ["m0", "m1"]).rename_axis("mixture").to_csv(
        tmp_path / "mixtures.csv")  # fmt: skip
    write("study.yaml", {"candidates": {name: {} for name in NAMES}, "general": "web", "beta": 0.5,
                         "references": {"mixtures": "mixtures.csv"}, "run": {"target_tokens": "1e10"}})  # fmt: skip
    return tmp_path


def exported(desk, file, *more, to="megatron"):
    place = desk / "out"
    said = ["export", str(desk / file), "--to", to, "--data", str(desk / "paths.yaml"), "-o", str(place), *more]
    return main(said), place


def blend(folder):
    words = (folder / "data_args.txt").read_text().split()
    return {
        path.split("/")[-1].removesuffix(".jsonl"): float(weight)
        for weight, path in zip(words[::2], words[1::2], strict=True)
    }


def test_a_mixture_alone_is_enough(desk, capsys):
    status, place = exported(desk, "bare.yaml")
    assert status == 0 and blend(place) == pytest.approx(SHARES)
    assert capsys.readouterr().out == f"wrote the mixture for megatron to {place}\n"


def test_what_is_trained_on_is_the_recipe(desk):
    assert blend(exported(desk, "mixture.yaml")[1]) == pytest.approx(RECIPE)
    study = ["--study", str(desk / "study.yaml"), "--force"]
    assert blend(exported(desk, "mixture.yaml", *study)[1]) == pytest.approx(RECIPE), "not diluted twice"
    assert blend(exported(desk, "bare.yaml", *study)[1]) == pytest.approx(RECIPE)


def test_a_table_is_a_folder_for_every_mixture(desk):
    _, place = exported(desk, "mixtures.csv", "--study", str(desk / "study.yaml"))
    assert blend(place / "m0") == pytest.approx(RECIPE) and blend(place / "m1") == {"web": 0.5, "maths": 0.5}


def test_a_study_hands_over_components_and_references(desk, capsys):
    status, place = exported(desk, "study.yaml", "--all", "--tokens", "1e9")
    assert status == 0 and "5 mixtures" in capsys.readouterr().out
    assert sorted(path.name for path in place.iterdir()) == [
        "component-code", "component-maths", "component-web", "reference-m0", "reference-m1"]  # fmt: skip
    assert blend(place / "component-code") == {"web": 0.5, "code": 0.5} and blend(place / "component-web") == {"web": 1}
    assert blend(place / "reference-m0") == pytest.approx(RECIPE)
    (desk / "run").mkdir()
    (desk / "run" / "mixture.yaml").write_text((desk / "mixture.yaml").read_text())
    capsys.readouterr()
    assert blend(exported(desk, "study.yaml", "--force")[1]) == pytest.approx(RECIPE), "its answer"
    assert "'web' is read 7.50 times" in capsys.readouterr().out, "in the run that the study is for"


def test_a_source_that_will_be_exhausted_is_said(desk, capsys):
    exported(desk, "bare.yaml", "--tokens", "4e9", to="litdata")
    told = capsys.readouterr().out
    assert "'web' is read 2.00 times" in told and "the data end with the first source" in told


def test_phases_go_where_they_can(desk, capsys):
    status, place = exported(desk, "phases.yaml", "--tokens", "1e9", "--batch", "64", to="all")
    told = capsys.readouterr().out
    assert status == 0 and sorted(path.name for path in place.iterdir()) == ["levanter", "nanotron"]
    assert "no phases, so left out: megatron, olmo-core" in told
    stages = yaml.safe_load((place / "nanotron" / "data_stages.yaml").read_text())["data_stages"]
    assert [one["start_training_step"] for one in stages] == [1, 3053]
    assert exported(desk, "phases.yaml", "--force")[0] == 2
    assert "Megatron-LM, NeMo has no phases" in capsys.readouterr().err


def test_a_phase_is_diluted_unless_it_is_a_recipe(desk):
    phases = [{"part": 0.5, "mixture": SHARES}, {"part": 0.5, "mixture": SHARES, "recipe": RECIPE}]
    (desk / "phases.yaml").write_text(yaml.safe_dump({"phases": phases}))
    found = handing.asked(desk / "phases.yaml", handing.studyfile.read(desk / "study.yaml"))
    assert all(phase.shares.to_dict() == pytest.approx(RECIPE) for phase in found[""]) and len(found[""]) == 2


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ({"web": "/d/a", "maths": "/d/b"}, "no path for candidate 'code'"),
        ({"web": "/d/a", "maths": "/d/b", "code": "/d/a"}, "/d/a is the path of 'web' and of 'code'"),
        ({"web": {"tokens": 3}}, "candidates.web.path is missing"),
        ({"web": {"path": "/d/a", "token": 3}}, "unknown key 'token'.*did you mean 'tokens'"),
    ],
)
def test_paths_are_refused_by_name(desk, paths, message):
    (desk / "paths.yaml").write_text(yaml.safe_dump(paths))
    with pytest.raises(Refusal, match=message):
        handing.hand_over(desk / "bare.yaml", ["hf"], desk / "paths.yaml", desk / "out", handing.Size(), None)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("phases.yaml", {"phases": [{"part": 0.8}]}, "a phase has no mixture"),
        ("phases.yaml", {"phases": [{"part": "much", "mixture": SHARES}]}, "phase 1 has no number as its `part`"),
        ("table.yaml", {"a/b": SHARES, "c": SHARES}, "'a/b' cannot be a folder's name"),
    ],
)
def test_files_are_refused_by_name(desk, file, content, message):
    (desk / file).write_text(yaml.safe_dump(content))
    with pytest.raises(Refusal, match=message):
        handing.hand_over(desk / file, ["megatron"], desk / "paths.yaml", desk / "out", handing.Size(), None)


def test_a_misspelt_format_is_told_the_nearest(desk, capsys):
    assert exported(desk, "bare.yaml", to="megatorn")[0] == 2
    assert "did you mean megatron" in capsys.readouterr().err
    assert exported(desk, "bare.yaml", "--all")[0] == 2
    assert "is no study file" in capsys.readouterr().err


def test_a_mixture_is_saved_as_a_model(folders, tmp_path, capsys):
    """The command's checkpoint is the bank's merge, of the components that have a share."""
    from safetensors.torch import load_file

    from demix_nb.merging import Bank

    components, base = folders
    content = {"candidates": {name: {"component": str(place)} for name, place in components.items()},
               "base": str(base), "tasks": ["arc_easy_bpb"]}  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump({"mixture": {"a": 0.25, "c": 0.75}}))
    asked = [str(tmp_path / "mixture.yaml"), "--study", str(tmp_path / "study.yaml"), "-o", str(tmp_path / "proxy")]
    assert main(["merge", *asked]) == 0
    assert "saved the linear merge of 2 components" in capsys.readouterr().out
    merged = Bank.load(components, base).merge({"a": 0.25, "c": 0.75})
    saved = load_file(tmp_path / "proxy" / "model.safetensors")
    assert all(saved[name].equal(merged[name]) for name in merged)
    assert main(["merge", *asked, "--method", "tise"]) == 2
    assert "merge method 'tise' is unknown" in capsys.readouterr().err
    (tmp_path / "mixture.yaml").write_text(yaml.safe_dump({"x": {"a": 1}, "y": {"b": 1}}))
    assert main(["merge", *asked]) == 2
    assert "holds 2 mixtures" in capsys.readouterr().err
