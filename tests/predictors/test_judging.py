"""Judging predictors: by hand where it can be, and never on what was seen."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demix_nb import store
from demix_nb.intervals import spearman
from demix_nb.predictors import (
    PREDICTORS,
    Judge,
    appraisal,
    check_enough,
    coverage,
    errors,
    lead,
    luck,
    over_subsets,
    regret,
    unlearnt,
)
from demix_nb.region import Region
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal

NAMES = ["web", "math", "code"]


def runs(rng, n: int, prefix: str = "m") -> Scored:
    shares = Region(NAMES).draw(n, rng=rng, prefix=prefix)
    scores = pd.DataFrame({"loss": 3 - np.sqrt(shares["math"]) + rng.normal(0, 0.02, n)})
    return Scored(shares, scores, describe(["loss"], unit="nats", higher_is_better=False))


def scored(table: pd.DataFrame, higher_is_better: bool = False) -> Scored:
    """These scores, of mixtures that do not matter."""
    shares = pd.DataFrame(1 / 3, table.index, NAMES)
    return Scored(shares, table, describe(table.columns, unit="nats", higher_is_better=higher_is_better))


@pytest.fixture
def judge(rng) -> Judge:
    return Judge(runs(rng, 60), {"unseen": runs(rng, 80, "t"), "few": runs(rng, 20, "f")}, np.random.default_rng(3))


def test_errors_by_hand(rng):
    actual = pd.DataFrame({"loss": [1.0, 2.0, 3.0, 4.0]}, index=list("abcd"))
    off = pd.Series([0.5, 0.5, 0.5, -0.5], index=list("abcd"))
    table = errors(scored(actual.add(off, axis=0)), scored(actual.iloc[::-1]), rng=rng).loc["loss"]
    assert table["mse"] == pytest.approx(0.25) and table["mae"] == pytest.approx(0.5)
    assert table["mean_mse"] == pytest.approx(1.25)
    assert table["rho"] == pytest.approx(spearman(np.array([1.5, 2.5, 3.5, 3.5]), np.arange(4.0)))


def test_a_learning_curve_rises_and_says_who_refused(judge, rng):
    judge = Judge(runs(rng, 100), {"unseen": judge.tests["unseen"]}, rng)
    names = ("ridge", "lightgbm_regmix", "gaussian_process")
    trials = judge.trials(names, sizes=[12, 60, 100], subsets=3)
    assert trials.groupby("runs")["subset"].nunique().to_dict() == {12: 3, 60: 3, 100: 1}
    curve = judge.learning_curve(names, sizes=[12, 60, 100], subsets=3)
    assert list(curve) == ["runs", "test", "rho", "low", "high", "subsets", "refused"]
    refused = curve[curve["rho"].isna()]
    assert set(refused.index) == {"lightgbm_regmix"} and set(refused["runs"]) == {12}
    assert refused["refused"].str.contains("needs 40 runs, not 12").all()
    assert (curve["refused"] == "")[curve["rho"].notna()].all()
    process = curve.loc["gaussian_process"].set_index("runs")["rho"]
    assert process[100] > max(process[12], 0.98)
    ridge = curve.loc["ridge"].set_index("runs")
    assert ridge.loc[60, "low"] <= ridge.loc[60, "rho"] <= ridge.loc[60, "high"] and ridge.loc[60, "subsets"] == 3
    assert np.isnan(ridge.loc[100, "low"])  # one subset has no spread to speak of


def test_over_subsets_averages_tasks_first(rng):
    trials = pd.DataFrame({"predictor": "p", "runs": 9, "test": "t", "subset": [0, 0, 1, 1, 2, 2], "refused": "",
                           "rho": [0.1, 0.3, 0.3, 0.5, 0.5, 0.7]})  # fmt: skip
    row = over_subsets(trials, rng=rng).loc["p"]
    assert (row["rho"], row["low"], row["high"], row["subsets"]) == pytest.approx((0.4, 0.2, 0.6, 3))


def test_answers_depend_neither_on_workers_nor_on_what_was_asked_before(judge):
    names = ("ridge", "mixing_law")
    first = judge.trials(names, sizes=[30], subsets=2)
    judge.held_out(["ridge"])
    again = replace(judge, n_jobs=2).trials(names, sizes=[30], subsets=2)
    pd.testing.assert_frame_equal(first, again, check_exact=True)


def test_a_seen_mixture_is_no_test_under_any_name(rng):
    train, test = runs(rng, 20), runs(rng, 5, "t")
    shares = pd.concat([test.mixtures[:4], train.mixtures[3:4].rename({"m03": "innocent"})])
    leak = Scored(shares, test.scores.set_axis(shares.index), test.tasks)
    with pytest.raises(Refusal, match=r"'held': 1 of its mixtures are fitted too, first 'innocent'"):
        Judge(train, {"fine": test, "held": leak}, rng)


def test_cross_validation_shares_its_split_and_says_who_refused(rng):
    judge = Judge(runs(rng, 30), {}, rng)
    table = judge.cross_validated(("gaussian_process", "ridge", "lightgbm_demix"))
    assert "needs 40 runs, not 24" in table.loc[("lightgbm_demix", "loss"), "refused"]
    able = table[table["refused"] == ""].droplevel("task")
    assert (able["mse"] < able["mean_mse"]).all() and able.loc["gaussian_process", "rho"] > 0.9
    alone = judge.cross_validated(("ridge",))  # another stream of its own, but the same folds
    assert alone.loc[("ridge", "loss"), "rho"] == pytest.approx(table.loc[("ridge", "loss"), "rho"], abs=0.01)


def test_held_out_errors_are_those_of_the_predictions(judge):
    table = judge.held_out(["gaussian_process"])
    rows = judge.predictions(["gaussian_process"])
    assert list(rows) == ["predictor", "test", "task", "predicted", "true"] and len(rows) == 100
    for test, mine in rows.groupby("test"):
        error = ((mine["predicted"] - mine["true"]) ** 2).mean()
        assert table.loc[("gaussian_process", test, "loss"), "mse"] == pytest.approx(error)
        assert error < 0.25 * table.loc[("gaussian_process", test, "loss"), "mean_mse"]
    direct = judge.fitted("gaussian_process").predict(judge.tests["few"].mixtures).scores["loss"]
    pd.testing.assert_series_equal(rows[rows["test"] == "few"]["predicted"], direct, check_names=False)


def test_predictions_keep_tasks_and_truth_together(rng):
    def two(n, prefix):
        one = runs(rng, n, prefix)
        return Scored(one.mixtures, one.scores.assign(web=one.mixtures["web"]),
                      describe(["web", "loss"], unit="", higher_is_better=False))  # fmt: skip

    judge = Judge(two(30, "m"), {"t": two(9, "t")}, rng)
    rows = judge.predictions(["ridge"])
    for task, mine in rows.groupby("task"):
        pd.testing.assert_series_equal(mine["true"], judge.tests["t"].scores[task], check_names=False)
    assert (rows[rows["task"] == "web"].eval("predicted - true").abs() < 0.05).all()


def test_shuffled_scores_teach_nothing(judge):
    rho = [replace(judge, rng=np.random.default_rng(seed)).shuffled("gaussian_process").loc[("unseen", "loss"), "rho"]
           for seed in range(8)]  # fmt: skip
    assert (
        abs(np.nanmean(rho))
        < 0.35
        < judge.held_out(["gaussian_process"]).loc[("gaussian_process", "unseen", "loss"), "rho"]
    )


def test_lead_is_the_paired_difference(rng):
    table = [{"predictor": p, "runs": 64, "subset": s, "test": "1M", "rho": base + 0.01 * s}
             for p, base in (("new", 0.9), ("old", 0.8)) for s in range(5)]  # fmt: skip
    found = lead(pd.DataFrame(table), "new", "old", 64, rng=rng).loc["1M"]
    assert (found["lead"], found["low"], found["high"], found["subsets"]) == pytest.approx((0.1, 0.1, 0.1, 5))


@pytest.mark.parametrize(("higher", "chosen", "rank", "cost"), [(False, "b", 2, 1.0), (True, "c", 1, 0.0)])
def test_regret_by_hand(higher, chosen, rank, cost):
    actual = scored(pd.DataFrame({"t": [1.0, 2.0, 5.0]}, index=list("abc")), higher)
    predicted = scored(pd.DataFrame({"t": [3.0, 0.0, 4.0]}, index=list("abc")), higher)
    row = regret(predicted, actual).loc["t"]
    assert (row["chosen"], row["rank"], row["of"], row["regret"]) == (chosen, rank, 3, pytest.approx(cost))
    assert row["typical"] == pytest.approx(7 / 3 if higher else 5 / 3)


def test_the_judge_knows_what_a_choice_costs(judge):
    row = judge.regret(["gaussian_process"], "few").loc[("gaussian_process", "loss")]
    truth = judge.tests["few"].scores["loss"]
    assert row["regret"] == pytest.approx(truth[row["chosen"]] - truth.min()) and row["regret"] < row["typical"]


def test_an_appraisal_by_hand():
    names = [f"m{i}" for i in range(5)]
    shares = pd.DataFrame({"web": [0.0, 0.2, 0.45, 0.8, 1.0]}, names).assign(math=lambda t: 1 - t["web"], code=0.0)
    tasks = describe(["t"], unit="nats", higher_is_better=False)
    truth = Scored(shares, pd.DataFrame({"t": [1.0, 2.0, 3.0, 4.0, 5.0]}, names), tasks)
    guess = replace(truth, scores=pd.DataFrame({"t": [2.5, 2.0, 3.0, 4.0, 5.0]}, names))
    spread = pd.DataFrame({"t": [0.5, 2.0, 0.1, 0.1, 0.1]}, names)  # m1 may be 4.6, m0 3.1, m2 3.1
    row = appraisal(guess, spread, truth).loc["t"]
    deviation = np.sqrt(2.0)
    assert row["rho"] == pytest.approx(0.9)
    assert row["regret single"] == pytest.approx(1 / deviation)  # m1
    assert row["regret robust"] == pytest.approx(2 / deviation)  # m2, at 3.13, before m0 at 3.14
    assert row["regret average"] == pytest.approx(2 / deviation)  # of all five the mean is 0.49, nearest m2
    assert row["typical"] == pytest.approx(2 / deviation)
    assert row["covered"] == pytest.approx(4 / 5)  # m0 is 1.5 off, 0.82 are allowed
    assert row["error"] == pytest.approx((1.5**2 / 5) / 2)
    alone = appraisal(guess, None, truth).loc["t"]
    assert alone[["regret robust", "covered"]].isna().all()
    pd.testing.assert_series_equal(alone.drop(["regret robust", "covered"]), row.drop(["regret robust", "covered"]))


def test_the_judge_appraises_by_the_same_measures(judge):
    table = judge.appraisal(["ridge", "gaussian_process"], "few")
    process, test = judge.fitted("gaussian_process"), judge.tests["few"]
    direct = appraisal(process.predict(test.mixtures), process.spread(test.mixtures), test).loc["loss"]
    np.testing.assert_allclose(table.loc["gaussian_process"], direct)
    regrets = judge.regret(["ridge"], "few")["regret"].item() / test.scores["loss"].std(ddof=0)
    assert table.loc["ridge", "regret single"] == pytest.approx(regrets) and np.isnan(table.loc["ridge", "covered"])


# --- luck


def noisy(rng, n: int) -> Scored:
    """A task that a plane orders, one that only a surface does, twenty of noise alone, and one that is constant."""
    shares = Region(NAMES).draw(n, rng=rng)
    bowl = ((shares["math"] - shares["math"].mean()).abs() * 9).pow(2)
    scores = pd.DataFrame({"plane": shares["web"] + rng.normal(0, 0.05, n), "bowl": bowl, "same": 1.0}, shares.index)
    noise = pd.DataFrame(rng.normal(size=(n, 20)), shares.index, [f"noise{i}" for i in range(20)])
    scores = pd.concat([scores, noise], axis=1)
    return Scored(shares, scores, describe(scores.columns, unit="", higher_is_better=False))


def test_luck_tells_what_can_be_learnt_from_noise(rng):
    found = luck(noisy(rng, 60), rng=rng)
    assert found["plane"] < 1e-4 and found["bowl"] < 1e-3 and found["same"] == 1
    noise = found[[name for name in found.index if name.startswith("noise")]]
    assert (noise <= 0.05).sum() <= 3 and found.between(0, 1).all()


def test_luck_is_the_same_for_any_workers_and_not_known_of_nothing(rng):
    seen = noisy(rng, 30).only(["bowl", "noise0"])
    first, again = (luck(seen, rng=np.random.default_rng(1), n_jobs=jobs) for jobs in (1, 2))
    pd.testing.assert_series_equal(first, again, check_exact=True)
    assert luck(Scored.none(seen.tasks, NAMES), rng=rng).isna().all()
    assert luck(seen.take(range(4)), rng=rng).isna().all(), "too few to be held out in turn"


def test_coverage_of_an_honest_and_a_boastful_spread(rng):
    actual = pd.DataFrame(rng.normal(0, 1, (4000, 2)), [f"m{i}" for i in range(4000)], ["a", "b"])
    mean, spread = scored(actual * 0), actual * 0 + 1
    honest = coverage(mean, spread, scored(actual))
    np.testing.assert_allclose(honest["covered"], honest["level"], atol=0.02)
    assert (coverage(mean, spread / 2, scored(actual))["covered"] < honest["covered"]).all()


def test_coverage_is_a_table_of_all_that_have_a_spread(judge):
    names = [name for name, row in PREDICTORS.items() if row.spread]
    table = judge.coverage(names)
    assert list(table) == ["level", "covered"] and set(table.index) == set(names) and len(table) == 15
    process = judge.fitted("gaussian_process")
    alone = coverage(process.predict(judge.tests["few"].mixtures), process.spread(judge.tests["few"].mixtures),
                     judge.tests["few"])  # fmt: skip
    np.testing.assert_array_equal(judge.coverage(["gaussian_process"], "few"), alone)


def test_answers_are_tables_that_can_be_kept(judge, tmp_path):
    answers = {
        "learning": judge.learning_curve(["ridge", "lightgbm_demix"], sizes=[12], subsets=3),
        "predictions": judge.predictions(["ridge"]),
        "coverage": judge.coverage(["gaussian_process"]),
    }
    for schema, table in answers.items():
        again = store.read(store.write(table, tmp_path / f"{schema}.csv", schema), schema)
        numbers = table.select_dtypes("number")
        pd.testing.assert_frame_equal(again[list(numbers)], numbers)


# --- what cannot be learnt


def test_the_other_tasks_are_fitted_where_one_is_constant(rng):
    def with_more(given):
        rare = np.where(np.arange(len(given)) == 3, 0.006, 0.0)  # one run passes one item
        scores = given.scores.assign(never=0.0, rarely=rare, other=given.mixtures["web"])
        return Scored(given.mixtures, scores, describe(scores.columns, unit="", higher_is_better=False))

    judge = Judge(with_more(runs(rng, 60)), {"unseen": with_more(runs(rng, 40, "t"))}, rng)
    names = ["ridge", "gaussian_process"]
    folded = judge.cross_validated(names)
    assert list(folded.index) == [(name, task) for name in names for task in ("loss", "never", "rarely", "other")]
    assert set(unlearnt(folded)) == {"never", "rarely"} and "constant over" in unlearnt(folded)["never"]
    assert (folded.xs("loss", level="task")["rho"] > 0.8).all() and folded.xs("never", level="task")["rho"].isna().all()
    alone = judge.only(["loss", "other"]).cross_validated(names)
    pd.testing.assert_frame_equal(folded.loc[alone.index].dropna(axis=1), alone.dropna(axis=1), check_dtype=False)
    curve = judge.learning_curve(names, sizes=[20, 60], subsets=2)
    assert curve["rho"].notna().all() and (curve["refused"] == "").all()


def test_too_few_runs_say_how_many_are_needed(rng):
    test = {"unseen": runs(rng, 20, "t")}
    with pytest.raises(Refusal, match=r"5 mixtures .*, 7 are needed \(gaussian_process learns from 5"):
        Judge(runs(rng, 5), test, rng).cross_validated(["gaussian_process", "lightgbm_regmix"])
    assert (Judge(runs(rng, 7), test, rng).cross_validated(["gaussian_process"])["refused"] == "").all()
    with pytest.raises(Refusal, match="test set 'held out': 2 mixtures tell no order, 3 are needed"):
        Judge(runs(rng, 60), {"held out": runs(rng, 2, "t")}, rng)


def test_what_is_said_to_be_enough_is(rng):
    """The number in the refusal is the least with which the split, the folds and the test all go through."""
    names = ["gaussian_process", "lightgbm_regmix"]
    with pytest.raises(Refusal, match=r"7 mixtures are too few to judge by, (\d+) are needed") as refused:
        check_enough(runs(rng, 7), names, held=1 / 3)
    needed = int(str(refused.value).split(", ")[1].split()[0])
    with pytest.raises(Refusal, match=f"{needed} are needed"):
        check_enough(runs(rng, needed - 1), names, held=1 / 3)
    check_enough(seen := runs(rng, needed), names, held=1 / 3)
    train, held = seen.split(1 / 3, rng=rng)
    assert (Judge(train, {"held out": held}, rng).cross_validated(["gaussian_process"])["refused"] == "").all()
    again = seen.take(list(range(needed - 1)))
    twice = Scored(again.mixtures.rename(lambda n: n + "b"), again.scores.rename(lambda n: n + "b"), again.tasks)
    with pytest.raises(Refusal, match=f"{needed - 1} mixtures are too few"):
        check_enough(again + twice, names, held=1 / 3)


def test_a_mixture_with_several_seeds_is_one_in_a_test(rng):
    test = runs(rng, 20, "t")
    again = Scored(test.mixtures.rename(lambda n: n + "b"), test.scores.rename(lambda n: n + "b") + 0.2, test.tasks)
    judge = Judge(runs(rng, 60), {"twice": test + again}, rng)
    assert len(judge.tests["twice"]) == 20
    np.testing.assert_allclose(judge.tests["twice"].scores, test.scores + 0.1)


# --- nothing held out


LEARNERS = ("ridge", "gaussian_process")
QUESTIONS = {
    "held_out": lambda judge, names: judge.held_out(names),
    "shuffled": lambda judge, names: judge.shuffled("ridge"),
    "trials": lambda judge, names: judge.trials(names, sizes=[12], subsets=3),
    "learning_curve": lambda judge, names: judge.learning_curve(names, sizes=[12], subsets=3),
    "predictions": lambda judge, names: judge.predictions(names),
    "coverage": lambda judge, names: judge.coverage(names[1:]),
    "appraisal": lambda judge, names: judge.appraisal(names),
    "regret": lambda judge, names: judge.regret(names),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_without_a_test_set_every_answer_has_its_columns_and_no_rows(judge, question):
    ask = QUESTIONS[question]
    whole = ask(judge, LEARNERS)
    for tests in ({}, {"references": Scored.none(judge.train.tasks, NAMES)}):
        nothing = ask(replace(judge, tests=tests), LEARNERS)
        assert len(whole) and nothing.empty and set(nothing) == set(whole) and nothing.index.names == whole.index.names
        assert list(nothing) == list(whole) or question == "trials", "whose order no file keeps"


@pytest.mark.parametrize("question", ["held_out", "predictions", "coverage", "appraisal", "regret"])
def test_whoever_is_not_asked_says_nothing(judge, question):
    assert QUESTIONS[question](judge, ()).empty


def test_a_test_set_of_no_mixtures_is_left_out(judge):
    more = replace(judge, tests={**judge.tests, "references": Scored.none(judge.train.tasks)})
    pd.testing.assert_frame_equal(more.held_out(["ridge"]), judge.held_out(["ridge"]))


def test_nothing_is_too_little_to_judge_by(judge):
    with pytest.raises(Refusal, match="0 mixtures are too few to judge by"):
        check_enough(Scored.none(judge.train.tasks, NAMES), ["ridge"])
    with pytest.raises(Refusal, match="0 mixtures are too few to judge by"):
        replace(judge, train=Scored.none(judge.train.tasks, NAMES)).cross_validated(["ridge"])
