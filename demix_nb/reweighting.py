"""Train one small model whose mixture is learnt on the way: DoReMi and ODM on our recipe.

Both papers weigh all the data; our recipe keeps its general half, (1−β)·general + β·α, and only α is learnt, so that
their answers mean the same as a search's. DoReMi samples the recipe of equal shares and weighs a row's loss by what the
recipe of α asks of its domain over what is sampled; ODM draws the candidate rows of every batch from its policy. All
else is as in `components`: text, optimiser, schedule, records and resuming.

Sources: DoReMi (2305.10429) algorithm 1; ODM (2312.02406) algorithm 1. We differ: training continues from the base; a
batch is small, so that a domain which is not in it keeps its last excess (as DoReMi's code does); no warm-up in ODM.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64, Integer
from transformers import AutoModelForCausalLM, PreTrainedModel

from demix_nb import online
from demix_nb.components import (
    RECORD,
    Job,
    Setting,
    TrainingError,
    apportion,
    extent,
    initial,
    next_token_losses,
    read_record,
    recorded,
    save,
    sequences_of,
)
from demix_nb.corpora import Corpora
from demix_nb.corpora import load as load_corpora
from demix_nb.mixtures import recipe, uniform
from demix_nb.tables import content_hash

Batch = Int64[torch.Tensor, "row length"]
Losses = Float[torch.Tensor, "row token"]  # nats


class DoReMi:
    """Rows of the recipe of equal shares, weighed so that the loss is that of the recipe of α; α learns the excess."""

    def __init__(
        self,
        setting: Setting,
        job: Job,
        candidates: Sequence[str],
        reference: PreTrainedModel,
        *,
        rate: float = online.RATE,
        smoothing: float = online.SMOOTHING,
    ) -> None:
        self.step = partial(online.doremi_step, rate=rate, smoothing=smoothing)
        self.setting, self.reference, self.sampled = setting, reference.eval(), pd.Series(job.recipe)
        self.policy = uniform(candidates)
        self.known, self.sum, self.steps = 0.0 * self.policy, 0.0 * self.policy, 0
        rows, steps = extent(job)
        counts = apportion(job.recipe, steps * rows)
        labels = np.repeat(list(counts), list(counts.values()))
        self.plan = _streams(job, candidates)[-1].permutation(labels).reshape(steps, rows)

    @property
    def mixture(self) -> pd.Series:
        """The average of α over the steps (DoReMi, algorithm 1)."""
        return self.sum / self.steps

    def domains(self, step: int) -> Sequence[str]:
        return self.plan[step].tolist()

    def weights(self, domains: Sequence[str], batch: Batch, losses: Losses) -> Float[np.ndarray, " row"]:
        with torch.no_grad():
            before = next_token_losses(self.reference.to(losses.device), batch)
        found = online.excess(losses.cpu().numpy(), before.cpu().numpy(), domains)
        self.known[found.index] = found
        self.policy = self.step(self.policy, self.known)
        self.sum, self.steps = self.sum + self.policy, self.steps + 1
        return (recipe(self.policy, self.setting.general, self.setting.beta) / self.sampled)[domains].to_numpy()


class ODM:
    """The general rows of the recipe, and candidate rows drawn from a policy that follows the loss."""

    def __init__(self, setting: Setting, job: Job, candidates: Sequence[str]) -> None:
        rows, _ = extent(job)
        self.drawn = round(setting.beta * rows)
        self.fixed = [setting.general] * (rows - self.drawn)
        self.rewards = 0.0 * uniform(candidates)
        self.counts, self.policy = self.rewards, uniform(candidates)
        self.rng = _streams(job, candidates)[-1]

    @property
    def mixture(self) -> pd.Series:
        """The shares of the candidate rows drawn so far."""
        return self.counts / self.counts.sum()

    def domains(self, step: int) -> Sequence[str]:
        self.policy = online.odm_policy(self.rewards, step + 1)
        drawn = self.rng.choice(list(self.policy.index), size=self.drawn, p=self.policy.to_numpy())
        self.counts = self.counts.add(pd.Series(drawn).value_counts(), fill_value=0)[self.policy.index]
        return self.fixed + drawn.tolist()

    def weights(self, domains: Sequence[str], batch: Batch, losses: Losses) -> Float[np.ndarray, " row"]:
        rows = pd.Series(losses.mean(dim=1).cpu().numpy(), index=list(domains)).iloc[len(self.fixed) :]
        self.rewards = online.odm_rewards(self.rewards, rows.groupby(level=0).mean(), self.policy)
        return np.ones(len(domains))


def train_doremi(
    setting: Setting,
    directory: Path,
    corpora_directory: Path,
    reference: Path,
    seed: int = 0,
    share: float = 1.0,
    *,
    rate: float = online.RATE,
    smoothing: float = online.SMOOTHING,
) -> dict:
    """Train DoReMi's proxy unless `directory` holds it; the record's `mixture` is the answer.

    `reference` is the checkpoint that the proxy is to beat on every domain: one trained for as long on some fixed
    mixture, such as equal or natural shares (its tokens are part of the cost). `share` of the setting's token budget.
    Raises TrainingError for a checkpoint without record, and for a setting whose β leaves nothing to learn.
    """
    corpora, job = _prepared(setting, directory, corpora_directory, "doremi", seed, share)
    key = content_hash("doremi", job.key(corpora.key), read_record(reference)["key"], rate, smoothing)
    if _finished(directory, key):
        return read_record(directory)
    model = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32)
    rule = DoReMi(setting, job, corpora.domains, model, rate=rate, smoothing=smoothing)
    return _train(setting, job, key, directory, corpora, rule)


def train_odm(setting: Setting, directory: Path, corpora_directory: Path, seed: int = 0, share: float = 1.0) -> dict:
    """Train with ODM unless `directory` holds the model; the record's `mixture` is what was drawn on average.

    Raises TrainingError for a setting whose β leaves nothing to learn.
    """
    corpora, job = _prepared(setting, directory, corpora_directory, "odm", seed, share)
    key = content_hash("odm", job.key(corpora.key), online.DECAY)
    if _finished(directory, key):
        return read_record(directory)
    return _train(setting, job, key, directory, corpora, ODM(setting, job, corpora.domains))


def _prepared(
    setting: Setting, directory: Path, corpora_directory: Path, kind: str, seed: int, share: float
) -> tuple[Corpora, Job]:
    corpora = load_corpora(corpora_directory)
    job = setting.job(directory.name, kind, uniform(corpora.domains), seed=seed, share=share)
    if round(setting.beta * extent(job)[0]) == 0:
        raise TrainingError(f"beta {setting.beta} leaves {job.name!r} no row of a batch to mix; raise beta or batch")
    return corpora, job


def _finished(directory: Path, key: str) -> bool:
    return (directory / RECORD).is_file() and read_record(directory)["key"] == key


def _streams(job: Job, candidates: Sequence[str]) -> list[np.random.Generator]:
    """Return one generator per domain, as in `components.batches`, and one for what picks the domains."""
    return np.random.default_rng(job.seed).spawn(len(candidates) + 1)


def blocks(
    tokens: Integer[np.ndarray, " n"], context: int, *, rng: np.random.Generator
) -> Iterator[Int64[np.ndarray, " length"]]:
    """Yield sequences of context + 1 tokens without end, every block once before any comes again."""
    while True:
        yield from sequences_of(tokens, max((len(tokens) - 1) // context, 1), context, rng=rng)


def _train(setting: Setting, job: Job, key: str, directory: Path, corpora: Corpora, rule: DoReMi | ODM) -> dict:
    text, (rows, steps), path = text_of(job, corpora), extent(job), []

    def loss_at(model: PreTrainedModel, step: int) -> torch.Tensor:
        domains = rule.domains(step)
        batch = torch.from_numpy(np.stack([next(text[name]) for name in domains]))
        losses = next_token_losses(model, batch)
        weights = torch.tensor(rule.weights(domains, batch, losses.detach())).to(losses)
        path.append(rule.policy.to_dict())
        return (weights[:, None] * losses).mean()

    model = initial(job, corpora)
    record = recorded(model, job, key, steps, loss_at)
    blend = recipe(rule.mixture, setting.general, setting.beta)
    kept = [tokens // (rows * job.architecture.context) - 1 for tokens, _ in record["curve"]]
    record |= {"mixture": rule.mixture.to_dict(), "recipe": blend.to_dict(), "path": [path[step] for step in kept]}
    save(model, corpora.tokenizer, record, directory)
    return record


def text_of(job: Job, corpora: Corpora) -> Mapping[str, Iterator[Int64[np.ndarray, " length"]]]:
    """Return each domain's endless sequences: those that `components.batches` takes, epoch by epoch."""
    context, streams = job.architecture.context, _streams(job, corpora.domains)
    return {name: blocks(corpora.train[name], context, rng=streams[i]) for i, name in enumerate(corpora.domains)}
