"""Merge the weights of component models into proxies, in memory: M(α) = Σ αᵢ Θᵢ.

Components trained from one base differ so little that an average of their weights behaves like a model trained on the
averaged data (DeMix, arXiv 2602.00747, 2.2 and eq. 6). A `Bank` opens K checkpoints once and writes any merge of them
straight into a live model; no proxy touches the disk unless it is saved. Sums are taken in float32 and rounded once.
Components of weight zero take no part, so a one-hot mixture is its component, bit for bit. How to merge is in
`methods`, where tensors lie in `layout`, what makes a folder unfit in `checkpoints`.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AutoConfig, GenerationConfig, PretrainedConfig, PreTrainedModel

from demix_nb.checkpoints import Checkpoint, all_finite, by_name, folder_hash, open_alike
from demix_nb.layout import Piece, blank_model, flat_vector, layout, stored_views
from demix_nb.methods import METHODS, Method, gram, wide

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
        cls,
        directories: Mapping[str, str | Path] | Sequence[str | Path],
        base: str | Path | None = None,
        residency: str = "auto",
        device: str = "cpu",
    ) -> "Bank":
        """Open component folders by name (or by folder name) and check that they can be merged.

        `residency`: "stacked" reads all weights to `device` once, "streamed" reads them for every merge, "auto" stacks
        where they take less than half of the free memory. Raises ValueError naming the offender and the remedy.
        """
        if residency not in ("auto", "stacked", "streamed"):
            raise ValueError(f"residency '{residency}' is unknown; choose auto, stacked or streamed")
        directories, base = by_name(directories), Path(base) if base else None
        rows = list(open_alike(directories | ({"(base)": base} if base else {})).values())
        config = AutoConfig.from_pretrained(rows[0].directory, trust_remote_code=False)
        slots, tied, integers = layout(config, rows[0])
        _check_tied(tied, rows)
        bank = cls(directories, base, rows, config, slots, _common(integers, rows))
        taken = len(rows) * bank.size * bank._dtype(range(len(rows))).itemsize
        if residency == "streamed" or (residency == "auto" and taken > RESIDENT_SHARE * _free_memory(device)):
            return bank
        return replace(bank, stack=bank._read_all(device))

    @property
    def names(self) -> list[str]:
        return list(self.directories)

    @cached_property
    def size(self) -> int:
        """P, the numbers in one model."""
        return sum(math.prod(slot.shape) for slot in self.slots.values())

    def model(self, dtype: torch.dtype = torch.float32, device: str = "cpu") -> PreTrainedModel:
        """A live model whose weights are views into one vector, NaN until `write` puts a proxy there."""
        model = blank_model(self.config, dtype, device)
        if (self.rows[0].directory / "generation_config.json").exists():
            model.generation_config = GenerationConfig.from_pretrained(self.rows[0].directory)
        return model

    def write(
        self,
        model: PreTrainedModel,
        weights: Mapping[str, float] | pd.Series,
        method: str = "linear",
        *,
        rng: np.random.Generator | None = None,
        normalize: bool = True,
        **options: float,
    ) -> None:
        """Write the proxy of `weights` into a model made by `model()`, in place: no copy of it is made anywhere.

        weights: component → weight ≥ 0, sum 1; components left out weigh 0. With `normalize=False` the sum is free, for
        methods on updates that keep scale. Raises ValueError on other weights, methods, options, or a foreign model.
        """
        merge, flat = self._merger(weights, method, rng, normalize, options), flat_vector(model, self.size)
        try:
            for piece in self._pieces(METHODS[method].elementwise, flat.device):
                piece.of(flat).copy_(merge(piece, flat.device))
        except BaseException:
            flat.fill_(torch.nan)  # half a proxy must not be scored
            raise
        if self.integers:
            views = stored_views(model)
            for name, values in self.integers.items():
                views[name].copy_(values)

    def merge(self, weights: Mapping[str, float] | pd.Series, method: str = "linear", **how: Any) -> dict[str, Tensor]:
        """The proxy as stored tensors by name, each in the dtype of the components in it. Arguments as in `write`."""
        grouped = groupby(self.parts(weights, method, **how), key=lambda part: part[0])
        return {name: _joined([tensor for _, tensor in group]) for name, group in grouped}

    def parts(
        self,
        weights: Mapping[str, float] | pd.Series,
        method: str = "linear",
        *,
        rng: np.random.Generator | None = None,
        normalize: bool = True,
        **options: float,
    ) -> Iterator[tuple[str, Tensor]]:
        """The same as a stream of (name, some rows of that tensor): names in the order of `stored`, rows in order."""
        merge, cpu = self._merger(weights, method, rng, normalize, options), torch.device("cpu")
        cut = READ_BLOCK if METHODS[method].elementwise else math.inf

        def stream() -> Iterator[tuple[str, Tensor]]:
            for name, (dtype, _) in self.stored(weights).items():
                if name in self.integers:
                    yield name, self.integers[name]
                else:
                    yield from ((name, merge(piece, cpu).to(dtype)) for piece in self.slots[name].blocks(cut))

        return stream()

    def stored(self, weights: Mapping[str, float] | pd.Series) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
        """Dtype and shape of every tensor of a proxy, the widest dtypes first (a safetensors file stays aligned so)."""
        active = self._active(weights)
        table = {name: (self._dtype(active, name), slot.shape) for name, slot in self.slots.items()}
        table |= {name: (values.dtype, tuple(values.shape)) for name, values in self.integers.items()}
        return dict(sorted(table.items(), key=lambda item: -item[1][0].itemsize))

    def vectors(self, mixtures: pd.DataFrame) -> Float[Tensor, "mixture P"]:
        """Linear proxies of a whole mixture table A at once: the matrix product A·Θ with the stacked components."""
        for _, row in mixtures.iterrows():
            self._check(row, METHODS["linear"], True)
        if self.stack is None:
            raise ValueError("these components are streamed; load with residency='stacked' or write one by one")
        shares = torch.tensor(mixtures.reindex(columns=self.names, fill_value=0.0).to_numpy(), device=self.stack.device)
        out = torch.empty(len(mixtures), self.size, dtype=wide(self.stack.dtype), device=self.stack.device)
        components = self.stack[: len(self.names)]
        for start in range(0, self.size, READ_BLOCK // len(self.names)):
            block = slice(start, start + READ_BLOCK // len(self.names))
            out[:, block] = shares.to(out.dtype) @ components[:, block].to(out.dtype)
        return out

    def put(self, model: PreTrainedModel, vector: Float[Tensor, " P"]) -> None:
        """Write one row of `vectors` into a model made by `model()`."""
        flat_vector(model, self.size).copy_(vector)

    def drift(self) -> pd.DataFrame:
        """How far each tensor moved: index (component, tensor), columns `moved` Σ|Θ−Θ_base| and `size` Σ|Θ|+Σ|Θ_base|.

        The sum of `moved` over the sum of `size` is δ (DeMix eq. 4). Raises ValueError without a base.
        """
        self._need_base("drift")
        table = {(name, tensor): np.zeros(2) for name in self.names for tensor in self.slots}
        for piece in self._blocks():
            base = self._read(-1, piece).double()
            for k, name in enumerate(self.names):
                point = self._read(k, piece).double()
                table[name, piece.name] += [(point - base).abs().sum().item(), (point.abs() + base.abs()).sum().item()]
        index = pd.MultiIndex.from_tuples(table, names=["component", "tensor"])
        return pd.DataFrame(np.stack(list(table.values())), index=index, columns=["moved", "size"])

    def cosines(self) -> pd.DataFrame:
        """Cosine between the updates Θᵢ − Θ_base, component × component. Raises ValueError without a base."""
        self._need_base("cosines")
        products = torch.zeros(len(self.names), len(self.names), dtype=torch.float64)
        for piece in self._blocks():
            base = self._read(-1, piece).double()
            products += gram([self._read(k, piece) - base for k in range(len(self.names))])
        lengths = products.diagonal().sqrt()
        return pd.DataFrame((products / torch.outer(lengths, lengths)).numpy(), index=self.names, columns=self.names)

    def key(
        self,
        weights: Mapping[str, float] | pd.Series,
        method: str = "linear",
        options: Mapping[str, float] | None = None,
        rng: np.random.Generator | None = None,
    ) -> str:
        """Content key of a proxy, 64 hex digits: what is merged and how, not what components or folders are called."""
        active = self._active(weights)
        parts = sorted((folder_hash(self.rows[k].directory), float(weights[self.names[k]]).hex()) for k in active)
        chosen = _method(method)
        base = folder_hash(self.base) if chosen.updates and self.base else None
        state = str(rng.bit_generator.state) if rng and chosen.random else None
        settings = dict(chosen.options) | dict(options or {})
        text = json.dumps([parts, base, method, settings, state], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _active(self, weights: Mapping[str, float] | pd.Series) -> list[int]:
        return [k for k, name in enumerate(self.names) if weights.get(name, 0.0) != 0]

    def _check(self, weights: Mapping[str, float] | pd.Series, method: Method, normalize: bool) -> None:
        if len(set(weights.keys())) < len(weights):
            raise ValueError(f"a component is named twice in the weights ({', '.join(weights.keys())}); name it once")
        for name, weight in weights.items():
            if name not in self.directories:
                raise ValueError(f"'{name}' is no component of this bank ({', '.join(self.names)})")
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of '{name}' is {weight}; weights are finite and not negative")
        total = math.fsum(weight for _, weight in weights.items())
        if normalize and abs(total - 1) > ROUNDING:
            raise ValueError(f"weights sum to {total:.8g}, not 1; divide them by their sum, or see normalize=False")
        if not normalize and not method.keeps_scale:
            raise ValueError("this method divides by the weights' sum; normalize=False needs one that keeps scale")

    def _merger(self, weights, method, rng, normalize, options) -> Callable[[Piece, torch.device], Tensor]:
        """Check everything that can be checked, then return the function that merges one piece."""
        chosen = _method(method)
        self._check(weights, chosen, normalize)
        if unknown := options.keys() - chosen.options.keys() - ({"scale"} if chosen.updates else set()):
            raise ValueError(f"{method} takes no option '{min(unknown)}', only {', '.join([*chosen.options, 'scale'])}")
        if chosen.updates:
            self._need_base(method)
        if chosen.random and rng is None:
            raise ValueError(f"{method} drops numbers at random; pass rng=np.random.default_rng(seed)")
        active = self._active(weights)
        shares, seed = [float(weights[self.names[k]]) for k in active], rng.integers(1 << 62) if chosen.random else None

        def merge(piece: Piece, device: torch.device) -> Tensor:
            points = (self._read(k, piece).to(device) for k in active)
            base = self._read(-1, piece).to(device) if chosen.updates else None
            # a generator per tensor: the masks do not hang on the order in which tensors are visited
            extra = {"rng": np.random.default_rng([seed, piece.index])} if chosen.random else {}
            try:
                return chosen(points, shares, base, **options, **extra)
            except ValueError as error:
                raise ValueError(f"{piece.name}: {error}") from error

        return merge

    def _pieces(self, elementwise: bool, device: torch.device) -> Iterator[Piece]:
        if elementwise and self.stack is not None:
            whole = Piece(-1, None, (self.size,), (1,), 0)
            return whole.blocks(BLOCK * torch.get_num_threads() if device.type == "cpu" else READ_BLOCK)
        return self._blocks() if elementwise else iter(self.slots.values())

    def _blocks(self) -> Iterator[Piece]:
        return (block for slot in self.slots.values() for block in slot.blocks(READ_BLOCK))

    def _read(self, row: int, piece: Piece) -> Tensor:
        """One component's numbers of a piece, in the dtype they are kept in."""
        row %= len(self.rows)
        if self.stack is not None:
            return piece.of(self.stack, row * self.size)
        tensor = self.rows[row].read(piece.name, piece.rows)
        if not all_finite(tensor):
            raise ValueError(f"{self.rows[row].directory}: '{piece.name}' holds NaN or infinity; train it again")
        return tensor

    def _read_all(self, device: str) -> Tensor:
        stack = torch.empty(len(self.rows), self.size, dtype=self._dtype(range(len(self.rows))), device=device)
        for row in range(len(self.rows)):
            for slot in self.slots.values():
                slot.of(stack, row * self.size).copy_(self._read(row, slot))
        return stack

    def _dtype(self, rows: Iterable[int], name: str | None = None) -> torch.dtype:
        """The narrowest dtype that holds what these rows store: in one tensor, or in all."""
        names = [name] if name else self.slots
        return reduce(torch.promote_types, (self.rows[row].dtypes[name] for row in rows for name in names))

    def _need_base(self, what: str) -> None:
        if self.base is None:
            raise ValueError(f"{what} works on updates from the base; load the bank with base=folder")


