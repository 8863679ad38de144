"""Intervals hold what they promise on runs that nobody has seen, whoever made them, and it is said where none does."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demix_nb.predictors import PREDICTORS, calibrated, coverage, ranges
from demix_nb.predictors.calibration import CALIBRATED, told
from demix_nb.predictors.regressor import widened
from demix_nb.region import Region
from demix_nb.scored import Scored, describe

NAMES = ["web", "math", "code", "chat"]
ABLE = [name for name, row in PREDICTORS.items() if row.spread]


def runs(rng, n: int, prefix: str = "m", noise: float = 0.05) -> Scored:
    shares = Region(NAMES).draw(n, rng=rng, prefix=prefix)
    loss = pd.DataFrame({"math": 3 - np.sqrt(shares["math"]), "code": 2 + (shares["code"] - 0.3) ** 2})
    return Scored(shares, loss + rng.normal(0, noise, loss.shape), describe(loss, unit="nats", higher_is_better=False))


def reached(predictor, fresh: Scored) -> float:
    """Share of fresh runs in the interval of 90 %."""
    table = coverage(predictor.predict(fresh.mixtures), predictor.spread(fresh.mixtures), fresh)
    return table.set_index("level")["covered"][0.9]


@pytest.mark.parametrize("name", ABLE)
def test_nine_in_ten_of_fresh_runs_lie_in_the_interval(name):
    plain, after, said = [], [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        seen, fresh = runs(rng, 80), runs(rng, 400, "f")
        fitted = PREDICTORS[name].new(rng=rng).fit(seen)
        sure, table = calibrated(fitted, seen, rng=rng)
        plain.append(reached(fitted, fresh))
        after.append(reached(sure, fresh))
        said.append(table["covered"].mean())
        assert list(table) == CALIBRATED and table["low"].le(table["covered"]).all()
    assert 0.87 < np.mean(after) < 0.95 and abs(np.mean(said) - np.mean(after)) < 0.03
    if name == "lightgbm_bagged":
        assert np.mean(plain) < 0.75, "a bag knows what is open about the mean, and nothing of a run's noise"


def test_draws_are_widened_as_spreads_are(rng):
    seen, some = runs(rng, 60), runs(rng, 5, "f").mixtures
    fitted = PREDICTORS["lightgbm_bagged"].new(rng=rng).fit(seen)
    sure, table = calibrated(fitted, seen, rng=rng)
    assert (table["times"] > 1.1).all()
    wide, narrow = (
        np.std([one.scores for one in each.draws(some, 300, rng=np.random.default_rng(1))], axis=0)
        for each in (sure, fitted)
    )
    assert np.allclose(wide / narrow, table["times"].to_numpy(), rtol=1e-6)
    assert np.allclose(sure.spread(some) / fitted.spread(some), table["times"].to_numpy())
    assert sure.predict(some).scores.equals(fitted.predict(some).scores)
    assert sure.fit(seen).times.empty, "what is fitted anew is not calibrated"


def test_a_few_far_runs_widen_nothing_and_honest_ones_leave_all_as_it_is(rng):
    honest = rng.standard_normal(4000)
    far = np.r_[honest, np.full(40, 30.0)]
    assert widened(honest) == pytest.approx(1, abs=0.05) and widened(3 * honest) == pytest.approx(3, abs=0.15)
    assert widened(far) == pytest.approx(1, abs=0.08) and np.sqrt((far**2).mean()) > 3


def test_the_next_run_is_held_as_often_as_it_should_of_few(rng):
    """Two dozen runs whose spread is a third of what it should be: nine in ten of next ones, not eight."""
    held = []
    for _ in range(400):
        surprises = 3 * rng.standard_normal(25)
        held.append(abs(surprises[0]) <= widened(surprises[1:]) * 1.645)
    assert 0.82 < np.mean(held) < 0.93


def test_who_says_nothing_is_not_calibrated_and_what_cannot_be_is_said(rng):
    seen = runs(rng, 30)
    fitted = PREDICTORS["ridge"].new(rng=rng).fit(seen)
    same, table = calibrated(fitted, seen, rng=rng)
    assert same is fitted and table.empty and list(table) == CALIBRATED
    assert told(0.9, 0.8, 0.95) == "calibrated" and told(0.87, 0.8, 0.92).startswith("perhaps too narrow")
    assert told(0.80, 0.7, 0.87).startswith("too narrow: no multiple") and told(0.99, 0.95, 1.0).startswith("too wide")
    assert ranges(fitted, seen.mixtures.iloc[0])[["low", "high"]].isna().all(axis=None)


def test_too_few_runs_keep_their_spread_and_are_told_why(rng):
    seen = runs(rng, 11)
    fitted = PREDICTORS["stack"].new(rng=rng).fit(seen)
    sure, table = calibrated(fitted, seen, rng=rng)
    assert table["covered"].isna().all() and table["told"].str.startswith("not known: stack needs 10 runs, not ").all()
    pd.testing.assert_frame_equal(sure.spread(seen.mixtures), fitted.spread(seen.mixtures))


def test_what_a_mixture_is_predicted_to_score_is_an_interval_of_a_run(rng):
    seen = runs(rng, 60)
    seen = replace(seen, tasks=seen.tasks.assign(family="loss"))
    fitted, fresh = PREDICTORS["gaussian_process"].new(rng=rng).fit(seen), runs(rng, 1, "f").mixtures
    found, spread = ranges(fitted, fresh.iloc[0]).loc["loss"], fitted.spread(fresh).iloc[0]
    assert found["predicted"] == pytest.approx(fitted.predict(fresh).scores.iloc[0].mean())
    assert found["high"] - found["low"] == pytest.approx(2 * 1.645 * spread.mean(), rel=1e-3)
