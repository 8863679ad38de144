"""One live proxy under the reader's hand: merge the bank for any mixture, score it on a little text, let it write on.

A search scores a proxy on all held-out text and can wait; a slider cannot. So every domain gives one excerpt of its
held-out text here, and a move costs a merge (milliseconds), one pass over the excerpts and a few dozen tokens.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6: M(α) = Σ αᵢ Θᵢ.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from threading import RLock

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedModel

from demix_nb.ensemble import Ensemble, token_logs
from demix_nb.mixtures import as_table, one_hot
from demix_nb.proxies import Study
from demix_nb.scoring import HELDOUT, Suite

EXCERPT = 2000  # characters per domain: a move then takes a third of a second for 164k parameters on one core
PROMPT = 24  # tokens of held-out text that a continuation starts from
SMALL = 10_000_000  # parameters below which one thread is as fast, and five times as fast beside another busy process
TEMPERATURE = 0.8  # below 1, so that models this small keep to the words they know


@dataclass(frozen=True)
class Excerpts:
    """Held-out text as `Suite` wants it: one short document per domain."""

    families: Mapping[str, str]
    heldout: Mapping[str, Sequence[str]]


class Live:
    """The components of a run in memory and one model that becomes the proxy of whatever mixture is asked for.

    There is one model for everybody: whoever asks waits until the one before has its answer, as a slider may be moved
    while a cell still runs.
    """

    def __init__(self, study: Study) -> None:
        data, self.study, self.turn = study.data, study, RLock()
        self.bank, self.tokenizer, self.families = study.bank, data.tokenizer, data.families
        self.model = self.bank.model()
        if self.bank.size < SMALL:
            torch.set_num_threads(1)
        excerpts = {name: ["\n".join(documents)[:EXCERPT]] for name, documents in data.heldout.items()}
        few, context = Excerpts(self.families, excerpts), study.setting.architecture.context
        self.suite = Suite.build(["heldout"], self.tokenizer, corpora=few, context=context)
        self.starts = {name: self.tokenizer.encode(text)[:PROMPT] for name, (text,) in excerpts.items()}
        self.prompts = {name: self.tokenizer.decode(tokens) for name, tokens in self.starts.items()}

    def score(self, mixture: pd.Series) -> pd.Series:
        """Return domain → bits per byte of the mixture's proxy on the domain's excerpt; lower is better."""
        with self.turn:
            self.bank.write(self.model, mixture)
            return self._scored(self.model)

    def _scored(self, model: PreTrainedModel) -> pd.Series:
        with self.turn:
            return self.suite.score(model).rename(_domain)

    def write_on(self, mixture: pd.Series, domains: Sequence[str], *, tokens: int = 48, seed: int = 0) -> pd.Series:
        """Return domain → what the mixture's proxy writes after the beginning of the domain's excerpt.

        Sampled with the same seed at every call, so that what differs between two mixtures is the mixture.
        """
        starts = torch.tensor([self.starts[name] for name in domains])
        how = {"do_sample": True, "temperature": TEMPERATURE, "max_new_tokens": tokens}
        with self.turn, torch.random.fork_rng(), torch.inference_mode():
            self.bank.write(self.model, mixture)
            torch.manual_seed(seed)
            written = self.model.generate(starts, attention_mask=torch.ones_like(starts), **how)
        after = self.tokenizer.batch_decode(written[:, starts.shape[1] :], skip_special_tokens=True)
        return pd.Series(after, index=list(domains))

    @cached_property
    def ensemble(self) -> Ensemble:
        """The components' token probabilities on the excerpts, for the mixture of probabilities instead of weights."""
        logs = []
        for name in self.bank.names:
            with self.turn:
                self.bank.write(self.model, one_hot(self.bank.names, name))
                logs.append(token_logs(self.suite, self.model))
        return Ensemble(self.suite, self.bank.names, np.column_stack(logs))

    def path(self, start: str, end: str, points: int = 5) -> dict[str, pd.DataFrame]:
        """Return merged, ensemble and, where notebook 02 trained them, mixed → bits per byte along the way.

        Tables: index weight of `end`, columns the two domains; everything is scored on the same excerpts.
        """
        left, right = (one_hot(self.bank.names, name) for name in (start, end))
        way = as_table({f"{w:.4g}": (1 - w) * left + w * right for w in np.linspace(0, 1, points)})
        curves = {
            "merged": pd.DataFrame({name: self.score(row) for name, row in way.iterrows()}).T,
            "ensemble": self.ensemble(way).rename(columns=_domain),
            "mixed": pd.DataFrame({w: self._scored(model) for w, model in self._mixed(start, end)}).T,
        }
        return {kind: table[[start, end]].rename(float) for kind, table in curves.items() if len(table)}

    def _mixed(self, start: str, end: str) -> Iterator[tuple[str, PreTrainedModel]]:
        prefix = f"mixed-{start}-{end}"
        names = [path.name.removeprefix(f"{prefix}-") for path in sorted(self.study.models.glob(f"{prefix}-[01].*"))]
        return self.study.trained(prefix, names).live(names)

    @property
    def mixed_pair(self) -> tuple[str, str]:
        """Two domains between which models were really trained; the first and the last where there are none."""
        pairs = permutations(self.bank.names, 2)
        trained = (pair for pair in pairs if any(self.study.models.glob(f"mixed-{pair[0]}-{pair[1]}-[01].*")))
        return next(trained, (self.bank.names[0], self.bank.names[-1]))


def _domain(task: str) -> str:
    return task.removeprefix(HELDOUT)
