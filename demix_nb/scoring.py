"""Scores of a live model: lm-evaluation-harness in process, with everything that does not depend on weights done once.

A `Suite` holds tasks whose documents, requests, tokens and batches are made when it is built; scoring a model is then
the forward passes, lm-eval's own `evaluate`, and little else. Hundreds of proxies differ only in their weights, so this
is where the time of a search goes. Any lm-eval task name works beside the suites that ship with us:

    heldout   bits per byte of whole held-out documents per domain, rolled through the context window as lm-eval does
    nine      bits per byte of the gold answer given the question, on DeMix's nine benchmarks (DeMix 3.1)
    extras    the same on LAMBADA and MBPP-C++; `nine_minpair`, `extras_minpair`, `nine_acc` are the choice tasks

Source: Gao et al., lm-evaluation-harness 0.4.13. We differ from its Hugging Face model in speed alone (tested equal):
logits are computed at answer positions only, and a sequence that several tasks ask for is run once.
"""

import difflib
import io
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import lm_eval
import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.evaluator import evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from demix_nb.tables import TableError, atomic, content_hash

TASKS = Path(__file__).parent.parent / "data" / "tasks"
HELDOUT = "heldout_"  # + domain: our only tasks that are not in the folder
UNITS = {"bits_per_byte": "bpb", "acc_norm": "acc", "acc_bytes": "acc"}  # lm-eval's metric → our unit
FEWSHOT_SEED = 1234  # lm-eval's own default, so that drawn examples are the published ones
BATCH_TOKENS = (
    2048  # per forward pass; measured on CPU with 0.2M and 1.1M parameters: 8192 is 20 % slower, 512 no faster
)
LOGITS = 2**28  # logits per forward pass at most (1 GB in float32), which bounds the batch for large vocabularies
SPARE_ROWS = 0.05  # embedding rows beyond the tokenizer that count as padding (Qwen3 has 0.2 %, Phi-2 1.8 %)


@runtime_checkable
class HeldOut(Protocol):
    """What the suite `heldout` needs of candidate datasets (`corpora.Corpora` has it)."""

    families: Mapping[str, str]  # domain → family
    heldout: Mapping[str, Sequence[str]]  # domain → documents


class ScoringError(ValueError):
    """A task, model or score that cannot be used; the message says which and what to do."""


