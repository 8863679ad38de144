"""Save a proxy as an ordinary Hugging Face checkpoint, whole or not at all.

Tensors are streamed: each is merged, written and forgotten, so a large model is saved with the memory of one tensor.
Everything goes to a hidden folder beside the target, which takes the target's name when it is complete; whatever ends
the work earlier (a full disk, an error, Ctrl-C) leaves nothing behind. The card names components, weights and method
(`card`), and a linear merge stands beside it as mergekit would be told it.
"""

import json
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from demix_nb.merging import card
from demix_nb.merging.bank import READ_BLOCK, Bank, Weights, widest
from demix_nb.merging.folders import DTYPES
from demix_nb.merging.layout import Piece
from demix_nb.merging.methods import METHODS
from demix_nb.merging.tokens import FILES
from demix_nb.store import Refusal, atomic_folder

SHARD_BYTES = 5_000_000_000  # per file, as transformers did for years: fits every file system and upload limit
BESIDE = ("generation_config.json", "chat_template*", *FILES)
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Shard = dict[str, tuple[torch.dtype, tuple[int, ...]]]  # the tensors of one file → dtype, shape


def save(
    bank: Bank,
    weights: Weights,
    directory: str | Path,
    method: str = "linear",
    *,
    rng: np.random.Generator | None = None,
    shard_bytes: int = SHARD_BYTES,
    **how: Any,
) -> Path:
    """Write a proxy (arguments as in `Bank.merger`) to a new folder that `from_pretrained` loads; return the folder.

    Raises Refusal as `Bank.merger` does, and where the folder holds something or cannot be written. In every case
    nothing is left behind.
    """
    directory, state = Path(directory), str(rng.bit_generator.state) if rng else None  # before masks are drawn
    merge, row = bank.merger(weights, method, rng=rng, **how), METHODS[method]
    settings = dict(row.options) | how | ({"rng": state} if row.random else {})
    shards = _shards(stored(bank, weights), shard_bytes)
    try:
        if directory.is_file() or (directory.is_dir() and any(directory.iterdir())):
            raise Refusal(f"{directory} already holds something; choose a new folder or remove it first")
        with atomic_folder(directory) as folder, ThreadPoolExecutor(1) as beside:
            _check_room(directory, sum(_bytes(*tensor) for shard in shards for tensor in shard.values()))
            told = beside.submit(card.card, directory.name, bank, weights, method, settings)  # hashes every component
            _write_shards(folder, shards, lambda shard: _parts(bank, shard, merge, row.elementwise))
            _write_config(folder, bank, weights)
            (folder / card.CARD).write_text(told.result(), encoding="utf-8")
            if method == card.LINEAR:
                config = card.for_mergekit(bank, weights, _widest(bank, weights))
                (folder / card.MERGEKIT).write_text(config, encoding="utf-8")
    except OSError as error:
        raise Refusal(f"cannot save to {directory} ({error}); free some space or choose another folder") from error
    return directory


def save_moved(
    ends: Mapping[str, Path], anchor: str | Path, scale: float, directory: str | Path, notes: Mapping[str, str]
) -> Path:
    """Write anchor + scale·(end − start) of the checkpoints `start` and `end`, and beside it `notes`, name → text.

    The result has the end's dtypes, configuration and tokenizer. Raises Refusal where the three do not fit each
    other, OSError where `directory` holds something.
    """
    bank = Bank.load(ends, anchor, residency="streamed")
    names, weights = bank.names, {"end": 1.0}

    def moved(piece: Piece) -> Tensor:
        start, end, base = (
            bank.read(row, piece).to(torch.float32) for row in (*map(names.index, ("start", "end")), -1)
        )
        return base + scale * (end - start)

    shard = stored(bank, weights)
    with atomic_folder(directory) as folder:
        _write_shards(folder, [shard], lambda one: _parts(bank, one, moved, elementwise=True))
        _write_config(folder, bank, weights)
        for name, text in notes.items():
            (folder / name).write_text(text, encoding="utf-8")
    return Path(directory)


def stored(bank: Bank, weights: Weights) -> Shard:
    """Dtype and shape of every tensor of a proxy, the widest dtypes first (a safetensors file stays aligned so)."""
    rows = [bank.rows[row] for row in bank.shares(weights)]
    table = {name: (widest(rows, [name]), slot.shape) for name, slot in bank.slots.items()}
    table |= {name: (values.dtype, tuple(values.shape)) for name, values in bank.integers.items()}
    return dict(sorted(table.items(), key=lambda item: -item[1][0].itemsize))


def write_safetensors(path: Path, shard: Shard, parts: Iterator[Tensor]) -> None:
    """One safetensors file from the parts of its tensors as they come (format: github.com/huggingface/safetensors)."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in shard.items():
        start, end = end, end + _bytes(dtype, shape)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            file.write(part.contiguous().reshape(-1).view(torch.uint8).numpy())


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return math.prod(shape) * dtype.itemsize


def _parts(bank: Bank, shard: Shard, merge: Callable[..., Tensor], elementwise: bool) -> Iterator[Tensor]:
    """The merged tensors of one file in order, by some rows at a time where the method allows it."""
    for name, (dtype, _) in shard.items():
        if name in bank.integers:
            yield bank.integers[name]
        else:
            pieces = bank.slots[name].blocks(READ_BLOCK if elementwise else math.inf)
            yield from (merge(piece).to(dtype) for piece in pieces)


def _shards(tensors: Shard, shard_bytes: int) -> list[Shard]:
    """Fill one file after the other, each with whole tensors and at most `shard_bytes` unless one tensor is larger."""
    shards, filled = [{}], 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + _bytes(*tensor) > shard_bytes:
            shards, filled = [*shards, {}], 0
        shards[-1][name], filled = tensor, filled + _bytes(*tensor)
    return shards


def _write_shards(folder: Path, shards: list[Shard], parts: Callable[[Shard], Iterator[Tensor]]) -> None:
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    files = files if len(shards) > 1 else ["model.safetensors"]
    for file, shard in zip(files, shards, strict=True):
        write_safetensors(folder / file, shard, parts(shard))
    if len(shards) > 1:
        total = sum(_bytes(*tensor) for shard in shards for tensor in shard.values())
        place = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_config(folder: Path, bank: Bank, weights: Weights) -> None:
    """Configuration, generation configuration and tokenizer of a component; the dtype where components differ in it."""
    rows = [bank.rows[row] for row in bank.shares(weights)]
    config = dict(rows[0].config)
    if len({row.config.get("dtype", row.config.get("torch_dtype")) for row in rows}) > 1:
        config |= {"dtype": _widest(bank, weights)}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in BESIDE:
        for path in filter(Path.is_file, rows[0].directory.glob(pattern)):
            shutil.copy(path, folder / path.name)


def _widest(bank: Bank, weights: Weights) -> str:
    """The name of the dtype that holds every tensor of the components that are merged."""
    return str(widest([bank.rows[row] for row in bank.shares(weights)], bank.slots)).removeprefix("torch.")


def _check_room(directory: Path, size: int) -> None:
    """Refuse before anything is written where `size` bytes will not fit."""
    if (free := shutil.disk_usage(directory.parent).free) < size:
        needed = f"{size / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free"
        raise Refusal(f"cannot save to {directory}: {needed}; free some space or choose another folder")
