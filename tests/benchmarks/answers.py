"""Is true what notebook 05 tells of an answer? Planted problems of known optimum and noise, and RegMix's public runs.

Run by hand: `python -m tests.benchmarks.answers [--seeds 200] [--asked 40] [--regmix FOLDER] [--out DIR]`, half an
hour of one core. What is done is kept in `--kept`, where it goes on when it was broken off; empty it for other code. On
three regions (the simplex; caps and a group; amounts of data, by epochs of the recipe), with `RUNS` noisy runs each:

* `tied`: whether the set holds the planted optimum, and how many of 501 mixtures it has;
* `covered`: the share of fresh runs in the calibrated interval of 90 %, and in the one as it was (`covered before`);
* `price`, `billion`: whether the interval of a bound's price holds what the loosened problem really gains (a point of
  share, a billion tokens more);
* `asked`, `random`: the regret after so many runs, in seed noises, of the mixture then predicted best of a pool;
* `stopped`: by how many rounds the rule stops after an oracle who sees what the next round really gains; `within a
  round`, how often that is one at most; `left`: what the optimum would gain beyond, in seed noises, where it stops.

Of RegMix's 512 public runs of 1M parameters so many are asked for or taken at random, and the best predicted of its 64
mixtures of 1B, and of the 512, chosen: by the level of six of its losses, and by Pile-CC's alone; regret in standard
deviations. `--known`: times the candidates that are spread out before anything is believed.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from planted import FREE, NAMES, SHARES, TASKS, losses  # noqa: E402

from demix_nb import asking, prices, store, tied  # noqa: E402
from demix_nb.decide import best, level, refine  # noqa: E402
from demix_nb.intervals import bootstrap_interval  # noqa: E402
from demix_nb.papers import regmix  # noqa: E402
from demix_nb.parallel import fan_out  # noqa: E402
from demix_nb.predictors import PREDICTORS, calibrated, coverage  # noqa: E402
from demix_nb.region import Region  # noqa: E402
from demix_nb.scored import Scored  # noqa: E402

TOKENS = pd.Series([9e9, 4e9, 1e9, 3e9, 4e9, 1e9], NAMES)
DATA = {"target_tokens": 20e9, "epochs": 2.0, "general": "news", "beta": 0.5}
GROUPS = {"sums": (["word", "drill", "proofs"], 0.1, 0.4)}
CAPS = {"lower": {"news": 0.15}, "upper": {"word": 0.2, "python": 0.15}}
REGIONS = {"free": FREE, "caps": Region(NAMES, **CAPS, groups=GROUPS), "data": Region.of_data(TOKENS, **DATA)}
RUNS, NOISE = 40, 0.1  # a run's noise, of each task's standard deviation over the simplex
PREDICTOR = "gaussian_process"
FIRST, PRICED = 1000, 40  # seeds below the first chose the rules of `tied`; seeds whose bounds are priced
SIZES, TURN, POOL = (24, 32, 40, 48, 64, 80), 4, 1000
RIVALS, LOT, DRAWS = (16, 24, 32, 48, 64, 96, 128), 8, 6  # of RegMix
SIX = "six losses"
SAMPLE = FREE.draw(500, rng=np.random.default_rng(9))
SCALE = Scored(SAMPLE, losses(SAMPLE), TASKS)
DEVIATION = SCALE.scores.std().to_numpy()
ONE_RUN = NOISE / np.sqrt(len(TASKS))  # of the level


def truth(mixture: pd.Series) -> float:
    table = mixture.to_frame("it").T
    return level(SCALE)(Scored(table, losses(table), TASKS)).item()


def optimum(region: Region) -> pd.Series:
    return region.project(SHARES.to_frame("optimum").T).loc["optimum"]


def run(mixtures: pd.DataFrame, rng: np.random.Generator) -> Scored:
    noise = NOISE * DEVIATION * rng.standard_normal((len(mixtures), len(TASKS)))
    return Scored(mixtures, losses(mixtures) + noise, TASKS)


# --- what is told of an answer


def told(name: str, seed: int, priced: bool) -> list[dict]:
    """Return rows (region, measure, value) of one planted problem."""
    region, rng = REGIONS[name], np.random.default_rng([5, seed])
    seen = run(region.draw(RUNS, rng=rng), rng)
    plain = PREDICTORS[PREDICTOR].new(rng=rng).fit(seen)
    sure, _ = calibrated(plain, seen, rng=rng)
    found = tied.tied(sure, region, level(SCALE), ONE_RUN, rng=rng, also=optimum(region).to_frame("optimum").T)
    rows = {"tied": "optimum" in found.mixtures.index, "size": len(found.mixtures)}
    fresh = run(region.draw(200, rng=rng, prefix="f"), rng)
    for what, one in (("covered", sure), ("covered before", plain)):
        table = coverage(one.predict(fresh.mixtures), one.spread(fresh.mixtures), fresh).set_index("level")
        rows[what] = table.loc[0.9, "covered"]
    given = [{"region": name, "measure": measure, "value": float(value)} for measure, value in rows.items()]
    return given + (held(name, sure, rng) if priced else [])


def held(name: str, predictor, rng: np.random.Generator) -> list[dict]:
    """Return whether the prices' intervals hold what the loosened problems gain."""
    region, rows = REGIONS[name], []
    _, found = prices.prices(predictor, region, level(SCALE), optimum(region), rng=rng)
    for bound, row in found.iterrows():
        limits = region.limits.loosened(bound, prices.POINT)
        wider = Region(NAMES, limits.lower, limits.upper, groups=limits.groups)
        gain = truth(optimum(region)) - truth(optimum(wider))
        rows.append({"region": name, "measure": "price", "value": float(row["low"] <= gain <= row["high"])})
        if np.isfinite(row["billion"]):
            more = Region.of_data(TOKENS + 1e9 * (TOKENS.index == bound.split()[-1]), **DATA)
            gain = truth(optimum(region)) - truth(optimum(more))
            inside = row["billion_low"] <= gain <= row["billion_high"]
            rows.append({"region": name, "measure": "billion", "value": float(inside)})
    return rows


