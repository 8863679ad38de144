"""Mixtures in, score table out: the one call that search and fidelity need, for any kind of proxy.

A source yields live models by name. `Merges` writes the weighted average of the components into one live model per
mixture: nothing is trained and nothing touches the disk. `Checkpoints` loads models that were really trained, be they
references or trained proxies. `score` does the rest, for any source: scores are kept by content (weights, mixture,
method, tasks), so what was scored once is never scored again and a killed run goes on where it stopped.

A *kind of proxy* is a function from a mixture table to a score table: `Merged`, `Trained`, an `ensemble.Ensemble`, or
a `calibration.Fused` on top of one. Search, fidelity and regression take any of them.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from jaxtyping import Float
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from demix_nb.checkpoints import folder_hash
from demix_nb.components import Setting, train_all
from demix_nb.corpora import Corpora
from demix_nb.corpora import load as load_corpora
from demix_nb.ensemble import Ensemble, token_logs
from demix_nb.merging import Bank
from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out
from demix_nb.scoring import ScoreCache, Suite, score_key
from demix_nb.tables import atomic

CHUNK = 6  # models a worker scores between two reports; the suite travels once per chunk

disable_progress_bar()  # checkpoints are loaded by the dozen; a bar for each would bury the notebook's own

Progress = Callable[..., Iterable]  # progress(pairs, total=…, desc=…), a tqdm say


@runtime_checkable
class Source(Protocol):
    """Live models by name, and a key for the content of each."""

    names: Sequence[str]

    def key(self, name: str) -> str: ...

    def live(self, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]: ...


@dataclass(frozen=True)
class Merges:
    """One merged proxy per row of a mixture table; `seed` decides what random methods drop.

    `power` and `scale` calibrate: Θ_base + scale · Σ αᵢ^power (Θᵢ − Θ_base), weights not renormalised. Other than 1
    they need a method on updates (`task_arithmetic`).
    """

    bank: Bank
    mixtures: pd.DataFrame
    method: str = "linear"
    seed: int = 0
    power: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        validate(self.mixtures, self.bank.names)

    @property
    def names(self) -> Sequence[str]:
        return list(self.mixtures.index)

    @property
    def _options(self) -> dict[str, float]:
        return {"scale": self.scale} if self.scale != 1 else {}

    def _weights(self, name: str) -> pd.Series:
        return self.mixtures.loc[name] ** self.power

    def key(self, name: str) -> str:
        rng = np.random.default_rng(self.seed)
        return self.bank.key(self._weights(name), self.method, self._options, rng)

    def live(self, names: Sequence[str]) -> Iterator[tuple[str, PreTrainedModel]]:
        model = self.bank.model()
        for name in names:
            rng = np.random.default_rng(self.seed)
            normalize = self.power == 1
            self.bank.write(model, self._weights(name), self.method, rng=rng, normalize=normalize, **self._options)
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
            yield name, AutoModelForCausalLM.from_pretrained(self.directories[name], trust_remote_code=False)


@runtime_checkable
class Cache(Protocol):
    """What is known of a model by content key; `put` is atomic."""

    def get(self, key: str) -> object | None: ...

    def put(self, key: str, value: object) -> None: ...


class AnswerCache:
    """Log-probabilities of answer tokens by content: one .npy file per key."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)

    def get(self, key: str) -> Float[np.ndarray, " answers"] | None:
        path = self.directory / f"{key}.npy"
        return np.load(path) if path.is_file() else None

    def put(self, key: str, value: Float[np.ndarray, " answers"]) -> None:
        with atomic(self.directory / f"{key}.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, value)


def measured(
    source: Source, suite: Suite, measure: Callable[[Suite, PreTrainedModel], object], cache: Cache, *, n_jobs: int = 2
) -> Iterator[tuple[str, object]]:
    """Yield (name, measure(suite, model)) for the models of `source`: first what `cache` holds, then as they finish."""
    keys = {name: score_key(source.key(name), suite.key) for name in source.names}
    stored = {name: cache.get(key) for name, key in keys.items()}
    yield from ((name, value) for name, value in stored.items() if value is not None)
    missing = [name for name, value in stored.items() if value is None]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    calls = [(source, partial(measure, suite), cache, {name: keys[name] for name in chunk}) for chunk in chunks]
    for done in fan_out(_measure, calls, n_jobs=n_jobs):
        yield from done


def _measure(source: Source, measure: Callable, cache: Cache, keys: Mapping[str, str]) -> list[tuple[str, object]]:
    done = []
    for name, model in source.live(list(keys)):
        value = measure(model)
        cache.put(keys[name], value)
        done.append((name, value))
    return done


def _silent(pairs: Iterable, **_: object) -> Iterable:
    return pairs


def score_table(
    source: Source, suite: Suite, cache: ScoreCache, *, n_jobs: int = 2, progress: Progress = _silent
) -> pd.DataFrame:
    """Return the score table of a source, rows in its order."""
    scored = measured(source, suite, Suite.score, cache, n_jobs=n_jobs)
    found = dict(progress(scored, total=len(source.names), desc="scores"))
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
    n_jobs: int = 2
    progress: Progress = _silent

    @classmethod
    def open(cls, directory: Path, suites: Sequence[str] | None = None, **options) -> "Study":
        """Open a run with all its suites or only some; raises CorpusError or TrainingError saying what to run first."""
        data, setting = load_corpora(directory / "corpora"), Setting.read(directory / "setting.json")
        context = setting.architecture.context
        suite = Suite.build(
            suites or setting.suites, data.tokenizer, corpora=data, limit=setting.limit, context=context
        )
        return cls(directory, data, setting, suite, **options)

    @property
    def tasks(self) -> pd.DataFrame:
        """The task table."""
        return self.suite.tasks

    @property
    def components(self) -> dict[str, Path]:
        """The folder of each candidate's component."""
        return self.components_of("component")

    def components_of(self, prefix: str) -> dict[str, Path]:
        """The folders of another set of components, `<prefix>-<candidate>`."""
        return {name: self.models / f"{prefix}-{name}" for name in self.data.domains}

    @cached_property
    def bank(self) -> Bank:
        """The components, in memory."""
        return Bank.load(self.components, base=self.setting.base)

    @property
    def models(self) -> Path:
        """The folder of trained models."""
        return self.directory / "models"

    def score(self, source: Source) -> pd.DataFrame:
        """Return the score table of a source on this run's tasks."""
        cache = ScoreCache(self.directory / "cache")
        return score_table(source, self.suite, cache, n_jobs=self.n_jobs, progress=self.progress)

    def ensemble(self, folders: Mapping[str, Path] | None = None) -> Ensemble:
        """Return the ensemble of the components (or of other models) on this run's tasks; each is run once, ever."""
        source, cache = Checkpoints(folders or self.components), AnswerCache(self.directory / "cache")
        logs = dict(measured(source, self.suite, token_logs, cache, n_jobs=self.n_jobs))
        return Ensemble(self.suite, source.names, np.column_stack([logs[name] for name in source.names]))

    def train(self, jobs: Sequence, desc: str = "models") -> list[dict]:
        """Train jobs into this run's folder of models, those done before excepted; return their records."""
        training = train_all(jobs, self.models, self.data, n_jobs=self.n_jobs)
        return list(self.progress(training, total=len(jobs), desc=desc))

    def trained(self, prefix: str, names: Iterable[str]) -> Checkpoints:
        """Return the really trained models `<prefix>-<name>` of this run."""
        return Checkpoints({name: self.models / f"{prefix}-{name}" for name in names})


# --- kinds of proxy: mixtures in, scores out ------------------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """Merged proxies of a study's components, or of another `bank`; calibrated where power or scale is not 1."""

    study: Study
    method: str = "linear"
    power: float = 1.0
    scale: float = 1.0
    seed: int = 0
    bank: Bank | None = None

    def __call__(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        bank = self.bank or self.study.bank
        return self.study.score(Merges(bank, mixtures, self.method, self.seed, self.power, self.scale))


@dataclass(frozen=True)
class Trained:
    """Trained proxies (RegMix, CLIMB): a model `<prefix>-<mixture>` per mixture, with `share` of the full budget."""

    study: Study
    prefix: str
    share: float = 1.0
    seed: int = 0
    kind: str = "trained"

    def __call__(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        setting = self.study.setting
        jobs = [
            setting.job(f"{self.prefix}-{name}", self.kind, row, seed=self.seed, share=self.share)
            for name, row in validate(mixtures, self.study.data.domains).iterrows()
        ]
        self.study.train(jobs, desc=self.prefix)
        return self.study.score(self.study.trained(self.prefix, mixtures.index))
