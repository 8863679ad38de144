"""Many small models trained at once on one GPU: one program over their stacked weights, each with its own text.

A model of a few hundred thousand parameters leaves a GPU idle: to launch its kernels takes longer than to run them. So
models of one shape are stacked along a new first axis, and `torch.func.vmap` takes the loss of all. What is done number
by number (AdamW) needs no change, and gradients are clipped for each model by itself. Products of a stack round
otherwise than those of one model: losses equal those of single training within 1e-4, weights not bit for bit, and
content keys say so (`where`). Only where a rate is so high that training amplifies every rounding do they part further,
as far as one model does from itself when it is read in pieces of rows.
"""

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch.func import functional_call, vmap
from transformers import PreTrainedModel

from demix_nb.devices import device_class
from demix_nb.lab.batches import batches
from demix_nb.lab.corpora import Corpora
from demix_nb.lab.jobs import CPU, Job, finished
from demix_nb.lab.loop import (
    CLIP,
    adamw,
    diverged,
    initial,
    learning_rate,
    next_token_losses,
    on_curve,
    record_of,
    save,
)
from demix_nb.lab.resuming import Curve, Part
from demix_nb.lab.schedules import SCHEDULES, settle
from demix_nb.store import Refusal, content_hash

STACKING = "cuda"  # the place of training where models are stacked, of those that `loop.place` knows
ATTENTION = "eager"  # every product of which has a form for many at once, on every device
AT_ONCE = 64  # models of a stack at most: more gain little once the GPU is busy, and a kill costs all of a stack


def where(device: str) -> str:
    """Return the place of stacked training as content keys name it."""
    return f"{CPU}, stacked" if device_class(device) == CPU else device_class(device)


def groups(jobs: Sequence[Job], parts: int = 1) -> list[list[Job]]:
    """Return the jobs in stacks: of one shape, rows, steps, rate and schedule, dealt to at least so many parts."""
    alike: dict[tuple, list[Job]] = {}
    for job in jobs:
        alike.setdefault((job.architecture, job.rows, job.steps, job.learning_rate, job.schedule), []).append(job)
    return [
        group[first : first + size]
        for group in alike.values()
        for size in [min(AT_ONCE, -(-len(group) // parts))]
        for first in range(0, len(group), size)
    ]


def train_stacked(jobs: Sequence[Job], directory: Path, corpora: Corpora, *, device: str = STACKING) -> list[dict]:
    """Train the jobs that are not in `directory`/<name> yet, as many at once as fit; return all records, in order.

    Jobs need nothing in common: those that differ in shape, rows, steps, rate or schedule come one stack after another.
    Each becomes an ordinary checkpoint with an ordinary record, whose `stacked` says how many were trained together and
    whose `seconds` is its part of theirs. A stack that was interrupted goes on where it was. Raises Refusal for a loss
    that is no number, naming its model, and where not even one model fits.
    """
    place = where(device)
    there = {job.name: finished(job, job.key(corpora, place), directory / job.name) for job in jobs}
    for group in groups([job for job in jobs if not there[job.name]]):
        count = len(group)
        while group:
            try:
                records = _train(group[:count], directory, corpora, device)
            except torch.OutOfMemoryError:  # in the first step, so that nothing is lost
                records = []
            if not records and count == 1:
                told = f"model {group[0].name!r} does not fit into the memory of {device}"
                raise Refusal(f"{told}; give rows_at_once, so that it is trained in pieces")
            there |= {record["model"]: record for record in records}
            group, count = group[len(records) :], len(records) or count // 2
    return [there[job.name] for job in jobs]


def _train(jobs: Sequence[Job], directory: Path, corpora: Corpora, device: str) -> list[dict]:
    """Train the jobs together and save them."""
    keys = [job.key(corpora, where(device)) for job in jobs]
    opened = {job.start or job.seed: job for job in jobs}  # a base is read once for all that start from it
    opened = {start: initial(job, corpora) for start, job in opened.items()}
    models = [opened[job.start or job.seed] for job in jobs]
    stack, part = stacked(models, device), Part(directory / jobs[0].name, content_hash(keys))
    curve = _optimise(stack, jobs, [list(batches(job, corpora)) for job in jobs], part)
    shared, weights = (
        {"seconds": round(part.seconds / len(jobs), 3), "stacked": len(jobs)},
        dict(stack.named_parameters()),
    )
    records = []
    for place in reversed(range(len(jobs))):  # the first last: the stack's part is beside it, and goes when it is saved
        job, model = jobs[place], copy.deepcopy(models[place])
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.copy_(weights[name][place])
        own = [(tokens, losses[place]) for tokens, losses in curve]
        records.append(record_of(job, keys[place], own, model, models[place].state_dict()) | shared)
        save(model, corpora.tokenizer, records[-1], directory / job.name)
    return records[::-1]


def stacked(models: Sequence[PreTrainedModel], device: str) -> PreTrainedModel:
    """Return a model on the device, every parameter of which has those of all models along a new first axis."""
    stack = copy.deepcopy(models[0]).to(device).train()
    stack.set_attn_implementation(ATTENTION)
    _pass_over_padding(stack)
    each = [dict(model.named_parameters()) for model in models]
    for name, value in stack.named_parameters():
        value.data = torch.stack([own[name].detach() for own in each]).to(device)
    return stack


def _pass_over_padding(stack: PreTrainedModel) -> None:
    """Keep gradients out of what the token `padding_idx` reads: in a stack torch does so for the first model alone."""
    embedding = stack.get_input_embeddings()
    padding, embedding.padding_idx = embedding.padding_idx, None

    def without(_module: torch.nn.Module, given: tuple[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
        return torch.where((given[0] == padding)[..., None], read.detach(), read)

    if padding is not None:
        embedding.register_forward_hook(without)


class _Loss(torch.nn.Module):
    """The mean loss of a model as a module, which is what `functional_call` calls."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Int64[torch.Tensor, "batch length"]) -> torch.Tensor:
        return next_token_losses(self.model, batch).mean()


def _optimise(
    stack: PreTrainedModel,
    jobs: Sequence[Job],
    plans: Sequence[Sequence[Int64[torch.Tensor, "batch length"]]],
    part: Part,
) -> Curve:
    """Train the stack as `loop.optimise` does each of its models; a point of the curve has the losses of all."""
    job, steps = jobs[0], jobs[0].steps
    optimizer = adamw(stack.parameters(), job.learning_rate)
    average, due = SCHEDULES[job.schedule].average(stack), SCHEDULES[job.schedule].due(steps)
    done, curve = part.resume(stack, optimizer, average)
    loss = _Loss(stack)
    weights, losses_of = dict(loss.named_parameters()), vmap(partial(functional_call, loss))
    for step in range(done, steps):
        optimizer.param_groups[0]["lr"] = learning_rate(job, step, steps)
        losses = losses_of(weights, torch.stack([plan[step] for plan in plans]).to(stack.device))
        losses.sum().backward()
        told = losses.tolist()
        if odd := [n for n, value in enumerate(told) if not math.isfinite(value)]:
            raise diverged(jobs[odd[0]], told[odd[0]], step)
        clip([value.grad for value in weights.values()])
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 in due:
            average.update_parameters(stack)
        if on_curve(step, steps):
            curve.append(((step + 1) * job.rows * job.architecture.context, told))
        part.keep(stack, optimizer, step + 1, curve, average)
    settle(stack, average)
    return curve


def clip(gradients: Sequence[Float[torch.Tensor, "model ..."]]) -> None:
    """Scale each model's gradients in place so that their norm is CLIP at most."""
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (CLIP / (norms + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_ has it
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
