"""Effects against derivatives known by hand, nulls against what they must not find."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demix_nb import interactions, mixtures, store
from demix_nb.predictors import PREDICTORS
from demix_nb.region import Region
from demix_nb.scored import Scored, dealt, describe
from demix_nb.store import Refusal

NAMES = ["web", "books", "math", "code"]
COEFFICIENTS = pd.DataFrame({"loss": [0.3, -0.1, -1.0, 0.5], "accuracy": [0.0, 0.4, 0.1, -0.2]}, index=NAMES)
TASKS = describe(["loss", "accuracy"], unit="", higher_is_better=False).assign(higher_is_better=[False, True])
UNIFORM = mixtures.uniform(NAMES)


class Known:
    """A predictor whose function is given."""

    def __init__(self, function):
        self.function = function

    def predict(self, table):
        scores = self.function(mixtures.validate(table, NAMES))
        return Scored(table, scores, TASKS.loc[list(scores)])


@pytest.fixture
def seen(rng) -> Scored:
    shares = Region(NAMES).draw(120, rng=rng)
    return Scored(shares, shares @ COEFFICIENTS + rng.normal(0, 0.05, (120, 2)), TASKS)


def test_linear_effects_are_coefficients_against_the_centre():
    predictor, centre = Known(lambda table: table @ COEFFICIENTS), pd.Series([0.4, 0.3, 0.2, 0.1], NAMES)
    expected = (COEFFICIENTS - centre @ COEFFICIENTS) * [-1, 1]
    found = interactions.effects(predictor, centre)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.loc["math", "loss"] > 0 > found.loc["code", "accuracy"]  # helps: less loss; hurts: less accuracy


def test_one_solve_gives_what_the_ridge_predictor_gives(seen, rng):
    predictor = PREDICTORS["ridge"].new(rng=rng).fit(seen)
    penalties = pd.Series({task: model.alpha_ for task, model in predictor.regressors.items()})
    fast = interactions.linear_effects(seen, penalties)
    np.testing.assert_allclose(fast, interactions.effects(predictor, UNIFORM), atol=1e-8)
    assert fast.sum().abs().max() < 1e-9  # a share is won from the others


def test_linear_predictors_have_no_second_differences(seen, rng):
    predictor = PREDICTORS["ridge"].new(rng=rng).fit(seen)
    table = interactions.pairs(predictor, UNIFORM)
    assert table.shape == (6, 2) and np.abs(table).max(axis=None) < 1e-8


def test_second_differences_of_a_product_are_its_hessian():
    predictor = Known(lambda table: pd.DataFrame({"loss": -table["web"] * table["math"]}))
    table = interactions.square(interactions.pairs(predictor, UNIFORM)["loss"])
    direction = pd.DataFrame(np.eye(4) - 0.25, NAMES, NAMES)  # eᵢ − c
    for a, b in [("web", "math"), ("web", "code"), ("books", "code")]:
        u, v = direction[a], direction[b]
        assert table.loc[a, b] == pytest.approx(u["web"] * v["math"] + u["math"] * v["web"])
    pd.testing.assert_frame_equal(table, table.T)
    assert list(table) == NAMES and np.isnan(np.diag(table)).all()


def test_a_curved_predictor_finds_the_planted_pair(seen, rng):
    scores = pd.DataFrame({"loss": 3 - 2 * seen.mixtures["books"] * seen.mixtures["code"]})
    predictor = PREDICTORS["gaussian_process"].new(rng=rng).fit(Scored(seen.mixtures, scores, TASKS.loc[["loss"]]))
    assert interactions.pairs(predictor, UNIFORM)["loss"].idxmax() == ("books", "code")


def test_candidates_that_no_run_tried_are_left_out(seen):
    others = seen.mixtures.drop(columns="code")
    shares = others.div(others.sum(axis=1), axis=0).mul(0.95).assign(code=0.05)
    names = interactions.reached(shares)
    assert names == ["web", "books", "math"]
    predictor = Known(lambda table: table @ COEFFICIENTS)
    some, every = (interactions.effects(predictor, UNIFORM, names=given) for given in (names, None))
    pd.testing.assert_frame_equal(some, every.loc[names])
    assert len(interactions.pairs(predictor, UNIFORM, names=names)) == 3


def test_no_name_is_none_and_not_all():
    predictor = Known(lambda table: table @ COEFFICIENTS)
    with pytest.raises(Refusal, match="0 candidates are named, 1 are needed"):
        interactions.effects(predictor, UNIFORM, names=[])
    with pytest.raises(Refusal, match="1 candidates are named, 2 are needed"):
        interactions.pairs(predictor, UNIFORM, names=["web"])
    with pytest.raises(Refusal, match="no candidate 'law'"):
        interactions.effects(predictor, UNIFORM, names=["law"])


def test_a_step_stays_among_the_runs(rng):
    many = pd.DataFrame(rng.dirichlet(np.full(50, 100.0), 20), columns=[f"c{i}" for i in range(50)])
    step = interactions.step_of(many)
    assert step == 0.02 and len(interactions.reached(many, step=step)) > 1
    assert len(interactions.reached(many, step=0.05)) <= 1, "a larger one would leave them"
    with pytest.raises(Refusal, match=r"the largest shares are 'c\d+' 0.000"):
        interactions.step_of(many / 40)


def test_a_task_without_spread_is_refused_by_name(seen):
    flat = replace(seen, scores=seen.scores.assign(loss=0.3))
    with pytest.raises(Refusal, match="120 mixtures score alike on 'loss'"):
        interactions.scaled(flat)


def ridge_effect(seen: Scored) -> pd.DataFrame:
    return interactions.linear_effects(seen, pd.Series(0.01, seen.tasks.index))


def test_planted_effects_are_significant_and_shuffled_ones_are_not(seen, rng):
    null = interactions.permutation_null(ridge_effect, seen, permutations=199, rng=rng)
    q = interactions.significance(ridge_effect(seen), null)
    planted = (COEFFICIENTS - COEFFICIENTS.mean()).abs() > 0.15
    assert q[planted].max(axis=None) < 0.05

    def lucky() -> bool:
        return bool((interactions.significance(ridge_effect(dealt(seen, rng=rng)), null) < 0.05).any(axis=None))

    assert np.mean([lucky() for _ in range(40)]) <= 0.15  # 5 % is the promise, 40 tries the precision


def test_pooled_draws_agree_with_many_permutations(seen, rng):
    noisy = Scored(seen.mixtures, seen.scores + rng.normal(0, 0.3, (120, 2)), TASKS)
    seen = interactions.scaled(noisy)
    deals = interactions.permutation_null(ridge_effect, seen, permutations=1499, rng=rng)
    many, few = deals[:999], deals[999:]
    expected = interactions.significance(ridge_effect(seen), many)
    np.testing.assert_allclose(interactions.significance(ridge_effect(seen), few, pooled=True), expected, atol=0.06)
    assert interactions.significance(ridge_effect(seen), few[:9], pooled=True).min(axis=None) >= 1 / 19


def test_q_values_are_never_below_the_resolution_of_the_permutations(seen, rng):
    null = interactions.permutation_null(ridge_effect, seen, permutations=19, rng=rng)
    assert interactions.significance(ridge_effect(seen), null).min(axis=None) >= 1 / 20


def test_null_is_the_same_for_any_number_of_workers(seen):
    one, two = (
        interactions.permutation_null(ridge_effect, seen, permutations=8, rng=np.random.default_rng(1), n_jobs=n)
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_scaled_scores_have_unit_spread_and_keep_their_order(seen):
    table = interactions.scaled(seen)
    np.testing.assert_allclose([table.scores.mean(), table.scores.std()], [[0, 0], [1, 1]], atol=1e-12)
    pd.testing.assert_frame_equal(table.scores.rank(), seen.scores.rank())
    assert set(table.tasks["unit"]) == {"standard deviations"}


# --- one call per question


def test_the_linear_question_finds_what_was_planted_in_standard_deviations(seen, rng):
    table = interactions.linear(seen, permutations=199, rng=rng)
    assert list(table) == ["kind", "task", "effect", "q"] and set(table["kind"]) == {"linear"}
    for task, sign in (("loss", -1), ("accuracy", 1)):
        mine = table[table["task"] == task]
        expected = sign * (COEFFICIENTS[task] - COEFFICIENTS[task].mean()) / seen.scores[task].std()
        np.testing.assert_allclose(mine["effect"], expected[mine.index], atol=0.6)
        sure = mine[mine["q"] < 0.05]
        assert len(sure) >= 2 and (np.sign(sure["effect"]) == np.sign(expected[sure.index])).all()
    nothing = interactions.linear(dealt(seen, rng=rng), permutations=199, rng=rng)
    assert (nothing["q"] > 0.05).sum() >= 7  # of 8


def test_the_curved_question_agrees_where_both_are_sure(seen, rng):
    linear, curved = (
        ask(seen, permutations=19, rng=rng).set_index("task", append=True)
        for ask in (interactions.linear, interactions.curved)
    )
    assert set(curved["kind"]) == {"curved"} and len(curved) == 8
    both = (linear["q"] < 0.1) & (curved["q"] < 0.1)
    assert both.sum() >= 4 and (np.sign(linear["effect"]) == np.sign(curved["effect"]))[both].all()


def test_the_curved_question_is_asked_where_it_is_told_to(seen, rng):
    centre = pd.Series([0.7, 0.1, 0.1, 0.1], NAMES)
    table = interactions.curved(seen, permutations=3, rng=rng, centre=centre, names=["math", "web"])
    assert list(table.index) == ["math", "web"] * 2
    fitted = PREDICTORS["gaussian_process"].new(rng=rng).fit(interactions.scaled(seen))
    expected = interactions.effects(fitted, centre, names=["math", "web"])
    np.testing.assert_allclose(table["effect"], expected.to_numpy().T.ravel())


def test_the_question_of_pairs_finds_the_planted_pair(seen, rng):
    bent = seen.scores.assign(loss=3 - 2 * seen.mixtures["books"] * seen.mixtures["code"])
    table = interactions.paired(Scored(seen.mixtures, bent, TASKS).only(["loss"]), permutations=19, rng=rng)
    assert list(table) == ["second", "task", "effect", "q"] and len(table) == 6
    best = table.reset_index().loc[table["effect"].to_numpy().argmax()]
    assert (best["first"], best["second"]) == ("books", "code") and best["q"] == table["q"].min()


def test_a_plane_allows_only_a_line_along_an_edge(seen, rng):
    bent = Scored(seen.mixtures, (seen.mixtures["web"] ** 2).to_frame("loss"), TASKS.loc[["loss"]])
    table = interactions.edge(bent, "web", "code", rng=rng)
    assert list(table) == ["second", "predictor", "task", "share", "predicted"] and set(table.index) == {"web"}
    bend = {name: np.abs(np.diff(rows["predicted"], 2)).max() for name, rows in table.groupby("predictor")}
    assert bend["ridge"] < 1e-9 < 1e-3 < bend["gaussian_process"]
    ends = table[table["predictor"] == "gaussian_process"].set_index("share")["predicted"]
    assert ends[0.0] > ends[1.0]  # the loss is all web's


def test_answers_are_tables_that_can_be_kept(seen, rng, tmp_path):
    """What comes back fits the schema of its table, and a copy read back is the same."""
    one = seen.only(["loss"])
    answers = {
        "effects": pd.concat([ask(one, permutations=3, rng=rng) for ask in (interactions.linear, interactions.curved)]),
        "pairs": interactions.paired(one, permutations=3, rng=rng),
        "path": interactions.edge(one, "web", "code", rng=rng),
    }
    for schema, table in answers.items():
        again = store.read(store.write(table, tmp_path / f"{schema}.csv", schema), schema)
        pd.testing.assert_frame_equal(again, table, check_like=True)
