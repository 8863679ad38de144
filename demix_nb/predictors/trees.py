"""Boosted trees: the predictor of RegMix and of DeMix, and a bag of them that learns from few runs.

A tree cuts the simplex into boxes, and boosting adds up hundreds of small ones (LightGBM: Ke et al. 2017). Both papers
keep LightGBM's default of 20 rows per leaf, so that below 40 runs nothing can be cut and LightGBM returns a constant
without a word; ours refuses. Smaller leaves learn from few runs, and averaging over bootstrap samples steadies them.

Sources: RegMix (arXiv 2407.01492) 3.2; DeMix (2602.00747) 2.4; bagging: Breiman (1996).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from demix_nb.predictors.regressor import Mixtures, Scores
from demix_nb.store import Refusal

MIN_LEAF = 20  # rows; LightGBM's default min_child_samples, which both papers keep
SMALL_LEAF = 3  # rows, of the bag


@dataclass
class LightGBM:
    """Boosted trees, LightGBM's defaults but for what is named; refuses to learn a constant."""

    rounds: int
    learning_rate: float
    min_leaf: int = MIN_LEAF

    def fit(self, x: Mixtures, y: Scores) -> "LightGBM":
        import lightgbm as lgb  # here: it brings sklearn, and whoever moves a slider over a Gaussian process waits

        settings = {"learning_rate": self.learning_rate, "min_data_in_leaf": self.min_leaf, "verbosity": -1}
        settings |= {"num_threads": 1, "deterministic": True, "force_row_wise": True}
        self.booster = lgb.train(settings, lgb.Dataset(x, y), num_boost_round=self.rounds)
        if np.ptp(self.booster.predict(x)) == 0:
            raise Refusal(f"LightGBM found no split in {len(y)} rows, {self.min_leaf} to a leaf; score more mixtures")
        return self

    def predict(self, x: Mixtures) -> Scores:
        return self.booster.predict(x, num_threads=1)


@dataclass
class BaggedLightGBM:
    """The mean of LightGBMs with small leaves, each on its own bootstrap sample (Breiman 1996).

    The spread is the standard deviation over the bag: what the data leave open about the mean, without a run's noise.
    """

    rng: np.random.Generator
    size: int = 20
    rounds: int = 100  # with this rate as good as 300 at 0.05 on RegMix's training rows, and three times as fast
    learning_rate: float = 0.1
    min_leaf: int = SMALL_LEAF

    def fit(self, x: Mixtures, y: Scores) -> "BaggedLightGBM":
        draws = self.rng.integers(0, len(y), size=(self.size, len(y)))
        self.bag = [LightGBM(self.rounds, self.learning_rate, self.min_leaf).fit(x[rows], y[rows]) for rows in draws]
        return self

    def _members(self, x: Mixtures) -> Float[ndarray, "member mixture"]:
        return np.stack([member.predict(x) for member in self.bag])

    def predict(self, x: Mixtures) -> Scores:
        return self._members(x).mean(axis=0)

    def spread(self, x: Mixtures) -> Scores:
        return self._members(x).std(axis=0, ddof=1)

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> Float[np.ndarray, "draw mixture"]:
        return self._members(x)[rng.integers(0, self.size, size=n)]
