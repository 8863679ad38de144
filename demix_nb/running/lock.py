"""One run at a time in a run's folder: a file there names the process that runs, and the system locks it.

The system's lock goes with the process, however that ends, so a run after a power cut is not refused. The name is for
whoever is refused, and for disks that are shared: another machine's lock may not be seen there, its name is.
"""

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import psutil

from demix_nb.running import stopping
from demix_nb.store import Refusal

NAME = "run.lock"
TURNS = 40  # waits of 50 ms for a process that has not yet said who it is, or is just dying


@contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """Keep other runs out of a folder until the block ends; raises Refusal naming the process that is in it."""
    path = run_dir / NAME
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = _taken(path)
    except OSError as error:
        raise Refusal(f"cannot write to {run_dir}: {error.strerror}; give another folder with --run-dir") from error
    began = time.time()
    try:
        yield
    except BaseException:  # a signal, or a kernel that died, may have ended somebody in the midst of a file
        stopping.clear(run_dir, began)
        raise
    finally:
        path.unlink(missing_ok=True)  # while the lock is held: whoever opened the file meanwhile sees that it is gone
        file.close()


def _taken(path: Path) -> TextIO:
    """Return the file, locked and with this process in it."""
    for _ in range(TURNS):
        file = path.open("a+", encoding="utf-8")
        free, holder = _locked(file), _holder(path)
        if free and not (path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())):
            file.close()  # the run before has just ended and taken the file with it
        elif holder and _lives(holder):
            file.close()
            raise Refusal(_told(path, holder))
        elif free:
            return _signed(file)
        else:
            file.close()
            time.sleep(0.05)
    raise Refusal(f"another process holds {path}; wait for it, or give another folder with --run-dir")


def _locked(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a disk without locks: the name alone must do
    return True


def _signed(file: TextIO) -> TextIO:
    me = {"host": socket.gethostname(), "pid": os.getpid(), "begun": psutil.Process().create_time()}
    file.truncate(0)
    file.write(json.dumps(me | {"since": time.strftime("%Y-%m-%d %H:%M:%S")}) + "\n")  # in one write
    file.flush()
    return file


def _holder(path: Path) -> Mapping | None:
    """Return what the file says; None where it says nothing yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _lives(holder: Mapping) -> bool:
    """Return whether the process may still run: another machine's may."""
    if holder["host"] != socket.gethostname():
        return True
    try:
        process = psutil.Process(holder["pid"])
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder["begun"]) < 1
    except psutil.NoSuchProcess:
        return False


def _told(path: Path, holder: Mapping) -> str:
    who = f"process {holder['pid']} on {holder['host']} runs in {path.parent} since {holder['since']}"
    if holder["host"] == socket.gethostname():
        return f"{who}; wait for it, stop it, or give another folder with --run-dir"
    return f"{who}; wait for it or give another folder with --run-dir, and where it runs no more, delete {path}"
