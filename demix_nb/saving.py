"""Save a proxy as an ordinary Hugging Face checkpoint, whole or not at all.

Tensors are streamed: each is merged, written and forgotten, so a large model is saved with the memory of one tensor.
Everything goes to a hidden folder beside the target, which takes the target's name when it is complete; whatever ends
the work earlier (a full disk, an error, Ctrl-C) leaves nothing behind. The card names components, weights and method.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from demix_nb.checkpoints import DTYPES, folder_hash
from demix_nb.merging import Bank
from demix_nb.methods import METHODS
from demix_nb.tables import atomic_folder

SHARD_BYTES = 5_000_000_000  # per file, as transformers did for years: fits every file system and upload limit
BESIDE = ("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*")
BESIDE += ("vocab.*", "merges.txt", "*.model")
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Stored = dict[str, tuple[torch.dtype, tuple[int, ...]]]  # tensor → dtype, shape


def save(
    bank: Bank,
    weights: Mapping[str, float] | pd.Series,
    directory: str | Path,
    method: str = "linear",
    *,
    rng: np.random.Generator | None = None,
    shard_bytes: int = SHARD_BYTES,
    **how: Any,
) -> Path:
    """Write a proxy (arguments as in `Bank.write`) to a new folder that `from_pretrained` loads, and return the folder.

    Raises ValueError as `Bank.write` does, FileExistsError where the folder holds something, OSError where it cannot be
    written; in every case nothing is left behind.
    """
    directory = Path(directory)
    if directory.is_file() or (directory.exists() and any(directory.iterdir())):
        raise FileExistsError(f"{directory} already holds something; choose a new folder or remove it first")
    state = str(rng.bit_generator.state) if rng else None  # before the masks are drawn, so that the card repeats them
    parts = bank.parts(weights, method, rng=rng, **how)
    settings = dict(METHODS[method].options) | how | ({"rng": state} if METHODS[method].random else {})
    shards = _shards(bank, weights, shard_bytes)
    try:
        with atomic_folder(directory) as folder:
            _check_room(folder, sum(_bytes(*tensor) for shard in shards for tensor in shard.values()))
            with ThreadPoolExecutor(1) as beside:  # the card hashes every component: on another core
                card = beside.submit(_card, directory.name, bank, weights, method, settings)
                _write_shards(folder, shards, parts)
                _write_config(folder, bank, weights)
                (folder / "README.md").write_text(card.result(), encoding="utf-8")
    except OSError as error:
        raise OSError(f"cannot save to {directory} ({error}); free some space or choose another folder") from error
    return directory


def write_safetensors(path: Path, stored: Stored, parts: Iterator[Tensor]) -> None:
    """One safetensors file from the parts of its tensors as they come (format: github.com/huggingface/safetensors)."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in stored.items():
        start, end = end, end + _bytes(dtype, shape)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors start at a multiple of 8
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for part in parts:
            file.write(part.contiguous().reshape(-1).view(torch.uint8).numpy())


def _bytes(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return prod(shape) * dtype.itemsize


def _shards(bank: Bank, weights: Mapping[str, float] | pd.Series, shard_bytes: int) -> list[Stored]:
    """Fill one file after the other, each with whole tensors and at most `shard_bytes` unless one tensor is larger."""
    shards, filled = [{}], 0
    for name, tensor in bank.stored(weights).items():
        if shards[-1] and filled + _bytes(*tensor) > shard_bytes:
            shards, filled = [*shards, {}], 0
        shards[-1][name], filled = tensor, filled + _bytes(*tensor)
    return shards


def _write_shards(folder: Path, shards: list[Stored], parts: Iterator[tuple[str, Tensor]]) -> None:
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    files = files if len(shards) > 1 else ["model.safetensors"]
    place = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    for (file, group), shard in zip(groupby(parts, key=lambda part: place[part[0]]), shards, strict=True):
        write_safetensors(folder / file, shard, (tensor for _, tensor in group))
    if len(shards) > 1:
        total = sum(_bytes(*tensor) for shard in shards for tensor in shard.values())
        index = {"metadata": {"total_size": total}, "weight_map": place}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write_config(folder: Path, bank: Bank, weights: Mapping[str, float] | pd.Series) -> None:
    """Configuration, generation configuration and tokenizer of a component; the dtype where components differ in it."""
    taking_part = [row for row, name in zip(bank.rows, bank.names, strict=False) if weights.get(name, 0.0) != 0]
    config = dict(taking_part[0].config)
    declared = {row.config.get("dtype", row.config.get("torch_dtype")) for row in taking_part}
    if len(declared) > 1:
        widest = reduce(
            torch.promote_types, (dtype for dtype, _ in bank.stored(weights).values() if dtype.is_floating_point)
        )
        config |= {"dtype": str(widest).removeprefix("torch.")}
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for pattern in BESIDE:
        for path in taking_part[0].directory.glob(pattern):
            shutil.copy(path, folder / path.name)


def _card(title: str, bank: Bank, weights: Mapping[str, float] | pd.Series, method: str, settings: Mapping) -> str:
    rows = [
        f"| {name} | {weights[name]:.6g} | `{folder_hash(folder)}` |"
        for name, folder in bank.directories.items()
        if weights.get(name, 0.0) != 0
    ]
    rows += [f"| base | | `{folder_hash(bank.base)}` |"] if bank.base and METHODS[method].updates else []
    listed = ", ".join(f"{name} = {value}" for name, value in settings.items()) or "none"
    return (
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [merge, model-soup]\n---\n"
        f"# {title}\n\nA proxy: the merge of {len(rows)} models below, not trained itself. Made with demix_nb.\n\n"
        f"Method: [{method}]({METHODS[method].paper}); settings: {listed}.\n\n"
        "| component | weight | sha256 of weights, configuration and tokenizer |\n| --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _check_room(place: Path, size: int) -> None:
    """Raise OSError before anything is written where `size` bytes will not fit."""
    if (free := shutil.disk_usage(place).free) < size:
        raise OSError(f"{size / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free")
