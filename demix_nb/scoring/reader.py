"""From lm-eval's requests to forward passes: what does not depend on weights is done once, for hundreds of proxies.

`freeze` gives a task documents and requests that stay; a `Plan` holds the token windows, batches and answer positions
of a list of requests; a `LiveModel` is a transformers causal model behind lm-eval's interface that keeps its plans from
one model to the next. We differ from lm-eval's Hugging Face model in speed (tested equal): logits are computed at
answer positions only, and a sequence that several tasks ask for is run once. And in how texts begin and end: `texts`.

Source: Gao et al., lm-evaluation-harness 0.4.13.
"""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import Task
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from demix_nb.scoring.texts import AsLmEval, Once
from demix_nb.store import Refusal, content_hash

BATCH_TOKENS = 2048  # per forward pass; on CPU at 0.2M and 1.1M parameters 8192 is 20 % slower, 512 no faster
LONGEST, WRITTEN = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens"), 256  # as lm-eval has them
LOGITS = 2**28  # logits per forward pass at most (1 GB in float32), which bounds the batch for large vocabularies


class Batch(NamedTuple):
    """Token sequences padded on the right (a causal model never sees the padding), and where their answers stand."""

    ids: Int[Tensor, "rows length"]
    row: Int[Tensor, " answers"]
    column: Int[Tensor, " answers"]  # of the logits that predict the answer token
    target: Int[Tensor, " answers"]
    window: Int[Tensor, " answers"]  # the sequence that each answer token belongs to


Window = tuple[tuple[int, ...], int]  # a token sequence and how many tokens at its end are the answer


