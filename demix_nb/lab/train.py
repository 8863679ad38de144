"""Train small language models on recipes: the base, the components, and the references that are the truth.

Every model here is a Qwen3 of a few hundred thousand parameters, small enough that a laptop trains dozens. The base
starts from random weights on general data; everything else continues from the base on (1−β)·general + β·α, with AdamW
and a cosine to 20 % of the peak. The same job gives the same weights, whatever else runs beside it, so a finished
folder is reused where its content key matches, and an interrupted study resumes at the next missing model. Checkpoints
are ordinary Hugging Face folders plus `training.json`, the record. `train_design` is the door a study trains through.

Source: DeMix (arXiv 2602.00747) 2.2 and 3. We differ in scale (lr, batch, tokens), and in that shares are met
exactly (`batches`).
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from demix_nb.lab.batches import batches
from demix_nb.lab.corpora import Corpora
from demix_nb.lab.corpora import load as load_corpora
from demix_nb.lab.jobs import RECORD, Architecture, Job, Setting, read_record
from demix_nb.merging import delta
from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out
from demix_nb.store import Refusal, atomic_folder

FINAL_LR = 0.2  # cosine ends at 20 % of the peak, DeMix 3
WARMUP = 0.03  # share of the steps; paper silent: a fresh AdamW needs a few steps to find its scale
BETAS = (0.9, 0.95)  # paper silent: usual for language models
WEIGHT_DECAY = 0.1  # paper silent: usual for language models
CLIP = 1.0  # gradient norm; paper silent: usual for language models
CURVE_POINTS = 40  # loss-curve points kept in a record
PADDING = -100  # token that is no text, cross_entropy's default
CHANGES = ("beta", "learning_rate", "schedule", "base", "architecture")  # of a setting, for one design

disable_progress_bar()  # models are saved and loaded by the dozen; a bar for each would bury the notebook's own


# --- the doors ------------------------------------------------------------------------------------------------------


def train_base(run: str | Path, setting: Setting, *, tokens: int, learning_rate: float, seed: int = 0) -> pd.DataFrame:
    """Train `setting.base` from random weights on the general candidate of the run's corpora, unless it is there.

    `tokens` and the peak `learning_rate` are its own; shape and batch are the setting's. Returns its row of `models`.
    Raises Refusal for what is out of range and for a general candidate without corpora.
    """
    corpora, recipe = load_corpora(Path(run) / "corpora"), {setting.general: 1.0}
    job = Job(
        setting.base.name, "base", recipe, tokens, learning_rate, setting.architecture, seed=seed, batch=setting.batch
    )
    checked([job], corpora)
    return records_table([train(job, setting.base, corpora)])


def train_design(
    study, design: pd.DataFrame, role: str, *, seed: int | pd.Series = 0, budget: float = 1.0, **changes
) -> tuple[dict[str, Path], pd.DataFrame]:
    """Train a model on the recipe of every mixture of `design`; return mixture → folder, and the `models` table.

    `study` has `folder` (the run), `n_jobs` and `progress`. `seed` is one for all or a Series, mixture → seed. Models
    lie in the run's `models/<role>-<mixture>`, or `models/<role>-<budget>-<mixture>` where `budget` is another share of
    the setting's tokens than 1; one that is there already, trained on the very same job, is not trained again.
    `changes` to the run's setting hold for this design alone: CHANGES, and `corpora` (or their folder) other than the
    run's. A changed `base` brings its architecture.

    Raises Refusal, before anything is trained, for an unknown change, candidate or schedule, for a beta, budget or rate
    out of range, and where base and architecture differ.
    """
    corpora = changes.pop("corpora", study.folder / "corpora")
    corpora = corpora if isinstance(corpora, Corpora) else load_corpora(corpora)
    setting = changed(Setting.read(study.folder), changes)
    prefix, mixtures = prefixed(role, budget), validate(design, corpora.candidates)
    seeds = seed if isinstance(seed, pd.Series) else pd.Series(seed, index=mixtures.index)
    jobs = {
        name: setting.job(f"{prefix}-{name}", role, row, seed=int(seeds[name]), budget=budget)
        for name, row in mixtures.iterrows()
    }
    models = study.folder / "models"
    training = train_all(list(jobs.values()), models, corpora, n_jobs=study.n_jobs)
    records = list(study.progress(training, total=len(jobs), desc=prefix))
    return {name: models / job.name for name, job in jobs.items()}, records_table(records)


def prefixed(role: str, budget: float) -> str:
    """Return what the folders of a role begin with: the role, and the budget where it is not the full one."""
    return role if budget == 1 else f"{role}-{budget:g}"


def changed(setting: Setting, changes: Mapping[str, object]) -> Setting:
    """Return the setting with CHANGES; raises Refusal for others, and as `Setting` does."""
    if unknown := [name for name in changes if name not in CHANGES]:
        raise Refusal(f"cannot train with another {unknown[0]!r}; what may be changed is {', '.join(CHANGES)}, corpora")
    if "base" in changes:
        changes = {"architecture": Architecture.of(changes["base"])} | dict(changes)
    return replace(setting, **changes)


def train_all(jobs: Sequence[Job], directory: Path, corpora: Corpora, *, n_jobs: int = 2) -> Iterator[dict]:
    """Train the jobs side by side into `directory`/<name>; yield each record as it is done, finished ones first.

    A model already trained from the same job is not trained again. One thread per worker; the order of the records, but
    not the models, depends on timing. Raises Refusal as `checked`.
    """
    checked(jobs, corpora)
    missing: list[tuple] = []
    for job in jobs:
        if record := finished(job, job.key(corpora), directory / job.name):
            yield record
        else:
            missing.append((job, directory / job.name, corpora.directory, corpora.key))
    yield from fan_out(_train, missing, n_jobs=n_jobs)


def checked(jobs: Sequence[Job], corpora: Corpora) -> None:
    """Raise Refusal when two jobs share a name, name a candidate without text, or do not fit the model they start from.

    Two of one name would overwrite each other.
    """
    names = [job.name for job in jobs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise Refusal(f"two jobs are called {sorted(repeated)[0]!r}; give every model its own name")
    for job in jobs:
        if unknown := [name for name in job.recipe if name not in corpora.candidates]:
            raise Refusal(f"no text of candidate {unknown[0]!r}; the candidates are {', '.join(corpora.candidates)}")
    shapes = {(job.start, job.architecture): Architecture.of(job.start) for job in jobs if job.start}
    for (start, asked), found in shapes.items():
        if asked != found:
            raise Refusal(f"{start} is {found}, not {asked}; give a base of that architecture (`train_base`)")


def _train(job: Job, directory: Path, corpora_directory: Path, key: str) -> dict:
    return train(job, directory, _corpora(corpora_directory, key))


@lru_cache(maxsize=2)
def _corpora(directory: Path, key: str) -> Corpora:
    """Open corpora once per worker, and again when their content has become another (`key`)."""
    return load_corpora(directory)


def train(job: Job, directory: Path, corpora: Corpora) -> dict:
    """Train one model unless `directory` already holds it; return its record."""
    key = job.key(corpora)
    if record := finished(job, key, directory):
        return record
    model, plan = initial(job, corpora), list(batches(job, corpora))
    record = recorded(model, job, key, len(plan), lambda model, step: next_token_losses(model, plan[step]).mean())
    save(model, corpora.tokenizer, record, directory)
    return record


def finished(job: Job, key: str, directory: Path) -> dict | None:
    """Return the record, under the job's name and role, if the model of this content key lies in `directory`."""
    record = read_record(directory) if (directory / RECORD).is_file() else {}
    return record | {"model": job.name, "kind": job.kind} if record.get("key") == key else None


