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
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import csr_array, vstack

from demix_nb.mixtures import validate
from demix_nb.scoring.reader import Plan
from demix_nb.scoring.suite import Suite
from demix_nb.store import Refusal

BLOCK = 64  # mixtures mixed at a time: a block of token log-probabilities stays small beside the models' own


def token_logs(suite: Suite, model) -> Float[ndarray, " answers"]:
    """Return a live model's log-probability (nats) of every answer token of the suite, plan by plan."""
    training = model.training
    model.eval()
    logs = np.concatenate([plan.answers(model)[0] for plan in _plans(suite)]).astype(np.float64)
    model.train(training)
    if not np.isfinite(logs).all():
        raise Refusal("a component gives an answer token probability 0 or NaN; its weights are not finite")
    return logs


def _plans(suite: Suite) -> list[Plan]:
    return [suite.live.plans[kind] for kind in sorted(suite.live.plans)]


@dataclass(frozen=True)
class Mixed:
    """K components' log-probabilities of a suite's answer tokens (nats), ready to be mixed.

    Raises Refusal for a task that needs more than likelihoods, naming it.
    """

    suite: Suite
    names: Sequence[str]
    logs: Float[ndarray, "answer component"]

    def __post_init__(self) -> None:
        for name, task in self.suite.loaded.items():
            kinds = {instance.request_type for instance in task.instances}
            if task.config.filter_list:
                raise Refusal(f"{name} filters what a model answers, mixed probabilities do not; leave it out")
            greedy = task.OUTPUT_TYPE == "loglikelihood" and self.suite.tasks.loc[name, "metric"] == "acc"
            if "generate_until" in kinds or greedy:
                raise Refusal(
                    f"{name} needs {'the likeliest text' if greedy else 'generated text'}, which mixed "
                    "probabilities do not have; leave it out of the suite, or use merged proxies"
                )

    def scores(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the score table of a mixture table, mixture × task."""
        shares = validate(mixtures, list(self.names)).to_numpy()
        blocks = [self._scores(self._mixed(shares[i : i + BLOCK])) for i in range(0, len(shares), BLOCK)]
        table = pd.DataFrame(np.vstack(blocks), index=mixtures.index, columns=list(self.suite.tasks.index))
        return table.rename_axis(index="mixture", columns=None)

    def gradient(self, mixture: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
        """Return the bits per byte of one mixture, by task, and their gradient in α, task × component.

        The gradient is that of α as K free numbers. Raises Refusal when the suite has no task in bits per byte.
        """
        if self._bits.shape[0] == 0:
            raise Refusal("no task of this suite is in bits per byte; accuracy has no gradient in α")
        shares = mixture[list(self.names)].to_numpy(float)
        mixed = self._probabilities @ shares
        per_request = self._sums @ (self._probabilities / mixed[:, None])
        value = self._bits @ (self._sums @ (np.log(mixed) + self._shift))
        slope = self._bits @ per_request
        return pd.Series(value, index=self._in_bits), pd.DataFrame(slope, index=self._in_bits, columns=list(self.names))

    def _mixed(self, shares: Float[ndarray, "mixture component"]) -> Float[ndarray, "answer mixture"]:
        """log Σ αᵢ pᵢ of every answer token; one component alone is handed through, bit for bit."""
        mixed = np.log(self._probabilities @ shares.T)
        mixed += self._shift[:, None]
        for row in np.flatnonzero((shares == 1).any(axis=1)):
            mixed[:, row] = self.logs[:, shares[row].argmax()]
        return mixed

    def _scores(self, mixed: Float[ndarray, "answer mixture"]) -> Float[ndarray, "mixture task"]:
        requests = self._sums @ mixed
        scores = pd.DataFrame((self._bits @ requests).T, columns=self._in_bits)
        for name in self.suite.tasks.index.difference(self._in_bits):
            scores[name] = [self._by_harness(name, column) for column in requests.T]
        return scores[list(self.suite.tasks.index)].to_numpy()

    def _by_harness(self, name: str, requests: Float[ndarray, " request"]) -> float:
        """One task's score from the log-likelihoods of all requests, by lm-eval's own rules."""
        task, metric = self.suite.loaded[name], self.suite.tasks.loc[name, "metric"]
        results: dict[int, list] = {}
        for instance, place in zip(task.instances, self._places[name], strict=True):
            answer = requests[place]
            rolling = instance.request_type == "loglikelihood_rolling"
            results.setdefault(instance.doc_id, []).append(answer if rolling else (answer, False))
        documents = {instance.doc_id: instance.doc for instance in task.instances}
        values = [task.process_results(documents[number], found)[metric] for number, found in results.items()]
        return float(task.aggregation()[metric](values))

    @cached_property
    def _shift(self) -> Float[ndarray, " answer"]:
        return self.logs.max(axis=1)

    @cached_property
    def _probabilities(self) -> Float[ndarray, "answer component"]:
        """Probabilities relative to the best component's, so that none is lost to rounding."""
        return np.exp(self.logs - self._shift[:, None])

    @cached_property
    def _places(self) -> Mapping[str, list[int]]:
        """Task → the rows of its requests among all requests, in the order of the task's instances."""
        asked = [(name, each.request_type) for name, task in self.suite.loaded.items() for each in task.instances]
        by_plan = np.argsort([kind for _, kind in asked], kind="stable")
        places: dict[str, list[int]] = {name: [] for name in self.suite.loaded}
        for (name, _), row in zip(asked, np.argsort(by_plan).tolist(), strict=True):
            places[name].append(row)
        return places

    @cached_property
    def _sums(self) -> csr_array:
        """Request × answer: which answer tokens a request adds up."""
        blocks, before, answers = [], 0, len(self.logs)
        for plan in _plans(self.suite):
            tokens = plan.answer_window
            window = _ones(tokens, before + np.arange(len(tokens)), (plan.size, answers))
            blocks.append(_ones(plan.owner, plan.window, (len(plan.arguments), plan.size)) @ window)
            before += len(tokens)
        return vstack(blocks).tocsr()

    @cached_property
    def _in_bits(self) -> pd.Index:
        return self.suite.tasks.index[self.suite.tasks["metric"] == "bits_per_byte"]

    @cached_property
    def _bits(self) -> csr_array:
        """Task × request: bits per byte are linear in log-likelihoods, −Σ log p / (bytes · ln 2)."""
        rows, columns, values = [], [], []
        for number, name in enumerate(self._in_bits):
            task, places = self.suite.loaded[name], self._places[name]
            total = sum(_bytes(task, instance) for instance in task.instances)
            rows += [number] * len(places)
            columns += places
            values += [-1 / (total * math.log(2))] * len(places)
        return csr_array((values, (rows, columns)), shape=(len(self._in_bits), self._sums.shape[0]))


def _ones(rows: Int[ndarray, " ones"], columns: Int[ndarray, " ones"], shape: tuple[int, int]) -> csr_array:
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def _bytes(task, instance) -> int:
    """The bytes that lm-eval divides a request's bits by."""
    answer = 0.0 if instance.request_type == "loglikelihood_rolling" else (0.0, False)
    return task.process_results(instance.doc, [answer])["bits_per_byte"][1]
