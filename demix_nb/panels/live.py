"""One live proxy under the reader's hand: merge the bank for any mixture, measure it on a little text, let it write on.

A search scores a proxy on all held-out text and can wait; a slider cannot. So every candidate gives one excerpt of its
held-out text here, and a move costs a merge (milliseconds), one pass over the excerpts and a few dozen tokens.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6: M(α) = Σ αᵢ Θᵢ.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import permutations
from threading import RLock

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from demix_nb.given import HeldOut
from demix_nb.merging import Bank
from demix_nb.mixtures import as_table, one_hot, validate
from demix_nb.parallel import SMALL
from demix_nb.scored import Scored
from demix_nb.scoring import Mixed, Suite
from demix_nb.sources import Checkpoints
from demix_nb.store import Refusal

EXCERPT = 2000  # characters per candidate: a move then takes a third of a second for 164k parameters on one core
PROMPT = 24  # tokens of held-out text that a continuation starts from
NOTHING = "(nothing)"  # what a continuation starts from where there is no text
NEXT = 12  # tokens that follow it really, and elsewhere
TEMPERATURE = 0.8  # below 1, so that models this small keep to the words they know
WEIGHTS = tuple(f"{weight:.2f}" for weight in np.linspace(0, 1, 101))  # as `Study.between` calls its mixtures


class Writer:
    """The components of a study in memory and one model that becomes the proxy of whatever mixture is asked for.

    It writes on from a beginning, or says how likely what follows is. There is one model for everybody: whoever asks
    waits until the one before has its answer, as a slider may be moved while a cell still runs. Nothing is opened
    before it is asked for.
    """

    def __init__(self, study) -> None:
        self.study, self.turn = study, RLock()

    @property
    def bank(self) -> Bank:
        """The components."""
        return self.study.bank

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model that proxies are written into, where and as the study's own are opened."""
        if self.bank.size < SMALL:
            torch.set_num_threads(1)
        dtype, device = self.study.here
        return self.bank.model(getattr(torch, dtype), device)

    @cached_property
    def excerpts(self) -> dict[str, list[str]]:
        """Candidate → its excerpt, as its only document; those without text are left out."""
        texts = self.study.heldout.heldout if self.study.heldout else {}
        cut = {name: "\n".join(texts.get(name, ()))[:EXCERPT] for name in self.study.families}
        return {name: [text] for name, text in cut.items() if text.strip()}

    @property
    def names(self) -> list[str]:
        """The candidates that have held-out text."""
        return list(self.excerpts)

    @cached_property
    def suite(self) -> Suite:
        """The excerpts as tasks."""
        if not self.names:
            raise Refusal("no candidate has held-out text, so a merged mixture cannot be scored here; add `heldout`")
        few = HeldOut({name: self.study.families[name] for name in self.names}, self.excerpts)
        return Suite.build(["heldout"], self.study.tokenizer, heldout=few, context=self.study.window)

    @cached_property
    def starts(self) -> dict[str, list[int]]:
        """What a continuation starts from → its tokens: each candidate's excerpt, or nothing but a text's beginning.

        Empty where there is no text and the tokenizer has no token that texts begin or end with.
        """
        tokenizer = self.study.tokenizer
        if self.names:
            return {name: tokenizer.encode(text)[:PROMPT] for name, (text,) in self.excerpts.items()}
        ends = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
        return {NOTHING: ends[:1]} if ends else {}

    @cached_property
    def follows(self) -> dict[str, list[int]]:
        """Candidate → the tokens that follow its beginning in its excerpt."""
        excerpts = {name: self.study.tokenizer.encode(text) for name, (text,) in self.excerpts.items()}
        return {name: tokens[PROMPT : PROMPT + NEXT] for name, tokens in excerpts.items()}

    @cached_property
    def prompts(self) -> dict[str, str]:
        """The same as text."""
        return {name: self.study.tokenizer.decode(tokens) for name, tokens in self.starts.items()}

    def write_on(self, mixture: pd.Series, candidates: Sequence[str], *, tokens: int = 48, seed: int = 0) -> pd.Series:
        """Return candidate → what the mixture's proxy writes after the beginning of the candidate's excerpt.

        Sampled with the same seed at every call, so that what differs between two mixtures is the mixture.
        """
        how = {"do_sample": True, "temperature": TEMPERATURE, "max_new_tokens": tokens}
        with self.turn, torch.random.fork_rng(), torch.inference_mode():
            self.bank.write(self.model, mixture)
            starts, mask = _padded([self.starts[name] for name in candidates], self.model.device)
            torch.manual_seed(seed)
            written = self.model.generate(starts, attention_mask=mask, **how)
        after = self.study.tokenizer.batch_decode(written[:, starts.shape[1] :], skip_special_tokens=True)
        return pd.Series(after, index=list(candidates))

    def odds(self, mixture: pd.Series, candidates: Sequence[str]) -> pd.DataFrame:
        """Return candidate → `given`, what follows it really (`right`), what follows the next candidate's (`wrong`).

        `p_right`, `p_wrong`: the proxy's probability of each, per token (geometric mean).
        """
        others, decode = [*candidates[1:], candidates[0]], self.study.tokenizer.decode
        rows = {}
        with self.turn, torch.inference_mode():
            self.bank.write(self.model, mixture)
            for name, other in zip(candidates, others, strict=True):
                right, wrong = self.follows[name], self.follows[other]
                rows[name] = {"given": self.prompts[name], "right": decode(right), "wrong": decode(wrong)}
                rows[name] |= {"p_right": self._likely(name, right), "p_wrong": self._likely(name, wrong)}
        return pd.DataFrame(rows).T.astype({"p_right": float, "p_wrong": float}).rename_axis("candidate")

    def _likely(self, name: str, after: Sequence[int]) -> float:
        tokens = torch.tensor([[*self.starts[name], *after]], device=self.model.device)
        logs = self.model(tokens).logits[0, -len(after) - 1 : -1].float().log_softmax(dim=-1)
        return float(logs[torch.arange(len(after)), tokens[0, -len(after) :]].mean().exp())