# --- from requests to batches, once ---------------------------------------------------------------------------------


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
        answers += [
            (row, column, tokens[column + 1], index) for column in range(len(tokens) - 1 - size, len(tokens) - 1)
        ]
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
        requests = len(self.arguments)
        return (
            np.bincount(self.owner, sums[self.window], requests),
            np.bincount(self.owner, misses[self.window], requests) == 0,
        )


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
    start, an answer never does. Generation is left to lm-eval's own Hugging Face model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, context: int, batch_tokens: int = BATCH_TOKENS) -> None:
        super().__init__()
        self.tokenizer, self.context = tokenizer, context
        self.batch_tokens = max(context, min(batch_tokens, LOGITS // len(tokenizer)))
        self.model: nn.Module | None = None
        self.plans: dict[str, Plan] = {}
        self.prompts: dict = {}  # what `generation` has tokenised

    def encode(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Return the tokens of context and continuation, and how many of them belong to the continuation.

        Blanks at the end of the context count as the continuation's, and an empty context is one prefix token, as in
        lm-eval's Hugging Face model.
        """
        if bare := context.rstrip():
            tokens = self.tokenizer.encode(context + continuation)
            return tokens, len(tokens) - len(self.tokenizer.encode(bare))
        answer = self.tokenizer.encode(context + continuation, add_special_tokens=False)
        tokens = answer if answer[:1] == [self.prefix] else [self.prefix, *answer]
        return tokens, len(tokens) - 1

    @property
    def prefix(self) -> int:
        """The token that stands before a text without context."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        raise ScoringError("the tokenizer has neither a bos nor an eos token to start a document with; set one")

    def fits(self, instance: Instance) -> bool:
        """Return whether the answer fits into the context; questions may be cut, documents are rolled."""
        return instance.request_type != "loglikelihood" or self.encode(*instance.args)[1] <= self.context

    def windows(self, kind: str, arguments: tuple) -> list[Window]:
        """Return the token windows of one request; raises ScoringError when an answer is longer than the context."""
        if kind == "loglikelihood_rolling":
            rolling = get_rolling_token_windows(self.tokenizer.encode(arguments[0]), self.prefix, self.context, 1)
            return [((*before, *answer), len(answer)) for before, answer in map(make_disjoint_window, rolling)]
        tokens, size = self.encode(*arguments)
        if not 0 < size <= self.context:
            raise ScoringError(
                f"the answer {arguments[1][:40]!r} has {size} tokens, context is {self.context}; "
                + ("raise `context`" if size else "the tokenizer merges it into the question")
            )
        return [(tuple(tokens[-(self.context + 1) :]), size)]

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
        """Return greedy or sampled continuations, through lm-eval's Hugging Face model on the same weights."""
        from demix_nb.generation import Generator  # imports much that scoring by likelihood does not need

        with _quiet():
            generator = Generator(self.model, self.tokenizer, self.context, self.prompts)
            return generator.generate_until(requests, disable_tqdm=True)


# --- from names to tasks, once --------------------------------------------------------------------------------------


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's progress bars and notes off the screen; its errors come as exceptions."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def load_tasks(names: Sequence[str], include_path: str | Path = TASKS) -> dict[str, dict[str, Task]]:
    """Return the lm-eval tasks, by name, that each of `names` stands for: a task, a tag such as `nine`, or a group.

    lm-eval's own task folder (14,000 tasks, seconds) is read only when a name is not among ours. Raises ScoringError
    naming an unknown task and the nearest names, or a task whose data cannot be had.
    """
    if not names:
        return {}
    if not Path(include_path).is_dir():
        raise ScoringError(f"no folder of tasks at {include_path}; install from a clone with `pip install -e .`")
    ours = TaskManager(include_path=str(include_path), include_defaults=False)
    manager = ours if set(names) <= set(ours.all_tasks) else TaskManager(include_path=str(include_path))
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, ["heldout", *manager.all_tasks], n=3)
            raise ScoringError(f"no task {name!r}; near names: {', '.join(near) or 'none'}")
    return {name: _load(manager, name) for name in names}


def _load(manager: TaskManager, name: str) -> dict[str, Task]:
    try:
        return manager.load([name])["tasks"]
    except OSError as error:
        raise ScoringError(f"cannot get the data of task {name!r} ({error}); it needs access to its source") from error


def heldout_tasks(corpora: HeldOut) -> dict[str, Task]:
    """Return one rolling bits-per-byte task per domain, over its whole held-out documents."""
    return {HELDOUT + domain: _heldout_task(domain, corpora) for domain in corpora.families}


def _heldout_task(domain: str, corpora: HeldOut) -> ConfigurableTask:
    metric = {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
    return ConfigurableTask(
        config={
            "task": HELDOUT + domain,
            "custom_dataset": partial(_texts, documents=list(corpora.heldout[domain])),
            "output_type": "loglikelihood_rolling",
            "test_split": "test",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [metric],
            "metadata": {"version": 1, "family": corpora.families[domain]},
        }
    )


def _texts(documents: list[str], **_metadata: object) -> dict:
    import datasets  # lm-eval's container for documents

    return {"test": datasets.Dataset.from_dict({"text": documents})}


def _requests(task: Task, number: int, document: Mapping) -> list[Instance]:
    """Return the requests of one document, as lm-eval's `build_all_requests` makes them."""
    shots = task.config.num_fewshot or 0
    context = task.fewshot_context(document, num_fewshot=shots, gen_prefix=task.doc_to_prefix(document))
    metadata = (task.config.task, number, task.config.repeats)
    made = task.construct_requests(doc=document, ctx=context, metadata=metadata)
    return made if isinstance(made, list) else [made]


def _choose(
    task: Task, live: LiveModel, limit: int | None, rng: np.random.Generator
) -> tuple[list, list[Instance], int]:
    """Return `limit` documents whose answers fit, in shuffled order, their requests, and how many did not fit."""
    source, documents, instances, left_out = task.eval_docs, [], [], 0
    for index in rng.permutation(len(source)).tolist() if limit else range(len(source)):
        if limit and len(documents) == limit:
            break
        document = source[index]
        requests = _requests(task, len(documents), document)
        if all(map(live.fits, requests)):
            documents.append(document)
            instances += requests
        else:
            left_out += 1
    if not documents:
        raise ScoringError(f"{task.config.task}: every answer is longer than {live.context} tokens; raise `context`")
    return documents, instances, left_out


def _freeze(task: Task, documents: list, instances: list[Instance]) -> None:
    """Make the task hand back these documents and requests: lm-eval would build them anew for every model."""
    task.dataset = task.task_docs = task.sampler = None
    task.config.custom_dataset = None  # its source code would be printed into every result
    task.test_docs = task.validation_docs = partial(list, documents)
    task._instances = instances
    task.build_all_requests = partial(_rewind, instances)


def _rewind(instances: list[Instance], **_ignored: object) -> None:
    for instance in instances:
        instance.resps, instance.filtered_resps = [], {}


def _row(task: Task, items: int, left_out: int, families: Mapping[str, str]) -> dict[str, object]:
    metric = next(iter(task.aggregation()))
    metadata = task.config.metadata or {}
    return {
        "family": families.get(task.config.task) or metadata.get("family", "other"),
        "unit": UNITS.get(metric, metric),
        "higher_is_better": bool(task.higher_is_better()[metric]),
        "items": items,
        "chance": _chance(task) if UNITS.get(metric, metric) == "acc" else math.nan,
        "version": str(task.VERSION),
        "left_out": left_out,
        "metric": metric,
    }


def _chance(task: Task) -> float:
    """Return the expected accuracy of a blind guess: the mean over items of 1 / choices; NaN without choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return math.nan
    choices = pd.Series([instance.doc_id for instance in task.instances]).value_counts()
    return float((1 / choices).mean())


# --- the suite ------------------------------------------------------------------------------------------------------


@dataclass
class Suite:
    """Tasks ready to score any model that shares the tokenizer.

    `tasks` is the task table (index `task`): family, unit, higher_is_better, items, chance, version, left_out (items
    drawn but not scored, their answer being longer than the context), lm-eval's metric, and `suite`, the name by which
    the task was asked for. `key` is a content hash of all that decides a score except the model. A suite can be
    pickled, so a worker receives it ready made.
    """

    tasks: pd.DataFrame
    key: str
    live: LiveModel
    loaded: dict[str, Task]
    unsafe_code: bool

    @classmethod
    def build(
        cls,
        names: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        *,
        corpora: HeldOut | None = None,
        limit: int | None = None,
        context: int = 256,
        seed: int = 0,
        include_path: str | Path = TASKS,
        families: Mapping[str, str] | None = None,
        unsafe_code: bool = False,
        batch_tokens: int = BATCH_TOKENS,
    ) -> "Suite":
        """Build tasks, requests, tokens and batches once.

        `names` are suites (`heldout`, `nine`, `extras`, …) or lm-eval task names; `limit` items are drawn per task by
        a seeded shuffle (held-out documents are always all used); `context` is in tokens; `families` gives task →
        family where a task's own metadata has none (else `other`); raise `batch_tokens` on a GPU. Tasks that run
        generated code need `unsafe_code=True` and, as lm-eval demands, HF_ALLOW_CODE_EVAL=1 in the environment.

        Raises ScoringError for an unknown task name, a heldout suite without corpora, a task that runs code without
        permission, or a task without any answer that fits the context.
        """
        with _quiet():
            by_suite = load_tasks([name for name in names if name != "heldout"], include_path)
            if "heldout" in names:
                by_suite["heldout"] = heldout_tasks(_given(corpora))
            loaded = {name: task for tasks in by_suite.values() for name, task in tasks.items()}
            live = LiveModel(tokenizer, context, batch_tokens)
            rows = {
                name: _prepare(name, task, live, limit, seed, families or {}, unsafe_code)
                for name, task in loaded.items()
            }
        if not rows:
            raise ScoringError("no task named; give suite or task names, for example ['heldout', 'nine']")
        tasks = pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")
        origin = {task: name for name, tasks in by_suite.items() for task in tasks}
        return cls(tasks.assign(suite=pd.Series(origin)), _key(tasks, loaded, live), live, loaded, unsafe_code)

    def score(self, model: nn.Module) -> pd.Series:
        """Return task → score of a live model, in the units of `tasks`, through lm-eval's `evaluate`.

        A transformers causal model, or any module with `get_input_embeddings()` whose `forward(input_ids, use_cache)`
        returns an object with `logits` [rows, length, vocabulary] (an ensemble, say; it cannot generate).

        Raises ScoringError when the model's vocabulary or context does not fit, when lm-eval returns no result for a
        task, or when a score is not a finite number (naming the task).
        """
        _check_model(model, self.live)
        training = model.training
        self.live.model = model.eval()
        try:
            results = evaluate(
                self.live,
                {"tasks": self.loaded},
                bootstrap_iters=0,
                log_samples=False,
                confirm_run_unsafe_code=self.unsafe_code,
            )["results"]
        finally:
            self.live.model = None
            model.train(training)
        scores = {name: _result(results, name, metric) for name, metric in self.tasks["metric"].items()}
        return pd.Series(scores, name="score", dtype=float).rename_axis("task")


def _given(corpora: HeldOut | None) -> HeldOut:
    if corpora is None:
        raise ScoringError("the suite 'heldout' needs corpora; give corpora=corpora.load(directory)")
    return corpora


def _prepare(
    name: str,
    task: Task,
    live: LiveModel,
    limit: int | None,
    seed: int,
    families: Mapping[str, str],
    unsafe_code: bool,
) -> dict[str, object]:
    if getattr(task, "UNSAFE_CODE", False) and not unsafe_code:
        raise ScoringError(
            f"{name} runs code that the model wrote; allow it by unsafe_code=True and HF_ALLOW_CODE_EVAL=1"
        )
    task.set_fewshot_seed(FEWSHOT_SEED)
    if name.startswith(HELDOUT):
        limit = None
    documents, instances, left_out = _choose(task, live, limit, np.random.default_rng(seed))
    _freeze(task, documents, instances)
    return _row(task, len(documents), left_out, families)


def _key(tasks: pd.DataFrame, loaded: Mapping[str, Task], live: LiveModel) -> str:
    """Return a hash of tasks, documents, tokens, context and lm-eval's version; makes the plans on the way."""
    instances = [instance for task in loaded.values() for instance in task.instances]
    plans = []
    for kind in ("loglikelihood", "loglikelihood_rolling"):
        if requests := [instance for instance in instances if instance.request_type == kind]:
            plans.append(live.plan(kind, requests).key)
    documents = [
        [name, instance.doc, instance.arguments] for name, task in loaded.items() for instance in task.instances
    ]
    vocabulary = sorted(live.tokenizer.get_vocab().items())
    return content_hash(tasks, documents, plans, vocabulary, live.context, lm_eval.__version__)


def _check_model(model: nn.Module, live: LiveModel) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(live.tokenizer)
    if not tokens <= rows <= tokens * (1 + SPARE_ROWS):
        raise ScoringError(
            f"the model embeds {rows} tokens, the suite's tokenizer has {tokens}; "
            "build the suite with the model's own tokenizer"
        )
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if longest and live.context > longest:
        raise ScoringError(
            f"the suite's context is {live.context} tokens, the model's {longest}; build a shorter suite"
        )


def _result(results: Mapping[str, Mapping], name: str, metric: str) -> float:
    """Return a task's first metric under its first filter, looked up by name."""
    found = [value for key, value in results.get(name, {}).items() if key.split(",")[0] == metric]
    if not found:
        raise ScoringError(f"lm-eval returned no {metric!r} for task {name!r}; leave the task out or check its YAML")
    if not math.isfinite(found[0]):
        raise ScoringError(f"task {name!r} scored {found[0]}: the model's weights or logits are not finite")
    return float(found[0])


# --- scores on disk -------------------------------------------------------------------------------------------------


def score_key(model_key: str, suite_key: str, *more: object) -> str:
    """Return the cache key of one model on one suite; `more` is anything else that decides the score."""
    return content_hash(model_key, suite_key, *more)


class ScoreCache:
    """Scores by content: one JSON file per key, so that a second run scores nothing and a killed one loses nothing."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def path(self, key: str) -> Path:
        """Return where the scores of `key` lie."""
        return self.directory / f"{key}.json"

    def get(self, key: str) -> pd.Series | None:
        """Return the stored scores (task → score), None if there are none; raises ScoringError for a damaged file."""
        path = self.path(key)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            scores, check = stored["scores"], stored["check"]
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise ScoringError(f"{path} is damaged ({error!r}); delete it and run again") from error
        if check != content_hash(key, scores):
            raise ScoringError(f"{path} is damaged (its checksum differs); delete it and run again")
        return pd.Series(scores, name="score", dtype=float).rename_axis("task")

    def put(self, key: str, scores: pd.Series) -> None:
        """Store scores atomically; raises ScoringError when the folder cannot be written or a score is not finite."""
        if bad := [task for task, score in scores.items() if not math.isfinite(score)]:
            raise ScoringError(f"the score of {bad[0]!r} is not finite and is not stored")
        values = {str(task): float(score) for task, score in scores.items()}
        try:
            with atomic(self.path(key)) as temporary:
                temporary.write_text(
                    json.dumps({"scores": values, "check": content_hash(key, values)}), encoding="utf-8"
                )
        except (OSError, TableError) as error:
            raise ScoringError(f"cannot write {self.directory} ({error}); choose a folder you may write to") from error
