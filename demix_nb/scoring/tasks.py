"""From tasks to the documents, requests and facts of each; held-out text as tasks.

Any task of lm-eval's or of one's own (`library`) works beside the suites that ship with us:

    heldout   bits per byte of whole held-out documents per candidate, rolled through the context window as lm-eval does
    nine      bits per byte of the gold answer given the question, on DeMix's nine benchmarks (DeMix 3.1)
    extras    the same on LAMBADA and MBPP-C++; `nine_minpair`, `extras_minpair`, `nine_acc` are the choice tasks

Source: Gao et al., lm-evaluation-harness 0.4.13; DeMix (arXiv 2602.00747) 3.1.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task

from demix_nb.scoring import metrics
from demix_nb.scoring.asked import Asked
from demix_nb.scoring.library import CODE, TASKS, BySuite, load_tasks, why
from demix_nb.scoring.reader import LiveModel, freeze
from demix_nb.store import Refusal

HELDOUT = "heldout_"  # + candidate: our only tasks that are not in the folder
FEWSHOT_SEED = 1234  # lm-eval's own default, so that drawn examples are the published ones
WHOLE = "whole"  # in a task's metadata: all of its documents are used, whatever the limit
COLUMNS = (
    "family unit higher_is_better items chance version left_out metric suite mode target window filter cut of mixable"
).split()


@runtime_checkable
class HeldOut(Protocol):
    """What the suite `heldout` needs of the candidate datasets."""

    families: Mapping[str, str]  # candidate → family
    heldout: Mapping[str, Sequence[str]]  # candidate → documents


def find(names: Sequence[str], heldout: HeldOut | None = None, include_path: str | Path = TASKS) -> BySuite:
    """Return the tasks that each of `names` stands for; those of held-out text, one per candidate, come last.

    Raises Refusal where no task is named, for `heldout` without documents, and as `load_tasks`.
    """
    found = load_tasks([name for name in names if name != "heldout"], include_path)
    theirs = {task for tasks in found.values() for task in tasks}
    if "heldout" in names:
        if heldout is None:
            raise Refusal("the suite 'heldout' needs documents; give heldout=, with their families and texts")
        families, texts = heldout.families, heldout.heldout
        found["heldout"] = {HELDOUT + name: _heldout_task(name, families[name], texts[name]) for name in families}
        if twice := theirs & found["heldout"].keys():
            raise Refusal(f"{min(twice)} is a task and the held-out text of a candidate; rename the task")
    if not any(found.values()):
        raise Refusal("no task named; give suite or task names, for example ['heldout', 'nine']")
    return found


def wanted(asked: Sequence[Asked], found: BySuite) -> dict[str, Asked]:
    """Return how each task is asked for. Raises Refusal for one that is asked for in two ways."""
    how: dict[str, Asked] = {}
    for each in asked:
        for task in found[each.name]:
            other = how.setdefault(task, each)
            if replace(other, name="") != replace(each, name=""):
                by = f"{other.name!r} and by {each.name!r}"
                raise Refusal(f"task {task!r} is asked for in two ways, by {by}; ask for it in one")
    return how


def permit(tasks: Mapping[str, Task], unsafe_code: bool) -> None:
    """Refuse tasks that run what a model wrote, without permission, or show what a language model cannot see."""
    allowed = unsafe_code and os.environ.get("HF_ALLOW_CODE_EVAL") == "1"  # the latter as HF's `code_eval` wants it
    for name, task in tasks.items():
        if getattr(task, "UNSAFE_CODE", False) and not allowed:
            raise Refusal(f"{name} {CODE}")
        if getattr(task, "MULTIMODAL", False):
            raise Refusal(f"{name} shows images or plays sounds, which a language model does not take; leave it out")


def _heldout_task(candidate: str, family: str, documents: Sequence[str]) -> ConfigurableTask:
    """Bits per byte of whole documents, rolled through the context window."""
    metric = {"metric": "bits_per_byte", "aggregation": "bits_per_byte", "higher_is_better": False}
    return ConfigurableTask(
        config={
            "task": HELDOUT + candidate,
            "custom_dataset": partial(_texts, documents=list(documents)),
            "output_type": "loglikelihood_rolling",
            "test_split": "test",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [metric],
            "metadata": {"version": 1, "family": family, WHOLE: True},
        }
    )


def _texts(documents: list[str], **_metadata: object) -> dict:
    import datasets  # lm-eval's container for documents

    return {"test": datasets.Dataset.from_dict({"text": documents})}


def prepare(
    name: str, task: Task, live: LiveModel, asked: Asked, limit: int | None, seed: int
) -> dict[str, dict[str, object]]:
    """Settle a task's documents and requests; return its rows of the task table. Raises Refusal as `Suite.build`.

    Beside the columns of the table a row has `of`, its task, and `mixable`, whether likelihoods alone decide its score.
    """
    metadata = task.config.metadata or {}
    if asked.window:
        live.contexts[name] = asked.window
    sieve = metrics.sieve(name, task, asked.filter)
    _show(name, task, asked.num_fewshot)
    limit = asked.limit or (None if metadata.get(WHOLE) else limit)
    documents, instances, counts = _choose(name, task, live, limit, np.random.default_rng(seed))
    freeze(task, documents, instances)
    chosen = metrics.metrics(name, task, sieve, asked.metrics)
    common = {
        "family": asked.family or metadata.get("family", "other"),
        **counts,
        "version": str(task.VERSION),
        "suite": asked.name,
        "mode": "generated" if metrics.written(instances) else "likelihood",
        "target": asked.target,
        "window": live.seen(instances[0]),
        "filter": sieve if task.config.filter_list else "",
        "of": name,
    }
    called = {metric: name if len(chosen) == 1 else f"{name}/{metric}" for metric in chosen}
    return {row: _row(name, task, metric, sieve, asked, common) for metric, row in called.items()}


def _row(name: str, task: Task, metric: str, sieve: str, asked: Asked, common: Mapping) -> dict[str, object]:
    row = {
        **common,
        "unit": metrics.UNITS.get(metric, metric),
        "higher_is_better": metrics.direction(name, task, metric, asked.higher_is_better),
        "chance": metrics.chance(task) if metric in metrics.CHOSEN else math.nan,
        "metric": metric,
        "mixable": metrics.mixable(task, metric, sieve),
    }
    return {column: row[column] for column in COLUMNS}


# --- documents and requests -----------------------------------------------------------------------------------------


def _show(name: str, task: Task, examples: int | None) -> None:
    """Let a task's questions come after so many examples, drawn as lm-eval draws them."""
    if examples and (why_not := _no_examples(task)):
        raise Refusal(f"{name} {why_not}; leave num_fewshot out")
    if examples is not None:
        task.set_config("num_fewshot", examples)
    task.set_fewshot_seed(FEWSHOT_SEED)


