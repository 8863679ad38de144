"""Is a predictor any good? Learning curves, errors on runs it never saw, regret of its choice, honesty of its spread.

Whatever is reported here was held out: a predictor sees `train` and is judged on `tests`, once. Nothing is tuned,
stopped or selected on rows that are reported; RegMix's public notebook stops LightGBM early on the test set it reports.
"""

import copy
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.stats import norm

from demix_nb.evidence import bootstrap_interval, spearman
from demix_nb.parallel import fan_out
from demix_nb.predictors import PREDICTORS, Predictor, out_of_fold
from demix_nb.runs import Runs

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)  # of the central intervals whose coverage is counted


def errors(predicted: pd.DataFrame, actual: pd.DataFrame, *, rng: np.random.Generator) -> pd.DataFrame:
    """Return per task ρ with its 95 % interval over mixtures, mean squared and mean absolute error, and the error of
    always predicting the mean of `actual`, which any predictor must beat.
    """
    rows = {}
    for task in predicted:
        guess, truth = predicted[task].to_numpy(), actual.loc[predicted.index, task].to_numpy()
        low, high = bootstrap_interval(spearman, guess, truth, rng=rng)
        rows[task] = {
            "rho": spearman(guess, truth), "low": low, "high": high,
            "mse": ((guess - truth) ** 2).mean(), "mae": np.abs(guess - truth).mean(), "mean_mse": truth.var(),
        }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis("task")


def held_out(
    predictors: Mapping[str, Predictor], tests: Mapping[str, Runs], *, rng: np.random.Generator
) -> pd.DataFrame:
    """Return `errors` of fitted predictors on every test set, index (predictor, test, task)."""
    rows = {(name, test): errors(predictor.predict(runs.mixtures), runs.scores, rng=rng)
            for name, predictor in predictors.items() for test, runs in tests.items()}  # fmt: skip
    return pd.concat(rows, names=["predictor", "test"])


