"""Means on the sphere: how much of each of K updates their mean takes, when directions are averaged and not numbers.

Every point in question is a combination of the K updates, so log and exp maps need only the cosines between them: K
numbers, not P. Both means have the weighted mean length.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from demix_nb.store import Refusal

BLOCK = 1 << 18  # numbers of each tensor widened to float64 at a time


def multislerp(points: Sequence[Tensor], weights: Sequence[float]) -> list[float]:
    """Coefficients of the weighted mean of directions (multi-SLERP of mergekit, 2403.13257).

    mergekit walks from the normalised mean m along the mean of the tangent projections uᵢ − (uᵢ·m)m. That step is zero,
    because Σ wᵢuᵢ is parallel to m: what remains is m times the mean length, and that is what we compute.
    Raises Refusal where the directions cancel.
    """
    lengths, cosines = _sphere(points)
    return _at_mean_length(weights, lengths, _mean_direction(weights, lengths, cosines))


def karcher(points: Sequence[Tensor], weights: Sequence[float]) -> list[float]:
    """Coefficients of the weighted Karcher mean of directions (Karcher 1977): where the weighted logarithms cancel.

    Raises Refusal where the directions cancel or the iteration does not settle.
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
            return _at_mean_length(weights, lengths, mean)
        mean = mean * length.cos() + step * (length.sin() / length)
        mean = mean / (mean @ cosines @ mean).sqrt()
    raise Refusal("the Karcher mean does not settle: updates point in opposite directions; use linear")


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
        raise Refusal("the weighted directions cancel, so their mean has none; use linear")
    return mean / length if mean.any() else mean


def _at_mean_length(weights: Sequence[float], lengths: Tensor, direction: Tensor) -> list[float]:
    """Coefficients on K points for coefficients on their K directions, at the weighted mean length."""
    length = torch.tensor(weights, dtype=torch.float64) @ lengths
    return torch.where(lengths > 0, length * direction / lengths, 0.0).tolist()
