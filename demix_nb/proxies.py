"""Mixtures in, score table out: the one call that search and fidelity need, for any kind of proxy.

A source yields live models by name. `Merges` writes the weighted average of the components into one live model per
mixture: nothing is trained and nothing touches the disk. `Checkpoints` loads models that were really trained, be they
references or trained proxies. `score` does the rest, for any source: scores are kept by content (weights, mixture,
method, tasks), so what was scored once is never scored again and a killed run goes on where it stopped.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from demix_nb.checkpoints import folder_hash
from demix_nb.components import Setting
from demix_nb.corpora import Corpora
from demix_nb.corpora import load as load_corpora
from demix_nb.merging import Bank
from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out
from demix_nb.scoring import ScoreCache, Suite, score_key

CHUNK = 6  # models a worker scores between two reports; the suite travels once per chunk

disable_progress_bar()  # checkpoints are loaded by the dozen; a bar for each would bury the notebook's own

Scored = tuple[str, pd.Series]  # name, task → score


@runtime_checkable
class Source(Protocol):
    """Live models by name, and a key for the content of each."""

    names: Sequence[str]

    def key(self, name: str) -> str: ...

    def live(self, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]: ...


@dataclass(frozen=True)
class Merges:
    """One merged proxy per row of a mixture table; `seed` decides what random methods drop."""

    bank: Bank
    mixtures: pd.DataFrame
    method: str = "linear"
    seed: int = 0

    def __post_init__(self) -> None:
        validate(self.mixtures, self.bank.names)

    @property
    def names(self) -> Sequence[str]:
        return list(self.mixtures.index)

    def key(self, name: str) -> str:
        return self.bank.key(self.mixtures.loc[name], self.method, rng=np.random.default_rng(self.seed))

    def live(self, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
        model = self.bank.model()
        for name in names:
            self.bank.write(model, self.mixtures.loc[name], self.method, rng=np.random.default_rng(self.seed))
            yield name, model


@dataclass(frozen=True)
class Checkpoints:
    """One really trained model per folder."""

    directories: Mapping[str, Path]

    @property
    def names(self) -> Sequence[str]:
        return list(self.directories)

    def key(self, name: str) -> str:
        return folder_hash(self.directories[name])

    def live(self, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
        for name in names:
            yield name, AutoModelForCausalLM.from_pretrained(self.directories[name])


def score(source: Source, suite: Suite, cache: ScoreCache, *, n_jobs: int = 2) -> Iterator[Scored]:
    """Yield (name, scores) for every model of `source`: first those already scored, then the others as they finish."""
    keys = {name: score_key(source.key(name), suite.key) for name in source.names}
    stored = {name: cache.get(key) for name, key in keys.items()}
    yield from ((name, scores) for name, scores in stored.items() if scores is not None)
    missing = [name for name, scores in stored.items() if scores is None]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    calls = [(source, suite, cache, {name: keys[name] for name in chunk}) for chunk in chunks]
    for done in fan_out(_score, calls, n_jobs=n_jobs):
        yield from done


def _score(source: Source, suite: Suite, cache: ScoreCache, keys: Mapping[str, str]) -> list[Scored]:
    done = []
    for name, model in source.live(list(keys)):
        scores = suite.score(model)
        cache.put(keys[name], scores)
        done.append((name, scores))
    return done


def score_table(
    source: Source,
    suite: Suite,
    cache: ScoreCache,
    *,
    n_jobs: int = 2,
    progress: Callable[..., Iterable] = lambda pairs, **_: pairs,
) -> pd.DataFrame:
    """Return the score table of a source, rows in its order; `progress(pairs, total=…, desc=…)` may draw a bar."""
    found = dict(progress(score(source, suite, cache, n_jobs=n_jobs), total=len(source.names), desc="scores"))
    return pd.DataFrame({name: found[name] for name in source.names}).T.rename_axis(index="mixture", columns=None)


def checkpoint_folders(directory: str | Path) -> dict[str, Path]:
    """Return name → folder of the checkpoints under `directory`; raises ValueError where there are fewer than two."""
    found = {path.parent.name: path.parent for path in sorted(Path(directory).glob("*/config.json"))}
    if len(found) < 2:
        raise ValueError(f"{directory} holds {len(found)} checkpoint folders; give a folder with one per component")
    return found


@dataclass(frozen=True)
class Study:
    """One run's folder, opened: candidate data, shared setting, components, tasks and cache. Notebook 01 makes it."""

    directory: Path
    data: Corpora
    setting: Setting
    suite: Suite

    @classmethod
    def open(cls, directory: Path, suites: Sequence[str] | None = None) -> "Study":
        """Open a run with all its suites or only some; raises CorpusError or TrainingError saying what to run first."""
        data, setting = load_corpora(directory / "corpora"), Setting.read(directory / "setting.json")
        context = setting.architecture.context
        suite = Suite.build(
            suites or setting.suites, data.tokenizer, corpora=data, limit=setting.limit, context=context
        )
        return cls(directory, data, setting, suite)

    @property
    def tasks(self) -> pd.DataFrame:
        """The task table, with a column `suite`."""
        heldout = self.suite.tasks.index.str.startswith("heldout_")
        return self.suite.tasks.assign(suite=np.where(heldout, "heldout", "nine"))

    @property
    def components(self) -> dict[str, Path]:
        """The folder of each candidate's component."""
        return {name: self.models / f"component-{name}" for name in self.data.domains}

    @cached_property
    def bank(self) -> Bank:
        """The components, in memory."""
        return Bank.load(self.components, base=self.setting.base)

    @property
    def models(self) -> Path:
        """The folder of trained models."""
        return self.directory / "models"

    def score(self, source: Source, **options) -> pd.DataFrame:
        """Return the score table of a source on this run's tasks; options as in `score_table`."""
        return score_table(source, self.suite, ScoreCache(self.directory / "cache"), **options)

    def trained(self, prefix: str, names: Iterable[str]) -> Checkpoints:
        """Return the really trained models `<prefix>-<name>` of this run."""
        return Checkpoints({name: self.models / f"{prefix}-{name}" for name in names})