class Live(Writer):
    """The same as a kind of proxy, whose tasks are the candidates that have held-out text (`names`).

    Each is scored by its excerpt in bits per byte.
    """

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        """Return the proxies' bits per byte on every candidate's excerpt, as any other proxy does; lower is better."""
        mixtures = validate(mixtures, self.bank.names)
        rows = {}
        for name, mixture in mixtures.iterrows():
            with self.turn:
                self.bank.write(self.model, mixture)
                rows[name] = self.suite.measure(self.model)
        return self._scored(mixtures, pd.DataFrame(rows).T)

    def _scored(self, mixtures: pd.DataFrame, scores: pd.DataFrame) -> Scored:
        tasks = self.suite.tasks.set_axis(pd.Index(self.names, name="task"))
        return Scored(mixtures, scores[self.suite.tasks.index].set_axis(self.names, axis=1), tasks)

    @cached_property
    def _answers(self) -> Mixed:
        logs = []
        for name in self.bank.names:
            with self.turn:
                self.bank.write(self.model, one_hot(self.bank.names, name))
                logs.append(self.suite.logs(self.model, self.suite.mixable))
        together = {row: np.column_stack([each[row] for each in logs]) for row in self.suite.mixable}
        return Mixed(self.suite, self.bank.names, together)

    def mixed(self, mixtures: pd.DataFrame) -> Scored:
        """Return the same with the components' token probabilities mixed instead of their weights."""
        return self._scored(validate(mixtures, self.bank.names), self._answers.scores(mixtures))

    def path(self, start: str, end: str, points: int = 5) -> dict[str, pd.DataFrame]:
        """Return merged, mixed and, where notebook 02 trained them, reference → bits per byte along the way.

        Tables: index weight of `end`, columns those of the two candidates that have text; everything is measured on
        the same excerpts.
        """
        way = self._between(start, end, np.linspace(0, 1, points))
        curves = {"merged": self(way).scores, "mixed": self.mixed(way).scores}
        if trained := self._trained(start, end):
            curves["reference"] = self._references(start, end, trained)
        read = [name for name in (start, end) if name in self.names]
        return {kind: table[read].rename(float) for kind, table in curves.items()}

    def _between(self, start: str, end: str, weights: Iterable[float]) -> pd.DataFrame:
        left, right = (one_hot(self.bank.names, name) for name in (start, end))
        return as_table({f"{w:.4g}": (1 - w) * left + w * right for w in weights})

    def _references(self, start: str, end: str, weights: Sequence[str]) -> pd.DataFrame:
        folders = {weight: self.study.models / f"path-{start}-{end}-{weight}" for weight in weights}
        with self.turn:
            opened = Checkpoints(folders).open(weights, *self.study.here)
            rows = {weight: self.suite.measure(model) for weight, model in opened}
        way = self._between(start, end, map(float, weights)).set_axis(weights)
        return self._scored(way, pd.DataFrame(rows).T).scores

    def _trained(self, start: str, end: str) -> list[str]:
        """Return the weights of `end` at which notebook 02 trained a model between the two candidates."""
        return [weight for weight in WEIGHTS if f"path-{start}-{end}-{weight}" in self._folders]

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(path.parent.name for path in self.study.models.glob("path-*/config.json"))

    @property
    def trained_pair(self) -> tuple[str, str]:
        """Two candidates between which models were really trained; the first and the last where there are none."""
        pairs = permutations(self.bank.names, 2) if self._folders else ()
        return next((pair for pair in pairs if self._trained(*pair)), (self.bank.names[0], self.bank.names[-1]))


def _padded(starts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return beginnings as rows of tokens, padded on the left, and the mask of what is no padding."""
    longest = max(map(len, starts))
    tokens = torch.tensor([[0] * (longest - len(row)) + list(row) for row in starts], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in starts], device=device)
    return tokens, mask
