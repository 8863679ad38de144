"""Is what the laptop's run finds luck? The same run on several bases, each with other data, seeds and rounding.

Run by hand: `python -m tests.benchmarks.bases [--study NAME …] [--bases 0 1 2] [--threads 1 2] [--folder DIR]
[--out DIR]`. Each base is a run of its own with that seed (text, base, components, references, search and finals), as
`demix-nb run` has it, up to what decides: notebooks 01, 03, 05, 07. Threads change the order of floating-point sums in
the base, and so every weight after it, as another machine does; run numbers of two threads count from 100 on. Finished
runs are taken as they are. Written are, over all runs: `verdict.csv` (by how many seed noises the found mixture is
ahead when really trained) and `bases.csv` (fidelity of every kind of proxy, base by base); printed are means with 95 %
intervals over bases. With `--study` studies of one base each run on all of them instead (`STUDIES`), and their tables
are joined.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb import store  # noqa: E402
from demix_nb.running import results, results_hundred  # noqa: E402

STEPS = ("01_components", "03_proxy_fidelity", "05_search", "07_mixture_quality")


@dataclass(frozen=True)
class Joined:
    """A study on every base. `tables`: what it writes → what all bases' together are called; `page`: how each is told.

    `told`: parameters, as the command line has them.
    """

    tables: Mapping[str, str]
    page: Mapping[str, Callable[[pd.DataFrame], str]]
    told: Sequence[str] = ()


STUDIES = {
    "study_hundred": Joined(
        {"parts_fidelity": "hundred", "parts_quality": "hundred_quality"},
        {"hundred": results_hundred.fidelity, "hundred_quality": results_hundred.winners},
    ),
    "study_noise": Joined(
        {"proxy_counts": "noise"},
        {"noise": results_hundred.noise},
        ("counts=[28, 56, 112, 224, 448]", "merged_seeds=0"),
    ),
    "study_strategies": Joined(  # thirteen candidates instead of seven: 52 runs of a quarter cost what components do
        {"strategies": "whose"},
        {"whose": results_hundred.whose},
        ("trained_rounds=[30, 14, 8]", "n_seeds=3", "larger_hidden=0", "component_budgets=[]", "betas=[]", "rates=[]"),
    ),
}


def run(folder: Path, base: int, threads: int, steps: Sequence[str] = STEPS) -> Path:
    """Run the notebooks on one base, unless that is done; return its folder of tables. `steps`: what is asked for."""
    home = folder / f"base-{base}-{threads}"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    # a base that contradicts our claims counts as well
    told = ["-p", f"seed={base}", "-p", "strict=false", "--run-dir", str(home)]
    begun = time.time()
    subprocess.run([sys.executable, "-m", "demix_nb", "run", *steps, *told], check=True, env=environment, cwd=ROOT)
    print(f"base {base}, {threads} threads: {time.time() - begun:.0f} s", flush=True)
    return home / "tables"


def collected(tables: dict[int, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return `verdict` and `bases` over all runs, run number → folder of tables."""
    verdicts, fidelities = [], []
    for base, folder in tables.items():
        found = store.read(folder / "won.csv", "verdict")
        verdicts.append(found.set_axis(pd.Index([base] * len(found), name="base")))
        fidelity, tasks = (store.read(folder / f"{name}.csv", name) for name in ("fidelity", "tasks"))
        suite = tasks.query("in_rank")["suite"].iloc[0]
        kept = fidelity[(fidelity["suite"] == suite) & fidelity["measure"].isin(results.MEASURES)].reset_index()
        columns = ["proxy", "budget", "measure", "value"]
        fidelities.append(kept.assign(base=base).set_index("base")[columns])
    return pd.concat(verdicts), pd.concat(fidelities)


def joined(name: str, tables: dict[int, Path]) -> dict[str, pd.DataFrame]:
    """Return a study's tables over all runs, run number → folder of tables, by what they are called together."""
    found = {}
    for own, together in STUDIES[name].tables.items():
        parts = [store.read(folder / f"{own}.csv", store.schema_of(own)) for folder in tables.values()]
        found[together] = pd.concat(parts).assign(base=np.repeat(list(tables), [len(part) for part in parts]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", nargs="+", default=[], choices=list(STUDIES))
    parser.add_argument("--bases", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", nargs="+", type=int, default=[1], choices=[1, 2])
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "runs" / "bases")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    runs = {
        base + results.TWO_THREADS * (threads - 1): (base, threads) for threads in args.threads for base in args.bases
    }
    for name in args.study:
        told = [part for option in STUDIES[name].told for part in ("-p", option)]
        tables = {number: run(args.folder, *one, [name, *told]) for number, one in runs.items()}
        found = joined(name, tables)
        for called, table in found.items():
            if args.out:
                store.write(table, args.out / f"{called}.csv", store.schema_of(called))
            print(STUDIES[name].page[called](table), end="\n\n")
    if args.study:
        return
    tables = {number: run(args.folder, *one) for number, one in runs.items()}
    verdict, bases = collected(tables)
    if args.out:
        store.write(verdict, args.out / "verdict.csv", "verdict")
        store.write(bases, args.out / "bases.csv", "bases")
    print(results.won(verdict), results.by_base(bases), sep="\n\n")


if __name__ == "__main__":
    main()
