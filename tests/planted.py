"""A planted problem: the loss of a mixture is known, convex and differentiable, and so is its optimum in any region."""

import numpy as np
import pandas as pd

from demix_nb.mixtures import uniform
from demix_nb.predictors import PREDICTORS, Predictor
from demix_nb.region import Region
from demix_nb.scored import Scored

GROUPS = {"prose": ["news", "books"], "sums": ["word", "drill", "proofs"], "code": ["python"]}
NAMES = [name for members in GROUPS.values() for name in members]
SHARES = pd.Series([0.1, 0.2, 0.3, 0.05, 0.15, 0.2], index=NAMES)  # the planted optimum
PRIOR = pd.Series([0.3, 0.2, 0.2, 0.1, 0.1, 0.1], index=NAMES)
TASKS = pd.DataFrame(
    {"family": ["general", "math", "code"], "unit": "bpb", "higher_is_better": False, "items": 1, "chance": np.nan},
    index=pd.Index(["g", "m", "c"], name="task"),
)
FREE, BOUNDED = Region(NAMES), Region(NAMES, lower={"news": 0.15}, upper={"word": 0.2, "python": 0.25})
NEAR_ZERO = 1e-3  # so that a share of 0 has a loss


def losses(mixtures: pd.DataFrame) -> pd.DataFrame:
    """KL to `SHARES` up to a constant, for three tasks that agree on the order."""
    logs = np.log(np.ascontiguousarray(mixtures[NAMES]) + NEAR_ZERO)  # C order: sums round alike
    loss = -logs @ SHARES.to_numpy()
    return pd.DataFrame({"g": loss, "m": 2 * loss, "c": loss**2}, index=mixtures.index)


def loss(mixture: pd.Series) -> float:
    return losses(mixture.to_frame("it").T)["g"].item()


def excess(mixture: pd.Series, region: Region = FREE) -> float:
    """How much worse than the region's optimum a mixture is, as a share of what equal shares are worse."""
    optimum = loss(region.project(SHARES.to_frame("it").T).loc["it"])  # clip(c·shares) minimises both ways of KL
    return (loss(mixture) - optimum) / (loss(region.nearest(uniform(NAMES))) - optimum)


class Proxy:
    """The planted losses as a proxy with a gradient; `asked` holds every table it was asked for."""

    tasks = TASKS

    def __init__(self, score=losses):
        self.score, self.asked = score, []

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        self.asked.append(mixtures)
        return Scored(mixtures, self.score(mixtures), TASKS)

    def gradient(self, mixture: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
        found, slope = losses(mixture.to_frame("it").T).loc["it"], -SHARES / (mixture + NEAR_ZERO)
        return found, pd.DataFrame({"g": slope, "m": 2 * slope, "c": 2 * found["g"] * slope}).T

    @property
    def count(self) -> int:
        """How many mixtures were scored."""
        return sum(map(len, self.asked))


class Known:
    """A predictor that knows some function of mixtures already and learns nothing."""

    def __init__(self, score=losses, tasks=TASKS):
        self.score, self.tasks, self.refused = score, tasks, {}

    def fit(self, seen: Scored) -> "Known":
        self.tasks = seen.tasks
        return self

    def predict(self, mixtures: pd.DataFrame) -> Scored:
        return Scored(mixtures, self.score(mixtures).set_axis(list(self.tasks.index), axis=1), self.tasks)

    def spread(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """As sure of one mixture as of any other."""
        return pd.DataFrame(0.1, mixtures.index, list(self.tasks.index))


def predictor(name: str = "gaussian_process") -> Predictor:
    return PREDICTORS[name].new(rng=np.random.default_rng(0))
