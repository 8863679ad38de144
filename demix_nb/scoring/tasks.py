"""From names to lm-eval tasks, and to the documents, requests and facts of each.

Any lm-eval task name works beside the suites that ship with us:

    heldout   bits per byte of whole held-out documents per candidate, rolled through the context window as lm-eval does
    nine      bits per byte of the gold answer given the question, on DeMix's nine benchmarks (DeMix 3.1)
    extras    the same on LAMBADA and MBPP-C++; `nine_minpair`, `extras_minpair`, `nine_acc` are the choice tasks

Source: Gao et al., lm-evaluation-harness 0.4.13; DeMix (arXiv 2602.00747) 3.1.
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask, Task
from lm_eval.tasks import TaskManager

from demix_nb import DATA
from demix_nb.scoring.reader import LiveModel, freeze
from demix_nb.store import Refusal

TASKS = DATA / "tasks"
HELDOUT = "heldout_"  # + candidate: our only tasks that are not in the folder
UNITS = {"bits_per_byte": "bpb", "acc_norm": "acc", "acc_bytes": "acc"}  # lm-eval's metric → our unit
FEWSHOT_SEED = 1234  # lm-eval's own default, so that drawn examples are the published ones
WHOLE = "whole"  # in a task's metadata: all of its documents are used, whatever the limit


@runtime_checkable
class HeldOut(Protocol):
    """What the suite `heldout` needs of the candidate datasets."""

    families: Mapping[str, str]  # candidate → family
    heldout: Mapping[str, Sequence[str]]  # candidate → documents


BySuite = dict[str, dict[str, Task]]  # name asked for → name of a task → task


def find(names: Sequence[str], heldout: HeldOut | None = None, include_path: str | Path = TASKS) -> BySuite:
    """Return the tasks that each of `names` stands for; those of held-out text, one per candidate, come last.

    Raises Refusal where no task is named, for `heldout` without documents, and as `load_tasks`.
    """
    found = load_tasks([name for name in names if name != "heldout"], include_path)
    if "heldout" in names:
        if heldout is None:
            raise Refusal("the suite 'heldout' needs documents; give heldout=, with their families and texts")
        families, texts = heldout.families, heldout.heldout
        found["heldout"] = {HELDOUT + name: _heldout_task(name, families[name], texts[name]) for name in families}
    if not any(found.values()):
        raise Refusal("no task named; give suite or task names, for example ['heldout', 'nine']")
    return found


def load_tasks(names: Sequence[str], include_path: str | Path = TASKS) -> BySuite:
    """Return the lm-eval tasks, by name, that each of `names` stands for: a task, a tag such as `nine`, or a group.

    lm-eval's own task folder (14,000 tasks, seconds) is read only when a name is not among ours. Raises Refusal
    naming an unknown task and the nearest names, or a task whose data cannot be had.
    """
    if not names:
        return {}
    if not Path(include_path).is_dir():
        raise Refusal(f"no folder of tasks at {include_path}; give include_path=, a folder of lm-eval task files")
    ours = TaskManager(include_path=str(include_path), include_defaults=False)
    manager = ours if set(names) <= set(ours.all_tasks) else TaskManager(include_path=str(include_path))
    for name in names:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, ["heldout", *manager.all_tasks], n=3)
            raise Refusal(f"no task {name!r}; near names: {', '.join(near) or 'none'}")
    return {name: _load(manager, name) for name in names}


def _load(manager: TaskManager, name: str) -> dict[str, Task]:
    try:
        return manager.load([name])["tasks"]
    except OSError as error:
        raise Refusal(f"cannot get the data of task {name!r} ({error}); it needs access to its source") from error


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


def _requests(task: Task, number: int, document: Mapping) -> list[Instance]:
    """Return the requests of one document, as lm-eval's `build_all_requests` makes them."""
    shots = task.config.num_fewshot or 0
    context = task.fewshot_context(document, num_fewshot=shots, gen_prefix=task.doc_to_prefix(document))
    metadata = (task.config.task, number, task.config.repeats)
    made = task.construct_requests(doc=document, ctx=context, metadata=metadata)
    return made if isinstance(made, list) else [made]


def _choose(task: Task, live: LiveModel, limit: int | None, rng: np.random.Generator) -> tuple[list, list, int]:
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
        raise Refusal(f"{task.config.task}: every answer is longer than {live.context} tokens; raise `context`")
    return documents, instances, left_out


def _row(task: Task, items: int, left_out: int, family: str) -> dict[str, object]:
    metric = next(iter(task.aggregation()))
    unit = UNITS.get(metric, metric)
    return {
        "family": family,
        "unit": unit,
        "higher_is_better": bool(task.higher_is_better()[metric]),
        "items": items,
        "chance": _chance(task) if unit == "acc" else math.nan,
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


def prepare(
    name: str, task: Task, live: LiveModel, *, limit: int | None, seed: int, family: str | None, unsafe_code: bool
) -> dict[str, object]:
    """Settle a task's documents and requests; return its row of the task table. Raises Refusal as `Suite.build`."""
    if getattr(task, "UNSAFE_CODE", False) and not unsafe_code:
        raise Refusal(f"{name} runs code that the model wrote; allow it by unsafe_code=True and HF_ALLOW_CODE_EVAL=1")
    metadata = task.config.metadata or {}
    task.set_fewshot_seed(FEWSHOT_SEED)
    limit = None if metadata.get(WHOLE) else limit
    documents, instances, left_out = _choose(task, live, limit, np.random.default_rng(seed))
    freeze(task, documents, instances)
    return _row(task, len(documents), left_out, family or metadata.get("family", "other"))
