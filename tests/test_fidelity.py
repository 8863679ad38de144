"""Fidelity is 1 against itself, 0 against noise, and every number has an oracle."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from demix_nb import fidelity
from demix_nb.fidelity import FidelityError
from demix_nb.ranking import RankingError, family_scores, macro_rank

TASKS = pd.DataFrame(
    {
        "family": ["general", "general", "math", "code"],
        "unit": ["bpb"] * 4,
        "higher_is_better": [False] * 4,
        "items": [50] * 4,
        "chance": [np.nan] * 4,
    },
    index=pd.Index(["g1", "g2", "m1", "c1"], name="task"),
)


@pytest.fixture
def references(rng):
    return pd.DataFrame(2 + rng.random((20, 4)), index=[f"m{i:02d}" for i in range(20)], columns=TASKS.index)


def test_against_itself_everything_is_perfect(references, rng):
    report = fidelity.compare(references, references, TASKS, rng=rng, n=200)["value"]
    assert report.filter(like="rho").eq(1).all() and report.filter(like="top25").eq(1).all()
    assert report.filter(like="recovery").eq(1).all()
    assert report["error"] == 0 and report["regret"] == 0


def test_against_shuffled_references_rho_is_near_zero(rng):
    big = pd.DataFrame(2 + rng.random((400, 4)), columns=TASKS.index)
    shuffled = big.sample(frac=1, random_state=1).set_axis(big.index)
    report = fidelity.compare(shuffled, big, TASKS, rng=rng, n=200)
    assert report.loc["rho_macro", "value"] == pytest.approx(0, abs=0.1)
    assert report.loc["rho_macro", "low"] < 0 < report.loc["rho_macro", "high"]


def test_numbers_agree_with_their_definitions(references, rng):
    proxies = references + 0.3 + rng.normal(0, 0.2, references.shape)
    report = fidelity.compare(proxies, references, TASKS, rng=rng, n=200)["value"]
    p, r = family_scores(proxies, TASKS), family_scores(references, TASKS)
    rhos = [spearmanr(p[family], r[family])[0] for family in r]
    assert report["rho_macro"] == pytest.approx(np.mean(rhos))
    ranks_p, ranks_r = macro_rank(proxies, TASKS), macro_rank(references, TASKS)
    assert report["rho_rank"] == pytest.approx(spearmanr(ranks_p, ranks_r)[0])
    top = ranks_r.nsmallest(5).index
    assert report["top25_math"] == pytest.approx(spearmanr(p.loc[top, "math"], r.loc[top, "math"])[0])
    assert report["recovery_code"] == pytest.approx(r["code"].mean() / p["code"].mean())
    assert report["regret"] == pytest.approx(ranks_r[ranks_p.idxmin()] - ranks_r.min())
    assert report["error"] == pytest.approx((p - r).abs().to_numpy().mean())


def test_monotone_distortion_keeps_rho_but_not_recovery(references, rng):
    report = fidelity.compare(references**2, references, TASKS.loc[["m1", "c1"]], rng=rng, n=50)["value"]
    assert report["rho_macro"] == 1 and report["recovery_macro"] < 0.6


def test_the_interval_of_a_paired_difference_excludes_zero_only_when_it_should(references, rng):
    good, bad = (references + rng.normal(0, noise, references.shape) for noise in (0.02, 0.6))
    gap = fidelity.paired_difference(good, bad, references, TASKS, rng=rng, n=300).loc["rho_macro"]
    none = fidelity.paired_difference(good, good, references, TASKS, rng=rng, n=300).loc["rho_macro"]
    assert gap["low"] > 0 and none[["value", "low", "high"]].eq(0).all()


def test_signal_to_noise_recovers_a_planted_ratio(rng):
    truth = rng.normal(0, 1.0, size=(4000, 1))
    first, second = (pd.DataFrame(truth + rng.normal(0, 0.1, truth.shape), columns=["g1"]) for _ in range(2))
    report = fidelity.signal_to_noise(first, second + 5.0).loc["g1"]  # a shift common to all moves no order
    assert report["noise"] == pytest.approx(0.1, rel=0.05)
    assert report["ratio"] == pytest.approx(10, rel=0.05)


def test_noisy_benchmarks_leave_the_rank(references):
    ratio = pd.Series({"g1": 9.0, "g2": 0.5, "m1": 4.0, "c1": 4.0})
    assert list(fidelity.usable(TASKS, ratio, unit="bpb", least=2).index) == ["g1", "m1", "c1"]
    with pytest.raises(FidelityError, match="family 'math'"):
        fidelity.usable(TASKS, ratio.replace({4.0: 0.1}).where(ratio.index != "c1", 5.0), unit="bpb", least=2)


def test_cost_is_that_of_the_paper():
    assert fidelity.search_cost(7, 30e9) == 210e9
    assert fidelity.search_cost(0, 0, 112, 2e9) == 224e9


def test_too_few_and_missing_are_named(references, rng):
    with pytest.raises(FidelityError, match="share 3 mixtures"):
        fidelity.compare(references.iloc[:3], references, TASKS, rng=rng)
    with pytest.raises(RankingError, match="'m1' is missing"):
        fidelity.compare(references.drop(columns="m1"), references, TASKS, rng=rng)
    with pytest.raises(FidelityError, match="1 mixtures were trained twice"):
        fidelity.signal_to_noise(references, references.iloc[:1])


def scores(rng, rows: int) -> pd.DataFrame:
    return pd.DataFrame(2 + rng.random((rows, 4)), index=[f"m{i:02d}" for i in range(rows)], columns=TASKS.index)


def planted_report(rng, noise: float, rows: int = 60):
    """A proxy with so much noise beside a second seed with little, and a shuffled one."""
    truth = scores(rng, rows)
    again = truth + 0.02 * rng.standard_normal(truth.shape)
    near = truth + noise * rng.standard_normal(truth.shape)
    shuffled = truth.sample(frac=1, random_state=1).set_axis(truth.index)
    kinds = {"near": (near, 1.0), "shuffled": (shuffled, 1.0), "ceiling": (again, np.nan)}
    return fidelity.report(kinds, truth, TASKS, rng=rng)


def test_the_trust_gate_follows_its_rule(rng):
    good = fidelity.trust(planted_report(rng, 0.02), 60)
    assert good.loc["near", "verdict"] == "use" and good.loc["shuffled", "verdict"] == "don't"
    assert "ceiling" not in good.index
    middling = fidelity.trust(planted_report(rng, 0.7), 60).loc["near"]
    assert middling["verdict"] == "use with care" and "a second seed's" in middling["because"]


def test_a_difference_needs_enough_mixtures_too(rng):
    few = scores(rng, 3)
    with pytest.raises(FidelityError, match="share 3 mixtures"):
        fidelity.paired_difference(few, few, few, TASKS, rng=rng)


def test_the_cost_of_equal_trust_is_read_off_the_trained_curve():
    tokens = {"trained-0.1": 1e6, "trained-0.2": 2e6, "trained-0.4": 4e6, "merged": 5e5, "good": 1e6, "poor": 1e6}
    values = [0.5, 0.7, 0.6, 0.6, 0.9, 0.3]  # the third budget does worse by chance: it cannot cost more to reach 0.6
    report = pd.DataFrame({"measure": "rho_macro", "value": values, "tokens": tokens.values()}, index=list(tokens))
    found = fidelity.tokens_to_reach(report, "rho_macro")
    assert found.loc["merged", "trained_tokens"] == pytest.approx(1e6 * 2**0.5)
    assert found.loc["merged", "ratio"] == pytest.approx(2 * 2**0.5)
    assert found["beyond"].to_dict() == {"merged": "", "good": "above", "poor": "below"}
    with pytest.raises(FidelityError, match="two budgets"):
        fidelity.tokens_to_reach(report.drop(index=["trained-0.2", "trained-0.4"]), "rho_macro")
