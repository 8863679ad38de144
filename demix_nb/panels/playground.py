"""A study to play with: one object whose methods are the panels.

Each returns a `Panel`, which a notebook shows as controls above what they change and a still picture under it. What is
drawn comes from the tables of a finished run; only `live` and `path` open its components, and only they need torch.
Of more candidates than a page can list, those with the largest shares in the named mixtures are offered, and the page
says so.
"""

from collections.abc import Sequence
from functools import cached_property

import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from pandas.io.formats.style import Styler

from demix_nb.mixtures import uniform
from demix_nb.panels import curves, desk, landscapes, look, replay
from demix_nb.panels.controls import Cells, Desk, Panel, chooser, tokens_slider
from demix_nb.panels.landscapes import MACRO, heaviest
from demix_nb.predictors import PREDICTORS
from demix_nb.scored import Scored

LISTED = 20  # candidates that a page lists: sliders, rows, entries of a dropdown
WRITERS = 7  # candidates that write on, one per family


class Known:
    """What a finished run knows, and what is learnt from it for the panels; `seed` is that of what is fitted."""

    def __init__(self, study, *, seed: int = 0) -> None:
        self.study, self.seed = study, seed
        self.named = study["named_mixtures"][study.candidates]
        self.weights = self.named.mean()  # of the candidates, where only some can be listed

    @cached_property
    def scored(self) -> Scored:
        """What the search scored, task by task."""
        return self.study.scored("search")

    @cached_property
    def families(self) -> Scored:
        """The same with one task per family, its mean: what is ranked."""
        return self.scored.by_family()

    @cached_property
    def predictor(self):
        """A Gaussian process over the family scores, whose spread says where nobody has looked."""
        return self._fitted(self.families)

    def _fitted(self, scored: Scored):
        return PREDICTORS["gaussian_process"].new(rng=np.random.default_rng(self.seed)).fit(scored)

    @cached_property
    def proxy(self):
        """The live proxy: the study's components in memory, merged for any mixture (`panels.live.Live`)."""
        from demix_nb.panels.live import Live

        return Live(self.study)

    @cached_property
    def sliders(self) -> Desk:
        """The sliders that `standing`, `desk` and `live` share: moved in one place, they move in all."""
        return Desk(self.named, self._listed)

    @property
    def _listed(self) -> list[str]:
        return heaviest(self.weights, LISTED)

    def _notes(self, shown: int, total: int, what: str = "candidates") -> list[widgets.HTML]:
        said = f"{shown} of {total} {what}: those with the largest shares in the named mixtures"
        return [widgets.HTML(said)] if shown < total else []

    def recipe(self, mixture: pd.Series, budget: float) -> pd.DataFrame:
        """Return candidate → mixture, recipe, its tokens out of a `budget` of tokens, and how often each repeats."""
        setting = self.study.setting
        return desk.recipe_table(mixture, setting["general"], setting["beta"], self.study.tokens, budget)

    def places(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the predicted rank of mixtures per family, their mean `macro`, and the `place` among the proxies."""
        return self.predictor.predict(mixtures).places(self.families)


class Playground(Known):
    """The panels of one opened study."""

    def __init__(self, study, *, seed: int = 0) -> None:
        look.style()
        super().__init__(study, seed=seed)

    # --- a mixture under sliders

    def standing(self) -> Panel:
        """What is expected of a mixture, among all scored proxies."""
        return Panel(self._standing, self.sliders.box, mixture=self.sliders.mixture)

    def _standing(self, mixture: dict[str, float]) -> Sequence[go.Figure]:
        found = desk.guess(self.predictor, pd.Series(mixture), self.families)
        return [desk.standing(found, self.families)]

    def desk(self) -> Panel:
        """A mixture's recipe over a budget of tokens, and what is expected of it."""
        budget = tokens_slider(self.study.setting["tokens"])
        return Panel(self._desk, self.sliders.box, mixture=self.sliders.mixture, budget=budget)

    def _desk(self, mixture: dict[str, float], budget: float) -> Sequence[Styler | go.Figure]:
        table = self.recipe(pd.Series(mixture), budget).loc[self._listed]
        return [desk.shown_recipe(table), *self._standing(mixture)]

    def live(self) -> Panel:
        """A mixture really merged: its scores on excerpts beside the uniform mixture's, and what it writes."""
        return Panel(self._live, self.sliders.box, mixture=self.sliders.mixture)

    def _live(self, mixture: dict[str, float]) -> Sequence[go.Figure | Styler]:
        scores = self.proxy(pd.Series(mixture).to_frame("mixture").T).scores.iloc[0]
        written = desk.continuations(self.proxy.prompts, self.proxy.write_on(pd.Series(mixture), self._writers))
        return [desk.live_scores(scores[self._listed], self._even, self.study.families), written]

    @cached_property
    def _even(self) -> pd.Series:
        return self.proxy(uniform(self.study.candidates).to_frame("uniform").T).scores.iloc[0]

    @property
    def _writers(self) -> list[str]:
        """One candidate per family, its first."""
        families = pd.Series(self.study.families)
        return list(families.index[~families.duplicated()])[:WRITERS]

    # --- landscapes and ways

    @cached_property
    def _triangles(self) -> dict[str, dict[str, list[str]]]:
        return landscapes.triangles(self.study.families, self.weights)

    def _corners(self, label: str) -> pd.DataFrame:
        return landscapes.corners_of(self._triangles[label], self.study.candidates)

    def landscape(self) -> Panel:
        """What is predicted and what was scored over a triangle of mixtures."""
        if not self._triangles:
            return Panel(list, still=lambda: [landscapes.TOO_FEW])
        total = len(self.study.candidates)
        notes = self._notes(min(landscapes.CORNERS, total), total, "candidates stand at corners")
        corners = chooser("corners", list(self._triangles))
        what = chooser("score", [MACRO, *self.families.scores])
        return Panel(self._landscape, *notes, corners=corners, what=what)

    def _landscape(self, corners: str, what: str) -> Sequence[go.Figure]:
        return [landscapes.landscape(self.predictor, self.families, self._corners(corners), what, self.named)]

    def path(self) -> Panel:
        """From one candidate to another: merged, mixed and really trained models on the same excerpts."""
        start, end = self.proxy.trained_pair
        names = list(dict.fromkeys([*self._listed, start, end]))
        ends = {"start": chooser("from", names, start), "end": chooser("to", names, end)}
        return Panel(self._path, *self._notes(len(names), len(self.study.candidates)), **ends)

    def _path(self, start: str, end: str) -> Sequence[go.Figure | str]:
        if start == end:
            return ["Choose two different candidates."]
        return [curves.path(self.proxy.path(start, end), self.study.families)]

    def walk(self, start: str, end: str) -> go.Figure:
        """The same from the tables of notebook 02, on whole held-out sets: merged and really trained models."""
        columns = {f"heldout_{name}": name for name in (start, end)}
        tables = {kind: self.study[f"path_{kind}_scores"] for kind in ("merged", "reference")}
        ways = {kind: table.rename(float)[list(columns)].rename(columns=columns) for kind, table in tables.items()}
        return curves.path(ways, self.study.families)

    # --- interactions

    @cached_property
    def _judged(self) -> Scored:
        return self.scored if len(self.scored.tasks) <= LISTED else self.families

    @cached_property
    def _judge(self):
        return self._fitted(self._judged)

    def interactions(self) -> Panel:
        """Which candidate helps which score; a pressed cell shows how the score changes with the candidate's share."""
        gain = curves.gains(self._judge, self._judged).loc[self._listed]
        first = (gain.index[-1], gain.columns[-1])
        cells = Cells(gain, first)
        notes = self._notes(len(gain), len(self.study.candidates))
        return Panel(
            self._curve, *notes, cells.box, still=lambda: [curves.heat(gain, first), *self._curve(first)], cell=cells
        )

    def _curve(self, cell: tuple[str, str]) -> Sequence[go.Figure]:
        return [curves.dependence_panel(self._judge, self._judged, *cell)]

    # --- the search, replayed

    @cached_property
    def _stages(self) -> list[replay.Stage]:
        rounds = self.study["search_rounds"]["round"]
        return replay.replay_stages(self.families, rounds, self._ground, rng=np.random.default_rng(self.seed))

    @property
    def _ground(self) -> pd.DataFrame:
        return self._corners(next(iter(self._triangles)))

    def film(self) -> go.Figure:
        """The search as it went, playing by itself."""
        return replay.film(self._stages, self.families, self._ground)

    def replay(self) -> Panel:
        """The search stage by stage, under a slider."""
        if not self._triangles:
            return Panel(list, still=lambda: [landscapes.TOO_FEW])
        last = len(self._stages) - 1
        play, stage = widgets.Play(max=last, interval=1500), widgets.IntSlider(max=last, description="stage")
        widgets.jslink((play, "value"), (stage, "value"))
        return Panel(self._replay, play, still=lambda: [self.film()], stage=stage)

    def _replay(self, stage: int) -> Sequence[go.Figure]:
        return [replay.replay(self._stages[stage], self.families, self._ground)]
