"""A dragged score moves the mixture by the smallest step inside the region, or nothing moves and the reader is told."""

import fixtures_panels
import numpy as np
import pandas as pd
import pytest
from scipy.special import rel_entr

from demix_nb.panels.reach import LEAST, reach
from demix_nb.panels.sliders import Sliders
from demix_nb.panels.wishes import Wishes
from demix_nb.region import Region

play, scored, predictor = fixtures_panels.play, fixtures_panels.scored, fixtures_panels.predictor


def test_slopes_are_those_that_differences_show(scored, predictor, rng):
    process, step = predictor.regressors["code"], 1e-6
    rows = rng.dirichlet(np.ones(len(scored.candidates)), 5)
    for number, row in enumerate(rows):
        both = row + step * np.vstack([np.eye(len(row)), -np.eye(len(row))])
        up, down = np.split(process.predict(both), 2)
        assert process.slopes(rows)[number] == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-5)


def regions(candidates):
    math = [name for name in candidates if "math" in name]
    bounds = {"lower": {"general": 0.05}, "upper": dict.fromkeys(candidates, 0.25), "groups": {"m": (math, 0.1, 0.5)}}
    return {
        "all": Region(candidates),
        "bounded": Region(candidates, **bounds),
        "near": Region(candidates, near=(dict.fromkeys(candidates, 1 / len(candidates)), 0.3)),
        "locked": Region(candidates, fixed={"general": 0.1, "code_cpp": 0.0}),
    }


def divergence(mixture, start, region):
    return rel_entr(mixture.to_numpy(), region.nearest(start.clip(lower=LEAST)).to_numpy()).sum()


@pytest.mark.parametrize("name", ["all", "bounded", "near", "locked"])
def test_the_step_gets_there_inside_the_region_and_no_mixture_there_is_nearer(name, scored, predictor, rng):
    region = regions(scored.candidates)[name]
    pool = region.draw(20_000, rng=rng)
    values = predictor.predict(pool).scores
    for _ in range(6):
        family = rng.choice(list(scored.scores))
        start = region.draw(1, rng=rng).iloc[0]
        wanted = float(np.quantile(values[family], rng.uniform(0.05, 0.95)))
        found = reach(predictor.regressors[family], region, start, wanted)
        assert found.there and region.holds(found.mixture.to_frame("m").T).all()
        again = predictor.predict(found.mixture.to_frame("m").T).scores[family].item()
        assert again == pytest.approx(wanted, abs=2e-3 * scored.scores[family].std())
        same = pool[(values[family] - wanted).abs() < 0.02 * scored.scores[family].std()]
        others = [divergence(row, start, region) for _, row in same.iterrows()]
        assert divergence(found.mixture, start, region) <= min(others) + 0.02


def test_what_no_mixture_is_predicted_at_is_said_to_be_out_of_reach(scored, predictor, rng):
    region = Region(scored.candidates)
    process, start = predictor.regressors["math"], scored.mixtures.mean()
    found = reach(process, region, start, 0.0)
    seen = predictor.predict(region.draw(20_000, rng=rng)).scores["math"]
    assert not found.there and found.score <= seen.min(), "it went as far as it could"


def test_a_dragged_score_moves_the_mixture_and_a_locked_candidate_stays(scored, predictor):
    sliders = Sliders(scored.mixtures.mean().to_frame("mean").T)
    wishes = Wishes(sliders, predictor, scored, list(scored.scores))
    before, slider = pd.Series(sliders.mixture.value), wishes.sliders["code"]
    assert slider.value == pytest.approx(predictor.predict(before.to_frame("m").T).scores["code"].item())
    sliders.locks["general"].value = True
    slider.value = wanted = slider.value - 0.05
    after = pd.Series(sliders.mixture.value)
    assert after["general"] == pytest.approx(before["general"]) and (after - before).abs().sum() > 0.01
    predicted = predictor.predict(after.to_frame("m").T).scores.loc["m"]
    assert predicted["code"] == pytest.approx(wanted, abs=2e-3) and "is reached by moving" in sliders.said.value
    assert wishes.sliders["math"].value == pytest.approx(predicted["math"])


def test_a_score_that_cannot_be_reached_moves_nothing_and_says_so(scored, predictor):
    sliders = Sliders(scored.mixtures.mean().to_frame("mean").T, region=Region(scored.candidates, near=(
        scored.mixtures.mean().to_dict(), 0.02)))  # fmt: skip
    wishes = Wishes(sliders, predictor, scored, list(scored.scores))
    before, score = dict(sliders.mixture.value), wishes.sliders["math"].value
    wishes.sliders["math"].value = wishes.sliders["math"].min
    assert sliders.mixture.value == before and "is out of reach here; the farthest" in sliders.said.value
    assert wishes.sliders["math"].value == pytest.approx(score)
    for name in list(sliders.locks)[:-1]:
        sliders.locks[name].value = True
    wishes.sliders["math"].value = score - 0.1
    assert sliders.mixture.value == before
