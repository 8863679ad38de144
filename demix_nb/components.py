"""Train one small language model on one recipe: the base, the components, and the references that are the truth.

Every model here is a Qwen3 of a few hundred thousand parameters, small enough that a laptop trains dozens. The base
starts from random weights on general data; everything else continues from the base on (1−β)·general + β·α, with AdamW
and a cosine to 20 % of the peak. A run is determined by its `Job`: the same job gives the same weights, whatever else
runs beside it, so a finished folder is reused only when its content key matches and an interrupted study resumes at the
next missing model. Checkpoints are ordinary Hugging Face folders plus `training.json`, the record.

Source: DeMix (arXiv 2602.00747) 2.2 and 3. We differ in scale (lr, batch, tokens), and shares are met exactly:
sequences are apportioned to domains by largest remainder instead of drawn at random, which removes seed noise.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from jaxtyping import Int64, Integer
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM
from transformers.utils.logging import disable_progress_bar

from demix_nb.corpora import Corpora
from demix_nb.corpora import load as load_corpora
from demix_nb.merging import delta
from demix_nb.mixtures import recipe
from demix_nb.parallel import fan_out
from demix_nb.tables import atomic, atomic_folder, content_hash

RECORD = "training.json"
FINAL_LR = 0.2  # cosine ends at 20 % of the peak, DeMix 3
WARMUP = 0.03  # share of the steps; paper silent: a fresh AdamW needs a few steps to find its scale
BETAS = (0.9, 0.95)  # paper silent: usual for language models
WEIGHT_DECAY = 0.1  # paper silent: usual for language models
CLIP = 1.0  # gradient norm; paper silent: usual for language models
CURVE_POINTS = 40  # loss-curve points kept in a record

disable_progress_bar()  # models are saved and loaded by the dozen; a bar for each would bury the notebook's own


class TrainingError(RuntimeError):
    """A model that cannot be trained or loaded; the message names it."""


@dataclass(frozen=True)
class Architecture:
    """A scaled-down Qwen3; sizes in units of the hidden state, `context` in tokens."""

    hidden: int = 64
    layers: int = 2
    head_dim: int = 32
    context: int = 256

    def config(self, vocab_size: int, end_of_text: int) -> Qwen3Config:
        heads = max(self.hidden // self.head_dim, 1)
        return Qwen3Config(
            vocab_size=vocab_size,
            hidden_size=self.hidden,
            intermediate_size=3 * self.hidden,  # ratio of Qwen3-1.7B
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=max(heads // 2, 1),
            head_dim=self.head_dim,
            max_position_embeddings=self.context,
            tie_word_embeddings=True,
            bos_token_id=end_of_text,
            eos_token_id=end_of_text,
            pad_token_id=end_of_text,
        )


@dataclass(frozen=True)
class Job:
    """Everything that decides a model: its recipe (token shares), tokens, peak learning rate, seed and start."""

    name: str
    kind: str  # base, component, reference, replicate, trained, final
    recipe: Mapping[str, float]
    tokens: int
    learning_rate: float
    architecture: Architecture
    seed: int = 0
    start: Path | None = None
    batch: int = 2048  # tokens per step
    schedule: str = "cosine"  # or "constant", MergeMix's
    mixture: Mapping[str, float] = field(default_factory=dict)

    def key(self, corpora_key: str) -> str:
        """Return the content key: equal keys give equal weights."""
        start = read_record(self.start)["key"] if self.start else None
        described = asdict(self) | {"name": None, "kind": None, "mixture": None, "start": start, "corpora": corpora_key}
        return content_hash(described)


@dataclass(frozen=True)
class Setting:
    """What all continued models of a run share; notebook 01 decides it, later notebooks read it."""

    architecture: Architecture
    general: str
    beta: float
    tokens: int  # the full budget of a component or reference
    learning_rate: float
    batch: int
    schedule: str
    base: Path
    suites: tuple[str, ...]  # what every model is scored on
    limit: int  # items per benchmark

    def job(
        self, name: str, kind: str, mixture: pd.Series, *, seed: int = 0, share: float = 1.0, beta: float | None = None
    ) -> Job:
        """Return the job that continues the base on the mixture's recipe for `share` of the token budget."""
        blend = recipe(mixture, self.general, self.beta if beta is None else beta)
        return Job(
            name=name,
            kind=kind,
            recipe=blend.to_dict(),
            mixture=mixture.to_dict(),
            tokens=round(self.tokens * share),
            learning_rate=self.learning_rate,
            architecture=self.architecture,
            seed=seed,
            start=self.base,
            batch=self.batch,
            schedule=self.schedule,
        )

    def write(self, path: Path) -> None:
        """Store the setting as JSON, atomically; a base beside it by its relative path, so that a run can be moved."""
        base, home = Path(self.base).resolve(), Path(path).resolve().parent
        stored = asdict(self) | {"base": str(base.relative_to(home) if base.is_relative_to(home) else base)}
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(stored, indent=1))

    @classmethod
    def read(cls, path: Path) -> "Setting":
        """Read a setting; raises TrainingError when notebook 01 has not run."""
        if not Path(path).is_file():
            raise TrainingError(f"no {path}; run notebook 01 first (`demix-nb run components`)")
        stored = json.loads(Path(path).read_text())
        architecture = Architecture(**stored.pop("architecture"))
        decoded = {
            "architecture": architecture,
            "base": Path(path).parent / stored["base"],
            "suites": tuple(stored["suites"]),
        }
        return cls(**stored | decoded)


