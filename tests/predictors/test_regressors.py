"""Regressors against closed forms, other people's implementations and planted laws."""

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from demix_nb.intervals import spearman
from demix_nb.predictors.gaussian import GaussianProcess
from demix_nb.predictors.laws import ExponentialLaw, ridge
from demix_nb.predictors.regressor import deal_folds
from demix_nb.predictors.stack import MEMBERS, Stack, convex_weights
from demix_nb.predictors.trees import BaggedLightGBM

TARGET = np.array([0.4, 0.1, 0.3, 0.2])
SLOPE = np.array([0.5, -2.0, 1.0, -0.5])


def bowl(x):
    return ((np.sqrt(x) - np.sqrt(TARGET)) ** 2).sum(axis=1)


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
    y = bowl(x) + rng.normal(0, 0.01, 40)
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


def test_spreads_cover_new_runs_or_at_least_know_where_they_are_unsure(rng):
    x, new = rng.dirichlet(np.ones(4), 80), rng.dirichlet(np.ones(4), 400)
    y, truth = (bowl(rows) + rng.normal(0, 0.05, len(rows)) for rows in (x, new))
    process, bag = GaussianProcess().fit(x, y), BaggedLightGBM(rng).fit(x, y)
    assert 0.9 < (np.abs(truth - process.predict(new)) < 1.96 * process.spread(new)).mean() < 0.99
    assert 0 < bag.spread(x).mean() < bag.spread(new).mean()  # surer where it has seen a run


@pytest.mark.parametrize("sign", [1, -1])
def test_mixing_law_recovers_planted_coefficients(rng, sign):
    x = rng.dirichlet(np.ones(4), 80)
    law = ExponentialLaw(rng).fit(x, 3.0 + sign * np.exp(x @ SLOPE))
    assert (law.sign, law.floor) == (sign, pytest.approx(3.0, abs=0.02))
    np.testing.assert_allclose(law.t, SLOPE, atol=0.02)


def test_log_linear_law_recovers_planted_coefficients_and_an_outlier_does_not_move_it(rng):
    x = rng.dirichlet(np.ones(4), 80)
    y = np.exp(0.7) + np.exp(x @ SLOPE)
    y[3] += 5  # Huber: one broken run pulls no harder than one 0.02 off
    law = ExponentialLaw(rng, positive=True).fit(x, y)
    assert np.log(law.floor) == pytest.approx(0.7, abs=0.02)
    np.testing.assert_allclose(law.t, SLOPE, atol=0.03)


def test_a_bag_of_small_leaves_learns_below_forty_rows(rng):
    x, new = rng.dirichlet(np.ones(4), 24), rng.dirichlet(np.ones(4), 300)
    assert spearman(BaggedLightGBM(rng).fit(x, np.exp(x @ SLOPE)).predict(new), np.exp(new @ SLOPE)) > 0.7


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


def test_a_stack_is_as_good_as_each_member_on_what_none_has_seen(rng):
    x, new = rng.dirichlet(np.ones(4), 60), rng.dirichlet(np.ones(4), 300)
    y, truth = (bowl(rows) + 0.3 * np.exp(rows @ SLOPE) + rng.normal(0, 0.02, len(rows)) for rows in (x, new))
    members = {name: MEMBERS[name] for name in ("ridge", "gaussian_process")}
    makers = members | {"stack": lambda rng: Stack(rng, members)}
    error = {name: ((make(rng).fit(x, y).predict(new) - truth) ** 2).mean() for name, make in makers.items()}
    assert error["stack"] <= 1.05 * min(error.values())  # its weights were chosen inside each fold, never on it
    assert min(error.values()) < 0.25 * truth.var()  # always predicting the mean


def test_runs_of_one_mixture_share_their_fold(rng):
    x = np.repeat(rng.dirichlet(np.ones(4), 12), 3, axis=0)
    fold = deal_folds(x, 5, rng).reshape(12, 3)
    assert (fold == fold[:, :1]).all() and sorted(np.bincount(fold[:, 0])) == [2, 2, 2, 3, 3]
