"""The update rules agree with steps worked by hand, and with what their papers promise."""

import math

import numpy as np
import pandas as pd
import pytest

from demix_nb import online

NAMES = ["general", "math", "code"]


def series(*values):
    return pd.Series(values, index=NAMES, dtype=float)


def test_excess_clips_every_token_before_it_averages():
    losses = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, 4.0]])
    reference = np.array([[2.0, 2.0], [2.5, 1.0], [1.0, 4.0]])
    # code: tokens (1, 0), (4, 0); math: (0, 1). Without clipping the first row of code would count 0
    found = online.excess(losses, reference, ["code", "math", "code"])
    assert found.to_dict() == {"code": (0.5 + 2.0) / 2, "math": 0.5}


def test_doremi_steps_worked_by_hand():
    step = online.doremi_step(series(0.5, 0.25, 0.25), series(0, math.log(2), math.log(4)), smoothing=0.1)
    # 0.5·1, 0.25·2, 0.25·4 = 0.5, 0.5, 1, sum 2
    assert step.to_list() == pytest.approx([0.9 * 0.25 + 0.1 / 3, 0.9 * 0.25 + 0.1 / 3, 0.9 * 0.5 + 0.1 / 3])
    half = online.doremi_step(series(0.5, 0.25, 0.25), series(0, 0, math.log(4)), rate=0.5, smoothing=0.0)
    assert half.to_list() == pytest.approx([0.4, 0.2, 0.4])


def test_doremi_keeps_every_domain_alive_and_survives_large_excess():
    mixture = series(1, 1, 1) / 3
    for _ in range(100):
        mixture = online.doremi_step(mixture, series(0, 0, 1000))
    assert mixture.sum() == pytest.approx(1) and mixture.min() == pytest.approx(online.SMOOTHING / 3)
    order = mixture[::-1]
    pd.testing.assert_series_equal(
        online.doremi_step(order, series(0, 1, 2)), online.doremi_step(mixture, series(0, 1, 2))[::-1]
    )


@pytest.mark.parametrize("wrong", [series(0, -0.1, 1), series(0, 1, 1).drop("code"), series(0, np.nan, 1)])
def test_excess_that_is_no_excess_is_refused(wrong):
    with pytest.raises(ValueError, match="not negative"):
        online.doremi_step(series(0.5, 0.25, 0.25), wrong)


def test_exploration_falls_from_equal_shares():
    assert online.exploration(0, 4) == online.exploration(1, 4) == 0.25
    assert online.exploration(100, 4) == pytest.approx(math.sqrt(math.log(4) / 400))
    assert online.exploration(3, 1) == 0.0


def test_odm_policy_worked_by_hand():
    assert online.odm_policy(series(0, 9, 3), 1).to_list() == pytest.approx([1 / 3] * 3)  # ε₁ = 1/K: nothing known yet
    rewards, step = series(0, 2, 4), 50
    floor, heat = (math.sqrt(math.log(3) / (3 * t)) for t in (50, 49))
    powers = [1, math.exp(2 * heat), math.exp(4 * heat)]
    expected = [(1 - 3 * floor) * power / sum(powers) + floor for power in powers]
    assert online.odm_policy(rewards, step).to_list() == pytest.approx(expected)
    late = online.odm_policy(series(0, 0, 1e6), 10**6)
    assert late.sum() == pytest.approx(1) and late["code"] > 0.99 and late["math"] > 0


def test_odm_rewards_worked_by_hand():
    rewards, policy = series(1, 2, 3), series(0.5, 0.25, 0.25)
    after = online.odm_rewards(rewards, pd.Series({"math": 4.0}), policy)
    assert after.to_list() == pytest.approx([1, 0.9 * 2 + 0.1 * 16, 3]) and list(after.index) == NAMES
    both = online.odm_rewards(rewards, pd.Series({"code": 1.0, "general": 2.0}), policy, decay=0.5)
    assert both.to_list() == pytest.approx([0.5 * 1 + 0.5 * 4, 2, 0.5 * 3 + 0.5 * 4])


def test_a_bandit_draws_most_what_pays_most_and_forgets_nothing(rng):
    pays, rewards, drawn = series(1.0, 1.0, 3.0), series(0, 0, 0), series(0, 0, 0)
    for step in range(1, 601):
        policy = online.odm_policy(rewards, step)
        arm = rng.choice(NAMES, p=policy)
        drawn[arm] += 1
        rewards = online.odm_rewards(rewards, pd.Series({arm: pays[arm]}), policy)
    # rewards are divided by p and ε falls: the policy leans towards the best arm, it never settles on it
    assert drawn["code"] > 1.1 * drawn.drop("code").max() and drawn.min() > 0.2 * drawn.sum()
