"""How long a merge takes, and how much memory, beside what cannot be beaten: reading every component once."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import psutil
import torch

from demix_nb.merging.bank import Bank
from demix_nb.merging.methods import METHODS

TURNS = 10  # the least of so many is told


def speed(bank: Bank | None, mixtures: pd.DataFrame) -> pd.Series:
    """Return milliseconds of one linear merge (the least over the mixtures) and of copying the components' bytes, …

    … their ratio, and megabytes: components on disk, growth by all these merges, the same proxies as checkpoints.
    Nothing without components.
    """
    if bank is None:
        return pd.Series(dtype=float)
    model, process = bank.model(), psutil.Process()
    size = sum(file.stat().st_size for folder in bank.directories.values() for file in folder.glob("*.safetensors"))
    one = size // len(bank.names)
    here, there = (torch.zeros(one, dtype=torch.uint8) for _ in range(2))
    bank.write(model, mixtures.iloc[0])
    before = process.memory_info().rss
    merge = min(_milliseconds(bank.write, model, row) for _, row in mixtures.iterrows())
    grown = max(process.memory_info().rss - before, 0)
    copy = min(_milliseconds(lambda: [there.copy_(here) for _ in bank.names]) for _ in range(TURNS))
    timed = {"one proxy, ms": merge, "copying the components' bytes, ms": copy, "ratio": merge / copy}
    held = {"components on disk, MB": size / 1e6, f"grown by {len(mixtures)} merges, MB": grown / 1e6}
    return pd.Series(timed | held | {f"{len(mixtures)} proxies as checkpoints, MB": len(mixtures) * one / 1e6})


def compared(bank: Bank | None, mixture: pd.Series, methods: Sequence[str], *, seed: int = 0) -> pd.DataFrame:
    """Return what these components can be merged by, with milliseconds of one merge, and papers.

    `methods`: names of METHODS, or `["all"]`; without a base those that need no updates, without components none.
    """
    asked = list(METHODS) if list(methods) == ["all"] else list(methods)
    usable = [] if bank is None else [name for name in asked if bank.base or not METHODS[name].updates]
    model = bank.model() if bank else None
    took = [_milliseconds(bank.write, model, mixture, name, rng=np.random.default_rng(seed)) for name in usable]
    papers = [METHODS[name].paper for name in usable]
    return pd.DataFrame({"merge, ms": took, "paper": papers}, index=pd.Index(usable, name="method", dtype=object))


def _milliseconds(work: Callable, *arguments: object, **options: object) -> float:
    began = time.perf_counter()
    work(*arguments, **options)
    return (time.perf_counter() - began) * 1e3
