"""Regressors against closed forms, other people's implementations and planted laws."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import check_grad
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold

from demix_nb.intervals import spearman
from demix_nb.predictors.gaussian import GaussianProcess, Surface
from demix_nb.predictors.laws import PENALTIES, ExponentialLaw, Ridge
from demix_nb.predictors.opinions import AXES, Axes, Points, Together
from demix_nb.predictors.regressor import deal_folds
from demix_nb.predictors.stack import Shared, Stack, weights
from demix_nb.predictors.trees import BaggedLightGBM
from demix_nb.predictors.warp import FORMS, Warp

TARGET = np.array([0.4, 0.1, 0.3, 0.2])
SLOPE = np.array([0.5, -2.0, 1.0, -0.5])


def bowl(x):
    return ((np.sqrt(x) - np.sqrt(TARGET)) ** 2).sum(axis=1)


def test_ridge_is_the_closed_form(rng):
    x, y = rng.dirichlet(np.ones(4), 50), rng.normal(size=50)
    model = Ridge(rng).fit(x, y)
    centred = x - x.mean(axis=0)
    expected = np.linalg.solve(centred.T @ centred + model.alpha_ * np.eye(4), centred.T @ (y - y.mean()))
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-8)


def test_ridge_chooses_its_penalty_even_with_one_row_per_fold(rng):
    x = rng.dirichlet(np.ones(4), 8)
    assert Ridge(rng).fit(x, rng.normal(size=8)).alpha_ > 1  # noise: shrink
    assert Ridge(rng).fit(x, x @ [1.0, -2.0, 0.5, 0.0]).alpha_ < 0.01  # a plane: do not


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


@pytest.mark.parametrize("plane", [False, True])
@pytest.mark.parametrize("targets", [1, 3])
def test_the_gradient_is_the_slope_of_the_objective(rng, plane, targets):
    x, y = rng.dirichlet(np.ones(4), 30), rng.normal(size=(30, targets))
    surface = Surface(np.sqrt(x), x - x.mean(axis=0) if plane else None)
    theta = rng.normal(0, 0.5, 6 + plane) - np.r_[np.zeros(5 + plane), 2]
    prior = (np.full(6 + plane, 0.1), np.full(6 + plane, 0.5))
    value, slope = (partial(_part, surface, y, prior, i) for i in (0, 1))
    assert check_grad(value, slope, theta) < 1e-4 * np.linalg.norm(slope(theta))


def _part(surface, y, prior, which, theta):
    return surface.objective(theta, y, prior)[which]


def test_a_surface_over_a_plane_is_scikit_learns_at_the_same_scales(rng):
    x, new = rng.dirichlet(np.ones(4), 40), rng.dirichlet(np.ones(4), 15)
    points = Points.of(x, 1.0)
    z, at = points(x), points(new)
    y = bowl(x) + x @ SLOPE
    y = (y - y.mean()) / y.std()
    theta = np.r_[rng.normal(0, 0.3, 4), 0.2, -0.7, -3.0]
    known = Surface(z, z).conditioned(theta, y)
    w, signal, plane, noise = np.exp(theta[:4]), *np.exp(theta[4:])
    kernel = ConstantKernel(signal) * Matern(1 / np.sqrt(w), nu=2.5)
    kernel = kernel + ConstantKernel(plane) * DotProduct(0.0) + WhiteKernel(noise)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, alpha=0.0).fit(z, y)
    mean, deviation = theirs.predict(at, return_std=True)
    np.testing.assert_allclose(known.mean(at, at), mean, rtol=1e-6)
    np.testing.assert_allclose(known.mean_and_spread(at, at), (mean, deviation), rtol=1e-5)


def test_what_all_targets_share_is_found_by_their_sum(rng):
    """The objective of several targets is the sum of each one's, the prior counted once."""
    x, y = rng.dirichlet(np.ones(4), 30), rng.normal(size=(30, 3))
    surface, theta, nothing = Surface(np.sqrt(x)), rng.normal(0, 0.5, 6), (np.zeros(6), np.zeros(6))
    together = surface.objective(theta, y, nothing)
    each = [surface.objective(theta, y[:, [column]], nothing) for column in range(3)]
    assert together[0] == pytest.approx(sum(value for value, _ in each))
    np.testing.assert_allclose(together[1], sum(slope for _, slope in each))


