"""AC-ODM: who draws the next batch is an actor, taught by a critic that learns what the draws are worth.

ODM's bandit looks at losses alone. AC-ODM's reward of a candidate is how far its gradient agrees with those of the
others: what it teaches, the rest wants as well. Its state is what is seen of the training (losses and how they moved,
rows drawn, norms of the weights and of their changes, progress), its action the mixture that the next rows are drawn
from. Actor and critic learn from a pool of past steps (DDPG); for the first steps ODM acts, and both learn from that.

Source: AC-ODM (arXiv 2505.23878), non-proxy mode; constants are those of the released settings. We differ: nets are
small, a run has a hundred steps and so a longer share of them belongs to ODM, a candidate that is not in a batch keeps
its last loss and has no gradient, changes are those of one step. The released code moves the critic where the actor's
turn is; the paper moves the actor, and so do we.
"""

import copy
import math
from collections import deque
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from demix_nb.lab.corpora import Corpora
from demix_nb.lab.jobs import Job, Setting
from demix_nb.lab.rules import ODM, Batch, Losses

GAMMA = 0.95  # worth of a later reward
TAU = 0.001  # how fast the targets follow
POOL = 10_000  # steps remembered
SAMPLE = 32  # of them, learnt from at once
RATES = (1e-2, 1e-3)  # Adam's, from the end of the warm-up to the end, on a cosine
BOUND = 3.0  # standardised numbers are cut there
PROGRESS = 100.0  # what the share of steps done is multiplied by in the state
NOISE = 1e-3  # added at random to every share that is drawn from
HIDDEN = 64  # the authors': five layers of 1,024
WARM = 0.1  # share of the steps in which ODM acts; the authors': 0.02 of 41,667


