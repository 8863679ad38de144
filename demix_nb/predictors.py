"""Predictors: from scored mixtures to the score of a mixture that nobody has scored.

RegMix's idea (arXiv 2407.01492, section 3.2) and the third step of DeMix (2602.00747, section 2.4): the shares of a
mixture are features, a score is the target, and a cheap regression then ranks a million mixtures. Each score column is
a problem of its own. `PREDICTORS[name](rng=rng)` gives an object with `fit(mixtures, scores)`, `predict(mixtures)`.

Where we differ: a predictor that cannot learn from what it was given says so. LightGBM as both papers set it wants 20
rows per leaf, so below 40 rows it returns a constant without a word; ours raises, and names what does learn.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.optimize import minimize, nnls
from scipy.spatial.distance import cdist

from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out

Mixtures = Float[ndarray, "mixture candidate"]  # shares, rows sum to 1
Scores = Float[ndarray, " mixture"]  # one task, in its own unit

FOLDS = 5  # of the inner cross-validation of ridge and ensemble; RegMix appendix E
CHUNK = 8192  # mixtures predicted at a time: bounds the memory of every predictor, however large the pool
HUBER = 0.02  # where a residual stops counting squared, in units of the score; data mixing laws and OLMix alike
NOISE_STARTS = (
    -4.0,
    -1.0,
)  # log σ² to search from: "scores are exact", and "mostly noise", where shuffled scores belong
SQRT5 = float(np.sqrt(5))


class Predictor:
    """One regressor per score column behind one contract: tables in, tables out, columns by name.

    `make(rng)` returns what learns one column: an object with `fit(x, y)`, `predict(x)` and perhaps `spread(x)`. Every
    column has its own child of `rng` and one thread, so that any `n_jobs` gives the same result bit for bit.
    """

    def __init__(self, make: Callable, *, rng: np.random.Generator, n_jobs: int = 1):
        self.make, self.rng, self.n_jobs = make, rng, n_jobs

    def fit(self, mixtures: pd.DataFrame, scores: pd.DataFrame) -> "Predictor":
        """Learn every column of `scores` from `mixtures`; rows are matched by mixture name.

        Raises ValueError for what is no mixture table, a mixture without scores (or the reverse), a score that is not
        finite, a constant score, fewer rows than folds, and for whatever the chosen regressor cannot learn from.
        """
        mixtures, scores = _aligned(mixtures, scores)
        x, y = mixtures.to_numpy(), scores.to_numpy(float).T
        streams = copy.deepcopy(self.rng).spawn(len(y))  # copied: fitting twice gives the same model twice
        calls = [(self.make, x, column, stream) for column, stream in zip(y, streams, strict=True)]
        self.candidates = list(mixtures.columns)
        self.columns = dict(zip(scores.columns, fan_out(_learn, calls, n_jobs=self.n_jobs, ordered=True), strict=True))
        return self

    def predict(self, mixtures: pd.DataFrame, *, spread: bool = False) -> pd.DataFrame | tuple:
        """Return the score table of predicted means; with `spread=True` the pair (means, standard deviations).

        Raises ValueError before `fit`, for what is no mixture table over the candidates of `fit`, and when a spread is
        asked of a regressor that has none.
        """
        if not hasattr(self, "columns"):
            raise ValueError("predict comes after fit: call fit(mixtures, scores) first")
        mixtures = validate(mixtures, self.candidates)
        if not spread:
            return self._table("predict", mixtures)
        if not all(hasattr(column, "spread") for column in self.columns.values()):
            raise ValueError("this predictor has no spread; take 'gaussian_process' or 'lightgbm_bagged'")
        return self._table("predict", mixtures), self._table("spread", mixtures)

    def _table(self, method: str, mixtures: pd.DataFrame) -> pd.DataFrame:
        chunks = [mixtures.to_numpy()[start : start + CHUNK] for start in range(0, len(mixtures), CHUNK)]
        values = {t: np.concatenate([getattr(c, method)(x) for x in chunks]) for t, c in self.columns.items()}
        return pd.DataFrame(values, index=mixtures.index)


def _aligned(mixtures: pd.DataFrame, scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables with the rows of `mixtures`, after every check that needs no regressor."""
    mixtures = validate(mixtures)
    odd = mixtures.index.symmetric_difference(scores.index)
    if len(odd) or scores.index.has_duplicates:
        odd = [*odd, *scores.index[scores.index.duplicated()]]
        raise ValueError(f"mixture {odd[0]!r} lacks its one row in each table, as do {len(odd) - 1} others; drop them")
    bad = np.argwhere(~np.isfinite(scores.to_numpy(float)))
    if len(bad):
        row, column = scores.index[bad[0, 0]], scores.columns[bad[0, 1]]
        raise ValueError(f"score of {row!r} on {column!r} is not a finite number; score it again or drop the row")
    if len(mixtures) < FOLDS:
        raise ValueError(f"{len(mixtures)} rows cannot fill {FOLDS} folds of cross-validation; score more mixtures")
    useless = scores.columns[(scores.nunique() < 2).to_numpy() | scores.columns.duplicated()]
    if len(useless):
        raise ValueError(f"score {useless[0]!r} is constant or comes twice: nothing to learn; leave the column out")
    return mixtures, scores.loc[mixtures.index]


