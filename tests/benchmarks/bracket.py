"""Do the merged and the mixed proxy of a mixture enclose the score that training gives?

Run by hand: `python -m tests.benchmarks.bracket [FOLDER]`, a folder of tables (the laptop's committed ones). Per suite:
how often the mixed proxy is below the truth, the merged one above, and both; the mean error of blends, by the share of
the merged one; Spearman's ρ, over mixtures, between the distance of the two and the merged one's true error.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from demix_nb.fidelity import spearman  # noqa: E402
from demix_nb.figures.gallery import reader  # noqa: E402

BLENDS = (0.0, 0.125, 0.25, 0.5, 1.0)


def bracket(merged: pd.DataFrame, mixed: pd.DataFrame, truth: pd.DataFrame) -> pd.Series:
    """Return shares of cells, errors of blends (in the scores' unit), and what the distance of the two tells."""
    low, high = mixed < truth, truth < merged
    found = {"mixed below": low, "merged above": high, "enclosed": low & high}
    told = {name: float(cells.to_numpy().mean()) for name, cells in found.items()}
    for share in BLENDS:
        told[f"error, {share:g} merged"] = float((share * merged + (1 - share) * mixed - truth).abs().to_numpy().mean())
    distance, error = ((one - other).abs().mean(axis=1) for one, other in ((merged, mixed), (merged, truth)))
    return pd.Series(told | {"ρ of distance and error": float(spearman(distance.to_numpy(), error.to_numpy()))})


def main() -> None:
    read = reader(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "data" / "results" / "laptop")
    three = [read(f"{kind}_scores") for kind in ("merged", "mixed", "reference")]
    suites = read("tasks").groupby("suite").groups
    table = pd.DataFrame({name: bracket(*(scores[list(tasks)] for scores in three)) for name, tasks in suites.items()})
    print(table.round(3).to_string())
    assert np.isfinite(table.to_numpy()).all()


if __name__ == "__main__":
    main()
