"""What is handed over: token shares in one phase or more, where each candidate's data lie, and how much is trained.

An order knows no trainer. What shares become in integers (sequences, documents) is settled by largest remainder, and
how often a candidate is read is counted, before anything is written. Shares are those that are trained on: a recipe,
where the mixture has one.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from demix_nb.mixtures import apportion, validate
from demix_nb.store import Refusal

SEQUENCE = 4096  # tokens of a sequence where nobody says; the number is ours


@dataclass(frozen=True)
class Source:
    """A candidate's data: the path as its trainer names it, tokens there are, mean tokens of a document.

    `valid` and `test`: paths of what is held out, for trainers that want these named beside.
    """

    path: str
    tokens: float | None = None
    document_tokens: float | None = None
    valid: str | None = None
    test: str | None = None


@dataclass(frozen=True)
class Phase:
    """Token shares, candidate → above 0, and which part of the budget they are trained for."""

    shares: pd.Series
    part: float = 1.0


@dataclass(frozen=True)
class Order:
    """Phases in their order, sources by candidate, and the run's size: tokens, tokens a sequence, sequences a step.

    Shares of 0 are dropped: trainers refuse them, or wait for data that is never drawn. Raises Refusal for a candidate
    without path, a path named twice, parts that are no shares of the run, and a budget of which a candidate gets no
    sequence.
    """

    phases: tuple[Phase, ...]
    sources: Mapping[str, Source]
    tokens: int | None = None
    sequence: int = SEQUENCE
    batch: int | None = None

    def __post_init__(self) -> None:
        kept = tuple(Phase(_above_zero(phase.shares), phase.part) for phase in self.phases)
        object.__setattr__(self, "phases", kept)
        if min(phase.part for phase in kept) <= 0 or abs(sum(phase.part for phase in kept) - 1) > 1e-6:
            told = ", ".join(f"{phase.part:g}" for phase in kept)
            raise Refusal(f"the phases take {told} of the run; parts are above 0 and sum to 1")
        if missing := [name for name in self.names if name not in self.sources]:
            raise Refusal(f"no path for candidate {missing[0]!r}; name it in the file of paths, or give it no share")
        used = Counter(self.sources[name].path for name in self.names)
        if twice := [path for path, times in used.items() if times > 1]:
            both = [name for name in self.names if self.sources[name].path == twice[0]]
            raise Refusal(f"{twice[0]} is the path of {both[0]!r} and of {both[1]!r}; name it once, with both shares")
        self._check_budget()

    def _check_budget(self) -> None:
        for phase, counts in zip(self.phases, self.sequences, strict=True):
            if lost := [name for name in phase.shares.index if counts[name] == 0]:
                share = phase.shares[lost[0]]
                least = self.sequence / (share * phase.part)
                raise Refusal(f"{self.tokens:.4g} tokens give {lost[0]!r} (share {share:.4g}) no sequence of "
                              f"{self.sequence}; train for {least:.2g} or more, or give it no share")  # fmt: skip

    @cached_property
    def names(self) -> list[str]:
        """The candidates that some phase gives a share, in their order."""
        return list(dict.fromkeys(name for phase in self.phases for name in phase.shares.index))

    @cached_property
    def sequences(self) -> list[dict[str, int]]:
        """Phase by phase, candidate → whole sequences of the budget; nothing where the budget is not known."""
        if self.tokens is None:
            return [dict.fromkeys(phase.shares.index, 1) for phase in self.phases]
        total = apportion({place: phase.part for place, phase in enumerate(self.phases)}, self.tokens // self.sequence)
        found = [apportion(phase.shares, total.get(place, 0)) for place, phase in enumerate(self.phases)]
        return [{name: counts.get(name, 0) for name in self.names} for counts in found]

    @property
    def starts(self) -> list[int]:
        """The step that each phase begins at, from 0; raises Refusal where tokens or the batch are not told."""
        if self.tokens is None or self.batch is None:
            raise Refusal("phases begin at steps; say --tokens of the run and --batch, the sequences of a step")
        ends = pd.Series([phase.part for phase in self.phases]).cumsum().shift(fill_value=0.0)
        return [round(end * self.tokens / self.sequence / self.batch) for end in ends]

    @property
    def epochs(self) -> pd.Series:
        """Candidate → how often the run reads its data; NaN where the budget or its tokens are not known."""
        there = pd.Series({name: self.sources[name].tokens for name in self.names}, dtype=float)
        read = sum(phase.shares.reindex(self.names, fill_value=0.0) * phase.part for phase in self.phases)
        return read * (float("nan") if self.tokens is None else self.tokens) / there

    def documents(self, phase: Phase) -> pd.Series:
        """Return document shares: token shares divided by mean tokens of a document, normalised.

        Raises Refusal for a candidate whose documents' length is not known.
        """
        lengths = self.lengths(phase)
        return (phase.shares / lengths) / (phase.shares / lengths).sum()

    def lengths(self, phase: Phase) -> pd.Series:
        """Return candidate → mean tokens of a document; raises Refusal for one that is not known."""
        known = pd.Series({name: self.sources[name].document_tokens for name in phase.shares.index}, dtype=float)
        if known.isna().any():
            raise Refusal(f"documents are weighed, and {known.isna().idxmax()!r} does not say how long its are; "
                          "write its document_tokens beside its path")  # fmt: skip
        return known


def _above_zero(shares: pd.Series) -> pd.Series:
    table = validate(shares.to_frame("mixture").T)
    return table.iloc[0][table.iloc[0] > 0].rename(None)
