"""Thinning one update in place, by magnitude or by chance, and electing one sign among several updates.

All of it block by block: beside the updates only a few MB of temporary values are held, however large a tensor is.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from demix_nb.store import Refusal

BLOCK = 1 << 18  # numbers of each tensor worked on at a time: a few MB of temporary values
DIGIT = 16  # bits of a magnitude that are looked at in one pass


def elect(updates: Sequence[Tensor], weights: Sequence[float], average: bool = False) -> Tensor:
    """TIES' disjoint merge (2306.01708): per number, only updates of the sign with the larger weighted mass take part.

    Their weighted sum, or with `average` their weighted mean. Zeros have no sign and take no part.
    """
    merged = torch.empty(updates[0].shape, dtype=updates[0].dtype, device=updates[0].device)
    for out, *block in zip(*(tensor.reshape(-1).split(BLOCK) for tensor in (merged, *updates)), strict=True):
        out.copy_(_elect(block, weights, average))
    return merged


def _elect(updates: Sequence[Tensor], weights: Sequence[float], average: bool) -> Tensor:
    signed, total, mass = (torch.zeros_like(updates[0]) for _ in range(3))
    for update, weight in zip(updates, weights, strict=True):
        signed.add_(update, alpha=weight)
    positive = signed >= 0
    for update, weight in zip(updates, weights, strict=True):
        agrees = torch.where(positive, update > 0, update < 0)
        total.add_(update * agrees, alpha=weight)
        mass.add_(agrees, alpha=weight)
    return total / torch.where(mass == 0, 1.0, mass) if average else total


def trim_(update: Tensor, *, density: float, gamma: float = 0.0) -> Tensor:
    """Keep the `density` largest by magnitude after leaving out the `gamma` very largest (TIES, Breadcrumbs).

    In place. Numbers equal in magnitude to the last one kept are kept too, so the result does not hang on the order of
    a sort. Raises Refusal on a density outside (0, 1].
    """
    if not (0 < density <= 1 and 0 <= gamma < 1):
        raise Refusal(f"density {density} must lie in (0, 1] and gamma {gamma} in [0, 1)")
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
    density − ε to density + ε (DELLA, 2406.11617). Raises Refusal where that leaves (0, 1].
    """
    if not (0 < density - epsilon and density + epsilon <= 1):
        raise Refusal(f"density {density} ± epsilon {epsilon} must lie in (0, 1]; choose a smaller epsilon")
    width = update.shape[-1] if update.ndim else 1
    for rows in update.view(-1, width).split(max(1, BLOCK // width)):
        chance = torch.full_like(rows, density)
        if epsilon and width > 1:
            rank = rows.abs().argsort(dim=-1, stable=True).argsort(dim=-1)  # ties in one order on all devices
            chance += epsilon * (2 * rank / (width - 1) - 1)
        drawn = torch.from_numpy(rng.random(tuple(rows.shape), dtype=np.float32)).to(rows.device)
        rows.masked_fill_(drawn >= chance, 0).div_(chance)
    return update
