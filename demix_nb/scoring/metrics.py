"""What a task says of a model: through which filter, by which metrics, in which direction, by likelihoods alone or not.

What a task reports is asked of the task itself, by a poor answer, before any model has answered: a file names
functions, and what these report may have other names (hub `humaneval` lists `pass_at_k` and reports pass@1).

Source: Gao et al., lm-evaluation-harness 0.4.13.
"""

import math
from collections.abc import Sequence

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.registry import is_higher_better
from lm_eval.api.task import Task

from demix_nb.scoring.library import why
from demix_nb.store import Refusal

SHARES = ("acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "pass@1", "pass_at_1")  # of items that are right
UNITS = {"bits_per_byte": "bpb", **dict.fromkeys(SHARES, "acc")}  # lm-eval's metric → our unit
CHOSEN = ("acc", "acc_norm", "acc_bytes", "acc_mutual_info")  # right where the likeliest choice is


def written(instances: Sequence[Instance]) -> bool:
    """Return whether an answer is to be written."""
    return any(instance.request_type == "generate_until" for instance in instances)


def documents_of(task: Task) -> list[list[Instance]]:
    """Return a task's requests, document by document."""
    found: dict[int, list[Instance]] = {}
    for instance in task.instances:
        found.setdefault(instance.doc_id, []).append(instance)
    return list(found.values())


def sieve(name: str, task: Task, asked: str | None) -> str:
    """Return the filter that a task's answers go through, lm-eval's `none` where it has none of its own."""
    known = [each.name for each in getattr(task, "_filters", ())]
    own = known if task.config.filter_list else []
    if asked is not None and asked not in own:
        raise Refusal(f"task {name!r} has no filter {asked!r}; it has {', '.join(own) or 'none'}")
    return asked or next(iter(known), "none")


def metrics(name: str, task: Task, through: str, asked: Sequence[str]) -> list[str]:
    """Return the metrics asked for; without, the first that a task lists. All are among those that it reports.

    Where a function reports several under names of their own (`pass_at_k`: pass@1), it is the first of these.
    """
    listed, aggregated = [*task.higher_is_better()], {*task.aggregation()}
    reported = [*_poor(task, documents_of(task)[0], through)]  # here lm-eval takes up what a function reports
    known = [each for each in reported if each in task.aggregation()]
    if unknown := [each for each in asked if each not in known]:
        raise Refusal(f"task {name!r} has no metric {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    if asked:
        return list(dict.fromkeys(asked))
    if not listed or not isinstance(listed[0], str) or listed[0] not in aggregated:
        raise Refusal(f"task {name!r} has no metric with an aggregation first; write both as its first metric")
    first = [each for each in known if each == listed[0]] or [each for each in known if each not in listed]
    if not first:
        told = ", ".join(reported) or "nothing"
        raise Refusal(f"task {name!r} lists {listed[0]!r} first but reports {told}; list first what it reports")
    return first[:1]


def _poor(task: Task, instances: Sequence[Instance], through: str, greedy: bool = False) -> dict[str, object]:
    """Return what a task reports of one document where nothing is written and every text is unlikely."""
    answers = {"generate_until": "", "loglikelihood_rolling": -1.0}
    for each in instances:
        each.resps = [answers.get(each.request_type, (-1.0, greedy))] * (each.repeats or 1)
    try:
        for chosen in (each for each in task._filters if each.name == through):
            chosen.apply(instances)
        return task.process_results(instances[0].doc, [each.filtered_resps[through] for each in instances])
    except Exception as error:  # whatever a task's own code brings
        raise Refusal(f"{task.config.task} makes no score of an answer ({why(error)}); mend it") from error


def mixable(task: Task, metric: str, through: str) -> bool:
    """Return whether likelihoods alone decide: nothing is written or filtered, no text need be the likeliest."""
    if written(task.instances) or task.config.filter_list:
        return False
    pairs = (
        [_poor(task, some, through, greedy).get(metric) for greedy in (False, True)] for some in documents_of(task)
    )
    return all(repr(one) == repr(other) for one, other in pairs)


def direction(name: str, task: Task, metric: str, asked: bool | None) -> bool:
    """Return whether more of a metric is better: a task says it, lm-eval knows it, or else it is asked for."""
    said, known = task.higher_is_better().get(metric), is_higher_better(metric)
    said = asked if said is None else said
    if said is None:
        raise Refusal(
            f"task {name!r} does not say whether more of {metric!r} is better; write "
            "higher_is_better: true or false beside it"
        )
    if not isinstance(said, bool):
        raise Refusal(f"task {name!r} has higher_is_better: {said!r} for {metric!r}; write true or false")
    if asked is not None and asked != said:
        raise Refusal(f"task {name!r} says itself that higher_is_better is {said} for {metric!r}; leave yours out")
    if known is not None and known != said:
        raise Refusal(
            f"task {name!r} says that {'more' if said else 'less'} of {metric!r} is better, of lm-eval's {metric!r} "
            f"{'more' if known else 'less'} is; turn higher_is_better round, or give the metric a name of its own"
        )
    return said


def chance(task: Task) -> float:
    """Return the expected accuracy of a blind guess: the mean over items of 1 / choices; NaN without choices."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return math.nan
    asked = 2 if "acc_mutual_info" in task.aggregation() else 1  # every choice again, without its question
    return float(np.mean([asked / len(some) for some in documents_of(task)]))
