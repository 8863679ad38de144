"""Which rule holds the planted optimum among what cannot be told from the best, and how large its set is.

Run by hand: `python -m tests.benchmarks.tied [--seeds 30]`. On the planted problem (`tests/planted.py`), by noise and
runs: a mixture is tied where it is within a seed's noise of the *best of each surface*, or of the one *predicted best*,
in a twentieth of the surfaces; or of the one predicted best in as many as it takes to hold 95 % of their optima
(*level*, the rule of `tied`). Also how long 200,000 projections take (17 candidates, three groups).
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from planted import FREE, SHARES, TASKS, losses  # noqa: E402

from demix_nb.decide import best  # noqa: E402
from demix_nb.predictors import PREDICTORS  # noqa: E402
from demix_nb.region import Region  # noqa: E402
from demix_nb.scored import Scored  # noqa: E402
from demix_nb.tied import DRAWS, HELD  # noqa: E402

CHANCE = 0.05  # of the surfaces


def level(scored: Scored) -> pd.Series:
    return scored.scores[["g", "m"]].mean(axis=1)


def sets(noise: float, runs: int, seed: int) -> dict[str, np.ndarray]:
    """Return rule → whether each mixture of a pool is tied, the planted optimum first."""
    rng = np.random.default_rng(seed)
    seen = FREE.draw(runs, rng=rng)
    scores = losses(seen) + noise * rng.standard_normal((runs, 3))
    predictor = PREDICTORS["gaussian_process"].new(rng=rng).fit(Scored(seen, scores, TASKS))
    pool = best(predictor, FREE.draw(5000, rng=rng, prefix="t"), 300, level)
    pool = pd.concat([SHARES.to_frame("optimum").T, pool])
    values = np.array([level(one).to_numpy() for one in predictor.draws(pool, DRAWS, rng=rng)])
    one_run = noise / np.sqrt(2)  # of the mean of two tasks
    against = {"best of each surface": values.min(axis=1, keepdims=True),
               "predicted best": values[:, [values.mean(axis=0).argmin()]]}  # fmt: skip
    chances = {rule: (values <= bar + one_run).mean(axis=0) for rule, bar in against.items()}
    chance = chances["predicted best"]
    level_of = np.quantile(chance[1:][values[:, 1:].argmin(axis=1)], 1 - HELD, method="lower")
    return {rule: one >= CHANCE for rule, one in chances.items()} | {"level": chance >= level_of}


def projections() -> float:
    """Return the processor's seconds for 200,000 projections."""
    names, rng = [f"c{number}" for number in range(17)], np.random.default_rng(0)
    groups = {"a": (names[:5], 0.1, 0.3), "b": (names[5:10], 0.2, 0.4), "c": (names[10:14], 0.0, 0.25)}
    region = Region(names, dict.fromkeys(names[5:8], 0.02), dict.fromkeys(names[:5], 0.2), groups=groups)
    drawn = Region(names).draw(200_000, rng=rng)
    begun = time.process_time()
    region.project(drawn)
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    seeds = parser.parse_args().seeds
    print(f"200,000 projections: {projections():.2f} CPU s")
    for noise in (0.02, 0.2):
        for runs in (16, 40, 100):
            found = [sets(noise, runs, seed) for seed in range(seeds)]
            told = [f"{rule}: holds {np.mean([one[rule][0] for one in found]):.2f}, "
                    f"{np.mean([one[rule].sum() for one in found]):.0f} of 301" for rule in found[0]]  # fmt: skip
            print(f"noise {noise}, {runs} runs; {'; '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
