"""What proxies make of a run in two phases: of both in turn, or of their mean alone; against really trained runs.

Run by hand: `python -m tests.benchmarks.phases RUN [RUN …] [--budget 1] [--out DIR]`, finished laptop runs, one a base;
a run gets new models beside its own (7 seconds a model of 200,000 tokens), and goes on where it was broken off. Three
mixtures, most general, most mathematics and most code, each first and each second, and uniform after each: twelve runs,
of which three are of one mixture, and three pairs are the same in the other order. Written is `two_phases.csv`: per
`base` and what a proxy looks at, mean ρ over families, mean error and, of the three pairs, ρ between what changes where
the phases change places (`order`); of the references that change in seed noises (`noises`).
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb import store  # noqa: E402
from demix_nb.intervals import spearman  # noqa: E402
from demix_nb.lab.phased import TwoPhases  # noqa: E402
from demix_nb.mixtures import as_table, uniform  # noqa: E402
from demix_nb.study import Study  # noqa: E402

MOST = 0.7  # of a family, in a mixture that is mostly of it


def mixtures(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return first and second mixtures, each mostly of one family; uniform is among the second."""
    families, plain = pd.Series(study.families), uniform(study.candidates)
    own = {family: families == family for family in pd.unique(families)}
    firsts = {family: MOST * mask / mask.sum() + (1 - MOST) * plain for family, mask in own.items()}
    return as_table(firsts), as_table(firsts | {"uniform": plain})


def told(table: pd.DataFrame, families: list[str], noise: pd.Series) -> pd.DataFrame:
    """Return what each proxy is worth, of `TwoPhases.table`; `noise`: family → standard deviation of a run."""
    true, rows = table[table["looks"] == "reference"][families], []
    names = sorted({name.split("-")[0] for name in true.index})
    pairs = [(f"{a}-{b}", f"{b}-{a}") for place, a in enumerate(names) for b in names[place + 1 :]]

    def turned(scores: pd.DataFrame) -> np.ndarray:
        return np.concatenate([(scores.loc[one] - scores.loc[other]) / noise for one, other in pairs])

    for (looks, kind), found in table.groupby(["looks", "kind"], sort=False):
        scores = found[families].loc[true.index]
        rho = np.mean([spearman(scores[one].to_numpy(), true[one].to_numpy()) for one in families])
        order, moved = spearman(turned(scores), turned(true)), np.sqrt(np.mean(turned(scores) ** 2) / 2)
        rows.append([looks, kind, len(true), rho, (scores - true).abs().mean(axis=None), order, moved])
    columns = ["looks", "kind", "runs", "rho", "error", "order", "noises"]
    return pd.DataFrame(rows, columns=columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--budget", type=float, default=1.0, help="share of the full tokens of both phases together")
    parser.add_argument("--entries", default="ranked", nargs="*", help="tasks that are measured")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path)
    args, parts = parser.parse_args(), []
    for base, run in enumerate(args.runs):
        study = Study.open(run, args.entries, n_jobs=args.workers)
        table = TwoPhases(study, *mixtures(study), budget=args.budget).table()
        families = [name for name in pd.unique(study.ranked["family"]) if name in table]
        again = study.scored("replicate", "reference")
        gaps = again.families - study.references.of(again.names).families
        found = told(table, families, gaps.std()[families] / np.sqrt(2)).assign(base=base, budget=args.budget)
        print(found.round(3).to_string(), flush=True)
        parts.append(found.set_index("base"))
    if args.out:
        store.write(pd.concat(parts).round(4), args.out / "two_phases.csv", store.schema_of("two_phases"))


if __name__ == "__main__":
    main()
