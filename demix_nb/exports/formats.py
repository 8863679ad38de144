"""What a row of FORMATS says of a trainer: what its weights mean, whether 0 may stand, what exhaustion does, phases.

A row writes an order as files, and reads them back by the trainer's documented grammar, so that a test holds that what
was written is what was meant.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from demix_nb.exports.order import Order, Phase
from demix_nb.store import Refusal

Files = Mapping[str, str]  # name → text
Weights = Mapping[str, float]  # path → weight


@dataclass(frozen=True)
class Meaning:
    """What a weight is: in words, from token shares, and back to amounts of tokens, which share as the tokens do."""

    told: str
    of: Callable[[Order, Phase], pd.Series]
    tokens: Callable[[pd.Series, pd.Series], pd.Series]  # weights, mean tokens of a document → amounts of tokens


def _counts(order: Order, phase: Phase) -> pd.Series:
    """Whole documents to be read for the budget, by largest remainder."""
    from demix_nb.mixtures import apportion

    if order.tokens is None:
        raise Refusal("documents are counted, and the run's size is not known; say --tokens")
    lengths, shares = order.lengths(phase), order.documents(phase)
    total = round(order.tokens * phase.part / float((shares * lengths).sum()))
    counts = pd.Series(apportion(shares, total)).reindex(shares.index, fill_value=0)
    if (counts == 0).any():
        raise Refusal(f"{order.tokens:.4g} tokens hold no document of {counts.idxmin()!r}; train for more")
    return counts


MEANINGS = {
    "token share": Meaning(
        "a share of the sequences, which are of one length, so of the tokens",
        lambda order, phase: phase.shares,
        lambda weights, lengths: weights,
    ),
    "document share": Meaning(
        "a share of the documents: the token share divided by the mean tokens of a document",
        lambda order, phase: order.documents(phase),
        lambda weights, lengths: weights * lengths,
    ),
    "count": Meaning(
        "documents to be sampled, a number: nothing is weighed", _counts, lambda weights, lengths: weights * lengths
    ),
}


@dataclass(frozen=True)
class Format:
    """A trainer: `name` on the command line, `label` elsewhere.

    `weight`: a row of MEANINGS; `zeros`: what a weight of 0 does; `exhausted`: what happens when a source has been read
    through; `phases`: whether shares may change on the way; `near`: to what shares are written, where the run is long
    enough; `chance`: whether sources are drawn at random; `real`: the code that reads it in `tests/foreign`, empty
    where only its documented grammar is tested; `grammar`: where that stands; `use`: how a trainer is given the files.
    """

    name: str
    label: str
    weight: str
    zeros: str
    exhausted: str
    phases: bool
    grammar: str
    use: str
    write: Callable[[Order], dict[str, str]]
    read: Callable[[Files], list[Weights]]
    real: str = ""
    near: float = 1e-6
    chance: bool = False

    @property
    def meaning(self) -> Meaning:
        return MEANINGS[self.weight]

    def shares(self, files: Files, order: Order) -> list[pd.Series]:
        """Return what files of this format say, as token shares by candidate, phase by phase."""
        names = {order.sources[name].path: name for name in order.names}
        found = []
        for weights in self.read(files):
            series = pd.Series({names[path]: weight for path, weight in weights.items()}, dtype=float)
            lengths = pd.Series({name: order.sources[name].document_tokens for name in series.index}, dtype=float)
            amounts = self.meaning.tokens(series, lengths)
            found.append(amounts / amounts.sum())
        return found
