"""The price of a bound is what the planted optimum gains where it is loosened, and nothing where it does not bind."""

import numpy as np
import pandas as pd
import pytest
from planted import NAMES, SHARES, TASKS, Known, losses, predictor

from demix_nb import decide, prices
from demix_nb.goals import Guardrail, Rails
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

TIGHT = {"word": 0.15, "python": 0.1}


def objective(scored: Scored) -> pd.Series:
    return scored.scores["g"]


class Sure(Known):
    """It knows the losses, and draws nothing else."""

    def draws(self, mixtures, n, *, rng):
        return [self.predict(mixtures)] * n


def by_python(mixtures: pd.DataFrame) -> pd.DataFrame:
    """Mathematics is a share of python: its guardrail is a lower bound in other words, whose optimum is known."""
    return losses(mixtures).assign(m=1 - mixtures["python"])


def best_in(region: Region) -> float:
    at = region.project(SHARES.to_frame("it").T)  # clip(c·shares) minimises both ways of KL
    return losses(at)["g"].item()


def test_prices_are_what_the_loosened_problem_gains(rng):
    region = Region(NAMES, upper=TIGHT, lower={"news": 0.02})
    here, found = prices.prices(Sure(), region, objective, pd.Series(1 / 6, NAMES), rng=rng)
    assert set(found.index) == {"upper word", "upper python"}, "a bound that is not met has no price"
    for name, share in TIGHT.items():
        wider = Region(NAMES, upper=TIGHT | {name: share + prices.POINT}, lower={"news": 0.02})
        gain = best_in(region) - best_in(wider)
        assert found.loc[f"upper {name}", "gain"] == pytest.approx(gain, rel=0.05)
        assert found.loc[f"upper {name}", "low"] == pytest.approx(gain, rel=0.05)
    assert (
        region.holds(here.to_frame("it").T).all() and losses(here.to_frame("it").T)["g"].item() < best_in(region) + 1e-4
    )


def test_groups_distances_and_lower_bounds_have_prices_too(rng):
    start = pd.Series(1 / 6, NAMES)
    bounds = {"groups": {"sums": (["word", "drill", "proofs"], 0.0, 0.4)}}
    _, found = prices.prices(Sure(), Region(NAMES, **bounds), objective, start, rng=rng)
    assert list(found.index) == ["upper group sums"] and found["gain"].item() > 0
    near = Region(NAMES, near=(start, 0.05))
    _, found = prices.prices(Sure(), near, objective, start, rng=rng)
    assert list(found.index) == ["near"] and found["gain"].item() > 0
    _, found = prices.prices(Sure(), Region(NAMES, lower={"drill": 0.2}), objective, start, rng=rng)
    assert list(found.index) == ["lower drill"] and found["gain"].item() > 0
    assert found[["billion", "billion_low", "billion_high"]].isna().all(axis=None), "no amount of data"
    _, none = prices.prices(Sure(), Region(NAMES), objective, start, rng=rng)
    assert none.empty and list(none) == prices.PRICED


@pytest.mark.parametrize("least", [0.3, 0.1], ids=["binding", "slack"])
def test_bounds_under_a_guardrail_and_the_guardrail_cost_what_the_loosened_problems_gain(least, rng):
    known, start, z = Sure(by_python), pd.Series(1 / 6, NAMES), 1.2815515655
    rails = Rails([Guardrail("math", 1 / 6 - least + z * 0.1, 0.9)], known, start)
    bounds = {"groups": {"sums": (["word", "drill", "proofs"], 0.0, 0.4)}}
    here, found = prices.prices(known, Region(NAMES, **bounds), objective, start, rng=rng, rails=rails)

    def gain(share=0.0, margin=0.0):
        wider = {"sums": (bounds["groups"]["sums"][0], 0.0, 0.4 + share)}
        return best_in(Region(NAMES, lower={"python": least}, **bounds)) - best_in(
            Region(NAMES, lower={"python": least - margin}, groups=wider)
        )

    assert losses(here.to_frame("it").T)["g"].item() == pytest.approx(
        best_in(Region(NAMES, lower={"python": least}, **bounds)), abs=1e-4
    )
    assert list(found.index) == ["upper group sums"] + (["guardrail math"] if least > 0.2 else [])
    wanted = [gain(share=prices.POINT), gain(margin=prices.POINT)][: len(found)]
    assert found["gain"].tolist() == pytest.approx(wanted, rel=0.05)
    assert (found["low"] <= found["gain"] * 1.05).all() and (found["high"] >= found["gain"] * 0.95).all()
    problem = prices.Problem(prices.loss_of(known, objective), Region(NAMES), rails)
    for sample in (here.to_frame("it").T, problem.within(Region(NAMES).draw(50, rng=rng))):
        assert (sample["python"] >= least - 1e-6).all() and np.allclose(sample.sum(axis=1), 1)


