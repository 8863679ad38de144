"""What learns one column: an array of shares in, one number per mixture out.

A regressor has `fit(x, y)`, `predict(x)` and perhaps `spread(x)`; names, tables and randomness are the `Predictor`'s.
Here is what several of them share: folds that never part two runs of one mixture, the check that there is something to
learn, and how a spread becomes as wide as it should.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.special import ndtri

from demix_nb.runs import FLAT
from demix_nb.store import Refusal

Mixtures = Float[ndarray, "mixture candidate"]  # shares, rows sum to 1
Scores = Float[ndarray, " mixture"]  # one task, in its own unit

FOLDS = 5  # of the inner cross-validation of ridge and stack; RegMix appendix E
LEVEL = 0.9  # of the central interval that spreads are scaled for, and that is told in one number
SURE = float(ndtri((1 + LEVEL) / 2))  # spreads from the middle of it to either end
HONEST = ndtri((1 + (np.arange(10) + 0.5) / 10) / 2)  # |errors| in spreads of ten runs that a spread just suits


def constant(y: Scores) -> bool:
    """Whether scores vary by no more than rounding."""
    return bool(np.ptp(y) <= FLAT * np.abs(y).max())


def learn(make: Callable, x: Mixtures, y: Scores, *given: object):
    """Return `make(*given)` fitted to one column; raises Refusal for a constant one, and what the regressor raises."""
    if constant(y):
        raise Refusal(f"the score is constant over {len(y)} runs, there is nothing to learn; leave the task out")
    x, y = np.ascontiguousarray(x), np.ascontiguousarray(y)  # a worker gets copies in C order: sums round alike
    return make(*given).fit(x, y)


def deal_folds(x: Mixtures, folds: int, rng: np.random.Generator) -> Int[ndarray, " mixture"]:
    """Return a fold number per row; rows with the same shares (one mixture, two seeds) always share their fold.

    Raises Refusal when there are fewer distinct mixtures than folds.
    """
    distinct, group = np.unique(x.round(9), axis=0, return_inverse=True)
    if len(distinct) < folds:
        raise Refusal(f"{len(distinct)} distinct mixtures cannot fill {folds} folds; score more or take fewer folds")
    return (rng.permutation(len(distinct)) % folds)[group]


def widened(surprises: Float[ndarray, " run"]) -> float:
    """Return by how much a spread is to be multiplied so that its interval of 90 % holds nine in ten of unseen runs.

    `surprises`: errors of runs held out, in their spreads. A quantile and no root of mean squares, which a few far ones
    would widen for all; ten runs that the spread suits speak beside them, as two dozen tell a quantile badly. The level
    is a bit above, as the next run is one more (conformal prediction: Papadopoulos et al., Inductive Confidence
    Machines, 2002).
    """
    sizes = np.r_[HONEST, np.abs(surprises)]
    return float(np.quantile(sizes, LEVEL * (1 + 1 / len(sizes))) / SURE)
