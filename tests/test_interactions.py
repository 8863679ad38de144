"""Effects against derivatives known by hand, nulls against what they must not find."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import interactions, mixtures
from demix_nb.predictors import PREDICTORS
from demix_nb.runs import describe

NAMES = ["web", "books", "math", "code"]
COEFFICIENTS = pd.DataFrame({"loss": [0.3, -0.1, -1.0, 0.5], "accuracy": [0.0, 0.4, 0.1, -0.2]}, index=NAMES)
TASKS = describe(["loss", "accuracy"], unit="", higher_is_better=False).assign(higher_is_better=[False, True])
UNIFORM = mixtures.uniform(NAMES)


class Known:
    """A predictor whose function is given."""

    def __init__(self, function):
        self.function = function

    def predict(self, table):
        return self.function(mixtures.validate(table, NAMES))


@pytest.fixture
def shares(rng):
    return mixtures.sample_uniform(NAMES, 120, rng=rng)


@pytest.fixture
def scores(shares, rng):
    return shares @ COEFFICIENTS + rng.normal(0, 0.05, (120, 2))


def test_linear_effects_are_coefficients_against_the_centre():
    predictor, centre = Known(lambda table: table @ COEFFICIENTS), pd.Series([0.4, 0.3, 0.2, 0.1], NAMES)
    expected = (COEFFICIENTS - centre @ COEFFICIENTS) * [-1, 1]
    found = interactions.effects(predictor, centre, TASKS)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.loc["math", "loss"] > 0 > found.loc["code", "accuracy"]  # helps: less loss; hurts: less accuracy


def test_one_solve_gives_what_the_ridge_predictor_gives(shares, scores, rng):
    predictor = PREDICTORS["ridge"](rng=rng).fit(shares, scores)
    penalties = pd.Series({task: model.alpha_ for task, model in predictor.columns.items()})
    fast = interactions.linear_effects(shares, scores, TASKS, penalties)
    np.testing.assert_allclose(fast, interactions.effects(predictor, UNIFORM, TASKS), atol=1e-8)
    assert fast.sum().abs().max() < 1e-9  # a share is won from the others


def test_linear_predictors_have_no_second_differences(shares, scores, rng):
    predictor = PREDICTORS["ridge"](rng=rng).fit(shares, scores)
    table = interactions.pairs(predictor, UNIFORM, TASKS)
    assert table.shape == (6, 2) and np.abs(table).max(axis=None) < 1e-8


def test_second_differences_of_a_product_are_its_hessian():
    predictor = Known(lambda table: pd.DataFrame({"loss": -table["web"] * table["math"]}))
    table = interactions.square(interactions.pairs(predictor, UNIFORM, TASKS)["loss"])
    direction = pd.DataFrame(np.eye(4) - 0.25, NAMES, NAMES)  # eᵢ − c
    for a, b in [("web", "math"), ("web", "code"), ("books", "code")]:
        u, v = direction[a], direction[b]
        assert table.loc[a, b] == pytest.approx(u["web"] * v["math"] + u["math"] * v["web"])
    pd.testing.assert_frame_equal(table, table.T)
    assert list(table) == NAMES and np.isnan(np.diag(table)).all()


def test_a_curved_predictor_finds_the_planted_pair(shares, rng):
    scores = pd.DataFrame({"loss": 3 - 2 * shares["books"] * shares["code"]})
    predictor = PREDICTORS["gaussian_process"](rng=rng).fit(shares, scores)
    assert interactions.pairs(predictor, UNIFORM, TASKS)["loss"].idxmax() == ("books", "code")


def test_candidates_that_no_run_tried_are_left_out(shares):
    others = shares.drop(columns="code")
    shares = others.div(others.sum(axis=1), axis=0).mul(0.95).assign(code=0.05)
    names = interactions.reached(shares)
    assert names == ["web", "books", "math"]
    predictor = Known(lambda table: table @ COEFFICIENTS)
    some, every = (interactions.effects(predictor, UNIFORM, TASKS, names=given) for given in (names, ()))
    pd.testing.assert_frame_equal(some, every.loc[names])
    assert len(interactions.pairs(predictor, UNIFORM, TASKS, names=names)) == 3


def ridge_effect(shares):
    penalties = pd.Series(0.01, TASKS.index)
    return lambda scores: interactions.linear_effects(shares, scores, TASKS, penalties)


def test_planted_effects_are_significant_and_shuffled_ones_are_not(shares, scores, rng):
    effect = ridge_effect(shares)
    null = interactions.permutation_null(effect, scores, permutations=199, rng=rng)
    q = interactions.significance(effect(scores), null)
    planted = (COEFFICIENTS - COEFFICIENTS.mean()).abs() > 0.15
    assert q[planted].max(axis=None) < 0.05

    def lucky() -> bool:
        dealt = pd.DataFrame(scores.to_numpy()[rng.permutation(120)], scores.index, scores.columns)
        return bool((interactions.significance(effect(dealt), null) < 0.05).any(axis=None))

    assert np.mean([lucky() for _ in range(40)]) <= 0.15  # 5 % is the promise, 40 tries the precision


def test_pooled_draws_agree_with_many_permutations(shares, rng):
    scores = interactions.standardised(shares @ COEFFICIENTS + rng.normal(0, 0.3, (120, 2)))
    effect = ridge_effect(shares)
    many = interactions.significance(
        effect(scores), interactions.permutation_null(effect, scores, permutations=1999, rng=rng)
    )
    few = interactions.permutation_null(effect, scores, permutations=999, rng=rng)
    np.testing.assert_allclose(interactions.significance(effect(scores), few, pooled=True), many, atol=0.06)
    assert interactions.significance(effect(scores), few[:9], pooled=True).min(axis=None) >= 1 / 19


def test_q_values_are_never_below_the_resolution_of_the_permutations(shares, scores, rng):
    effect = ridge_effect(shares)
    null = interactions.permutation_null(effect, scores, permutations=19, rng=rng)
    assert interactions.significance(effect(scores), null).min(axis=None) >= 1 / 20


def test_null_is_the_same_for_any_number_of_workers(shares, scores):
    one, two = (
        interactions.permutation_null(
            ridge_effect(shares), scores, permutations=8, rng=np.random.default_rng(1), n_jobs=n
        )
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_standardised_scores_have_unit_spread(scores):
    table = interactions.standardised(scores)
    np.testing.assert_allclose([table.mean(), table.std()], [[0, 0], [1, 1]], atol=1e-12)
