"""Merged proxies per second and what is sent for each, by processes and by a local Dask cluster of 1 and 2 workers.

Run by hand: `python tests/benchmarks/engines.py [--beside CHECKOUT] [--proxies N] [--large N] [--repeats R]`. CHECKOUT
is a folder with another version of the package, as `git worktree add CHECKOUT COMMIT` makes it. Each version runs in a
process of its own, which waits while the other works: they take turns at every cell, repeat by repeat. Mixtures are new
in each repeat, and the same in every cell. Components have the laptop's shape, then (`--large`, 0 for none) 12 million
numbers each, which are heavy: two processes here have half of the cores each, one has all of them, a Dask worker one
thread. Texts are generated, and measured through a real suite.

Columns: `proxies/s` is the median of the repeats, with the least and the most; `2 : 1` the median of the ratios of a
repeat by two workers to the same by one; `cores` CPU seconds of driver and workers by the wall's: what a busy machine
left to them; `CPU s` those of a proxy, idle time of the engine included; `kB sent` what a proxy's task weighs pickled,
function included; `start` the seconds of a first call beyond its proxies' own: processes
start, import the package, open bank and suite.
"""

import argparse
import json
import logging
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
NAMES = [f"candidate_{number}" for number in range(7)]
WORDS = 1024  # of the tokenizer
LAPTOP = {"hidden_size": 64, "num_hidden_layers": 2, "head_dim": 32}  # notebooks/profiles.yml
LARGE = {"hidden_size": 384, "num_hidden_layers": 6, "head_dim": 64}
DOCUMENTS = {"small": 24, "large": 6}  # of 250 words, for each candidate
CELLS = {"processes": (1, 2), "dask": (1, 2)}  # engine → workers
WARM = 6  # proxies of a first call, for each worker: what one of another version takes at a time


# --- what is measured: in the process of one version


def sources(folder: Path, kind: str) -> tuple:
    """Make components and held-out texts of a kind; return the bank and the suite."""
    from fixtures_models import family
    from transformers import AutoTokenizer, Qwen3Config

    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite

    shape = {"small": LAPTOP, "large": LARGE}[kind]
    hidden, heads = shape["hidden_size"], shape["hidden_size"] // shape["head_dim"]
    sizes = {"vocab_size": WORDS, "intermediate_size": 3 * hidden, "tie_word_embeddings": True}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": heads, "bos_token_id": 1, "eos_token_id": 2}
    names = NAMES if kind == "small" else NAMES[:3]
    components, base = family(folder / kind, Qwen3Config(**sizes, **shape), names=names, words=WORDS)
    draw = np.random.default_rng(0)
    texts = {name: _texts(draw, DOCUMENTS[kind]) for name in names}
    heldout = SimpleNamespace(families={name: name for name in names}, heldout=texts)
    suite = Suite.build(["heldout"], AutoTokenizer.from_pretrained(base), heldout=heldout, context=256)
    return Bank.load(components, base=base), suite


def _texts(draw: np.random.Generator, documents: int) -> list[str]:
    return [" ".join(f"w{word}" for word in draw.integers(3, WORDS, size=250)) for _ in range(documents)]


