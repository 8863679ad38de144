"""Which engine does the work: a Dask cluster that runs, or one that is started for a study, by a row of `ENGINES`.

`engine:` of the study file names the row, with an address, `local`, or a queue's own words, which go to dask-jobqueue
as they are. Nothing of Dask is imported before a cluster is asked for: it is an extra. What is done on one is in
`cluster`.
"""

import importlib
import importlib.util
import inspect
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, WithJsonSchema

from demix_nb.ranges import near
from demix_nb.store import Refusal

PROCESSES = "processes"
LOCAL = "local"  # in place of an address: workers on this machine
DASK = "distributed"  # what every engine is made with
EXTRA = "'demix_nb[cluster]'"  # in quotes, for shells
GPU = "GPU"  # the resource that workers with one declare (`dask worker --resources GPU=1`)
STARTED = {  # settings of a cluster that is started here
    "distributed.scheduler.worker-saturation": 1.0,  # no task waits at a busy worker while another is idle
    "distributed.worker.profile.enabled": False,  # which looks at every thread each 10 ms, and nobody at it
}
NUMBERS = ("cores", "processes", "n_workers", "job_cpu", "death_timeout", "ncpus")  # words of a queue that are numbers
SWITCHES = ("nanny", "security")  # and those that are yes or no


@dataclass(frozen=True)
class Queue:
    """A row of `ENGINES`: a class that starts a cluster, what must be installed for it, and whose words it takes.

    `of`: module:class. `install`: what brings the module. `queued`: a scheduler of jobs starts its workers, when it has
    room. `gpu`: they have one each.
    """

    of: str
    label: str
    queued: bool = False
    gpu: bool = False
    install: str = EXTRA

    @property
    def module(self) -> str:
        return self.of.partition(":")[0].partition(".")[0]

    def installed(self) -> None:
        """Raise Refusal saying what to install where a module is missing."""
        if not all(map(importlib.util.find_spec, (DASK, self.module))):
            raise Refusal(
                f"engine.{self.label} needs {self.module}, which is not installed; `pip install {self.install}`"
            )

    def cluster(self, words: Mapping[str, Any]) -> Any:
        """Start it; raises Refusal for what is not installed, and for what the cluster's own class refuses."""
        self.installed()
        import dask

        submit = getattr(getattr(self._class, "job_cls", None), "submit_command", None)
        if submit and not shutil.which(submit):
            raise Refusal(f"engine.{self.label} needs `{submit}`, which is not here; run where jobs are submitted")
        try:
            made = self._class  # imported before: what is imported inside `set` loses its own defaults at the end of it
            with dask.config.set(STARTED):
                return made(**self.typed(words))
        except Refusal:
            raise
        except (TypeError, ValueError, ImportError, RuntimeError) as error:
            raise Refusal(f"engine.{self.label} cannot start: {error}; mend what the study file says of it") from error

    @property
    def _class(self) -> type:
        module, _, name = self.of.partition(":")
        return getattr(importlib.import_module(module), name)

    @property
    def known(self) -> list[str]:
        """The words that it takes, from its own signature: a queue's job's too, or of a local cluster its workers'."""
        import distributed

        made = self._class
        job = getattr(made, "job_cls", None) or distributed.Nanny
        found = {name for one in (*made.__mro__, *job.__mro__) if one is not object for name in _taken(one)}
        return sorted(found - {"self", "args", "kwargs", "job_kwargs", "worker_kwargs", "base_class_kwargs", "loop"})

    def typed(self, words: Mapping[str, Any]) -> dict[str, Any]:
        """Return its words with numbers and switches as such; raises Refusal for one that it does not take."""
        known = self.known
        if unknown := [name for name in words if name not in known]:
            hint = near(unknown[0], known, "did you mean {!r}? ")
            raise Refusal(
                f"engine.{self.label} has no {unknown[0]!r}; {hint}see `{self.of.partition(':')[2]}` of {self.module}"
            )
        return {name: _typed(f"engine.{self.label}.{name}", name, said) for name, said in words.items()}


def _taken(made: type) -> Iterable[str]:
    return inspect.signature(made.__init__).parameters


def _typed(where: str, name: str, said: Any) -> Any:
    if name in NUMBERS:
        try:
            return int(said)
        except (TypeError, ValueError) as error:
            raise Refusal(f"{where} is {said!r}; give a whole number") from error
    if name in SWITCHES and str(said).lower() in ("true", "false"):
        return str(said).lower() == "true"
    return said


