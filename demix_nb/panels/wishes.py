"""Sliders of predicted scores that turn the desk round: drag a score, and the mixture follows by the smallest step."""

from collections.abc import Sequence

import ipywidgets as widgets
import pandas as pd

from demix_nb.panels.controls import LONG
from demix_nb.panels.reach import reach
from demix_nb.panels.sliders import Sliders, stepped
from demix_nb.scored import Scored
from demix_nb.store import Refusal

BEYOND = 0.25  # of the scored proxies' range that a score can be dragged beyond it
STEPS = 400  # of a slider
TITLE = "<b>turned round</b>: drag a score, and the mixture moves by the smallest step that gets there"


class Wishes:
    """A slider per family: where the mixture on the `sliders` is predicted; dragged, the mixture follows, or says why.

    `predictor`: a fitted Gaussian process (`PREDICTORS`) of the families `names` of `scored`.
    """

    def __init__(self, sliders: Sliders, predictor, scored: Scored, names: Sequence[str]) -> None:
        self.mixture, self.predictor, self.units = sliders, predictor, scored.units
        self.sliders = {name: _slider(scored.families[name], scored.units[name]) for name in names}
        self.follow()
        sliders.mixture.observe(self.follow, "value")
        for name, slider in self.sliders.items():
            slider.observe(lambda change, name=name: self.wish(name, change.new), "value")

    @property
    def shares(self) -> pd.Series:
        """The mixture on the sliders."""
        return pd.Series(self.mixture.mixture.value)

    def follow(self, _: object = None) -> None:
        """Show what is predicted of the mixture."""
        predicted = self.predictor.predict(self.shares.to_frame("mixture").T).scores.iloc[0]
        self.moving = True  # sliders that we move ourselves must not answer
        for name, slider in self.sliders.items():
            slider.value = min(max(predicted[name], slider.min), slider.max)
        self.moving = False

    def wish(self, name: str, wanted: float) -> None:
        """Answer to a score that the reader dragged: move the mixture, or say that nothing gets there."""
        if self.moving:
            return
        before, what = self.shares, f"{name} {wanted:.3f} {self.units[name]}"
        try:
            found = reach(self.predictor.regressors[name], self.mixture.free(), before, wanted)
        except Refusal as refusal:
            self.mixture.show(before, f"{refusal}.")
        else:
            step = (found.mixture - before).abs().sum() / 2
            got = f"{what} is reached by moving {step:.1%} of the mixture."
            cannot = f"{what} is out of reach here; the farthest that was found is {found.score:.3f}."
            there = stepped(found.mixture, self.mixture.region, self.mixture.locked)
            self.mixture.show(there if found.there else before, got if found.there else cannot)
        self.follow()

    @property
    def box(self) -> widgets.VBox:
        """The controls, ready to be displayed."""
        return widgets.VBox([widgets.HTML(TITLE), *self.sliders.values()])


def _slider(scores: pd.Series, unit: str) -> widgets.FloatSlider:
    margin = BEYOND * (scores.max() - scores.min())
    low, high = scores.min() - margin, scores.max() + margin
    look = {"readout_format": ".3f", "continuous_update": False, "description": str(scores.name)}
    how = {"min": low, "max": high, "step": (high - low) / STEPS, "tooltip": f"{scores.name}, {unit}"}
    return widgets.FloatSlider(value=scores.mean(), **how, **look, **LONG)