# --- what is asked next


def regret(region: Region, mixture: pd.Series) -> float:
    """Return how far a mixture is from the planted optimum, in seed noises."""
    return (truth(mixture) - truth(optimum(region))) / ONE_RUN


def driven(name: str, seed: int) -> list[dict]:
    """Return rows of one search that asks, and of as many random runs."""
    region, rng = REGIONS[name], np.random.default_rng([6, seed])
    predictor, seen, stops = PREDICTORS[PREDICTOR].new(rng=rng), Scored.none(TASKS), {}
    last, rows = region.draw(2000, rng=rng, prefix="l"), []
    order = run(region.draw(max(SIZES), rng=rng, prefix="o"), rng)
    turn = 0
    while len(seen) < max(SIZES):
        fresh = region.pool(POOL, how="dirichlet", rng=rng, prefix=f"r{turn}-")
        asked, gain = asking.ask(predictor, fresh, seen, TURN, rng=rng)
        if np.isfinite(gain):
            noise = NOISE * np.linalg.norm(DEVIATION / seen.scores.std().to_numpy()) / len(TASKS)
            now = regret(region, best(predictor, seen.mixtures, 1, level(seen)).iloc[0])
            if asking.enough(gain, noise):
                stops.setdefault("rule", (turn, now))
            if now - min(regret(region, mixture) for _, mixture in asked.iterrows()) < 1:
                stops.setdefault("oracle", (turn, now))
        seen, turn = seen + run(asked, rng), turn + 1
        if len(seen) in SIZES:
            for how, known in (("asked", seen), ("random", order.take(np.arange(len(seen))))):
                fitted = PREDICTORS[PREDICTOR].new(rng=rng).fit(known)
                by = level(fitted.predict(last))
                value = regret(region, refine(fitted, best(fitted, last, 1, by).iloc[0], region, by, rng=rng))
                rows.append({"region": name, "measure": how, "runs": len(seen), "value": value})
    (rule, left), (oracle, _) = (stops.get(who, (turn, 0.0)) for who in ("rule", "oracle"))
    given = {"stopped": rule - oracle, "left": left}
    return rows + [{"region": name, "measure": measure, "value": value} for measure, value in given.items()]


# --- RegMix's runs


