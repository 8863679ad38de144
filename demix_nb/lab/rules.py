"""What picks the rows of a batch and weighs them while a mixture is learnt: DoReMi and ODM.

DoReMi trains a small proxy against the worst case: a candidate on which the proxy is worse than a reference model gains
weight, and the answer is the average of the weights over time. ODM is a bandit: candidates are drawn from a policy, the
loss is the reward, and what is hard is drawn more often. Both papers weigh all the data; our recipe keeps its general
part, (1−β)·general + β·α, and only α is learnt, so that their answers mean the same as a search's. DoReMi samples the
recipe of equal shares and weighs a row's loss by what the recipe of α asks of its candidate over what is sampled; ODM
draws the candidate rows of every batch.

Sources: DoReMi (arXiv 2305.10429) algorithm 1; ODM (arXiv 2312.02406) algorithm 1. We differ: a batch is small, so that
a candidate that is not in it keeps its last excess (as in DoReMi's code); ODM has no warm-up. Constants are the
authors' own.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from transformers import PreTrainedModel

from demix_nb.lab.batches import streams
from demix_nb.lab.corpora import SHUFFLING, Corpora
from demix_nb.lab.jobs import Job, Setting
from demix_nb.lab.loop import next_token_losses
from demix_nb.mixtures import apportion, recipe, uniform
from demix_nb.store import Refusal

RATE = 1.0  # DoReMi, algorithm 1
SMOOTHING = 1e-4  # DoReMi, section 2; the released script has 1e-3
DECAY = 0.9  # ODM: moving average of the rewards

Batch = Int64[torch.Tensor, "row length"]
Losses = Float[torch.Tensor, "row token"]  # nats


# --- update rules, as pure functions of mixtures --------------------------------------------------------------------


def excess(
    losses: Float[np.ndarray, "row token"], reference: Float[np.ndarray, "row token"], candidates: Sequence[str]
) -> pd.Series:
    """Return candidate → mean over its tokens of max(loss − reference loss, 0), nats; `candidates` names each row's."""
    clipped = np.maximum(losses - reference, 0).mean(axis=1)
    return pd.Series(clipped, index=list(candidates)).groupby(level=0).mean()


def doremi_step(
    mixture: pd.Series, excess: pd.Series, *, rate: float = RATE, smoothing: float = SMOOTHING
) -> pd.Series:
    """Return the next mixture: α·exp(η·excess), normalised, then (1−ε)·α + ε/K (DoReMi, algorithm 1).

    Raises Refusal when `excess` lacks a candidate or has a negative value: tokens are clipped before their mean.
    """
    if not excess.reindex(mixture.index).ge(0).all():
        raise Refusal(f"excess losses {excess.to_dict()} must be there and not negative for {list(mixture.index)}")
    grown = mixture * np.exp(rate * (excess[mixture.index] - excess.max()))
    return (1 - smoothing) * grown / grown.sum() + smoothing / len(mixture)


def exploration(step: int, arms: int) -> float:
    """Return ODM's ε of a step, the least probability of each arm: min(1/K, √(ln K / (K t))); step 0 is 1/K."""
    return 1 / arms if step == 0 else min(1 / arms, math.sqrt(math.log(arms) / (arms * step)))


def odm_policy(rewards: pd.Series, step: int) -> pd.Series:
    """Return what step 1, 2, … draws from: (1−K ε_t)·softmax(ε_{t−1} R) + ε_t (ODM, algorithm 1)."""
    floor, heat = (exploration(t, len(rewards)) for t in (step, step - 1))
    grown = np.exp(heat * (rewards - rewards.max()))
    return (1 - len(rewards) * floor) * grown / grown.sum() + floor


def odm_rewards(rewards: pd.Series, losses: pd.Series, policy: pd.Series, *, decay: float = DECAY) -> pd.Series:
    """Return R ← decay·R + (1−decay)·loss/p for the candidates in `losses`, nats; the others keep theirs."""
    step = (1 - decay) * (losses / policy[losses.index] - rewards[losses.index])
    return rewards.add(step, fill_value=0.0)[rewards.index]