def delta(component: str | Path | Mapping[str, Tensor], base: str | Path | Mapping[str, Tensor]) -> float:
    """Size of an update δ = Σ|Θ−Θ_base| / (Σ|Θ|+Σ|Θ_base|), DeMix eq. 4, of two checkpoint folders or state dicts.

    0 for no update; two unrelated models come near 0.7. Raises ValueError where the two have different tensors.
    """
    if not isinstance(component, Mapping):
        total = Bank.load({"component": component}, base, "streamed").drift().sum()
        return float(total["moved"] / total["size"])
    if component.keys() != base.keys():
        raise ValueError(f"state dicts differ in '{min(component.keys() ^ base.keys())}'; compare models of one kind")
    # tied weights have two names and one place: count them once
    pairs = {tensor.data_ptr(): (tensor.double(), base[name].double()) for name, tensor in component.items()}
    moved = sum((a - b).abs().sum().item() for a, b in pairs.values())
    return moved / sum((a.abs().sum() + b.abs().sum()).item() for a, b in pairs.values())


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ValueError(f"merge method '{name}' is unknown; choose from {', '.join(METHODS)}")
    return METHODS[name]


def _free_memory(device: str) -> int:
    on_gpu = torch.device(device).type == "cuda"
    return torch.cuda.mem_get_info(device)[0] if on_gpu else psutil.virtual_memory().available


def _check_tied(tied: dict[str, list[str]], rows: list[Checkpoint]) -> None:
    for row in rows:
        for first, others in tied.items():
            if unequal := [name for name in others if not torch.equal(row.read(first), row.read(name))]:
                raise ValueError(f"{row.directory}: '{unequal[0]}' is tied to '{first}' but differs; save it again")


def _joined(parts: list[Tensor]) -> Tensor:
    """One tensor of its parts; always a copy, so that nobody writes into the bank by it."""
    return torch.cat(parts) if parts[0].ndim else parts[0].clone()


def _common(names: list[str], rows: list[Checkpoint]) -> dict[str, Tensor]:
    """Integer tensors cannot be averaged: the first component's, after checking that all agree."""
    kept = {name: rows[0].read(name).clone() for name in names}
    for name, values in kept.items():
        if unequal := [row.directory for row in rows if not torch.equal(row.read(name), values)]:
            raise ValueError(f"{unequal[0]}: integer tensor '{name}' differs from {rows[0].directory}'s; use one base")
    return kept
