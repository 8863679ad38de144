"""Smooth surfaces over powers of shares, with an honest opinion of how sure they are.

The first percent of a candidate teaches far more than the fifty-first, and on a scale of roots it is the longer step:
Euclidean distance between √weights is Hellinger's between mixtures. A Gaussian process with one learned scale per
candidate on that scale orders unseen mixtures well from two dozen runs, where trees need hundreds. Which power suits,
and whether a plane lies under the surface, the runs say themselves: `Surface` tells how likely each makes them, for
one target or for several that share their scales.

Sources: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. scikit-learn's is the
oracle of the tests; ours takes a tenth of its time, as its gradient is a matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize

from demix_nb.predictors.regressor import Mixtures, Scores

# log σ² to search from: "scores are exact", and "mostly noise", where shuffled scores belong
NOISE_STARTS = (-4.0, -1.0)
PRIOR = 1.5  # standard deviation of log w; 1 to 3 do equally well on RegMix's training rows
SLIGHT = -1.0  # log l² to search from: a plane, but no steep one
STEPS = 200  # of L-BFGS

Theta = Float[ndarray, " number"]  # log w of each candidate, log s², log l² where there is a plane, log σ²
Prior = tuple[Theta, Theta]  # mean and precision of each number


def _matern(r: ndarray, decay: ndarray) -> ndarray:
    return (1 + r + r**2 / 3) * decay


def _steepness(r: ndarray, decay: ndarray) -> ndarray:
    """Twice ∂k/∂Σ_d w_d(…)²."""
    return (-5 / 3) * (1 + r) * decay


class Surface:
    """A Gaussian process on points z with one scale per column, over a plane in other points where there is one.

    k(a, b) = s²·(1 + r + r²/3)·exp(−r) + l²·fₐ·f_b, r² = 5 Σ_d w_d (a_d − b_d)², plus noise σ² (Matérn 5/2: Rasmussen &
    Williams 2006, eq. 4.17; plane 4.15; prediction 2.25–2.26, gradient 5.9). Targets have mean 0 and variance 1.
    """

    def __init__(self, z: Float[ndarray, "mixture column"], plane: Float[ndarray, "mixture feature"] | None = None):
        self.z, self.plane = z, plane
        self.gram = None if plane is None else plane @ plane.T

    @property
    def wide(self) -> Prior:
        """log w around 0 with `PRIOR`, which keeps 17 of them sane on 64 runs; all else as the runs say."""
        amplitudes = [0.0] if self.gram is None else [0.02, 0.02]
        return np.zeros(self._numbers), np.r_[np.full(self.z.shape[1], PRIOR**-2), amplitudes, 0.0]

    @property
    def starts(self) -> list[Theta]:
        """Where nothing is known of the numbers."""
        plane = [] if self.gram is None else [SLIGHT]
        return [np.r_[np.zeros(self.z.shape[1] + 1), plane, noise] for noise in NOISE_STARTS]

    @property
    def _numbers(self) -> int:
        return self.z.shape[1] + (2 if self.gram is None else 3)

    def fit(
        self, y: Float[ndarray, "mixture target"], starts: Sequence[Theta], prior: Prior, steps: int = STEPS
    ) -> tuple[Theta, float]:
        """Return the numbers of the highest posterior that all targets share, and minus its logarithm."""
        d, plane = self.z.shape[1], [] if self.gram is None else [(-10, 5)]
        bounds = [(-6, 8)] * d + [(-4, 6), *plane, (-12, 1)]  # for targets of variance 1
        settings = {"jac": True, "method": "L-BFGS-B", "bounds": bounds, "options": {"maxiter": steps}}
        found = [minimize(self.objective, start, (y, prior), **settings) for start in starts]
        best = min(found, key=lambda result: result.fun)
        return best.x, float(best.fun)

    def kernel(
        self, theta: Theta, z: Float[ndarray, "point column"], other: Float[ndarray, "row column"] | None = None
    ) -> ndarray:
        """k between z and the `other` points (the rows of fit), without the plane."""
        return _matern(*self._far(theta, z, other))

    def slope(self, theta: Theta, z: Float[ndarray, "point column"]) -> ndarray:
        """Twice ∂k/∂Σ_d w_d(…)² between z and the rows of fit."""
        return _steepness(*self._far(theta, z))

    def _far(self, theta: Theta, z: ndarray, other: ndarray | None = None) -> tuple[ndarray, ndarray]:
        """The distance r, and s²·exp(−r)."""
        root = np.exp(theta[: self.z.shape[1]] / 2)
        a, b = z * root, (self.z if other is None else other) * root
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T  # a matrix product; cdist is slower
        r = np.sqrt(5 * np.maximum(squares, 0.0))
        return r, np.exp(theta[self.z.shape[1]] - r)

    def covariance(self, theta: Theta) -> tuple[ndarray, ndarray]:
        """Return k among the rows of fit, noise included, and the slope of `kernel`."""
        far = self._far(theta, self.z)
        k, slope = _matern(*far), _steepness(*far)
        if self.gram is not None:
            k = k + np.exp(theta[-2]) * self.gram
        k[np.diag_indices_from(k)] += np.exp(theta[-1])
        return k, slope

    def objective(self, theta: Theta, y: Float[ndarray, "mixture target"], prior: Prior) -> tuple[float, Theta]:
        """Negative log posterior of the numbers and its gradient.

        Σᵢⱼ Aᵢⱼ(zᵢ−zⱼ)² is a matrix product: five times as fast as scikit-learn's n×n×d slopes (n=512, d=17).
        """
        d, targets, noise = self.z.shape[1], y.shape[1], np.exp(theta[-1])
        k, slope = self.covariance(theta)
        factor = cho_factor(k, lower=True)
        alpha = cho_solve(factor, y)
        triangle = np.tril(dpotri(factor[0], lower=True)[0])  # of K⁻¹, in half the time that solving for it takes
        inner = alpha @ alpha.T - targets * (triangle + np.tril(triangle, -1).T)
        pull, trace = inner * slope, noise * np.trace(inner)
        squares = pull.sum(axis=1) @ self.z**2 - (self.z * (pull @ self.z)).sum(axis=0)
        plane = [] if self.gram is None else [np.exp(theta[-2]) * (inner * self.gram).sum()]
        curved = (inner * k).sum() - trace - sum(plane)
        away = theta - prior[0]
        gradient = prior[1] * away - 0.5 * np.r_[np.exp(theta[:d]) * squares, curved, plane, trace]
        fit = (y * alpha).sum() / 2 + targets * np.log(np.diag(factor[0])).sum()
        return float(fit + (prior[1] * away**2).sum() / 2), gradient

    def conditioned(self, theta: Theta, target: Scores) -> "Conditioned":
        """Return what is known once the targets at the rows of fit are."""
        return Conditioned(self, theta, target)


class Conditioned:
    """A surface that has seen its targets: mean and standard deviation of a new run's, its noise included."""

    def __init__(self, surface: Surface, theta: Theta, target: Scores):
        self.surface, self.theta = surface, theta
        self.factor = cho_factor(surface.covariance(theta)[0], lower=True)
        self.weights = cho_solve(self.factor, target)

    def _kernel(self, z: ndarray, plane: ndarray | None) -> ndarray:
        k = self.surface.kernel(self.theta, z)
        return k if plane is None else k + np.exp(self.theta[-2]) * (plane @ self.surface.plane.T)

    def mean(self, z: ndarray, plane: ndarray | None = None) -> ndarray:
        return self._kernel(z, plane) @ self.weights

    def slopes(self, z: Float[ndarray, "point column"]) -> Float[ndarray, "point column"]:
        """How the mean changes with z, of a surface without a plane: ∂k/∂z_d = slope·w_d·(z_d − its row's)."""
        pull = self.surface.slope(self.theta, z) * self.weights
        scales = np.exp(self.theta[: z.shape[1]])
        return scales * (z * pull.sum(axis=1, keepdims=True) - pull @ self.surface.z)

    def mean_and_spread(self, z: ndarray, plane: ndarray | None = None) -> tuple[ndarray, ndarray]:
        k = self._kernel(z, plane)
        explained = (k * cho_solve(self.factor, k.T).T).sum(axis=1)
        own = np.exp(self.theta[self.surface.z.shape[1]]) + np.exp(self.theta[-1])
        own = own if plane is None else own + np.exp(self.theta[-2]) * (plane**2).sum(axis=1)
        return k @ self.weights, np.sqrt(np.maximum(own - explained, 1e-12))

    def draw(self, z: ndarray, n: int, rng: np.random.Generator, plane: ndarray | None = None) -> ndarray:
        """Draw n surfaces that agree with the runs, at these points together and without a run's noise."""
        mean, root = self.open(z, plane)
        return mean + rng.normal(size=(n, len(z))) @ root.T

    def open(self, z: ndarray, plane: ndarray | None = None) -> tuple[ndarray, ndarray]:
        """Return the mean, and a root of the covariance, of what the runs leave open at these points together."""
        k, own = self._kernel(z, plane), self.surface.kernel(self.theta, z, z)
        own = own if plane is None else own + np.exp(self.theta[-2]) * (plane @ plane.T)
        left = own - k @ cho_solve(self.factor, k.T)
        values, vectors = np.linalg.eigh((left + left.T) / 2)  # near points make it all but singular
        return k @ self.weights, vectors * np.sqrt(np.maximum(values, 0.0))


