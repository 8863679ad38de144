"""What a worker keeps open from one task to the next, and how it waits for what another machine wrote.

What travels to a worker is a description; what it describes (a bank of components, a suite) is opened once in each
process, by content key, and what was used longest ago is let go where memory runs low. Folders that machines share show
a change late, by the seconds for which attributes are cached: whoever reads one waits a while before saying that
something is missing.
"""

import pickle
import socket
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from demix_nb.store import Refusal, atomic, content_hash

FREE = 0.2  # of the memory: with less left, what was used longest ago goes before anything more is opened
PATIENCE = 30.0  # seconds for a shared folder; NFS caches attributes for up to 60, of a folder that changes for 3 to 30
SHELF = 8  # files kept in a folder of things for workers to open
KEPT = ("*.safetensors", "*.json")  # files whose sizes and times tell one version of a checkpoint from another


class Resident:
    """Things by key, made once; `low` says whether memory runs low."""

    def __init__(self, low: Callable[[], bool]) -> None:
        self.low = low
        self.held: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what is held under a key, made now if it is not there; makes room first where memory runs low."""
        if key in self.held:
            self.held.move_to_end(key)
            return self.held[key]
        while self.held and self.low():
            self.held.popitem(last=False)
        made = self.held[key] = make()
        return made


class Memory:
    """Whether less than `FREE` is left of the machine's memory, of `limit` bytes for this process, or of its GPU's."""

    limit: float | None = None

    def __call__(self) -> bool:
        machine = psutil.virtual_memory()
        taken = psutil.Process().memory_info().rss / self.limit if self.limit else 0.0
        return machine.available < FREE * machine.total or taken > 1 - FREE or _gpu_is_low()


def _gpu_is_low() -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return False
    free, total = torch.cuda.mem_get_info()
    return free < FREE * total


MEMORY = Memory()
RESIDENT = Resident(MEMORY)


def wait_for(there: Callable[[], bool], told: str, patience: float | None = None) -> None:
    """Return once `there()` holds; raises Refusal with this machine's name and `told` after `patience` seconds."""
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    while not there():
        if time.monotonic() > until:
            raise Refusal(f"{socket.gethostname()} {told}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Shelved:
    """Something that lies pickled in a file, for workers to open once each."""

    path: Path
    key: str

    def open(self) -> Any:
        """Return it; raises Refusal where this machine does not see the file."""
        return RESIDENT.get(self.key, self._read)

    def _read(self) -> Any:
        wait_for(self.path.is_file, f"does not see {self.path}; mount its folder there at the same path")
        return pickle.loads(self.path.read_bytes())


def shelved(thing: Any, folder: Path) -> Shelved:
    """Put something into a folder that workers see, unless it lies there; of more than `SHELF` the oldest goes."""
    content = pickle.dumps(thing)
    key = content_hash(content)
    path = folder / f"{key}.pickle"
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_bytes(content)
        for old in sorted(folder.glob("*.pickle"), key=lambda one: one.stat().st_mtime)[:-SHELF]:
            old.unlink(missing_ok=True)
    return Shelved(path, key)


def version_of(folders: list[Path]) -> str:
    """Return a hash of names, sizes and times of checkpoints' files: one machine's is another's, once it sees them."""
    found = [(path.name, path.stat()) for folder in folders for kind in KEPT for path in sorted(folder.glob(kind))]
    return content_hash([(name, stat.st_size, int(stat.st_mtime)) for name, stat in found])


def wait_for_version(folders: list[Path], version: str) -> None:
    """Return once these folders hold what they held where `version` was taken; raises Refusal as `wait_for`."""

    def there() -> bool:
        try:
            return version_of(folders) == version
        except OSError:  # a file that is listed and not there yet, or not any more
            return False

    seen = folders[0] if len(folders) == 1 else folders[0].parent
    told = f"does not see what the driver sees at {seen}; mount it there at the same path, and train nothing meanwhile"
    wait_for(there, told)
