"""What notebooks share: whose claims bind, how a value is quoted."""

import pytest

from demix_nb.running.cells import claimed, with_interval
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
