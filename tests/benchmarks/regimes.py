"""The map: which kind of proxy when, over bases of several kinds and sizes, each at several sizes of an update.

Run by hand: `python -m tests.benchmarks.regimes [--only NAME…] [--bases 0 1 2] [--folder DIR] [--out DIR]`. Every
regime and base is a run of its own, finished ones are taken as they are: notebooks 01 and 03, and the study of regimes.
Written is `regimes.csv`, of all regimes that are asked for and of those that were in it before; printed are means over
bases. `real` has one base, the model out of a public wheel, and takes hours; another seed of it is other mixtures.
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

STEPS = ("01_components", "03_proxy_fidelity", "regimes")
SMALL = {
    "corpora": "seven",
    "suites": "[heldout]",
    "steer": "heldout",
    "strict": "false",
    "min_signal_to_noise": "1.0",
    "n_replicates": "6",
    "megabytes": "2.0",
    "heldout_kb": "12.0",
    "component_tokens": "300000",
}
LARGE = {"hidden": "128", "layers": "4"}  # 0.9 million parameters
REGIMES = {  # what it is called on the map → profile and what differs from it
    "0.16M, narrow base": ("laptop", SMALL | {"everything": "0.0"}),
    "0.16M, broad base": ("laptop", SMALL),
    "0.9M, broad base": ("laptop", SMALL | LARGE),
    "135M, real base": ("real", {}),
}


def run(folder: Path, regime: str, base: int) -> Path:
    """Run the notebooks of one regime on one base, unless that is done; return its table."""
    profile, changes = REGIMES[regime]
    home = folder / f"{regime.replace(', ', '-').replace(' ', '-')}-{base}"
    told = [f"{name}={value}" for name, value in (changes | {"seed": base, "regime": regime}).items()]
    given = [part for one in told for part in ("-p", one)]
    command = [sys.executable, "-m", "demix_nb", "run", *STEPS, "--profile", profile, "--run-dir", str(home), *given]
    begun, environment = time.time(), os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    print(f"{regime}, base {base}: {time.time() - begun:.0f} s", flush=True)
    return home / "tables" / "regimes.csv"


def joined(before: pd.DataFrame, parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the table with the new rows in the place of those of the same regime and base, regimes in our order."""
    new = {(name, base) for part in parts for name, base in zip(part.index, part["base"], strict=True)}
    kept = [pair not in new for pair in zip(before.index, before["base"], strict=True)]
    both = pd.concat([before[kept], *parts])
    order = {name: number for number, name in enumerate(REGIMES)}
    keys = pd.DataFrame({"regime": both.index.map(order), "base": both["base"].to_numpy()})
    return both.iloc[keys.sort_values(["regime", "base"], kind="stable").index]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[name for name in REGIMES if REGIMES[name][0] == "laptop"])
    parser.add_argument("--bases", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=ROOT / "data" / "runs" / "regimes")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    parts = [store.read(run(args.folder, name, base), "regimes") for base in args.bases for name in args.only]
    target = args.out / "regimes.csv" if args.out else None
    before = store.read(target, "regimes") if target and target.is_file() else parts[0].iloc[:0]
    table = joined(before, parts)
    if target:
        store.write(table, target, "regimes")
    few = table[table["measure"].isin(["rho_macro", "rho_rank", "error", "enclosed", "distance"])].reset_index()
    few = few.assign(proxy=few["proxy"] + few["budget"].map(lambda share: f" {share:g}" if share < 1 else ""))
    shown = few.pivot_table(index=["suite", "regime", "share"], columns=["measure", "proxy"], values="value")
    print(shown.round(3).to_string())


if __name__ == "__main__":
    main()
