"""Train small language models on recipes: the base, the components, and the references that are the truth.

Every model here is a Qwen3 of a few hundred thousand parameters, small enough that a laptop trains dozens. The base
starts from random weights on general data and, as a crawl holds it, some of everything; all else continues from it on
(1−β)·general + β·α, with AdamW and a cosine to 20 % of the peak (`loop`). The same job gives the same weights, whatever
else runs beside it, so a finished folder is reused where its content key matches, and an interrupted study goes on in
the midst of the model at which it was. On a GPU models of one shape are trained together (`stacked`). Checkpoints are
ordinary Hugging Face folders plus `training.json`, the record. `train_design` is the door a study trains through.

`rows_at_once`, here and below, is a setting of the machine and not of the model: how many sequences of a step fit into
its memory together, None for as many as `loop.LOGITS` has room for. In pieces a model is the same but for rounding, and
keeps its content key.

Source: DeMix (arXiv 2602.00747) 2.2 and 3. We differ in scale (lr, batch, tokens), and in that shares are met
exactly (`batches`).
"""

import math
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from demix_nb import devices
from demix_nb.cluster import Cluster
from demix_nb.lab import tokenizer as tokenizers
from demix_nb.lab.batches import batches
from demix_nb.lab.corpora import Corpora
from demix_nb.lab.corpora import load as load_corpora
from demix_nb.lab.jobs import RECORD, Architecture, Job, Setting, finished, like_base, read_record
from demix_nb.lab.loop import (
    bfloat16_losses,
    in_rows,
    initial,
    mean_loss,
    next_token_losses,
    place,
    record_of,
    recorded,
    rows_that_fit,
    save,
)
from demix_nb.lab.real_base import pretrained
from demix_nb.lab.repetition import matched
from demix_nb.lab.stacked import STACKING, groups, train_stacked
from demix_nb.mixtures import natural, validate
from demix_nb.mixtures import recipe as recipe_of
from demix_nb.parallel import fan_out
from demix_nb.resident import wait_for
from demix_nb.store import Refusal, content_hash, folder_hash

CHANGES = (  # of a setting, for one design
    "beta",
    "learning_rate",
    "schedule",
    "base",
    "architecture",
    "repetition",
    "target",
)


def train_base(
    run: str | Path,
    setting: Setting,
    *,
    tokens: int,
    learning_rate: float,
    everything: float = 0.0,
    start: str | Path | None = None,
    seed: int = 0,
    rows_at_once: int | None = None,
) -> pd.DataFrame:
    """Train `setting.base` from random weights on general data and a bit of everything, unless it is there.

    `everything`: the share of its tokens that all candidates of the run's corpora have, in proportion to what there is
    of each; the rest is the general candidate's. `tokens` and the peak `learning_rate` are its own; shape and batch are
    the setting's. `start`: the checkpoint, or a word of PRETRAINED, that is taken as the base; then nothing is trained.
    Returns its row of `models`. Raises Refusal for what is out of range, for a general candidate without corpora, and
    for a `start` of another shape or with another tokenizer than theirs.
    """
    corpora = load_corpora(Path(run) / "corpora")
    if setting.general not in corpora.candidates:
        raise Refusal(f"no text of candidate {setting.general!r}; the candidates are {', '.join(corpora.candidates)}")
    if start is not None:
        return records_table([taken(pretrained(start), setting, corpora)])
    recipe = recipe_of(natural(corpora.table["tokens"]), setting.general, everything).to_dict()
    how = {"seed": seed, "batch": setting.batch, "log_with": setting.log_with}
    job = Job(setting.base.name, "base", recipe, tokens, learning_rate, setting.architecture, **how)
    checked([job], corpora, rows_at_once)
    return records_table([train(job, setting.base, corpora, rows_at_once)])