@pytest.mark.parametrize("form", FORMS)
def test_a_warp_can_be_undone_and_knows_its_slopes(rng, form):
    y = rng.gamma(2.0, size=40)
    warp = Warp(*form, y)
    there = warp(y)
    assert (there.mean(), there.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert (np.diff(there[np.argsort(y)]) > 0).all()
    np.testing.assert_allclose(warp.back(there), y, rtol=1e-9)
    inner = y[(y > y.min()) & (y < y.max())]  # a slope needs both sides
    ends = np.array([y.min(), y.max()])
    step = 1e-6
    slopes = np.log((warp(inner + step) - warp(inner - step)) / (2 * step)).sum()
    slopes += np.log(np.abs(warp(ends + np.array([step, -step])) - warp(ends)) / step).sum()
    assert warp.slopes == pytest.approx(slopes, rel=1e-4, abs=1e-3)
    far = warp.back(np.array([-1e3, 1e3]))
    assert np.abs(far - y.mean()).max() <= 4 * np.ptp(y), "no score lies farther out, whatever the surface says"


@pytest.mark.parametrize(("rows", "candidates"), [(40, 6), (24, 64), (8, 4)])
def test_the_ridge_is_scikit_learns_on_the_same_folds(rng, rows, candidates):
    x = rng.dirichlet(np.ones(candidates), rows)
    y = x @ rng.normal(size=candidates) + rng.normal(0, 0.1, rows)
    ours, seed = Ridge(np.random.default_rng(5)).fit(x, y), int(np.random.default_rng(5).integers(2**31))
    split = KFold(5, shuffle=True, random_state=seed)
    theirs = RidgeCV(alphas=PENALTIES, cv=split, scoring="neg_mean_squared_error").fit(x, y)
    assert ours.alpha_ == theirs.alpha_ and ours.missed == pytest.approx(np.sqrt(-theirs.best_score_))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-9)
    np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-9)


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


def test_opinions_count_by_the_square_of_their_errors():
    np.testing.assert_allclose(weights(np.array([1.0, 2.0])), [0.8, 0.2])
    np.testing.assert_allclose(weights(np.array([0.0, 2.0, 0.0])), [0.5, 0, 0.5])
    np.testing.assert_allclose(weights(np.array([1e-200, 1e-200])), [0.5, 0.5])


def stacked(x, y, seed=0):
    rng = np.random.default_rng(seed)
    return Stack(Shared.learn(x, y[:, None], rng), rng).fit(x, y)


def test_a_stack_is_as_good_as_each_opinion_on_what_none_has_seen(rng):
    x, new = rng.dirichlet(np.ones(4), 60), rng.dirichlet(np.ones(4), 300)
    y, truth = (bowl(rows) + 0.3 * np.exp(rows @ SLOPE) + rng.normal(0, 0.02, len(rows)) for rows in (x, new))
    stack = stacked(x, y)
    error = [((one.predict(new) - truth) ** 2).mean() for one in (stack, *stack.members)]
    assert error[0] <= 1.05 * min(error[1:])  # its weights were chosen inside each fold, never on it
    assert min(error) < 0.25 * truth.var()  # always predicting the mean
    assert 0.82 < (np.abs(truth - stack.predict(new)) < 1.645 * stack.spread(new)).mean() < 0.98


def moving_together(rng, runs, tasks=30, noise=1.0):
    """Mixtures, and tasks that are two surfaces in parts of their own, with so much noise on each."""
    x = rng.dirichlet(np.ones(4), runs)
    surfaces = np.column_stack([np.sqrt(x) @ rng.normal(size=4), bowl(x)])
    y = (surfaces - surfaces.mean(axis=0)) / surfaces.std(axis=0) @ rng.normal(size=(2, tasks))
    return x, y, y + noise * rng.normal(size=y.shape)


