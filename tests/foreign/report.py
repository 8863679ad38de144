"""What every trainer draws of what was asked: `python -m tests.foreign.report [--out data/results] [--draws 1000000]`.

Three mixtures go out in every format; what can be read by a trainer's own code is drawn with it (`trainers.py`), the
rest is read back by its documented grammar. Written as `exports.csv`, which RESULTS.md shows.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from demix_nb import store
from demix_nb.exports import FORMATS, Format, Order, Phase, Source, files_of
from demix_nb.running import results

sys.path.insert(0, str(Path(__file__).parent))
import trainers

DRAWS = 1_000_000  # sequences or documents: by chance a share of a half is then off by 0.0005


def rows(row: Format, mixture: str, phases: list[Phase], draws: int) -> Iterator[dict[str, Any]]:
    """Yield a row of the table for each phase, or one that says why there is none."""
    known = {"format": row.name, "mixture": mixture, "phase": 1}
    if len(phases) > 1 and not row.phases:
        yield known | {"read": "no phases", "candidate": ""}
        return
    with tempfile.TemporaryDirectory() as folder:
        real, order = None, _by_grammar(phases, draws)
        if row.name in trainers.PACKAGES:
            order = trainers.order(row.name, phases, Path(folder), draws)
            real = trainers.drawn(row.name, order, Path(folder), draws)
    found = row.shares(files_of(row, order), order) if real is None else [real]
    for place, (phase, shares) in enumerate(zip(order.phases, found, strict=True), 1):
        off = (shares - phase.shares).abs()
        told = {"candidate": off.idxmax(), "requested": phase.shares[off.idxmax()], "realised": shares[off.idxmax()]}
        least = phase.shares.idxmin()
        told |= {"difference": off.max(), "least": phase.shares[least], "least_realised": shares[least]}
        yield known | {"phase": place, "read": "grammar" if real is None else row.real} | told


def _by_grammar(phases: list[Phase], draws: int) -> Order:
    names = dict.fromkeys(name for phase in phases for name in phase.shares.index)
    sources = {name: Source(f"/data/{place}", 1e12, 300.0 + 40 * place) for place, name in enumerate(names)}
    return Order(tuple(phases), sources, draws * 4096, 4096, batch=512)


def table(draws: int) -> pd.DataFrame:
    """Return the table of all formats and mixtures."""
    found = []
    for mixture, phases in trainers.MIXTURES.items():
        for row in FORMATS.values():
            found += rows(row, mixture, phases(), draws)
            print(
                f"{mixture}, {row.name}: {found[-1]['read']}, {found[-1].get('difference', float('nan')):.2g}",
                flush=True,
            )
    return pd.DataFrame(found).set_index("format")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder of exports.csv; none: it is printed alone")
    parser.add_argument("--draws", type=int, default=DRAWS)
    given = parser.parse_args()
    made = table(given.draws)
    print(results.exports(made))
    if given.out:
        store.write(made, given.out / "exports.csv", "exports")


if __name__ == "__main__":
    main()
