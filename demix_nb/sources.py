"""Models by name, opened when they are needed, and what was measured of them, kept by content.

A `Source` names models, knows a key for the content of each and opens them one after the other; a `Store` opens them in
one dtype on one device and keeps what a suite measured under the model's key, task by task: a task that is added is
measured alone, and so is a model. What travels to a worker is a part of a source, one model in few words, and where the
suite lies: weights and tokens are opened there, once (`resident`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from demix_nb import devices
from demix_nb.parallel import SMALL, fan_out
from demix_nb.resident import Shelved, shelved, version_of, wait_for_version
from demix_nb.store import Cache, Refusal, content_hash, folder_hash, log_cache, score_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from demix_nb.cluster import Cluster
    from demix_nb.merging import Bank
    from demix_nb.merging.description import Description
    from demix_nb.scoring import Suite

Progress = Callable[..., Iterable]  # progress(pairs, total=…, desc=…), a tqdm say


def silent(pairs: Iterable, **_: object) -> Iterable:
    """Show no progress."""
    return pairs


@runtime_checkable
class Part(Protocol):
    """One model of a source, which can be opened; of some kilobytes where it is for another process."""

    def open(self, dtype: str, device: str) -> "PreTrainedModel": ...


@runtime_checkable
class Source(Protocol):
    """Models by name, a key for the content of each, and each as a part by itself, in few words if it is to travel.

    `size`: the numbers in the largest of them.
    """

    names: Sequence[str]
    size: int

    def key(self, name: str) -> str: ...

    def part(self, name: str, *, travels: bool) -> Part: ...


Lives = dict[tuple[str, str], tuple["Bank", "PreTrainedModel"]]  # dtype, device → what merges are written into there


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
    def size(self) -> int:
        return self.bank.size

    @property
    def _options(self) -> dict[str, float]:
        return {"scale": self.scale} if self.scale != 1 else {}

    def _weights(self, name: str) -> pd.Series:
        return self.mixtures.loc[name] ** self.power

    def key(self, name: str) -> str:
        return self.bank.key(self._weights(name), self.method, self._options, np.random.default_rng(self.seed))

    @cached_property
    def _lives(self) -> Lives:
        return {}

    @cached_property
    def _described(self) -> "Description":
        from demix_nb.merging.description import Description

        return Description.of(self.bank)

    def part(self, name: str, *, travels: bool) -> "Merge":
        how = {"normalize": self.power == 1} | self._options
        weights = {one: float(weight) for one, weight in self._weights(name).items() if weight}
        if not travels:
            return Merge(self.bank, weights, self.method, self.seed, how, self._lives)
        same = {one: one for one in self._described.within}  # the very same texts are pickled once
        weights = {same.get(one, one): weight for one, weight in weights.items()}
        return Merge(self._described, weights, self.method, self.seed, how)

    def open(self, names: Sequence[str], dtype: str, device: str) -> Iterator[tuple[str, "PreTrainedModel"]]:
        """Yield each with its model, which is written anew for the next."""
        return ((name, self.part(name, travels=False).open(dtype, device)) for name in names)


@dataclass(frozen=True)
class Merge:
    """One merge: component → weight, and how; `lives` are models that its neighbours were written into."""

    bank: "Bank | Description"
    weights: Mapping[str, float]
    method: str
    seed: int
    how: Mapping[str, Any]
    lives: Lives | None = None

    def open(self, dtype: str, device: str) -> "PreTrainedModel":
        import torch

        from demix_nb.merging.description import live

        lives = {} if self.lives is None else self.lives
        if (dtype, device) not in lives:
            lives[dtype, device] = live(self.bank, getattr(torch, dtype), device)
        bank, model = lives[dtype, device]
        bank.write(model, self.weights, self.method, rng=np.random.default_rng(self.seed), **self.how)
        return model


@dataclass(frozen=True)
class Checkpoints:
    """One stored model per folder."""

    folders: Mapping[str, Path]

    @property
    def names(self) -> Sequence[str]:
        return list(self.folders)

    def key(self, name: str) -> str:
        return folder_hash(self.folders[name])

    @property
    def size(self) -> int:
        return max(map(devices.numbers, self.folders.values()), default=0)

    def part(self, name: str, *, travels: bool) -> "Checkpoint":
        folder = self.folders[name].absolute()
        return Checkpoint(folder, version_of([folder]) if travels else None)

    def open(self, names: Sequence[str], dtype: str, device: str) -> Iterator[tuple[str, "PreTrainedModel"]]:
        """Yield each with its model."""
        return ((name, self.part(name, travels=False).open(dtype, device)) for name in names)


@dataclass(frozen=True)
class Checkpoint:
    """A stored model; `version` of one that another process is to open (`resident.version_of`)."""

    folder: Path
    version: str | None = None

    def open(self, dtype: str, device: str) -> "PreTrainedModel":
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        if self.version:
            wait_for_version([self.folder], self.version)
        disable_progress_bar()  # checkpoints are opened by the dozen; a bar for each would bury the notebook's own
        how = {"dtype": getattr(torch, dtype), "trust_remote_code": False}
        model = AutoModelForCausalLM.from_pretrained(self.folder, **how).eval()
        for tensor in model.state_dict(keep_vars=True).values():
            if tensor.is_floating_point():  # some architectures keep a few tensors wider, which no merge does
                tensor.data = tensor.data.to(how["dtype"])
        return model.to(device)


@dataclass(frozen=True)
class Store:
    """Opens the models of a source and keeps under `folder` what was measured of them, by content.

    All models are opened in one `dtype` on one `device` (see `devices.resolve`); in merging, sums are taken in float32
    and rounded once. Work is done by an `engine`, or by `n_jobs` processes here, on GPUs at most one for each.
    """

    folder: Path
    n_jobs: int = 2
    progress: Progress = field(default=silent, repr=False)
    dtype: str = "float32"
    device: str = "cpu"
    engine: "Cluster | None" = field(default=None, repr=False)

    def scores(self, source: Source, suite: "Suite", rows: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the score table of a source on a suite, or on some rows of it, models in the source's order."""
        rows = list(suite.tasks.index if rows is None else rows)
        scored = self._measured(source, suite, rows, "measure", score_cache(self.folder.absolute()))
        found = dict(self.progress(scored, total=len(source.names), desc="scores"))
        table = [[found[name][row] for row in rows] for name in source.names]
        return pd.DataFrame(table, pd.Index(source.names, name="mixture"), rows, dtype=float)

    def logs(self, source: Source, suite: "Suite", rows: Sequence[str]) -> dict[str, np.ndarray]:
        """Return row → log-probabilities (nats) of its answer tokens, answer × model of the source."""
        found = dict(self._measured(source, suite, rows, "logs", log_cache(self.folder.absolute())))
        return {row: np.column_stack([found[name][row] for name in source.names]) for row in rows}

    def key(self, source: Source, name: str) -> str:
        """Return what a model's measurements are kept under: its weights, and what else decides how it computes."""
        return content_hash(source.key(name), self.dtype, devices.device_class(self.device))

    def _measured(
        self, source: Source, suite: "Suite", rows: Sequence[str], verb: str, cache: Cache
    ) -> Iterator[tuple[str, dict]]:
        """Yield (name, row → value) for the models of `source`: first what `cache` holds, then as they finish."""
        keys, missing = {name: self.key(source, name) for name in source.names}, []
        for name, key in keys.items():
            kept = cache.get(key)
            if all(suite.keys[row] in kept for row in rows):
                yield name, {row: kept[suite.keys[row]] for row in rows}
            else:
                missing.append(name)
        if not missing:
            return
        apart = self.engine is not None or min(self.n_jobs, len(missing)) > 1
        how = {"verb": verb, "cache": cache, "dtype": self.dtype, "device": self.device}
        how |= {"rows": None if rows == list(suite.tasks.index) else rows}
        how |= {"workers": 1 if self.engine else min(self.n_jobs, len(missing))}
        work = partial(_measure, shelved(suite, self.folder.absolute() / "suites") if apart else suite, **how)
        calls = [(name, source.part(name, travels=apart), keys[name]) for name in missing]
        heavy = source.size >= SMALL
        yield from fan_out(work, calls, n_jobs=self.n_jobs, heavy=heavy, engine=self.engine, gpu=self.on_gpu)

    @property
    def on_gpu(self) -> bool:
        return devices.device_class(self.device) == "cuda"


def _measure(
    suite: "Suite | Shelved",
    name: str,
    part: Part,
    key: str,
    *,
    rows: Sequence[str] | None,
    verb: str,
    cache: Cache,
    dtype: str,
    device: str,
    workers: int,
) -> tuple[str, dict]:
    """Open a model, measure the rows that it lacks under its key, and keep these; return its name and all rows."""
    kept = cache.get(key)
    suite = suite.open() if isinstance(suite, Shelved) else suite
    rows = list(suite.tasks.index) if rows is None else rows
    if lacking := [row for row in rows if suite.keys[row] not in kept]:
        model = part.open(dtype, devices.of_worker(device, workers))
        try:
            found = getattr(suite, verb)(model, lacking)
        except Refusal as error:
            raise Refusal(f"{name}: {error}") from error
        new = {suite.keys[row]: found[row] for row in lacking}
        cache.put(key, new)
        kept |= new
    return name, {row: kept[suite.keys[row]] for row in rows}
