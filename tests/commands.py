"""`demix-nb run` as a user calls it, in a process that tests can wait for or kill."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
import yaml

REPOSITORY = Path(__file__).parent.parent
ALONE = ("-p", "workers=1")  # a worker takes seconds to start, and other tests run beside
SCORED = 40  # scores in the cache when the second kill comes: more than notebooks 01 and 02 make


class Command:
    """`demix-nb run` in a process of its own; what it prints goes to a file beside the run's folder."""

    def __init__(
        self, run_dir: Path, *arguments: str, profile: str = "smoke", env: Mapping[str, str] | None = None
    ) -> None:
        run_dir.parent.mkdir(parents=True, exist_ok=True)
        self.log = run_dir.with_name(f"{run_dir.name}.log")
        command = [sys.executable, "-m", "demix_nb", "run", "--profile", profile, "--run-dir", str(run_dir), *arguments]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT, env=env)

    def finish(self, timeout: float = 1200.0) -> str:
        """Wait for the end; return what was printed, which must not be an error."""
        status = self.process.wait(timeout)
        printed = self.log.read_text()
        assert status == 0, printed
        return printed

    def kill_when(self, reached: Callable[[], bool], timeout: float = 900.0) -> None:
        """Kill the run with its kernel and workers, as a power cut would, once `reached()` holds."""
        deadline = time.monotonic() + timeout
        while not reached():
            assert self.process.poll() is None, f"the run ended before it could be killed:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, "the run never got there"
            time.sleep(0.05)
        end(self.process)


def end(process: subprocess.Popen) -> None:
    """Kill a process with its children, as a power cut would."""
    if process.poll() is not None:
        return
    parent = psutil.Process(process.pid)
    family = [*parent.children(recursive=True), parent]
    for member in family:
        member.kill()
    psutil.wait_procs(family, timeout=10)


def times(pattern: str, run_dir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run_dir.glob(pattern)}


def run_story(run_dir: Path) -> tuple[Path, str, dict[Path, int]]:
    """Run the story at `smoke`, killed twice and then finished.

    Return its folder, what the finishing run printed, and what the killed ones had left: file → time of change.
    """
    left = {}
    Command(run_dir).kill_when(lambda: len(times("models/reference-*/training.json", run_dir)) >= 2)
    left["models"] = times("models/*/training.json", run_dir)
    Command(run_dir).kill_when(lambda: len(times("cache/*.json", run_dir)) >= SCORED)
    left["models"] |= times("models/*/training.json", run_dir)
    left["scores"] = times("cache/*.json", run_dir)
    return run_dir, Command(run_dir).finish(), left


def run_study(story: Path, run_dir: Path) -> tuple[Path, str]:
    """Run the steps of the study profile at `smoke`, and the papers beside them, in a copy of the story's folder."""
    shutil.copytree(story, run_dir, ignore=shutil.ignore_patterns("run.lock"))
    profiles = yaml.safe_load((REPOSITORY / "notebooks" / "profiles.yml").read_text(encoding="utf-8"))
    return run_dir, Command(
        run_dir, *profiles["study"]["steps"], *ALONE, "-p", f"results={run_dir / 'tables'}"
    ).finish()