def test_guardrails_that_nothing_keeps_leave_no_prices(rng, monkeypatch):
    monkeypatch.setattr(prices, "STEPS", 5)
    known, start = Sure(by_python), pd.Series(1 / 6, NAMES)
    rails = Rails([Guardrail("math", -2.0, 0.9)], known, start)
    _, found = prices.prices(known, Region(NAMES, upper=TIGHT), objective, start, rng=rng, rails=rails)
    assert found.empty and list(found) == prices.PRICED


TOKENS = pd.Series([9e9, 4e9, 1e9, 3e9, 4e9, 1e9], NAMES)


@pytest.mark.parametrize("target", [20e9, 2000e9], ids=["a billion is many points", "a billion is little"])
def test_a_billion_tokens_more_are_worth_what_the_loosened_problem_gains(target, rng):
    def allowed(**more):
        tokens = TOKENS * target / 20e9 + pd.Series(more).reindex(NAMES, fill_value=0.0)
        data = {"target_tokens": target, "epochs": 2.0, "general": "news", "beta": 0.5}
        return Region.of_data(tokens, **data, upper={"drill": 0.02})

    region = allowed()
    _, found = prices.prices(Sure(), region, objective, pd.Series(1 / 6, NAMES), rng=rng)
    assert {"upper word", "upper python", "upper drill"} <= set(found.index)
    assert np.isnan(found.loc["upper drill", "billion"]), "a cap of shares, not of data"
    for name in ("word", "python"):
        gain = best_in(region) - best_in(allowed(**{name: 1e9}))
        row = found.loc[f"upper {name}"]
        assert row["billion"] == pytest.approx(gain, rel=0.1) and row["billion_low"] == pytest.approx(gain, rel=0.1)


def test_intervals_of_what_was_learnt_hold_the_true_gain():
    region, held = Region(NAMES, upper=TIGHT), []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        seen = Region(NAMES).draw(60, rng=rng)
        noisy = losses(seen) + 0.02 * rng.standard_normal((60, 3))
        learnt = predictor().fit(Scored(seen, noisy, TASKS))
        _, found = prices.prices(learnt, region, objective, SHARES, rng=rng)
        for name, share in TIGHT.items():
            gain = best_in(region) - best_in(Region(NAMES, upper=TIGHT | {name: share + prices.POINT}))
            if f"upper {name}" in found.index:
                row = found.loc[f"upper {name}"]
                held.append(row["low"] <= gain <= row["high"])
    assert len(held) >= 8 and np.mean(held) >= 0.7


def test_the_slope_of_an_objective_is_that_of_its_formula():
    at = pd.Series(0.5 / 6, NAMES) + 0.5 * SHARES
    value, slope = prices.loss_of(Known(), objective)(at)
    assert value == pytest.approx(losses(at.to_frame("it").T)["g"].item())
    exact = -SHARES / (at + 1e-3)
    assert np.allclose(slope, exact - at @ exact, rtol=0.02, atol=0.01)
    found, curve = decide.optimise(prices.loss_of(Known(), objective), Region(NAMES), start=at)
    assert curve.is_monotonic_decreasing and np.abs(found - SHARES).max() < 0.02


def test_a_bound_that_is_none_is_refused():
    with pytest.raises(Refusal, match="no bound 'upper words'; the bounds are upper word, upper python"):
        Region(NAMES, upper=TIGHT).limits.loosened("upper words", 0.01)
