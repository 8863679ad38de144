"""Models by name, opened when they are needed, and what was measured of them, kept by content.

A `Source` names models, knows a key for the content of each and opens them one after the other; a `Store` opens them in
one dtype on one device and keeps what a suite measured under the model's key, task by task: a task that is added is
measured alone, and so is a model. What travels to a worker is a source, a suite and names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from demix_nb import devices
from demix_nb.parallel import SMALL, fan_out
from demix_nb.store import Cache, Refusal, content_hash, folder_hash, log_cache, score_cache

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

CHUNK = 6  # small models a worker measures between two reports; the suite travels once per chunk

Progress = Callable[..., Iterable]  # progress(pairs, total=…, desc=…), a tqdm say


def silent(pairs: Iterable, **_: object) -> Iterable:
    """Show no progress."""
    return pairs


@runtime_checkable
class Source(Protocol):
    """Models by name, a key for the content of each, and a way to open them one after the other, in a dtype, somewhere.

    `size`: the numbers in the largest of them.
    """

    names: Sequence[str]
    size: int

    def key(self, name: str) -> str: ...

    def open(self, names: Sequence[str], dtype: str, device: str) -> Iterator[tuple[str, "PreTrainedModel"]]: ...


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

    def open(self, names: Sequence[str], dtype: str, device: str) -> Iterator[tuple[str, "PreTrainedModel"]]:
        import torch

        model = self.bank.model(getattr(torch, dtype), device)
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

    @property
    def size(self) -> int:
        return max(map(devices.numbers, self.folders.values()), default=0)

    def open(self, names: Sequence[str], dtype: str, device: str) -> Iterator[tuple[str, "PreTrainedModel"]]:
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # checkpoints are opened by the dozen; a bar for each would bury the notebook's own
        for name in names:
            how = {"dtype": getattr(torch, dtype), "trust_remote_code": False}
            model = AutoModelForCausalLM.from_pretrained(self.folders[name], **how).eval()
            for tensor in model.state_dict(keep_vars=True).values():
                if tensor.is_floating_point():  # some architectures keep a few tensors wider, which no merge does
                    tensor.data = tensor.data.to(how["dtype"])
            yield name, model.to(device)


@dataclass(frozen=True)
class Store:
    """Opens the models of a source and keeps under `folder` what was measured of them, by content.

    All models are opened in one `dtype` on one `device` (see `devices.resolve`); in merging, sums are taken in float32
    and rounded once. `n_jobs`: worker processes, on GPUs at most one for each.
    """

    folder: Path
    n_jobs: int = 2
    progress: Progress = field(default=silent, repr=False)
    dtype: str = "float32"
    device: str = "cpu"

    def scores(self, source: Source, suite: "Suite", rows: Sequence[str] | None = None) -> pd.DataFrame:
        """Return the score table of a source on a suite, or on some rows of it, models in the source's order."""
        rows = list(suite.tasks.index if rows is None else rows)
        scored = self._measured(source, suite, rows, "measure", score_cache(self.folder))
        found = dict(self.progress(scored, total=len(source.names), desc="scores"))
        table = [[found[name][row] for row in rows] for name in source.names]
        return pd.DataFrame(table, pd.Index(source.names, name="mixture"), rows, dtype=float)

    def logs(self, source: Source, suite: "Suite", rows: Sequence[str]) -> dict[str, np.ndarray]:
        """Return row → log-probabilities (nats) of its answer tokens, answer × model of the source."""
        found = dict(self._measured(source, suite, rows, "logs", log_cache(self.folder)))
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
        heavy = source.size >= SMALL
        size = 1 if heavy else CHUNK
        chunks = [missing[start : start + size] for start in range(0, len(missing), size)]
        how = {"dtype": self.dtype, "device": self.device, "workers": min(self.n_jobs, len(chunks))}
        work = partial(_measure, source, suite, rows, verb, cache, **how)
        calls = [({name: keys[name] for name in chunk},) for chunk in chunks]
        for done in fan_out(work, calls, n_jobs=self.n_jobs, heavy=heavy):
            yield from done


def _measure(
    source: Source,
    suite: "Suite",
    rows: Sequence[str],
    verb: str,
    cache: Cache,
    keys: Mapping[str, str],
    *,
    dtype: str,
    device: str,
    workers: int,
) -> list[tuple[str, dict]]:
    """Open the models of `keys` (name → key), measure the rows that each lacks, and keep these; return all rows."""
    done = []
    for name, model in source.open(list(keys), dtype, devices.of_worker(device, workers)):
        kept = cache.get(keys[name])
        lacking = [row for row in rows if suite.keys[row] not in kept]
        try:
            found = getattr(suite, verb)(model, lacking)
        except Refusal as error:
            raise Refusal(f"{name}: {error}") from error
        new = {suite.keys[row]: found[row] for row in lacking}
        cache.put(keys[name], new)
        done.append((name, {row: (kept | new)[suite.keys[row]] for row in rows}))
    return done
