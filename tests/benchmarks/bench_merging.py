"""How long a merge takes, beside mergekit and beside a plain copy of the same bytes. Run by hand:

    python tests/benchmarks/bench_merging.py live       # seven 57M-parameter components → one live model, about 1 GB
    python tests/benchmarks/bench_merging.py small      # 64 proxies of a 1M-parameter bank beside their forward passes
    python tests/benchmarks/bench_merging.py streamed   # seven 500M-parameter components → a checkpoint, about 9 GB
    python tests/benchmarks/bench_merging.py gpu        # seven 1.7B-shaped components held on a GPU, 24 GB on disk

Checkpoints are made on the spot in a temporary folder (`--folder` chooses where) and removed. What is divided by
something else is measured in the same run, in turns, and the best of each is taken.
"""

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, Qwen3Config

from demix_nb.merging import Bank, save

NAMES = list("abcdefg")
WEIGHTS = dict(zip(NAMES, np.arange(1, 8) / 28, strict=True))
SHAPES = {
    "57M": {"hidden_size": 512, "num_hidden_layers": 12, "vocab_size": 32000, "intermediate_size": 1536},
    "1M": {"hidden_size": 128, "num_hidden_layers": 4, "vocab_size": 2048, "intermediate_size": 384},
    "500M": {"hidden_size": 1024, "num_hidden_layers": 24, "vocab_size": 64000, "intermediate_size": 4096},
    "1.7B": {"hidden_size": 2048, "num_hidden_layers": 28, "vocab_size": 151936, "intermediate_size": 6144},
}


def config(size: str) -> Qwen3Config:
    shape = SHAPES[size]
    heads = shape["hidden_size"] // 64
    ends = {"bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True, "head_dim": 64}
    return Qwen3Config(**shape, num_attention_heads=heads, num_key_value_heads=heads, **ends)


def make(folder: Path, size: str) -> dict[str, Path]:
    """Seven bfloat16 checkpoints of that size, each with random weights of its own."""
    model = AutoModelForCausalLM.from_config(config(size), dtype=torch.bfloat16)
    model.save_pretrained(folder / "a")
    tensors = load_file(folder / "a" / "model.safetensors")
    for name in NAMES[1:]:
        shutil.copytree(folder / "a", folder / name, ignore=shutil.ignore_patterns("*.safetensors"))
        save_file({key: t + 0.01 for key, t in tensors.items()}, folder / name / "model.safetensors", {"format": "pt"})
    return {name: folder / name for name in NAMES}


def best(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Least seconds of each call, the calls taking turns so that a busy moment spoils one of each."""
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def mergekit_command(folders: dict[str, Path], folder: Path) -> list[str]:
    """One linear merge the way mergekit is used: a recipe, a process, a checkpoint on disk."""
    models = [{"model": str(path), "parameters": {"weight": float(WEIGHTS[name])}} for name, path in folders.items()]
    recipe = folder / "recipe.json"  # JSON is YAML
    recipe.write_text(json.dumps({"merge_method": "linear", "dtype": "bfloat16", "models": models}))
    return [str(Path(sys.executable).with_name("mergekit-yaml")), str(recipe), str(folder / "mergekit"), "--quiet"]


def live(folder: Path) -> None:
    from mergekit.merge_methods.api import merge_state_dicts

    folders = make(folder, "57M")
    bank = Bank.load(folders, residency="stacked")
    model, copy = bank.model(), torch.empty_like(bank.stack)
    states = {name: load_file(path / "model.safetensors") for name, path in folders.items()}
    parameters = {"weight": WEIGHTS}
    seconds = best(
        {
            "ours, into a live model": lambda: bank.write(model, WEIGHTS),
            "copy of the same bytes": lambda: copy.copy_(bank.stack),
            "mergekit in memory": lambda: merge_state_dicts(states, "linear", parameters=parameters),
        },
        rounds=7,
    )
    command = mergekit_command(folders, folder)
    seconds |= best({"mergekit-yaml": lambda: subprocess.run(command, check=True, capture_output=True)}, rounds=2)
    report(f"linear merge, K = 7, P = {bank.size:,}, bfloat16, {torch.get_num_threads()} threads", seconds)


def small(folder: Path) -> None:
    bank = Bank.load(make(folder, "1M"), residency="stacked")
    model, ids = bank.model(), torch.randint(0, 2048, (16, 256))
    mixtures = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(7), 64), columns=NAMES)

    def merge_all() -> None:
        for _, mixture in mixtures.iterrows():
            bank.write(model, mixture)

    def product() -> None:
        for vector in bank.vectors(mixtures):
            bank.put(model, vector)

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(64):
                model(ids)

    calls = {"64 merges": merge_all, "64 merges, one matrix product": product, "64 × 4,096 tokens forward": forward}
    report(f"64 proxies, P = {bank.size:,}; scoring reads more tokens than that", best(calls, rounds=3))


def streamed(folder: Path) -> None:
    """Each side in a process of its own, whose memory is watched from here."""
    folders = make(folder, "500M")
    print(f"components on disk: {sum(path.stat().st_size for path in folder.rglob('*.safetensors')) / 1e9:.2f} GB")
    watched("ours, streamed to disk", [sys.executable, __file__, "save", "--folder", str(folder)])
    watched("mergekit-yaml", mergekit_command(folders, folder))


def watched(name: str, command: list[str]) -> None:
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, psutil.Process(process.pid).memory_info().rss)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(f"{name} failed; run it by hand: {' '.join(command)}")
    print(f"  {name:24} {time.perf_counter() - start:6.1f} s, peak resident memory {peak / 1e9:.2f} GB")


def only_save(folder: Path) -> None:
    save(Bank.load({name: folder / name for name in NAMES}, residency="streamed"), WEIGHTS, folder / "ours")


def gpu(folder: Path) -> None:
    """Components and proxy on the GPU; a copy of the bank reads and writes its bytes, so the floor is half of it."""
    bank = Bank.load(make(folder, "1.7B"), residency="stacked", device="cuda")
    model, copy = bank.model(torch.bfloat16, "cuda"), torch.empty_like(bank.stack)

    def awaited(call: Callable[[], object]) -> Callable[[], object]:
        return lambda: (call(), torch.cuda.synchronize())

    calls = {"ours, on the GPU": lambda: bank.write(model, WEIGHTS), "copy of the bank": lambda: copy.copy_(bank.stack)}
    seconds = best({name: awaited(call) for name, call in calls.items()}, rounds=10)
    report(f"linear merge, K = 7, P = {bank.size:,}, bfloat16, {torch.cuda.get_device_name()}", seconds)


def report(title: str, seconds: dict[str, float]) -> None:
    ours = next(iter(seconds.values()))
    print(title)
    for name, value in seconds.items():
        print(f"  {name:32} {value:9.4f} s   {value / ours:7.2f} × ours")


def main() -> None:
    runs = {"live": live, "small": small, "streamed": streamed, "gpu": gpu}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", choices=[*runs, "save"])
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    if given.run == "save":
        only_save(given.folder)
    else:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            runs[given.run](Path(folder))


if __name__ == "__main__":
    main()
