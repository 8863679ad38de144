"""A study to play with: one object whose methods are the panels.

Each returns a `Panel`, which a notebook shows as controls above what they change and a still picture under it. What is
drawn comes from the tables of a study; only `live` and `path` open its components, and only they need torch. What a
study lacks is said in words. Of more than a page can list, candidates with the largest shares in the named mixtures are
offered, and the page says so.
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
from demix_nb.panels.controls import LISTED, Cells, button, chooser, tokens_slider, unknown
from demix_nb.panels.known import UNCHOSEN, UNREAD, UNSEARCHED, UNWALKED, UNWRITTEN, Known
from demix_nb.panels.landscapes import MACRO, heaviest
from demix_nb.panels.wiring import Panel
from demix_nb.scored import Scored

WRITERS = 7  # candidates that write on, one per family
READABLE = 1.5  # bits per byte of the excerpts: SmolLM2 (135M) spends 0.7 to 1.2, what a laptop trains 1.9 to 4.4
CHOICES = 3  # that are to choose between what follows and what does not, where none can write
HEAVIEST = "those with the largest shares in the named mixtures"

Shown = Sequence[go.Figure | Styler]


def _words(sentence: str) -> Panel:
    """Return a panel that says why there is nothing to move."""
    return Panel(list, still=lambda: [look.said(sentence)])


def _notes(shown: int, total: int, what: str = "candidates", which: str = HEAVIEST) -> list[widgets.HTML]:
    return [widgets.HTML(f"{shown} of {total} {what}: {which}")] if shown < total else []


class UnderSliders(Known):
    """The panels of one mixture, which the sliders say."""

    def standing(self) -> Panel:
        """What is expected of a mixture, among all scored proxies."""
        return Panel(self._standing, self.sliders.box, *self._few_families, mixture=self.sliders.mixture)

    def _standing(self, mixture: dict[str, float]) -> Shown:
        if self.unlearnt:
            return [look.said(self.unlearnt)]
        found = desk.guess(self.predictor, pd.Series(mixture), self.families)
        return [desk.standing(found, self.families, list(self.families.scores)[:LISTED])]

    @property
    def _few_families(self) -> list[widgets.HTML]:
        total = self.scored.tasks["family"].nunique()
        return _notes(min(LISTED, total), total, "families", "the first of the task table")

    def desk(self) -> Panel:
        """A mixture's recipe over a budget of tokens, and what is expected of it; `save` keeps it."""
        untold = desk.untold(self.study.tokens, self.study.candidates)
        notes = [*self._few_families, *([widgets.HTML(untold)] if untold else [])]
        watched = {"budget": tokens_slider(self.budget)} if self.budget else {}
        wishes = [] if self.unlearnt else [self.wishes.box]
        above = (self.sliders.box, *wishes, button("save", self.save), *notes)
        return Panel(self._desk, *above, mixture=self.sliders.mixture, **watched)

    def _desk(self, mixture: dict[str, float], budget: float | None = None) -> Shown:
        table = desk.listed(self.recipe(pd.Series(mixture), budget), self._listed)
        return [desk.shown_recipe(table), *self._standing(mixture)]

    def live(self) -> Panel:
        """A mixture really merged: its scores on excerpts beside the uniform mixture's, and what it writes.

        Models that can hardly write choose instead between what follows a beginning and what does not.
        """
        if self.unopened:
            return _words(self.unopened)
        return Panel(self._live, self.sliders.box, mixture=self.sliders.mixture)

    def _live(self, mixture: dict[str, float]) -> Shown:
        shares, writers = pd.Series(mixture), self._writers
        if not self.proxy.names:
            return [look.said(UNREAD), self._written(shares, writers) if writers else look.said(UNWRITTEN)]
        scores = self.proxy(shares.to_frame("mixture").T).scores.iloc[0]
        words = self._written if self._even.mean() <= READABLE else self._chosen
        return [desk.live_scores(scores[self._read], self._even, self.study.families), words(shares, writers)]

    def _chosen(self, shares: pd.Series, writers: Sequence[str]) -> go.Figure | Styler:
        able = [name for name in writers if self.proxy.follows[name]][:CHOICES]
        return desk.choices(self.proxy.odds(shares, able)) if len(able) > 1 else look.said(UNCHOSEN)

    def _written(self, shares: pd.Series, writers: Sequence[str]) -> Styler:
        return desk.continuations(self.proxy.prompts, self.proxy.write_on(shares, writers))

    @cached_property
    def _even(self) -> pd.Series:
        return self.proxy(uniform(self.study.candidates).to_frame("uniform").T).scores.iloc[0]

    @property
    def _read(self) -> list[str]:
        """Of the candidates that have text, those that a page lists."""
        return heaviest(self.weights[self.proxy.names], LISTED)

    @property
    def _writers(self) -> list[str]:
        """One candidate per family, its first; without text the one thing that there is to start from."""
        starts = pd.Series(list(self.proxy.starts), dtype=object)
        return list(starts[~starts.map(self.study.families).duplicated()])[:WRITERS]


