"""Predictors against closed forms, planted laws and planted optima; nothing learnt from nothing."""

import tracemalloc
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from demix_nb.evidence import spearman
from demix_nb.predictors import (
    PREDICTORS,
    REGRESSORS,
    Ensemble,
    ExponentialLaw,
    GaussianProcess,
    Predictor,
    convex_weights,
    out_of_fold,
    ridge,
)

CANDIDATES = ["web", "books", "math", "code"]
TARGET = np.array([0.4, 0.1, 0.3, 0.2])  # the mixture that the curved landscape rewards most
LINEAR = ("ridge", "mixing_law", "log_linear")  # can only place the optimum on a vertex


def simplex(rng, n: int, prefix: str = "m") -> pd.DataFrame:
    return pd.DataFrame(rng.dirichlet(np.ones(4), n), [f"{prefix}{i}" for i in range(n)], CANDIDATES)


def curved(mixtures: pd.DataFrame) -> pd.Series:
    """2.5 plus squared Hellinger distance to TARGET: a bowl inside the simplex, lower is better."""
    return 2.5 + ((np.sqrt(mixtures) - np.sqrt(TARGET)) ** 2).sum(axis=1)


def tilted(mixtures: pd.DataFrame) -> pd.Series:
    """1 + exp(t·α): a slope with its lowest point at the vertex 'math'."""
    return 1 + np.exp(mixtures @ [0.5, 0.2, -1.5, -0.3])


def build(name: str, **settings) -> Predictor:
    """The predictor of that name; the ensemble with two quick members, where a test is about the machinery."""
    make = partial(Ensemble, members=("ridge", "gaussian_process")) if name == "ensemble" else REGRESSORS[name]
    return Predictor(make, **settings)


