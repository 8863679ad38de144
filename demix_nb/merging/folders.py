"""Open Hugging Face checkpoint folders without reading them: the files that `from_pretrained` would read, or a refusal.

A folder is opened to a `Checkpoint`: which file holds which tensor, its shape and dtype. Tensors are read one by one
from the mapped file, which is closed again at once, so no mapping outlives its use and memory stays flat. Whatever
transformers would read otherwise, or not at all, is refused by name: two sets of weights, an index that does not say
what its shards hold, adapters, quantised numbers, and pickles, because opening one can run code.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig

from demix_nb.store import Refusal

# safetensors' names; float8 is left out: it comes with scales, so its numbers cannot be averaged
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8}
DTYPES |= {"U8": torch.uint8, "BOOL": torch.bool}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # transformers reads the first that is there
SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
DISTRIBUTED = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")  # read before SINGLE, since transformers 5
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
ADAPTERS = ("adapter_config.json", "adapter_model.*", "*/adapter_config.json")
ELSEWHERE = ("transformers_weights", "configuration_files", "fusion_config")  # keys by which transformers reads more
PROVENANCE = {"_name_or_path", "transformers_version", "architectures"}  # keys that no causal language model reads
Folders = Mapping[str, str | Path] | Sequence[str | Path]  # by component name, or named by their folders


@dataclass(frozen=True)
class Checkpoint:
    """One opened folder: its configuration and, for every stored tensor, its file, shape and dtype."""

    directory: Path
    config: dict
    files: dict[str, Path]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]

    @property
    def spelling(self) -> str:
        """The configuration as text without where it comes from; 1, 1.0 and true are not the same in it."""
        return json.dumps({key: value for key, value in self.config.items() if key not in PROVENANCE}, sort_keys=True)

    def read(self, name: str, rows: slice | None = None) -> Tensor:
        """One tensor, or only `rows` of its first axis, as a view of the mapped file in its own dtype."""
        with _mapped(self.files[name]) as file:
            return file.get_tensor(name) if rows is None else file.get_slice(name)[rows]


def open_checkpoint(directory: str | Path) -> Checkpoint:
    """Open one folder. Raises Refusal where it is no checkpoint, where transformers would read other weights than those
    of its safetensors, or where these are damaged or quantised.
    """
    directory = Path(directory)
    _refuse_adapters(directory)
    config = read_json(directory / "config.json")
    if config.get("quantization_config") is not None:
        raise Refusal(f"{directory} is quantised; dequantise it and save it as bfloat16 before merging")
    if other := [key for key in ELSEWHERE if config.get(key) is not None]:
        told = f"{directory}: '{other[0]}' in config.json makes transformers read more than this file and its weights"
        raise Refusal(f"{told}; load the model and save it again")
    files, shapes, dtypes = {}, {}, {}
    for path, listed in _weight_files(directory).items():
        with _mapped(path) as file:
            _check_listed(path, listed, set(file.keys()))
            for name in file.keys():
                stored = file.get_slice(name)
                if stored.get_dtype() not in DTYPES:
                    raise Refusal(f"{path}: '{name}' is stored as {stored.get_dtype()}; save it as bfloat16 first")
                files[name], shapes[name] = path, tuple(stored.get_shape())
                dtypes[name] = DTYPES[stored.get_dtype()]
    return Checkpoint(directory, config, files, shapes, dtypes)


def read_config(directory: Path) -> PretrainedConfig:
    """A folder's configuration as transformers understands it; code that lies in the folder is never run."""
    with built_by_transformers(directory):
        return AutoConfig.from_pretrained(directory, trust_remote_code=False)


