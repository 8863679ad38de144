"""Open Hugging Face checkpoint folders without reading them, and say why some cannot be merged with each other.

A folder is opened to a `Checkpoint`: which file holds which tensor, its shape and dtype. Tensors are read one by one
from the mapped file, which is closed again at once, so no mapping outlives its use and memory stays flat. The checks in
`PROBLEMS` answer with one sentence (what is wrong, where, the remedy) or with None: the merge engine raises it, the
doctor lists it, so both refuse the same things. Pickles are refused because opening one can run code.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from demix_nb.store import Refusal, file_hash

# safetensors' names; float8 is left out: it comes with scales, so its numbers cannot be averaged
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
DTYPES |= {"U8": torch.uint8, "BOOL": torch.bool}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# What two mergeable configurations may differ in: where they came from and how they were saved, not what they compute.
INCIDENTAL = {"_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache"}
Folders = Mapping[str, str | Path] | Sequence[str | Path]  # by component name, or named by their folders
VOCABULARY = ("vocab.json", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")


@dataclass(frozen=True)
class Checkpoint:
    """One opened folder: its configuration and, for every stored tensor, its file, shape and dtype."""

    directory: Path
    config: dict
    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """One tensor, or only `rows` of its first axis, as a view of the mapped file in its own dtype."""
        with _mapped(self.files[name]) as file:
            return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]


def open_checkpoint(directory: str | Path) -> Checkpoint:
    """Open one folder. Raises Refusal where it is no checkpoint, is a pickle, is damaged or is quantised."""
    directory = Path(directory)
    config = _read_json(directory / "config.json")
    if "quantization_config" in config:
        raise Refusal(f"{directory} is quantised; dequantise it and save it as bfloat16 before merging")
    files, shapes, dtypes = {}, {}, {}
    for path in _weight_files(directory):
        with _mapped(path) as file:
            for name in file.keys():
                stored = file.get_slice(name)
                if stored.get_dtype() not in DTYPES:
                    raise Refusal(f"{path}: '{name}' is stored as {stored.get_dtype()}; save it as bfloat16 first")
                files[name], shapes[name] = path, tuple(stored.get_shape())
                dtypes[name] = DTYPES[stored.get_dtype()]
    return Checkpoint(directory, config, files, shapes, dtypes)


def by_name(directories: Folders) -> dict[str, Path]:
    """Component name → folder; a plain list is named by its folders. Raises Refusal on a component named twice."""
    if not isinstance(directories, Mapping):
        names = [Path(directory).name for directory in directories]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise Refusal(f"component '{twice[0]}' is named twice; give the folders names of their own")
        directories = dict(zip(names, directories, strict=True))
    seen: dict[Path, str] = {}
    for name, directory in directories.items():
        if (first := seen.setdefault(Path(directory).resolve(), name)) != name:
            raise Refusal(f"components '{first}' and '{name}' are the same folder {directory}; name it once")
    if not directories:
        raise Refusal("no components given; name at least one checkpoint folder")
    return {name: Path(directory) for name, directory in directories.items()}


def all_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity; the extremes tell (ten times faster than asking every number)."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    return all(extreme.isfinite().item() for extreme in torch.aminmax(tensor))


def vocabulary_hash(directory: str | Path) -> str | None:
    """sha256 of what turns text into token ids (vocabulary, merges, added tokens); None where there is no tokenizer."""
    fast = Path(directory) / "tokenizer.json"
    if fast.exists():
        parts = _read_json(fast)
        parts = {key: parts.get(key) for key in ("model", "added_tokens", "normalizer", "pre_tokenizer")}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    slow = [file_hash(Path(directory) / name) for name in VOCABULARY if (Path(directory) / name).exists()]
    return hashlib.sha256("".join(slow).encode()).hexdigest() if slow else None


def architecture_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """Every component must have been built from the same configuration."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        for key in sorted((expected.config.keys() | found.config.keys()) - INCIDENTAL):
            if (a := expected.config.get(key)) != (b := found.config.get(key)):
                return f"'{first}' and '{name}' disagree on config '{key}': {a!r} vs {b!r}; train them from one base"
    return None


def tensor_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """Every component must store the same tensors in the same shapes."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        if missing := sorted(expected.shapes.keys() - found.shapes.keys()):
            return f"'{name}' lacks tensor '{missing[0]}' that '{first}' has; save it again from a complete model"
        if extra := sorted(found.shapes.keys() - expected.shapes.keys()):
            return f"'{name}' has an extra tensor '{extra[0]}' that '{first}' lacks; save both the same way"
        for tensor, shape in expected.shapes.items():
            if shape != found.shapes[tensor]:
                shapes = f"{shape} in '{first}' vs {found.shapes[tensor]} in '{name}'"
                return f"components disagree on '{tensor}': {shapes}; train them from one base (notebook 01)"
    return None


def tokenizer_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """A token id must mean the same text in every component."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        if vocabulary_hash(expected.directory) != vocabulary_hash(found.directory):
            return f"'{first}' and '{name}' have different tokenizers; train the components with one tokenizer"
    return None


PROBLEMS = {"architecture": architecture_problem, "tensors": tensor_problem, "tokenizer": tokenizer_problem}


def open_alike(directories: Mapping[str, Path]) -> dict[str, Checkpoint]:
    """Open all folders; raises Refusal with the first problem that forbids merging them."""
    checkpoints = {name: open_checkpoint(directory) for name, directory in directories.items()}
    for find in PROBLEMS.values():
        if problem := find(checkpoints):
            raise Refusal(problem)
    return checkpoints


def _against_first(checkpoints: Mapping[str, Checkpoint]) -> Iterator[tuple]:
    first, *rest = checkpoints.items()
    return ((first, other) for other in rest)


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        told = f"{path.parent} is no checkpoint: it has no {path.name}; name a folder by save_pretrained"
        raise Refusal(told) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} is not readable JSON ({error}); copy or save the checkpoint again") from None


def _weight_files(directory: Path) -> list[Path]:
    single, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if index.exists():
        files = [directory / name for name in sorted(set(_read_json(index).get("weight_map", {}).values()))]
    elif single.exists():
        files = [single]
    elif pickles := [path.name for pattern in PICKLES for path in directory.glob(pattern)]:
        convert = "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        raise Refusal(f"{directory} holds a pickle ({pickles[0]}); only safetensors are read: convert it by {convert}")
    else:
        raise Refusal(f"{directory} is no checkpoint: it has no model.safetensors; name a folder by save_pretrained")
    if absent := [path.name for path in files if not path.exists()]:
        raise Refusal(f"{directory} lacks the shard {absent[0]} that its index names; copy the checkpoint again")
    return files


@contextmanager
def _mapped(path: Path) -> Iterator:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise Refusal(f"{path} is truncated or damaged ({error}); copy or save the checkpoint again") from error
