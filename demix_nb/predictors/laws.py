"""Formulas with few numbers: a plane, and exponential laws of mixing.

A law that is nearly right needs few runs, and what it is too stiff to fit may be what does not carry over to a larger
model. A plane can only place its optimum at a corner, as can one exponential of a plane.

Sources: ridge: RegMix (arXiv 2407.01492) appendix E; data mixing laws (2403.16952); log-linear: OLMix (2602.12237).
"""

from dataclasses import dataclass

import numpy as np
from numpy import ndarray
from scipy.optimize import minimize

from demix_nb.predictors.regressor import FOLDS, Mixtures, Scores
from demix_nb.store import Refusal

LEAN = 1.5  # standard deviation of the exponents around their mean; the papers have no such prior, ours is wide
HUBER = 0.02  # where a residual stops counting squared, in units of the score; data mixing laws and OLMix alike


def ridge(rng: np.random.Generator):
    """Linear model, ℓ₂ weight by 5-fold cross-validation (RegMix appendix E).

    Folds are shuffled, as rows may come in rounds; squared error, as the default R² is undefined for a fold of one row.
    """
    from sklearn.linear_model import RidgeCV  # here for the same reason as lightgbm in `trees`
    from sklearn.model_selection import KFold

    split = KFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    return RidgeCV(alphas=10.0 ** np.arange(-3, 4), cv=split, scoring="neg_mean_squared_error")


@dataclass
class ExponentialLaw:
    """score = c ± exp(t·α), fitted by Huber loss from many starts.

    Data mixing laws (2403.16952): c + k·exp(t·α) with either sign of k; as Σα = 1, |k| is part of t. OLMix (2602.12237)
    is `positive`: e^c + exp(t·α), a law without a ceiling and with no floor below zero. What both lack is a prior on
    t: where runs hold two candidates in sixty, exponents run away and predictions with them (half a swarm's fits were
    off by ten variances). Here they are normal around their mean with deviation `LEAN`, the threshold being the noise;
    a candidate that no run holds has the mean.
    """

    rng: np.random.Generator
    positive: bool = False
    starts: int = 8  # signs by turns; on 13 RegMix losses within 1.5 % of what 32 starts reach, mostly equal

    def fit(self, x: Mixtures, y: Scores) -> "ExponentialLaw":
        if self.positive and y.min() <= 0:
            raise Refusal(f"e^c + exp(t·α) cannot reach the score {y.min():.4g}; take 'mixing_law' for such scores")
        unit = y.std()
        signs = [1 if self.positive or i % 2 == 0 else -1 for i in range(self.starts)]
        found = [(sign, self._search(x, y / unit, HUBER / unit, sign)) for sign in signs]
        self.sign, best = min(found, key=lambda pair: pair[1].fun)
        self.floor, self.t = unit * best.x[0], best.x[1:] + np.log(unit)  # Σα = 1: a factor moves into t
        return self

    def _search(self, x: Mixtures, y: Scores, delta: float, sign: int):
        gap = np.ptp(y) * np.exp(self.rng.normal(0, 1.5))  # how far beyond the best score seen the floor lies
        floor = y.min() - gap if sign > 0 else y.max() + gap
        start = np.r_[max(floor, 0.0) if self.positive else floor, np.log(gap) + self.rng.normal(0, 0.5, x.shape[1])]
        bounds = [(0.0 if self.positive else None, None)] + [(-30, 30)] * x.shape[1]  # e^30: no overflow on the way
        settings = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": {"maxiter": 300}}
        return minimize(self._objective, start, (x, y, delta, sign), **settings)

    @staticmethod
    def _objective(theta: ndarray, x: Mixtures, y: Scores, delta: float, sign: int) -> tuple[float, ndarray]:
        """Huber loss and its gradient, in units of the threshold so that the stopping rule of L-BFGS fits any score."""
        rise = sign * np.exp(x @ theta[1:])
        error = theta[0] + rise - y
        pull = np.clip(error, -delta, delta) / delta
        lean = (theta[1:] - theta[1:].mean()) / LEAN**2
        worth = delta / len(y)  # of the prior, beside a loss in units of the threshold
        loss = (pull * (error - delta * pull / 2)).mean() + worth * LEAN**2 * (lean**2).sum() / 2
        return float(loss), np.r_[pull.mean(), x.T @ (pull * rise) / len(y) + worth * lean]

    def predict(self, x: Mixtures) -> Scores:
        return self.floor + self.sign * np.exp(x @ self.t)
