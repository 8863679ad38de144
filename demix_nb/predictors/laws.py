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

PENALTIES = 10.0 ** np.arange(-3, 4)  # ℓ₂ weights, RegMix appendix E
LEAN = 1.5  # standard deviation of the exponents around their mean; the papers have no such prior, ours is wide
HUBER = 0.02  # where a residual stops counting squared, in units of the score; data mixing laws and OLMix alike


@dataclass
class Ridge:
    """Linear model, ℓ₂ weight by 5-fold cross-validation (RegMix appendix E).

    Folds are shuffled, as rows may come in rounds; the error is squared, as R² is undefined for a fold of one row. All
    weights share one decomposition a fold: scikit-learn's, the tests' oracle, fits each anew. `missed`: the root of the
    least error on the folds, in the score's unit.
    """

    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.seed = int(self.rng.integers(2**31))

    def fit(self, x: Mixtures, y: Scores) -> "Ridge":
        order = np.random.RandomState(self.seed).permutation(len(y))
        parts = [(np.setdiff1d(order, fold), fold) for fold in np.array_split(order, FOLDS)]
        errors = np.mean([self._missed(x[rest], y[rest], x[fold], y[fold]) for rest, fold in parts], axis=0)
        best = int(errors.argmin())
        self.alpha_, self.missed = float(PENALTIES[best]), float(np.sqrt(errors[best]))
        self.middle, self.centre = x.mean(axis=0), y.mean()
        self.coef_ = self._slopes(x - self.middle, y - self.centre)[:, best]
        _, s, v = np.linalg.svd(x - self.middle, full_matrices=False)
        self.doubt = self.missed * v.T / np.sqrt(s**2 + self.alpha_)
        return self

    @staticmethod
    def _slopes(x: ndarray, y: ndarray) -> ndarray:
        """The coefficients under every penalty, candidate × penalty; rows and scores are centred."""
        u, s, v = np.linalg.svd(x, full_matrices=False)
        return v.T @ ((s * (u.T @ y))[:, None] / (s[:, None] ** 2 + PENALTIES))

    def _missed(self, x: Mixtures, y: Scores, new: ndarray, truth: ndarray) -> ndarray:
        """The squared error under every penalty on rows that were left out."""
        guess = y.mean() + (new - x.mean(axis=0)) @ self._slopes(x - x.mean(axis=0), y - y.mean())
        return ((guess - truth[:, None]) ** 2).mean(axis=0)

    def predict(self, x: Mixtures) -> Scores:
        return self.centre + (x - self.middle) @ self.coef_

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        """Draw n planes as the runs leave them open: coefficients as Bayesian linear regression has them."""
        return self.predict(x) + rng.normal(size=(n, self.doubt.shape[1])) @ ((x - self.middle) @ self.doubt).T


@dataclass
class ExponentialLaw:
    """score = c ± exp(t·α), fitted by Huber loss from many starts.

    Data mixing laws (2403.16952): c + k·exp(t·α) with either sign of k; as Σα = 1, |k| is part of t. OLMix (2602.12237)
    is `positive`: e^c + exp(t·α), a law without a ceiling and with no floor below zero. What both lack is a prior on
    t: where runs hold two candidates in sixty, exponents run away and predictions with them. Here they
    are normal around their mean with deviation `LEAN`, the threshold being the noise; a candidate that no run holds has
    the mean.
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
