"""A scale on which a score bends less: losses fall steeply at first and hardly at all near their floor.

u = (y − lowest)/range in 0 … 1 becomes log(u + c): a small c stretches the low end of the scores, the mirrored form the
high end, no c leaves all as it is. Which suits a task is a question of how likely the runs become (Snelson, Rasmussen &
Ghahramani, Warped Gaussian Processes, 2003), so a warp carries the logarithm of its slopes.
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from demix_nb.predictors.regressor import Scores

FARTHEST = 2.0  # ranges beyond the scores seen where a warped prediction ends


@dataclass
class Warp:
    """y → a scale with mean 0 and variance 1 over the scores `y` it was made from; `c` None is no warp at all.

    `side`: 1 stretches low scores, −1 high ones.
    """

    c: float | None
    side: int
    y: Scores

    def __post_init__(self) -> None:
        self.low, self.high = float(self.y.min()), float(self.y.max())
        bent = self._bend(self.y)
        self.middle, self.size = bent.mean(), bent.std()

    def _unit(self, y: Scores) -> ndarray:
        return (y - self.low if self.side > 0 else self.high - y) / (self.high - self.low)

    def _bend(self, y: Scores) -> ndarray:
        return y if self.c is None else self.side * np.log(np.maximum(self._unit(y) + self.c, 1e-9))

    @property
    def slopes(self) -> float:
        """Σ log of the slope at the scores seen: what a likelihood on the warped scale lacks to one of the scores."""
        slope = -len(self.y) * np.log(self.size)
        if self.c is None:
            return slope
        return slope - (np.log(self._unit(self.y) + self.c) + np.log(self.high - self.low)).sum()

    def __call__(self, y: Scores) -> Scores:
        return (self._bend(y) - self.middle) / self.size

    def back(self, value: ndarray) -> ndarray:
        """Return the score at a place of the warped scale, no farther out than `FARTHEST` ranges."""
        bent = value * self.size + self.middle
        far = FARTHEST * (self.high - self.low)
        if self.c is None:
            return np.clip(bent, self.low - far, self.high + far)
        unit = np.minimum(np.exp(np.minimum(self.side * bent, 9.0)) - self.c, 1 + FARTHEST)
        span = self.high - self.low
        return self.low + span * unit if self.side > 0 else self.high - span * unit


FORMS = ((None, 1), (0.1, 1), (0.3, 1), (1.0, 1), (0.3, -1), (1.0, -1))  # (c, side) that are tried
