"""A stack: several predictors' opinions in one, weighted by how well each predicts what it has not seen.

Which predictor suits is not known before; the stack need not choose. Its weights are those of the convex combination
with the least squared error out of fold, so that on those folds no member is better than the whole.

Source: van der Laan, Polley & Hubbard, Super Learner (2007).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import nnls

from demix_nb.predictors.gaussian import GaussianProcess
from demix_nb.predictors.laws import ExponentialLaw, ridge
from demix_nb.predictors.regressor import FOLDS, Mixtures, Scores, deal_folds, learn
from demix_nb.predictors.trees import BaggedLightGBM

MEMBERS = {  # name → what makes a regressor from a generator
    "ridge": ridge,
    "lightgbm_bagged": BaggedLightGBM,
    "gaussian_process": lambda rng: GaussianProcess(),
    "mixing_law": ExponentialLaw,
}


@dataclass
class Stack:
    """Convex combination of members that minimises the out-of-fold squared error.

    One member alone is a convex combination too, so no member has a smaller error on those folds.
    """

    rng: np.random.Generator
    members: Mapping = field(default_factory=MEMBERS.copy)

    def fit(self, x: Mixtures, y: Scores) -> "Stack":
        fold = deal_folds(x, FOLDS, self.rng)
        guesses = [self._held_out(make, x, y, fold) for make in self.members.values()]
        self.weights = convex_weights(np.column_stack(guesses), y)
        kept = [(weight, make) for weight, make in zip(self.weights, self.members.values(), strict=True) if weight > 0]
        self.fitted = [(weight, learn(make, x, y, self.rng)) for weight, make in kept]
        return self

    def _held_out(self, make, x: Mixtures, y: Scores, fold: Int[ndarray, " mixture"]) -> Scores:
        values = np.empty_like(y)
        for k in range(FOLDS):
            values[fold == k] = learn(make, x[fold != k], y[fold != k], self.rng).predict(x[fold == k])
        return values

    def predict(self, x: Mixtures) -> Scores:
        return sum(weight * member.predict(x) for weight, member in self.fitted)


def convex_weights(predictions: Float[ndarray, "mixture member"], y: Scores) -> Float[ndarray, " member"]:
    """argmin ‖P w − y‖² with w ≥ 0, Σw = 1, exactly.

    With errors E = P − y, non-negative least squares of ‖E v‖² + (Σv − 1)² has v = w / (1 + ‖E w‖²): same direction.
    """
    errors = predictions - y[:, None]
    v, _ = nnls(np.vstack([errors, np.ones(errors.shape[1])]), np.r_[np.zeros(len(y)), 1.0])
    return v / v.sum()
