"""Models per second, trained one after another and stacked, on the GPU if there is one; prints rates and their ratio.

Run by hand: `python tests/benchmarks/stacked.py [--models N] [--steps S] [--repeats R]`. Models have the shape, batch
and rate of the laptop profile and start from one base, each on a recipe and a seed of its own; text is generated, so
that nothing is downloaded. One after another only some of them are trained, which take as long each. Both ways are
timed in turns, from opening the base to the saved folder and, in brackets, the steps alone; the ratio is the median.
The largest difference between the losses of a model trained both ways is printed beside it.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from demix_nb.lab import corpora, stacked
from demix_nb.lab.corpora import Corpora
from demix_nb.lab.jobs import Architecture, Job
from demix_nb.lab.loop import place
from demix_nb.lab.train import train

LAPTOP = {
    "architecture": Architecture(64, 2, 32, 256),
    "learning_rate": 1.5e-3,
    "batch": 2048,
}  # notebooks/profiles.yml
VOCABULARY, CANDIDATES, LETTERS = 1024, ("general", "math", "code"), list("abcdefghijklmnopqrstuvwxyz")
SINGLE = 8  # models trained one after another at most
ATTENTIONS = ("eager", "sdpa")  # of the stack: the first is what `stacked` takes


def text(folder: Path) -> Corpora:
    """Build small corpora of made-up words, each candidate with words of its own."""
    draw = np.random.default_rng(0)
    (folder / "own").mkdir()
    for name in CANDIDATES:
        words = ["".join(draw.choice(LETTERS, size=draw.integers(2, 9))) for _ in range(1500)]
        lines = [" ".join(draw.choice(words, size=120)) for _ in range(500)]
        (folder / "own" / f"{name}.jsonl").write_text("".join(f'{{"text": "{line}"}}\n' for line in lines))
    how = {"megabytes": 0.4, "vocab_size": VOCABULARY, "heldout_kb": 4, "seed": 0, "n_jobs": 1}
    return corpora.build(folder / "data", sources=folder / "own", **how)


def jobs_of(models: int, steps: int, base: Path) -> list[Job]:
    shares = np.random.default_rng(1).dirichlet(np.ones(len(CANDIDATES)), size=models)
    recipes = [dict(zip(CANDIDATES, row.tolist(), strict=True)) for row in shares]
    how = LAPTOP | {"tokens": steps * LAPTOP["batch"], "start": base}
    return [Job(f"m{n}", "component", recipe, seed=n, **how) for n, recipe in enumerate(recipes)]


def timed(work: Callable[[], list[dict]]) -> tuple[float, float, list[dict]]:
    """Return seconds in all, seconds of the steps alone, and the records."""
    began = time.perf_counter()
    records = work()
    return time.perf_counter() - began, sum(record["seconds"] for record in records), records


def apart(some: list[dict], others: list[dict]) -> float:
    """Return the largest difference of the losses of models in both lists, nats per token."""
    curves = {record["model"]: np.array(record["curve"])[:, 1] for record in others}
    return max(np.abs(np.array(record["curve"])[:, 1] - curves[record["model"]]).max() for record in some)


def compared(jobs: list[Job], data: Corpora, device: str, repeats: int, attention: str) -> None:
    few, ratios, inner = jobs[:SINGLE], [], []
    stacked.ATTENTION = attention
    for turn in range(-1, repeats):  # the turn before the first warms up
        asked = few if turn >= 0 else [replace(job, tokens=2 * job.batch) for job in few[:2]]
        many = jobs if turn >= 0 else asked
        with tempfile.TemporaryDirectory() as folder:
            one, other = Path(folder) / "single", Path(folder) / "stacked"
            whole, steps, single = timed(lambda: [train(job, one / job.name, data) for job in asked])  # noqa: B023
            whole_many, steps_many, together = timed(lambda: stacked.train_stacked(many, other, data, device=device))  # noqa: B023
        if turn < 0:
            continue
        rates = [len(asked) / whole, len(asked) / steps, len(many) / whole_many, len(many) / steps_many]
        ratios.append(rates[2] / rates[0])
        inner.append(rates[3] / rates[1])
        print(
            f"{attention}  single {rates[0]:.2f} ({rates[1]:.2f}) models/s  stacked by {together[0]['stacked']} "
            f"{rates[2]:.2f} ({rates[3]:.2f})  ratio {ratios[-1]:.1f} ({inner[-1]:.1f})  "
            f"losses apart {apart(single, together):.1e}"
        )
    peak = f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB at most" if device == stacked.STACKING else ""
    print(f"{attention}: ratio {np.median(ratios):.1f} ({np.median(inner):.1f}), {len(jobs)} models{peak}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("models", 64), ("steps", 48), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    device = place()
    card = (
        torch.cuda.get_device_name() if device == stacked.STACKING else f"{device}: no GPU, which is not what it is for"
    )
    print(f"{card}; {asked.models} models of {LAPTOP['architecture']}, {asked.steps} steps; torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        data, base = text(Path(folder)), Path(folder) / "base"
        train(
            Job("base", "base", {"general": 1.0}, 10 * LAPTOP["batch"], **{**LAPTOP, "learning_rate": 4e-3}), base, data
        )
        for attention in ATTENTIONS:
            compared(jobs_of(asked.models, asked.steps, base), data, device, asked.repeats, attention)


if __name__ == "__main__":
    main()