def pack(windows: Sequence[Window], batch_tokens: int) -> list[Batch]:
    """Return batches of at most `batch_tokens` tokens, padding included, longest sequences first."""
    order = sorted(range(len(windows)), key=lambda i: -len(windows[i][0]))
    batches, start = [], 0
    while start < len(order):
        rows = max(1, batch_tokens // (len(windows[order[start]][0]) - 1))
        batches.append(_batch(windows, order[start : start + rows]))
        start += rows
    return batches


def _batch(windows: Sequence[Window], chosen: Sequence[int]) -> Batch:
    ids = torch.zeros(len(chosen), len(windows[chosen[0]][0]) - 1, dtype=torch.int64)
    answers: list[tuple[int, int, int, int]] = []
    for row, index in enumerate(chosen):
        tokens, size = windows[index]
        ids[row, : len(tokens) - 1] = torch.tensor(tokens[:-1])  # nothing follows the last token
        columns = range(len(tokens) - 1 - size, len(tokens) - 1)
        answers += [(row, column, tokens[column + 1], index) for column in columns]
    return Batch(ids, *torch.tensor(answers).T)


class Plan:
    """Everything about a list of lm-eval requests that does not depend on the model's weights.

    Several requests may share a window (a gold answer asked for by two tasks), and one request may need several (a
    document longer than the context); `owner` and `window` say which request uses which.
    """

    def __init__(self, arguments: list[tuple], windows: Iterable[Sequence[Window]], batch_tokens: int) -> None:
        self.arguments = arguments
        found: dict[Window, int] = {}
        pairs = [(i, found.setdefault(w, len(found))) for i, request in enumerate(windows) for w in request]
        self.owner, self.window = np.array(pairs, dtype=np.int64).T
        self.size = len(found)
        self.tokens = sum(len(tokens) - 1 for tokens, _ in found)
        self.batches = pack(list(found), batch_tokens)
        self.digests = [content_hash(tokens, size) for tokens, size in found]

    def answers(self, model: nn.Module) -> tuple[Float[np.ndarray, " answers"], Bool[np.ndarray, " answers"]]:
        """Return per answer token, batch by batch, its log-probability (nats) and whether it is the likeliest token."""
        device = model.get_input_embeddings().weight.device
        parts = [_answers(model, Batch(*(part.to(device) for part in batch))) for batch in self.batches]
        loglikelihood, greedy = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return loglikelihood, greedy

    @cached_property
    def places(self) -> tuple[Int[np.ndarray, " tokens"], Int[np.ndarray, " requests"]]:
        """Where, in the order of `answers`, the answer tokens of request after request stand, and how many each has."""
        window = torch.cat([batch.window for batch in self.batches]).numpy()
        sizes = np.bincount(window, minlength=self.size)
        of_window = np.split(np.argsort(window, kind="stable"), np.cumsum(sizes)[:-1])
        counts = np.bincount(self.owner, sizes[self.window], len(self.arguments)).astype(np.int64)
        return np.concatenate([of_window[each] for each in self.window]), counts

    def run(self, model: nn.Module) -> tuple[Float[np.ndarray, " requests"], Bool[np.ndarray, " requests"]]:
        """Return per request the log-likelihood of its answer tokens (nats) and whether each is the likeliest."""
        loglikelihood, greedy = self.answers(model)
        tokens, counts = self.places
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(loglikelihood.astype(np.float64)[tokens], starts)
        return sums, np.logical_and.reduceat(greedy[tokens], starts)

    def logs(self, model: nn.Module) -> list[Float[np.ndarray, " tokens"]]:
        """Return per request the log-probability (nats) of each of its answer tokens."""
        tokens, counts = self.places
        return np.split(self.answers(model)[0].astype(np.float64)[tokens], np.cumsum(counts)[:-1])

    def key(self, number: int) -> list[str]:
        """Return what tells the token windows of one request from others."""
        first, last = np.searchsorted(self.owner, [number, number + 1])
        return [self.digests[window] for window in self.window[first:last]]


@torch.inference_mode()
def _answers(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, " answers"], Bool[Tensor, " answers"]]:
    """Return the log-probability of each answer token and whether it is the likeliest token."""
    with head_at(model, batch.row, batch.column):
        logits = model(input_ids=batch.ids, use_cache=False).logits
    if logits.ndim == 3:  # a model that does not call its output embedding as a module
        logits = logits[batch.row, batch.column]
    logits = logits.float()
    chosen = logits.gather(-1, batch.target[:, None])[:, 0]
    return -nn.functional.cross_entropy(logits, batch.target, reduction="none"), chosen >= logits.amax(-1)