def _learn(make: Callable, x: Mixtures, y: Scores, rng: np.random.Generator):
    if np.ptp(y) == 0:
        raise ValueError(f"the score is constant over {len(y)} rows, there is nothing to learn; score more mixtures")
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)  # a worker gets copies in C order: sums round alike
    return make(rng).fit(x, y)


def _folds(x: Mixtures, folds: int, rng: np.random.Generator) -> Int[ndarray, " mixture"]:
    """A fold number per row; rows with the same shares (one mixture, two seeds) always share their fold."""
    distinct, group = np.unique(x.round(9), axis=0, return_inverse=True)
    if len(distinct) < folds:
        raise ValueError(f"{len(distinct)} distinct mixtures cannot fill {folds} folds; score more or take fewer folds")
    return (rng.permutation(len(distinct)) % folds)[group]


def out_of_fold(
    predictor: Predictor, mixtures: pd.DataFrame, scores: pd.DataFrame, *, folds: int = FOLDS, rng: np.random.Generator
) -> pd.DataFrame:
    """Score table in which each row is predicted by a copy of `predictor` that never saw that mixture.

    The split is made once, by mixture. Raises ValueError when there are fewer distinct mixtures than folds, and
    whatever `fit` raises on the rows of a fold.
    """
    mixtures, scores = _aligned(mixtures, scores)
    fold = _folds(mixtures.to_numpy(), folds, rng)

    def held_out(k: int) -> pd.DataFrame:
        return copy.deepcopy(predictor).fit(mixtures[fold != k], scores[fold != k]).predict(mixtures[fold == k])

    return pd.concat([held_out(k) for k in range(folds)]).loc[mixtures.index]


@dataclass
class LightGBM:
    """Boosted trees (Ke et al. 2017), LightGBM's defaults but for what is named; refuses to learn a constant."""

    rounds: int
    learning_rate: float
    min_leaf: int = 20  # rows; LightGBM's default min_child_samples, which both papers keep

    def fit(self, x: Mixtures, y: Scores) -> "LightGBM":
        if len(y) < 2 * self.min_leaf:
            raise ValueError(
                f"LightGBM with {self.min_leaf} rows per leaf cannot split {len(y)} rows and would return their mean; "
                f"score at least {2 * self.min_leaf} mixtures or take 'lightgbm_bagged', 'gaussian_process' or 'ridge'"
            )
        import lightgbm as lgb  # here: it brings sklearn, and whoever moves a slider over a Gaussian process waits

        settings = {"learning_rate": self.learning_rate, "min_data_in_leaf": self.min_leaf, "verbosity": -1}
        settings |= {"num_threads": 1, "deterministic": True, "force_row_wise": True}
        self.booster = lgb.train(settings, lgb.Dataset(x, y), num_boost_round=self.rounds)
        if np.ptp(self.booster.predict(x)) == 0:
            raise ValueError(
                f"LightGBM found no split in {len(y)} rows, {self.min_leaf} to a leaf; score more mixtures"
            )
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
    min_leaf: int = 3

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


