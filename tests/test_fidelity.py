"""Fidelity is 1 against itself, 0 against noise, and every number has an oracle."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from demix_nb import fidelity
from demix_nb.scored import Scored
from demix_nb.store import Refusal

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


def scored(scores, tasks=TASKS):
    """Scores of mixtures, each another one; their shares do not matter here."""
    table = pd.DataFrame(scores, columns=TASKS.index)
    table = table if isinstance(scores, pd.DataFrame) else table.rename(index="m{:03d}".format)
    share = np.linspace(0, 1, len(table))
    return Scored(pd.DataFrame({"one": share, "other": 1 - share}, index=table.index), table, tasks)


def changed(truth, scores):
    return scored(pd.DataFrame(scores, index=truth.names, columns=TASKS.index))


def shuffled(truth):
    return changed(truth, truth.scores.sample(frac=1, random_state=1).to_numpy())


@pytest.fixture
def references(rng):
    return scored(2 + rng.random((20, 4)))


def test_against_itself_everything_is_perfect(references, rng):
    report = fidelity.compare(references, references, rng=rng, n=200)["value"]
    assert report.filter(like="rho").eq(1).all() and report.filter(like="top25").eq(1).all()
    assert report.filter(like="recovery").eq(1).all()
    assert report["error"] == 0 and report["regret"] == 0


def test_against_shuffled_references_rho_is_near_zero(rng):
    big = scored(2 + rng.random((400, 4)))
    report = fidelity.compare(shuffled(big), big, rng=rng, n=200)
    assert report.loc["rho_macro", "value"] == pytest.approx(0, abs=0.1)
    assert report.loc["rho_macro", "low"] < 0 < report.loc["rho_macro", "high"]


def test_numbers_agree_with_their_definitions(references, rng):
    proxies = changed(references, references.scores + 0.3 + rng.normal(0, 0.2, (20, 4)))
    report = fidelity.compare(proxies, references, rng=rng, n=200)["value"]
    p, r = proxies.families, references.families
    rhos = [spearmanr(p[family], r[family])[0] for family in r]
    assert report["rho_macro"] == pytest.approx(np.mean(rhos))
    assert report["rho_rank"] == pytest.approx(spearmanr(proxies.ranks, references.ranks)[0])
    top = references.ranks.nsmallest(5).index
    assert report["top25_math"] == pytest.approx(spearmanr(p.loc[top, "math"], r.loc[top, "math"])[0])
    assert report["recovery_code"] == pytest.approx(r["code"].mean() / p["code"].mean())
    assert report["regret"] == pytest.approx(references.ranks[proxies.best] - references.ranks.min())
    assert report["error"] == pytest.approx((p - r).abs().to_numpy().mean())


def test_what_is_compared_is_what_both_have_on_the_references_tasks(references, rng):
    few = references.take(range(12)).only(["c1", "m1"])
    more = references.of(references.names[::-1])
    assert fidelity.compare(more, few, rng=rng, n=50)["value"].filter(like="rho_").eq(1).all()


def test_monotone_distortion_keeps_rho_but_not_recovery(references, rng):
    one_each = references.only(["m1", "c1"])
    report = fidelity.compare(changed(references, references.scores**2), one_each, rng=rng, n=50)["value"]
    assert report["rho_macro"] == 1 and report["recovery_macro"] < 0.6


def test_the_interval_of_a_paired_difference_excludes_zero_only_when_it_should(references, rng):
    noisy = (references.scores + rng.normal(0, noise, (20, 4)) for noise in (0.02, 0.6))
    good, bad = (changed(references, scores) for scores in noisy)
    gap = fidelity.paired_difference(good, bad, references, rng=rng, n=300).loc["rho_macro"]
    none = fidelity.paired_difference(good, good, references, rng=rng, n=300).loc["rho_macro"]
    assert gap["low"] > 0 and none[["value", "low", "high"]].eq(0).all()


def test_signal_to_noise_recovers_a_planted_ratio(rng):
    truth = rng.normal(0, 1.0, size=(4000, 4))
    first, second = (truth + rng.normal(0, 0.1, truth.shape) for _ in range(2))
    pair = scored(first), scored(second + 5.0)  # a shift common to all moves no order
    found = fidelity.signal_to_noise(*pair).loc["g1"]
    assert found["noise"] == pytest.approx(0.1, rel=0.05) and found["ratio"] == pytest.approx(10, rel=0.05)
    families = fidelity.signal_to_noise(*(one.by_family() for one in pair))
    assert families.loc["general", "noise"] == pytest.approx(0.1 / 2**0.5, rel=0.05)  # of two tasks' mean


RATIO = pd.Series({"g1": 9.0, "g2": 0.5, "m1": 4.0, "c1": 4.0})


def test_noisy_tasks_leave_the_rank():
    assert list(fidelity.usable(TASKS, RATIO, least=2).index) == ["g1", "m1", "c1"]
    with pytest.raises(Refusal, match="family 'math'"):
        fidelity.usable(TASKS, RATIO.replace({4.0: 0.1}).where(RATIO.index != "c1", 5.0), least=2)


def test_what_is_no_target_does_not_steer_and_what_is_not_known_does():
    targets = TASKS.assign(target=[True, np.nan, False, True])
    assert list(fidelity.usable(targets, RATIO * np.nan, least=2).index) == ["g1", "g2", "c1"]
    assert list(fidelity.usable(targets, RATIO.drop("g1"), least=2).index) == ["g1", "c1"]
    assert list(fidelity.usable(targets, RATIO.replace({4.0: 0.1, 9.0: 0.1}) + 2, least=2).index) == ["g1", "g2", "c1"]
    with pytest.raises(Refusal, match="none of 4 tasks is a target"):
        fidelity.usable(TASKS.assign(target=False), RATIO, least=2)
    assert fidelity.usable(TASKS.iloc[:0], RATIO, least=2).empty


def test_what_chance_orders_as_well_does_not_steer():
    luck = pd.Series({"g1": 0.4, "g2": 0.01, "m1": 0.3, "c1": np.nan})
    assert list(fidelity.usable(TASKS, RATIO * np.nan, least=2, luck=luck, most=0.05).index) == ["g2", "c1"]
    assert list(fidelity.usable(TASKS, RATIO * np.nan, least=2, luck=luck, most=1.0).index) == list(TASKS.index)
    assert list(fidelity.usable(TASKS, RATIO, least=2, luck=luck, most=0.35).index) == ["m1", "c1"]
    with pytest.raises(Refusal, match=r"none of 3 tasks is ordered out of fold better than chance .* raise max_luck"):
        fidelity.usable(TASKS, RATIO, least=2, luck=luck.fillna(0.5), most=0.05)


def test_a_task_that_the_proxies_lack_is_named(references, rng):
    with pytest.raises(Refusal, match="'m1' is missing"):
        fidelity.compare(references.only(["g1", "g2", "c1"]), references, rng=rng)


NOTHING = Scored.none(TASKS)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_of_too_few_references_nothing_is_said(references, rng, rows):
    few = references.take(range(rows)) if rows else NOTHING
    full = fidelity.report([("near", 1.0, references, 1.0)], references, rng=rng)
    for pair in ((references, few), (few, references)):
        assert fidelity.compare(*pair, rng=rng).empty
        assert fidelity.paired_difference(references, *pair, rng=rng).empty
    empty = fidelity.report([("near", 1.0, few, 1.0)], references, rng=rng)
    assert empty.empty and list(empty) == list(full) and empty.index.name == full.index.name
    both = fidelity.report([("far", 1.0, few, 1.0), ("near", 1.0, references, 1.0)], references, rng=rng)
    assert set(both.index) == {"near"} and len(both) == len(full)
    assert fidelity.trust(empty, rows).empty and list(fidelity.trust(empty, rows)) == ["budget", "verdict", "because"]


def test_without_references_at_all_there_is_an_empty_report(rng):
    empty = fidelity.report([], NOTHING, rng=rng)
    assert empty.empty and set(empty) == {"measure", "value", "low", "high", "budget", "tokens"}


@pytest.mark.parametrize("again", [[], [0]], ids=["none", "one"])
def test_noise_is_not_known_where_nothing_was_trained_twice(references, again):
    twice = references.take(again) if again else NOTHING
    found = fidelity.signal_to_noise(references, twice)
    assert found[["noise", "ratio"]].isna().all(axis=None) and found["signal"].gt(0).all()
    assert fidelity.signal_to_noise(NOTHING, NOTHING).isna().all(axis=None)
    assert list(fidelity.usable(TASKS, found["ratio"], least=2).index) == list(TASKS.index)


# --- which tasks are reported together


def asked(suites, in_rank, **more):
    return TASKS.assign(suite=suites, in_rank=in_rank, **more)


def test_the_rank_is_called_by_its_suite_or_ranked():
    assert fidelity.ranked_suite(asked(["a", "b", "b", "b"], [False, True, True, True])) == "b"
    assert fidelity.ranked_suite(asked(["a", "b", "b", "b"], True)) == "ranked"
    assert fidelity.ranked_suite(asked(["a", "b", "b", "b"], False)) == "ranked"


def test_tasks_are_reported_by_suite_by_the_rank_and_by_its_modes():
    def told(tasks):
        return {name: list(chosen) for name, chosen in fidelity.groups(tasks).items()}

    one = asked(["a", "b", "b", "b"], [False, True, False, True])
    assert told(one) == {"b": ["g2", "c1"], "a": ["g1"]}
    modes = ["likelihood", "likelihood", "likelihood", "generated"]
    apart = {"b, likelihood": ["g2"], "b, generated": ["c1"]}
    assert told(one.assign(mode=modes)) == told(one) | apart
    assert told(one.assign(mode="generated")) == told(one)
    whole = {"a": ["g1"], "b": ["g2", "m1", "c1"]}
    assert told(asked(["a", "b", "b", "b"], [True, False, False, True])) == {"ranked": ["g1", "c1"]} | whole
    assert told(asked(["a", "b", "b", "b"], False)) == whole
    units = asked("a", False, unit=["bpb", "acc", "bpb", "bpb"])
    assert told(units) == {"a, bpb": ["g1", "m1", "c1"], "a, acc": ["g2"]}


def test_each_group_has_the_report_of_its_tasks(references, rng):
    kinds = [("near", 1.0, references, 1.0), ("mixed", 1.0, references.only(["g1", "c1"]), 2.0)]
    groups = {"all": list(TASKS.index), "some": ["g1", "c1"], "strange": ["x"]}
    found = fidelity.report_groups(kinds, references, groups, rng=np.random.default_rng(3))
    for name, able in (("all", kinds[:1]), ("some", kinds)):
        own = [(kind, budget, scored.only(groups[name]), cost) for kind, budget, scored, cost in able]
        alone = fidelity.report(own, references.only(groups[name]), rng=np.random.default_rng(3))
        pd.testing.assert_frame_equal(found[found["suite"] == name].drop(columns="suite"), alone)
    assert set(found["suite"]) == {"all", "some"}
    empty = fidelity.report_groups(kinds, NOTHING, groups, rng=rng)
    assert empty.empty and list(empty) == list(found)


# --- trust and cost


def planted_report(rng, noise: float, rows: int = 60):
    """A proxy with so much noise beside a second seed with little, and a shuffled one at two budgets."""
    truth = scored(2 + rng.random((rows, 4)))
    again, near = (changed(truth, truth.scores + sd * rng.standard_normal((rows, 4))) for sd in (0.02, noise))
    kinds = [("near", 1.0, near, 1.0), ("trained", 0.25, shuffled(truth), 1.0), ("trained", 0.5, again, 1.0)]
    return fidelity.report([*kinds, ("ceiling", np.nan, again, np.nan)], truth, rng=rng)


def test_the_trust_gate_follows_its_rule(rng):
    report = planted_report(rng, 0.02)
    assert report.index.name == "proxy" and {"measure", "value", "low", "high", "budget", "tokens"} == set(report)
    good = fidelity.trust(report, 60)
    assert good.loc["near", "verdict"] == "use" and "ceiling" not in good.index
    assert good.loc["trained"].set_index("budget")["verdict"].to_dict() == {0.25: "don't", 0.5: "use"}
    middling = fidelity.trust(planted_report(rng, 0.7), 60).loc["near"]
    assert middling["verdict"] == "use with care" and "a second seed's" in middling["because"]


def test_without_a_second_seed_the_ceiling_is_not_known(rng):
    for noise, verdict in ((0.02, "use"), (0.7, "use with care")):
        whole = planted_report(rng, noise)
        found = fidelity.trust(whole.drop(index="ceiling"), 60).loc["near"]
        assert found["verdict"] == verdict and found["because"].endswith("no second seed: the ceiling is not known")
        assert "a second seed's" not in found["because"]


def test_the_cost_of_equal_trust_is_read_off_the_trained_curve(rng):
    truth = scored(2 + rng.random((60, 4)))

    def off(noise):
        return changed(truth, truth.scores + noise * rng.standard_normal((60, 4)))

    trained = {0.1: off(0.6), 0.2: off(0.2), 0.4: off(0.4), 0.8: off(0.02)}  # the third does worse by chance
    kinds = [("trained", budget, found, 1e7 * budget) for budget, found in trained.items()]
    kinds += [("mixed", 1.0, trained[0.2], 4e5), ("mixed", 0.5, off(0.1), 2e5), ("merged", 1.0, truth, 4e5)]
    kinds += [("mended", 1.0, shuffled(truth), 1e6), ("ceiling", np.nan, off(0.01), np.nan)]
    found = fidelity.tokens_to_reach(iter(kinds), truth, ["error", "rho_macro"], rng=np.random.default_rng(0))
    assert found["measure"].to_list() == ["error"] * 4 + ["rho_macro"] * 4
    found = found[found["measure"] == "rho_macro"]
    assert found["beyond"].to_list() == ["", "", "above", "below"]
    same, between, above, below = found.to_dict("records")
    assert same["trained_tokens"] == pytest.approx(2e6) and same["ratio"] == pytest.approx(5)
    assert same["low"] <= same["ratio"] * (1 + 1e-9) and (above["ratio"], below["ratio"]) == pytest.approx((20, 1))
    told = fidelity.report(kinds, truth, rng=rng).query("measure == 'rho_macro'")["value"].to_list()
    curve = [told[0], told[1], told[1], told[3]]  # a third budget cannot need more to be as good as the second
    spent = np.exp(np.interp(told[5], curve, np.log([1e6, 2e6, 4e6, 8e6])))
    assert between["share"] == 0.5 and between["ratio"] == pytest.approx(spent / 2e5)
    assert between["low"] < between["ratio"] < between["high"]
    with pytest.raises(Refusal, match="two budgets"):
        fidelity.tokens_to_reach(kinds[3:], truth, ["rho_macro"], rng=rng)
    with pytest.raises(Refusal, match="fewer than 4"):
        fidelity.tokens_to_reach(kinds, truth.take(range(3)), ["rho_macro"], rng=rng)
