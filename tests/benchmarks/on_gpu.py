"""Merging with the bank on a GPU and in memory, and `engine: cuda` beside the processor; prints the card's name.

Run by hand where a CUDA GPU is: `python tests/benchmarks/on_gpu.py merging|engine`.

`merging`: seven components and a base of SmolLM2-135M's shape (134,515,008 float32 numbers, random) are merged into a
live model on the card: from the machine's memory, and from a bank that lies there too (`merging.description`). Beside
it, reading eight rows of as many numbers and writing one. `engine` (needs dask-cuda): a study of seven small
checkpoints, measured through `engine: cuda` and by processes here, and the largest difference of each task's scores;
then six small models trained through the engine, which are stacked there, and here.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1]))

import fixtures_studies as studies
from stacked import LAPTOP, apart, jobs_of, text

from demix_nb.cluster import Cluster
from demix_nb.engines import Engine
from demix_nb.lab.jobs import Job
from demix_nb.lab.train import train, train_all
from demix_nb.merging import Bank
from demix_nb.merging.description import live
from demix_nb.region import Region
from demix_nb.running.given import Given
from demix_nb.study import Study

SHAPE = {"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30}
SHAPE |= {"num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 2048}
NAMES, REPEATS = list("abcdefg"), 10


def timed(work: Callable[[int], object]) -> str:
    """Return the median, least and most milliseconds of some repeats, by number."""
    seconds = []
    for number in range(REPEATS + 1):  # the first warms up
        torch.cuda.synchronize()
        began = time.perf_counter()
        work(number)
        torch.cuda.synchronize()
        seconds.append(1e3 * (time.perf_counter() - began))
    return f"{statistics.median(seconds[1:]):.2f} ms ({min(seconds[1:]):.2f} to {max(seconds[1:]):.2f})"


def made(folder: Path) -> Bank:
    """Write a random base and components near it, and open them."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(LlamaConfig(tie_word_embeddings=True, **SHAPE)).cuda()
    model.save_pretrained(folder / "base")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for name in NAMES:
        model.load_state_dict({key: value + 1e-3 * torch.randn_like(value) for key, value in start.items()})
        model.save_pretrained(folder / name)
    return Bank.load({name: folder / name for name in NAMES}, folder / "base")


def merging(folder: Path) -> None:
    bank = made(folder)
    mixtures = Region(NAMES).draw(REPEATS + 1, rng=np.random.default_rng(0))
    print(f"{len(NAMES)} components and a base of {bank.size:,} float32 numbers")
    model = bank.model(torch.float32, "cuda")
    print("bank in memory, model on the card:", timed(lambda number: bank.write(model, mixtures.iloc[number])))
    began = time.perf_counter()
    there, other = live(bank, torch.float32, "cuda")
    torch.cuda.synchronize()
    print(f"opening the bank on the card, once: {time.perf_counter() - began:.1f} s")
    print("bank on the card too:", timed(lambda number: there.write(other, mixtures.iloc[number])))
    rows, one = torch.empty(len(NAMES) + 1, bank.size, device="cuda"), torch.empty(bank.size, device="cuda")
    print("reading as many rows and writing one:", timed(lambda number: torch.sum(rows, 0, out=one)))
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    print("same bits:", all(torch.equal(here, there) for here, there in pairs))


def engine(folder: Path) -> None:
    file, found = studies.checkpoints(folder / "study"), {}
    for name, how in {
        "cuda": {"engine": "cuda", "model": {"device": "cuda"}},
        "cpu": {"model": {"device": "cpu"}},
    }.items():
        opened = Given.open(studies.changed(file, **how))
        opened.install(folder / name)
        study = Study.open(folder / name, n_jobs=2)
        mixtures = study.region.draw(12, rng=np.random.default_rng(0), prefix="p")
        found[name] = {kind: study.proxy(kind)(mixtures).scores for kind in ("merged", "mixed")}
        if study.engine:
            study.engine.close()
    for kind, scores in found["cuda"].items():
        print(f"{kind}, 12 mixtures: largest difference", (scores - found["cpu"][kind]).abs().max().to_dict())
    data, base = text(folder), folder / "base"
    train(Job("base", "base", {"general": 1.0}, 20 * 2048, 1e-3, LAPTOP["architecture"], batch=2048), base, data)
    jobs, cluster = jobs_of(6, 24, base), Cluster(Engine.of("cuda"), folder)
    stacked = list(train_all(jobs, folder / "there", data, engine=cluster))
    cluster.close()
    single = [train(job, folder / "here" / job.name, data) for job in jobs]
    print(f"trained {stacked[0]['stacked']} together; losses apart {apart(single, stacked):.1e}")


if __name__ == "__main__":
    print(torch.cuda.get_device_name(), torch.__version__, flush=True)
    with tempfile.TemporaryDirectory() as place:
        {"merging": merging, "engine": engine}[sys.argv[1]](Path(place))