def test_a_task_as_what_it_has_of_the_axes_is_principal_components_with_a_process_on_each(rng):
    """scikit-learn's components and a process of ours on each, which is held against scikit-learn's elsewhere."""
    from sklearn.decomposition import PCA

    x, _, y = moving_together(rng, 40)
    new, scaled = rng.dirichlet(np.ones(4), 50), (y - y.mean(axis=0)) / y.std(axis=0)
    components = PCA(AXES).fit(scaled)
    said = np.column_stack([GaussianProcess().fit(x, one).predict(new) for one in components.transform(scaled).T])
    oracle = y.mean(axis=0) + y.std(axis=0) * components.inverse_transform(said)
    axes = Axes.learn(x, y, np.arange(40))
    ours = np.column_stack([Together(axes).seen(x, task).predict(new) for task in y.T])
    np.testing.assert_allclose(ours, oracle, atol=0.02 * y.std())
    one = Together(axes).seen(x, y[:, 0])
    mean, deviation = one.opinion(new)
    np.testing.assert_allclose(mean, ours[:, 0])
    drawn = one.draw(new, 4000, rng)
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=5 * drawn.std(axis=0).max() / 4000**0.5)
    assert (drawn.std(axis=0) < deviation).all(), "a run's noise is in the spread alone"


def test_noisy_tasks_that_move_together_are_told_better_together(rng):
    x, truth, y = moving_together(rng, 160)
    seen, held = slice(40), slice(40, None)
    shared = Shared.learn(x[seen], y[seen], np.random.default_rng(0))
    together = [Stack(shared, np.random.default_rng(0)).fit(x[seen], task[seen]) for task in y.T[:6]]
    alone = [stacked(x[seen], task[seen]) for task in y.T[:6]]
    assert all(isinstance(one.members[-2], Together) for one in together)
    assert not any(isinstance(member, Together) for one in alone for member in one.members), (
        "one task has no components"
    )
    rho = [
        np.mean([spearman(one.predict(x[held]), truth[held, n]) for n, one in enumerate(m)]) for m in (together, alone)
    ]
    assert rho[0] > rho[1] + 0.02


def test_axes_say_of_a_fold_what_they_would_had_they_not_seen_it(rng):
    """Of noise nothing can be said: what had seen it would err less than the mean."""
    x, y = rng.dirichlet(np.ones(6), 60), rng.normal(size=(60, 20))
    shared = Shared.learn(x, y, np.random.default_rng(0))
    error = [(Together(shared.axes).seen(x, task).held_out(x, task, shared.fold)[0] - task).var() for task in y.T]
    assert np.mean(error / y.var(axis=0)) > 1
    again = Axes.learn(x[shared.fold != 2], y[shared.fold != 2], np.arange((shared.fold != 2).sum()))
    before = shared.axes.folds[2].said("mean_and_spread", x[shared.fold == 2])
    assert np.shape(before) == np.shape(again.said("mean_and_spread", x[shared.fold == 2]))
    np.testing.assert_allclose(np.abs(again.out[:, 0]), np.abs(shared.axes.folds[2].out[:, 0]))


def test_a_task_that_is_flat_where_a_fold_is_left_out_has_nothing_of_the_axes(rng):
    x, y = rng.dirichlet(np.ones(4), 20), np.zeros((20, 3))
    y[:2] = rng.normal(size=(2, 3))
    axes = Axes.learn(x[2:], y[2:], np.arange(18))
    mean, deviation = Together(axes).seen(x[2:], y[2:, 0]).opinion(x[:2])
    assert axes.out.shape == (18, 0) and (mean == 0).all() and (deviation == 0).all()


