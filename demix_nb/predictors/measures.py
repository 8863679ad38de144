"""How far predictions lie from what came out: errors, regret of the choice, coverage of the spread; tables out.

Sources: RegMix (arXiv 2407.01492) judges by Spearman's ρ and squared error; a predictor is there to choose, so regret
says what its choice costs, and a spread is there to be believed, so coverage counts how often it holds.
"""

import numpy as np
import pandas as pd
from scipy.special import ndtri

from demix_nb.decide import RULES, at_worst
from demix_nb.intervals import bootstrap_interval, spearman
from demix_nb.predictors.regressor import LEVEL
from demix_nb.scored import Scored
from demix_nb.store import Refusal

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)  # of the central intervals whose coverage is counted
JUDGED = [name for name, row in RULES.items() if not row.asks]  # rules whose choice needs nothing but a predictor
APPRAISED = ["rho", *(f"regret {rule}" for rule in JUDGED), "typical", "covered", "error"]  # columns of `appraisal`


def errors(predicted: Scored, actual: Scored, *, rng: np.random.Generator) -> pd.DataFrame:
    """Return per task ρ with its 95 % interval over mixtures, mean squared and mean absolute error, and the error of
    always predicting the mean of `actual`, which any predictor must beat.
    """
    rows, known = {}, actual.of(predicted.names).scores
    for task in predicted.scores:
        guess, truth = predicted.scores[task].to_numpy(), known[task].to_numpy()
        low, high = bootstrap_interval(spearman, guess, truth, rng=rng)
        rows[task] = {
            "rho": spearman(guess, truth), "low": low, "high": high,
            "mse": ((guess - truth) ** 2).mean(), "mae": np.abs(guess - truth).mean(), "mean_mse": truth.var(),
        }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis("task")


def over_subsets(trials: pd.DataFrame, measure: str = "rho", *, rng: np.random.Generator) -> pd.DataFrame:
    """Return the mean measure per predictor, size and test set with the 95 % interval of that mean over subsets.

    Index predictor; columns runs, test, the measure, low, high, subsets, refused (why there is no number). Tasks are
    averaged within a subset first. Where there is one subset (all rows) there is no interval.
    """
    keys, rows = ["predictor", "runs", "test"], []
    for key, group in trials.groupby(keys, sort=False):
        values = group.groupby("subset", sort=False)[measure].mean()
        known = values.notna().all() and len(values) >= 3
        low, high = bootstrap_interval(_mean, values.to_numpy(), rng=rng) if known else (np.nan, np.nan)
        found = {measure: values.mean(), "low": low, "high": high, "subsets": len(values)}
        why = "" if values.notna().any() else group["refused"].max()
        rows.append(dict(zip(keys, key, strict=True)) | found | {"refused": why})
    return pd.DataFrame(rows).set_index("predictor")


def unlearnt(folded: pd.DataFrame) -> dict[str, str]:
    """Return task → why, of the tasks that some predictor could not learn though it learnt others.

    `folded`: index (predictor, task), column `refused`. Raises Refusal where no predictor learnt anything.
    """
    learnt = folded["refused"] == ""
    if not learnt.any():
        raise Refusal(f"no predictor can learn from these runs; {folded['refused'].iloc[0]}")
    able = folded[learnt.groupby(level="predictor").transform("any") & ~learnt]
    return able["refused"].groupby(level="task", sort=False).first().to_dict()


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)


def lead(trials: pd.DataFrame, better: str, worse: str, runs: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """Return per test set by how much ρ of one predictor exceeds another's on the same subsets, with its interval."""
    each = trials[trials["runs"] == runs].pivot_table(
        index=["test", "subset"], columns="predictor", values="rho", sort=False
    )
    rows = {}
    for test, table in each.groupby(level="test", sort=False):
        ahead = (table[better] - table[worse]).to_numpy()
        low, high = bootstrap_interval(_mean, ahead, rng=rng)
        rows[test] = {"lead": ahead.mean(), "low": low, "high": high, "subsets": len(ahead)}
    return pd.DataFrame(rows).T.rename_axis("test")


def regret(predicted: Scored, actual: Scored, rule: str = "single", spread: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return per task the run that would be chosen by a row of `decide.RULES`, its true rank (1 = best), what it costs.

    `regret` is in the score's unit; `typical` is what a run drawn at random costs on average. `spread`: standard
    deviations of what is predicted, which a careful rule needs.
    """
    tasks, how = predicted.tasks.index, RULES[rule]
    sign = actual.tasks.loc[tasks, "higher_is_better"].map({True: -1.0, False: 1.0})
    truth = sign * actual.of(predicted.names).scores[tasks]
    costs = sign * (at_worst(predicted, spread) if how.careful else predicted).scores
    shares = predicted.mixtures.to_numpy(float)
    chosen = pd.Series({task: costs.index[how.among(shares, costs[task].to_numpy())] for task in tasks}, dtype=object)
    loss = pd.Series({task: truth.loc[chosen[task], task] for task in tasks})
    columns = {"chosen": chosen, "rank": (truth < loss).sum() + 1, "of": len(truth)}
    table = pd.DataFrame(columns | {"regret": loss - truth.min(), "typical": truth.mean() - truth.min()})
    return table.rename_axis("task")


def appraisal(predicted: Scored, spread: pd.DataFrame | None, actual: Scored) -> pd.DataFrame:
    """Return per task what a predictor is worth: its order, what each rule's choice costs, how often its spread holds.

    Columns: `rho`; `regret <rule>` for each row of `decide.RULES` that asks nothing and `typical`, what a run drawn at
    random costs, in standard deviations of the actual scores; `covered`, the share of runs within the central interval
    of 90 %; `error`, the squared error by their variance. Without `spread` what needs one is NaN.
    """
    truth = actual.of(predicted.names).scores[predicted.tasks.index]
    size = truth.std(ddof=0)
    table = pd.DataFrame({"rho": spearman(predicted.scores.to_numpy().T, truth.to_numpy().T)}, index=list(truth))
    for rule in JUDGED:
        known = spread is not None or not RULES[rule].careful
        table[f"regret {rule}"] = regret(predicted, actual, rule, spread)["regret"] / size if known else np.nan
    table["typical"] = regret(predicted, actual)["typical"] / size
    table["covered"] = np.nan if spread is None else _inside(predicted, spread, truth, LEVEL).mean()
    table["error"] = ((truth - predicted.scores) ** 2).mean() / size**2
    return table.rename_axis("task")


def coverage(predicted: Scored, spread: pd.DataFrame, actual: Scored) -> pd.DataFrame:
    """Return, for each level, the share of runs that lie within the central interval of that level around the mean.

    The intervals are normal with the predicted spread; an honest spread covers a share equal to the level.
    """
    truth = actual.of(predicted.names).scores[predicted.tasks.index]
    covered = [_inside(predicted, spread, truth, level).to_numpy().mean() for level in LEVELS]
    return pd.DataFrame({"level": LEVELS, "covered": covered})


def _inside(predicted: Scored, spread: pd.DataFrame, truth: pd.DataFrame, level: float) -> pd.DataFrame:
    """Whether each score lies within the central interval of a level, mixture × task."""
    return ((truth - predicted.scores) / spread[list(truth)]).abs() <= ndtri((1 + level) / 2)


def long(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Return a row per cell, task after task: the index stays, columns task and `value`.

    pandas' own `melt` refuses a task that is called as one of the two is.
    """
    rows, tasks = table.shape
    index = table.index.take(np.tile(np.arange(rows), tasks))
    return pd.DataFrame({"task": np.repeat(list(table), rows), value: table.to_numpy().T.ravel()}, index=index)
