"""What is read off the way to a scarce candidate is what was planted there."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.papers import repeated

SHARES = [0.0, 0.15, 0.4, 0.7, 1.0]
NAMES = ["general", "math", "code"]


def scores(best, *, rest=1.0, level=0.0):
    """Both texts along the way: the own text is best at a share, by a parabola in its root."""
    share = pd.Index(SHARES, name="share")
    own = 3 + level + (np.sqrt(SHARES) - np.sqrt(best)) ** 2
    return pd.DataFrame({"own": own, "rest": 3 + level + rest * np.sqrt(SHARES)}, index=share)


def test_a_path_gives_the_scarce_one_its_share_and_all_others_the_rest():
    walk = repeated.path("math", NAMES, SHARES)
    assert walk["math"].tolist() == SHARES and np.allclose(walk.sum(axis=1), 1)
    assert (walk["general"] == walk["code"]).all() and list(walk) == NAMES and len(set(walk.index)) == len(SHARES)


def test_the_scarce_candidates_text_is_told_from_the_others():
    walk = repeated.path("math", NAMES, SHARES)
    values = pd.DataFrame(np.arange(15.0).reshape(5, 3), walk.index, [f"heldout_{name}" for name in NAMES])
    told = repeated.texts(values, "math", SHARES)
    assert told["own"].tolist() == values["heldout_math"].tolist() and told.index.tolist() == SHARES
    assert told["rest"].tolist() == values[["heldout_general", "heldout_code"]].mean(axis=1).tolist()


@pytest.mark.parametrize(("believed", "true"), [(0.3, 0.3), (0.9, 0.3), (0.1, 0.6)])
def test_a_proxy_misleads_by_the_share_that_it_takes_for_the_best(believed, true):
    told = repeated.misled(scores(believed, level=1.0), scores(true))
    assert told["best"] == pytest.approx(believed, abs=2e-3) and told["true"] == pytest.approx(true, abs=2e-3)
    assert told["off"] == pytest.approx(abs(believed - true), abs=3e-3)
    assert told["regret"] == pytest.approx((np.sqrt(believed) - np.sqrt(true)) ** 2, abs=1e-3)
    assert (told["rho"] == pytest.approx(1)) == (believed == true)


def test_of_both_texts_the_best_is_where_both_together_are():
    told = repeated.misled(scores(0.5, rest=0.2), scores(0.5, rest=1.0))
    assert told["off"] == pytest.approx(0, abs=2e-3)
    best = [(np.sqrt(0.5) - slope / 2) ** 2 for slope in (0.2, 1.0)]
    assert told["off both"] == pytest.approx(best[0] - best[1], abs=5e-3) and told["regret both"] > 0


def test_what_epochs_are_worth_is_new_text_at_first_and_saturates():
    often = np.array([0.2, 1.0, 1.5, 4.0, 1e6])
    worth = repeated.fresh(often)
    assert (worth[:2] == often[:2]).all() and (np.diff(worth) > 0).all() and worth[3] > 0.9 * 4
    assert worth[-1] == pytest.approx(1 + repeated.WORTH)
    assert repeated.fresh(np.array([1 + 1e-6])) - 1 == pytest.approx(1e-6, rel=1e-3)
    assert repeated.epochs(0.25, 4e5, 1e4) == 10


def runs(law, tokens):
    """Runs of these tokens at all shares whose own text follows a law of share and tokens."""
    rows = [(share, n, law(share, n), 3 - 0.1 * np.log(n)) for share in SHARES for n in tokens]
    return pd.DataFrame(rows, columns=["share", "tokens", "own", "rest"])


def learnt(share, tokens, there=4000, beta=0.5):
    """A text that is learnt by what is new of it, and lost by what is read too often."""
    often = beta * share * tokens / there
    return 4 - 0.3 * np.log1p(repeated.fresh(np.array(often))) + 0.05 * np.log1p(often) ** 2


def test_an_epoch_feature_foresees_what_short_runs_have_not_yet_shown():
    short, target = [12_500, 25_000, 50_000], 100_000
    truth = pd.Series([float(learnt(share, target)) for share in SHARES], SHARES)
    errors = {}
    for with_epochs in (False, True):
        told = repeated.extrapolated(runs(learnt, short), target, there=4000, beta=0.5, with_epochs=with_epochs)
        errors[with_epochs] = (told["own"] - truth).abs().mean()
        assert told.index.tolist() == SHARES
        assert np.allclose(told["rest"], 3 - 0.1 * np.log(target), atol=0.02), "what no share moves is foreseen by both"
    assert errors[True] < 0.5 * errors[False]
