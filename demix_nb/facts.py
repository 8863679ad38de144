"""What a study knows without opening a model: its file, its tables, its candidates, and mixtures of them.

A study is a folder with a `study.yaml`. Its tables are read and written by name (`study["fidelity"]`), each checked
against what a table of that name must hold. Nothing is read before it is asked for, and nothing here imports what
models need.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from demix_nb import allowed, given, reading, store, studyfile
from demix_nb import mixtures as simplex
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.studyfile import StudyFile

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Tables:
    """A study's folder, its tables by name; `given`: a folder whose tables are read in place of the study's own."""

    folder: Path
    given: Path | None = None

    @property
    def tables(self) -> Path:
        """The folder that tables are written to."""
        return self.folder / "tables"

    @property
    def models(self) -> Path:
        """The folder of trained models."""
        return self.folder / "models"

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table by name, checked; raises Refusal saying which run makes it."""
        return store.read((self.given or self.tables) / f"{name}.csv", store.schema_of(name))

    def __setitem__(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table by name, checked, whole or not at all."""
        store.write(frame, self.tables / f"{name}.csv", store.schema_of(name))

    def __contains__(self, name: str) -> bool:
        return ((self.given or self.tables) / f"{name}.csv").is_file()

    # --- what is shown and kept

    def figure(self, name: str, **extra: Any) -> "Figure":
        """Draw a figure of the gallery from this study's tables, keep it as `figures/<name>.png`, and return it."""
        from demix_nb.figures import gallery

        return gallery.draw(name, self.__getitem__, self.folder / "figures", **extra)

    def answer(self, facts: Mapping[str, Any]) -> Path:
        """Write `mixture.yaml`, the study's answer, whole or not at all."""
        path = self.folder / "mixture.yaml"
        with store.atomic(path) as temporary:
            temporary.write_text(yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True), encoding="utf-8")
        return path

    def summarise(self, step: str, results: Mapping[str, object]) -> pd.DataFrame:
        """Write `summary/<step>.csv`, the step's lines in the closing table of `demix-nb run`, and return it.

        A result that is empty ("") has nothing to tell and is left out.
        """
        told = {name: str(value) for name, value in results.items() if value != ""}
        frame = pd.DataFrame({"value": list(told.values())}, index=list(told))
        store.write(frame.rename_axis("result"), self.folder / "summary" / f"{step}.csv", "summary")
        return frame


