"""Keys and values of rows that a model writes side by side: what they begin with is held once, and nothing is padded.

Each row has a slot of its own and a length of its own. The attention of all rows to what they share is one matrix
product, where a cache of whole rows would read, and hold, the same keys and values for each.

Source: Juravsky et al., Hydragen: High-Throughput LLM Inference with Shared Prefixes, 3.1.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import psutil
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from demix_nb.store import Refusal

ROWS = 128  # rows at most; see tests/benchmarks/generation.py
MEMORY = 1 / 4  # of what is free may hold keys and values: other workers measure beside this one


class Layer(DynamicLayer):
    """Keys and values of one layer: of what all rows begin with, and of each row's own tokens."""

    shared: tuple[Float[Tensor, "heads shared keys"], Float[Tensor, "heads shared values"]]

    def begin(self, keys: Float[Tensor, "1 heads tokens keys"], values: Float[Tensor, "1 heads tokens values"]) -> None:
        self.shared = keys[0], values[0]

    def room(self, rows: int, length: int) -> None:
        """Make room for rows of so many tokens of their own; zeros, for what is masked may not be NaN."""
        self.keys, self.values = (part.new_zeros(rows, len(part), length, part.shape[-1]) for part in self.shared)

    def take(self, source: int, target: int, length: int) -> None:
        """Put the first tokens of one row in the place of another's."""
        for part in (self.keys, self.values):
            part[target, :, :length] = part[source, :, :length]


class Slots(Cache):
    """A transformers cache of rows that are written side by side; it holds each row's length, so nothing is padded."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[Layer() for _ in range(layers)])
        self.filled: int | None = None  # rows that hold something; None while the shared beginning is read
        self.read: Tensor | None = None  # keys that a layer has just read
        self.own: Int[Tensor, " rows"] | None = None  # tokens that each row has of its own; None while prompts are read
        self.mask: Float[Tensor, "rows 1 1 tokens"] | None = None

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Keep the keys and values (rows × heads × tokens × size) of the tokens that a layer reads; return them."""
        kept, self.read = self.layers[layer], keys
        if self.filled is None:
            kept.begin(keys, values)
        elif self.own is None:
            rows = slice(self.filled, self.filled + len(keys))
            kept.keys[rows, :, : keys.shape[2]], kept.values[rows, :, : values.shape[2]] = keys, values
        else:
            rows = torch.arange(len(keys), device=keys.device)
            kept.keys[rows, :, self.own], kept.values[rows, :, self.own] = keys[:, :, 0], values[:, :, 0]
        return keys, values

    def share(self, tokens: int, longest: int, rows: int) -> int:
        """Keep so many tokens of the beginning, make room for rows of at most `longest` more; return how many rows."""
        for layer in self.layers:
            layer.shared = tuple(part[:, :tokens].contiguous() for part in layer.shared)
        parts = [part for layer in self.layers for part in layer.shared]
        size = longest * sum(len(part) * part.shape[-1] * part.itemsize for part in parts)
        rows = max(1, min(rows, ROWS, int(MEMORY * _free_memory(parts[0].device) / size)))
        for layer in self.layers:
            layer.room(rows, longest)
        self.filled = 0
        return rows

    def step(self, own: Int[Tensor, " rows"]) -> None:
        """Say how many tokens each row has of its own; what is read next is one more for each."""
        self.own = own
        unseen = torch.arange(int(own.max()) + 1, device=own.device) > own[:, None, None, None]
        self.mask = torch.zeros_like(unseen, dtype=self.layers[0].keys.dtype).masked_fill(unseen, -math.inf)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, layer: int, scaling: float) -> Tensor:
        """Return the attention (rows × heads × tokens × size) of what a layer reads now."""
        kept = self.layers[layer]
        if self.own is None:
            return _attend_prompts(query, keys, values, kept.shared if self.filled is not None else None, scaling)
        tokens = self.mask.shape[-1]
        own = (kept.keys[: len(query), :, :tokens], kept.values[: len(query), :, :tokens])
        return _attend_step(query, own, kept.shared, self.mask, scaling)


def _attend_prompts(
    query: Tensor, keys: Tensor, values: Tensor, shared: tuple[Tensor, Tensor] | None, scaling: float
) -> Tensor:
    before = shared[0].shape[1] if shared else 0
    mask = None
    if before:
        keys, values = (
            torch.cat([part.expand(len(query), *part.shape), more], 2)
            for part, more in zip(shared, (keys, values), strict=True)
        )
        tokens = query.shape[2]
        mask = torch.ones(tokens, before + tokens, dtype=torch.bool, device=query.device).tril(before)
    return nn.functional.scaled_dot_product_attention(
        query, keys, values, mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )


def _attend_step(
    query: Tensor, own: tuple[Tensor, Tensor], shared: tuple[Tensor, Tensor], mask: Tensor, scaling: float
) -> Tensor:
    """One token of each row to the row's own tokens, and of all rows in one product to the shared ones."""
    rows, heads, length = own[0].shape[:3]
    query = (query * scaling).reshape(rows, heads, -1, query.shape[-1])
    scores = query @ own[0].transpose(-1, -2) + mask
    if not shared[0].shape[1]:
        return (scores.softmax(-1, torch.float32).to(query.dtype) @ own[1]).flatten(1, 2)[:, :, None]
    before = query.transpose(0, 1).flatten(1, 2) @ shared[0].transpose(-1, -2)
    before = before.view(heads, rows, -1, before.shape[-1]).transpose(0, 1)
    weights = torch.cat([before, scores], -1).softmax(-1, torch.float32).to(query.dtype)
    more = weights[..., :-length].transpose(0, 1).flatten(1, 2) @ shared[1]
    found = weights[..., -length:] @ own[1] + more.view(heads, rows, -1, more.shape[-1]).transpose(0, 1)
    return found.flatten(1, 2)[:, :, None]


def _attention(
    module: nn.Module,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    **more: object,
) -> tuple[Tensor, None]:
    """What transformers calls instead of its own attention; it gives no mask, for it knows none of this name."""
    odd = mask is not None or any(isinstance(part, Tensor) for name, part in more.items() if name not in PLACES)
    if odd or keys is not SLOTS.get().read:
        sees = f"{type(module).__name__} attends otherwise than to the keys it keeps"
        raise Refusal(f"{sees}; name a setting that tells such models in `generation.OTHERWISE`")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    return SLOTS.get().attend(query, keys, values, module.layer_idx, scaling).transpose(1, 2), None


PLACES = {"position_ids", "cache_position"}  # which the keys have in them
SLOTS: ContextVar[Slots] = ContextVar("slots")
AttentionInterface.register("demix_nb", _attention)


@contextmanager
def attending(model: PreTrainedModel, slots: Slots) -> Iterator[None]:
    """Let the model's attention be that of the rows in the slots."""
    before, token = model.config._attn_implementation, SLOTS.set(slots)
    model.set_attn_implementation("demix_nb")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        SLOTS.reset(token)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