class Version:
    """One version of the package, which measures proxies on demand; `folder` holds components and what is scored."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.clusters = folder, {}, {}

    def told(self) -> dict:
        """Say which engines this version has."""
        import demix_nb

        there = (Path(demix_nb.__file__).parent / "cluster.py").is_file()
        return {"engines": [name for name in CELLS if name == "processes" or there]}

    def scores(self, kind: str, engine: str, workers: int, proxies: int, seed: int) -> dict:
        """Score new mixtures; return seconds, CPU seconds of all processes and bytes sent."""
        from demix_nb.region import Region
        from demix_nb.sources import Merges, Store

        if kind not in self.made:
            self.made[kind] = sources(self.folder / "models", kind)
        bank, suite = self.made[kind]
        mixtures = Region(bank.names).draw(proxies, rng=np.random.default_rng(seed), prefix=f"{seed}_")
        how = {} if engine == "processes" else {"engine": self._cluster(workers)}
        store = Store(self.folder / f"{kind}-{engine}-{workers}", workers, **how)
        with weighed() as sizes:
            before, began = cpu(), time.perf_counter()
            store.scores(Merges(bank, mixtures), suite)
            seconds, used = time.perf_counter() - began, cpu() - before
        here = engine == "processes" and workers == 1
        return {"seconds": seconds, "cpu": used, "sent": 0 if here else sum(sizes) / proxies}

    def _cluster(self, workers: int) -> object:
        from demix_nb.cluster import Cluster
        from demix_nb.engines import Engine

        if workers not in self.clusters:
            self.clusters[workers] = Cluster(Engine.of({"dask": "local"}), self.folder, workers)
        return self.clusters[workers]

    def serve(self) -> None:
        """Answer requests, a line of JSON each, until there are no more."""
        answers, sys.stdout = sys.stdout, sys.stderr
        for line in sys.stdin:
            verb, *given = json.loads(line)
            print(json.dumps(getattr(self, verb)(*given)), file=answers, flush=True)

    def rest(self) -> dict:
        """End the clusters."""
        while self.clusters:
            self.clusters.popitem()[1].close()
        return {}


@contextmanager
def weighed() -> Iterator[list[int]]:
    """Give the bytes of each task that is fanned out inside, pickled with its function."""
    from demix_nb import sources as ours

    sizes, fan_out = [], ours.fan_out

    def weighing(function: Callable, calls: list[tuple], **how: object) -> Iterator:
        sizes.extend(len(pickle.dumps((function, call))) for call in calls)
        return fan_out(function, calls, **how)

    ours.fan_out = weighing
    try:
        yield sizes
    finally:
        ours.fan_out = fan_out


def cpu() -> float:
    """Return CPU seconds of this process and of all that it started, as long as they live."""
    mine = psutil.Process()
    times = [process.cpu_times() for process in [mine, *mine.children(recursive=True)]]
    return sum(each.user + each.system for each in times)


# --- who asks for it


class Other:
    """A version in a process of its own."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        self.label, self.checkout = commit(checkout), checkout
        paths = os.pathsep.join(map(str, (checkout, ROOT / "tests")))
        env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "DASK_LOGGING__DISTRIBUTED": "error"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, str(HERE), "--serve", str(folder)]
        self.process = subprocess.Popen(command, env=env, cwd=checkout, **pipes)
        self.engines = self("told")["engines"]

    def __call__(self, *request: object) -> dict:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        if not (answer := self.process.stdout.readline()):
            raise RuntimeError(f"{self.checkout} ended at {request}; what it said stands above")
        return json.loads(answer)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(60)


def commit(checkout: Path) -> str:
    """Return the short name of what is checked out in a folder."""
    asked = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def compared(versions: list[Other], kind: str, proxies: int, repeats: int) -> None:
    """Print a table per engine, a row per version and count of workers; versions take turns at every cell of it.

    An engine is done before the next begins: idle Dask workers take a part of a core.
    """
    for engine, counts in CELLS.items():
        cells = [(one, engine, workers) for workers in counts for one in versions if engine in one.engines]
        first = {cell: cell[0]("scores", kind, *cell[1:], WARM * cell[2], 1000) for cell in cells}
        found = {cell: [] for cell in cells}
        for repeat in range(repeats):
            for cell in cells if repeat % 2 == 0 else cells[::-1]:
                found[cell].append(cell[0]("scores", kind, *cell[1:], proxies, repeat))
        rows = [_row(cell, found, first[cell], proxies) for cell in cells]
        print(pd.DataFrame(rows).to_string(index=False), flush=True)
    for one in versions:
        one("rest")


def _row(cell: tuple, found: dict[tuple, list[dict]], first: dict, proxies: int) -> dict:
    one, engine, workers = cell
    seconds = np.array([each["seconds"] for each in found[cell]])
    alone = np.array([each["seconds"] for each in found[one, engine, 1]])
    rates = proxies / seconds
    own = WARM * workers * np.median(seconds) / proxies
    return {
        "version": one.label,
        "engine": engine,
        "workers": workers,
        "proxies/s": f"{np.median(rates):.2f} ({rates.min():.2f} … {rates.max():.2f})",
        "2 : 1": "" if workers == 1 else f"{np.median(alone / seconds):.2f}",
        "cores": round(float(np.median([each["cpu"] / each["seconds"] for each in found[cell]])), 2),
        "CPU s": round(float(np.median([each["cpu"] for each in found[cell]])) / proxies, 3),
        "kB sent": round(found[cell][0]["sent"] / 1000, 1),
        "start": round(float(first["seconds"] - own), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path)
    for name, default in (("proxies", 36), ("large", 5), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve:
        logging.disable(logging.WARNING)
        return Version(asked.serve).serve()
    checkouts = [path.resolve() for path in (asked.beside, ROOT) if path]
    with tempfile.TemporaryDirectory() as folder:
        versions = [Other(path, Path(folder) / str(number)) for number, path in enumerate(checkouts)]
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        for kind, proxies in (("small", asked.proxies), ("large", asked.large)):
            if proxies:
                print(f"\n{kind} models, {proxies} proxies, {asked.repeats} repeats")
                compared(versions, kind, proxies, asked.repeats)
        for one in versions:
            one.close()


if __name__ == "__main__":
    main()
