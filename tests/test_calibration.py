"""Calibration finds planted power and scale; fusing repairs a planted error and leaves a perfect proxy alone."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.calibration import Fused, calibrate
from demix_nb.fidelity import FidelityError
from demix_nb.mixtures import sample_uniform

DOMAINS = ["general", "math", "code"]
TASKS = pd.DataFrame(
    {"family": DOMAINS, "unit": "bpb", "higher_is_better": False, "items": 1, "chance": np.nan},
    index=pd.Index([f"task_{name}" for name in DOMAINS], name="task"),
)
GAINS = np.array([[1.0, 0.1, 0.0], [0.2, 2.0, 0.1], [0.0, 0.3, 1.5]])


def merge(mixtures, power, scale):
    """A world in which a domain's bits fall with the calibrated weights of what helps it."""
    moved = scale * mixtures[DOMAINS].to_numpy() ** power
    return pd.DataFrame(3 - moved @ GAINS.T, index=mixtures.index, columns=list(TASKS.index))


@pytest.fixture
def mixtures(rng):
    return sample_uniform(DOMAINS, 24, rng=rng)


@pytest.mark.parametrize(("power", "scale"), [(0.625, 1.2), (1.0, 1.0), (0.5, 0.8)])
def test_planted_power_and_scale_are_recovered(mixtures, rng, power, scale):
    noisy = merge(mixtures, power, scale) + 0.002 * rng.standard_normal((24, 3))
    found = calibrate(merge, mixtures, noisy, TASKS, rng=rng)
    assert (found.chosen == [power, scale]).all(axis=None)
    assert (found.out_of_fold < 0.003).all()


def test_families_may_need_different_values(mixtures, rng):
    truth = merge(mixtures, 0.75, 1.0)
    truth["task_code"] = merge(mixtures, 1.0, 1.5)["task_code"]
    apart = calibrate(merge, mixtures, truth, TASKS, rng=rng, per_family=True)
    assert apart.chosen.loc["code"].tolist() == [1.0, 1.5] and apart.chosen.loc["math"].tolist() == [0.75, 1.0]
    together = calibrate(merge, mixtures, truth, TASKS, rng=rng)
    assert apart.out_of_fold.mean() < 1e-12 < together.out_of_fold.mean()
    pd.testing.assert_frame_equal(apart.apply(merge, TASKS)(mixtures), truth, check_names=False)


def test_each_reference_is_judged_by_a_choice_it_had_no_part_in(mixtures, rng):
    """Under much noise the error on the references chosen from is too good; out of fold it is not."""
    gaps = []
    for _ in range(10):
        noisy = merge(mixtures, 0.75, 1.0) + rng.standard_normal((24, 3))
        found = calibrate(merge, mixtures, noisy, TASKS, rng=rng, per_family=True)
        gaps.append(found.out_of_fold.mean() - found.errors.min().mean())
    assert np.mean(gaps) > 0


def test_fusing_repairs_a_planted_error_on_mixtures_never_seen(mixtures, rng):
    def truth(table):
        return merge(table, 0.75, 1.0)

    def proxy(table):
        return merge(table, 1.0, 1.0)

    fused = Fused(proxy).fit(mixtures, truth(mixtures))
    fresh = sample_uniform(DOMAINS, 200, rng=rng, prefix="fresh")
    before, after = ((guess - truth(fresh)).abs().mean().mean() for guess in (proxy(fresh), fused(fresh)))
    assert after < before / 5


def test_fusing_leaves_a_perfect_proxy_nearly_alone(mixtures, rng):
    def proxy(table):
        return merge(table, 1.0, 1.0)

    fused = Fused(proxy).fit(mixtures, proxy(mixtures))
    fresh = sample_uniform(DOMAINS, 20, rng=rng, prefix="fresh")
    pd.testing.assert_frame_equal(fused(fresh), proxy(fresh), atol=1e-9)


def test_too_few_references_are_refused(mixtures, rng):
    few = mixtures.iloc[:3]
    with pytest.raises(FidelityError, match="3 references cannot calibrate"):
        calibrate(merge, few, merge(few, 1.0, 1.0), TASKS, rng=rng)
    with pytest.raises(FidelityError, match="3 references cannot correct"):
        Fused(lambda table: merge(table, 1.0, 1.0)).fit(few, merge(few, 1.0, 1.0))
