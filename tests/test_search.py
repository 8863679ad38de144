"""The search finds a planted optimum, beats chance, and keeps every cap."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import search
from demix_nb.mixtures import one_hot, uniform
from demix_nb.predictors import PREDICTORS
from demix_nb.ranking import RankingError

NAMES = ["general", "math", "code", "law"]
TARGET = pd.Series({"general": 0.15, "math": 0.45, "code": 0.35, "law": 0.05})
TASKS = pd.DataFrame(
    {
        "family": ["general", "math", "code"],
        "unit": ["bpb"] * 3,
        "higher_is_better": [False] * 3,
        "items": [1] * 3,
        "chance": [np.nan] * 3,
    },
    index=pd.Index(["g", "m", "c"], name="task"),
)


def planted(mixtures: pd.DataFrame) -> pd.DataFrame:
    distance = ((mixtures - TARGET) ** 2).sum(axis=1)
    return pd.DataFrame({"g": 1 + distance, "m": 2 + 2 * distance, "c": 3 + distance**1.5})


def rounds(seed=0, score=planted, predictor="gaussian_process", **options):
    options = {"rounds": (32, 16, 8), "pool": 2000, "top_k": 32} | options
    return list(
        search.demix(
            score,
            PREDICTORS[predictor](rng=np.random.default_rng(0)),
            NAMES,
            TASKS,
            rng=np.random.default_rng(seed),
            **options,
        )
    )


def test_the_planted_optimum_is_found():
    last = rounds()[-1]
    start = np.linalg.norm(uniform(NAMES) - TARGET)
    assert np.linalg.norm(last.winner - TARGET) < start / 2
    assert planted(last.winner.to_frame("w").T)["g"].iloc[0] < planted(last.mixtures)["g"].quantile(0.1)


def test_with_shuffled_scores_nothing_is_found(rng):
    def shuffled(mixtures):
        return planted(mixtures).sample(frac=1, random_state=3).set_axis(mixtures.index)

    honest, blind = (
        np.mean([np.linalg.norm(rounds(s, f)[-1].winner - TARGET) for s in range(3)]) for f in (planted, shuffled)
    )
    assert honest < blind / 2


def test_rounds_grow_and_repeat_with_the_seed():
    first, again = rounds(1), rounds(1)
    assert [len(r.mixtures) for r in first] == [32, 48, 56]
    assert first[-1].rounds.value_counts().to_dict() == {1: 32, 2: 16, 3: 8}
    pd.testing.assert_frame_equal(first[-1].mixtures, again[-1].mixtures)
    assert first[-1].best == first[-1].ranks.idxmin()


def test_later_rounds_sample_where_it_is_good():
    last = rounds()[-1]
    quality = last.ranks.groupby(last.rounds).mean()
    assert quality[3] < quality[1]


def test_caps_hold_everywhere():
    upper = pd.Series({"math": 0.2, "code": 0.25})
    last = rounds(upper=upper)[-1]
    for name, cap in upper.items():
        assert last.mixtures[name].max() <= cap + 1e-9
        assert last.winner[name] <= cap + 1e-9
    assert last.winner.sum() == pytest.approx(1)


def test_a_score_function_that_forgets_a_benchmark_is_stopped():
    with pytest.raises(RankingError, match="benchmark 'c' is missing"):
        rounds(score=lambda mixtures: planted(mixtures).drop(columns="c"))


def test_one_hot_is_reachable_by_average():
    pool = pd.DataFrame([one_hot(NAMES, "law"), one_hot(NAMES, "math")], index=["law", "math"])

    class Known:
        def predict(self, mixtures):
            return planted(mixtures)

    assert search.propose(Known(), pool, TASKS, top_k=1)["math"] == 1
