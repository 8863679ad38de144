"""Measure models on tasks: names → tasks (`library`), requests → forward passes (`reader`), a suite, mixed answers.

Knows no mixtures but in `answers`, and no way to make a model.
"""

from demix_nb.scoring.answers import Mixed, token_logs
from demix_nb.scoring.library import TASKS
from demix_nb.scoring.suite import Suite

__all__ = ["TASKS", "Mixed", "Suite", "token_logs"]
