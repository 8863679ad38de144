"""The published ways to merge K tensors into one, as pure functions, and the table `METHODS` of them with their papers.

All take K tensors of one shape and K weights and return one tensor in float32. Most work on updates τᵢ = Θᵢ − Θ_base:
each update may be thinned (`trim_`, `drop_`), then they are combined (`linear`, `elect`, a mean on the sphere). All of
it happens tensor by tensor, as in mergekit, the tool these are tested against. We differ here: what survives a random
mask is divided by its chance to be kept, as DARE and DELLA are published, and not rescaled to the old L1 norm;
magnitudes equal to a threshold are kept, all of them. Settings are those of DeMix's release (arXiv 2602.00747).

Memory: K updates and the result in float32, K + 1 tensors; everything between them is computed in blocks.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from torch import Tensor

BLOCK = 1 << 18  # numbers of each tensor worked on at a time: a few MB of temporary values
DIGIT = 16  # bits of a magnitude that are looked at in one pass


def linear(points: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Σ wᵢ xᵢ over K tensors of one shape, accumulated in float32 or wider (model soups, 2203.05482)."""
    total = points[0].to(wide(points[0].dtype)) * weights[0]
    for point, weight in zip(points[1:], weights[1:], strict=True):
        total.add_(point, alpha=weight)
    return total