def test_tasks_settle_together_how_much_the_plane_counts(rng):
    """Two stacks whose own errors disagree move towards each other; alone, a stack keeps its own weights."""
    x = rng.dirichlet(np.ones(4), 40)
    bent, flat = stacked(x, bowl(x) + rng.normal(0, 0.01, 40)), stacked(x, x @ SLOPE + rng.normal(0, 0.3, 40))
    before = [one.weights[-1] for one in (bent, flat)]
    Stack.settle([bent])
    assert bent.weights[-1] == pytest.approx(before[0])
    Stack.settle([bent, flat])
    after = [one.weights[-1] for one in (bent, flat)]
    assert before[0] < after[0] and after[1] < before[1]
    assert [one.weights.sum() for one in (bent, flat)] == pytest.approx([1, 1])


def test_fewer_runs_than_candidates_know_no_plane_and_a_plain_process_is_asked_too(rng):
    """The plain one is on roots and unwarped, and the ridge has no more than runs / candidates of the weight."""
    x, new = rng.dirichlet(np.full(30, 0.2), 20), rng.dirichlet(np.full(30, 0.2), 50)
    y = x @ rng.normal(size=30) + rng.normal(0, 0.01, 20)
    few, enough = stacked(x, y), stacked(x[:, :18] / x[:, :18].sum(axis=1, keepdims=True), y)
    assert [one.plane for one in few.members[:-1]] == [False, False, False]
    assert [one.plane for one in enough.members[:-1]] == [False, True]
    assert few.weights[-1] <= 20 / 30 and few.weights.sum() == pytest.approx(1)
    assert few.members[2].power == 0.5 and few.members[2].warp.c is None
    alone = GaussianProcess().fit(x, y).predict(new)
    np.testing.assert_allclose(few.members[2].predict(new), alone, atol=0.01 * y.std())


def test_a_stack_draws_noise_towards_its_mean_and_believes_what_is_clear(rng):
    x, new = rng.dirichlet(np.ones(8), 40), rng.dirichlet(np.ones(8), 200)
    noise, clear = (stacked(x, y) for y in (rng.normal(size=40), x @ rng.normal(size=8)))
    assert noise.belief < 0.5 and clear.belief > 0.95
    assert noise.predict(new).std() < 0.5, "the noise has a standard deviation of 1"


@pytest.mark.parametrize("candidates", [24, 64])
def test_where_runs_hold_two_or_three_candidates_each_no_law_runs_away(candidates):
    """Without a prior on exponents one such fit in a few is off by many variances."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        x = sparse(rng, 2 * candidates, candidates)
        y = 3 + np.exp(x @ rng.normal(0, 1, candidates) - 1) + rng.normal(0, 0.05, len(x))
        train = slice(candidates + 8)
        for positive in (False, True):
            law = ExponentialLaw(np.random.default_rng(seed), positive=positive).fit(x[train], y[train])
            assert ((law.predict(x) - y) ** 2).mean() < 2 * y.var()


def sparse(rng, n, candidates):
    """Mixtures of two or three candidates each, as swarms are drawn."""
    x = np.zeros((n, candidates))
    for row in x:
        some = rng.choice(candidates, rng.integers(2, 4), replace=False)
        row[some] = rng.dirichlet(np.ones(len(some)))
    return x


def test_runs_of_one_mixture_share_their_fold(rng):
    x = np.repeat(rng.dirichlet(np.ones(4), 12), 3, axis=0)
    fold = deal_folds(x, 5, rng).reshape(12, 3)
    assert (fold == fold[:, :1]).all() and sorted(np.bincount(fold[:, 0])) == [2, 2, 2, 3, 3]


def test_surfaces_imagined_before_any_run_vary_by_one_and_near_mixtures_alike(rng):
    mixtures = np.array([[0.5, 0.5], [0.49, 0.51], [0.0, 1.0]])
    drawn = GaussianProcess().imagined(mixtures, 3000, rng)
    assert drawn.mean(axis=0) == pytest.approx(np.zeros(3), abs=0.08)
    assert drawn.var(axis=0) == pytest.approx(np.ones(3), abs=0.12)
    near, far = np.corrcoef(drawn.T)[0, 1:]
    assert near > 0.95 > far