def standardised(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the values less their mean, over their standard deviation, cut at ±BOUND; all alike are 0."""
    spread = values.std(correction=min(1, len(values) - 1))  # one value has none
    return ((values - values.mean()) / (spread + 1e-8)).clamp(-BOUND, BOUND)


def alignment(gradients: Float[Tensor, "candidate weight"]) -> Float[Tensor, " candidate"]:
    """Return each candidate's reward: Σ_{j≠i} ⟨gᵢ, gⱼ⟩ over the gradients' mean norm, standardised."""
    products = gradients @ gradients.T
    agreed = products.sum(dim=1) - products.diagonal()
    return standardised(agreed / (gradients.norm(dim=1).mean() + 1e-6))


def _net(inputs: int, outputs: int, *last: nn.Module) -> nn.Sequential:
    layers = [[nn.Linear(wide, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU()] for wide in (inputs, HIDDEN)]
    return nn.Sequential(*(part for layer in layers for part in layer), nn.Linear(HIDDEN, outputs), *last)


class Agent:
    """Actor (state → mixture) and critic (state, mixture → worth of every candidate), with their slow targets."""

    def __init__(self, state: int, candidates: int, *, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = _net(state, candidates, nn.Softmax(dim=-1))
            self.critic = _net(state + candidates, candidates)
        self.targets = copy.deepcopy((self.actor, self.critic))
        self.steps = [torch.optim.Adam(net.parameters(), lr=RATES[0]) for net in (self.actor, self.critic)]
        self.rng = np.random.default_rng(seed)
        self.pool: deque[tuple[Tensor, ...]] = deque(maxlen=POOL)

    @torch.no_grad()
    def act(self, state: Float[Tensor, " state"]) -> Float[np.ndarray, " candidate"]:
        """Return the mixture to draw from, a little noise in it."""
        shares = self.actor(state).numpy().astype(float) + NOISE * self.rng.random(self.actor[-2].out_features)
        return shares / shares.sum()

    def remember(self, state: Tensor, mixture: Tensor, reward: Tensor, after: Tensor) -> None:
        """Keep one step: what was seen, what was drawn from, what it earned, what was seen then."""
        self.pool.append((state, mixture, reward, after))

    def learn(self, *, warm: bool, done: float) -> None:
        """Take one step of critic and actor; while `warm`, towards what ODM did and what that earned.

        `done`: share of the steps after the warm-up that are done, which the rates fall with.
        """
        chosen = self.rng.choice(len(self.pool), size=SAMPLE, replace=len(self.pool) < SAMPLE)
        state, mixture, reward, after = (
            torch.stack(part) for part in zip(*(self.pool[i] for i in chosen), strict=True)
        )
        with torch.no_grad():
            actor, critic = self.targets
            later = reward if warm else critic(torch.cat([after, actor(after)], dim=1))
        told = self.critic(torch.cat([state, mixture], dim=1))
        self._step(1, nn.functional.mse_loss(told, reward + GAMMA * later), done)
        acted = self.actor(state)
        worth = self.critic(torch.cat([state, acted], dim=1)).mean()
        self._step(0, nn.functional.mse_loss(acted, mixture) if warm else -worth, done)
        for net, target in zip((self.actor, self.critic), self.targets, strict=True):
            for own, slow in zip(net.parameters(), target.parameters(), strict=True):
                slow.data.lerp_(own.data, 1.0 if warm else TAU)

    def _step(self, which: int, loss: Tensor, done: float) -> None:
        first, last = RATES
        for group in self.steps[which].param_groups:
            group["lr"] = last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
        self.steps[which].zero_grad()
        loss.backward()
        self.steps[which].step()


class ACODM(ODM):
    """The general rows of the recipe, and candidate rows drawn from what the actor says."""

    kind = "ac-odm"
    constants = (GAMMA, TAU, POOL, SAMPLE, *RATES, BOUND, PROGRESS, NOISE, HIDDEN, WARM)

    def __init__(self, setting: Setting, job: Job, corpora: Corpora) -> None:
        super().__init__(setting, job, corpora)
        names, layers = list(self.policy.index), job.architecture.layers
        self.agent = Agent(3 * len(names) + 2 * layers + 1, len(names), seed=job.seed)
        self.of, self.steps, self.warm = (
            {name: n for n, name in enumerate(names)},
            job.steps,
            math.ceil(WARM * job.steps),
        )
        self.done, self.losses = 0, torch.zeros(len(names))
        self.state: Tensor | None = None
        self.before: list[Tensor] = []

    def next(self, step: int) -> pd.Series:
        """Return ODM's policy at first, then the actor's mixture."""
        if step < self.warm or self.state is None:
            return super().next(step)
        return pd.Series(self.agent.act(self.state), index=self.policy.index)

    def weights(
        self, candidates: Sequence[str], batch: Batch, losses: Losses, model: PreTrainedModel | None = None
    ) -> Float[np.ndarray, " row"]:
        """Return 1 for each row, after the agent has learnt from the gradients and losses of the rows that it drew."""
        drawn = np.array([self.of[name] for name in candidates[len(self.fixed) :]])
        own, weighed = losses[len(self.fixed) :], [layer.mlp.down_proj.weight for layer in model.model.layers]
        gradients = torch.zeros(len(self.of), sum(weight.numel() for weight in weighed))
        seen = self.losses.clone()
        for one in np.unique(drawn):
            loss = own[torch.from_numpy(drawn == one)].mean()
            parts = torch.autograd.grad(loss, weighed, retain_graph=True)
            gradients[one], seen[one] = torch.cat([part.flatten() for part in parts]).cpu(), loss.detach().cpu()
        rows = torch.from_numpy(np.bincount(drawn, minlength=len(self.of))).float()
        after = self._seen(seen, rows, [weight.detach().clone().cpu() for weight in weighed])
        policy = torch.tensor(self.policy.to_numpy(), dtype=torch.float32)
        self.agent.remember(after if self.state is None else self.state, policy, alignment(gradients), after)
        self.state, self.done = after, self.done + 1
        share = max(self.done - self.warm, 0) / max(self.steps - self.warm, 1)
        self.agent.learn(warm=self.done <= self.warm, done=share)
        return super().weights(candidates, batch, losses)

    def _seen(self, losses: Tensor, rows: Tensor, weights: list[Tensor]) -> Float[Tensor, " state"]:
        """Return the state after a step, and keep what its next one is compared with."""
        sizes = torch.stack([weight.norm() for weight in weights])
        moved = [(new - old).norm() for new, old in zip(weights, self.before or weights, strict=True)]
        known = losses - (self.losses if self.before else losses)
        self.losses, self.before = losses, weights
        progress = torch.tensor([PROGRESS * (self.done + 1) / self.steps])
        parts = [standardised(part) for part in (losses, known, rows, sizes, torch.stack(moved))]
        return torch.cat([*parts, progress])
