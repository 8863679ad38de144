"""Mixtures that are learnt while a model trains: the update rules of DoReMi and ODM, as pure functions.

DoReMi (2305.10429) trains a small proxy against the worst case: a domain on which the proxy is worse than a reference
model gains weight, and the answer is the average of the weights over time. ODM (2312.02406) is a bandit: a domain is
drawn from a policy, its loss is the reward, and what is hard is drawn more often. The rules know no models; the
training loops are in `reweighting`.

A mixture is a Series over the candidates, as everywhere. Constants are the authors' own.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

RATE = 1.0  # DoReMi, algorithm 1
SMOOTHING = 1e-4  # DoReMi, section 2; the released script has 1e-3
DECAY = 0.9  # ODM: moving average of the rewards


def excess(
    losses: Float[np.ndarray, "row token"], reference: Float[np.ndarray, "row token"], domains: Sequence[str]
) -> pd.Series:
    """Return domain → mean over its tokens of max(loss − reference loss, 0), nats; `domains` names each row's."""
    clipped = np.maximum(losses - reference, 0).mean(axis=1)
    return pd.Series(clipped, index=list(domains)).groupby(level=0).mean()


def doremi_step(
    mixture: pd.Series, excess: pd.Series, *, rate: float = RATE, smoothing: float = SMOOTHING
) -> pd.Series:
    """Return the next mixture: α·exp(η·excess), normalised, then (1−ε)·α + ε/K (DoReMi, algorithm 1).

    Raises ValueError when `excess` lacks a candidate or has a negative value: tokens are clipped before their mean.
    """
    if not excess.reindex(mixture.index).ge(0).all():
        raise ValueError(f"excess losses {excess.to_dict()} must be there and not negative for {list(mixture.index)}")
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
    """Return R ← decay·R + (1−decay)·loss/p for the domains in `losses`, nats; the others keep theirs."""
    return rewards.add((1 - decay) * (losses / policy[losses.index] - rewards[losses.index]), fill_value=0.0)[
        rewards.index
    ]
