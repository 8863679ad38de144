"""Wishes for a score, a hundred in each of two regions: how many are met, and what each takes.

`python -m tests.benchmarks.reach`; on the committed tables of profile laptop. A wish is what some other mixture of the
region is predicted at, so that each can be met.
"""

import time
from pathlib import Path

import numpy as np

from demix_nb.panels import Playground
from demix_nb.panels.reach import reach
from demix_nb.region import Region
from demix_nb.study import Study

RESULTS = Path(__file__).parents[2] / "data" / "results" / "laptop"
WISHES = 100


def main() -> None:
    play = Playground(Study.open(RESULTS, given=RESULTS))
    names, rng = play.study.candidates, np.random.default_rng(0)
    math = [name for name in names if play.study.families[name] == "math"]
    bounds = {"lower": {"general": 0.05}, "upper": dict.fromkeys(names, 0.25), "groups": {"math": (math, 0.1, 0.5)}}
    for told, region in {"every mixture": Region(names), "bounds and a group": Region(names, **bounds)}.items():
        starts, others = (region.draw(WISHES, rng=rng) for _ in range(2))
        met, seconds = 0, []
        for (_, start), (_, other) in zip(starts.iterrows(), others.iterrows(), strict=True):
            process = play.predictor.regressors[rng.choice(list(play.families.scores))]
            wanted = float(process.predict(other.to_numpy()[None])[0])
            began = time.process_time()
            met += reach(process, region, start, wanted).there
            seconds.append(time.process_time() - began)
        print(f"{told}: {met} of {WISHES} met; CPU ms a wish, median {1e3 * np.median(seconds):.0f}, "
              f"most {1e3 * max(seconds):.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
