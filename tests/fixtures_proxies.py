"""Small components and a small suite of rows of tokens: what proxies are tested with, without texts or harness."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch

from demix_nb.store import content_hash

ROWS = {"counts": [5, 9, 13, 17, 21, 25], "turns": [3, 60, 3, 60, 3], "writes": [7, 8, 9]}


@dataclass(frozen=True)
class Words:
    """A suite in the form of `scoring.Suite`: bits per token of a row's tokens, and for `writes` what a model writes.

    `asked` lists what was measured, (verb, rows) by model, in this process.
    """

    rows: Mapping[str, Sequence[int]] = field(default_factory=lambda: dict(ROWS))
    written: Sequence[str] = ("writes",)
    asked: list = field(default_factory=list)

    @property
    def tasks(self) -> pd.DataFrame:
        mode = ["generated" if row in self.written else "likelihood" for row in self.rows]
        facts = {"unit": "bits", "higher_is_better": False, "items": 1, "chance": np.nan, "mode": mode}
        return pd.DataFrame({"family": list(self.rows)} | facts, pd.Index(list(self.rows), name="task"))

    @property
    def keys(self) -> dict[str, str]:
        return {row: content_hash(list(tokens), row in self.written) for row, tokens in self.rows.items()}

    @property
    def mixable(self) -> list[str]:
        return [row for row in self.rows if row not in self.written]

    def measure(self, model, rows: Sequence[str] | None = None) -> pd.Series:
        rows = list(self.rows if rows is None else rows)
        self.asked.append(("measure", rows, str(model.dtype), str(model.device)))
        scores = {
            row: self._written(model, row) if row in self.written else bits(self._logs(model, row)) for row in rows
        }
        return pd.Series(scores, dtype=float)

    def logs(self, model, rows: Sequence[str]) -> dict[str, np.ndarray]:
        self.asked.append(("logs", list(rows), str(model.dtype), str(model.device)))
        return {row: self._logs(model, row) for row in rows}

    def _logits(self, model, row: str) -> torch.Tensor:
        with torch.inference_mode():
            return model(torch.tensor([self.rows[row]], device=model.device)).logits[0].double().cpu()

    def _logs(self, model, row: str) -> np.ndarray:
        tokens = torch.tensor(self.rows[row][1:])
        return self._logits(model, row)[:-1].log_softmax(-1).gather(1, tokens[:, None])[:, 0].numpy()

    def _written(self, model, row: str) -> float:
        return float(self._logits(model, row).argmax(-1).double().mean())


@dataclass(frozen=True)
class MixedWords:
    """What `scoring.Mixed` is to a suite, for `Words`."""

    suite: Words
    names: Sequence[str]
    logs: Mapping[str, np.ndarray]

    def scores(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        shares = mixtures[list(self.names)].to_numpy()
        table = {row: [bits(np.log(np.exp(logs) @ one)) for one in shares] for row, logs in self.logs.items()}
        return pd.DataFrame(table, mixtures.index)

    def gradient(self, mixture: pd.Series) -> None:
        raise NotImplementedError


def bits(logs: np.ndarray) -> float:
    return -float(logs.mean()) / math.log(2)
