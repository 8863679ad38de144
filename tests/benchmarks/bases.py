"""Is what the laptop's run finds luck? The same run on several bases, each with other data, seeds and rounding.

Run by hand: `python -m tests.benchmarks.bases [--bases 0 1 2] [--threads 1 2] [--strategies] [--folder DIR]
[--out DIR]`. Each base is a run of its own with that seed (text, base, components, references, search and finals), as
`demix-nb run` has it, up to what decides: notebooks 01, 03, 05, 07. Threads change the order of floating-point sums in
the base, and so every weight after it, as another machine does; run numbers of two threads count from 100 on. Finished
runs are taken as they are.
Written are, over all runs: `verdict.csv` (by how many seed noises the found mixture is ahead when really trained) and
`bases.csv` (fidelity of every kind of proxy, base by base); with `--strategies`, `whose.csv` too (whose mixture is
best: study_strategies with three seeds, every strategy's winners really trained; about half an hour a base). Printed
are means with 95 % intervals over bases.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb import store  # noqa: E402
from demix_nb.running import results  # noqa: E402

STEPS = ("01_components", "03_proxy_fidelity", "05_search", "07_mixture_quality")
TWO_THREADS = 100
# as `study_strategies` asks for, whose seven candidates become thirteen: 52 runs of a quarter cost what components do
WHOSE = ("study_strategies", "-p", "trained_rounds=[30, 14, 8]", "-p", "n_seeds=3", "-p", "larger_hidden=0")


def run(folder: Path, base: int, threads: int, *more: tuple[str, ...]) -> Path:
    """Run the notebooks on one base, and what `more` tells of, unless that is done; return its folder of tables."""
    home = folder / f"base-{base}-{threads}"
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    # a base that contradicts our claims counts as well
    told = ["-p", f"seed={base}", "-p", "strict=false", "--run-dir", str(home)]
    begun = time.time()
    for asked in (STEPS, *more):
        subprocess.run([sys.executable, "-m", "demix_nb", "run", *asked, *told], check=True, env=environment, cwd=ROOT)
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


def whose(tables: dict[int, Path]) -> pd.DataFrame:
    """Return how good every strategy's trained winners are over all runs, run number → folder of tables."""
    found = {number: store.read(folder / "strategies.csv", "quality") for number, folder in tables.items()}
    columns = ["strategy", "seed", "macro", "place", "level"]
    return pd.concat(found, names=["base"]).reset_index("model", drop=True)[columns]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bases", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", nargs="+", type=int, default=[1], choices=[1, 2])
    parser.add_argument("--strategies", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "runs" / "bases")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    runs = {base + TWO_THREADS * (threads - 1): (base, threads) for threads in args.threads for base in args.bases}
    more = [WHOSE] if args.strategies else []
    tables = {number: run(args.folder, *one, *more) for number, one in runs.items()}
    verdict, bases = collected(tables)
    if args.out:
        store.write(verdict, args.out / "verdict.csv", "verdict")
        store.write(bases, args.out / "bases.csv", "bases")
    print(results.won(verdict), results.by_base(bases), sep="\n\n")
    if args.strategies:
        levels = whose(tables)
        if args.out:
            store.write(levels, args.out / "whose.csv", "whose")
        print(results.whose(levels), sep="\n\n")


if __name__ == "__main__":
    main()
