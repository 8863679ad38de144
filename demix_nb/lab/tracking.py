"""Where a training is followed while it goes on: Weights & Biases, TensorBoard, MLflow or trackio, by `accelerate`.

Nothing is sent anywhere unless `log_with` asks for it. A model is a run of its own, called as its folder is; what the
tracker keeps on disk lies in `logs/` beside the run's models. What is followed is no part of what decides a model: its
content key is the same.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from demix_nb.lab.jobs import Job

LOGS = "logs"
PROJECT = "demix_nb"


@dataclass(frozen=True)
class Tracker:
    """A row of TRACKERS: the project that a job's run belongs to, and what its run is told to be called."""

    project: Callable[[Job], str]
    named: Callable[[Job], Mapping[str, Any]]


def _ours(job: Job) -> str:
    return PROJECT


TRACKERS = {
    "tensorboard": Tracker(lambda job: job.name, lambda job: {}),
    "wandb": Tracker(_ours, lambda job: {"name": job.name, "group": job.kind}),
    "mlflow": Tracker(_ours, lambda job: {"run_name": job.name}),
    "trackio": Tracker(_ours, lambda job: {"name": job.name}),
}


def followed(job: Job, directory: Path | None) -> Accelerator:
    """Return what a model is trained with, its tracker opened where the job names one and it is to have a folder."""
    if not job.log_with or directory is None:
        return Accelerator()
    row, logs = TRACKERS[job.log_with], directory.parent.parent / LOGS
    logs.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(log_with=job.log_with, project_dir=str(logs))
    facts = {"kind": job.kind, "tokens": job.tokens, "seed": job.seed, "learning_rate": job.learning_rate}
    accelerator.init_trackers(row.project(job), facts | dict(job.recipe), {job.log_with: dict(row.named(job))})
    return accelerator