@dataclass(frozen=True)
class Facts(Tables):
    """What a study file and the tables say: candidates, families, tokens, region, and mixtures of them."""

    def scored(self, name: str, mixtures: str | None = None, tasks: pd.DataFrame | None = None) -> Scored:
        """Return `<name>_scores` of `<mixtures or name>_mixtures`, on the ranked tasks or on `tasks`."""
        scores = self[f"{name}_scores"]
        shares = self[f"{mixtures or name}_mixtures"][self.candidates].loc[scores.index]
        return Scored(shares, scores, self.ranked if tasks is None else tasks)

    @property
    def references(self) -> Scored:
        """The really trained models, on the ranked tasks."""
        return self.scored("reference")

    # --- facts

    def verdict(self, kind: str) -> str:
        """What notebook 03 found of a kind of proxy: use, use with care, don't; not known without references."""
        trust = self["trust"]
        rows = trust[trust.index == kind]
        return "not known" if rows.empty else "{verdict}: {because}".format(**rows.iloc[0])

    @cached_property
    def file(self) -> StudyFile:
        """What the study file says; raises Refusal where notebook 01 has not run and no file was given."""
        return studyfile.read(self.folder / studyfile.NAME)

    @cached_property
    def here(self) -> tuple[str, str]:
        """The dtype and the device of a model that a panel holds in this process."""
        return given.precision(self.file, here=True)

    @property
    def builtin(self) -> bool:
        """Whether the candidates are the laptop's own, for which the notebooks' claims are made."""
        here = (self.folder / studyfile.NAME).is_file() and self.file.training
        return str((here or {}).get("builtin", "")).lower() == "true"

    @property
    def general(self) -> str | None:
        """The candidate that every recipe is diluted with, if one is."""
        return self.file.general

    @property
    def beta(self) -> float:
        """The share of the candidates in every recipe; 1 where nothing dilutes."""
        return 1.0 if self.file.beta is None else self.file.beta

    @property
    def budget(self) -> float | None:
        """Tokens that a component is trained on; None where nobody said."""
        told = (self.file.training or {}).get("tokens")
        return None if told is None else float(told)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of proxy that need nothing beyond this study: merged and mixed ones of its components, or runs."""
        return ("merged", "mixed") if self.file.folders else ("table",)

    @cached_property
    def candidates(self) -> list[str]:
        return list(self.families)

    @cached_property
    def families(self) -> dict[str, str]:
        """Candidate → family."""
        return self["corpora"]["family"].to_dict()

    @property
    def tokens(self) -> pd.Series:
        """Candidate → tokens there are, of all text given: natural shares and epochs are counted in them."""
        tokens = self["corpora"]["tokens"]
        return tokens if tokens.isna().any() else tokens.astype(int)

    @property
    def ranked(self) -> pd.DataFrame:
        """The task table, as far as tasks are in the rank."""
        return self["tasks"].query("in_rank")

    # --- mixtures

    @cached_property
    def region(self) -> Region:
        """The mixtures that the study allows."""
        return self.bounded({})

    def bounded(self, caps: Mapping[str, float], *, max_epochs: float = 0.0, target_tokens: float = 0.0) -> Region:
        """Return the study's region under more caps on shares and, in a run of `target_tokens`, on epochs.

        0: as the study file has it. Raises Refusal as `Region` does, and where one of the two limits of data is given
        without the other, or tokens are not known.
        """
        return allowed.region(self.file, self.tokens, caps, max_epochs=max_epochs, target_tokens=target_tokens)

    @property
    def plain(self) -> pd.DataFrame:
        """The mixtures that cost nothing to find, as far as the study knows what they need.

        Uniform; natural (token shares); general only; and the study's baseline.
        """
        found = {"uniform": simplex.uniform(self.candidates)}
        if self.tokens.notna().all():
            found["natural"] = simplex.natural(self.tokens)
        if self.general:
            found["general only"] = simplex.one_hot(self.candidates, self.general)
        own = allowed.baseline(self.file)
        return simplex.as_table(found | ({} if own is None else {"baseline": own}))

    @property
    def corners(self) -> pd.DataFrame:
        """Each candidate alone: the mixtures that the components were trained for."""
        return simplex.as_table({name: simplex.one_hot(self.candidates, name) for name in self.candidates})

    def recipe(self, mixture: pd.Series, beta: float | None = None) -> pd.Series:
        """Return the token shares really trained on, (1−β)·general + β·α (DeMix 2.2); β is the study's, or `beta`."""
        return simplex.recipe(mixture, self.general, self.beta if beta is None else beta)

    def between(self, start: str, end: str, shares: Iterable[float]) -> pd.DataFrame:
        """Return the mixtures of two candidates on the way from one to the other; rows are called by `end`'s share."""
        ends = self.corners.loc[[start, end]]
        return simplex.as_table({f"{w:.2f}": (1 - w) * ends.loc[start] + w * ends.loc[end] for w in shares})

    def read_mixtures(self, path: str | Path) -> tuple[pd.DataFrame, list[str]]:
        """Read mixtures of these candidates as people have them (`reading.mixtures`): a table, and notes of repairs."""
        return reading.mixtures(path, self.candidates, folders=self.file.folders)

    def held(self, trained: Scored, runs: pd.DataFrame) -> str:
        """Return whether the tied set holds the best of what was really trained, in words (`headroom.held`)."""
        from demix_nb import headroom

        ranked = self.ranked.index
        return headroom.held(self["ties"], trained.only(ranked), runs, self.references.only(ranked))
