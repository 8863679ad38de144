"""A study, opened: the candidates, models, tasks, references and region that every notebook works on.

What is known without models is in `facts`. Models are opened when something is to be measured, and not before, so that
whoever only reads tables waits for nothing. A study knows no laptop world: what trained its models is named in its
setting, and asked only when a model is to be trained.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from demix_nb.facts import Facts
from demix_nb.proxies import KINDS, Proxy
from demix_nb.scored import Scored
from demix_nb.sources import Checkpoints, Progress, Store, silent
from demix_nb.store import Refusal

if TYPE_CHECKING:
    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

RANKED = "ranked"  # instead of suites: those whose tasks are in the rank


@dataclass(frozen=True)
class Models:
    """Stored models by name, the mixtures they stand for, and what was recorded while they were trained."""

    folders: Mapping[str, Path]
    mixtures: pd.DataFrame
    records: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)

    @property
    def delta(self) -> float:
        """Mean size of their updates, each Σ|Θ−Θ_base| / (Σ|Θ|+Σ|Θ_base|) (DeMix eq. 4)."""
        return float(self.records["delta"].mean())

    def __add__(self, other: "Models") -> "Models":
        mixtures, records = (
            pd.concat(pair) for pair in ((self.mixtures, other.mixtures), (self.records, other.records))
        )
        return Models({**self.folders, **other.folders}, mixtures, records.sort_index())


@dataclass(frozen=True)
class HeldOut:
    """Documents that no model was trained on: candidate → family, candidate → texts."""

    families: Mapping[str, str]
    heldout: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Study(Facts):
    """A study with its models; `suites` are what they are measured on (None: all of them, "ranked": those ranked)."""

    suites: Sequence[str] | str | None = None
    n_jobs: int = 2
    progress: Progress = field(default=silent, repr=False)

    @classmethod
    def open(cls, folder: str | Path, suites: Sequence[str] | str | None = None, **options: Any) -> "Study":
        """Open a study's folder; nothing is read before it is asked for."""
        return cls(Path(folder), suites=suites, **options)

    # --- models

    @property
    def models(self) -> Path:
        """The folder of trained models."""
        return self.folder / "models"

    @cached_property
    def components(self) -> Models:
        """Each candidate's component."""
        return Models({name: self.models / f"component-{name}" for name in self.candidates}, self.corners)

    @property
    def start(self) -> Models:
        """The base, which was trained on the general candidate, and the components."""
        mixtures = pd.concat([self.corners.loc[[self.setting["general"]]].set_axis(["base"]), self.corners])
        return Models({"base": self.setting["base"], **self.components.folders}, mixtures)

    @property
    def trains(self) -> bool:
        """Whether this study's models are trained here."""
        return "trainer" in self.setting

    @cached_property
    def bank(self) -> "Bank":
        """The components and their base, opened once."""
        return self.bank_of(self.components)

    @cached_property
    def suite(self) -> "Suite":
        """The tasks that models are measured on, with everything prepared that does not depend on weights."""
        from demix_nb.scoring import Suite

        names = self.suites or self.setting["suites"]
        if names == RANKED:
            names = sorted(set(self.ranked["suite"]))
        limit, context = self.setting["limit"], self.setting["architecture"]["context"]
        return Suite.build(names, self.tokenizer, heldout=self.heldout, limit=limit, context=context)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all models share."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(self.folder / "corpora" / "tokenizer")

    @cached_property
    def heldout(self) -> HeldOut:
        """The held-out documents of every candidate."""
        files = {name: self.folder / "corpora" / "heldout" / f"{name}.jsonl" for name in self.candidates}
        if missing := [path for path in files.values() if not path.is_file()]:
            raise Refusal(f"no held-out text at {missing[0]}; run notebook 01 again (`demix-nb run components`)")
        lines = {name: path.read_text(encoding="utf-8").splitlines() for name, path in files.items()}
        return HeldOut(self.families, {name: [json.loads(line)["text"] for line in lines[name]] for name in lines})

    @property
    def store(self) -> Store:
        """Where models are opened, and what was measured of them is kept."""
        return Store(self.folder / "cache", self.n_jobs, self.progress)

    def measure(self, models: Models) -> Scored:
        """Measure stored models on the suite, once ever."""
        scores = self.store.scores(Checkpoints(models.folders), self.suite)
        return Scored(models.mixtures.loc[scores.index], scores, self.tasks)

    def proxy(self, kind: str, *, components: Models | None = None, **options: Any) -> Proxy:
        """Return the proxy of a kind from the components, or from others.

        `options` are the kind's own: method and seed (merged), references (mended, fused), budget, seed and role
        (trained). Raises Refusal for an unknown kind.
        """
        if kind not in KINDS:
            raise Refusal(f"no kind of proxy {kind!r}; there are {', '.join(KINDS)}")
        if KINDS[kind].trains:
            how = {"role": kind} | options
            train = {"train": lambda design: self.train(design, **how).folders}
            return KINDS[kind].make(None, self.suite, self.store, **train)
        bank = self.bank if components is None else self.bank_of(components)
        return KINDS[kind].make(bank, self.suite, self.store, **options)

    def bank_of(self, components: Models) -> "Bank":
        """Open other components beside the study's base."""
        from demix_nb.merging import Bank

        return Bank.load(components.folders, base=self.setting["base"])

    def cost(self, kind: str, *, searched: int = 0, budget: float = 1.0, references: int = 0) -> float:
        """Return the training tokens of a search with this kind of proxy, see `Kind.cost`."""
        sizes = {"candidates": len(self.candidates), "tokens": self.setting["tokens"]}
        return KINDS[kind].cost(**sizes, searched=searched, budget=budget, references=references)

    def train(
        self, design: pd.DataFrame, role: str, *, seed: int | pd.Series = 0, budget: float = 1.0, **changes: Any
    ) -> Models:
        """Train a model per mixture of a design, those done before excepted, and return them.

        `role` names the folders `models/<role>-<mixture>`; `seed` may be one for each mixture (a Series); `budget`: the
        share of the full tokens. `changes`: what differs from the setting (beta, learning_rate, schedule, base,
        corpora, …). Raises Refusal for a study whose models are not trained here.
        """
        if not self.trains:
            raise Refusal(f"the models of {self.folder} are not trained here; bring those of role {role!r} along")
        trainer = importlib.import_module(self.setting["trainer"])
        folders, records = trainer.train_design(self, design, role, seed=seed, budget=budget, **changes)
        return Models(folders, design, records)

    @property
    def tasks(self) -> pd.DataFrame:
        """The task table of the suite that models are measured on."""
        return self.suite.tasks
