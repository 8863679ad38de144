"""Rank correlation against scipy's, intervals against what they must contain."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from demix_nb.intervals import bootstrap_interval, interval, pearson, spearman


def test_spearman_is_scipys_with_and_without_ties(rng):
    a, b = rng.normal(size=50), rng.normal(size=50)
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)
    a, b = a.round(), b.round()
    assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic)


def test_pearson_is_numpys(rng):
    a, b = rng.normal(size=50), rng.normal(size=50)
    assert pearson(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_spearman_of_a_batch_is_the_batch_of_spearmans(rng):
    a, b = rng.normal(size=(3, 20)), rng.normal(size=(3, 20))
    np.testing.assert_allclose(spearman(a, b), [spearman(x, y) for x, y in zip(a, b, strict=True)])


def test_spearman_knows_only_order(rng):
    a = rng.normal(size=30)
    assert spearman(a, np.exp(a)) == pytest.approx(1)
    assert spearman(a, -(a**3)) == pytest.approx(-1)


def test_no_order_in_a_constant():
    assert np.isnan(spearman(np.ones(5), np.arange(5.0)))


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        spearman(np.ones(3), np.ones(4))
    with pytest.raises(ValueError, match="one length"):
        bootstrap_interval(spearman, np.ones(3), np.ones(4), rng=np.random.default_rng(0))


def test_an_interval_leaves_half_of_the_rest_on_either_side(rng):
    values = rng.normal(size=1000)
    low, high = interval(values, 0.8)
    assert (values < low).sum() == (values > high).sum() == 100
    assert interval(np.r_[values, np.nan, np.inf], 0.8) == (low, high)
    assert interval(values)[0] < low < high < interval(values)[1]


def test_no_interval_of_nothing():
    assert np.isnan(interval(np.full(3, np.nan))).all() and np.isnan(interval(np.ones(0))).all()


def test_interval_of_the_mean_is_the_normal_one(rng):
    values = rng.normal(size=400)
    low, high = bootstrap_interval(lambda x: x.mean(axis=-1), values, rng=rng, n=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)


def test_interval_covers_the_truth_about_as_often_as_it_says(rng):
    hits = 0
    for _ in range(200):
        a = rng.normal(size=60)
        low, high = bootstrap_interval(spearman, a, a + rng.normal(size=60), rng=rng, n=300)
        hits += low < 0.689 < high  # population value: 6/π · arcsin(r/2) with Pearson's r = 1/√2
    assert 0.88 <= hits / 200 <= 0.99


def test_undefined_statistic_is_an_error(rng):
    with pytest.raises(ValueError, match="undefined"):
        bootstrap_interval(spearman, np.ones(10), np.arange(10.0), rng=rng)
