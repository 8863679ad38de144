"""AC-ODM's reward is what it says, its agent finds what pays, and its first steps are ODM's."""

import numpy as np
import pytest
import torch
from test_learnt import models, setting  # noqa: F401
from transformers import AutoModelForCausalLM

from demix_nb.lab.actor import ACODM, BOUND, Agent, alignment, standardised
from demix_nb.lab.batches import text_of
from demix_nb.lab.loop import next_token_losses
from demix_nb.lab.rules import odm_policy
from demix_nb.mixtures import uniform


def test_the_reward_is_agreement_with_the_others_worked_by_hand():
    gradients = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -2.0]])
    # sums of products with the others: 1 + 0, 1 − 2, 0 − 2 = 1, −1, −2; mean norm (1 + √2 + 2) / 3
    agreed = torch.tensor([1.0, -1.0, -2.0]) / ((3 + 2**0.5) / 3)
    assert torch.allclose(alignment(gradients), standardised(agreed), atol=1e-5)
    assert alignment(gradients).argmax() == 0


def test_standardised_numbers_are_cut_and_equal_ones_are_zero():
    values = torch.zeros(30)
    values[7] = 1e6
    found = standardised(values)
    assert found.max() == BOUND and found.argmax() == 7
    assert (standardised(torch.full((4,), 2.5)) == 0).all()


def test_an_agent_draws_most_what_pays_most():
    pays, state = torch.tensor([-1.0, -0.5, 1.5]), torch.tensor([0.3, -0.2])
    agent = Agent(2, 3, seed=0)
    first = agent.act(state)
    rng = np.random.default_rng(0)
    for step in range(400):
        mixture = torch.tensor(rng.dirichlet(np.ones(3)) if step % 2 else agent.act(state), dtype=torch.float32)
        agent.remember(state, mixture, pays * mixture, state)
        agent.learn(warm=False, done=step / 400)
    assert agent.act(state)[2] > 0.8 > first[2]


def test_a_warm_agent_does_what_was_done_before_it():
    state, done = torch.tensor([0.3, -0.2]), torch.tensor([0.7, 0.2, 0.1])
    agent = Agent(2, 3, seed=1)
    for _ in range(60):
        agent.remember(state, done, torch.zeros(3), state)
        agent.learn(warm=True, done=0.0)
    assert agent.act(state) == pytest.approx(done.numpy(), abs=0.03)


def test_odm_acts_first_and_then_the_actor(small_data, models, setting):  # noqa: F811
    job = setting.job("x", "ac-odm", uniform(small_data.candidates))
    rule, text = ACODM(setting, job, small_data), text_of(job, small_data)
    model = AutoModelForCausalLM.from_pretrained(models / "equal")
    assert 0 < rule.warm < job.steps
    for step in range(job.steps):
        before = rule.rewards
        candidates = rule.candidates(step)
        if step < rule.warm:
            assert rule.policy.to_list() == pytest.approx(odm_policy(before, step + 1).to_list())
        batch = torch.from_numpy(np.stack([next(text[name]) for name in candidates]))
        losses = next_token_losses(model, batch)
        assert (rule.weights(candidates, batch, losses, model) == 1).all()
        losses.mean().backward()  # what the agent took of the graph leaves training its own
        assert rule.policy.sum() == pytest.approx(1) and rule.policy.min() > 0
    assert rule.counts.sum() == job.steps * rule.drawn
    assert len(rule.agent.pool) == job.steps and rule.policy.nunique() > 1
