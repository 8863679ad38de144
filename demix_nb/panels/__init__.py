"""Panels to look at and to move: a study to play with, `Playground`, and the rule that its sliders follow, `moved`."""

from demix_nb.panels.controls import moved
from demix_nb.panels.playground import Playground

__all__ = ["Playground", "moved"]
