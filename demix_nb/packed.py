"""Mixed proxies in a byte per number: what their exact scores take, small enough for a page.

log Σ αᵢ pᵢ of an answer's token is that of the likeliest component's p, whose sum over a task is one number, and of all
others relative to it, which are between 0 and 1. Of these the root of minus the logarithm is kept in 127 even steps:
fine where a component is nearly as good as the best, coarse where it hardly counts. A score is then exact but for
rounding, which over hundreds of tokens leaves less than a thousandth of a bit per byte.

Source: MixMin (arXiv 2502.10510) for the mixing; the packing is ours.
"""

import base64
import gzip
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import UInt8
from numpy import ndarray

from demix_nb.mixtures import validate
from demix_nb.store import atomic

PACKED = "answers.npz"  # in a study's folder
STEPS = 127
MOST = 2_000_000  # bytes of a page's text that they may take


@dataclass(frozen=True)
class Packed:
    """Of `names`, the components: `levels` of every answer token, in steps of `step`, task after task.

    `tasks`: index task, columns tokens, bytes (what its bits are divided by), shift (Σ of the likeliest component's
    log-probabilities, nats).
    """

    names: list[str]
    levels: UInt8[ndarray, "component token"]
    step: float
    tasks: pd.DataFrame

    @classmethod
    def of(cls, answers) -> "Packed":
        """Pack the probabilities of mixed proxies (`scoring.Mixed`), all of whose rows are in bits per byte."""
        best = {row: logs.max(axis=1) for row, logs in answers.logs.items()}
        roots = np.concatenate([np.sqrt(best[row][:, None] - logs) for row, logs in answers.logs.items()]).T
        step = float(roots.max() / STEPS) or 1.0
        facts = {row: [len(one), answers.sizes[row], one.sum()] for row, one in best.items()}
        tasks = pd.DataFrame.from_dict(facts, "index", columns=["tokens", "bytes", "shift"]).rename_axis("task")
        return cls(list(answers.names), np.round(roots / step).astype(np.uint8), step, tasks)

    def scores(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return bits per byte, mixture × task."""
        shares = validate(mixtures, self.names).to_numpy()
        relative = np.exp(-((np.arange(STEPS + 1) * self.step) ** 2))[self.levels]
        logs = np.array([np.log(one @ relative) for one in shares])
        starts = np.cumsum(self.tasks["tokens"]) - self.tasks["tokens"]
        nats = np.add.reduceat(logs, starts, axis=1) + self.tasks["shift"].to_numpy()
        bits = -nats / (self.tasks["bytes"].to_numpy() * math.log(2))
        return pd.DataFrame(bits, mixtures.index, self.tasks.index)

    @property
    def text(self) -> str:
        """The levels, component after component, as a page holds them: gzipped, in base64."""
        return base64.b64encode(gzip.compress(self.levels.tobytes(), 9, mtime=0)).decode()

    def write(self, path: Path) -> Path:
        """Write them as one file, whole or not at all."""
        with atomic(path) as temporary, temporary.open("wb") as file:
            facts = {name: column.to_numpy() for name, column in self.tasks.items()}
            rows = {"names": np.array(self.names), "task": np.array(self.tasks.index, dtype=str)}
            np.savez_compressed(file, levels=self.levels, step=self.step, **rows, **facts)
        return path

    @classmethod
    def read(cls, path: Path) -> "Packed":
        """Read what `write` wrote."""
        with np.load(path, allow_pickle=False) as kept:
            facts = {name: kept[name] for name in ("tokens", "bytes", "shift")}
            tasks = pd.DataFrame(facts, pd.Index(kept["task"].tolist(), name="task"))
            return cls(kept["names"].tolist(), kept["levels"], float(kept["step"]), tasks)


def keep(proxies: Iterable, path: Path) -> None:
    """Write what the exact scores of a mixed proxy among these take, where it mixes all that it scores and they fit.

    Where none does there is no such file afterwards.
    """
    path.unlink(missing_ok=True)
    for proxy in proxies:
        answers = getattr(proxy, "answers", None)
        if answers is None or proxy.merged is not None or set(answers.logs) != set(answers.sizes):
            continue
        packed = Packed.of(answers)
        if len(packed.text) <= MOST:
            packed.write(path)