def multislerp(points: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Weighted mean of directions, at the weighted mean length (multi-SLERP of mergekit, 2403.13257).

    mergekit walks from the normalised mean m along the mean of the tangent projections uᵢ − (uᵢ·m)m. That step is zero,
    because Σ wᵢuᵢ is parallel to m: what remains is m times the mean length, and that is what we compute.
    Raises ValueError where the directions cancel.
    """
    lengths, cosines = _sphere(points)
    return _on_sphere(points, weights, lengths, _mean_direction(weights, lengths, cosines))


def karcher(points: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The weighted Karcher mean of directions (Karcher 1977), at the weighted mean length.

    Every iterate is a combination of the K directions, so log and exp maps need only their cosines: K numbers, not P.
    Raises ValueError where the directions cancel or the iteration does not settle.
    """
    lengths, cosines = _sphere(points)
    share = torch.tensor(weights, dtype=torch.float64) * (lengths > 0)
    share, mean = share / share.sum().clamp_min(1e-300), _mean_direction(weights, lengths, cosines)
    for _ in range(1000):
        dots = (cosines @ mean).clamp(-1, 1)
        pull = share / torch.sinc(dots.arccos() / math.pi)  # θ / sin θ
        step = pull - (pull @ dots) * mean
        length = (step @ cosines @ step).clamp_min(0).sqrt()
        if length < 1e-9:
            return _on_sphere(points, weights, lengths, mean)
        mean = mean * length.cos() + step * (length.sin() / length)
        mean = mean / (mean @ cosines @ mean).sqrt()
    raise ValueError("the Karcher mean does not settle: updates point in opposite directions; use linear")


def elect(updates: Sequence[Tensor], weights: Sequence[float], average: bool = False) -> Tensor:
    """TIES' disjoint merge (2306.01708): per number, only updates of the sign with the larger weighted mass take part.

    Their weighted sum, or with `average` their weighted mean. Zeros have no sign and take no part.
    """
    merged = torch.empty(updates[0].shape, dtype=updates[0].dtype, device=updates[0].device)
    for out, *block in zip(*(tensor.reshape(-1).split(BLOCK) for tensor in (merged, *updates)), strict=True):
        out.copy_(_elect(block, weights, average))
    return merged


def _elect(updates: Sequence[Tensor], weights: Sequence[float], average: bool) -> Tensor:
    positive = linear(updates, weights) >= 0
    total, mass = torch.zeros_like(updates[0]), torch.zeros_like(updates[0])
    for update, weight in zip(updates, weights, strict=True):
        agrees = torch.where(positive, update > 0, update < 0)
        total.add_(update * agrees, alpha=weight)
        mass.add_(agrees, alpha=weight)
    return total / torch.where(mass == 0, 1.0, mass) if average else total


def trim_(update: Tensor, *, density: float, gamma: float = 0.0) -> Tensor:
    """Keep the `density` largest by magnitude after leaving out the `gamma` very largest (TIES, Breadcrumbs).

    In place. Numbers equal in magnitude to the last one kept are kept too, so the result does not hang on the order of
    a sort. Raises ValueError on a density outside (0, 1].
    """
    if not (0 < density <= 1 and 0 <= gamma < 1):
        raise ValueError(f"density {density} must lie in (0, 1] and gamma {gamma} in [0, 1)")
    size = update.numel()
    kept = max(1, int(density * size))
    dropped = max(0, size - kept - int(gamma * size))
    smallest, largest = magnitude(update, dropped + 1), magnitude(update, dropped + kept)
    for block in update.view(-1).split(BLOCK):
        block.masked_fill_((block.abs() < smallest) | (block.abs() > largest), 0)
    return update


def magnitude(update: Tensor, rank: int) -> Tensor:
    """The magnitude of that rank, 1 = smallest, exactly.

    `kthvalue` takes room for four more tensors, so above one block the answer is built digit by digit from counts:
    floats ≥ 0 sort as their bits do.
    """
    if update.numel() <= BLOCK:
        return update.abs().view(-1).kthvalue(rank).values
    integer = {4: torch.int32, 8: torch.int64}[update.itemsize]
    bits, found = update.view(-1).view(integer), 0
    for shift in range(8 * update.itemsize - DIGIT, -1, -DIGIT):
        counts = torch.zeros(1 << DIGIT, dtype=torch.int64, device=update.device)
        for block in bits.split(BLOCK):
            rest = (block & torch.iinfo(integer).max) >> shift  # without the sign
            counts += torch.bincount(rest[rest >> DIGIT == found] % (1 << DIGIT), minlength=len(counts))
        up_to = counts.cumsum(0)
        digit = int(torch.searchsorted(up_to, rank))
        rank, found = rank - int(up_to[digit] - counts[digit]), (found << DIGIT) + digit
    return torch.tensor(found, dtype=integer, device=update.device).view(update.dtype)


def drop_(update: Tensor, *, density: float, epsilon: float = 0.0, rng: np.random.Generator) -> Tensor:
    """Keep each number with a chance and divide it by that chance, so its expectation stays (DARE, 2311.03099).

    In place. The chance is `density`; with `epsilon` it rises with the rank of the magnitude within its row from
    density − ε to density + ε (DELLA, 2406.11617). Raises ValueError where that leaves (0, 1].
    """
    if not (0 < density - epsilon and density + epsilon <= 1):
        raise ValueError(f"density {density} ± epsilon {epsilon} must lie in (0, 1]; choose a smaller epsilon")
    width = update.shape[-1] if update.ndim else 1
    for rows in update.view(-1, width).split(max(1, BLOCK // width)):
        chance = torch.full_like(rows, density)
        if epsilon and width > 1:
            rank = rows.abs().argsort(dim=-1).argsort(dim=-1)
            chance += epsilon * (2 * rank / (width - 1) - 1)
        drawn = torch.from_numpy(rng.random(tuple(rows.shape), dtype=np.float32)).to(rows.device)
        rows.masked_fill_(drawn >= chance, 0).div_(chance)
    return update


@dataclass(frozen=True)
class Method:
    """One row of METHODS: what is kept of each update, how the points are combined, and who published it.

    `combine(points, weights)` merges K tensors; `sparsify(update, **options)` thins one in place. With `updates` both
    work on τᵢ = Θᵢ − Θ_base and the merge is Θ_base + scale · combine(τ, w).
    """

    combine: Callable
    paper: str
    sparsify: Callable | None = None
    updates: bool = True
    options: Mapping[str, float] = field(default_factory=dict)  # settings of DeMix's release

    @property
    def random(self) -> bool:
        return self.sparsify is drop_

    @property
    def elementwise(self) -> bool:
        """Whether each number is merged without looking at its neighbours."""
        return self.combine is linear and self.sparsify is None

    @property
    def keeps_scale(self) -> bool:
        """Whether doubling the weights doubles the update, so that un-normalised weights mean something."""
        return self.updates and self.combine in (linear, elect)

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
        merged = self.combine(updates, weights)
        del updates  # before the base is widened
        return merged.mul_(scale).add_(base)


def _update(point: Tensor, base: Tensor) -> Tensor:
    """Θᵢ − Θ_base in float32 or wider, in memory of its own."""
    update = torch.empty(point.shape, dtype=wide(torch.promote_types(point.dtype, base.dtype)), device=point.device)
    return update.copy_(point).sub_(base)


AVERAGE = partial(elect, average=True)
SPARSE = {"density": 0.9}  # DeMix's release: density 0.9, epsilon 0.01, gamma 0.01
METHODS = {
    "linear": Method(linear, "https://arxiv.org/abs/2203.05482", updates=False),
    "task_arithmetic": Method(linear, "https://arxiv.org/abs/2212.04089"),
    "multislerp": Method(multislerp, "https://arxiv.org/abs/2403.13257"),
    "karcher": Method(karcher, "https://doi.org/10.1002/cpa.3160300502"),
    "ties": Method(AVERAGE, "https://arxiv.org/abs/2306.01708", trim_, options=SPARSE),
    "dare_linear": Method(linear, "https://arxiv.org/abs/2311.03099", drop_, options=SPARSE),
    "dare_ties": Method(elect, "https://arxiv.org/abs/2311.03099", drop_, options=SPARSE),
    "della_linear": Method(linear, "https://arxiv.org/abs/2406.11617", drop_, options=SPARSE | {"epsilon": 0.01}),
    "della_ties": Method(AVERAGE, "https://arxiv.org/abs/2406.11617", drop_, options=SPARSE | {"epsilon": 0.01}),
    "breadcrumbs": Method(linear, "https://arxiv.org/abs/2312.06795", trim_, options=SPARSE | {"gamma": 0.01}),
    "breadcrumbs_ties": Method(elect, "https://arxiv.org/abs/2312.06795", trim_, options=SPARSE | {"gamma": 0.01}),
}


def gram(points: Sequence[Tensor]) -> Tensor:
    """Dot products of K tensors in float64, block by block so that only blocks are widened."""
    flat, products = [point.reshape(-1) for point in points], torch.zeros(len(points), len(points), dtype=torch.float64)
    for start in range(0, len(flat[0]), BLOCK):
        block = torch.stack([point[start : start + BLOCK] for point in flat]).double()
        products += (block @ block.T).cpu()
    return products


def _sphere(points: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Lengths of K tensors and the cosines between them; a tensor of zeros has no direction: cosine 0."""
    products = gram(points)
    lengths = products.diagonal().sqrt()
    inverse = torch.where(lengths > 0, 1 / lengths, 0.0)
    return lengths, products * torch.outer(inverse, inverse)


def _mean_direction(weights: Sequence[float], lengths: Tensor, cosines: Tensor) -> Tensor:
    """The normalised weighted mean of K directions, as coefficients on them."""
    mean = torch.tensor(weights, dtype=torch.float64) * (lengths > 0)
    length = (mean @ cosines @ mean).clamp_min(0).sqrt()
    if length < 1e-8 and mean.any():  # mergekit's threshold
        raise ValueError("the weighted directions cancel, so their mean has none; use linear")
    return mean / length if mean.any() else mean


def _on_sphere(points: Sequence[Tensor], weights: Sequence[float], lengths: Tensor, direction: Tensor) -> Tensor:
    """The point in that direction at the weighted mean length; directions are coefficients on the K unit vectors."""
    length = torch.tensor(weights, dtype=torch.float64) @ lengths
    return linear(points, torch.where(lengths > 0, length * direction / lengths, 0.0).tolist())


def wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)
