"""How one model is trained: where it starts, its loss, AdamW on a schedule with warm-up, its record and its folder.

Where a batch does not fit into memory it is read in pieces of rows whose gradients add up (`mean_loss`): the loss is
the same but for rounding. Training that is interrupted goes on from what was kept of it (`resuming`). It happens where
`accelerate` says: on the GPU where there is one, else on the processor; ACCELERATE_USE_CPU=1 asks for the latter.

Source: DeMix (arXiv 2602.00747) 3.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Int64
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from demix_nb.lab.corpora import Corpora
from demix_nb.lab.jobs import RECORD, Job
from demix_nb.lab.resuming import Curve, Part, path_of
from demix_nb.lab.schedules import SCHEDULES, settle
from demix_nb.lab.tracking import followed
from demix_nb.merging import delta
from demix_nb.store import Refusal, atomic_folder

BFLOAT16 = ("avx512_bf16", "amx_bf16")  # what a processor has that is faster in bfloat16 than in float32
LOGITS = 1 << 26  # numbers that a step's logits are at once, unless told; more cost time in being given the memory
WARMUP = 0.03  # share of the steps; paper silent: a fresh AdamW needs a few steps to find its scale
BETAS = (0.9, 0.95)  # paper silent: usual for language models
WEIGHT_DECAY = 0.1  # paper silent: usual for language models
CLIP = 1.0  # gradient norm; paper silent: usual for language models
CURVE_POINTS = 40  # loss-curve points kept in a record
PADDING = -100  # token that is no text, cross_entropy's default

disable_progress_bar()  # models are saved and loaded by the dozen; a bar for each would bury the notebook's own


def place() -> str:
    """Return the class of the device that models are trained on: cpu, cuda or mps."""
    return PartialState().device.type


def learning_rate(job: Job, step: int, steps: int) -> float:
    """Return the rate at `step`: short linear warm-up, then as the job's row of `SCHEDULES` has it."""
    warm = job.warm or max(int(WARMUP * steps), 1)
    if step < warm:
        return job.learning_rate * (step + 1) / warm
    return job.learning_rate * SCHEDULES[job.schedule].rate((step - warm) / max(steps - warm, 1))


def initial(job: Job, corpora: Corpora) -> PreTrainedModel:
    """Return the model a job starts from: the checkpoint `job.start`, or random weights."""
    if job.start:
        return AutoModelForCausalLM.from_pretrained(job.start, dtype=torch.float32)
    torch.manual_seed(job.seed)
    tokenizer = corpora.tokenizer
    return Qwen3ForCausalLM(job.architecture.config(len(tokenizer), tokenizer.eos_token_id))