def _no_examples(task: Task) -> str | None:
    given = getattr(task, "fewshot_cfg", None)
    own = given is not None and (given.split is not None or given.samples is not None)
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        return "is text without questions and takes no examples"
    if task.config.num_fewshot == 0:  # which lm-eval takes for a wish, too
        return "wants no examples (its file has num_fewshot: 0)"
    if not (own or task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs())):
        return "has no examples but the items that it asks about"
    return None


def _requests(name: str, task: Task, number: int, document: Mapping) -> list[Instance]:
    """Return the requests of one document, as lm-eval's `build_all_requests` makes them."""
    shots = task.config.num_fewshot or 0
    metadata = (name, number, task.config.repeats)
    try:
        context = task.fewshot_context(document, num_fewshot=shots, gen_prefix=task.doc_to_prefix(document))
        made = task.construct_requests(doc=document, ctx=context, metadata=metadata)
    except Exception as error:  # whatever a task's own code brings
        raise Refusal(f"{name} cannot ask about document {number} ({why(error)}); mend it") from error
    return made if isinstance(made, list) else [made]


def _choose(
    name: str, task: Task, live: LiveModel, limit: int | None, rng: np.random.Generator
) -> tuple[list, list[Instance], dict[str, int]]:
    """Return `limit` documents whose answers fit, in shuffled order, their requests, and how many there are of what."""
    source, documents, instances, left_out, sizes = task.eval_docs, [], [], 0, []
    for index in rng.permutation(len(source)).tolist() if limit else range(len(source)):
        if limit and len(documents) == limit:
            break
        requests = _requests(name, task, len(documents), source[index])
        window = live.seen(requests[0])
        size, answer = (max(each) for each in zip(*map(live.sizes, requests), strict=True))
        if answer > window and not metrics.written(requests):
            left_out += 1
            continue
        documents.append(source[index])
        instances += requests
        sizes.append(size)
    if not documents:
        raise Refusal(f"{name}: every answer is longer than {window} tokens; raise `context`")
    cut = sum(size > window for size in sizes)
    if cut and metrics.written(instances):
        raise Refusal(
            f"{name}: {cut} of {len(documents)} prompts do not fit with the answers to them, which takes up to "
            f"{max(sizes)} tokens where the window is {window}; raise window, or lower the task's max_gen_toks"
        )
    return documents, instances, {"items": len(documents), "left_out": left_out, "cut": cut}
