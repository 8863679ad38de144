"""Mixtures in, scores out: every kind of proxy behind one call, and the table `KINDS` that holds their facts.

A proxy is a function from a mixture table to a `Scored`; search, fidelity and regression take any of them. A *merged*
proxy averages the components' weights, a *mixed* one their token probabilities, a *trained* one is really trained, for
few tokens; *mended* and *fused* ones go on from these with what a few references taught, and a *table* holds runs that
somebody has. A kind is made from a bank of components, a suite that measures a model, and a store that opens models and
keeps what was measured of them by content: what was scored once is never scored again, a killed run goes on where it
stopped. A task is served by the kind that can: mixed probabilities write no text, so a merge does; the column `kind` of
the tasks says which it was.

Source: DeMix (arXiv 2602.00747) 2.2, eq. 6; MixMin (2502.10510); RegMix (2407.01492).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from demix_nb.mixtures import validate
from demix_nb.runs import marks
from demix_nb.scored import Scored
from demix_nb.sources import Checkpoints, Merges, Store

if TYPE_CHECKING:
    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

Proxy = Callable[[pd.DataFrame], Scored]  # mixture table → scored mixtures


def checked(mixtures: pd.DataFrame, candidates: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a mixture table as `mixtures.validate` does; of one without rows, the columns are all there is to say."""
    if len(mixtures):
        return validate(mixtures, candidates)
    return mixtures.reindex(columns=list(mixtures if candidates is None else candidates)).astype(float)


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
    rows: Sequence[str] | None = None  # of the suite, all by default

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        mixtures = checked(mixtures, self.bank.names)
        source = Merges(self.bank, mixtures, self.method, self.seed, self.power, self.scale)
        scores = self.store.scores(source, self.suite, self.rows)
        return Scored(mixtures, scores, self.suite.tasks.loc[list(scores)].assign(kind="merged"))


class Mixed:
    """Proxies by mixing the components' token probabilities: each component reads the tasks once, ever.

    Tasks that probabilities cannot score, as those whose answer is written, are scored by linear merging.
    """

    def __init__(self, bank: "Bank", suite: "Suite", store: Store) -> None:
        from demix_nb.scoring import Mixed as Answers

        rows = [row for row in suite.tasks.index if row in suite.mixable]
        others = [row for row in suite.tasks.index if row not in rows]
        self.answers = Answers(suite, bank.names, store.logs(Checkpoints(bank.directories), suite, rows))
        self.merged = Merged(bank, suite, store, rows=others) if others else None
        self.tasks = suite.tasks.assign(kind=np.where(suite.tasks.index.isin(rows), "mixed", "merged"))
        self.names = bank.names

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        mixtures = checked(mixtures, self.names)
        if mixtures.empty:
            return Scored(
                mixtures, pd.DataFrame(index=mixtures.index, columns=self.tasks.index, dtype=float), self.tasks
            )
        parts = [self.answers.scores(mixtures), *([self.merged(mixtures).scores] if self.merged else [])]
        return Scored(mixtures, pd.concat(parts, axis=1), self.tasks)

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
        mixtures = checked(mixtures)
        scores = self.store.scores(Checkpoints(self.train(mixtures)), self.suite)
        return Scored(mixtures, scores, self.suite.tasks.assign(kind="trained"))


@dataclass(frozen=True)
class Table:
    """Runs that somebody has, as a proxy: it answers for mixtures among them, and returns those only."""

    scored: Scored

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        mixtures, known = checked(mixtures, self.scored.candidates), self.scored.averaged()
        places = pd.Index(marks(known.mixtures)).get_indexer(marks(mixtures))
        found = mixtures[places >= 0]
        scores = known.scores.iloc[places[places >= 0]].set_axis(found.index)
        return Scored(found, scores, known.tasks.assign(kind="table"))


def table(bank: object, suite: object, store: object, *, scored: Scored) -> Table:
    """The runs of `scored`; nothing is opened or measured."""
    return Table(scored)


def mended(bank: "Bank", suite: "Suite", store: Store, *, references: Scored, per_family: bool = False) -> Proxy:
    """Merged proxies whose power and scale were fitted to `references`, once or once per family."""
    from demix_nb import mending  # here, as in `fused`: it brings scikit-learn, and readers of tables wait for that

    merge = partial(_merge, bank, suite, store)
    found = mending.mend(merge, references, per_family=per_family, rng=np.random.default_rng(0))
    return found.apply(merge, "mended per family" if per_family else "mended")


def _merge(bank: "Bank", suite: "Suite", store: Store, mixtures: pd.DataFrame, power: float, scale: float) -> Scored:
    return Merged(bank, suite, store, "task_arithmetic", power, scale)(mixtures)


def fused(make: Callable[..., Proxy], bank: "Bank", suite: "Suite", store: Store, *, references: Scored) -> Proxy:
    """A proxy corrected by what `references` had beyond it."""
    from demix_nb import mending

    return mending.Fused(make(bank, suite, store)).fit(references)


def blended(bank: "Bank", suite: "Suite", store: Store, *, references: Scored) -> Proxy:
    """Between merged and mixed proxies: one share of the merged for all tasks, which `references` told."""
    from demix_nb import mending

    return mending.Blended(Merged(bank, suite, store), Mixed(bank, suite, store)).fit(references)


@dataclass(frozen=True)
class Kind:
    """One kind of proxy: how it is made, how it is drawn, what it needs and what it can do.

    `make(bank, suite, store, **options)`. `needs_components`: it works on components, without them `bank` is None;
    `needs_base`: and on their updates from a base. `references`: it is given a few of them, whose training is part of
    its cost. `trains`: it trains a model per mixture. `gradient`: its scores have one in α.
    """

    make: Callable[..., Proxy]
    label: str
    marker: str
    paper: str
    needs_components: bool = True
    needs_base: bool = False
    references: bool = False
    trains: bool = False
    gradient: bool = False

    def cost(
        self, *, candidates: int, tokens: float, searched: int = 0, budget: float = 1.0, references: int = 0
    ) -> float:
        """Return the training tokens of a search over `searched` mixtures; the base is not counted (DeMix 3.3.1).

        `tokens`: full budget of a model; `budget`: the share of it that trained proxies, or components, get.
        """
        models = searched if self.trains else candidates if self.needs_components else 0
        return tokens * (models * budget + (references if self.references else 0))


DEMIX, MIXMIN, MDE, REGMIX = (
    f"https://arxiv.org/abs/{number}" for number in ("2602.00747", "2502.10510", "2502.15950", "2407.01492")
)
MENDED = {"needs_base": True, "references": True}
KINDS = {
    "merged": Kind(Merged, "merged (DeMix)", "o", DEMIX),
    "mixed": Kind(Mixed, "mixed probabilities", "^", MIXMIN, gradient=True),
    "mended": Kind(mended, "mended merge", "s", DEMIX, **MENDED),
    "mended per family": Kind(partial(mended, per_family=True), "mended per family", "D", DEMIX, **MENDED),
    "fused merged": Kind(partial(fused, Merged), "merged, fused", "v", MDE, references=True),
    "fused mixed": Kind(partial(fused, Mixed), "mixed, fused", "P", MDE, references=True),
    "blended": Kind(blended, "blended", "h", DEMIX, references=True),
    "trained": Kind(Trained, "trained on few tokens", "X", REGMIX, trains=True, needs_components=False),
    "table": Kind(table, "runs given", "*", REGMIX, needs_components=False),
}
