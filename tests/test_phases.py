"""A run in phases: bounds on every phase and on the whole, the nearest mixture, what a merge of steps adds up to."""

import cvxpy
import numpy as np
import pandas as pd
import pytest
from fixtures_models import ARCHITECTURES, family
from planted import NAMES, SHARES

from demix_nb import phases
from demix_nb.merging import Bank
from demix_nb.phases import Phased
from demix_nb.region import Region
from demix_nb.store import Refusal

TOKENS = pd.Series([9e9, 4e9, 1e9, 3e9, 4e9, 1e9], NAMES)
DATA = Region.of_data(TOKENS, target_tokens=20e9, epochs=2.0, general="news", beta=0.5)
EACH = Region(NAMES, lower={"books": 0.05}, groups={"sums": (["word", "drill", "proofs"], 0.1, 0.5)})
PARTS = (0.7, 0.3)


@pytest.fixture(scope="module")
def region():
    return Phased(EACH, PARTS, DATA)


def nearest(region, given):
    """The oracle: the same problem as a cone program."""
    x, parts, whole = cvxpy.Variable(len(given)), region.parts, region.whole.upper.to_numpy()
    blocks = [x[: len(NAMES)], x[len(NAMES) :]]
    bounds = [sum(blocks) <= whole, x >= 0]
    for part, block in zip(parts, blocks, strict=True):
        bounds += [cvxpy.sum(block) == part, block[1] >= 0.05 * part]
        bounds += [cvxpy.sum(block[2:5]) >= 0.1 * part, cvxpy.sum(block[2:5]) <= 0.5 * part]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.kl_div(x, given))), bounds).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return x.value


def test_the_nearest_mixture_is_that_of_a_cone_program(region, rng):
    given = Region(region.candidates).draw(20, rng=rng)
    found = region.project(given)
    assert region.holds(found).all() and not region.holds(given).any()
    for name, row in given.iterrows():
        assert np.abs(found.loc[name] - nearest(region, row.to_numpy())).max() < 1e-5
    pd.testing.assert_frame_equal(region.project(found), found, atol=1e-9)


def test_every_phase_keeps_its_bounds_and_the_whole_run_its_epochs(region, rng):
    for drawn in (region.draw(200, rng=rng), region.design(12, how="maximin", rng=rng)):
        for number in (1, 2):
            assert EACH.holds(region.of(drawn, number)).all()
        recipe = 0.5 * region.mean(drawn) + 0.5 * (drawn.columns[: len(NAMES)] == "news in phase 1")
        assert (recipe * 20e9 / TOKENS <= 2 + 1e-6).all(axis=None)
        assert not DATA.holds(region.of(drawn, 2)).all(), "a phase alone may read more of a candidate than the run"


def test_phases_come_back_as_they_were_joined(region, rng):
    one, other = (row for _, row in EACH.draw(2, rng=rng).iterrows())
    both = region.joined([one, other])
    for number, wanted in ((1, one), (2, other)):
        assert region.of(both, number).loc["mixture"].to_numpy() == pytest.approx(wanted.to_numpy())
    assert region.mean(both).loc["mixture"].to_numpy() == pytest.approx((0.7 * one + 0.3 * other).to_numpy())


def test_zeros_stay_zeros_where_they_can():
    free, corner = Phased(Region(NAMES), PARTS), pd.Series({"news": 1.0}).reindex(NAMES, fill_value=0.0)
    both = free.joined([corner, SHARES])
    pd.testing.assert_frame_equal(free.project(both), both)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (((1.0,),), "the phases take 1 of the run; give two or more parts above 0 that sum to 1"),
        (((0.5, 0.6),), "the phases take 0.5, 0.6 of the run"),
        (((1.5, -0.5),), "the phases take 1.5, -0.5 of the run"),
    ],
)
def test_parts_that_are_no_run_are_refused(given, told):
    with pytest.raises(Refusal, match=told):
        Phased(Region(NAMES), *given)


def test_bounds_that_contradict_each_other_are_named_with_the_mend():
    often = Region(NAMES, lower={"word": 0.3})
    with pytest.raises(Refusal, match=r"no mixture obeys lower word in phase 1 0.3, .*upper word in the whole run 0.2"):
        Phased(often, PARTS, DATA)
    with pytest.raises(Refusal, match="`near` bounds one mixture, and a run in phases has several"):
        Phased(Region(NAMES, near=(SHARES, 0.2)), PARTS)


# --- steps


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A base, and two candidates at half-way and at the end."""
    place = tmp_path_factory.mktemp("phases")
    folders, base = family(place, ARCHITECTURES["gpt2"](), names=("a-half", "b-half", "a", "b"))
    return folders | {"base": base}


def weights(bank, mixture):
    return np.concatenate([one.numpy().ravel() for one in bank.merge(mixture).values()])


def test_a_merge_of_steps_adds_up_what_the_phases_do(checkpoints, tmp_path):
    base, place = checkpoints["base"], {name: path for name, path in checkpoints.items() if name != "base"}
    ends = [{"a": place["a-half"], "b": place["b-half"]}, {"a": place["a"], "b": place["b"]}]
    made = phases.steps(ends, base, (0.5, 0.5), tmp_path)
    region, bank = Phased(Region(["a", "b"]), (0.5, 0.5)), Bank.load(made.folders)
    own = {name: weights(Bank.load({"it": path}), {"it": 1.0}) for name, path in checkpoints.items()}
    one, other = pd.Series({"a": 0.8, "b": 0.2}), pd.Series({"a": 0.3, "b": 0.7})
    found = weights(bank, region.joined([one, other]).iloc[0])
    first = sum(one[name] * (own[f"{name}-half"] - own["base"]) for name in "ab")
    second = sum(other[name] * (own[name] - own[f"{name}-half"]) for name in "ab")
    assert np.abs(found - (own["base"] + first + second)).max() < 1e-5
    same = weights(bank, region.joined([one, one]).iloc[0])
    assert np.abs(same - sum(one[name] * own[name] for name in "ab")).max() < 1e-5, (
        "one mixture throughout is its merge"
    )
    moved = phases.later(place["b-half"], ends[0], ends[1], tmp_path / "later")
    there = weights(Bank.load(moved.folders), {"a": 1.0})
    assert np.abs(there - (own["b-half"] + own["a"] - own["a-half"])).max() < 1e-5
    stamp = (made.folders["a in phase 1"] / "config.json").stat().st_mtime_ns
    phases.steps(ends, base, (0.5, 0.5), tmp_path)
    assert (made.folders["a in phase 1"] / "config.json").stat().st_mtime_ns == stamp, "written once"
    with pytest.raises(Refusal, match="checkpoints of 2 phases, and parts of 3; give one for each"):
        phases.steps(ends, base, (0.5, 0.2, 0.3), tmp_path)
    with pytest.raises(Refusal, match="'b' has no checkpoint at the end of a phase"):
        phases.steps([{"a": place["a-half"]}, ends[1]], base, (0.5, 0.5), tmp_path)