def table(**columns: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(columns)


@pytest.fixture
def scored(rng) -> tuple[pd.DataFrame, pd.DataFrame]:
    mixtures = simplex(rng, 60)
    return mixtures, table(curved=curved(mixtures), tilted=tilted(mixtures))


def test_ridge_is_the_closed_form(rng):
    x, y = rng.dirichlet(np.ones(4), 50), rng.normal(size=50)
    model = ridge(rng).fit(x, y)
    centred = x - x.mean(axis=0)
    expected = np.linalg.solve(centred.T @ centred + model.alpha_ * np.eye(4), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-8)


def test_ridge_chooses_its_penalty_even_with_one_row_per_fold(rng):
    x = rng.dirichlet(np.ones(4), 8)
    assert ridge(rng).fit(x, rng.normal(size=8)).alpha_ > 1  # noise: shrink
    assert ridge(rng).fit(x, x @ [1.0, -2.0, 0.5, 0.0]).alpha_ < 0.01  # a plane: do not


def test_gaussian_process_is_scikit_learns_at_the_same_scales(rng):
    x, new = rng.dirichlet(np.ones(4), 40), rng.dirichlet(np.ones(4), 15)
    y = ((np.sqrt(x) - np.sqrt(TARGET)) ** 2).sum(axis=1) + rng.normal(0, 0.01, 40)
    ours = GaussianProcess().fit(x, y)
    w, signal, noise = np.exp(ours.theta[:-2]), np.exp(ours.theta[-2]), np.exp(ours.theta[-1])
    kernel = ConstantKernel(signal) * Matern(1 / np.sqrt(w), nu=2.5) + WhiteKernel(noise)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(np.sqrt(x), (y - y.mean()) / y.std())
    mean, deviation = theirs.predict(np.sqrt(new), return_std=True)
    np.testing.assert_allclose(ours.predict(new), y.mean() + y.std() * mean, rtol=1e-6)
    np.testing.assert_allclose(ours.spread(new), y.std() * deviation, rtol=1e-5)


def test_gaussian_process_gradient_is_the_slope_of_its_objective(rng):
    x, y = rng.dirichlet(np.ones(4), 30), rng.normal(size=30)
    model = GaussianProcess().fit(x, y)
    theta = rng.normal(0, 0.5, 6) - np.r_[np.zeros(5), 2]
    error = check_grad(lambda t: model._objective(t, y)[0], lambda t: model._objective(t, y)[1], theta)
    assert error < 1e-4 * np.linalg.norm(model._objective(theta, y)[1])


@pytest.mark.parametrize("sign", [1, -1])
def test_mixing_law_recovers_planted_coefficients(rng, sign):
    x, t = rng.dirichlet(np.ones(4), 80), np.array([0.5, -2.0, 1.0, -0.5])
    law = ExponentialLaw(rng).fit(x, 3.0 + sign * np.exp(x @ t))
    assert (law.sign, law.floor) == (sign, pytest.approx(3.0, abs=0.02))
    np.testing.assert_allclose(law.t, t, atol=0.02)


def test_log_linear_law_recovers_planted_coefficients_and_an_outlier_does_not_move_it(rng):
    x, t = rng.dirichlet(np.ones(4), 80), np.array([0.5, -2.0, 1.0, -0.5])
    y = np.exp(0.7) + np.exp(x @ t)
    y[3] += 5  # Huber: one broken run pulls no harder than one 0.02 off
    law = ExponentialLaw(rng, positive=True).fit(x, y)
    assert np.log(law.floor) == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(law.t, t, atol=0.03)


def test_convex_weights_solve_the_constrained_problem(rng):
    y = rng.normal(size=100)
    members = np.column_stack([y + rng.normal(0, s, 100) for s in (0.5, 0.6, 2.0)] + [np.zeros(100)])
    weights = convex_weights(members, y)

    def loss(w):
        return ((members @ w - y) ** 2).mean()

    sums = {"type": "eq", "fun": lambda w: w.sum() - 1}
    oracle = minimize(loss, np.full(4, 0.25), bounds=[(0, 1)] * 4, constraints=sums, method="SLSQP", tol=1e-12).x
    np.testing.assert_allclose(weights, oracle, atol=1e-4)
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    assert all(loss(weights) <= loss(vertex) + 1e-12 for vertex in np.eye(4))


@pytest.mark.parametrize("name", PREDICTORS)
def test_planted_optimum_is_found_by_each_that_can_represent_it(name, scored, rng):
    mixtures, scores = scored
    if name in ("lightgbm_regmix", "lightgbm_demix"):  # 20 rows per leaf cannot draw a bowl from 60
        mixtures = simplex(rng, 200)
        scores = table(curved=curved(mixtures), tilted=tilted(mixtures))
    pool = simplex(rng, 4000, "p")
    predicted = PREDICTORS[name](rng=rng).fit(mixtures, scores).predict(pool)
    truth = table(curved=curved(pool), tilted=tilted(pool))
    for task in ["tilted"] if name in LINEAR else ["curved", "tilted"]:
        best = predicted[task].nsmallest(20).index
        rank = truth[task].rank(pct=True)[best].mean()
        assert rank < 0.08, f"the 20 best predicted on {task} are truly at {rank:.0%}"
        mean_error = ((truth[task] - scores[task].mean()) ** 2).mean()
        assert ((predicted[task] - truth[task]) ** 2).mean() < 0.25 * mean_error  # predict-the-mean is the yardstick


@pytest.mark.parametrize("name", PREDICTORS)
def test_shuffled_targets_teach_nothing(name, rng):
    mixtures, unseen = simplex(rng, 50), simplex(rng, 300, "u")
    every = pd.concat([curved(mixtures), curved(unseen)])
    shuffled = pd.DataFrame({f"s{i}": rng.permutation(every) for i in range(3)}, every.index)
    predicted = PREDICTORS[name](rng=rng).fit(mixtures, shuffled.loc[mixtures.index]).predict(unseen)
    rho = spearman(predicted.to_numpy().T, shuffled.loc[unseen.index].to_numpy().T)
    assert abs(np.mean(rho)) < 0.1


@pytest.mark.parametrize("name", PREDICTORS)
def test_one_and_two_workers_agree_bit_for_bit(name, scored):
    mixtures, scores = (table[:50] for table in scored)
    one, two = (
        build(name, rng=np.random.default_rng(3), n_jobs=n).fit(mixtures, scores).predict(mixtures) for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.parametrize("name", PREDICTORS)
def test_names_count_and_order_does_not(name, scored, rng):
    mixtures, scores = (table[:50] for table in scored)
    predictor = build(name, rng=rng).fit(mixtures, scores)
    plain = predictor.predict(mixtures)
    shuffled = predictor.predict(mixtures.sample(frac=1, random_state=1)[CANDIDATES[::-1]])
    pd.testing.assert_frame_equal(shuffled.loc[mixtures.index], plain)
    again = predictor.fit(mixtures, scores.sample(frac=1, random_state=2)).predict(mixtures)
    pd.testing.assert_frame_equal(again, plain, check_exact=True)


@pytest.mark.slow
def test_ensemble_is_as_good_as_each_member_in_cross_validation(rng):
    members = ("ridge", "gaussian_process", "mixing_law")
    mixtures = simplex(rng, 60)
    scores = table(bowl=curved(mixtures) + 0.3 * tilted(mixtures) + rng.normal(0, 0.02, 60))
    predictors = {name: PREDICTORS[name](rng=rng) for name in members}
    predictors["ensemble"] = Predictor(partial(Ensemble, members=members), rng=rng)
    held_out = {
        name: out_of_fold(predictor, mixtures, scores, folds=3, rng=np.random.default_rng(5))["bowl"]
        for name, predictor in predictors.items()
    }
    error = {name: ((predicted - scores["bowl"]) ** 2).mean() for name, predicted in held_out.items()}
    assert error["ensemble"] <= 1.05 * min(error.values())  # its weights were chosen inside each fold, never on it


def test_spread_covers_new_runs(rng):
    mixtures, new = simplex(rng, 80), simplex(rng, 400, "n")
    noisy = table(bowl=curved(mixtures) + rng.normal(0, 0.05, 80))
    truth = curved(new) + rng.normal(0, 0.05, 400)
    mean, deviation = PREDICTORS["gaussian_process"](rng=rng).fit(mixtures, noisy).predict(new, spread=True)
    assert 0.9 < ((truth - mean["bowl"]).abs() < 1.96 * deviation["bowl"]).mean() < 0.99
    bag = PREDICTORS["lightgbm_bagged"](rng=rng).fit(mixtures, noisy)
    near, far = (bag.predict(rows, spread=True)[1]["bowl"].mean() for rows in (mixtures, new))
    assert 0 < near < far  # surer where it has seen a run


def test_a_large_pool_needs_no_large_memory(rng):
    mixtures, pool = simplex(rng, 200), simplex(rng, 50_000, "p")
    predictor = PREDICTORS["gaussian_process"](rng=rng).fit(mixtures, table(bowl=curved(mixtures)))
    tracemalloc.start()
    whole = predictor.predict(pool)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # bytes; the whole kernel alone would take 80 MB, three times over
    pd.testing.assert_frame_equal(whole.iloc[8000:8400], predictor.predict(pool.iloc[8000:8400]))


class Memory:
    """Knows by heart what it saw and returns 0 for the rest: the worst that a leak could meet."""

    def fit(self, x, y):
        self.seen = {tuple(row): score for row, score in zip(x.round(6), y, strict=True)}
        return self

    def predict(self, x):
        return np.array([self.seen.get(tuple(row), 0.0) for row in x.round(6)])


def test_out_of_fold_never_predicts_a_mixture_it_saw(rng):
    mixtures = pd.concat([simplex(rng, 15, "a")] * 2).set_axis([f"m{i}" for i in range(30)])  # each under two names
    scores = table(bowl=curved(mixtures))
    held_out = out_of_fold(Predictor(lambda rng: Memory(), rng=rng), mixtures, scores, rng=rng)
    assert (held_out["bowl"] == 0).all() and list(held_out.index) == list(mixtures.index)


@pytest.mark.parametrize("name", ["lightgbm_regmix", "lightgbm_demix"])
def test_lightgbm_below_forty_rows_says_so(name, scored, rng):
    mixtures, scores = scored
    with pytest.raises(ValueError, match=r"cannot split 39 rows.*at least 40 mixtures"):
        PREDICTORS[name](rng=rng).fit(mixtures[:39], scores[:39])


def test_bagged_lightgbm_learns_below_forty_rows(scored, rng):
    mixtures, scores = scored
    unseen = simplex(rng, 300, "u")
    predicted = PREDICTORS["lightgbm_bagged"](rng=rng).fit(mixtures[:24], scores[:24]).predict(unseen)
    assert spearman(predicted["tilted"].to_numpy(), tilted(unseen).to_numpy()) > 0.7


@pytest.mark.parametrize("name", PREDICTORS)
def test_what_cannot_be_learnt_from_is_refused(name, scored, rng):
    mixtures, scores = scored
    predictor = PREDICTORS[name](rng=rng)
    with pytest.raises(ValueError, match="'flat' is constant"):
        predictor.fit(mixtures, scores.assign(flat=1.0))
    with pytest.raises(ValueError, match="4 rows cannot fill 5 folds"):
        predictor.fit(mixtures[:4], scores[:4])


def test_bad_tables_are_named(scored, rng):
    mixtures, scores = scored
    predictor = PREDICTORS["ridge"](rng=rng)
    hole = scores.copy()
    hole.loc["m7", "tilted"] = np.nan
    with pytest.raises(ValueError, match="'m7' on 'tilted' is not a finite"):
        predictor.fit(mixtures, hole)
    with pytest.raises(ValueError, match="'m59' lacks its one row"):
        predictor.fit(mixtures, scores[:59])
    with pytest.raises(ValueError, match="'m3' lacks its one row"):
        predictor.fit(mixtures, pd.concat([scores, scores.loc[["m3"]]]))
    with pytest.raises(ValueError, match="'m0' sums to 2"):
        predictor.fit(2 * mixtures, scores)
    with pytest.raises(ValueError, match="comes after fit"):
        predictor.predict(mixtures)
    predictor.fit(mixtures, scores)
    with pytest.raises(ValueError, match="unknown candidate 'webb'"):
        predictor.predict(mixtures.rename(columns={"web": "webb"}))
    with pytest.raises(ValueError, match="no spread; take 'gaussian_process'"):
        predictor.predict(mixtures, spread=True)


def test_laws_refuse_what_they_cannot_represent(scored, rng):
    mixtures, scores = scored
    with pytest.raises(ValueError, match="5 parameters cannot be fitted to 5 rows"):
        PREDICTORS["mixing_law"](rng=rng).fit(mixtures[:5], scores[:5])
    with pytest.raises(ValueError, match="take 'mixing_law'"):
        PREDICTORS["log_linear"](rng=rng).fit(mixtures, scores - 3)


def test_predictor_names_are_regressor_names():
    assert list(PREDICTORS) == list(REGRESSORS) and len(PREDICTORS) == 8