# --- the training loop ----------------------------------------------------------------------------------------------


def learning_rate(job: Job, step: int, steps: int, warm: int | None = None) -> float:
    """Return the rate at `step`: short linear warm-up, then cosine to 20 % (DeMix 3) or constant (MergeMix).

    `warm`: steps of warm-up; None is WARMUP of all, at least one.
    """
    warm = warm or max(int(WARMUP * steps), 1)
    if step < warm:
        return job.learning_rate * (step + 1) / warm
    if job.schedule == "constant":
        return job.learning_rate
    progress = (step - warm) / max(steps - warm, 1)
    return job.learning_rate * (FINAL_LR + (1 - FINAL_LR) * 0.5 * (1 + math.cos(math.pi * progress)))


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


def optimise(
    model: PreTrainedModel, job: Job, steps: int, loss_at: Callable, warm: int | None = None
) -> list[tuple[int, float]]:
    """Train `model` in place on `loss_at(model, step)`; return the loss curve as (tokens seen, nats per token)."""
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=job.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    curve, every = [], max(steps // CURVE_POINTS, 1)
    tokens = job.rows * job.architecture.context
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(job, step, steps, warm)
        loss = loss_at(model, step)
        if not torch.isfinite(loss):
            raise Refusal(f"loss of model {job.name!r} became {loss.item()} at step {step}; lower learning_rate")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0 or step == steps - 1:
            curve.append(((step + 1) * tokens, loss.item()))
    return curve


def recorded(
    model: PreTrainedModel, job: Job, key: str, steps: int, loss_at: Callable, warm: int | None = None
) -> dict:
    """Train `model` in place and return the record of it; `warm` as in `learning_rate`."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    began = time.perf_counter()
    curve = optimise(model, job, steps, loss_at, warm)
    return {
        "key": key,
        "model": job.name,
        "kind": job.kind,
        "mixture": dict(job.mixture),
        "recipe": dict(job.recipe),
        "seed": job.seed,
        "tokens": curve[-1][0],
        "seconds": round(time.perf_counter() - began, 3),
        "loss": float(np.mean([loss for _, loss in curve[-5:]])),
        "delta": delta(model.cpu().state_dict(), before) if job.start else None,
        "learning_rate": job.learning_rate,
        "parameters": model.num_parameters(),
        "curve": curve,
    }


def save(model: PreTrainedModel, tokenizer, record: dict, directory: Path) -> None:
    """Write checkpoint, tokenizer and record beside `directory`, then move them into place in one step.

    Raises Refusal where the folder cannot be written; an older model there stays until the new one is whole.
    """
    try:
        with atomic_folder(directory) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            (temporary / RECORD).write_text(json.dumps(record))
            shutil.rmtree(directory, ignore_errors=True)
    except (OSError, SafetensorError) as error:  # of a full disk safetensors has an error of its own
        told = getattr(error, "strerror", None) or error
        raise Refusal(f"cannot write {directory}: {told}; choose a folder you may write to, with room") from error


def records_table(records: Iterable[dict]) -> pd.DataFrame:
    """Return the training records as a `models` table: kind, seed, tokens, seconds, loss (nats per token), delta, …"""
    columns = ["kind", "seed", "tokens", "seconds", "loss", "delta", "learning_rate", "parameters", "key"]
    return pd.DataFrame(list(records)).set_index("model")[columns].astype({"delta": float}).sort_index()


def curves(folders: Mapping[str, str | Path]) -> pd.DataFrame:
    """Return the loss curves of trained models, name → folder: index `model`, columns tokens seen, loss (nats)."""
    rows = [(name, *point) for name, folder in folders.items() for point in read_record(folder)["curve"]]
    return pd.DataFrame(rows, columns=["model", "tokens", "loss"]).set_index("model")
