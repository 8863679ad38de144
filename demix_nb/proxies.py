"""Mixtures in, scores out: every kind of proxy behind one call, and the table `KINDS` that holds their facts.

A proxy is a function from a mixture table to a `Scored`; search, fidelity and regression take any of them. A *merged*
proxy averages the components' weights, a *mixed* one their token probabilities, a *trained* one is really trained, for
few tokens; *mended* and *fused* ones go on from these with what a few references taught. A kind is made from a bank of
components, a suite that measures a model, and a store that opens models and keeps what was measured of them by content
(weights, mixture, method, tasks): what was scored once is never scored again, a killed run goes on where it stopped.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6; MixMin (2502.10510); RegMix (2407.01492).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from demix_nb.mixtures import validate
from demix_nb.parallel import fan_out
from demix_nb.scored import Scored
from demix_nb.store import Cache, Refusal, answer_cache, content_hash, folder_hash, score_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

CHUNK = 6  # models a worker measures between two reports; the suite travels once per chunk

Proxy = Callable[[pd.DataFrame], Scored]  # mixture table → scored mixtures
Progress = Callable[..., Iterable]  # progress(pairs, total=…, desc=…), a tqdm say


def silent(pairs: Iterable, **_: object) -> Iterable:
    """Show no progress."""
    return pairs


# --- models by name, opened when they are needed --------------------------------------------------------------------


@runtime_checkable
class Source(Protocol):
    """Models by name, a key for the content of each, and a way to open them one after the other."""

    names: Sequence[str]

    def key(self, name: str) -> str: ...

    def open(self, names: Sequence[str]) -> Iterator[tuple[str, "PreTrainedModel"]]: ...


@dataclass(frozen=True)
class Merges:
    """One merged model per row of a mixture table; `seed` decides what random methods drop.

    `power` and `scale` mend: Θ_base + scale · Σ αᵢ^power (Θᵢ − Θ_base), weights not renormalised. Other than 1 they
    need a method on updates (`task_arithmetic`).
    """

    bank: "Bank"
    mixtures: pd.DataFrame
    method: str = "linear"
    seed: int = 0
    power: float = 1.0
    scale: float = 1.0

    @property
    def names(self) -> Sequence[str]:
        return list(self.mixtures.index)

    @property
    def _options(self) -> dict[str, float]:
        return {"scale": self.scale} if self.scale != 1 else {}

    def _weights(self, name: str) -> pd.Series:
        return self.mixtures.loc[name] ** self.power

    def key(self, name: str) -> str:
        return self.bank.key(self._weights(name), self.method, self._options, np.random.default_rng(self.seed))

    def open(self, names: Sequence[str]) -> Iterator[tuple[str, "PreTrainedModel"]]:
        model = self.bank.model()
        for name in names:
            how = {"rng": np.random.default_rng(self.seed), "normalize": self.power == 1}
            self.bank.write(model, self._weights(name), self.method, **how, **self._options)
            yield name, model


@dataclass(frozen=True)
class Checkpoints:
    """One stored model per folder."""

    folders: Mapping[str, Path]

    @property
    def names(self) -> Sequence[str]:
        return list(self.folders)

    def key(self, name: str) -> str:
        return folder_hash(self.folders[name])

    def open(self, names: Sequence[str]) -> Iterator[tuple[str, "PreTrainedModel"]]:
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # checkpoints are opened by the dozen; a bar for each would bury the notebook's own
        for name in names:
            yield name, AutoModelForCausalLM.from_pretrained(self.folders[name], trust_remote_code=False)


@dataclass(frozen=True)
class Store:
    """Opens the models of a source and keeps under `folder` what was measured of them, by content."""

    folder: Path
    n_jobs: int = 2
    progress: Progress = field(default=silent, repr=False)

    def scores(self, source: Source, suite: "Suite") -> pd.DataFrame:
        """Return the score table of a source on a suite, rows in its order."""
        scored = measured(source, suite, type(suite).measure, score_cache(self.folder), n_jobs=self.n_jobs)
        found = dict(self.progress(scored, total=len(source.names), desc="scores"))
        return pd.DataFrame({name: found[name] for name in source.names}).T.rename_axis(index="mixture", columns=None)

    def answers(self, source: Source, suite: "Suite") -> np.ndarray:
        """Return the log-probabilities (nats) of the suite's answer tokens, answer × model of the source."""
        from demix_nb.scoring.answers import token_logs

        found = dict(measured(source, suite, token_logs, answer_cache(self.folder), n_jobs=self.n_jobs))
        return np.column_stack([found[name] for name in source.names])


def measured(
    source: Source, suite: "Suite", measure: Callable, cache: Cache, *, n_jobs: int = 2
) -> Iterator[tuple[str, object]]:
    """Yield (name, measure(suite, model)) for the models of `source`: first what `cache` holds, then as they finish."""
    keys = {name: content_hash(source.key(name), suite.key) for name in source.names}
    stored = {name: cache.get(key) for name, key in keys.items()}
    yield from ((name, value) for name, value in stored.items() if value is not None)
    missing = [name for name, value in stored.items() if value is None]
    chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
    calls = [(source, partial(measure, suite), cache, {name: keys[name] for name in chunk}) for chunk in chunks]
    for done in fan_out(_measure, calls, n_jobs=n_jobs):
        yield from done


