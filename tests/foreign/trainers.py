"""Trainers' own code in environments of their own, the data it draws from, and three mixtures to draw.

An environment sees what is installed here and has beside it what is not, from the registry; it is made once, below
`data/runs/`. Where packages cannot be had, the trainer is named as not read.
"""

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb import DATA, RUNS
from demix_nb.exports import FORMATS, Order, Phase, Source, export
from demix_nb.mixtures import recipe

PLACE = RUNS / "foreign"
SEQUENCE = 16  # tokens
TEXT = ("hf", "llamafactory", "torchtitan")  # formats whose sources are documents in files
S3 = ("boto3", "botocore", "s3transfer", "jmespath")
PACKAGES = {  # format → what its code needs that is not here; alone: nothing that these ask for is installed besides
    "megatron": ("megatron-core==0.16.1",),
    "olmo-core": ("ai2-olmo-core==3.0.0", "cached-path", "dataclass-extensions", "bettermap", "importlib_resources",
                  "google-cloud-storage", "google-api-core", "google-auth", "google-resumable-media",
                  "google-cloud-core", "google-crc32c", "googleapis-common-protos", "proto-plus", "protobuf", "pyasn1",
                  "pyasn1-modules", "rsa", "cachetools", *S3),
    "hf": (),
    "torchtitan": ("torchtitan==0.3.0", "torchdata", "torch_checkpointing", "spmd_types==0.2.3", "tyro",
                   "docstring_parser", "typeguard", "tensorboard", "einops"),
    "llamafactory": ("llamafactory==0.9.5", "omegaconf", "antlr4-python3-runtime==4.9.3"),
    "litdata": ("litdata==0.2.76", "obstore", "lightning-utilities", "tifffile", *S3),
    "mosaicml": ("mosaicml-streaming==0.13.0", "xxhash", "zstd", "python-snappy", "cramjam", "catalogue", "Brotli",
                 *S3),
}  # fmt: skip


def environment(name: str) -> Path | None:
    """Return the Python that a format's real code runs in, made where it is missing; None where it cannot be had."""
    if not PACKAGES[name]:
        return Path(sys.executable)
    folder = PLACE / name
    python = folder / "bin" / "python"
    done, wanted = folder / "done", " ".join(PACKAGES[name])
    if done.exists() and done.read_text() == wanted:
        return python
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    [site] = folder.glob("lib/*/site-packages")
    (site / "ours.pth").write_text(sysconfig.get_path("purelib"))
    installing = [python, "-m", "pip", "install", "--quiet", "--retries", "1", "--no-deps", *PACKAGES[name]]
    if subprocess.run(installing, env=_clean(), capture_output=True).returncode:
        return None
    done.write_text(wanted)
    return python


def _clean() -> dict[str, str]:
    caches = {"HF_HOME": str(PLACE / "hf"), "PYTHONWARNINGS": "ignore", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | caches


def drawn(name: str, order: Order, folder: Path, draws: int) -> pd.Series | None:
    """Return the shares of tokens by candidate that a format's own code draws; None where it cannot be had."""
    python = environment(name)
    if python is None:
        return None
    export({"": order}, [FORMATS[name]], folder / "export", force=True)
    asked = [python, Path(__file__).with_name("draws.py"), name, folder / "export", str(draws)]
    done = subprocess.run(asked, env=_clean(), capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    tokens = json.loads(done.stdout.splitlines()[-1])
    paths = {source.path: candidate for candidate, source in order.sources.items()}
    found = pd.Series({paths[path]: count for path, count in tokens.items()}, dtype=float)
    return found / found.sum()


# --- data to draw from


def order(name: str, phases: Sequence[Phase], folder: Path, draws: int) -> Order:
    """Return an order of mixtures for a format, with its data made: each candidate a number, a file a source."""
    names = list(dict.fromkeys(candidate for phase in phases for candidate in phase.shares.index))
    mean = {candidate: 4.0 + 2 * place for place, candidate in enumerate(names)}
    asked = Order(tuple(phases), {one: Source(one, document_tokens=mean[one]) for one in names})
    sources = {}
    for place, candidate in enumerate(asked.names):
        path = folder / "data" / f"{place}{'.jsonl' if name in TEXT else ''}"
        share = float(asked.documents(asked.phases[0]).get(candidate, 0.0))
        tokens = _write(name, path, place, mean[candidate], share * draws)
        sources[candidate] = Source(str(path), tokens, mean[candidate])
    return Order(tuple(phases), sources, draws * SEQUENCE, SEQUENCE, batch=512)


def _write(name: str, path: Path, number: int, mean: float, wanted: float) -> float:
    """Make a source's data; return its tokens. The first source has half of what is drawn of it, others a little more.

    Documents are of two lengths about the mean. torchtitan packs, so that long documents do as well, and are fewer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    documents = max(2, 2 * int(wanted * (0.5 if number == 0 else 0.9) / 2))
    if name == "olmo-core":
        with open(path, "wb") as file:
            file.truncate(2 * int(documents * mean) * SEQUENCE)
        return documents * mean * SEQUENCE
    if name in TEXT:
        longer = 200 if name == "torchtitan" else 1
        short, long = (" ".join([str(number)] * int(length * longer)) for length in (mean / 2, 3 * mean / 2))
        pair = "".join(json.dumps({"text": text}) + "\n" for text in (short, long))
        path.write_text(pair * (documents // 2 if name != "torchtitan" else 20))
    return documents * mean


# --- mixtures to draw


def winner() -> list[Phase]:
    """The laptop story's winner: the recipe of the mixture that DeMix found by mixed proxies, β = 0.5."""
    table = pd.read_csv(DATA / "results" / "laptop" / "named_mixtures.csv", index_col=0)
    shares = table.loc["demix, mixed"]
    return [Phase(recipe(shares / shares.sum(), "general", 0.5))]


def sparse() -> list[Phase]:
    """Thirteen candidates, of which four get nothing and one 0.0004."""
    shares = np.array([0.3, 0.0, 0.2, 0.0004, 0.1, 0.0, 0.15, 0.05, 0.0, 0.0996, 0.06, 0.0, 0.04])
    return [Phase(pd.Series(shares, [f"source {place}" for place in range(13)]))]


def two_phases() -> list[Phase]:
    """Seven candidates: general data for four fifths, then mathematics and code."""
    names = ["general", "books", "web", "math", "proofs", "code", "tests"]
    first, second = [0.5, 0.2, 0.1, 0.1, 0.02, 0.05, 0.03], [0.1, 0.0, 0.1, 0.3, 0.2, 0.2, 0.1]
    return [Phase(pd.Series(first, names), 0.8), Phase(pd.Series(second, names), 0.2)]


MIXTURES = {"the laptop's winner": winner, "zeros and 0.0004": sparse, "two phases": two_phases}
