"""A suite measures a model: lm-evaluation-harness in process, what does not depend on weights done once.

A `Suite` holds tasks whose documents, requests, tokens and batches are made when it is built; measuring a model is then
the forward passes, lm-eval's own `evaluate`, and little else. Hundreds of proxies differ only in their weights, so this
is where the time of a search goes.

Source: Gao et al., lm-evaluation-harness 0.4.13; what is fast about it is in `reader`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat

import lm_eval
import pandas as pd
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from torch import nn
from transformers import PreTrainedTokenizerBase

from demix_nb.options import check
from demix_nb.scoring.library import TASKS, rules, ships
from demix_nb.scoring.reader import BATCH_TOKENS, LiveModel, quiet
from demix_nb.scoring.tasks import HeldOut, find, prepare
from demix_nb.store import Refusal, check_families, content_hash

SPARE_ROWS = 0.05  # embedding rows beyond the tokenizer that count as padding (Qwen3 has 0.2 %, Phi-2 1.8 %)


@dataclass
class Suite:
    """Tasks ready to measure any model that shares the tokenizer.

    `tasks` is the task table (index `task`): family, unit, higher_is_better, items, chance, version, left_out (items
    drawn but not used, their answer being longer than the context), lm-eval's metric (the first that the task lists,
    under its first filter), and `suite`, the name by which the task was asked for. `key` is a content hash of all that
    decides a score except the model. A suite can be pickled, tasks' own code included, so a worker receives it ready
    made.
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
        heldout: HeldOut | None = None,
        limit: int | None = None,
        context: int = 256,
        seed: int = 0,
        include_path: str | Path = TASKS,
        families: Mapping[str, str] | None = None,
        unsafe_code: bool = False,
        batch_tokens: int = BATCH_TOKENS,
        as_lm_eval: bool = False,
    ) -> "Suite":
        """Build tasks, requests, tokens and batches once.

        `names` are suites (`heldout`, `nine`, `extras`, …) or tasks of `include_path`, a folder of one's own, or of
        lm-eval; `limit` items are drawn per task by a seeded shuffle (`heldout` documents are all used); `context` is
        in tokens; `families` (task → family) goes before what a task's metadata says; raise `batch_tokens` on a GPU.
        Tasks that run generated code need `unsafe_code=True` and, as lm-eval demands, HF_ALLOW_CODE_EVAL=1 in the
        environment. `as_lm_eval` gives lm-eval 0.4.13's own numbers for tokenizers that put tokens around a text: it
        scores a rolled document's bos, given twice, and an end within a context; without, neither is done (`texts`).

        Raises Refusal as `load_tasks`, and for the suite `heldout` without documents, a task that runs code without
        permission, that has no answer that fits the context, or whose first metric is not one that it reports, or has
        no direction (`higher_is_better`), or the other one than lm-eval's metric of that name.
        """
        check(window=context, **({} if limit is None else {"limit": limit}))
        how = {"limit": limit, "seed": seed, "unsafe_code": unsafe_code}
        with quiet():
            live, by_suite = LiveModel(tokenizer, context, batch_tokens, as_lm_eval), find(names, heldout, include_path)
            loaded = {name: task for found in by_suite.values() for name, task in found.items()}
            family = (families or {}).get
            rows = {name: prepare(name, task, live, family=family(name), **how) for name, task in loaded.items()}
        tasks = pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")
        check_families(tasks["family"])
        asked = pd.Series({task: name for name, found in by_suite.items() for task in found})
        return cls(tasks.assign(suite=asked), _key(tasks, loaded, live), live, loaded, unsafe_code)

    def measure(self, model: nn.Module) -> pd.Series:
        """Return task → score of a live model, in the units of `tasks`, through lm-eval's `evaluate`.

        A transformers causal model, or any module with `get_input_embeddings()` whose `forward(input_ids, use_cache)`
        returns an object with `logits` [rows, length, vocabulary] (it cannot generate then).

        Raises Refusal when the model's vocabulary or context does not fit, when lm-eval returns no result for a
        task, or when a score is not a finite number (naming the task).
        """
        _check_model(model, self.live)
        training = model.training
        self.live.model = model.eval()
        try:
            how = {"bootstrap_iters": 0, "log_samples": False, "confirm_run_unsafe_code": self.unsafe_code}
            results = evaluate(self.live, {"tasks": self.loaded}, **how)["results"]
        finally:
            self.live.model = None
            model.train(training)
        called = {
            name: _reported(self.loaded[name], metric, results.get(name, {}))
            for name, metric in self.tasks["metric"].items()
        }
        scores = {name: _result(results, name, metric) for name, metric in called.items()}
        return pd.Series(scores, name="score", dtype=float).rename_axis("task")


def _key(tasks: pd.DataFrame, loaded: Mapping[str, Task], live: LiveModel) -> str:
    """Return a hash of tasks, documents, tokens, context and lm-eval's version; makes the plans on the way."""
    instances = [instance for task in loaded.values() for instance in task.instances]
    kinds = ("loglikelihood", "loglikelihood_rolling")
    requests = {kind: [instance for instance in instances if instance.request_type == kind] for kind in kinds}
    plans = [live.plan(kind, some).key for kind, some in requests.items() if some]
    documents = [[name, each.doc, each.arguments] for name, task in loaded.items() for each in task.instances]
    vocabulary = sorted(live.tokenizer.get_vocab().items())
    own = {name: rules(task) for name, task in loaded.items() if not ships(task)}  # a version tells all of the others
    more = [part for part in (own, live.texts.facts) if part]
    return content_hash(tasks, documents, plans, vocabulary, live.context, lm_eval.__version__, *more)


def _check_model(model: nn.Module, live: LiveModel) -> None:
    rows, tokens = model.get_input_embeddings().weight.shape[0], len(live.tokenizer)
    if not tokens <= rows <= tokens * (1 + SPARE_ROWS):
        raise Refusal(f"the model embeds {rows} tokens, the suite's tokenizer has {tokens}; take the model's own")
    longest = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    if longest and live.context > longest:
        raise Refusal(f"the suite's context is {live.context} tokens, the model's {longest}; build a shorter suite")


def _reported(task: Task, metric: str, results: Mapping[str, object]) -> str:
    """Return what a metric is reported by: its name, or the first that it took apart (`pass@1` for `pass_at_k`)."""
    listed = {getattr(each["metric"], "__name__", each["metric"]) for each in task.config.metric_list or ()}
    apart = [each for each in task.higher_is_better() if each not in listed]
    return apart[0] if apart and metric not in {key.split(",")[0] for key in results} else metric


def _result(results: Mapping[str, Mapping], name: str, metric: str) -> float:
    """Return a task's metric under its first filter, looked up by name."""
    found = [value for key, value in results.get(name, {}).items() if key.split(",")[0] == metric]
    if not found:
        raise Refusal(f"lm-eval returned no {metric!r} for task {name!r}; leave the task out or check its YAML")
    if not isinstance(found[0], SupportsFloat):
        raise Refusal(f"task {name!r} scored {found[0]!r}, which is no number; mend its aggregation")
    if not math.isfinite(found[0]):
        raise Refusal(
            f"task {name!r} scored {found[0]}: the model's weights or logits are not finite, or {metric!r} has no "
            "value for what the model answered; leave the model or the task out"
        )
    return float(found[0])
