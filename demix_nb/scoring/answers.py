"""Mix the components' token probabilities instead of their weights: log Σ αᵢ pᵢ(token), for any mixture, at once.

A component is run once per task and the log-probabilities of the answer tokens are kept; the score of any mixture is
then arithmetic on a matrix of tokens × components. Thousands of mixtures cost a second, scores are differentiable, and
bits per byte are convex in α. Plain merging shrinks every update and so gets levels wrong; mixing probabilities keeps
what each component knows. It serves tasks scored by likelihood (bits per byte, perplexity, multiple choice), not
generation and not "is the answer the likeliest text", which need the whole distribution.

Source: MixMin (arXiv 2502.10510) and MDE (arXiv 2502.15950) mix probabilities in this way; ours is their interface to
DeMix's components (arXiv 2602.00747), with the diluted recipe: component i stands for (1−β)·general + β·Dᵢ.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.mixtures import validate
from demix_nb.scoring.metrics import documents_of
from demix_nb.scoring.suite import Suite
from demix_nb.store import Refusal

BLOCK = 64  # mixtures mixed at a time: a block of token log-probabilities stays small beside the models' own


@dataclass(frozen=True)
class Mixed:
    """K components' log-probabilities of rows' answer tokens (nats, `Suite.logs`), ready to be mixed.

    Raises Refusal for a row that needs more than likelihoods, naming it.
    """

    suite: Suite
    names: Sequence[str]
    logs: Mapping[str, Float[ndarray, "answer component"]]

    def __post_init__(self) -> None:
        self.suite.check_mixable(list(self.logs))

    def scores(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the score table of a mixture table, mixture × row of `logs`."""
        shares = validate(mixtures, list(self.names)).to_numpy()
        blocks = [shares[start : start + BLOCK] for start in range(0, len(shares), BLOCK)]
        found = {row: np.concatenate([self._scores(row, block) for block in blocks]) for row in self.logs}
        return pd.DataFrame(found, index=mixtures.index).rename_axis(index="mixture", columns=None)

    def gradient(self, mixture: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
        """Return the bits per byte of one mixture, by row, and their gradient in α, row × component.

        The gradient is that of α as K free numbers. Raises Refusal when no row is in bits per byte.
        """
        if not self.sizes:
            raise Refusal("no task of this suite is in bits per byte; accuracy has no gradient in α")
        shares = mixture[list(self.names)].to_numpy(float)
        value, slope = {}, {}
        for row, size in self.sizes.items():
            probabilities, shift = self._relative[row]
            mixed = probabilities @ shares
            value[row] = -(np.log(mixed) + shift).sum() / (size * math.log(2))
            slope[row] = -(probabilities / mixed[:, None]).sum(axis=0) / (size * math.log(2))
        return pd.Series(value), pd.DataFrame.from_dict(slope, orient="index", columns=list(self.names))

    def _mixed(self, row: str, shares: Float[ndarray, "mixture component"]) -> Float[ndarray, "answer mixture"]:
        """log Σ αᵢ pᵢ of every answer token; one component alone is handed through, bit for bit."""
        probabilities, shift = self._relative[row]
        mixed = np.log(probabilities @ shares.T)
        mixed += shift[:, None]
        for mixture in np.flatnonzero((shares == 1).any(axis=1)):
            mixed[:, mixture] = self.logs[row][:, shares[mixture].argmax()]
        return mixed

    def _scores(self, row: str, shares: Float[ndarray, "mixture component"]) -> Float[ndarray, " mixture"]:
        mixed = self._mixed(row, shares)
        if row in self.sizes:  # −Σ log₂ p / bytes
            return -mixed.sum(axis=0) / (self.sizes[row] * math.log(2))
        counts = self.suite.counts[self.suite.of[row]]
        requests = np.add.reduceat(mixed, np.cumsum(counts) - counts, axis=0)
        return np.array([self._by_harness(row, column) for column in requests.T])

    def _by_harness(self, row: str, requests: Float[ndarray, " request"]) -> float:
        """One row's score from the log-likelihoods of its task's requests, by lm-eval's own rules."""
        task, metric = self.suite.loaded[self.suite.of[row]], self.suite.tasks.loc[row, "metric"]
        answers = dict(zip(map(id, task.instances), requests, strict=True))
        values = []
        for some in documents_of(task):
            given = [_answer(each.request_type, answers[id(each)]) for each in some]
            values.append(task.process_results(some[0].doc, given)[metric])
        return float(task.aggregation()[metric](values))

    @cached_property
    def _relative(self) -> Mapping[str, tuple[Float[ndarray, "answer component"], Float[ndarray, " answer"]]]:
        """Row → probabilities relative to the best component's, so that none is lost to rounding, and its logs."""
        shifts = {row: logs.max(axis=1) for row, logs in self.logs.items()}
        return {row: (np.exp(self.logs[row] - shift[:, None]), shift) for row, shift in shifts.items()}

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Row in bits per byte → the bytes that lm-eval divides its bits by."""
        return {row: self._size(row) for row in self.logs if self.suite.tasks.loc[row, "metric"] == "bits_per_byte"}

    def _size(self, row: str) -> int:
        task = self.suite.loaded[self.suite.of[row]]
        given = ((some[0].doc, [_answer(each.request_type, 0.0) for each in some]) for some in documents_of(task))
        return sum(task.process_results(document, answers)["bits_per_byte"][1] for document, answers in given)


def _answer(kind: str, log: float) -> float | tuple[float, bool]:
    """What lm-eval takes for the answer to a request."""
    return log if kind == "loglikelihood_rolling" else (log, False)
