"""What notebooks share: whose claims bind, whose runs are read, how a value is quoted."""

import json

import pandas as pd
import pytest

from demix_nb.running.cells import begin_on, claimed, with_interval
from demix_nb.study import Study


@pytest.mark.parametrize("builtin", [True, False])
def test_a_claim_binds_our_candidates_where_it_is_wanted(tmp_path, builtin):
    (tmp_path / "setting.json").write_text(json.dumps({"builtin": builtin, "base": "base"}))
    study = Study.open(tmp_path)
    assert claimed(True, study) is builtin and not claimed(False, study)
    assert not claimed(True, Study.open(tmp_path / "nowhere"))


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Three mixtures with two scores each, as somebody has them."""
    names = pd.Index(["x", "y", "z"], name="run")
    pd.DataFrame({"web": [3, 1, 0], "law": [1, 1, 2]}, names).to_csv(tmp_path / "mixtures.csv")
    pd.DataFrame({"arc": [0.3, 0.2, 0.1], "gsm": [0.3, 0.1, 0.2]}, names).to_csv(tmp_path / "scores.csv")
    return [str(tmp_path / "mixtures.csv"), str(tmp_path / "scores.csv")]


def test_runs_of_ones_own_open_as_a_study_for_which_nothing_is_claimed(files, tmp_path):
    (tmp_path / "setting.json").write_text(json.dumps({"builtin": True, "base": "base"}))  # a run of ours beside them
    study = begin_on(str(tmp_path), *files, higher_is_better=True)
    seen = study.scored("search")
    assert seen.mixtures.loc["x"].to_dict() == {"web": 0.75, "law": 0.25} and seen.best == "x"
    assert study.candidates == ["web", "law"] and study.ranked["higher_is_better"].all()
    assert list(study.scored(tasks=study.ranked.loc[["gsm"]]).scores) == ["gsm"]
    assert not claimed(True, study)


def test_without_files_the_runs_are_those_of_the_study(tmp_path):
    assert type(begin_on(str(tmp_path), "", "")) is Study


def test_a_value_is_quoted_with_its_interval_or_said_to_be_undefined():
    assert with_interval(0.912, 0.786, 0.954) == "0.91 [0.79, 0.95]"
    assert with_interval(8.16, 6.71, 9.8, digits=1) == "8.2 [6.7, 9.8]"
    assert with_interval(float("nan"), float("nan"), float("nan"), undefined="undefined (why)") == "undefined (why)"
