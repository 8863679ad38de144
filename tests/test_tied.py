"""What cannot be told from the best: the set holds a planted optimum as often as it should, and shrinks with runs."""

import numpy as np
import pandas as pd
import pytest
from planted import BOUNDED, FREE, NAMES, SHARES, TASKS, losses

from demix_nb import tied
from demix_nb.mixtures import uniform
from demix_nb.predictors import PREDICTORS
from demix_nb.scored import Scored
from demix_nb.store import Refusal

NOISE = 0.02  # of a run, in each task's unit


def level(scored: Scored) -> pd.Series:
    """The mean of the first two tasks, which agree on the order; smaller is better."""
    return scored.scores[["g", "m"]].mean(axis=1)


def fitted(region, n, seed, name="gaussian_process", noise=NOISE):
    rng = np.random.default_rng(seed)
    seen = region.draw(n, rng=rng)
    scores = losses(seen) + noise * rng.standard_normal((n, 3))
    return PREDICTORS[name].new(rng=rng).fit(Scored(seen, scores, TASKS)), rng


def optimum(region):
    return region.project(SHARES.to_frame("optimum").T)


def found(region, n, seed, name="gaussian_process", **more):
    predictor, rng = fitted(region, n, seed, name)
    return tied.tied(predictor, region, level, NOISE, rng=rng, **more)


@pytest.mark.parametrize("name", ["gaussian_process", "stack"])
@pytest.mark.parametrize("region", [FREE, BOUNDED], ids=["free", "bounded"])
def test_the_set_holds_the_planted_optimum(region, name):
    held = [("optimum" in found(region, 40, seed, name, also=optimum(region)).mixtures.index) for seed in range(8)]
    assert np.mean(held) >= 7 / 8
    assert region.holds(found(region, 40, 0, name).mixtures).all()


def test_more_runs_leave_less_open():
    few, many = (found(FREE, n, 1) for n in (16, 160))
    assert len(many.mixtures) < 0.5 * len(few.mixtures)
    assert ((many.ranges["high"] - many.ranges["low"]) < few.ranges["high"] - few.ranges["low"]).mean() > 0.5


def test_the_corners_are_not_tied_and_shares_lie_in_their_ranges():
    corners = pd.DataFrame(np.eye(len(NAMES)), [f"only {name}" for name in NAMES], NAMES)
    sets = found(FREE, 60, 2, also=corners)
    assert not set(corners.index) & set(sets.mixtures.index)
    for rule in tied.RULES:
        chosen = sets.choose(rule, uniform(NAMES))
        assert (chosen >= sets.ranges["low"] - 1e-12).all() and (chosen <= sets.ranges["high"] + 1e-12).all()
        assert (
            level(Scored(chosen.to_frame("m").T, losses(chosen.to_frame("m").T), TASKS)).item()
            < level(Scored(corners, losses(corners), TASKS)).min()
        )
    near = sets.choose("nearest", uniform(NAMES))
    others = [(sets.mixtures.loc[name] * np.log(sets.mixtures.loc[name] * 6)).sum() for name in sets.mixtures.index]
    assert (near * np.log(near * 6)).sum() == pytest.approx(min(others))
    assert sets.choose("robust").name == sets.facts["worst"].idxmin()


def test_draws_are_of_the_mean_and_as_wide_as_it_is_open():
    """Against the closed form: the mean of many draws is the prediction, their covariance that of the posterior."""
    predictor, rng = fitted(FREE, 60, 3, noise=0.2)
    fresh = FREE.draw(5, rng=rng)
    drawn = np.array([one.scores.to_numpy() for one in predictor.draws(fresh, 4000, rng=rng)])
    predicted, spread = predictor.predict(fresh).scores.to_numpy(), predictor.spread(fresh).to_numpy()
    assert np.abs(drawn.mean(axis=0) - predicted).max() < 4 * (spread / np.sqrt(4000)).max()
    assert (drawn.std(axis=0) < spread).all(), "a run's noise is in the spread alone"
    twice = pd.concat([fresh.iloc[:1], fresh.iloc[:1].set_axis(["again"])])
    same = np.array([one.scores.to_numpy() for one in predictor.draws(twice, 50, rng=rng)])
    assert np.allclose(same[:, 0], same[:, 1], atol=1e-4), "drawn together"


@pytest.mark.parametrize("name", [name for name, row in PREDICTORS.items() if row.spread])
def test_whoever_has_a_spread_can_draw(name):
    predictor, rng = fitted(FREE, 60, 4, name)
    fresh = FREE.draw(20, rng=rng)
    drawn = predictor.draws(fresh, 300, rng=np.random.default_rng(1))
    again = predictor.draws(fresh, 300, rng=np.random.default_rng(1))
    pd.testing.assert_frame_equal(drawn[7].scores, again[7].scores)
    middle = np.mean([one.scores.to_numpy() for one in drawn], axis=0)
    predicted = predictor.predict(fresh).scores
    assert (np.abs(middle - predicted) < 0.2 * losses(fresh).std()[list(predicted)] + 1e-9).all(axis=None)


def test_what_cannot_be_told_is_refused():
    predictor, rng = fitted(FREE, 20, 5, "ridge")
    with pytest.raises(Refusal, match="ridge has no spread; take 'lightgbm_bagged' or"):
        tied.tied(predictor, FREE, level, NOISE, rng=rng)
    with pytest.raises(Refusal, match="a second seed changes nan; it must be above 0"):
        tied.tied(predictor, FREE, level, np.nan, rng=rng)
    sets = found(FREE, 20, 5)
    with pytest.raises(Refusal, match="no rule 'top' in the tied set; take one of best, nearest, robust"):
        sets.choose("top")
    with pytest.raises(Refusal, match="the nearest mixture needs a baseline"):
        sets.choose("nearest")
