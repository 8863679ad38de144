"""Mixtures that are learnt while one small model trains: DoReMi, ODM and AC-ODM (`rules`, `actor`) on our recipe.

All but who picks and weighs the rows is as in `train`: text, optimiser, schedule and records; a model that is there is
not trained again, but one that was interrupted starts again: what its rule had learnt is not kept. We differ from all
three papers: training continues from the base.

Sources: DoReMi (arXiv 2305.10429), ODM (arXiv 2312.02406), AC-ODM (arXiv 2505.23878).
"""

from collections.abc import Generator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from demix_nb.lab.actor import ACODM
from demix_nb.lab.batches import text_of
from demix_nb.lab.corpora import Corpora
from demix_nb.lab.corpora import load as load_corpora
from demix_nb.lab.jobs import Job, Setting, finished, read_record
from demix_nb.lab.loop import initial, next_token_losses, place, recorded, save
from demix_nb.lab.rules import ODM, RATE, SMOOTHING, DoReMi
from demix_nb.lab.train import prefixed, train_design
from demix_nb.mixtures import as_table, recipe, uniform
from demix_nb.region import Region
from demix_nb.search import Strategy
from demix_nb.store import Refusal, content_hash

BUDGET = 0.5  # of the full one, each for DoReMi's reference and its proxy: together they cost one model


# --- training -------------------------------------------------------------------------------------------------------


def train_doremi(
    setting: Setting,
    directory: Path,
    corpora: Corpora,
    reference: Path,
    *,
    seed: int = 0,
    budget: float = 1.0,
    rate: float = RATE,
    smoothing: float = SMOOTHING,
) -> dict:
    """Train DoReMi's proxy unless `directory` holds it; the record's `mixture` is the answer.

    `reference` is the checkpoint that the proxy is to beat on every candidate: one trained for as long on some fixed
    mixture, such as equal or natural shares (its tokens are part of the cost). `budget`: share of the setting's tokens.
    Raises Refusal for a checkpoint without record, and for a setting whose β leaves nothing to learn.
    """
    job = _prepared(setting, directory, corpora, "doremi", seed, budget)
    key = content_hash("doremi", job.key(corpora, place()), read_record(reference)["key"], rate, smoothing)
    if record := finished(job, key, directory):
        return record
    model = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    rule = DoReMi(setting, job, corpora, model, rate=rate, smoothing=smoothing)
    return _train(setting, job, key, directory, corpora, rule)


def train_odm(
    setting: Setting, directory: Path, corpora: Corpora, *, seed: int = 0, budget: float = 1.0, rule: type[ODM] = ODM
) -> dict:
    """Train with ODM, or its heir `rule`, unless `directory` holds the model; the record's `mixture` is what was drawn.

    Raises Refusal for a setting whose β leaves nothing to learn.
    """
    job = _prepared(setting, directory, corpora, rule.kind, seed, budget)
    key = content_hash(rule.kind, job.key(corpora, place()), rule.constants)
    if record := finished(job, key, directory):
        return record
    return _train(setting, job, key, directory, corpora, rule(setting, job, corpora))


def _prepared(setting: Setting, directory: Path, corpora: Corpora, kind: str, seed: int, budget: float) -> Job:
    job = setting.job(directory.name, kind, uniform(corpora.candidates), seed=seed, budget=budget)
    if round(setting.beta * job.rows) == 0:
        raise Refusal(f"beta {setting.beta} leaves {job.name!r} no row of a batch to mix; raise beta or batch")
    return job


def _train(setting: Setting, job: Job, key: str, directory: Path, corpora: Corpora, rule: DoReMi | ODM) -> dict:
    text, path = text_of(job, corpora), []

    def loss_at(model: PreTrainedModel, step: int) -> list[torch.Tensor]:
        candidates = rule.candidates(step)
        batch = torch.from_numpy(np.stack([next(text[name]) for name in candidates]))
        losses = next_token_losses(model, batch)
        weights = torch.tensor(rule.weights(candidates, batch, losses, model)).to(losses)
        path.append(rule.policy.to_dict())
        return [(weights[:, None] * losses).mean()]

    model = initial(job, corpora)
    record = recorded(model, job, key, job.steps, loss_at)
    blend = recipe(rule.mixture, setting.general, setting.beta)
    kept = [tokens // (job.rows * job.architecture.context) - 1 for tokens, _ in record["curve"]]
    record |= {"mixture": rule.mixture.to_dict(), "recipe": blend.to_dict(), "path": [path[step] for step in kept]}
    save(model, corpora.tokenizer, record, directory)
    return record


# --- strategies: they ask nothing of a proxy, they train ------------------------------------------------------------


def doremi(region: Region, predictor, tasks, *, rng, study, number: int = 0, budget: float = BUDGET) -> Generator:
    """Train a reference on equal shares, then DoReMi's proxy; return its mixture, moved into the region.

    Both are seeded by `number` and read `budget` of the full tokens; neither predictor nor `rng` is needed.
    """
    yield from ()
    equal = as_table({str(number): uniform(region.candidates)})
    folders, _ = train_design(study, equal, "doremi-reference", seed=number, budget=budget)
    learn = partial(train_doremi, reference=folders[str(number)])
    return _answer(region, study, "doremi", number, budget, learn)


def odm(
    region: Region, predictor, tasks, *, rng, study, number: int = 0, budget: float = 1.0, rule: type[ODM] = ODM
) -> Generator:
    """Train with ODM, or its heir `rule`; return what it drew, moved into the region. Arguments as `doremi`."""
    yield from ()
    return _answer(region, study, rule.kind, number, budget, partial(train_odm, rule=rule))


def _answer(region: Region, study, role: str, number: int, budget: float, learn) -> pd.Series:
    setting, corpora = Setting.read(study.folder), load_corpora(study.folder / "corpora")
    folder = study.folder / "models" / f"{prefixed(role, budget)}-{number}"
    mixture = pd.Series(learn(setting, folder, corpora, seed=number, budget=budget)["mixture"])
    return region.project(as_table({"winner": mixture[region.candidates]})).loc["winner"]


STRATEGIES = {
    "doremi": Strategy(doremi, "DoReMi", "DoReMi (2305.10429)", needs=("study",)),
    "odm": Strategy(odm, "ODM", "ODM (2312.02406)", needs=("study",)),
    "ac_odm": Strategy(partial(odm, rule=ACODM), "AC-ODM", "AC-ODM (2505.23878)", needs=("study",)),
}
