"""The published ways to merge K models into one, as a table: each row of `METHODS` holds every fact about one of them.

A merge takes K tensors of one shape and K weights and gives one tensor in float32. Most work on updates
τᵢ = Θᵢ − Θ_base: each may be thinned (`sparse`), their weights may be turned into those of a mean on the sphere
(`sphere`), then they are combined, tensor by tensor, as in mergekit, the tool these are tested against. We differ here:
what survives a random mask is divided by its chance to be kept, as DARE and DELLA are published, and not rescaled to
the old L1 norm; magnitudes equal to a threshold are kept, all of them.

Memory: K updates and the result in float32, K + 1 tensors; everything between them is computed in blocks.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

from demix_nb.merging.sparse import drop_, elect, trim_
from demix_nb.merging.sphere import karcher, multislerp
from demix_nb.store import Refusal


def linear(points: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ xᵢ over K tensors of one shape, accumulated in float32 or wider (model soups, 2203.05482)."""
    total = points[0].to(wide(points[0].dtype)) * weights[0]
    for point, weight in zip(points[1:], weights[1:], strict=True):
        total.add_(point, alpha=weight)
    return total


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype that is summed in."""
    return torch.promote_types(dtype, torch.float32)


@dataclass(frozen=True)
class Method:
    """One row of METHODS. With `updates` a merge is Θ_base + scale · combine(τ, w), else it is combine(Θ, w)."""

    label: str  # in figures and tables
    paper: str
    combine: Callable = linear  # (K tensors, K weights) → their merge
    reweigh: Callable | None = None  # (K tensors, K weights) → the weights to combine with
    sparsify: Callable | None = None  # thins one update, in place; takes `options`, and rng where `random`
    options: Mapping[str, float] = field(default_factory=dict)  # settings of DeMix's release (2602.00747)
    updates: bool = True  # works on updates, so it needs a base
    random: bool = False  # draws numbers: needs rng, whose state belongs to the key of the result
    elementwise: bool = False  # merges each number without looking at its neighbours
    keeps_scale: bool = True  # doubled weights give a doubled update, so weights of any sum mean something

    def __call__(
        self, points: Iterable[Tensor], weights: Sequence[float], base: Tensor | None = None, **options
    ) -> Tensor:
        """Merge K tensors of one shape into one in float32. `base` and `rng` only where the method takes them.

        Points are taken one by one and not kept, so that K + 1 tensors in float32 suffice if they are made on demand.
        """
        options = dict(self.options) | options
        scale = options.pop("scale", 1.0)
        if len(weights) == 1 and weights[0] == scale == 1 and self.sparsify is None:
            return next(iter(points))  # the mean of one point is that point, bit for bit
        if not self.updates:
            return self.combine(list(points), weights)
        thin = partial(self.sparsify, **options) if self.sparsify else lambda update: update
        updates = [thin(_update(point, base)) for point in points]
        merged = self.combine(updates, self.reweigh(updates, weights) if self.reweigh else weights)
        del updates  # before the base is widened
        return merged.mul_(scale).add_(base)


def _update(point: Tensor, base: Tensor) -> Tensor:
    """Θᵢ − Θ_base in float32 or wider, in memory of its own."""
    update = torch.empty(point.shape, dtype=wide(torch.promote_types(point.dtype, base.dtype)), device=point.device)
    return update.copy_(point).sub_(base)


def choose(name: str, options: Mapping[str, float], *, has_base: bool, rng: np.random.Generator | None) -> Method:
    """The row of that name; raises Refusal where it is unknown or cannot work with what it is given."""
    if name not in METHODS:
        raise Refusal(f"merge method '{name}' is unknown; choose from {', '.join(METHODS)}")
    row = METHODS[name]
    known = [*row.options, *(["scale"] if row.updates else [])]
    if unknown := options.keys() - set(known):
        raise Refusal(f"{name} takes no option '{min(unknown)}', only {', '.join(known) or 'weights'}")
    if row.updates and not has_base:
        raise Refusal(f"{name} works on updates from the base, and none was given; name the base, or merge by linear")
    if row.random and rng is None:
        raise Refusal(f"{name} drops numbers at random; pass rng=np.random.default_rng(seed)")
    return row


TIES, DARE, DELLA, BREADCRUMBS = (
    f"https://arxiv.org/abs/{number}" for number in ("2306.01708", "2311.03099", "2406.11617", "2312.06795")
)
SPARSE = {"density": 0.9}
DELLAS, CRUMBS = SPARSE | {"epsilon": 0.01}, SPARSE | {"gamma": 0.01}
MEAN = {"combine": partial(elect, average=True), "keeps_scale": False}
METHODS = {
    "linear": Method("linear", "https://arxiv.org/abs/2203.05482", updates=False, elementwise=True, keeps_scale=False),
    "task_arithmetic": Method("task arithmetic", "https://arxiv.org/abs/2212.04089", elementwise=True),
    "multislerp": Method("multi-SLERP", "https://arxiv.org/abs/2403.13257", reweigh=multislerp),
    "karcher": Method("Karcher mean", "https://doi.org/10.1002/cpa.3160300502", reweigh=karcher),
    "ties": Method("TIES", TIES, sparsify=trim_, options=SPARSE, **MEAN),
    "dare_linear": Method("DARE", DARE, sparsify=drop_, options=SPARSE, random=True),
    "dare_ties": Method("DARE, TIES", DARE, elect, sparsify=drop_, options=SPARSE, random=True),
    "della_linear": Method("DELLA", DELLA, sparsify=drop_, options=DELLAS, random=True),
    "della_ties": Method("DELLA, TIES", DELLA, sparsify=drop_, options=DELLAS, random=True, **MEAN),
    "breadcrumbs": Method("Breadcrumbs", BREADCRUMBS, sparsify=trim_, options=CRUMBS),
    "breadcrumbs_ties": Method("Breadcrumbs, TIES", BREADCRUMBS, elect, sparsify=trim_, options=CRUMBS),
}
