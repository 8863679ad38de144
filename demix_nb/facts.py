"""What a study knows without opening a model: its tables, its setting, its candidates, and mixtures of them.

A study is a folder. Its tables are read and written by name (`study["fidelity"]`), each checked against what a table of
that name must hold. Nothing is read before it is asked for, and nothing here imports what models need.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml

from demix_nb import mixtures as simplex
from demix_nb import options, reading, store
from demix_nb.region import Region
from demix_nb.scored import Scored

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Facts:
    """A study's folder; `given`: a folder whose tables are read in place of the study's own."""

    folder: Path
    given: Path | None = None

    # --- tables

    @property
    def tables(self) -> Path:
        """The folder that tables are written to."""
        return self.folder / "tables"

    def __getitem__(self, name: str) -> pd.DataFrame:
        """Return a table by name, checked; raises Refusal saying which run makes it."""
        return store.read((self.given or self.tables) / f"{name}.csv", store.schema_of(name))

    def __setitem__(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table by name, checked, whole or not at all."""
        store.write(frame, self.tables / f"{name}.csv", store.schema_of(name))

    def __contains__(self, name: str) -> bool:
        return ((self.given or self.tables) / f"{name}.csv").is_file()

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

    @cached_property
    def setting(self) -> dict[str, Any]:
        """What all models share: general, beta, tokens (full budget), base (folder), context, suites, limit, …"""
        return store.read_setting(self.folder / "setting.json")

    @property
    def builtin(self) -> bool:
        """Whether the candidates are the laptop's own, for which the notebooks' claims are made."""
        return (self.folder / "setting.json").is_file() and self.setting.get("builtin", False)

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
        return self["corpora"]["tokens"]

    @property
    def ranked(self) -> pd.DataFrame:
        """The task table, as far as tasks are in the rank."""
        return self["tasks"].query("in_rank")

    # --- mixtures

    @cached_property
    def region(self) -> Region:
        """All mixtures of the candidates."""
        return Region(self.candidates)

    def bounded(self, caps: Mapping[str, float], *, max_epochs: float = 0.0, target_tokens: float = 0.0) -> Region:
        """Return the mixtures under caps on shares and, in a run of `target_tokens`, on epochs (0: no limit).

        Raises Refusal as `Region` does, and where one of the two limits of data is given without the other.
        """
        options.check(caps=dict(caps), max_epochs=float(max_epochs), target_tokens=int(target_tokens))
        options.agree({"max_epochs": max_epochs, "target_tokens": target_tokens})
        if not max_epochs:
            return Region(self.candidates, upper=caps)
        general, beta = self.setting["general"], self.setting["beta"]
        limits = {"target_tokens": target_tokens, "epochs": max_epochs}
        return Region.of_data(self.tokens, general=general, beta=beta, upper=caps, **limits)

    @property
    def plain(self) -> pd.DataFrame:
        """The mixtures that cost nothing to find: uniform, natural (token shares), general only."""
        return simplex.as_table({
            "uniform": simplex.uniform(self.candidates),
            "natural": simplex.natural(self.tokens),
            "general only": simplex.one_hot(self.candidates, self.setting["general"]),
        })  # fmt: skip

    @property
    def corners(self) -> pd.DataFrame:
        """Each candidate alone: the mixtures that the components were trained for."""
        return simplex.as_table({name: simplex.one_hot(self.candidates, name) for name in self.candidates})

    def recipe(self, mixture: pd.Series, beta: float | None = None) -> pd.Series:
        """Return the token shares really trained on, (1−β)·general + β·α (DeMix 2.2); β is the setting's, or `beta`."""
        return simplex.recipe(mixture, self.setting["general"], self.setting["beta"] if beta is None else beta)

    def between(self, start: str, end: str, shares: Sequence[float]) -> pd.DataFrame:
        """Return the mixtures of two candidates on the way from one to the other; rows are called by `end`'s share."""
        ends = self.corners.loc[[start, end]]
        return simplex.as_table({f"{w:.2f}": (1 - w) * ends.loc[start] + w * ends.loc[end] for w in shares})

    def read_mixtures(self, path: str | Path) -> tuple[pd.DataFrame, list[str]]:
        """Read mixtures of these candidates as people have them (`reading.mixtures`): a table, and notes of repairs."""
        return reading.mixtures(path, self.candidates)

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
