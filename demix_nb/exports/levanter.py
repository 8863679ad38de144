"""Levanter: weights by name, or from a step on, met exactly in every block of sequences.

In a block each source has a whole number of sequences, cut off, not rounded, and what is left goes to the largest: of
blocks of 2,048 a share of 0.0004 gets nothing. So weights are written as whole parts of a block, which are met as they
stand, and the block is the smallest that is near enough.

Source: Levanter `data/mixture.py` (`MixtureDataset`), `LMMixtureDatasetConfig`.
"""

import math
from collections.abc import Iterator

import pandas as pd
import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml
from demix_nb.mixtures import apportion
from demix_nb.store import Refusal

BLOCKS = tuple(2048 << shift for shift in range(5))  # Levanter's own is 2,048, and must be under 65,536
NEAR = 1e-3  # of a share: how far off the parts of a block may be, where a larger block helps


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; raises Refusal for a share that no block holds, and where steps are not known."""
    tried = list(_tried(order))
    block, parts, _ = next((found for found in tried if found[2]), tried[-1])
    for phase, counts in zip(order.phases, parts, strict=True):
        if lost := [name for name in phase.shares.index if not counts.get(name)]:
            raise Refusal(f"Levanter's largest block, {block} sequences, holds none of {lost[0]!r} "
                          f"(share {phase.shares[lost[0]]:.2g}); give it more, or nothing")  # fmt: skip
    weights = [{name: count / block for name, count in counts.items()} for counts in parts]
    configs = {name: {"train_urls": [order.sources[name].path]} for name in order.names}
    steps = _steps(order, block) if len(weights) > 1 else [0]
    shares = weights[0] if len(weights) == 1 else [list(pair) for pair in zip(steps, weights, strict=True)]
    said = as_yaml({"data": {"configs": configs, "train_weights": shares, "mixture_block_size": block}})
    moved = f"# phases begin where a block does, at steps {steps}; asked: {order.starts}\n" if len(steps) > 1 else ""
    return {"data.yaml": moved + said}


def _tried(order: Order) -> Iterator[tuple[int, list[dict[str, int]], bool]]:
    """Each block with the sequences that sources get of it, phase by phase, and whether these are near enough."""
    for block in BLOCKS:
        parts = [apportion(phase.shares, block) for phase in order.phases]
        off = [pd.Series(counts) / block / phase.shares - 1 for counts, phase in zip(parts, order.phases, strict=True)]
        yield block, parts, all((one.abs() <= NEAR).all() for one in off)


def _steps(order: Order, block: int) -> list[int]:
    """The step each phase begins at, moved to where a block begins, as Levanter asks."""
    starts = order.starts
    apart = block // math.gcd(block, order.batch)
    moved = [round(start / apart) * apart for start in starts]
    if len(set(moved)) < len(moved):
        raise Refusal(f"phases that begin at steps {starts} lie within one block of {apart} steps; train for longer")
    return moved


def read(files: Files) -> list[Weights]:
    """Return the weights of each source's path, phase by phase."""
    data = yaml.safe_load(files["data.yaml"])["data"]
    said = data["train_weights"]
    phases = [weights for _, weights in said] if isinstance(said, list) else [said]
    paths = {name: one["train_urls"][0] for name, one in data["configs"].items()}
    return [{paths[name]: weight for name, weight in weights.items()} for weights in phases]


FORMAT = Format(
    name="levanter",
    label="Levanter",
    weight="token share",
    zeros="never drawn",
    exhausted="it begins again (`stop_strategy: restart`)",
    phases=True,
    grammar="levanter: src/levanter/data/mixture.py, docs/guides/Training-Data-Guide.md",
    use="`data:` of your training file; `tokenizer` and `cache_dir` are yours",
    write=write,
    read=read,
    near=NEAR,
)