@contextmanager
def built_by_transformers(directory: Path) -> Iterator[None]:
    """Whatever transformers raises in this block, and from nonsense it raises anything, is a Refusal."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        told = f"{directory}: transformers cannot build its model ({why})"
        raise Refusal(f"{told}; bring a causal language model of an architecture that it has itself") from error


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


def read_json(path: Path) -> dict:
    """The keys and values of a folder's JSON file. Raises Refusal where it is missing or holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        told = f"{path.parent} is no checkpoint: it has no {path.name}; name a folder by save_pretrained"
        raise Refusal(told) from None
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal(f"{path} is not readable JSON ({error}); copy or save the checkpoint again") from None
    if not isinstance(content, dict):
        raise Refusal(f"{path} holds a {type(content).__name__}, not keys and values; save the checkpoint again")
    return content


def _refuse_adapters(directory: Path) -> None:
    """With an adapter in the folder `from_pretrained` gives another model than the weights say, or its base."""
    found = [path for pattern in ADAPTERS for path in sorted(directory.glob(pattern))]
    if not found:
        return
    kind = "LoRA or other"
    if found[0].name == "adapter_config.json":
        kind = {"LORA": "LoRA"}.get(told := str(read_json(found[0]).get("peft_type", kind)), told)
    where = "beside its weights" if (directory / "config.json").exists() else "instead of weights"
    told = f"{directory} holds a {kind} (PEFT) adapter, {found[0].relative_to(directory)}, {where}"
    raise Refusal(f"{told}; merge it into its base by merge_and_unload() and save that in a folder of its own")


def _weight_files(directory: Path) -> dict[Path, set[str] | None]:
    """File → the tensors that an index says it holds, None without an index: what `from_pretrained` would read."""
    single, index = directory / SINGLE, directory / INDEX
    read = {single: None} if single.is_file() else _indexed(index) if index.is_file() else {}
    found = sorted(directory.glob("*.safetensors"))
    stray = [path for path in found if SHARD.fullmatch(path.name) and path not in read]
    stray += [path for path in found if DISTRIBUTED.fullmatch(path.name)]
    if read and (other := [index] * (single in read and index.exists()) + stray):
        told = f"{directory} holds two sets of weights, {min(read).name} and {other[0].name}"
        raise Refusal(f"{told}; transformers reads one of them: remove what is stale, or load and save it again")
    if read:
        return read
    if pickles := [path.name for pattern in PICKLES for path in directory.glob(pattern)]:
        convert = "AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        raise Refusal(f"{directory} holds a pickle ({pickles[0]}); only safetensors are read: convert it by {convert}")
    only = f" (but {found[0].name})" if found else ""
    raise Refusal(f"{directory} is no checkpoint: it has no {SINGLE}{only}; name a folder by save_pretrained")


def _indexed(index: Path) -> dict[Path, set[str]]:
    """Shard → the tensors that an index places in it. Raises Refusal where it is none, or names what is not there."""
    content, shards = read_json(index), {}
    places = content.get("weight_map")
    if not (isinstance(places, dict) and places and isinstance(content.get("metadata"), dict)):
        raise Refusal(f"{index} lacks its 'weight_map' or 'metadata'; save the checkpoint again")
    for tensor, name in places.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise Refusal(f"{index} places '{tensor}' in {name!r}, no file of this folder; save the checkpoint again")
        shards.setdefault(index.parent / name, set()).add(tensor)
    if absent := sorted(path.name for path in shards if not path.is_file()):
        raise Refusal(f"{index.parent} lacks the shard {absent[0]} that its index names; copy the checkpoint again")
    return dict(sorted(shards.items()))


def _check_listed(path: Path, listed: set[str] | None, held: set[str]) -> None:
    """A shard holds what its index says and nothing else: transformers reads all of it, whatever the index says."""
    for name in sorted((listed or held) ^ held):
        fault = "lacks" if name in (listed or held) else "also holds"
        raise Refusal(f"{path} {fault} '{name}', {INDEX} says otherwise; copy or save the checkpoint again")


@contextmanager
def _mapped(path: Path) -> Iterator:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise Refusal(f"{path} is truncated or damaged ({error}); copy or save the checkpoint again") from error