def read_record(directory: Path) -> dict:
    """Return a checkpoint's training record; raises TrainingError when the folder is none of ours."""
    path = Path(directory) / RECORD
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise TrainingError(f"{directory} has no {RECORD}; train it first (notebook 01)") from error
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path} is damaged; delete the folder and run again") from error


def finished(job: Job, directory: Path, corpora_key: str) -> bool:
    """Return whether this very job's model already lies in `directory`."""
    return (directory / RECORD).is_file() and read_record(directory)["key"] == job.key(corpora_key)


def apportion(recipe: Mapping[str, float], sequences: int) -> dict[str, int]:
    """Return how many of `sequences` each domain gets, by largest remainder, so that shares are met exactly."""
    shares = {name: share for name, share in recipe.items() if share > 0}
    if not shares or abs(sum(shares.values()) - 1) > 1e-6 or min(recipe.values()) < 0:
        raise TrainingError(f"recipe {dict(recipe)} is not a set of shares that sum to 1")
    counts = {name: int(share * sequences) for name, share in shares.items()}
    by_remainder = sorted(shares, key=lambda name: counts[name] - shares[name] * sequences)
    for name in by_remainder[: sequences - sum(counts.values())]:
        counts[name] += 1
    return counts


def sequences_of(
    tokens: Integer[np.ndarray, " n"], count: int, context: int, *, rng: np.random.Generator
) -> Int64[np.ndarray, "count length"]:
    """Return `count` blocks of context + 1 tokens: every block once in random order, then again in another order."""
    blocks = (len(tokens) - 1) // context
    if blocks < 1:
        raise TrainingError(f"{len(tokens)} tokens are fewer than one sequence of {context}; give the domain more text")
    epochs = -(-count // blocks)
    order = np.concatenate([rng.permutation(blocks) for _ in range(epochs)])[:count]
    return np.asarray(tokens)[order[:, None] * context + np.arange(context + 1)].astype(np.int64)


def extent(job: Job) -> tuple[int, int]:
    """Return the rows of a batch and the steps of a job."""
    rows = max(job.batch // job.architecture.context, 1)
    return rows, max(round(job.tokens / (rows * job.architecture.context)), 1)


def batches(job: Job, corpora: Corpora) -> Iterator[Int64[torch.Tensor, "batch length"]]:
    """Yield the training batches of `job`, sequences of all domains shuffled together."""
    rows, steps = extent(job)
    counts = apportion(job.recipe, steps * rows)
    # one stream per domain: two recipes see the same text in the same order as far as their shares overlap
    streams = np.random.default_rng(job.seed).spawn(len(corpora.domains) + 1)
    data = np.concatenate(
        [
            sequences_of(corpora.train[name], counts[name], job.architecture.context, rng=streams[i])
            for i, name in enumerate(corpora.domains)
            if counts.get(name)
        ]
    )
    order = streams[-1].permutation(len(data))
    for step in range(steps):
        yield torch.from_numpy(data[order[step * rows : (step + 1) * rows]])


def learning_rate(job: Job, step: int, steps: int) -> float:
    """Return the rate at `step`: short linear warm-up, then cosine to 20 % (DeMix 3) or constant (MergeMix)."""
    warm = max(int(WARMUP * steps), 1)
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
    """Return the loss of every predicted token, batch × (length − 1), in nats."""
    batch = batch.to(model.device)
    logits = model(input_ids=batch[:, :-1], use_cache=False).logits
    targets = batch[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return losses.view(targets.shape)


def optimise(model: PreTrainedModel, job: Job, steps: int, loss_at: Callable) -> list[tuple[int, float]]:
    """Train `model` in place on `loss_at(model, step)`; return the loss curve as (tokens seen, nats per token)."""
    accelerator = Accelerator()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=job.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    curve, every = [], max(steps // CURVE_POINTS, 1)
    tokens = extent(job)[0] * job.architecture.context
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(job, step, steps)
        loss = loss_at(model, step)
        if not torch.isfinite(loss):
            raise TrainingError(f"loss of model {job.name!r} became {loss.item()} at step {step}; lower learning_rate")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        if step % every == 0 or step == steps - 1:
            curve.append(((step + 1) * tokens, loss.item()))
    return curve


def train(job: Job, directory: Path, corpora_directory: Path) -> dict:
    """Train one model unless `directory` already holds it; return its record."""
    corpora = _corpora(Path(corpora_directory))
    key = job.key(corpora.key)
    if finished(job, directory, corpora.key):
        return read_record(directory)
    model, plan = initial(job, corpora), list(batches(job, corpora))
    record = recorded(model, job, key, len(plan), lambda model, step: next_token_losses(model, plan[step]).mean())
    save(model, corpora.tokenizer, record, directory)
    return record


def recorded(model: PreTrainedModel, job: Job, key: str, steps: int, loss_at: Callable) -> dict:
    """Train `model` in place and return the record of it."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    began = time.perf_counter()
    curve = optimise(model, job, steps, loss_at)
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


@lru_cache(maxsize=2)
def _corpora(directory: Path) -> Corpora:
    return load_corpora(directory)


def save(model: PreTrainedModel, tokenizer, record: dict, directory: Path) -> None:
    """Write checkpoint, tokenizer and record beside `directory`, then move them into place in one step.

    Raises TrainingError where the folder cannot be written; an older model there stays until the new one is whole.
    """
    try:
        with atomic_folder(directory) as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            (temporary / RECORD).write_text(json.dumps(record))
            shutil.rmtree(directory, ignore_errors=True)
    except OSError as error:
        raise TrainingError(
            f"cannot write {directory}: {error.strerror or error}; choose a folder you may write to"
        ) from error


def train_all(jobs: Sequence[Job], directory: Path, corpora: Corpora, *, n_jobs: int = 2) -> Iterator[dict]:
    """Train the jobs side by side into `directory`/<name>; yield each record as it is done, finished ones first.

    A model already trained from the same job is not trained again. One thread per worker; the order of the records, but
    not the models, depends on timing.
    """
    missing: list[tuple] = []
    for job in unique(jobs):
        if finished(job, directory / job.name, corpora.key):
            yield read_record(directory / job.name)
        else:
            missing.append((job, directory / job.name, corpora.directory))
    yield from fan_out(train, missing, n_jobs=n_jobs)


def records_table(records: Iterable[dict]) -> pd.DataFrame:
    """Return the training records as a `models` table: kind, seed, tokens, seconds, loss (nats per token), delta."""
    columns = ["kind", "seed", "tokens", "seconds", "loss", "delta", "learning_rate", "parameters", "key"]
    frame = pd.DataFrame(list(records)).set_index("model")[columns]
    return frame.sort_index().rename_axis("model")


def unique(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs as a list; raises TrainingError when two share a name (one would overwrite the other)."""
    jobs = list(jobs)
    names = [job.name for job in jobs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise TrainingError(f"two jobs are called {sorted(repeated)[0]!r}; give every model its own name")
    return jobs
