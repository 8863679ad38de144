"""A pip that brings what a test wants, or fails as pip does."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


def no_pip(monkeypatch: pytest.MonkeyPatch, effect: Callable[[Path], tuple[int, str]]) -> None:
    """Replace pip by a function of the target folder that returns (exit status, message)."""

    def run(command, **_more):
        status, message = effect(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, status, "", message)

    monkeypatch.setattr(subprocess, "run", run)


def bring(name: str, data: bytes) -> Callable[[Path], tuple[int, str]]:
    """Return the effect of a download of one file."""
    return lambda folder: ((folder / name).write_bytes(data) and 0, "")