def taken(start: Path, setting: Setting, corpora: Corpora) -> dict:
    """Make `setting.base` a copy of the checkpoint `start`, unless it is one; return its record, of nothing trained.

    It has the corpora's tokenizer, which must number texts as its own does. Raises Refusal as `train_base`.
    """
    if not setting.architecture.fits(found := Architecture.of(start)):
        raise Refusal(f"{start} is {found}, not {setting.architecture}; give its sizes, and a context it has")
    own = tokenizers.kept(start, len(corpora.tokenizer)).to_str()
    if (corpora.directory / "tokenizer" / tokenizers.FILE).read_text("utf-8") != own:
        raise Refusal(f"the tokenizer of {start} is not that of the corpora; build them with tokenizer={start}")
    job = Job(setting.base.name, "base", {setting.general: 1.0}, 1, setting.learning_rate, setting.architecture)
    key = content_hash(folder_hash(start), corpora.behind([]))
    if record := finished(job, key, setting.base):
        return record
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    record = record_of(job, key, [(0, math.nan)], model, {}) | {"seconds": 0.0, "recipe": {}, "curve": []}
    save(model, corpora.tokenizer, record, setting.base)
    return record


def another_base(study, seed: int) -> Path:
    """Return the folder of the run's base, trained once more with this seed; its own with the seed that it has.

    Raises Refusal for a base that others trained, of which there is no second.
    """
    setting = Setting.read(study.folder)
    record = read_record(setting.base)
    if seed == record["seed"]:
        return setting.base
    if not record["recipe"]:
        raise Refusal(f"the base {setting.base} was not trained here, so there is no other seed of it; take one base")
    directory = setting.base.with_name(f"base-{seed}")
    train(like_base(setting, directory.name, seed=seed), directory, load_corpora(study.folder / "corpora"))
    return directory