def next_token_losses(model: PreTrainedModel, batch: Int64[torch.Tensor, "batch length"]) -> torch.Tensor:
    """Return the loss of every predicted token, batch × (length − 1), in nats; 0 where the token is PADDING."""
    batch = batch.to(model.device)
    logits = model(input_ids=batch[:, :-1].clamp(min=0), use_cache=False).logits  # padding follows: nobody sees it
    targets = batch[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


def bfloat16_losses(model: PreTrainedModel, batch: Int64[torch.Tensor, "batch length"]) -> torch.Tensor:
    """Return the losses as `next_token_losses` does, products taken in bfloat16 where that is faster."""
    kind = model.device.type
    fast = torch.cuda.is_bf16_supported() if kind == "cuda" else any(map(torch.cpu.get_capabilities().get, BFLOAT16))
    with torch.autocast(kind, torch.bfloat16, enabled=fast):
        return next_token_losses(model, batch)


def mean_loss(
    model: PreTrainedModel,
    batch: Int64[torch.Tensor, "batch length"],
    rows_at_once: int | None = None,
    losses: Callable = next_token_losses,
) -> Iterator[torch.Tensor]:
    """Yield what the batch's mean loss, nats per token that is text, is the sum of: one part per piece of rows.

    A piece has `rows_at_once` rows, all by default; each part is to be differentiated before the next is asked for, so
    that only one piece's activations are in memory. `losses` as `next_token_losses`.
    """
    tokens = int((batch[:, 1:] != PADDING).sum())
    for piece in batch.split(rows_at_once or len(batch)):
        yield losses(model, piece).sum() / tokens


def rows_that_fit(job: Job, vocabulary: int) -> int:
    """Return how many sequences of a job are read at once so that their logits are at most LOGITS, at least one."""
    return max(LOGITS // (job.architecture.context * vocabulary), 1)


def in_rows(rows_at_once: int | None) -> None:
    """Raise Refusal for pieces without rows."""
    if rows_at_once is not None and rows_at_once < 1:
        raise Refusal(f"rows_at_once is {rows_at_once}; give a number of sequences, at least 1, or None")


def optimise(
    model: PreTrainedModel,
    job: Job,
    steps: int,
    loss_at: Callable[..., Iterable[torch.Tensor]],
    *,
    part: Part | None = None,
) -> list[tuple[int, float]]:
    """Train `model` in place on the job's schedule; return the loss curve as (tokens seen, nats per token).

    `loss_at(model, step)` gives what the step's loss is the sum of (`mean_loss`). It goes on where `part` ended, and is
    followed by the job's tracker where it has a part (`tracking`).
    """
    accelerator = followed(job, part and part.directory)
    optimizer = adamw(model.parameters(), job.learning_rate)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    average, due = SCHEDULES[job.schedule].average(model), SCHEDULES[job.schedule].due(steps)
    done, curve = part.resume(model, optimizer, average) if part else (0, [])
    for step in range(done, steps):
        optimizer.param_groups[0]["lr"] = learning_rate(job, step, steps)
        loss = 0.0
        for summand in loss_at(model, step):
            accelerator.backward(summand)
            loss += summand.item()
        if not math.isfinite(loss):
            raise diverged(job, loss, step)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 in due:
            average.update_parameters(model)
        accelerator.log({"loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]}, step=step + 1)
        if on_curve(step, steps):
            curve.append(((step + 1) * job.rows * job.architecture.context, loss))
        if part:
            part.keep(model, optimizer, step + 1, curve, average)
    accelerator.end_training()
    settle(model, average)
    return curve


def adamw(parameters: Iterable[torch.nn.Parameter], rate: float) -> torch.optim.AdamW:
    """Return the optimiser of all models here."""
    return torch.optim.AdamW(parameters, lr=rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True)


def on_curve(step: int, steps: int) -> bool:
    """Whether a step's loss is recorded: CURVE_POINTS of them evenly, and the last."""
    return step % max(steps // CURVE_POINTS, 1) == 0 or step == steps - 1


def diverged(job: Job, loss: float, step: int) -> Refusal:
    """Return what is said of a loss that is no number."""
    return Refusal(f"loss of model {job.name!r} became {loss} at step {step}; lower learning_rate")


def recorded(
    model: PreTrainedModel,
    job: Job,
    key: str,
    steps: int,
    loss_at: Callable[..., Iterable[torch.Tensor]],
    *,
    directory: Path | None = None,
) -> dict:
    """Train `model` in place and return the record of it; arguments as in `optimise`.

    `directory`: the folder that the model is to become, beside which its part is kept; None keeps none, and what is
    interrupted starts again.
    """
    before = {name: value.clone() for name, value in model.state_dict().items()}
    part, began = Part(directory, key) if directory else None, time.perf_counter()
    curve = optimise(model, job, steps, loss_at, part=part)
    seconds = part.seconds if part else time.perf_counter() - began
    return record_of(job, key, curve, model.cpu(), before) | {"seconds": round(seconds, 3)}


def record_of(job: Job, key: str, curve: Curve, model: PreTrainedModel, before: Mapping[str, torch.Tensor]) -> dict:
    """Return what is recorded of a trained model, but for the seconds; `before`: the weights that it started from."""
    return {
        "key": key,
        "model": job.name,
        "kind": job.kind,
        "mixture": dict(job.mixture),
        "recipe": dict(job.recipe),
        "seed": job.seed,
        "tokens": curve[-1][0],
        "loss": float(np.mean([loss for _, loss in curve[-5:]])),
        "delta": delta(model.state_dict(), before) if job.start else None,
        "learning_rate": job.learning_rate,
        "parameters": model.num_parameters(),
        "curve": curve,
    }


def save(model: PreTrainedModel, tokenizer, record: dict, directory: Path) -> None:
    """Write checkpoint, tokenizer and record beside `directory`, then move them into place in one step.

    What was kept of it while it was trained is removed. Raises Refusal where the folder cannot be written; an older
    model there stays until the new one is whole.
    """
    try:
        with atomic_folder(directory) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            (temporary / RECORD).write_text(json.dumps(record))
            shutil.rmtree(directory, ignore_errors=True)
        path_of(directory).unlink(missing_ok=True)
    except (OSError, SafetensorError) as error:  # of a full disk safetensors has an error of its own
        told = getattr(error, "strerror", None) or error
        raise Refusal(f"cannot write {directory}: {told}; choose a folder you may write to, with room") from error