def chosen(folder: Path, target: str, how: str, known: float, draw: int) -> list[dict]:
    """Return the regret at 1B of what so many runs of 1M choose, by a target: a task, or some (`SIX`)."""
    sets = regmix.load(folder)
    tasks = list(sets["train"].tasks.index)
    some = np.linspace(0, len(tasks) - 1, 6).round().astype(int)
    tasks = [tasks[i] for i in some] if target == SIX else [target]
    runs, big = (sets[name].only(tasks) for name in ("train", "1B"))
    pool, rng = runs.take(np.random.default_rng([11, draw]).permutation(len(runs))), np.random.default_rng([7, draw])
    predictor, names, rows = PREDICTORS[PREDICTOR].new(rng=rng), [], []
    asking.KNOWN = known
    for size in RIVALS:
        while how == "asked" and len(names) < size:
            few = min(LOT, size - len(names))
            asked, _ = asking.ask(predictor, pool.mixtures.drop(names), pool.of(names), few, rng=rng)
            names += list(asked.index)
        seen = pool.of(names) if how == "asked" else pool.take(np.arange(size))
        scale = predictor.fit(seen).predict(pool.mixtures)
        said, real, own = predictor.predict(big.mixtures).level(scale), big.level(big), scale.level(scale)
        for test, guess, true in (("1B", said, real), ("1M", own, pool.level(pool))):
            value = (true[guess.idxmin()] - true.min()) / true.std()
            measure = how if how == "random" else f"asked after {known:g} K"
            rows.append({"region": f"RegMix {test}, {target}", "measure": measure, "runs": size, "value": value})
    return rows


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Return means with 95 % intervals: Wilson's of shares, else bootstrapped; index region."""
    found = []
    for (region, measure, runs), group in rows.groupby(["region", "measure", "runs"], sort=False, dropna=False):
        values = group["value"].to_numpy(float)
        if set(values) <= {0.0, 1.0} and "asked" not in measure and measure != "random":
            low, high = binomtest(int(values.sum()), len(values)).proportion_ci(0.95, "wilson")
        else:
            low, high = bootstrap_interval(lambda a: a.mean(axis=-1), values, rng=np.random.default_rng(0))
        found.append([region, measure, runs, values.mean(), low, high, len(values)])
        if measure == "stopped":
            near = int((np.abs(values) <= 1).sum())
            low, high = binomtest(near, len(values)).proportion_ci(0.95, "wilson")
            found.append([region, "within a round", runs, near / len(values), low, high, len(values)])
    columns = ["region", "measure", "runs", "value", "low", "high", "seeds"]
    return pd.DataFrame(found, columns=columns).set_index("region")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--asked", type=int, default=40, help="seeds of searches that ask")
    parser.add_argument("--regmix", type=Path, default=None, help="folder of RegMix's eight files")
    parser.add_argument("--known", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kept", type=Path, default=ROOT / "data" / "runs" / "answers")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    calls = [partial(told, name, FIRST + i, i < PRICED) for i in range(given.seeds) for name in REGIONS]
    calls += [partial(driven, name, FIRST + i) for i in range(given.asked) for name in REGIONS]
    if given.regmix:
        ways = [("random", 0.0), *(("asked", known) for known in given.known)]
        each = [(target, *way, draw) for draw in range(DRAWS) for target in (SIX, regmix.TARGET) for way in ways]
        calls += [partial(chosen, given.regmix, *one) for one in each]
    parts = fan_out(_kept, [(call, given.kept) for call in calls], n_jobs=given.workers, ordered=True)
    found = summary(
        pd.DataFrame([row for part in parts for row in part]).reindex(columns=["region", "measure", "runs", "value"])
    )
    with pd.option_context("display.width", 160):
        print(found.round(3).to_string())
    if given.out:
        store.write(found.round(4), given.out / "answers.csv", store.schema_of("answers"))


def _kept(call: partial, folder: Path) -> list[dict]:
    """Return what a call finds, read where it was found before."""
    path = folder / f"{call.func.__name__}-{store.content_hash(list(call.args))}.json"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with store.atomic(path) as part:
            part.write_text(json.dumps(call()), "utf-8")
    return json.loads(path.read_text("utf-8"))


if __name__ == "__main__":
    main()
