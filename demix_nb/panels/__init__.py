"""Panels to look at and to move: a study to play with, `Playground`."""

from demix_nb.panels.playground import Playground

__all__ = ["Playground"]
