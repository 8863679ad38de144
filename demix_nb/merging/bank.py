"""Merge the weights of component models into proxies, in memory: M(α) = Σ αᵢ Θᵢ.

Components trained from one base differ so little that an average of their weights behaves like a model trained on the
averaged data (DeMix, arXiv 2602.00747, 2.2 and eq. 6). A `Bank` opens K checkpoints once and writes any merge of them
straight into a live model; no proxy touches the disk unless it is saved. Sums are taken in float32 and rounded once.
Components of weight zero take no part, so a one-hot mixture is its component, bit for bit. How to merge is in
`methods`, where tensors lie in `layout`, what makes a folder unfit in `folders`, and two folders in `alike`.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from demix_nb.merging.alike import open_alike
from demix_nb.merging.folders import Checkpoint, Folders, all_finite, built_by_transformers, by_name, read_config
from demix_nb.merging.layout import Piece, check_dtype, check_layers, layout, stored_views
from demix_nb.merging.methods import METHODS, choose, wide
from demix_nb.store import Refusal, folder_hash

Weights = Mapping[str, float] | pd.Series  # component → weight; components left out weigh 0

ROUNDING = 1e-6  # how far from 1 weights may sum: shares printed with seven digits
BLOCK = 1 << 16  # numbers a thread merges at a time from resident components, so that they stay in its cache
READ_BLOCK = 1 << 22  # numbers merged at a time from mapped files: 16 MB in float32
RESIDENT_SHARE = 0.5  # of the free memory that resident components may take before "auto" streams them


@dataclass(frozen=True)
class Bank:
    """K components (and their base) of one architecture, opened once, merged as often as one likes.

    `stack` holds them as rows of P numbers in the components' dtype, or is None where they are streamed from disk: a
    merge then holds at most K + 1 times the largest tensor in float32, and some blocks, beside the mapped files.
    """

    directories: dict[str, Path]
    base: Path | None
    rows: list[Checkpoint]  # the components in order, then the base
    config: PretrainedConfig
    slots: dict[str, Piece]  # stored tensor → where it lies
    integers: dict[str, Tensor]  # stored tensors that are not averaged
    stack: Float[Tensor, "row P"] | None = None

    @classmethod
    def load(
        cls, directories: Folders, base: str | Path | None = None, residency: str = "auto", device: str = "cpu"
    ) -> "Bank":
        """Open component folders by name (or by folder name) and check that they can be merged.

        `residency`: "stacked" reads all weights to `device` once, "streamed" reads them for every merge, "auto" stacks
        where they take less than half of the free memory. Raises Refusal naming the offender and the remedy.
        """
        if residency not in ("auto", "stacked", "streamed"):
            raise Refusal(f"residency '{residency}' is unknown; choose auto, stacked or streamed")
        directories, base = by_name(directories), Path(base) if base else None
        rows = list(open_alike(directories | ({"(base)": base} if base else {})).values())
        config, shapes = _without_data(rows)
        slots, integers = layout(shapes, rows)
        bank = cls(directories, base, rows, config, slots, integers)
        taken = len(rows) * bank.size * widest(rows, slots).itemsize
        streams = residency == "streamed" or (residency == "auto" and taken > RESIDENT_SHARE * _free_memory(device))
        return bank if streams else replace(bank, stack=_stacked(bank, device))

    @property
    def names(self) -> list[str]:
        return list(self.directories)

    @cached_property
    def size(self) -> int:
        """P, the numbers in one model."""
        return sum(math.prod(slot.shape) for slot in self.slots.values())

    def shares(self, weights: Weights) -> dict[int, float]:
        """Row → weight of the components that take part."""
        return {row: float(weights[name]) for row, name in enumerate(self.names) if weights.get(name, 0.0) != 0}

    def model(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> PreTrainedModel:
        """A live model whose weights are views into one vector, NaN until `write` puts a proxy there."""
        model = blank_model(self.config, dtype, device)
        model.generation_config = _generation(self.rows[0].directory) or model.generation_config
        return model

    def write(self, model: PreTrainedModel, weights: Weights, method: str = "linear", **how: Any) -> None:
        """Write the proxy of `weights` into a model made by `model()`, in place: no copy of it is made anywhere.

        Arguments as in `merger`. Raises Refusal as it does, and on a foreign model.
        """
        merge, flat = self.merger(weights, method, **how), flat_vector(model, self.size)
        try:
            for piece in _pieces(self, METHODS[method].elementwise, flat.device):
                _view(flat, piece).copy_(merge(piece, flat.device))
        except BaseException:
            flat.fill_(torch.nan)  # half a proxy must not be scored
            raise
        views = stored_views(model) if self.integers else {}
        for name, values in self.integers.items():
            views[name].copy_(values)

    def merge(self, weights: Weights, method: str = "linear", **how: Any) -> dict[str, Tensor]:
        """The proxy as stored tensors by name, each in the dtype of the components in it. Arguments as in `merger`."""
        merge, rows = self.merger(weights, method, **how), [self.rows[row] for row in self.shares(weights)]
        merged = {name: merge(slot).to(widest(rows, [name]), copy=True) for name, slot in self.slots.items()}
        return merged | {name: values.clone() for name, values in self.integers.items()}

    def merger(
        self,
        weights: Weights,
        method: str = "linear",
        *,
        rng: np.random.Generator | None = None,
        normalize: bool = True,
        **options: float,
    ) -> Callable[..., Tensor]:
        """Check everything that can be checked, then return the function (piece, device) → its merge.

        weights: component → weight ≥ 0, sum 1. With `normalize=False` the sum is free, for methods that keep scale;
        `rng` is for methods that drop at random. Raises Refusal on other weights, methods or options.
        """
        row = choose(method, options, has_base=self.base is not None, rng=rng)
        _check_weights(weights, self.names, normalize, row.keeps_scale)
        shares, seed = self.shares(weights), rng.integers(1 << 62) if row.random else None

        def merge(piece: Piece, device: torch.device | str = "cpu") -> Tensor:
            points = (self.read(k, piece).to(device) for k in shares)
            base = self.read(-1, piece).to(device) if row.updates else None
            # a generator per tensor: the masks do not hang on the order in which tensors are visited
            extra = {"rng": np.random.default_rng([seed, piece.index])} if row.random else {}
            try:
                return row(points, list(shares.values()), base, **options, **extra)
            except Refusal as error:
                raise Refusal(f"{piece.name}: {error}") from error

        return merge

    def vectors(self, mixtures: pd.DataFrame) -> Float[Tensor, "mixture P"]:
        """Linear proxies of a whole mixture table A at once: the matrix product A·Θ with the stacked components."""
        for _, row in mixtures.iterrows():
            _check_weights(row, self.names)
        if self.stack is None:
            raise Refusal("these components are streamed; load with residency='stacked' or write one by one")
        shares = torch.tensor(mixtures.reindex(columns=self.names, fill_value=0.0).to_numpy(), device=self.stack.device)
        out = torch.empty(len(mixtures), self.size, dtype=wide(self.stack.dtype), device=self.stack.device)
        for start in range(0, self.size, step := _step(self.stack.device)):
            block = slice(start, start + step)
            out[:, block] = shares.to(out.dtype) @ self.stack[: len(self.names), block].to(out.dtype)
        return out

    def put(self, model: PreTrainedModel, vector: Float[Tensor, " P"]) -> None:
        """Write one row of `vectors` into a model made by `model()`."""
        flat_vector(model, self.size).copy_(vector)

    def key(
        self,
        weights: Weights,
        method: str = "linear",
        options: Mapping[str, float] | None = None,
        rng: np.random.Generator | None = None,
    ) -> str:
        """Content key of a proxy, 64 hex digits: what is merged and how, not what components or folders are called."""
        row = choose(method, options or {}, has_base=self.base is not None, rng=rng)
        parts = sorted((folder_hash(self.rows[k].directory), share.hex()) for k, share in self.shares(weights).items())
        base = folder_hash(self.base) if row.updates else None
        state = str(rng.bit_generator.state) if row.random else None
        text = json.dumps([parts, base, method, dict(row.options) | dict(options or {}), state], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def read(self, row: int, piece: Piece) -> Tensor:
        """One component's numbers of a piece, in the dtype they are kept in; the base is row −1."""
        if self.stack is not None:
            return _view(self.stack, piece, row % len(self.rows) * self.size)
        tensor = self.rows[row].read(piece.name, piece.rows)
        if not all_finite(tensor):
            raise Refusal(f"{self.rows[row].directory}: '{piece.name}' holds NaN or infinity; train it again")
        return tensor


