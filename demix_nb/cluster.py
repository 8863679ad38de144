"""Work on a Dask cluster: what fans out goes there as descriptions, and comes back as rows.

Tasks are names, keys and folders; weights and suites are opened once by each worker, and what is measured or trained is
written on the folder that all machines share, so that a lost worker, scheduler or driver costs what was in flight.
Tasks go through Dask's own futures: joblib's Dask backend, which we measured, waits for ever once a task's workers died
too often, or the scheduler is gone.

A worker process has one task at a time, whatever its threads: small models are measured with one of them, so that
numbers do not depend on where they were made, large ones with all of the worker's.
"""

import atexit
import os
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from demix_nb import __version__, resident
from demix_nb.engines import GPU, Engine, unguarded
from demix_nb.store import Refusal, package_hash

if TYPE_CHECKING:
    from distributed import Client, Future

SHARED = "DEMIX_NB_SCHEDULER"  # in the environment of kernels while a run has a cluster: its address
TLS = "DASK_DISTRIBUTED__COMM__TLS__"  # Dask's own words there for certificates, by what it calls them in Python
SECRETS = {"ca_file": "CA_FILE", "cert": "CLIENT__CERT", "key": "CLIENT__KEY"}
JOIN = 60.0  # seconds in which the first worker of a running or local cluster must be there
BATCH = 100  # tasks submitted at a time
ONE_AT_A_TIME = threading.Lock()  # a worker's bank, live model and count of threads are the process's


@dataclass
class Cluster:
    """A connection to a cluster's scheduler, opened when it is first needed and kept until the process ends.

    `folder`: the study's, which every worker must see. `n_jobs`: workers of a local one.
    """

    engine: Engine
    folder: Path
    n_jobs: int = 2
    say: Callable[[str], None] = field(default=lambda line: None, repr=False)

    @classmethod
    def of(cls, said: Any, folder: Path, n_jobs: int) -> "Cluster | None":
        """Return the cluster that `engine:` of a study file names; None where processes here do the work."""
        engine = Engine.of(said)
        return None if engine is None else cls(engine, folder.absolute(), n_jobs, print)

    @cached_property
    def client(self) -> "Client":
        """The connection, with every worker there checked; raises Refusal where there is none or one does not fit."""
        self.engine.row.installed()
        from distributed import Client

        atexit.register(self.close)
        where = os.environ.get(SHARED) or self.engine.address
        try:
            client = Client(where or self.cluster, set_as_default=False, timeout=JOIN / 2)
        except OSError as error:
            raise Refusal(f"no Dask scheduler answers at {where} ({error}); start it, or mend the address") from error
        if SHARED not in os.environ and (warning := unguarded(client.scheduler.address)):
            self.say(warning)
        try:
            self._joined(client)
            self._ask(client)
        except Refusal:
            client.close()
            raise
        return client

    @cached_property
    def address(self) -> str:
        """The scheduler's address."""
        return self.client.scheduler.address

    @property
    def place(self) -> str:
        """Where its workers train: cuda, a GPU each, or the cpu."""
        return "cuda" if self.engine.row.gpu else "cpu"

    @property
    def size(self) -> int:
        """How many workers there are now."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    @cached_property
    def cluster(self) -> Any:
        """The cluster that was started for this study."""
        return self.engine.start(self.n_jobs)

    def close(self) -> None:
        """Leave, and end what was started; a cluster that ran before runs on."""
        for name in ("client", "cluster"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def _joined(self, client: "Client") -> None:
        """Wait for the first worker: as long as a queue takes, or `JOIN` seconds where nothing is queued."""
        while not client.scheduler_info(n_workers=-1)["workers"]:
            try:
                client.wait_for_workers(1, timeout=JOIN)
            except TimeoutError as error:
                if not self.engine.row.queued:
                    told = f"no worker has joined {client.scheduler.address} in {JOIN:.0f} s"
                    raise Refusal(f"{told}; start some (`dask worker ADDRESS`)") from error
                self.say(f"still waiting for the first worker of {self.engine.name}")

    def check(self) -> dict[str, Mapping[str, Any]]:
        """Ask every worker who it is; raises Refusal for one of another version, or that does not see the folder.

        Return worker → host, pid, threads, memory (bytes free), limit (bytes), device, version, sees (the folder).
        """
        return self._ask(self.client)

    def _ask(self, client: "Client") -> dict[str, Mapping[str, Any]]:
        with _token(self.folder) as token:
            asked = client.run(_answer, str(token), on_error="return")
        for worker, answer in asked.items():
            if isinstance(answer, Exception):
                raise Refusal(f"worker {worker} cannot open demix_nb ({answer}); install {_ours()} there")
            if problem := _misfit(answer, self.folder):
                raise Refusal(f"worker {worker} on {answer['host']} {problem}")
        return asked

    def run(
        self, function: Callable, calls: Sequence[tuple], *, ordered: bool, heavy: bool, gpu: bool = False
    ) -> Iterator[Any]:
        """Yield `function(*call)` for every call, as they finish or, `ordered`, as they were given; an error stops all.

        Tasks that need a `gpu` go to workers that declare one, where some do. Raises Refusal where workers died too
        often under one task, and where the scheduler is lost; what was done before is kept by whoever did it.
        """
        from distributed import as_completed

        address = self.address  # which a lost scheduler does not tell
        keys = [f"{_label(function)}-{number}-{uuid.uuid4().hex[:8]}" for number in range(len(calls))]
        work = partial(_task, _ours(), function, heavy)
        resources = {"resources": {GPU: 1}} if gpu and self._declares_gpus() else {}
        futures = self.client.map(work, list(calls), key=keys, pure=False, batch_size=BATCH, **resources)
        places = {key: place for place, key in enumerate(keys)}
        done: dict[int, Any] = {}
        nexts = 0
        try:
            for batch in as_completed(futures, loop=self.client.loop, raise_errors=False).batches():
                found = _results(
                    self.client, batch, {future.key: calls[places[future.key]] for future in batch}, address
                )
                for future, result in zip(batch, found, strict=True):
                    done[places[future.key]], futures[places[future.key]] = result, None
                while done and (not ordered or nexts in done):
                    yield done.pop(nexts if ordered else next(iter(done)))
                    nexts += 1
        finally:
            self._cancel([future for future in futures if future is not None])

    def _cancel(self, futures: list["Future"]) -> None:
        if futures and self.client.status == "running":
            self.client.cancel(futures)

    def _declares_gpus(self) -> bool:
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        return any(GPU in worker.get("resources", {}) for worker in workers)


@contextmanager
def shared(cluster: Cluster) -> Iterator[None]:
    """Let every kernel that is started inside use one cluster, which ends with the block if it was started for it.

    Address and certificates stand in the environment, by Dask's own words.
    """
    before = dict(os.environ)
    try:
        client = cluster.client
        told = {SHARED: cluster.address}
        secret = client.security.get_tls_config_for_role("client") if client.security else {}
        told |= {f"{TLS}{place}": secret[name] for name, place in SECRETS.items() if secret.get(name)}
        os.environ.update(told)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        cluster.close()


def _results(client: "Client", batch: list["Future"], calls: Mapping[str, tuple], address: str) -> list[Any]:
    """Fetch results together: one at a time, each costs a journey, and hundreds of workers wait for nothing else.

    `calls`: a future's key → what it was asked; `address`: the scheduler's.
    """
    from distributed import CancelledError, KilledWorker
    from distributed.comm import CommClosedError

    try:
        return client.gather(batch)
    except (CancelledError, CommClosedError) as error:
        told = f"the scheduler at {address} is lost; start it and run again: what is done is kept"
        raise Refusal(told) from error
    except KilledWorker as error:
        told = f"{_named(calls[error.task])}: workers died under it again and again, last {error.last_worker.address}"
        raise Refusal(
            f"{told}, most often as memory ran out; give workers more, or lower model.batch_tokens, and run again: "
            "what is done is kept"
        ) from error


def _named(call: tuple) -> str:
    """What a call is about: a model by its name, or a job by its own."""
    return str(getattr(call[0], "name", call[0]))[:80]


def _label(function: Callable) -> str:
    return getattr(getattr(function, "func", function), "__name__", "task").strip("_")


@contextmanager
def _token(folder: Path) -> Iterator[Path]:
    """A file in the shared folder that workers must come to see."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=".seen-")
    os.close(handle)
    try:
        yield Path(name).absolute()
    finally:
        Path(name).unlink(missing_ok=True)


