"""A suite measures a model: lm-evaluation-harness in process, what does not depend on weights done once.

A `Suite` holds tasks whose documents, requests, tokens and batches are made when it is built; measuring a model is then
the forward passes, lm-eval's own `evaluate`, and little else. Hundreds of proxies differ only in their weights, so this
is where the time of a search goes.

Source: Gao et al., lm-evaluation-harness 0.4.13; what is fast about it is in `reader`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat

import lm_eval
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from numpy import ndarray
from torch import nn
from transformers import PreTrainedTokenizerBase

from demix_nb.options import check
from demix_nb.scoring.asked import Asked
from demix_nb.scoring.library import TASKS, rules
from demix_nb.scoring.reader import BATCH_TOKENS, LiveModel, quiet
from demix_nb.scoring.tasks import HeldOut, find, permit, prepare, wanted
from demix_nb.store import Refusal, check_families, content_hash

SPARE_ROWS = 0.05  # embedding rows beyond the tokenizer that count as padding (Qwen3 has 0.2 %, Phi-2 1.8 %)
LIKELIHOODS = ("loglikelihood", "loglikelihood_rolling")


@dataclass
class Suite:
    """Tasks ready to measure any model that shares the tokenizer.

    `tasks` is the task table: a task with one metric is the row of its name, one with several has a row `task/metric`
    for each. Columns: family, unit, higher_is_better, items, chance, version, left_out (items drawn but not used, their
    answer being longer than the window), metric (lm-eval's), suite (the name by which the task was asked for), mode
    (`likelihood`, or `generated` where answers are written), target (whether it steers), window (tokens), filter
    (lm-eval's, `""` without) and cut (items whose question loses tokens at its start). `keys`: row → content hash of
    all that decides its score except the model. `mixable`: the rows that mixed probabilities can score. `of`: row →
    task of `loaded`. `counts`: task → answer tokens of each of its requests. A suite can be pickled, tasks' own code
    included, so a worker receives it ready made.
    """

    tasks: pd.DataFrame
    keys: dict[str, str]
    mixable: list[str]
    of: dict[str, str]
    counts: dict[str, Int[ndarray, " request"]]
    live: LiveModel
    loaded: dict[str, Task]
    unsafe_code: bool

    @classmethod
    def build(
        cls,
        names: Sequence[str | Asked],
        tokenizer: PreTrainedTokenizerBase,
        *,
        heldout: HeldOut | None = None,
        limit: int | None = None,
        context: int = 256,
        seed: int = 0,
        include_path: str | Path = TASKS,
        unsafe_code: bool = False,
        batch_tokens: int = BATCH_TOKENS,
        as_lm_eval: bool = False,
    ) -> "Suite":
        """Build tasks, requests, tokens and batches once.

        `names` are suites (`heldout`, `nine`, `extras`, …) or tasks of `include_path`, a folder of one's own, or of
        lm-eval, each as its own file has it or as `Asked` for; `limit` items are drawn per task by a seeded shuffle
        (`heldout` documents are all used); `context` is in tokens; raise `batch_tokens` on a GPU. Tasks that run
        generated code need `unsafe_code=True` and, as lm-eval demands, HF_ALLOW_CODE_EVAL=1 in the environment.
        `as_lm_eval` gives lm-eval 0.4.13's own numbers for tokenizers that put tokens around a text: it scores a rolled
        document's bos, given twice, and an end within a context; without, neither is done (`texts`).

        Raises Refusal as `load_tasks`, and, naming the task, for the suite `heldout` without documents; one asked for
        in two ways; one that runs code without permission; a metric or filter that it does not have; examples that it
        cannot give; no answer that fits its window, or a prompt that does not fit with the answer to be written; a
        metric without direction (`higher_is_better`), or with the other one than lm-eval's metric of that name.
        """
        check(window=context, **({} if limit is None else {"limit": limit}))
        asked = [each if isinstance(each, Asked) else Asked(each) for each in names]
        live = LiveModel(tokenizer, context, batch_tokens, as_lm_eval)
        with quiet():
            found = find([*dict.fromkeys(each.name for each in asked)], heldout, include_path)
            how = wanted(asked, found)
            loaded = {name: task for tasks in found.values() for name, task in tasks.items()}
            permit(loaded, unsafe_code)
            facts = _table(prepare(name, loaded[name], live, how[name], limit, seed) for name in loaded)
        keys, counts = _keys(facts, loaded, live)
        mixable, of = list(facts.index[facts.pop("mixable")]), facts.pop("of").to_dict()
        return cls(facts, keys, mixable, of, counts, live, loaded, unsafe_code)

    @property
    def key(self) -> str:
        """A content hash of all that decides a score of any row except the model."""
        return content_hash(self.keys)

    def measure(self, model: nn.Module, rows: Sequence[str] | None = None) -> pd.Series:
        """Return row → score of a live model, in the units of `tasks`, through lm-eval's `evaluate`.

        `rows` of the task table, all of them if None; nothing else is asked. A transformers causal model, or any module
        with `get_input_embeddings()` whose `forward(input_ids, use_cache)` returns an object with `logits` [rows,
        length, vocabulary] (it cannot generate then).

        Raises Refusal for an unknown row, when the model's vocabulary or context does not fit, when lm-eval returns no
        result for a task, or when a score is not a finite number (naming the row).
        """
        rows = list(self.tasks.index if rows is None else rows)
        with self._shown(model, rows) as tasks:
            how = {"bootstrap_iters": 0, "log_samples": False, "confirm_run_unsafe_code": self.unsafe_code}
            results = evaluate(self.live, {"tasks": tasks}, **how)["results"] if rows else {}
        told = self.tasks.loc[rows, ["metric", "filter"]].itertuples(index=False)
        scores = {row: _result(results[self.of[row]], row, *each) for row, each in zip(rows, told, strict=True)}
        return pd.Series(scores, name="score", dtype=float).rename_axis("task")

    def logs(self, model: nn.Module, rows: Sequence[str]) -> dict[str, Float[ndarray, " answers"]]:
        """Return row → log-probability (nats) of each of its answer tokens, request by request (`counts`).

        Raises Refusal as `measure`, for a row that likelihoods do not decide, and for a probability of 0 or NaN.
        """
        self.check_mixable(rows)
        logs: dict[int, ndarray] = {}
        with self._shown(model, rows) as tasks:
            for kind, requests in _by_kind(tasks).items():
                logs |= zip(map(id, requests), self.live.plan(kind, requests).logs(model), strict=True)
        found = {name: np.concatenate([logs[id(each)] for each in task.instances]) for name, task in tasks.items()}
        if not all(np.isfinite(each).all() for each in found.values()):
            raise Refusal("a component gives an answer token probability 0 or NaN; its weights are not finite")
        return {row: found[self.of[row]] for row in rows}

    def check_mixable(self, rows: Sequence[str]) -> None:
        """Refuse a row that likelihoods alone do not decide, by name."""
        self._check_rows(rows)
        if others := [row for row in rows if row not in self.mixable]:
            raise Refusal(
                f"{others[0]} needs written, filtered or likeliest answers, of which mixed probabilities know nothing; "
                "leave it out, or use merged proxies"
            )

    def _check_rows(self, rows: Sequence[str]) -> None:
        if unknown := [row for row in rows if row not in self.tasks.index]:
            raise Refusal(f"the suite has no row {unknown[0]!r}; it has {', '.join(self.tasks.index)}")

    @contextmanager
    def _shown(self, model: nn.Module, rows: Sequence[str]) -> Iterator[dict[str, Task]]:
        """Give the tasks of some rows while the model answers them; leave the model as it was."""
        self._check_rows(rows)
        _check_model(model, self.live, max(self.tasks.loc[list(rows), "window"], default=0))
        training = model.training
        self.live.model = model.eval()
        try:
            asked = {self.of[row] for row in rows}
            yield {name: task for name, task in self.loaded.items() if name in asked}
        finally:
            self.live.model = None
            model.train(training)


def _table(tasks: Iterable[Mapping[str, Mapping]]) -> pd.DataFrame:
    found: dict[str, Mapping] = {}
    for rows in tasks:
        if twice := found.keys() & rows.keys():
            raise Refusal(f"{min(twice)!r} is a task and a metric of another; rename the task")
        found |= rows
    table = pd.DataFrame.from_dict(found, orient="index")
    check_families(table["family"])
    return table.rename_axis("task")


def _by_kind(tasks: Mapping[str, Task]) -> dict[str, list]:
    requests = [instance for task in tasks.values() for instance in task.instances]
    found = {kind: [each for each in requests if each.request_type == kind] for kind in LIKELIHOODS}
    return {kind: some for kind, some in found.items() if some}


def _keys(
    facts: pd.DataFrame, loaded: Mapping[str, Task], live: LiveModel
) -> tuple[dict[str, str], dict[str, Int[ndarray, " request"]]]:
    """Return row → a hash of its task's documents, tokens, window, rules, of lm-eval's version and of its metric.

    And task → answer tokens of each of its requests. The plans are made on the way.
    """
    windows, sizes = {}, {}
    for kind, requests in _by_kind(loaded).items():
        plan = live.plan(kind, requests)
        windows |= {id(each): plan.key(number) for number, each in enumerate(requests)}
        sizes |= zip(map(id, requests), plan.places[1].tolist(), strict=True)
    common = [sorted(live.tokenizer.get_vocab().items()), live.texts.facts, lm_eval.__version__]
    everywhere, told, counts = content_hash(*common), {}, {}
    for name, task in loaded.items():
        asked = [[each.doc, each.arguments, windows.get(id(each))] for each in task.instances]
        told[name] = content_hash(everywhere, asked, live.seen(task.instances[0]), str(task.VERSION), rules(task))
        counts[name] = np.array([sizes.get(id(each), 0) for each in task.instances])
    decides = facts[["of", "metric", "filter"]].itertuples()
    return {row: content_hash(told[name], metric, sieve) for row, name, metric, sieve in decides}, counts


def _check_model(model: nn.Module, live: LiveModel, context: int) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(live.tokenizer)
    if not tokens <= rows <= tokens * (1 + SPARE_ROWS):
        raise Refusal(f"the model embeds {rows} tokens, the suite's tokenizer has {tokens}; take the model's own")
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if longest and context > longest:
        raise Refusal(f"the suite's context is {context} tokens, the model's {longest}; build a shorter suite")


def _result(results: Mapping[str, object], row: str, metric: str, sieve: str) -> float:
    """Return a task's metric under a filter, looked up by name."""
    found = results.get(f"{metric},{sieve or 'none'}")
    if found is None:
        raise Refusal(f"lm-eval returned no {metric!r} for task {row!r}; leave the task out or check its YAML")
    if not isinstance(found, SupportsFloat):
        raise Refusal(f"task {row!r} scored {found!r}, which is no number; mend its aggregation")
    if not math.isfinite(found):
        raise Refusal(
            f"task {row!r} scored {found}: the model's weights or logits are not finite, or {metric!r} has no "
            "value for what the model answered; leave the model or the task out"
        )
    return float(found)