@dataclass
class GaussianProcess:
    """Gaussian process on √weights, where Euclidean distance is Hellinger's between mixtures; one scale per candidate.

    k(a, b) = s²·(1 + r + r²/3)·exp(−r), r² = 5 Σ_d w_d (√a_d − √b_d)², plus noise σ² (Matérn 5/2: Rasmussen & Williams
    2006, eq. 4.17; prediction 2.25–2.26, gradient 5.9). Scales are chosen by their posterior under a wide log-normal
    prior, which keeps 17 of them sane on 64 runs. The spread is that of a new run, its noise included.
    """

    prior: float = 1.5  # standard deviation of log w; 1 to 3 do equally well on RegMix's training rows

    def fit(self, x: Mixtures, y: Scores) -> "GaussianProcess":
        self.z, self.centre, self.scale = np.sqrt(x), y.mean(), y.std()
        target, d = (y - self.centre) / self.scale, x.shape[1]
        bounds = [(-6, 8)] * d + [(-4, 6), (-12, 1)]  # log w, log s², log σ², for a target of variance 1
        starts = [np.r_[np.zeros(d + 1), noise] for noise in NOISE_STARTS]
        search = partial(minimize, self._objective, args=(target,), jac=True, method="L-BFGS-B", bounds=bounds)
        found = [search(start, options={"maxiter": 200}) for start in starts]
        self.theta = min(found, key=lambda result: result.fun).x
        self.factor = cho_factor(self._covariance(self.theta)[0], lower=True)
        self.weights = cho_solve(self.factor, target)
        return self

    def _kernel(self, theta: ndarray, z: ndarray) -> tuple[ndarray, ndarray]:
        """k between z and the rows of fit, and twice ∂k/∂Σ_d w_d(…)²."""
        root = np.exp(theta[:-2] / 2)
        r = SQRT5 * cdist(z * root, self.z * root)
        decay = np.exp(theta[-2] - r)
        return (1 + r + r**2 / 3) * decay, (-5 / 3) * (1 + r) * decay

    def _covariance(self, theta: ndarray) -> tuple[ndarray, ndarray]:
        k, slope = self._kernel(theta, self.z)
        k[np.diag_indices_from(k)] += np.exp(theta[-1])
        return k, slope

    def _objective(self, theta: ndarray, target: Scores) -> tuple[float, ndarray]:
        """Negative log posterior of (log w, log s², log σ²) and its gradient.

        Σᵢⱼ Aᵢⱼ(zᵢ−zⱼ)² is a matrix product: five times as fast as scikit-learn's n×n×d slopes (n=512, d=17).
        """
        k, slope = self._covariance(theta)
        factor, noise = cho_factor(k, lower=True), np.exp(theta[-1])
        alpha = cho_solve(factor, target)
        triangle = np.tril(dpotri(factor[0], lower=True)[0])  # of K⁻¹, in half the time that solving for it takes
        inner = np.outer(alpha, alpha) - triangle - np.tril(triangle, -1).T
        pull = inner * slope
        squares = pull.sum(axis=1) @ self.z**2 - (self.z * (pull @ self.z)).sum(axis=0)
        trace = noise * np.trace(inner)
        gradient = -0.5 * np.r_[np.exp(theta[:-2]) * squares, (inner * k).sum() - trace, trace]
        gradient[:-2] += theta[:-2] / self.prior**2
        penalty = (theta[:-2] ** 2).sum() / (2 * self.prior**2)
        return float(target @ alpha / 2 + np.log(np.diag(factor[0])).sum() + penalty), gradient

    def predict(self, x: Mixtures) -> Scores:
        return self.centre + self.scale * (self._kernel(self.theta, np.sqrt(x))[0] @ self.weights)

    def spread(self, x: Mixtures) -> Scores:
        k = self._kernel(self.theta, np.sqrt(x))[0]
        explained = (k * cho_solve(self.factor, k.T).T).sum(axis=1)
        return self.scale * np.sqrt(np.exp(self.theta[-2]) + np.exp(self.theta[-1]) - explained)