@dataclass
class GaussianProcess:
    """`Surface` on √weights, where Euclidean distance is Hellinger's between mixtures; one scale per candidate."""

    surface = Surface

    def fit(self, x: Mixtures, y: Scores) -> "GaussianProcess":
        self.centre, self.scale = y.mean(), y.std()
        target, surface = (y - self.centre) / self.scale, Surface(np.sqrt(x))
        self.theta, _ = surface.fit(target[:, None], surface.starts, surface.wide)
        self.known = surface.conditioned(self.theta, target)
        return self

    def imagined(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        """Draw n surfaces before any run is seen, each with numbers from their prior; in standard deviations."""
        surface = Surface(np.sqrt(x))
        mean, precision = surface.wide
        known = precision > 0
        drawn = []
        for _ in range(n):
            theta = np.where(known, mean + rng.normal(size=len(mean)) * np.where(known, precision, 1) ** -0.5, mean)
            values, vectors = np.linalg.eigh(surface.kernel(theta, surface.z))
            drawn.append(vectors @ (np.sqrt(np.maximum(values, 0.0)) * rng.normal(size=len(x))))
        return np.array(drawn)

    def predict(self, x: Mixtures) -> Scores:
        return self.centre + self.scale * self.known.mean(np.sqrt(x))

    def spread(self, x: Mixtures) -> Scores:
        return self.scale * self.known.mean_and_spread(np.sqrt(x))[1]

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        return self.centre + self.scale * self.known.draw(np.sqrt(x), n, rng)

    def slopes(self, x: Mixtures) -> Float[ndarray, "mixture candidate"]:
        """How what is predicted changes with each share; without end at a share of 0, taken at a millionth there."""
        z = np.sqrt(np.maximum(x, 1e-6))
        return self.scale * self.known.slopes(z) / (2 * z)
