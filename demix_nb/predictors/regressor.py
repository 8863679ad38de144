"""What learns one column: an array of shares in, one number per mixture out.

A regressor has `fit(x, y)`, `predict(x)` and perhaps `spread(x)`; names, tables and randomness are the `Predictor`'s.
Here is what several of them share: folds that never part two runs of one mixture, and the check that there is something
to learn.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from demix_nb.runs import FLAT
from demix_nb.store import Refusal

Mixtures = Float[ndarray, "mixture candidate"]  # shares, rows sum to 1
Scores = Float[ndarray, " mixture"]  # one task, in its own unit

FOLDS = 5  # of the inner cross-validation of ridge and stack; RegMix appendix E


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
