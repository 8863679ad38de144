"""`demix-nb run` as a user calls it, in a process that tests can wait for or kill."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

REPOSITORY = Path(__file__).parent.parent
SCORED = 40  # scores in the cache when the second kill comes: more than notebooks 01 and 02 make


class Command:
    """`demix-nb run` in a process of its own; what it prints goes to a file beside the run's folder."""

    def __init__(self, run_dir: Path, *arguments: str, profile: str = "smoke") -> None:
        self.log = run_dir.with_name("log")
        command = [sys.executable, "-m", "demix_nb", "run", "--profile", profile, "--run-dir", str(run_dir), *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT)

    def finish(self, timeout: float = 600.0) -> str:
        """Wait for the end; return what was printed, which must not be an error."""
        status = self.process.wait(timeout)
        printed = self.log.read_text()
        assert status == 0, printed
        return printed

    def kill_when(self, reached: Callable[[], bool], timeout: float = 300.0) -> None:
        """Kill the run with its kernel and workers, as a power cut would, once `reached()` holds."""
        deadline = time.monotonic() + timeout
        while not reached():
            assert self.process.poll() is None, f"the run ended before it could be killed:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, "the run never got there"
            time.sleep(0.05)
        parent = psutil.Process(self.process.pid)
        family = [*parent.children(recursive=True), parent]
        for member in family:
            member.kill()
        psutil.wait_procs(family, timeout=10)


def times(pattern: str, run_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run_dir.glob(pattern)}
