"""Ranks follow direction and names, never column order."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import ranking
from demix_nb.ranking import RankingError

TASKS = pd.DataFrame(
    {
        "family": ["general", "general", "math"],
        "unit": ["bpb", "bpb", "acc"],
        "higher_is_better": [False, False, True],
        "items": [10, 10, 10],
        "chance": [np.nan, np.nan, 0.25],
    },
    index=pd.Index(["arc", "piqa", "gsm"], name="task"),
)
SCORES = pd.DataFrame(
    {"arc": [1.0, 2.0, 3.0], "piqa": [1.0, 1.0, 1.0], "gsm": [0.9, 0.8, 0.1]}, index=["best", "mid", "worst"]
)


def test_macro_rank_by_hand():
    assert ranking.family_scores(SCORES, TASKS)["general"].tolist() == [1.0, 1.5, 2.0]
    assert ranking.macro_rank(SCORES, TASKS).tolist() == [1, 2, 3]
    swapped = SCORES.assign(gsm=[0.1, 0.8, 0.9])
    assert ranking.macro_rank(swapped, TASKS).tolist() == [2, 2, 2]


def test_column_order_and_strangers_change_nothing(rng):
    scores = pd.DataFrame(rng.normal(size=(9, 3)), columns=TASKS.index)
    shuffled = scores.iloc[:, ::-1].assign(other=0.0)
    pd.testing.assert_series_equal(ranking.macro_rank(scores, TASKS), ranking.macro_rank(shuffled, TASKS))


def test_ranking_is_invariant_to_monotone_family_scores(rng):
    tasks = TASKS.loc[["arc", "gsm"]]
    scores = pd.DataFrame(rng.normal(size=(12, 2)), columns=tasks.index)
    pd.testing.assert_series_equal(ranking.macro_rank(scores, tasks), ranking.macro_rank(np.exp(scores), tasks))


def test_missing_benchmark_and_hole_are_named():
    with pytest.raises(RankingError, match="benchmark 'gsm' is missing"):
        ranking.macro_rank(SCORES.drop(columns="gsm"), TASKS)
    with pytest.raises(RankingError, match="mixture 'mid' has no score for 'arc'"):
        ranking.macro_rank(SCORES.assign(arc=[1, np.nan, 2]), TASKS)


def test_units_are_not_averaged():
    with pytest.raises(RankingError, match="family 'general' mixes acc, bpb"):
        ranking.family_scores(SCORES, TASKS.assign(family="general"))


def test_rank_among_counts_better_references():
    new = SCORES.loc[["mid"]].rename(index={"mid": "new"})
    assert ranking.rank_among(new, SCORES.drop(index="mid"), TASKS).loc["new", ["macro", "place"]].tolist() == [2, 2]
    assert ranking.rank_among(SCORES.loc[["best"]], SCORES.drop(index="best"), TASKS).loc["best", "macro"] == 1
