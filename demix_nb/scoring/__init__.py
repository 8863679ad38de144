"""Measure models on tasks: names → tasks (`library`), requests → forward passes (`reader`), a suite, mixed answers.

Knows no mixtures but in `answers`, and no way to make a model. What needs torch is opened when it is asked for, so that
`Asked` alone costs nothing.
"""

from importlib import import_module

from demix_nb.scoring.asked import Asked

FACE = {"TASKS": "library", "Mixed": "answers", "Suite": "suite"}
__all__ = ["TASKS", "Asked", "Mixed", "Suite"]


def __getattr__(name: str) -> object:
    if name not in FACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{FACE[name]}"), name)