def learning_curve(
    names: Sequence[str],
    train: Runs,
    tests: Mapping[str, Runs],
    *,
    sizes: Sequence[int],
    subsets: int,
    rng: np.random.Generator,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Return ρ and regret on every test set after fitting to `subsets` random choices of each size of `train`.

    One row per predictor, size, subset, test set and task. All predictors see the same subsets; a size of all rows has
    one subset. A predictor that refuses a size has rows without numbers and its reason in `refused`. Raises ValueError
    when a test set has a mixture that `train` has too: a seen run is no test.
    """
    for test, runs in tests.items():
        if (seen := runs.shared_with(train)).any():
            first = runs.mixtures.index[seen.argmax()]
            raise ValueError(
                f"test set {test!r}: {seen.sum()} of its mixtures are fitted too, first {first!r}; drop them"
            )
    calls = []
    for size in sizes:
        for subset, stream in enumerate(rng.spawn(1 if size == len(train) else subsets)):
            some = train.sample(size, rng=stream)
            streams = zip(names, stream.spawn(len(names)), strict=True)
            calls += [(name, some, tests, subset, child) for name, child in streams]
    return pd.concat(fan_out(_one, calls, n_jobs=n_jobs, ordered=True), ignore_index=True)


def cross_validated(names: Sequence[str], runs: Runs, *, rng: np.random.Generator, n_jobs: int = 1) -> pd.DataFrame:
    """Return `errors` of out-of-fold predictions, index (predictor, task); all predictors share the split.

    One that refuses has rows without numbers and its reason in `refused`.
    """
    rows = {}
    for name, stream in zip(names, rng.spawn(len(names)), strict=True):
        split = copy.deepcopy(rng)
        try:
            predictor = PREDICTORS[name](rng=stream, n_jobs=n_jobs)
            guess = out_of_fold(predictor, runs.mixtures, runs.scores, rng=split)
            rows[name] = errors(guess, runs.scores, rng=split).assign(refused="")
        except ValueError as refusal:
            rows[name] = pd.DataFrame({"refused": str(refusal)}, index=runs.scores.columns.rename("task"))
    return pd.concat(rows, names=["predictor", "task"])


def _one(name: str, train: Runs, tests: Mapping[str, Runs], subset: int, rng: np.random.Generator) -> pd.DataFrame:
    tasks = train.scores.columns
    try:
        predictor = PREDICTORS[name](rng=rng).fit(train.mixtures, train.scores)
        parts = {test: _judge(predictor.predict(runs.mixtures), runs, tasks) for test, runs in tests.items()}
    except ValueError as refusal:
        nothing = pd.DataFrame({"rho": np.nan, "regret": np.nan, "refused": str(refusal)}, index=tasks)
        parts = dict.fromkeys(tests, nothing)
    return pd.concat(parts, names=["test", "task"]).reset_index().assign(predictor=name, runs=len(train), subset=subset)


def _judge(predicted: pd.DataFrame, runs: Runs, tasks: pd.Index) -> pd.DataFrame:
    actual = runs.scores[tasks]
    rho = spearman(predicted.to_numpy().T, actual.to_numpy().T)
    cost = regret(predicted, actual, runs.tasks["higher_is_better"])["regret"]
    return pd.DataFrame({"rho": rho, "regret": cost, "refused": ""}, index=tasks)


def over_subsets(curve: pd.DataFrame, measure: str = "rho", *, rng: np.random.Generator) -> pd.DataFrame:
    """Return the mean measure per predictor, size and test set with the 95 % interval of that mean over subsets.

    Tasks are averaged within a subset first. Where there is one subset (all rows) there is no interval.
    """
    each = curve.groupby(["predictor", "runs", "test", "subset"], sort=False)[measure].mean()
    rows = {}
    for key, values in each.groupby(level=[0, 1, 2], sort=False):
        known = values.notna().all() and len(values) >= 3
        low, high = bootstrap_interval(_mean, values.to_numpy(), rng=rng) if known else (np.nan, np.nan)
        rows[key] = {measure: values.mean(), "low": low, "high": high, "subsets": len(values)}
    return pd.DataFrame(rows).T.rename_axis(["predictor", "runs", "test"])


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


def lead(curve: pd.DataFrame, better: str, worse: str, runs: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """Return per test set by how much ρ of one predictor exceeds another's on the same subsets, with its interval."""
    each = curve[curve["runs"] == runs].pivot_table(
        index=["test", "subset"], columns="predictor", values="rho", sort=False
    )
    rows = {}
    for test, table in each.groupby(level="test", sort=False):
        ahead = (table[better] - table[worse]).to_numpy()
        low, high = bootstrap_interval(_mean, ahead, rng=rng)
        rows[test] = {"lead": ahead.mean(), "low": low, "high": high, "subsets": len(ahead)}
    return pd.DataFrame(rows).T.rename_axis("test")


def regret(predicted: pd.DataFrame, actual: pd.DataFrame, higher_is_better: pd.Series) -> pd.DataFrame:
    """Return per task the run that the predictor would choose, its true rank (1 = best) and what the choice costs.

    `regret` is in the score's unit; `typical` is what a run drawn at random costs on average.
    """
    sign = higher_is_better.map({True: -1.0, False: 1.0})[predicted.columns]
    truth = sign * actual.loc[predicted.index, predicted.columns]
    chosen = (sign * predicted).idxmin()
    loss = pd.Series({task: truth.loc[chosen[task], task] for task in truth})
    columns = {"chosen": chosen, "rank": (truth < loss).sum() + 1, "of": len(truth)}
    return pd.DataFrame(columns | {"regret": loss - truth.min(), "typical": truth.mean() - truth.min()})


def calibration(mean: pd.DataFrame, spread: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Return, for each level, the share of runs that lie within the central interval of that level around the mean.

    The intervals are normal with the predicted spread; an honest spread covers a share equal to the level.
    """
    z = ((actual.loc[mean.index, mean.columns] - mean) / spread).abs().to_numpy()
    covered = [float((z <= norm.ppf((1 + level) / 2)).mean()) for level in LEVELS]
    return pd.DataFrame({"covered": covered}, index=pd.Index(LEVELS, name="level"))
