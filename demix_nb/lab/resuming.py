"""Interrupted training goes on where it was: what is trained of a model lies beside its folder until all of it is.

A hidden file holds weights, the optimiser's state, steps, curve and seconds, and of checkpoints that are averaged
their mean so far. What a model reads is decided by its job,
and nothing is drawn on the way, so that from there on the same numbers come: on one thread a model that was
interrupted, however often, is bit for bit the one that was not. The file has no name of `store.atomic`'s, so that
clearing up after a kill takes what was half written and leaves what was whole.
"""

import pickle
import time
import zipfile
import zlib
from pathlib import Path

import torch

from demix_nb.store import Refusal, atomic

EVERY = 60.0  # seconds between two, and times as long as one takes to write: no more than 1/60 of the time goes there
BROKEN = (zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError)
Curve = list[tuple[int, object]]  # tokens seen, and what was recorded there


def path_of(directory: Path) -> Path:
    """Return where the part of a model lies that is to become `directory`."""
    return directory.with_name(f".{directory.name}.part")


class Part:
    """What is trained so far of the model of this content key, kept every so often until the model is saved."""

    def __init__(self, directory: Path, key: str) -> None:
        self.directory, self.path, self.key = directory, path_of(directory), key
        self.earlier, self.began = 0.0, time.perf_counter()
        self.due = self.began + EVERY

    @property
    def seconds(self) -> float:
        """Seconds of training, those before an interruption too, as far as their work was kept."""
        return self.earlier + time.perf_counter() - self.began

    def resume(self, model: torch.nn.Module, optimizer, average: torch.nn.Module | None = None) -> tuple[int, Curve]:
        """Put weights, optimiser and average where the part ended; return steps done and curve, (0, []) without one."""
        kept = self._read()
        if not kept:
            return 0, []
        model.load_state_dict(kept["weights"])
        optimizer.load_state_dict(kept["optimizer"])
        if average is not None:
            average.load_state_dict(kept["average"])
        self.earlier = kept["seconds"]
        return kept["steps"], kept["curve"]

    def keep(
        self, model: torch.nn.Module, optimizer, steps: int, curve: Curve, average: torch.nn.Module | None = None
    ) -> None:
        """Keep what is there after so many steps, if it is time; raises Refusal where it cannot be written."""
        began = time.perf_counter()
        if began < self.due:
            return
        told = {"key": self.key, "steps": steps, "curve": curve, "seconds": self.seconds}
        told |= {"average": average.state_dict()} if average is not None else {}
        try:
            with atomic(self.path) as temporary:
                torch.save(told | {"weights": model.state_dict(), "optimizer": optimizer.state_dict()}, temporary)
        except (OSError, RuntimeError) as error:  # of a full disk torch has an error of its own
            told = str(error).splitlines()[0]
            raise Refusal(f"cannot write {self.path}: {told}; choose a folder you may write to, with room") from error
        self.due = time.perf_counter() + EVERY * max(time.perf_counter() - began, 1)

    def _read(self) -> dict:
        """Return what was kept, nothing where that is of another model or damaged; such a part is removed.

        No result is lost with it: it is what spares time on the way to one, and training again gives the same model.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:  # which has a checksum of everything; torch reads past it
                kept = {} if archive.testzip() else torch.load(self.path, map_location="cpu", weights_only=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except BROKEN:
            kept = {}
        if kept.get("key") != self.key:
            self.path.unlink(missing_ok=True)
            return {}
        return kept
