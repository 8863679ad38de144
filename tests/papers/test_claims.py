"""Claims keep what was said of them, and what is read off tables is what was planted in them."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb import papers, store
from demix_nb.papers.claims import told
from demix_nb.store import Refusal
from demix_nb.study import Study

RESULTS = REPOSITORY / "data" / "results" / "study"
FAMILIES = ["math", "code"]


@pytest.fixture
def claims():
    claims = papers.Claims()
    claims.add("merging is cheap", "6.4 ×", "2.1 ×", np.bool_(True), "whole budgets")
    claims.add("merging is best", "24.0", "48.7", False)
    return claims


def test_claims_stand_in_the_order_they_were_added_with_their_verdicts(claims):
    table = claims.table
    assert list(table.index) == ["merging is cheap", "merging is best"]
    assert table["agrees"].tolist() == [True, False] and table["agrees"].dtype == bool
    assert table.loc["merging is cheap"].tolist() == ["6.4 ×", "2.1 ×", True, "whole budgets"]
    assert claims.agreed == "1 of 2" and len(claims) == 2


def test_a_claim_given_twice_is_refused(claims):
    with pytest.raises(Refusal, match="'merging is best' stands there already; give it once"):
        claims.add("merging is best", "24.0", "20.0", True)
    assert claims.agreed == "1 of 2", "and the first verdict stays"


def test_what_is_written_is_what_is_read(claims, tmp_path):
    study = Study.open(tmp_path)
    shown = claims.write(study, "evidence_demix")
    read = study["evidence_demix"]
    pd.testing.assert_frame_equal(read.fillna(""), shown)
    assert read["agrees"].sum() == 1


def test_no_claims_are_an_empty_table():
    claims = papers.Claims()
    assert claims.agreed == "0 of 0" and claims.table.empty and claims.table.index.name == "claim"


@pytest.mark.parametrize(("name", "rows"), [("evidence_demix", 19), ("evidence_mergemix", 15)])
def test_the_committed_claims_keep_to_the_schema(name, rows):
    table = store.read(RESULTS / f"{name}.csv", store.schema_of(name))
    assert len(table) == rows and table[["printed", "ours"]].notna().all(axis=None)


def test_a_value_is_told_with_its_interval_whatever_else_the_row_has():
    row = pd.Series({"measure": "rho_macro", "high": 0.864, "value": 0.817, "low": 0.759, "tokens": 2.1e6})
    assert told(row) == "0.82 [0.76, 0.86]"
    assert told(row.replace(0.817, np.nan)) == "undefined"


def planted(power=2.0, deltas=(0.02, 0.05, 0.1)):
    """Scores of two mixtures where merging is behind training by 30 δ^power, and mixing by nothing."""
    truth = pd.DataFrame({"math": [2.0, 3.0], "code": [4.0, 3.5]}, index=pd.Index(["0.2", "0.8"], name="mixture"))
    added = {"reference": lambda delta: 0.0, "merged": lambda delta: 30 * delta**power, "mixed": lambda delta: 0.0}
    return pd.concat(
        (truth + gap(delta)).assign(type=kind, share=10 * delta, delta=delta)
        for delta in deltas
        for kind, gap in added.items()
    )


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_planted_gap_is_found(power):
    gaps = papers.behind(planted(power).sample(frac=1, random_state=3), FAMILIES, "share")
    assert gaps["delta"].is_monotonic_increasing and gaps["gap"].to_numpy() == pytest.approx(
        30 * gaps["delta"] ** power
    )
    assert papers.exponent(gaps) == pytest.approx(power)


def test_one_size_of_the_updates_has_no_exponent():
    with pytest.raises(Refusal, match="two sizes of the updates; train components with two budgets"):
        papers.exponent(papers.behind(planted(deltas=(0.1,)), FAMILIES, "share"))


def test_a_merge_as_good_as_training_has_ratio_one_and_a_worse_one_less():
    ratio = papers.merged_over_trained(planted())
    assert list(ratio.columns) == ["code", "math"] and list(ratio.index) == [0.02, 0.05, 0.1]
    assert (ratio.diff().iloc[1:] < 0).all(axis=None) and (ratio < 1).all(axis=None)
    scores = planted()
    same = scores[scores["type"] == "reference"]
    ratio = papers.merged_over_trained(pd.concat([same, same.assign(type="merged")]))
    assert np.allclose(ratio, 1)


def test_the_printed_ratios_stand_at_their_deltas_once_per_budget():
    table = pd.read_csv(REPOSITORY / "data" / "published" / "demix_table12_merge_vs_mix.csv")
    ratio = papers.printed_merged_over_trained(table)
    assert list(ratio.index) == pytest.approx([0.031, 0.069, 0.101, 0.105])
    assert ratio["math"].tolist() == [1.04, 0.96, 0.82, 0.79]


def test_an_order_that_is_kept_has_rho_one_and_a_reversed_one_minus_one():
    shares = np.linspace(0.1, 0.9, 9)
    level = {"reference": shares, "merged": shares**3 + 1, "mixed": -shares}
    curves = pd.concat(
        pd.DataFrame({"math": value, "code": 1.0 - value, "share": shares, "type": kind, "schedule": "constant"})
        for kind, value in level.items()
    )
    order = papers.order_kept(curves.sample(frac=1, random_state=5), FAMILIES)  # the rows' order is no matter
    assert order.loc[("constant", "merged")].tolist() == [1, 1]
    assert order.loc[("constant", "mixed")].tolist() == [-1, -1]