def train_design(
    study,
    design: pd.DataFrame,
    role: str,
    *,
    seed: int | pd.Series = 0,
    budget: float = 1.0,
    rows_at_once: int | None = None,
    **changes,
) -> tuple[dict[str, Path], pd.DataFrame]:
    """Train a model on the recipe of every mixture of `design`; return mixture → folder, and the `models` table.

    `study` has `folder` (the run), `n_jobs`, `engine` and `progress`. `seed` is one for all, or mixture → seed. Models
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
    if setting.repetition:
        target = setting.target or setting.tokens
        jobs = {name: matched(job, corpora, target=target) for name, job in jobs.items()}
    models = study.folder / "models"
    how = {"n_jobs": study.n_jobs, "rows_at_once": rows_at_once, "engine": study.engine}
    training = train_all(list(jobs.values()), models.absolute(), corpora, **how)
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


def train_all(
    jobs: Sequence[Job],
    directory: Path,
    corpora: Corpora,
    *,
    n_jobs: int = 2,
    rows_at_once: int | None = None,
    engine: Cluster | None = None,
) -> Iterator[dict]:
    """Train the jobs side by side into `directory`/<name>; yield each record as it is done, finished ones first.

    A model already trained from the same job is not trained again. One thread per worker; the order of the records, but
    not the models, depends on timing. Where training is on a GPU of CUDA, jobs of one shape are trained together, a
    worker per GPU, unless `rows_at_once` or a tracker is given. An `engine` trains on its workers, a model a task or a
    stack a GPU. Raises Refusal as `checked`.
    """
    checked(jobs, corpora, rows_at_once)
    where, missing = place() if engine is None else engine.place, []
    for job in jobs:
        if record := finished(job, job.key(corpora, where), directory / job.name):
            yield record
        else:
            missing.append(job)
    text, alone = (corpora.directory.absolute(), corpora.key), any(job.bfloat16 or job.log_with for job in jobs)
    stacks = where == STACKING and rows_at_once is None and not alone  # a real model fills a GPU by itself
    if stacks:
        gpus = devices.workers(0, where) if engine is None else engine.size
        calls = [(group, directory, *text, gpus if engine is None else 1) for group in groups(missing, gpus)]
        done = fan_out(_train_stacked, calls, n_jobs=gpus, engine=engine, gpu=True)
    else:
        calls = [(job, directory / job.name, *text, rows_at_once, where) for job in missing]
        done = fan_out(_train, calls, n_jobs=n_jobs, engine=engine, gpu=where == STACKING)
    for records in done:
        for record in records if stacks else [records]:
            if engine is not None:
                folder = directory / record["model"]
                wait_for((folder / RECORD).is_file, f"does not see {folder}, where a worker says that it is")
            yield record


def checked(jobs: Sequence[Job], corpora: Corpora, rows_at_once: int | None = None) -> None:
    """Raise Refusal when two jobs share a name, name a candidate without text, or do not fit the model they start from.

    Two of one name would overwrite each other. Pieces without rows are refused too.
    """
    in_rows(rows_at_once)
    names = [job.name for job in jobs]
    if repeated := {name for name in names if names.count(name) > 1}:
        raise Refusal(f"two jobs are called {sorted(repeated)[0]!r}; give every model its own name")
    for job in jobs:
        if unknown := [name for name in job.recipe if name not in corpora.candidates]:
            raise Refusal(f"no text of candidate {unknown[0]!r}; the candidates are {', '.join(corpora.candidates)}")
    shapes = {(job.start, job.architecture): Architecture.of(job.start) for job in jobs if job.start}
    for (start, asked), found in shapes.items():
        if not asked.fits(found):
            raise Refusal(f"{start} is {found}, not {asked}; give a base of that architecture (`train_base`)")


def _train(job: Job, directory: Path, corpora_directory: Path, key: str, rows_at_once: int | None, where: str) -> dict:
    if place() != where:
        told = f"{socket.gethostname()} trains on {place()}, the driver counts on {where}"
        raise Refusal(f"{told}; set ACCELERATE_USE_CPU=1 there, or let `engine` be of workers like the driver")
    return train(job, directory, _corpora(corpora_directory, key), rows_at_once)


def _train_stacked(jobs: Sequence[Job], directory: Path, corpora_directory: Path, key: str, gpus: int) -> list[dict]:
    device = devices.of_worker(STACKING, gpus)
    return train_stacked(jobs, directory, _corpora(corpora_directory, key), device=device)


@lru_cache(maxsize=2)
def _corpora(directory: Path, key: str) -> Corpora:
    """Open corpora once per worker, and again when their content has become another (`key`)."""
    return load_corpora(directory)


def train(job: Job, directory: Path, corpora: Corpora, rows_at_once: int | None = None) -> dict:
    """Train one model unless `directory` already holds it, from where it was interrupted; return its record."""
    key = job.key(corpora, place())
    if record := finished(job, key, directory):
        return record
    model, plan = initial(job, corpora), list(batches(job, corpora))
    rows = rows_at_once or rows_that_fit(job, len(corpora.tokenizer))
    losses = bfloat16_losses if job.bfloat16 else next_token_losses

    def loss_at(model: PreTrainedModel, step: int) -> Iterator[torch.Tensor]:
        return mean_loss(model, plan[step], rows, losses)

    record = recorded(model, job, key, len(plan), loss_at, directory=directory)
    save(model, corpora.tokenizer, record, directory)
    return record


def records_table(records: Iterable[dict]) -> pd.DataFrame:
    """Return the training records as a `models` table: kind, seed, tokens, seconds, loss (nats per token), delta, …"""
    columns = ["kind", "seed", "tokens", "seconds", "loss", "delta", "learning_rate", "parameters", "key"]
    return pd.DataFrame(list(records)).set_index("model")[columns].astype({"delta": float}).sort_index()


def curves(folders: Mapping[str, str | Path]) -> pd.DataFrame:
    """Return the loss curves of trained models, name → folder: index `model`, columns tokens seen, loss (nats)."""
    rows = [(name, *point) for name, folder in folders.items() for point in read_record(folder)["curve"]]
    return pd.DataFrame(rows, columns=["model", "tokens", "loss"]).set_index("model")
