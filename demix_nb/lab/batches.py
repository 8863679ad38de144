"""What a model reads, and in which order: a recipe's shares met exactly, every block of text once before any repeats.

Sequences are apportioned to candidates by largest remainder instead of drawn at random, and each candidate has a random
stream of its own, so that two recipes see the same text in the same order as far as their shares overlap: comparing
mixtures then compares no luck of the draw.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Int64, Integer

from demix_nb.lab.corpora import SHUFFLING, Corpora
from demix_nb.lab.jobs import Job
from demix_nb.mixtures import apportion
from demix_nb.store import Refusal


def sequences_of(
    tokens: Integer[np.ndarray, " n"],
    count: int,
    context: int,
    *,
    rng: np.random.Generator,
    distinct: int | None = None,
) -> Int64[np.ndarray, "count length"]:
    """Return `count` blocks of context + 1 tokens: every block once in random order, then again in another order.

    `distinct`: of the tokens, how many are read at all: the blocks that come first in the first order, at least one.
    """
    blocks = (len(tokens) - 1) // context
    if blocks < 1:
        raise Refusal(f"{len(tokens)} tokens are fewer than one sequence of {context}; give the candidate more text")
    kept = blocks if distinct is None else min(max(round(distinct / context), 1), blocks)
    first = rng.permutation(blocks)[:kept]
    again = (np.sort(first)[rng.permutation(kept)] for _ in range(-(-count // kept) - 1))
    order = np.concatenate([first, *again])[:count]
    return np.asarray(tokens)[order[:, None] * context + np.arange(context + 1)].astype(np.int64)


def streams(job: Job, corpora: Corpora) -> dict[str, np.random.Generator]:
    """Return a random generator per candidate, and under SHUFFLING one more for what picks among them."""
    seeds = {name: np.random.SeedSequence(job.seed, spawn_key=(n,)) for name, n in corpora.streams.items()}
    return {name: np.random.default_rng(seed) for name, seed in seeds.items()}


def batches(job: Job, corpora: Corpora) -> Iterator[Int64[torch.Tensor, "batch length"]]:
    """Yield the training batches of `job`, sequences of all candidates shuffled together."""
    counts, context = apportion(job.recipe, job.steps * job.rows), job.architecture.context
    random = streams(job, corpora)
    named = [name for name in corpora.candidates if counts.get(name)]
    data = np.concatenate(
        [
            sequences_of(corpora.train[name], counts[name], context, rng=random[name], distinct=job.distinct.get(name))
            for name in named
        ]
    )
    order = random[SHUFFLING].permutation(len(data))
    for step in range(job.steps):
        yield torch.from_numpy(data[order[step * job.rows : (step + 1) * job.rows]])


def text_of(job: Job, corpora: Corpora) -> Mapping[str, Iterator[Int64[np.ndarray, " length"]]]:
    """Return each candidate's endless sequences: those that `batches` takes, epoch by epoch."""
    random, context = streams(job, corpora), job.architecture.context
    return {name: blocks(corpora.train[name], context, rng=random[name]) for name in corpora.candidates}


def blocks(
    tokens: Integer[np.ndarray, " n"], context: int, *, rng: np.random.Generator
) -> Iterator[Int64[np.ndarray, " length"]]:
    """Yield sequences of context + 1 tokens without end, every block once before any comes again."""
    while True:
        yield from sequences_of(tokens, max((len(tokens) - 1) // context, 1), context, rng=rng)
