"""Headroom: by hand, by coverage of the planted truth, and what is not known."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb import headroom
from demix_nb.scored import Scored
from demix_nb.study import Study

RESULTS = REPOSITORY / "data" / "results" / "laptop"


def test_headroom_by_hand():
    gaps = np.array([0.2, -0.2, 0.2, -0.2, 0.0])  # standard deviation 0.2, so a run's noise is 0.1414
    found = headroom.headroom(0.5, np.zeros(5), gaps, rng=np.random.default_rng(0))
    assert found["noise"] == pytest.approx(0.2 / 2**0.5) and found["headroom"] == pytest.approx(0.5 / (0.2 / 2**0.5))
    assert found["low"] <= found["headroom"] <= found["high"]
    shifted = headroom.headroom(0.5, np.full(5, 9.0), gaps + 3, rng=np.random.default_rng(0))
    pd.testing.assert_series_equal(shifted, found)  # what all mixtures share moves none past another


@pytest.mark.parametrize("errors", [0, 2, 5])
@pytest.mark.parametrize("gaps", [0, 2, 5])
def test_headroom_is_not_known_of_too_few(errors, gaps, rng):
    found = headroom.headroom(0.3, rng.normal(size=errors), rng.normal(size=gaps), rng=rng)
    assert np.isnan(found["headroom"]) == (gaps < 3) and found["gain"] == 0.3
    assert np.isnan(found["low"]) == np.isnan(found["high"]) == (gaps < 3 or errors < 3)
    assert ("is not known" in headroom.worth(found)) == (gaps < 3)


def test_what_was_won_by_hand_and_its_interval_counts_two_noisy_runs(rng):
    levels = pd.DataFrame(
        {"strategy": ["found", "uniform", "found", "uniform"], "seed": [0, 0, 1, 1], "level": [-1.0, -0.4, -0.9, -0.8]}
    )
    gaps = rng.normal(size=400) * 0.1 * 2**0.5
    table = headroom.won(levels, "found", ["uniform", "natural"], gaps, rng=rng)
    assert list(table) == headroom.WON and table["baseline"].tolist() == ["uniform", "uniform"]
    assert table["noise"].to_numpy() == pytest.approx(0.1, rel=0.1)
    assert table["headroom"].to_numpy() == pytest.approx(np.array([0.6, 0.1]) / table["noise"].to_numpy())
    width = (table["high"] - table["low"]).to_numpy()
    assert width == pytest.approx(2 * 1.96 * 2**0.5, rel=0.1), "two runs, each as noisy as a seed is"


def test_the_interval_of_headroom_holds_the_truth():
    """The true gain is 0.6, a run's noise 0.2: headroom 3. Predicted gains err as predictions of 16 references do."""
    rng, inside = np.random.default_rng(5), 0
    for _ in range(300):
        errors, gaps = rng.normal(0, 0.15, 16), rng.normal(0, 0.2 * 2**0.5, 8)
        gain = 0.6 + rng.normal(0, 0.15) - rng.normal(0, 0.15)
        found = headroom.headroom(gain, errors, gaps, rng=rng)
        inside += found["low"] <= 3 <= found["high"]
    assert 0.85 < inside / 300 < 0.99


def test_under_two_there_is_nothing_to_find():
    def told(value, low, high):
        return headroom.worth(pd.Series({"headroom": value, "low": low, "high": high, "noise": 0.1, "gain": 0.2}))

    assert told(1.2, 0.5, 1.9) == "nothing to find: 1.2 [0.5, 1.9] seed noises ahead of the baseline, under 2"
    assert told(1.9, -1.0, 4.0).endswith("[-1.0, 4.0] seed noises ahead of the baseline, under 2, perhaps more")
    assert told(5.0, 3.0, 8.0) == "something to find: 5.0 [3.0, 8.0] seed noises ahead of the baseline"
    assert told(3.0, 1.0, 8.0).endswith("ahead of the baseline, perhaps under 2")
    assert told(3.0, np.nan, np.nan) == "something to find: 3.0 seed noises ahead of the baseline, perhaps under 2"


def test_the_really_trained_best_is_said_to_be_in_the_set_or_not():
    study = Study.open(RESULTS, given=RESULTS)
    references = study.references.only(study.ranked.index)
    order = references.level(references).sort_values()
    kinds, names = ["named"] + ["reference"] * len(references), ["mine", *references.names]
    for row, kind, who in ((0, "named", "mine"), (-1, "reference", f"reference {order.index[0]}")):
        trained = references.of([order.index[row]])
        runs = pd.DataFrame({"strategy": ["mine"], "seed": [0]}, trained.names)
        for inside, word in ((True, "yes"), (False, "NO")):
            told = [(one == kind) == inside for one in kinds]
            ties = pd.DataFrame({"kind": kinds, "tied": told}, pd.Index(names, name="mixture"))
            said = headroom.held(ties, trained, runs, references)
            assert said == f"{word}: of {len(references) + 1} it is {who}, at level {order.iloc[0]:.2f}"
    assert headroom.held(ties.iloc[:0], trained, runs, references) == "not known: no set is known"
    assert headroom.held(ties, trained.take([]), runs, references) == "not known: no model was trained here"
    alike = Scored(references.mixtures, 0 * references.scores + 1, references.tasks)
    for few in (references.take([]), references.take([0, 1]), alike):
        assert headroom.held(ties, trained, runs, few) == "not known: no references tell a level"
