"""What 05 tells of an answer, on planted problems: the statements of `benchmarks/answers.py`, with fewer seeds."""

import numpy as np
import pandas as pd
import pytest
from benchmarks import answers

SEEDS = 4


@pytest.fixture(scope="module")
def told():
    """Rows of every region; the bounds of a few are priced."""
    calls = [(name, seed, seed < 2) for seed in range(SEEDS) for name in answers.REGIONS]
    return pd.DataFrame([row for call in calls for row in answers.told(*call)])


def mean(rows: pd.DataFrame, measure: str) -> float:
    return rows.loc[rows["measure"] == measure, "value"].mean()


def test_the_tied_set_holds_the_planted_optimum_and_not_everything(told):
    assert mean(told, "tied") >= 0.85
    free = told[told["region"] == "free"]
    assert mean(free, "size") < 300, "of 501; in narrow regions all of the nearest may be tied"


def test_calibrated_intervals_hold_nine_in_ten(told):
    assert 0.88 <= mean(told, "covered") <= 0.95 and mean(told, "covered before") < 0.88


def test_prices_hold_what_the_loosened_problem_gains(told):
    """A point of share nearly always; a billion tokens are a fifth of this run, where more is open."""
    assert (told["measure"] == "price").sum() >= 6 and mean(told, "price") >= 0.75
    assert (told["measure"] == "billion").sum() >= 2 and mean(told, "billion") > 0


def test_asking_needs_at_most_half_of_the_runs_that_chance_does():
    rows = pd.DataFrame([row for seed in range(2) for row in answers.driven("data", seed)])
    regret = rows.groupby(["measure", "runs"])["value"].mean()
    assert regret["asked", 40] < regret["random", 80] + 0.1, "in seed noises"
    assert regret["asked", 80] < 0.5 * regret["random", 80]
    assert np.isfinite(rows.loc[rows["measure"] == "stopped", "value"]).all()