def _measure(source: Source, measure: Callable, cache: Cache, keys: Mapping[str, str]) -> list[tuple[str, object]]:
    done = []
    for name, model in source.open(list(keys)):
        try:
            value = measure(model)
        except Refusal as error:
            raise Refusal(f"{name}: {error}") from error
        cache.put(keys[name], value)
        done.append((name, value))
    return done


# --- kinds of proxy -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Merged:
    """Proxies by merging weights: nothing is trained, and nothing but scores touches the disk."""

    bank: "Bank"
    suite: "Suite"
    store: Store
    method: str = "linear"
    power: float = 1.0
    scale: float = 1.0
    seed: int = 0

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        mixtures = validate(mixtures, self.bank.names)
        source = Merges(self.bank, mixtures, self.method, self.seed, self.power, self.scale)
        return Scored(mixtures, self.store.scores(source, self.suite), self.suite.tasks)


class Mixed:
    """Proxies by mixing the components' token probabilities: each component reads the tasks once, ever."""

    def __init__(self, bank: "Bank", suite: "Suite", store: Store) -> None:
        from demix_nb.scoring.answers import Mixed as Answers

        self.answers = Answers(suite, bank.names, store.answers(Checkpoints(bank.directories), suite))
        self.tasks = suite.tasks

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        return Scored(validate(mixtures, self.answers.names), self.answers.scores(mixtures), self.tasks)

    def gradient(self, mixture: pd.Series) -> tuple[pd.Series, pd.DataFrame]:
        """Return the bits per byte of one mixture, by task, and their gradient in α, task × component."""
        return self.answers.gradient(mixture)


@dataclass(frozen=True)
class Trained:
    """Proxies by training for few tokens (RegMix, CLIMB); `train(mixtures)` returns mixture → folder of its model."""

    bank: None
    suite: "Suite"
    store: Store
    train: Callable[[pd.DataFrame], Mapping[str, Path]]

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        mixtures = validate(mixtures)
        return Scored(mixtures, self.store.scores(Checkpoints(self.train(mixtures)), self.suite), self.suite.tasks)


def mended(bank: "Bank", suite: "Suite", store: Store, *, references: Scored, per_family: bool = False) -> Proxy:
    """Merged proxies whose power and scale were fitted to `references`, once or once per family."""
    from demix_nb import mending  # here, as in `fused`: it brings scikit-learn, and readers of tables wait for that

    merge = partial(_merge, bank, suite, store)
    return mending.mend(merge, references, per_family=per_family, rng=np.random.default_rng(0)).apply(merge)


def _merge(bank: "Bank", suite: "Suite", store: Store, mixtures: pd.DataFrame, power: float, scale: float) -> Scored:
    return Merged(bank, suite, store, "task_arithmetic", power, scale)(mixtures)


def fused(make: Callable[..., Proxy], bank: "Bank", suite: "Suite", store: Store, *, references: Scored) -> Proxy:
    """A proxy corrected by what `references` had beyond it."""
    from demix_nb import mending

    return mending.Fused(make(bank, suite, store)).fit(references)


@dataclass(frozen=True)
class Kind:
    """One kind of proxy: how it is made, how it is drawn, what it needs and what it can do.

    `make(bank, suite, store, **options)`. `references`: it is given a few of them, whose training is part of its cost.
    `trains`: it trains a model per mixture instead of using components. `generates`: it can measure tasks whose answer
    is written; the others measure likelihoods only. `gradient`: its scores have one in α.
    """

    make: Callable[..., Proxy]
    label: str
    marker: str
    paper: str
    references: bool = False
    trains: bool = False
    generates: bool = False
    gradient: bool = False

    def cost(
        self, *, candidates: int, tokens: float, searched: int = 0, budget: float = 1.0, references: int = 0
    ) -> float:
        """Return the training tokens of a search over `searched` mixtures; the base is not counted (DeMix 3.3.1).

        `tokens`: full budget of a model; `budget`: the share of it that trained proxies, or components, get.
        """
        models = searched if self.trains else candidates
        return tokens * (models * budget + (references if self.references else 0))


DEMIX, MIXMIN, MDE = (
    "https://arxiv.org/abs/2602.00747",
    "https://arxiv.org/abs/2502.10510",
    "https://arxiv.org/abs/2502.15950",
)
KINDS = {
    "merged": Kind(Merged, "merged (DeMix)", "o", DEMIX, generates=True),
    "mixed": Kind(Mixed, "mixed probabilities", "^", MIXMIN, gradient=True),
    "mended": Kind(mended, "mended merge", "s", DEMIX, references=True, generates=True),
    "mended per family": Kind(
        partial(mended, per_family=True), "mended per family", "D", DEMIX, references=True, generates=True
    ),
    "fused merged": Kind(partial(fused, Merged), "merged, fused", "v", MDE, references=True, generates=True),
    "fused mixed": Kind(partial(fused, Mixed), "mixed, fused", "P", MDE, references=True),
    "trained": Kind(
        Trained, "trained on few tokens", "X", "https://arxiv.org/abs/2407.01492", trains=True, generates=True
    ),
}