@contextmanager
def head_at(model: nn.Module, row: Int[Tensor, " answers"], column: Int[Tensor, " answers"]) -> Iterator[None]:
    """Let the output embedding see only the given positions: it is most of a small model's arithmetic."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    hook = head and head.register_forward_pre_hook(lambda _, inputs: (inputs[0][row, column], *inputs[1:]))
    try:
        yield
    finally:
        if hook:
            hook.remove()


class LiveModel(LM):
    """A transformers causal model behind lm-eval's interface; tokens and batches are kept from one model to the next.

    `context` is the number of tokens that the model sees at once, but for tasks that `contexts` names. A question that
    does not fit loses tokens at its start, an answer never does. `as_lm_eval`: tokens as lm-eval 0.4.13 gives them.
    What is to be written goes to `generation`.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        context: int,
        batch_tokens: int = BATCH_TOKENS,
        as_lm_eval: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer, self.context = tokenizer, context
        self.contexts: dict[str, int] = {}
        self.texts = (AsLmEval if as_lm_eval else Once)(tokenizer)
        self.batch_tokens = max(context, min(batch_tokens, LOGITS // len(tokenizer)))
        self.model: nn.Module | None = None
        self.plans: dict[tuple[str, ...], Plan] = {}
        self.prompts: dict = {}  # what `generation` has tokenised

    def seen(self, request: Instance) -> int:
        """Return how many tokens a model sees at once of a request."""
        return self.contexts.get(request.task_name or "", self.context)

    def sizes(self, request: Instance) -> tuple[int, int]:
        """Return how many tokens a request has that must be seen at once, and how many of them must not be cut.

        A question may be cut and a document is rolled, an answer is whole; one that is to be written counts with as
        many tokens as it may have, and its prompt is not cut.
        """
        if request.request_type == "loglikelihood_rolling":
            return 0, 0
        if request.request_type == "loglikelihood":
            tokens, answer = self.texts.pair(*request.args)
            return len(tokens) - 1, answer  # nothing follows the last token
        text, how = request.args[:2]
        whole = len(self.texts.prompt(text)) + next((how[each] for each in LONGEST if how.get(each)), WRITTEN)
        return whole, whole

    def windows(self, kind: str, arguments: tuple, context: int | None = None) -> list[Window]:
        """Return the token windows of one request; raises Refusal when an answer is longer than the context."""
        context = context or self.context
        if kind == "loglikelihood_rolling":
            return self._rolled(*arguments, context)
        tokens, size = self.texts.pair(*arguments)
        if not 0 < size <= context:
            raise Refusal(
                f"the answer {arguments[1][:40]!r} has {size} tokens, context is {context}; "
                + ("raise `context`" if size > 0 else "the tokenizer merges it into the question")
            )
        return [(tuple(tokens[-(context + 1) :]), size)]

    def _rolled(self, text: str, context: int) -> list[Window]:
        start, tokens = self.texts.document(text)
        if not tokens or len(start) > context:
            raise Refusal(
                f"the document {text[:40]!r} has {len(tokens)} tokens, {len(start)} stand before it, context is "
                f"{context}; " + ("raise `context`" if tokens else "leave it out")
            )
        rolling = get_rolling_token_windows([*start[1:], *tokens], start[0], context, 1)
        (first, size), *others = [((*a, *b), len(b)) for a, b in map(make_disjoint_window, rolling)]
        return [(first, size - len(start) + 1), *others]  # what stands before a document is not scored

    def plan(self, kind: str, requests: Sequence[Instance]) -> Plan:
        """Return the plan for these requests, the one made before for the same tasks if they are the same."""
        arguments = [request.args for request in requests]
        name = (kind, *dict.fromkeys(request.task_name or "" for request in requests))
        if name not in self.plans or self.plans[name].arguments != arguments:
            windows = (self.windows(kind, request.args, self.seen(request)) for request in requests)
            self.plans[name] = Plan(arguments, windows, self.batch_tokens)
        return self.plans[name]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nats, greedy) of each continuation given its context."""
        sums, greedy = self.plan("loglikelihood", requests).run(self.model)
        return list(zip(sums.tolist(), greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Return the log-likelihood (nats) of each whole document, every token predicted once."""
        return self.plan("loglikelihood_rolling", requests).run(self.model)[0].tolist()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return the text written for each request: the likeliest or, where that is asked for, a sampled one."""
        from demix_nb.scoring.generation import written  # imports what scoring by likelihood does not need

        contexts, found = [self.seen(request) for request in requests], [""] * len(requests)
        for context in dict.fromkeys(contexts):
            places = [place for place, each in enumerate(contexts) if each == context]
            texts = written(self.model, self.texts, context, self.prompts, [requests[place] for place in places])
            for place, text in zip(places, texts, strict=True):
                found[place] = text
        return found


def freeze(task: Task, documents: list, instances: list[Instance]) -> None:
    """Make the task hand back these documents and requests: lm-eval would build them anew for every model."""
    task.dataset = task.task_docs = task.sampler = None
    task.config.custom_dataset = None  # its source code would be printed into every result
    task.test_docs = task.validation_docs = partial(list, documents)
    task._instances = instances
    task.build_all_requests = partial(_rewind, instances)


def _rewind(instances: list[Instance], **_ignored: object) -> None:
    for instance in instances:
        instance.resps, instance.filtered_resps = [], {}


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's progress bars and notes off the screen; its errors come as exceptions."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
