"""What notebooks share: whose claims bind, how a value is quoted."""

import os

import pytest

from demix_nb import FOUND
from demix_nb.running import listing
from demix_nb.running.cells import begin, claimed, with_interval
from demix_nb.study import Study


@pytest.mark.parametrize("builtin", [True, False])
def test_a_claim_binds_our_candidates_where_it_is_wanted(tmp_path, builtin):
    (tmp_path / "study.yaml").write_text(f"training: {{trainer: demix_nb.lab.train, builtin: {builtin}}}\n")
    study = Study.open(tmp_path)
    assert claimed(True, study) is builtin and not claimed(False, study)
    assert not claimed(True, Study.open(tmp_path / "nowhere"))
    (tmp_path / "runs").mkdir()  # beside a run of ours
    (tmp_path / "runs" / "study.yaml").write_text("proxies: {mixtures: m.csv, scores: s.csv}\n")
    assert not claimed(True, Study.open(tmp_path / "runs"))


def test_a_value_is_quoted_with_its_interval_or_said_to_be_undefined():
    assert with_interval(0.912, 0.786, 0.954) == "0.91 [0.79, 0.95]"
    assert with_interval(8.16, 6.71, 9.8, digits=1) == "8.2 [6.7, 9.8]"
    assert with_interval(float("nan"), float("nan"), float("nan"), undefined="undefined (why)") == "undefined (why)"


def test_what_is_looked_at_is_what_was_named_or_found_or_the_run_itself_or_what_is_committed(monkeypatch, capsys):
    def folder(look):
        return str(begin("own", panels=True, profile="laptop", look=look).folder)

    monkeypatch.delenv(FOUND, raising=False)
    assert folder("") == "own" and folder("named") == "named"
    monkeypatch.setenv(FOUND, "found")
    assert folder("") == "found" and folder("named") == "named" and begin("own", panels=True).folder.name == "own"
    monkeypatch.setenv(FOUND, "")
    assert capsys.readouterr().out == "" and folder("named") == "named"
    committed = begin("own", panels=True, profile="laptop", look="")
    assert "no model is live" in capsys.readouterr().out
    assert committed.given == committed.folder and committed.general == "general" and committed.opens


def test_the_newest_finished_run_is_found_and_half_a_run_is_not(tmp_path):
    assert listing.newest(tmp_path) is None
    for age, name in enumerate(("old", "new", "half")):
        for step in ("02_merging", "05_search")[: 1 if name == "half" else 2]:
            stamp = tmp_path / name / "stamps" / f"{step}.json"
            stamp.parent.mkdir(parents=True, exist_ok=True)
            stamp.write_text("{}")
            os.utime(stamp, (age, age))
    assert listing.newest(tmp_path) == tmp_path / "new"
