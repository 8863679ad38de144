"""From tasks to the documents, requests and facts of each; held-out text as tasks.

Any task of lm-eval's or of one's own (`library`) works beside the suites that ship with us:

    heldout   bits per byte of whole held-out documents per candidate, rolled through the context window as lm-eval does
    nine      bits per byte of the gold answer given the question, on DeMix's nine benchmarks (DeMix 3.1)
    extras    the same on LAMBADA and MBPP-C++; `nine_minpair`, `extras_minpair`, `nine_acc` are the choice tasks

Source: Gao et al., lm-evaluation-harness 0.4.13; DeMix (arXiv 2602.00747) 3.1.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from lm_eval.api.instance import Instance
from lm_eval.api.registry import is_higher_better
from lm_eval.api.task import ConfigurableTask, Task

from demix_nb.scoring.library import OURS, TASKS, BySuite, load_tasks, why
from demix_nb.scoring.reader import LiveModel, freeze
from demix_nb.store import Refusal

HELDOUT = "heldout_"  # + candidate: our only tasks that are not in the folder
UNITS = {"bits_per_byte": "bpb", "acc_norm": "acc", "acc_bytes": "acc"}  # lm-eval's metric → our unit
FEWSHOT_SEED = 1234  # lm-eval's own default, so that drawn examples are the published ones
WHOLE = "whole"  # in a task's metadata: all of its documents are used, whatever the limit


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
            "metadata": {"version": 1, "family": family, WHOLE: True, **OURS},
        }
    )


def _texts(documents: list[str], **_metadata: object) -> dict:
    import datasets  # lm-eval's container for documents

    return {"test": datasets.Dataset.from_dict({"text": documents})}


def _requests(task: Task, number: int, document: Mapping) -> list[Instance]:
    """Return the requests of one document, as lm-eval's `build_all_requests` makes them."""
    shots = task.config.num_fewshot or 0
    metadata = (task.config.task, number, task.config.repeats)
    try:
        context = task.fewshot_context(document, num_fewshot=shots, gen_prefix=task.doc_to_prefix(document))
        made = task.construct_requests(doc=document, ctx=context, metadata=metadata)
    except Exception as error:  # whatever a task's own code brings
        raise Refusal(f"{task.config.task} cannot ask about document {number} ({why(error)}); mend it") from error
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


def _row(name: str, task: Task, items: int, left_out: int, family: str) -> dict[str, object]:
    metric = _metric(name, task)
    unit = UNITS.get(metric, metric)
    return {
        "family": family,
        "unit": unit,
        "higher_is_better": _direction(name, task, metric),
        "items": items,
        "chance": _chance(task) if unit == "acc" else math.nan,
        "version": str(task.VERSION),
        "left_out": left_out,
        "metric": metric,
    }


def _metric(name: str, task: Task) -> str:
    """Return the metric that ranks: the first that a task lists, which must be one that it reports."""
    listed, aggregated = [*task.higher_is_better()], task.aggregation()
    if not listed or not isinstance(listed[0], str) or listed[0] not in aggregated:
        raise Refusal(f"task {name!r} has no metric with an aggregation first; write both as its first metric")
    reported = _reported(task)
    if reported is not None and listed[0] not in reported:
        told = ", ".join(reported) or "nothing"
        raise Refusal(f"task {name!r} lists {listed[0]!r} first but reports {told}; list first what it reports")
    return listed[0]


def _reported(task: Task) -> list[str] | None:
    """Return the metrics that a task makes of likelihoods; None where answers are written, which nobody has yet."""
    first = [instance for instance in task.instances if instance.doc_id == task.instances[0].doc_id]
    kinds = {instance.request_type for instance in first}
    if "generate_until" in kinds or task.config.filter_list:
        return None
    answers = [-1.0 if each.request_type == "loglikelihood_rolling" else (-1.0, False) for each in first]
    try:
        return [*task.process_results(first[0].doc, answers)]
    except Exception as error:  # whatever a task's own code brings
        raise Refusal(f"{task.config.task} makes no score of an answer ({why(error)}); mend it") from error


def _direction(name: str, task: Task, metric: str) -> bool:
    said, known = task.higher_is_better()[metric], is_higher_better(metric)
    if said is None:
        raise Refusal(
            f"task {name!r} does not say whether more of {metric!r} is better; write "
            "higher_is_better: true or false beside it"
        )
    if not isinstance(said, bool):
        raise Refusal(f"task {name!r} has higher_is_better: {said!r} for {metric!r}; write true or false")
    if known is not None and known != said:
        raise Refusal(
            f"task {name!r} says that {'more' if said else 'less'} of {metric!r} is better, of lm-eval's {metric!r} "
            f"{'more' if known else 'less'} is; turn higher_is_better round, or give the metric a name of its own"
        )
    return said


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
    return _row(name, task, len(documents), left_out, family or metadata.get("family", "other"))
