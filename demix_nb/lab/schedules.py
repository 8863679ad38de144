"""Schedules: how the learning rate goes while a model is trained, and which of its checkpoints become the model.

A rate that stays high keeps weights moving about the valley that a falling one lets them settle in. To average the last
checkpoints settles them too, at no further training: what a decaying rate does by small last steps, an average does by
giving late steps less weight. `SCHEDULES` has a row for each; a job names one.

Sources: cosine, DeMix (arXiv 2602.00747) 3; constant, MergeMix (2601.17858); averaged, PMA (2505.12082), where ten
checkpoints at even intervals count the same. How long the averaged part is matters most (WSM, 2507.17634).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.optim.swa_utils import AveragedModel

from demix_nb.ranges import SCHEDULES as NAMES

FINAL_LR = 0.2  # cosine ends at 20 % of the peak, DeMix 3


def cosine(progress: float) -> float:
    """Return the share of the peak rate after a share of the steps that follow the warm-up."""
    return FINAL_LR + (1 - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * progress))


def constant(progress: float) -> float:
    """Return the peak's whole."""
    return 1.0


@dataclass(frozen=True)
class Schedule:
    """One way. `rate`: the share of the steps after the warm-up that are done → the share of the peak rate.

    `checkpoints`: how many of the last are averaged; 1: the model is the last. `every`: the share of all steps between
    two of them.
    """

    label: str
    rate: Callable[[float], float]
    source: str
    checkpoints: int = 1
    every: float = 0.0

    def due(self, steps: int) -> frozenset[int]:
        """Return after which steps a checkpoint is averaged, of `steps` in all; none where the model is the last.

        Of a short training each step comes once, so that they may be fewer.
        """
        if self.checkpoints == 1:
            return frozenset()
        return frozenset(steps - round(back * self.every * steps) for back in range(self.checkpoints))

    def average(self, model: torch.nn.Module) -> AveragedModel | None:
        """Return what a model's checkpoints, or a stack's, are averaged in; None where the model is the last."""
        return AveragedModel(model) if self.checkpoints > 1 else None


ROWS = (
    Schedule("decaying rate", cosine, "DeMix, arXiv 2602.00747"),
    Schedule("constant rate", constant, "MergeMix, arXiv 2601.17858"),
    Schedule("constant rate, averaged", constant, "PMA, arXiv 2505.12082", checkpoints=10, every=0.03),
)
SCHEDULES = dict(zip(NAMES, ROWS, strict=True))


def settle(model: torch.nn.Module, average: AveragedModel | None) -> None:
    """Give a model the average of its checkpoints in place; nothing where there is none."""
    if average is not None:
        with torch.no_grad():
            for own, mean in zip(model.parameters(), average.module.parameters(), strict=True):
                own.copy_(mean)
