"""Mending finds planted power and scale; fusing repairs a planted error and leaves a perfect proxy alone."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.mending import Fused, mend
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

NAMES = ["general", "math", "code"]
TASKS = pd.DataFrame(
    {"family": NAMES, "unit": "bpb", "higher_is_better": False, "items": 1, "chance": np.nan, "kind": "merged"},
    index=pd.Index([f"task_{name}" for name in NAMES], name="task"),
)
GAINS = np.array([[1.0, 0.1, 0.0], [0.2, 2.0, 0.1], [0.0, 0.3, 1.5]])


def scored(mixtures, scores):
    return Scored(mixtures, pd.DataFrame(scores, index=mixtures.index, columns=list(TASKS.index)), TASKS)


def merge(mixtures, power, scale):
    """A world in which a candidate's bits fall with the mended weights of what helps it."""
    return scored(mixtures, 3 - scale * mixtures[NAMES].to_numpy() ** power @ GAINS.T)


def plain(mixtures):
    return merge(mixtures, 1.0, 1.0)


@pytest.fixture
def mixtures(rng):
    return Region(NAMES).draw(24, rng=rng)


@pytest.mark.parametrize(("power", "scale"), [(0.625, 1.2), (1.0, 1.0), (0.5, 0.8)])
def test_planted_power_and_scale_are_recovered(mixtures, rng, power, scale):
    noisy = merge(mixtures, power, scale).scores + 0.002 * rng.standard_normal((24, 3))
    found = mend(merge, scored(mixtures, noisy), rng=rng)
    assert (found.chosen == [power, scale]).all(axis=None)
    assert (found.out_of_fold < 0.003).all()


def test_families_may_need_different_values(mixtures, rng):
    scores = merge(mixtures, 0.75, 1.0).scores.assign(task_code=merge(mixtures, 1.0, 1.5).scores["task_code"])
    truth = scored(mixtures, scores)
    apart = mend(merge, truth, rng=rng, per_family=True)
    assert apart.chosen.loc["code"].tolist() == [1.0, 1.5] and apart.chosen.loc["math"].tolist() == [0.75, 1.0]
    together = mend(merge, truth, rng=rng)
    assert apart.out_of_fold.mean() < 1e-12 < together.out_of_fold.mean()
    proxy = apart.apply(merge)
    pd.testing.assert_frame_equal(proxy(mixtures).scores, truth.scores)
    assert proxy.mending is apart, "a mended proxy tells what mended it"
    assert set(proxy(mixtures).tasks["kind"]) == {"mended"}


def test_the_references_tasks_decide_what_is_mended(mixtures, rng):
    truth = merge(mixtures, 0.75, 1.2).only(["task_math", "task_code"])
    found = mend(merge, truth, rng=rng)
    assert (found.chosen == [0.75, 1.2]).all(axis=None) and list(found.chosen.index) == ["math", "code"]
    assert list(found.apply(merge)(mixtures).tasks.index) == ["task_math", "task_code"]
    fused = Fused(plain).fit(truth)(mixtures)
    assert list(fused.tasks.index) == list(fused.scores) == ["task_math", "task_code"]
    with pytest.raises(Refusal, match="'task_general' is missing"):
        mend(lambda *given: merge(*given).only(["task_math"]), merge(mixtures, 0.75, 1.0), rng=rng)


def test_each_reference_is_judged_by_a_choice_it_had_no_part_in(mixtures, rng):
    """Under much noise the error on the references chosen from is too good; out of fold it is not."""
    gaps = []
    for _ in range(10):
        noisy = merge(mixtures, 0.75, 1.0).scores + rng.standard_normal((24, 3))
        found = mend(merge, scored(mixtures, noisy), rng=rng, per_family=True)
        gaps.append(found.out_of_fold.mean() - found.errors.min().mean())
    assert np.mean(gaps) > 0


def test_fusing_repairs_a_planted_error_on_mixtures_never_seen(mixtures, rng):
    def truth(table):
        return merge(table, 0.75, 1.0)

    fused = Fused(plain).fit(truth(mixtures))
    fresh = Region(NAMES).draw(200, rng=rng, prefix="fresh")
    before, after = ((proxy(fresh).scores - truth(fresh).scores).abs().mean().mean() for proxy in (plain, fused))
    assert after < before / 5
    assert set(fused(fresh).tasks["kind"]) == {"fused merged"}, "which says what was fused"
    pd.testing.assert_frame_equal(fused(fresh[NAMES[::-1]]).scores, fused(fresh).scores)


def test_fusing_leaves_a_perfect_proxy_nearly_alone(mixtures, rng):
    fused = Fused(plain).fit(plain(mixtures))
    fresh = Region(NAMES).draw(20, rng=rng, prefix="fresh")
    pd.testing.assert_frame_equal(fused(fresh).scores, plain(fresh).scores, atol=1e-9)


def test_too_few_references_are_refused(mixtures, rng):
    few = plain(mixtures.iloc[:3])
    with pytest.raises(Refusal, match="3 references cannot mend"):
        mend(merge, few, rng=rng)
    with pytest.raises(Refusal, match="3 references cannot correct"):
        Fused(plain).fit(few)