ENGINES = {
    "dask": Queue("distributed:LocalCluster", "dask"),
    "slurm": Queue("dask_jobqueue:SLURMCluster", "slurm", queued=True),
    "pbs": Queue("dask_jobqueue:PBSCluster", "pbs", queued=True),
    "sge": Queue("dask_jobqueue:SGECluster", "sge", queued=True),
    "lsf": Queue("dask_jobqueue:LSFCluster", "lsf", queued=True),
    "htcondor": Queue("dask_jobqueue:HTCondorCluster", "htcondor", queued=True),
    "cuda": Queue("dask_cuda:LocalCUDACluster", "cuda", gpu=True, install="dask-cuda"),
}


@dataclass(frozen=True)
class Engine:
    """What a study file says of its engine: the row's name, and an address, `local` or a queue's own words."""

    name: str
    said: Any = None

    @classmethod
    def of(cls, said: Any) -> "Engine | None":
        """Return the engine that the file's `engine:` names, None for processes here; raises Refusal for no such."""
        if said == PROCESSES:
            return None
        [(name, how)] = said.items() if isinstance(said, Mapping) and len(said) == 1 else [(said, None)]
        if not isinstance(name, str) or name not in ENGINES:
            known = [PROCESSES, *ENGINES]
            raise Refusal(
                f"engine is {said!r}; {near(str(name), known, 'did you mean {!r}? ')}choose {', '.join(known)}"
            )
        engine = cls(name, how)
        if problem := next(engine._problems(), None):
            raise Refusal(problem)
        return engine

    def _problems(self) -> Iterator[str]:
        if self.name == "dask" and not isinstance(self.said, str):
            yield "engine.dask names no cluster; write its address, as tcp://host:8786, or `local`"
        if self.name == "dask" and self.said != LOCAL and not urlsplit(str(self.said)).hostname:
            yield f"engine.dask is {self.said!r}; write an address with its protocol, as tcp://host:8786, or `local`"
        if self.row.queued and not isinstance(self.said, Mapping):
            yield f"engine.{self.name} says nothing; write its words: n_workers, cores, memory, queue, …"
        if self.row.queued and "n_workers" not in (self.said or {}):
            yield f"engine.{self.name} has no n_workers; say how many workers are to be asked for"

    @property
    def row(self) -> Queue:
        return ENGINES[self.name]

    @property
    def address(self) -> str | None:
        """The address of a cluster that runs already."""
        return self.said if self.name == "dask" and self.said != LOCAL else None

    @property
    def told(self) -> str:
        """What it is, in a line."""
        if self.row.queued:
            return f"{self.said['n_workers']} workers of {self.name}"
        if self.address:
            return f"the Dask cluster at {self.address}"
        return (
            "a worker on every GPU of this machine" if self.row.gpu else "a Dask cluster of processes on this machine"
        )

    def check(self) -> None:
        """Raise Refusal for what is not installed and for words that the queue does not take; nothing is started."""
        self.row.installed()
        if isinstance(self.said, Mapping):
            self.row.typed(self.said)

    def start(self, n_jobs: int) -> Any:
        """Start a cluster of it, of `n_jobs` workers where it is a local one. Raises Refusal as `Queue.cluster`."""
        if self.name == "dask":
            here = {"n_workers": n_jobs, "threads_per_worker": 1, "processes": True, "silence_logs": 50}
            return self.row.cluster(here | {"dashboard_address": "127.0.0.1:0"})
        if self.row.gpu:
            return self.row.cluster({"resources": {GPU: 1}, "threads_per_worker": 1, **(self.said or {})})
        one_thread = {"processes": self.said["cores"]} if "cores" in self.said else {}
        return self.row.cluster(one_thread | dict(self.said))


def _checked(said: Any) -> Any:
    Engine.of(said)
    return said


ALONE = {"enum": [PROCESSES, "cuda"]}
WITH_WORDS = {"type": "object", "minProperties": 1, "maxProperties": 1, "propertyNames": {"enum": list(ENGINES)}}
Said = Annotated[str | dict[str, Any], AfterValidator(_checked), WithJsonSchema({"anyOf": [ALONE, WITH_WORDS]})]


def unguarded(address: str) -> str:
    """Return the sentence to say of a scheduler that others reach and that anyone can run code on, or nothing."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if loopback or parts.scheme in ("tls", "inproc", "wss"):
        return ""
    return (
        f"whoever reaches {address} can run code on its workers, for it has no TLS; write `security: true` under the "
        "queue's words, or start the scheduler with certificates (tls://)"
    )
