"""A study, opened: the candidates, models, tasks, references and region that every notebook works on.

What is known without models is in `facts`. Models are opened when something is to be measured, and not before. There is
one path for all studies: what one lacks (a base, text, references, components) is an empty table or nothing, never a
refusal of a notebook. A study knows no laptop world: what trains its models is named in its file, and asked only when a
model is to be trained.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from demix_nb import decide, devices, given
from demix_nb.certain import Certain
from demix_nb.cluster import Cluster
from demix_nb.fidelity import MIN_REFERENCES
from demix_nb.given import HeldOut, Models
from demix_nb.proxies import KINDS, Proxy
from demix_nb.region import Region
from demix_nb.scored import Scored, parted
from demix_nb.sources import Checkpoints, Progress, Store, silent
from demix_nb.store import Refusal

if TYPE_CHECKING:
    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

RANKED = "ranked"  # instead of names of tasks: those entries whose tasks are in the rank
JUDGED = 3  # mixtures of a test set: of two, any order is the right one half of the time
POOL = 1000  # mixtures among which those that tell most are chosen
HELD = 1 / 3  # of the runs, held out where there is no other test


@dataclass(frozen=True)
class Opened(Certain):
    """What a study has to open and to measure: components, base, tokenizer, text, tasks; `entries` as in `Study`."""

    entries: Sequence[str] | str | None = None
    limit: int | None = None
    n_jobs: int = 2
    progress: Progress = field(default=silent, repr=False)

    # --- models

    @property
    def opens(self) -> bool:
        """Whether there are components to open."""
        return bool(self.file.folders)

    @property
    def trains(self) -> bool:
        """Whether this study's models are trained here."""
        return self.file.trained_here

    @cached_property
    def components(self) -> Models:
        """Each candidate's component; none in a study of tables."""
        return Models(self.file.folders, self.corners.loc[list(self.file.folders)])

    @property
    def start(self) -> Models:
        """The base, which stands for the general candidate, and the components."""
        if self.file.base is None:
            return self.components
        began = self.corners.loc[[self.general]] if self.general else self.corners.mean().to_frame().T
        return Models({"base": self.file.base}, began.set_axis(["base"])) + self.components

    @cached_property
    def bank(self) -> "Bank | None":
        """The components and their base, opened once; None in a study of tables."""
        return self.bank_of(self.components) if self.opens else None

    def bank_of(self, components: Models) -> "Bank":
        """Open other components beside the study's base."""
        from demix_nb.merging import Bank

        return Bank.load(components.folders, base=self.file.base)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer that all models share: the one that is named, else the base's, else the first component's."""
        from demix_nb.merging.tokens import open_tokenizer

        return open_tokenizer(self.file.tokenizer or self.file.base or next(iter(self.components.folders.values())))

    @cached_property
    def window(self) -> int:
        """Tokens that a model sees at once: what the study says, else what the model has, at most 2,048."""
        return self.file.window or given.window_of(next(iter(self.components.folders.values())))

    @cached_property
    def heldout(self) -> HeldOut | None:
        """The held-out documents of the candidates that have some; None where the study has no text."""
        texts = given.heldout(self.file, self.candidates)
        return HeldOut({name: self.families[name] for name in texts}, texts) if texts else None

    @property
    def excerpts(self) -> list[str]:
        """One held-out document of every candidate that has text."""
        return [documents[0] for documents in self.heldout.heldout.values()] if self.heldout else []

    @cached_property
    def engine(self) -> Cluster | None:
        """The cluster that measures and trains; None where processes on this machine do."""
        return Cluster.of(self.file.engine, self.folder, self.n_jobs)

    @cached_property
    def store(self) -> Store:
        """Where models are opened, and what was measured of them is kept."""
        dtype, device = given.precision(self.file)
        n_jobs = self.n_jobs if self.engine else devices.workers(self.n_jobs, device)
        return Store(self.folder / "cache", n_jobs, self.progress, dtype, device, self.engine)

    @property
    def told(self) -> str:
        """What the study has and lacks, in a line."""
        file, lacking = self.file, []
        has = [f"{len(self.candidates)} candidates"]
        for what, there in (
            *([("components", True), ("a base", file.base)] if self.opens else [("runs", True), ("components", False)]),
            ("references", file.references or self.trains),
            ("a second seed", self.trains or (file.references and file.references.replicates)),
        ):  # fmt: skip
            (has if there else lacking).append(what)
        return f"the study has {', '.join(has)}" + (f"; without {', '.join(lacking)}" if lacking else "")

    # --- what they are measured on

    @cached_property
    def suite(self) -> "Suite":
        """The tasks that models are measured on, with everything prepared that does not depend on weights."""
        from demix_nb.scoring import Suite

        names = sorted(set(self.ranked["suite"])) if self.entries == RANKED else self.entries
        how = {"heldout": self.heldout, "context": self.window, "unsafe_code": self.file.unsafe_code}
        if self.file.include_path:
            how["include_path"] = self.file.include_path
        suite = Suite.build(
            given.asked(self.file, names, self.limit), self.tokenizer, batch_tokens=self.file.model.batch_tokens, **how
        )
        return replace(suite, tasks=parted(suite.tasks))

    @property
    def tasks(self) -> pd.DataFrame:
        """The task table of what is measured, or of the runs that were given."""
        return self.suite.tasks if self.opens else self.runs.tasks

    @cached_property
    def runs(self) -> Scored:
        """The mixtures and scores that a study of tables is given, and was told later (`demix-nb tell`)."""
        own = Scored.none(self.tasks, self.candidates) if self.opens else given.runs(self.file, self.candidates)
        return own + self.scored("told", tasks=own.tasks) if "told_scores" in self and not self.opens else own

    def measure(self, models: Models) -> Scored:
        """Measure stored models on the suite, once ever; of those known by their scores alone, these are taken."""
        if not models.folders:
            tasks = self.tasks[self.tasks.index.isin(models.scores.columns)] if len(models) else self.tasks
            scores = models.scores.reindex(models.mixtures.index, columns=tasks.index).astype(float)
            return Scored(models.mixtures, scores.rename_axis(index="mixture", columns=None), tasks)
        scores = self.store.scores(Checkpoints(models.folders), self.suite)
        return Scored(models.mixtures.loc[scores.index], scores, self.tasks)

    def cost(self, kind: str, *, searched: int = 0, budget: float = 1.0, references: int = 0) -> float:
        """Return the training tokens of a search with this kind of proxy, see `Kind.cost`; NaN where nobody said."""
        sizes = {"candidates": len(self.candidates), "tokens": self.budget or np.nan}
        return KINDS[kind].cost(**sizes, searched=searched, budget=budget, references=references)


@dataclass(frozen=True)
class Study(Opened):
    """A study with its models. `entries`: its tasks that are measured (None: all, "ranked": those ranked).

    `limit`: items of each that the file does not name.
    """

    @classmethod
    def open(cls, folder: str | Path, entries: Sequence[str] | str | None = None, **options: Any) -> "Study":
        """Open a study's folder; nothing is read before it is asked for."""
        return cls(Path(folder), entries=entries, **options)

    # --- really trained models

    def design(self, n: int, *, how: str = "uniform", rng: np.random.Generator) -> pd.DataFrame:
        """Return the references' mixtures: those given; else `n` drawn where models are trained here; else none.

        `how`: a row of `DESIGNS`. Drawn ones are of the candidates that there are: where one comes or goes they
        are others, and trained anew.
        """
        if self.trains:
            return self.region.design(n, how=how, rng=rng)
        return self.brought["reference"].mixtures

    def again(self, design: pd.DataFrame, n: int) -> pd.DataFrame:
        """Return the references' mixtures that have, or get, a second seed: the first `n`, or those given."""
        return design.iloc[:n] if self.trains else self.brought["replicate"].mixtures

    def train(
        self, design: pd.DataFrame, role: str, *, seed: int | pd.Series = 0, budget: float = 1.0, **changes: Any
    ) -> Models:
        """Train a model per mixture of a design, those done before excepted, and return them.

        `role` names the folders `models/<role>-<mixture>`; `seed` may be one for each mixture (a Series); `budget`: the
        share of the full tokens. `changes`: what differs from the study (beta, learning_rate, schedule, base, corpora,
        …). Where models are not trained here, those are returned that were given for this role, perhaps none.
        """
        if not self.trains:
            return self.brought.get(role, Models.none(self.candidates)).of(design.index)
        trainer = importlib.import_module(self.file.training["trainer"])
        folders, records = trainer.train_design(self, design, role, seed=seed, budget=budget, **changes)
        return Models(folders, design, records)

    @cached_property
    def brought(self) -> dict[str, Models]:
        """Role → the models that were given: reference, replicate."""
        return given.references(self.file, self.candidates, self.tasks)

    @property
    def evidence(self) -> str:
        """What stands behind the study's proxies: `references` that were really trained, or `none`."""
        return "references" if len(self["reference_scores"]) >= MIN_REFERENCES else "none"

    # --- proxies

    def proxy(self, kind: str, *, components: Models | None = None, **options: Any) -> Proxy:
        """Return the proxy of a kind from the components, or from others.

        `options` are the kind's own: method and seed (merged), references (mended, fused), budget, seed and role
        (trained). Raises Refusal for an unknown kind.
        """
        if kind not in KINDS:
            raise Refusal(f"no kind of proxy {kind!r}; there are {', '.join(KINDS)}")
        row = KINDS[kind]
        if row.trains:
            how = {"role": kind} | options
            options = {"train": lambda design: self.train(design, **how).folders}
        if not row.needs_components and not row.trains:
            return row.make(None, None, None, scored=self.runs, **options)
        bank = self.bank if components is None else self.bank_of(components)
        return row.make(bank if row.needs_components else None, self.suite, self.store, **options)

    # --- what a predictor learns from

    def luck(self, rng: np.random.Generator) -> pd.Series:
        """Return `predictors.luck` of the runs given, by task: how often chance would order them as well."""
        from demix_nb.predictors import luck

        return luck(self.runs, rng=rng, n_jobs=self.n_jobs)

    def to_score(self, kind: str, rounds: Sequence[int], drawn: str = "uniform") -> dict[str, Any]:
        """Return a search's options: the rounds that are scored, none of runs given, which are there from the start.

        `drawn`: how the first is, a row of `region.DESIGNS`.
        """
        if KINDS[kind].needs_components:
            return {"sizes": list(rounds), "design": drawn}
        return {"sizes": [], "design": drawn, "start": self.runs.only(self.ranked.index)}

    def lesson(
        self, n: int, *, learners: Sequence[str], drawn: str = "uniform", rng: np.random.Generator
    ) -> tuple[Scored, dict[str, Scored]]:
        """Return what predictors learn from, by family, and what they are judged on.

        Learnt from are `n` proxies of fresh mixtures (`drawn`: a row of `region.DESIGNS`), or the runs given. Judged on
        are the references' mixtures, once by their proxies and once really trained; where there are too few, a third
        of the runs is held out. Raises Refusal where the rest is too few for any of the `learners`.
        """
        from demix_nb.predictors import check_enough

        kind = self.kinds[0]
        if self.opens:
            fresh = self.region.design(n, how=drawn, rng=rng, prefix="r1-")
            seen = self.proxy(kind)(fresh).only(self.ranked.index).by_family()
        else:
            seen = self.runs.only(self.ranked.index).by_family()
        found = {"proxies": self.scored(kind, "reference"), "trained models": self.references}
        tests = {name: test.by_family() for name, test in found.items() if len(test) >= JUDGED}
        if not tests:
            check_enough(seen, learners, held=HELD)
            seen, held = seen.split(HELD, rng=rng)
            return seen, {"held out": held}
        both = next(iter(tests.values()))  # a reference is no test if it is fitted
        return seen.take(np.flatnonzero(~seen.shared_with(both))), tests

    def telling(
        self, region: Region, predictors: Mapping[str, Any], n: int, *, rng: np.random.Generator
    ) -> pd.DataFrame:
        """Return the `n` mixtures of a region whose training would tell most about the proxies (`decide.telling`).

        `predictors`: kind → what was fitted to it; where the first and the last disagree, more is to be learnt.
        """
        pool = region.draw(POOL, rng=rng, prefix="t")
        first, last = (predictors[kind].predict(pool) for kind in (self.kinds[0], self.kinds[-1]))
        return decide.telling(pool, self["reference_mixtures"], n, disagreement=decide.disagreement(first, last))
