"""What clusters are tested with: a suite that counts and does harm, and schedulers and workers as processes."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fixtures_proxies import Words

TESTS = Path(__file__).parent
RAISED = 200 << 20  # bytes that the hungry one takes at a time


def _kill_once(place: Path) -> None:
    try:
        (place / "killed").touch(exist_ok=False)
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _kill(place: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hunger(place: Path) -> None:
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20) * (RAISED >> 20)))
        time.sleep(0.2)


def _full(place: Path) -> None:
    """No file of this process may grow, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


HARMS: dict[str, Callable[[Path], None]] = {
    "kill once": _kill_once, "kill": _kill, "hunger": _hunger, "full": _full,
    "slow": lambda place: time.sleep(0.25), "": lambda place: None,
}  # fmt: skip


@dataclass(frozen=True)
class Harmed(Words):
    """`Words` that note in `place` each model they measure, by process, after what `harm` names was done to it."""

    place: Path = Path()
    harm: str = ""

    def measure(self, model, rows=None):
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        HARMS[self.harm](self.place)
        scores = super().measure(model, rows)
        if self.harm != "full":
            with (self.place / "measured").open("a") as file:
                file.write(f"{os.getpid()} {scores.iloc[0]:.12f}\n")
        return scores


def measured(place: Path) -> tuple[Counter, Counter]:
    """Return how often each model was measured in `place`, by its first score, and how many by each process."""
    lines = [line.split() for line in (place / "measured").read_text().splitlines()]
    return Counter(score for _, score in lines), Counter(int(pid) for pid, _ in lines)


@contextmanager
def started(*arguments: str, until: str, log: Path, path: str = "") -> Iterator[tuple[subprocess.Popen, str]]:
    """Run one of Dask's own commands until the block ends; yield it, and what its log first says that `until` finds."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (path or str(TESTS.parent), str(TESTS))))}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=file, stderr=file, env=env, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + 90
        while not (found := re.search(until, log.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, found[1]
    finally:
        process.kill()
        process.wait(30)


def scheduler(log: Path, port: int = 0):
    """A scheduler on the loopback interface; yields it with its address."""
    how = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show")
    return started("distributed.cli.dask_scheduler", *how, until=r"Scheduler at: +(tcp://\S+)", log=log)


def worker(address: str, log: Path, *how: str, path: str = ""):
    """A worker of one thread, with a nanny; yields it with its address. `path`: where its packages are."""
    more = ("--nworkers", "1", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1", *how)
    until = r"Registered to:()"
    return started("distributed.cli.dask_worker", address, *more, until=until, log=log, path=path)