def _misfit(answer: Mapping[str, Any], folder: Path) -> str:
    if answer["version"] != _ours():
        return f"has demix_nb {answer['version']}, the driver {_ours()}; install the same there"
    if not answer["sees"]:
        return f"does not see {folder.absolute()}; mount it there at the same path"
    return ""


@cache
def _ours() -> str:
    """The version, and the hash of the code that is really there."""
    return f"{__version__}+{package_hash()[:8]}"


# --- what runs on a worker


def _answer(token: str, dask_worker: Any) -> dict[str, Any]:
    """Say who this worker is, and whether it sees a file of the driver's; Dask gives the worker under that name."""
    try:
        resident.wait_for(Path(token).is_file, "does not see it")
        sees = True
    except Refusal:
        sees = False
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "threads": dask_worker.state.nthreads,
        "memory": psutil.virtual_memory().available,
        "limit": dask_worker.memory_manager.memory_limit,
        "device": _device(),
        "version": _ours(),
        "sees": sees,
    }


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def _task(version: str, function: Callable, heavy: bool, call: tuple) -> Any:
    """Do one task on a worker of the driver's own version, alone in its process."""
    from distributed import get_worker

    from demix_nb.parallel import with_threads

    if version != _ours():
        raise Refusal(
            f"a worker on {socket.gethostname()} has demix_nb {_ours()}, the driver {version}; install the same there"
        )
    worker = get_worker()
    with ONE_AT_A_TIME:
        resident.MEMORY.limit = worker.memory_manager.memory_limit
        return with_threads(partial(function, *call), worker.state.nthreads if heavy else 1)
