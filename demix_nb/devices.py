"""In which numbers models are opened, and where: dtype, device and workers, settled once before any model is read.

Proxies and references are compared number by number, so all models of a study are opened in one dtype on one class of
device, and both belong to the key of what is measured. On several GPUs each worker takes one for itself.
"""

import json
import os
import socket
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO

from demix_nb.store import Refusal

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # dtype → bytes of a number
WORKERS = 2  # where there are no GPUs to deal out


def resolve(dtype: str, device: str, folders: Sequence[str | Path]) -> tuple[str, str]:
    """Return the dtype and the device that models are opened with, for what a study asks.

    dtype: float32, bfloat16, float16, or auto: what the first folder says it was saved in, float32 without folders.
    device: cpu, cuda (all GPUs), cuda:1 (one of them), mps, or auto: the accelerator where there is one, else cpu.
    Raises Refusal for a dtype or device that is none, and for a device that is not there.
    """
    if dtype == "auto":
        dtype = saved_dtype(folders[0]) if folders else "float32"
        if dtype not in BYTES:
            raise Refusal(f"{folders[0]} was saved in {dtype}, in which nothing is measured; name {', '.join(BYTES)}")
    if dtype not in BYTES:
        raise Refusal(f"dtype {dtype!r} is unknown; choose {', '.join(BYTES)} or auto")
    if device == "cpu":
        return dtype, device
    there = ["cpu", *(_gpus() or _apple())]
    if device == "auto":
        return dtype, device_class(there[-1])
    if device_class(device) not in ("cuda", "mps"):
        raise Refusal(f"device {device!r} is unknown; choose auto, cpu, cuda, cuda:<number> or mps")
    if device not in there and device not in map(device_class, there):
        raise Refusal(
            f"device {device!r} is not there; this machine has {', '.join(there)}: name one of these, or auto"
        )
    return dtype, device


def elsewhere(dtype: str, device: str, folders: Sequence[str | Path], *, gpus: bool) -> tuple[str, str]:
    """Return as `resolve` what models are opened with on other machines, whose devices only they know.

    `gpus`: whether `auto` is theirs. Raises Refusal as `resolve`, but not for a device that is not here.
    """
    dtype, _ = resolve(dtype, "cpu", folders)
    if device == "auto":
        return dtype, "cuda" if gpus else "cpu"
    if device not in ("cpu", "cuda"):
        raise Refusal(f"device {device!r} is one machine's own word; workers of a cluster have cpu, cuda or auto")
    return dtype, device


def device_class(device: str) -> str:
    """What kind of device it is: cpu, cuda or mps."""
    return device.partition(":")[0]


def workers(asked: int, device: str) -> int:
    """Return how many processes measure models on a device; 0 asks for one per GPU, or two where there is none.

    Raises Refusal for more workers than GPUs.
    """
    kind = device_class(device)
    if kind == "cpu":
        return asked or WORKERS
    gpus = len(_gpus()) if device == "cuda" else 1
    if asked > gpus:
        raise Refusal(f"{asked} workers do not fit on {device}, which is {gpus} GPU(s); ask for {gpus}, or for 0")
    return asked or gpus


def of_worker(device: str, n_workers: int) -> str:
    """Return the device of the worker that asks: where several share all GPUs, the first that no other has taken.

    Raises Refusal on a machine that has none.
    """
    if device == "cuda" and not _gpus():
        raise Refusal(f"{socket.gethostname()} has no GPU for `device: cuda`; ask for workers with one, or for the cpu")
    return f"cuda:{seat(len(_gpus()))[0]}" if device == "cuda" and n_workers > 1 else device


@cache
def seat(seats: int) -> tuple[int, IO]:
    """Return the first of so many seats that no other process of this run has, kept as long as this process lives.

    A process that died has left its seat, whatever ended it: the lock goes with it. Raises Refusal where all are taken.
    """
    import fcntl  # here: where several GPUs are is no Windows

    for number in range(seats):
        file = open(Path(tempfile.gettempdir()) / f"demix_nb-{os.getuid()}-{os.getppid()}-{number}.lock", "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return number, file
        except BlockingIOError:
            file.close()
    raise Refusal(f"all {seats} GPUs have a worker; ask for at most {seats}")


def saved_dtype(folder: str | Path) -> str:
    """Return the dtype that a checkpoint's config.json names, float32 where it names none.

    Raises Refusal where there is no config.json.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return config.get("dtype") or config.get("torch_dtype") or "float32"
    except (OSError, ValueError, AttributeError) as error:
        raise Refusal(f"{path} cannot be read; name a folder written by save_pretrained") from error


def numbers(folder: str | Path) -> int:
    """Return how many numbers a checkpoint's weights are, from the bytes of its files."""
    size = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors"))
    return size // BYTES.get(saved_dtype(folder), BYTES["float32"])


def _gpus() -> list[str]:
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())]


def _apple() -> list[str]:
    import torch

    return ["mps"] if torch.backends.mps.is_available() else []