def blank_model(config: PretrainedConfig, dtype: torch.dtype, device: str) -> PreTrainedModel:
    """A live model on one flat vector of NaN, so that one forgotten to be written cannot pass for a proxy."""
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=dtype, trust_remote_code=False)
    model.tie_weights()  # skipped along with the initialisation
    state = model.state_dict(keep_vars=True).values()
    weights = {id(tensor): tensor for tensor in state if tensor.is_floating_point()}.values()  # tied ones once
    flat, start = torch.full((sum(map(Tensor.numel, weights)),), torch.nan, dtype=dtype, device=device), 0
    for tensor in weights:
        tensor.data = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    return model.to(device).eval().requires_grad_(False)


def flat_vector(model: PreTrainedModel, size: int) -> Tensor:
    """The one vector of P = `size` numbers behind a model's weights. Raises Refusal where there is none."""
    weights = [tensor for tensor in model.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
    storage = weights[0].untyped_storage()
    shared = {tensor.untyped_storage().data_ptr() for tensor in weights} == {storage.data_ptr()}
    if not shared or storage.nbytes() != size * weights[0].itemsize:
        raise Refusal("this model was not made by this bank's model(), or was moved since; use model(dtype, device)")
    return torch.empty(0, dtype=weights[0].dtype, device=weights[0].device).set_(storage)


def widest(rows: Iterable[Checkpoint], names: Iterable[str]) -> torch.dtype:
    """The narrowest dtype that holds what these checkpoints store in these tensors."""
    return reduce(torch.promote_types, (dtype for row in rows for dtype in (row.dtypes[name] for name in names)))


def _check_weights(weights: Weights, names: Sequence[str], normalize: bool = True, keeps_scale: bool = False) -> None:
    if len(set(weights.keys())) < len(weights):
        raise Refusal(f"a component is named twice in the weights ({', '.join(weights.keys())}); name it once")
    for name, weight in weights.items():
        if name not in names:
            raise Refusal(f"'{name}' is no component of this bank ({', '.join(names)}); name one of them")
        if not (math.isfinite(weight) and weight >= 0):
            raise Refusal(f"the weight of '{name}' is {weight}; weights are finite and not negative")
    total = math.fsum(weight for _, weight in weights.items())
    if normalize and abs(total - 1) > ROUNDING:
        raise Refusal(f"weights sum to {total:.8g}, not 1; divide them by their sum, or see normalize=False")
    if not normalize and not keeps_scale:
        raise Refusal("this method divides by the weights' sum; normalize=False needs one that keeps scale")


def _pieces(bank: Bank, elementwise: bool, device: torch.device) -> Iterator[Piece]:
    """What a live model is written by: stored tensors, or where nothing forbids it blocks that stay in a cache."""
    if not elementwise:
        return iter(bank.slots.values())
    if bank.stack is None:
        return (block for slot in bank.slots.values() for block in slot.blocks(READ_BLOCK))
    step = _step(device)
    return (Piece(-1, None, (min(step, bank.size - at),), (1,), at) for at in range(0, bank.size, step))


def _step(device: torch.device) -> int:
    """Numbers that are merged at a time on that device."""
    return BLOCK * torch.get_num_threads() if device.type == "cpu" else READ_BLOCK


def _view(vector: Tensor, piece: Piece, start: int = 0) -> Tensor:
    """A piece as a view into a flat vector that begins at `start` of its storage."""
    return vector.as_strided(piece.shape, piece.stride, start + piece.offset)


def _without_data(rows: Sequence[Checkpoint]) -> tuple[PretrainedConfig, PreTrainedModel]:
    """The first folder's configuration and its model without data, after building every other one that is spelt else.

    What cannot be built so, `from_pretrained` cannot open; and what it would round or generate with is looked at too.
    """
    built: dict[str, tuple[PretrainedConfig, PreTrainedModel]] = {}
    for one in rows:
        if one.spelling not in built:
            with built_by_transformers(one.directory), torch.device("meta"):
                config = read_config(one.directory)
                check_layers(one, config)
                built[one.spelling] = config, blank_model(config, torch.float32, "meta")
                _generation(one.directory)
        check_dtype(one, *built[one.spelling])
    return built[rows[0].spelling]


def _generation(directory: Path) -> GenerationConfig | None:
    stored = (directory / "generation_config.json").exists()
    return GenerationConfig.from_pretrained(directory) if stored else None


def _stacked(bank: Bank, device: str) -> Tensor:
    stack = torch.empty(len(bank.rows), bank.size, dtype=widest(bank.rows, bank.slots), device=device)
    for row in range(len(bank.rows)):
        for slot in bank.slots.values():
            _view(stack, slot, row * bank.size).copy_(bank.read(row, slot))
    return stack


def _free_memory(device: str) -> int:
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available