# --- what picks the rows of a batch and weighs them -----------------------------------------------------------------


class DoReMi:
    """Rows of the recipe of equal shares, weighed so that the loss is that of the recipe of α; α learns the excess."""

    def __init__(
        self,
        setting: Setting,
        job: Job,
        corpora: Corpora,
        reference: PreTrainedModel,
        *,
        rate: float = RATE,
        smoothing: float = SMOOTHING,
    ) -> None:
        self.step = partial(doremi_step, rate=rate, smoothing=smoothing)
        self.setting, self.reference, self.sampled = setting, reference.eval(), pd.Series(job.recipe)
        self.policy = uniform(corpora.candidates)
        self.known, self.sum, self.steps = 0.0 * self.policy, 0.0 * self.policy, 0
        counts = apportion(job.recipe, job.steps * job.rows)
        labels = np.repeat(list(counts), list(counts.values()))
        self.plan = streams(job, corpora)[SHUFFLING].permutation(labels).reshape(job.steps, job.rows)

    @property
    def mixture(self) -> pd.Series:
        """The average of α over the steps (DoReMi, algorithm 1)."""
        return self.sum / self.steps

    def candidates(self, step: int) -> Sequence[str]:
        """Return the candidate of each row."""
        return self.plan[step].tolist()

    def weights(
        self, candidates: Sequence[str], batch: Batch, losses: Losses, model: PreTrainedModel | None = None
    ) -> Float[np.ndarray, " row"]:
        """Return each row's weight in the loss, after α has learnt from the rows' losses."""
        with torch.no_grad():
            before = next_token_losses(self.reference.to(losses.device), batch)
        found = excess(losses.detach().cpu().numpy(), before.cpu().numpy(), candidates)
        self.known[found.index] = found
        self.policy = self.step(self.policy, self.known)
        self.sum, self.steps = self.sum + self.policy, self.steps + 1
        return (recipe(self.policy, self.setting.general, self.setting.beta) / self.sampled)[candidates].to_numpy()


class ODM:
    """The general rows of the recipe, and candidate rows drawn from a policy that follows the loss."""

    kind = "odm"
    constants: object = DECAY  # what else decides the answer

    def __init__(self, setting: Setting, job: Job, corpora: Corpora) -> None:
        self.drawn = round(setting.beta * job.rows)
        self.fixed = [setting.general] * (job.rows - self.drawn)
        self.rewards = 0.0 * uniform(corpora.candidates)
        self.counts, self.policy = self.rewards, uniform(corpora.candidates)
        self.rng = streams(job, corpora)[SHUFFLING]

    @property
    def mixture(self) -> pd.Series:
        """The shares of the candidate rows drawn so far."""
        return self.counts / self.counts.sum()

    def next(self, step: int) -> pd.Series:
        """Return what the candidate rows of a step, from 0 on, are drawn from."""
        return odm_policy(self.rewards, step + 1)

    def candidates(self, step: int) -> Sequence[str]:
        """Return the candidate of each row: the general ones, then those drawn."""
        self.policy = self.next(step)
        drawn = self.rng.choice(list(self.policy.index), size=self.drawn, p=self.policy.to_numpy())
        self.counts = self.counts.add(pd.Series(drawn).value_counts(), fill_value=0)[self.policy.index]
        return self.fixed + drawn.tolist()

    def weights(
        self, candidates: Sequence[str], batch: Batch, losses: Losses, model: PreTrainedModel | None = None
    ) -> Float[np.ndarray, " row"]:
        """Return 1 for each row, after the policy has been rewarded for the rows that it drew."""
        rows = pd.Series(losses.detach().mean(dim=1).cpu().numpy(), index=list(candidates)).iloc[len(self.fixed) :]
        self.rewards = odm_rewards(self.rewards, rows.groupby(level=0).mean(), self.policy)
        return np.ones(len(candidates))
