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
        self.key = content_hash([[list(tokens), size] for tokens, size in found], pairs)

    def answers(self, model: nn.Module) -> tuple[Float[np.ndarray, " answers"], Bool[np.ndarray, " answers"]]:
        """Return per answer token, batch by batch, its log-probability (nats) and whether it is the likeliest token."""
        device = model.get_input_embeddings().weight.device
        parts = [_answers(model, Batch(*(part.to(device) for part in batch))) for batch in self.batches]
        loglikelihood, greedy = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
        return loglikelihood, greedy

    @cached_property
    def answer_window(self) -> Int[np.ndarray, " answers"]:
        """The window that each answer token belongs to, in the order of `answers`."""
        return torch.cat([batch.window for batch in self.batches]).numpy()

    def run(self, model: nn.Module) -> tuple[Float[np.ndarray, " requests"], Bool[np.ndarray, " requests"]]:
        """Return per request the log-likelihood of its answer tokens (nats) and whether each is the likeliest."""
        loglikelihood, greedy = self.answers(model)
        sums = np.bincount(self.answer_window, loglikelihood.astype(np.float64), self.size)
        misses = np.bincount(self.answer_window, ~greedy, self.size)
        sums, misses = (np.bincount(self.owner, each[self.window], len(self.arguments)) for each in (sums, misses))
        return sums, misses == 0


@torch.inference_mode()
def _answers(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, " answers"], Bool[Tensor, " answers"]]:
    """Return the log-probability of each answer token and whether it is the likeliest token."""
    with _head_at(model, batch.row, batch.column):
        logits = model(input_ids=batch.ids, use_cache=False).logits
    if logits.ndim == 3:  # a model that does not call its output embedding as a module
        logits = logits[batch.row, batch.column]
    logits = logits.float()
    chosen = logits.gather(-1, batch.target[:, None])[:, 0]
    return -nn.functional.cross_entropy(logits, batch.target, reduction="none"), chosen >= logits.amax(-1)


@contextmanager
def _head_at(model: nn.Module, row: Int[Tensor, " answers"], column: Int[Tensor, " answers"]) -> Iterator[None]:
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

    `context` is the number of tokens that the model sees at once. A question that does not fit loses tokens at its
    start, an answer never does. `as_lm_eval`: tokens as lm-eval 0.4.13 gives them. Generation is left to lm-eval's own
    Hugging Face model.
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
        self.texts = (AsLmEval if as_lm_eval else Once)(tokenizer)
        self.batch_tokens = max(context, min(batch_tokens, LOGITS // len(tokenizer)))
        self.model: nn.Module | None = None
        self.plans: dict[str, Plan] = {}
        self.prompts: dict = {}  # what `generation` has tokenised

    def fits(self, instance: Instance) -> bool:
        """Return whether the answer fits into the context; questions may be cut, documents are rolled."""
        return instance.request_type != "loglikelihood" or self.texts.pair(*instance.args)[1] <= self.context

    def windows(self, kind: str, arguments: tuple) -> list[Window]:
        """Return the token windows of one request; raises Refusal when an answer is longer than the context."""
        if kind == "loglikelihood_rolling":
            return self._rolled(*arguments)
        tokens, size = self.texts.pair(*arguments)
        if not 0 < size <= self.context:
            raise Refusal(
                f"the answer {arguments[1][:40]!r} has {size} tokens, context is {self.context}; "
                + ("raise `context`" if size > 0 else "the tokenizer merges it into the question")
            )
        return [(tuple(tokens[-(self.context + 1) :]), size)]

    def _rolled(self, text: str) -> list[Window]:
        start, tokens = self.texts.document(text)
        if not tokens or len(start) > self.context:
            raise Refusal(
                f"the document {text[:40]!r} has {len(tokens)} tokens, {len(start)} stand before it, context is "
                f"{self.context}; " + ("raise `context`" if tokens else "leave it out")
            )
        rolling = get_rolling_token_windows([*start[1:], *tokens], start[0], self.context, 1)
        (first, size), *others = [((*a, *b), len(b)) for a, b in map(make_disjoint_window, rolling)]
        return [(first, size - len(start) + 1), *others]  # what stands before a document is not scored

    def plan(self, kind: str, requests: Sequence[Instance]) -> Plan:
        """Return the plan for these requests, the one made before if they are the same."""
        arguments = [request.args for request in requests]
        if kind not in self.plans or self.plans[kind].arguments != arguments:
            self.plans[kind] = Plan(arguments, (self.windows(kind, each) for each in arguments), self.batch_tokens)
        return self.plans[kind]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Return (log-likelihood in nats, greedy) of each continuation given its context."""
        sums, greedy = self.plan("loglikelihood", requests).run(self.model)
        return list(zip(sums.tolist(), greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Return the log-likelihood (nats) of each whole document, every token predicted once."""
        return self.plan("loglikelihood_rolling", requests).run(self.model)[0].tolist()

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Return greedy or sampled continuations, through lm-eval's Hugging Face model on the same weights.

        Raises Refusal where an answer may be as long as the context, which leaves no room for a prompt.
        """
        from demix_nb.scoring.generation import Generator  # imports much that scoring by likelihood does not need

        asked = [request.args[1] for request in requests]
        longest = max(next((how[each] for each in LONGEST if how.get(each)), WRITTEN) for how in asked)
        if longest >= self.context:
            raise Refusal(
                f"an answer may have {longest} tokens, context is {self.context}; raise `context`, or lower the task's "
                "max_gen_toks"
            )
        with quiet():
            generator = Generator(self.model, self.texts, self.context, self.prompts)
            return generator.generate_until(requests, disable_tqdm=True)


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
