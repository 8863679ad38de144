"""Judging predictors: by hand where it can be, and never on what was seen."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import appraisal, mixtures
from demix_nb.evidence import spearman
from demix_nb.runs import Runs, describe

NAMES = ["web", "math", "code"]


def runs(rng, n: int, prefix: str = "m") -> Runs:
    shares = mixtures.sample_uniform(NAMES, n, rng=rng, prefix=prefix)
    scores = pd.DataFrame({"loss": 3 - np.sqrt(shares["math"]) + rng.normal(0, 0.02, n)})
    return Runs(shares, scores, describe(["loss"], unit="nats", higher_is_better=False))


def test_errors_by_hand(rng):
    actual = pd.DataFrame({"loss": [1.0, 2.0, 3.0, 4.0]}, index=list("abcd"))
    off = pd.Series([0.5, 0.5, 0.5, -0.5], index=list("abcd"))
    table = appraisal.errors(actual.add(off, axis=0), actual.iloc[::-1], rng=rng).loc["loss"]
    assert table["mse"] == pytest.approx(0.25) and table["mae"] == pytest.approx(0.5)
    assert table["mean_mse"] == pytest.approx(1.25)
    assert table["rho"] == pytest.approx(spearman(np.array([1.5, 2.5, 3.5, 3.5]), np.arange(4.0)))


def test_learning_curve_learns_and_says_who_refused(rng):
    train, test = runs(rng, 100), runs(rng, 200, "t")
    names = ("ridge", "lightgbm_regmix", "gaussian_process")
    curve = appraisal.learning_curve(names, train, {"unseen": test}, sizes=[12, 60, 100], subsets=3, rng=rng)
    assert curve.groupby("runs")["subset"].nunique().to_dict() == {12: 3, 60: 3, 100: 1}
    refused = curve[curve["rho"].isna()]
    assert set(refused["predictor"]) == {"lightgbm_regmix"} and set(refused["runs"]) == {12}
    assert refused["refused"].str.contains("cannot split 12 rows").all()
    means = appraisal.over_subsets(curve, rng=rng)
    gp = means.xs(("gaussian_process", "unseen"), level=["predictor", "test"])["rho"]
    assert gp[100] > max(gp[12], 0.98)
    row = means.loc[("ridge", 60, "unseen")]
    assert row["low"] <= row["rho"] <= row["high"] and row["subsets"] == 3
    assert np.isnan(means.loc[("ridge", 100, "unseen"), "low"])  # one subset has no spread to speak of


def test_learning_curve_is_the_same_for_any_number_of_workers():
    train, test = (runs(np.random.default_rng(seed), 60) for seed in (0, 1))
    one, two = (
        appraisal.learning_curve(
            ("ridge", "mixing_law"), train, {"t": test}, sizes=[30], subsets=2, rng=np.random.default_rng(4), n_jobs=n
        )
        for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_seen_mixture_is_no_test_under_any_name(rng):
    train, test = runs(rng, 20), runs(rng, 5, "t")
    leak = Runs(pd.concat([test.mixtures, train.mixtures[3:4].rename({"m03": "innocent"})]), test.scores, test.tasks)
    with pytest.raises(ValueError, match=r"'held': 1 of its mixtures are fitted too, first 'innocent'"):
        appraisal.learning_curve(["ridge"], train, {"held": leak}, sizes=[20], subsets=1, rng=rng)
    assert train.shared_with(leak).tolist() == [name == "m03" for name in train.mixtures.index]


def test_cross_validation_shares_its_split_and_says_who_refused(rng):
    table = appraisal.cross_validated(("gaussian_process", "ridge", "lightgbm_demix"), runs(rng, 30), rng=rng)
    assert "cannot split 24 rows" in table.loc[("lightgbm_demix", "loss"), "refused"]
    able = table[table["refused"] == ""].droplevel("task")
    assert (able["mse"] < able["mean_mse"]).all() and able.loc["gaussian_process", "rho"] > 0.9
    twice = [appraisal.cross_validated(n, runs(np.random.default_rng(1), 30), rng=np.random.default_rng(2))
             for n in (("ridge",), ("ridge", "mixing_law"))]  # fmt: skip
    assert twice[0].loc[("ridge", "loss"), "rho"] == pytest.approx(twice[1].loc[("ridge", "loss"), "rho"], abs=0.01)


def test_lead_is_the_paired_difference(rng):
    table = [{"predictor": p, "runs": 64, "subset": s, "test": "1M", "rho": base + 0.01 * s}
             for p, base in (("new", 0.9), ("old", 0.8)) for s in range(5)]  # fmt: skip
    lead = appraisal.lead(pd.DataFrame(table), "new", "old", 64, rng=rng).loc["1M"]
    assert (lead["lead"], lead["low"], lead["high"], lead["subsets"]) == pytest.approx((0.1, 0.1, 0.1, 5))


@pytest.mark.parametrize(("higher", "chosen", "rank", "regret"), [(False, "b", 2, 1.0), (True, "c", 1, 0.0)])
def test_regret_by_hand(higher, chosen, rank, regret):
    actual = pd.DataFrame({"t": [1.0, 2.0, 5.0]}, index=list("abc"))
    predicted = pd.DataFrame({"t": [3.0, 0.0, 4.0]}, index=list("abc"))
    row = appraisal.regret(predicted, actual, pd.Series({"t": higher})).loc["t"]
    assert (row["chosen"], row["rank"], row["of"], row["regret"]) == (chosen, rank, 3, pytest.approx(regret))
    assert row["typical"] == pytest.approx(7 / 3 if higher else 5 / 3)


def test_calibration_of_an_honest_and_a_boastful_spread(rng):
    actual = pd.DataFrame(rng.normal(0, 1, (4000, 2)))
    mean, spread = actual * 0, actual * 0 + 1
    honest = appraisal.calibration(mean, spread, actual)["covered"]
    np.testing.assert_allclose(honest, honest.index, atol=0.02)
    assert (appraisal.calibration(mean, spread / 2, actual)["covered"] < honest).all()
