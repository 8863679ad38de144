"""How a command ends when it is told to: Ctrl-C, SIGTERM, or a terminal that closes.

A kernel is a process of its own, and its workers are the kernel's children: a signal to the run alone reaches none of
them. So whatever a run starts inherits a mark, and the handler ends all that bear it, even where their parents are
gone. Then it raises, so that the command gives back on its way out what it holds: files, terminal, lock.
"""

import os
import re
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
MARK, OURS = "DEMIX_NB_RUN", uuid.uuid4().hex  # an environment variable, and its value in what this process starts
UNWIND = 0.5  # seconds in which a kernel may clear away what it was writing outside the run's folder
KILLED = 1.5  # seconds for the dead to be gone, and for what clears up after them to end by itself
LAST = 4.0  # seconds after which the process ends, whatever it hangs in
TEMPORARY = re.compile(r"\..+\.[a-z0-9_]{8}")  # as `store.atomic` and `store.atomic_folder` call what is not done yet


class Stop:
    """The handler of the signals; `signum` is what was heard, 0 for nothing yet."""

    signum = 0
    in_cell = False  # whether a kernel runs a cell: before, an interrupt would make it complain on stderr

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """End all that was started and raise KeyboardInterrupt, which no library holds for an error of its own."""
        if self.signum:
            return
        self.signum = signum
        last = threading.Timer(LAST, _leave, [signum])
        last.daemon = True
        last.start()
        end_started(interrupt=self.in_cell)
        raise KeyboardInterrupt


STOP = Stop()


@contextmanager
def heard() -> Iterator[None]:
    """Listen to the signals until the block ends; where one came, the process ends with it.

    Its exit status is then 128 + the signal's number. A closing terminal is ignored where whoever started the command
    asked for that (nohup).
    """
    if threading.current_thread() is not threading.main_thread():  # which no signal interrupts
        yield
        return
    wanted = [one for one in SIGNALS if one == signal.SIGINT or signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, STOP) for one in wanted}
    try:
        yield
    finally:
        if STOP.signum:  # whatever became of the block
            _leave(STOP.signum)
        for one, handler in before.items():
            signal.signal(one, handler)


def _leave(signum: int) -> None:
    with suppress(OSError, ValueError):  # a terminal that is gone
        sys.stdout.flush()
        print("demix-nb: stopped; the same command goes on where this run ended", file=sys.stderr, flush=True)
    os._exit(128 + signum)  # at once: libraries take seconds to end a process


def started() -> list["Process"]:
    """Return the processes that kernels of this one are and have started, orphans too."""
    import psutil

    found = psutil.process_iter(["environ"])  # None: another user's
    return [process for process in found if (process.info["environ"] or {}).get(MARK) == OURS]


def end_started(*, interrupt: bool = False) -> None:
    """End all `started` processes; `interrupt`: kernels have a moment first in which they may clear up."""
    import psutil

    family = started()
    if interrupt:
        kernels = [process for process in family if _runs(process, "ipykernel")]
        _send(signal.SIGINT, kernels)
        psutil.wait_procs(kernels, timeout=UNWIND)
    family = list({*family, *started()})
    trackers = [process for process in family if _runs(process, "resource_tracker")]  # free memory, then end
    _send(signal.SIGKILL, [process for process in family if process not in trackers])
    _, left = psutil.wait_procs(family, timeout=KILLED)
    _send(signal.SIGKILL, left)


def _runs(process: "Process", word: str) -> bool:
    import psutil

    with suppress(psutil.Error):
        return any(word in part for part in process.cmdline())
    return False


def _send(signum: int, processes: list["Process"]) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def clear(folder: Path, since: float) -> None:
    """Remove what ended processes were writing in `folder` and had not finished, no older than `since` (epoch)."""
    for path in [path for path in folder.rglob(".*") if TEMPORARY.fullmatch(path.name)]:
        with suppress(OSError):
            if path.lstat().st_mtime >= since:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