class Playground(UnderSliders):
    """The panels of one opened study."""

    def __init__(self, study, *, seed: int = 0) -> None:
        look.style()
        super().__init__(study, seed=seed)

    # --- landscapes and ways

    @cached_property
    def _groups(self) -> dict[str, list[str]]:
        return landscapes.groups(self.study.families)

    @cached_property
    def _first(self) -> list[str]:
        return landscapes.first(self.study.families, self.weights)

    def _corners(self, labels: Sequence[str]) -> pd.DataFrame:
        return landscapes.corners_of({label: self._groups[label] for label in labels}, self.study.candidates)

    def landscape(self) -> Panel:
        """What is predicted and what was scored over a triangle of mixtures."""
        if lacking := self.unlearnt or ("" if self._first else landscapes.TOO_FEW):
            return _words(lacking)
        weights = pd.Series({label: self.weights[names].sum() for label, names in self._groups.items()})
        large, known = heaviest(weights, LISTED), list(self._groups)
        corners = {f"corner{number}": chooser(f"corner {number}", known, label, large)
                   for number, label in enumerate(self._first, start=1)}  # fmt: skip
        notes = _notes(len(large), len(known), "families and candidates are listed", f"{HEAVIEST}; type any other")
        what = chooser("score", [MACRO, *self.families.scores])
        return Panel(self._landscape, *notes, **corners, what=what)

    def _landscape(self, corner1: str, corner2: str, corner3: str, what: str) -> Shown:
        labels = [corner1, corner2, corner3]
        odd = unknown(labels, self._groups) or unknown([what], [MACRO, *self.families.scores])
        if odd or landscapes.shared({label: self._groups[label] for label in labels}):
            return [look.said(odd or landscapes.SHARED)]
        return [landscapes.landscape(self.predictor, self.families, self._corners(labels), what, self.named)]

    def path(self) -> Panel:
        """From one candidate to another: merged, mixed and really trained models on the same excerpts."""
        if self.unread:
            return _words(self.unread)
        ends = zip(("start", "end"), ("from", "to"), self.proxy.trained_pair, strict=True)
        known = self.study.candidates
        choosers = {key: chooser(said, known, name, self._listed) for key, said, name in ends}
        notes = _notes(len(self._listed), len(known), "candidates are listed", f"{HEAVIEST}; type any other")
        return Panel(self._path, *notes, **choosers)

    def _path(self, start: str, end: str) -> Shown:
        if odd := unknown([start, end], self.study.candidates):
            return [look.said(odd)]
        if start == end:
            return [look.said("Choose two different candidates.")]
        if not {start, end} & {*self.proxy.names}:
            return [look.said(f"Neither {start!r} nor {end!r} has held-out text: there is nothing to score.")]
        return [curves.path(self.proxy.path(start, end), self.study.families)]

    def walk(self, start: str, end: str) -> go.Figure:
        """The same from the tables of notebook 02, on whole held-out sets: merged and really trained models."""
        columns = {f"heldout_{name}": name for name in (start, end)}
        tables = {kind: self.study[f"path_{kind}_scores"] for kind in ("merged", "reference")}
        there = {kind: table for kind, table in tables.items() if len(table) and {*columns} <= {*table}}
        ways = {kind: table.rename(float)[list(columns)].rename(columns=columns) for kind, table in there.items()}
        return curves.path(ways, self.study.families) if ways else look.said(UNWALKED)

    def parallel(self) -> go.Figure:
        """Every scored mixture as a line over shares and scores, to be brushed; of many candidates the heaviest."""
        return look.said(self.unlearnt) if self.unlearnt else curves.parallel(self.families, self._listed)

    # --- interactions

    @cached_property
    def _judged(self) -> Scored:
        return self.scored if len(self.scored.tasks) <= LISTED else self.families

    @cached_property
    def _judge(self):
        return self._fitted(self._judged)

    def interactions(self) -> Panel:
        """Which candidate helps which score; a pressed cell shows how the score changes with the candidate's share."""
        if self.unlearnt:
            return _words(self.unlearnt)
        whole = curves.gains(self._judge, self._judged)
        gain = whole.loc[self._listed, heaviest(whole.abs().max(), LISTED)]
        first = (gain.index[-1], gain.columns[-1])
        cells = Cells(gain, first)
        notes = [*_notes(len(gain), len(whole)),
                 *_notes(gain.shape[1], whole.shape[1], "scores", "those that shares change most")]  # fmt: skip
        return Panel(
            self._curve, *notes, cells.box, above=True, cell=cells,
            still=lambda: [curves.heat(gain, first), *self._curve(first)],
        )  # fmt: skip

    def _curve(self, cell: tuple[str, str]) -> Sequence[go.Figure]:
        return [curves.dependence_panel(self._judge, self._judged, *cell)]

    # --- the search, replayed

    @cached_property
    def _stages(self) -> list[replay.Stage]:
        rounds = self.study["search_rounds"]["round"]
        return replay.replay_stages(self.families, rounds, self._ground, rng=np.random.default_rng(self.seed))

    @property
    def _ground(self) -> pd.DataFrame:
        return self._corners(self._first)

    @cached_property
    def _unplayed(self) -> str:
        """Why there is nothing to replay."""
        searched = len(self.study["search_rounds"]) > 0
        return self.unlearnt or ("" if self._first else landscapes.TOO_FEW) or ("" if searched else UNSEARCHED)

    def film(self) -> go.Figure:
        """The search as it went, playing by itself."""
        return look.said(self._unplayed) if self._unplayed else replay.film(self._stages, self.families, self._ground)

    def replay(self) -> Panel:
        """The search stage by stage, under a slider."""
        if self._unplayed:
            return _words(self._unplayed)
        last = len(self._stages) - 1
        play, stage = widgets.Play(max=last, interval=1500), widgets.IntSlider(max=last, description="stage")
        widgets.jslink((play, "value"), (stage, "value"))
        return Panel(self._replay, play, still=lambda: [self.film()], stage=stage)

    def _replay(self, stage: int) -> Sequence[go.Figure]:
        return [replay.replay(self._stages[stage], self.families, self._ground)]