@dataclass
class ExponentialLaw:
    """score = c ± exp(t·α), fitted by Huber loss from many starts.

    Data mixing laws (2403.16952): c + k·exp(t·α) with either sign of k; as Σα = 1, |k| is part of t. OLMix (2602.12237)
    is `positive`: e^c + exp(t·α), a law without a ceiling and with no floor below zero.
    """

    rng: np.random.Generator
    positive: bool = False
    starts: int = 8  # signs by turns; on 13 RegMix losses within 1.5 % of what 32 starts reach, mostly equal

    def fit(self, x: Mixtures, y: Scores) -> "ExponentialLaw":
        if len(y) < x.shape[1] + 2:
            raise ValueError(f"{x.shape[1] + 1} parameters cannot be fitted to {len(y)} rows; take 'gaussian_process'")
        if self.positive and y.min() <= 0:
            raise ValueError(f"e^c + exp(t·α) cannot reach the score {y.min():.4g}; take 'mixing_law' for such scores")
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
        return float((pull * (error - delta * pull / 2)).mean()), np.r_[pull.mean(), x.T @ (pull * rise) / len(y)]

    def predict(self, x: Mixtures) -> Scores:
        return self.floor + self.sign * np.exp(x @ self.t)


@dataclass
class Ensemble:
    """Convex combination of members that minimises the out-of-fold squared error (super learner, van der Laan 2007).

    One member alone is a convex combination too, so no member has a smaller error on those folds.
    """

    rng: np.random.Generator
    members: tuple[str, ...] = ("ridge", "lightgbm_bagged", "gaussian_process", "mixing_law")

    def fit(self, x: Mixtures, y: Scores) -> "Ensemble":
        if len(y) < 2 * FOLDS:
            raise ValueError(f"the ensemble weighs its members on {2 * FOLDS} rows or more, got {len(y)}; take 'ridge'")
        fold = _folds(x, FOLDS, self.rng)
        self.weights = convex_weights(np.column_stack([self._held_out(name, x, y, fold) for name in self.members]), y)
        kept = [(weight, name) for weight, name in zip(self.weights, self.members, strict=True) if weight > 0]
        self.fitted = [(weight, _learn(REGRESSORS[name], x, y, self.rng)) for weight, name in kept]
        return self

    def _held_out(self, name: str, x: Mixtures, y: Scores, fold: Int[ndarray, " mixture"]) -> Scores:
        values = np.empty_like(y)
        for k in range(FOLDS):
            values[fold == k] = _learn(REGRESSORS[name], x[fold != k], y[fold != k], self.rng).predict(x[fold == k])
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


def ridge(rng: np.random.Generator):
    """Linear model, ℓ₂ weight by 5-fold cross-validation (RegMix appendix E).

    Folds are shuffled, as rows may come in rounds; squared error, as the default R² is undefined for a fold of one row.
    """
    from sklearn.linear_model import RidgeCV  # here for the same reason as lightgbm
    from sklearn.model_selection import KFold

    split = KFold(FOLDS, shuffle=True, random_state=int(rng.integers(2**31)))
    return RidgeCV(alphas=10.0 ** np.arange(-3, 4), cv=split, scoring="neg_mean_squared_error")


REGRESSORS = {
    "ridge": ridge,
    "lightgbm_regmix": lambda rng: LightGBM(rounds=1000, learning_rate=0.01),  # RegMix appendix E
    "lightgbm_demix": lambda rng: LightGBM(rounds=300, learning_rate=0.02),  # DeMix section 3
    "lightgbm_bagged": BaggedLightGBM,
    "gaussian_process": lambda rng: GaussianProcess(),
    "mixing_law": ExponentialLaw,
    "log_linear": partial(ExponentialLaw, positive=True),
    "ensemble": Ensemble,
}

PREDICTORS = {name: partial(Predictor, make) for name, make in REGRESSORS.items()}
