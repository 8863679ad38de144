"""Bounds are met exactly, by the nearest mixture; draws fill the region and nothing else; what cannot be is named."""

import warnings
from itertools import combinations

import cvxpy
import numpy as np
import pandas as pd
import pytest
from planted import GROUPS
from planted import NAMES as PARTS
from planted import PRIOR as NATURAL
from scipy.optimize import minimize

from demix_nb import mixtures
from demix_nb.hierarchy import inside, over
from demix_nb.mixtures import seed_grid, uniform
from demix_nb.region import DESIGNS, Region, named, unimax
from demix_nb.store import Refusal

NAMES = ["general", "math", "code"]
PRIOR = pd.Series({"general": 0.6, "math": 0.3, "code": 0.1})
BOUNDED = Region(NAMES, lower={"general": 0.1, "code": 0.05}, upper={"general": 0.5, "math": 0.3, "code": 0.6})


def table(*rows, columns=NAMES):
    return pd.DataFrame(rows, index=[f"m{i}" for i in range(len(rows))], columns=columns)


# --- the region


IMPOSSIBLE = {
    "too little room": (
        {"upper": dict.fromkeys(NAMES, 0.3)},
        r"no mixture obeys upper general 0\.3, upper math 0\.3, upper code 0\.3; loosen one: upper general to 0\.4 or",
    ),
    "too much asked": (
        {"lower": dict.fromkeys(NAMES, 0.4)},
        r"no mixture obeys lower general 0\.4, .*loosen one: lower general to 0\.2 or",
    ),
    "crossed": (
        {"lower": {"math": 0.5}, "upper": {"math": 0.1}},
        "'math' has lower bound 0.5 above its upper bound 0.1",
    ),
    "unknown upper": ({"upper": {"maths": 0.1}}, "upper bound for unknown candidate 'maths'"),
    "unknown lower": ({"lower": {"maths": 0.1}}, "lower bound for unknown candidate 'maths'"),
    "no share": ({"upper": {"math": 1.5}}, "upper bound of 'math' is 1.5; a bound is a share"),
    "negative": ({"lower": {"math": -0.1}}, "lower bound of 'math' is -0.1; a bound is a share"),
    "no number": ({"upper": {"math": np.nan}}, "upper bound of 'math' is nan; a bound is a share"),
}


@pytest.mark.parametrize(("bounds", "message"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_bounds_are_named(bounds, message):
    with pytest.raises(Refusal, match=message):
        Region(NAMES, **bounds)


def test_bounds_that_leave_one_mixture_leave_that_one(rng):
    only = Region(NAMES, lower=PRIOR)
    np.testing.assert_allclose(only.draw(3, rng=rng), [PRIOR] * 3)


def test_a_region_holds_what_obeys_it():
    rows = table(
        [0.4, 0.3, 0.3], [0.4, 0.3 + 1e-12, 0.3 - 1e-12], [0.35, 0.35, 0.3], [0.05, 0.3, 0.65], [0.7, 0.3, 0.0]
    )
    assert BOUNDED.holds(rows).tolist() == [True, True, False, False, False]
    assert BOUNDED.holds(rows[NAMES[::-1]]).tolist() == [True, True, False, False, False]
    assert Region(NAMES).holds(rows).all() and not Region(NAMES).bounded and BOUNDED.bounded
    with pytest.raises(Refusal, match="unknown candidate 'maths'"):
        BOUNDED.holds(rows.rename(columns={"math": "maths"}))


def test_caps_follow_from_data():
    tokens = pd.Series({"general": 600, "math": 300, "code": 100})
    caps = Region.of_data(tokens, target_tokens=500, epochs=1, general="general", beta=1.0).upper
    assert caps.to_dict() == pytest.approx({"general": 1.0, "math": 0.6, "code": 0.2})
    tight = Region.of_data(tokens, target_tokens=500, epochs=1, general="general", beta=1.0, upper={"math": 0.1}).upper
    assert tight.to_dict() == pytest.approx({"general": 1.0, "math": 0.1, "code": 0.2})


def test_caps_bind_the_recipe_the_diluting_share_included(rng):
    tokens, limits = pd.Series({"general": 400, "math": 300, "code": 100}), {"target_tokens": 500, "epochs": 1}
    region = Region.of_data(tokens, **limits, general="general", beta=0.5)
    for _, mixture in region.draw(50, rng=rng).iterrows():
        assert (500 * mixtures.recipe(mixture, "general", 0.5) <= tokens + 1e-6).all()
    corner = region.project(table([1.0, 0.0, 0.0])).iloc[0]
    assert 500 * mixtures.recipe(corner, "general", 0.5)["general"] == pytest.approx(400)  # and no tighter
    limits["target_tokens"] = 400
    assert not Region.of_data(tokens, **limits, general="general", beta=0.0).bounded  # nothing but general is read


@pytest.mark.parametrize(
    "given, message",
    [
        ({"target_tokens": 0}, "target_tokens is 0 and epochs 1; both must be positive"),
        ({"epochs": -1}, "epochs -1; both must be positive"),
        ({"target_tokens": 2000}, "diluting with 'general' alone repeats it 2.5 times in 2000 tokens, 1 are allowed"),
        ({"target_tokens": 790}, "no mixture obeys .*; at most 600 target_tokens would do, or 1.317 times the epochs"),
        ({"upper": {"law": 0.1}}, "unknown candidate 'law'"),
    ],
)
def test_data_that_cannot_fill_the_run_are_named(given, message):
    tokens = pd.Series({"general": 400, "math": 100, "code": 100})
    with pytest.raises(Refusal, match=message):
        Region.of_data(tokens, **{"target_tokens": 500, "epochs": 1, "general": "general", "beta": 0.5} | given)


# --- projection


def test_projection_leaves_what_is_inside_alone(rng):
    rows = BOUNDED.draw(100, rng=rng)
    np.testing.assert_allclose(BOUNDED.project(rows), rows, atol=1e-12)
    free = Region(NAMES).draw(100, rng=rng)
    pd.testing.assert_frame_equal(Region(NAMES).project(free), free)


def test_projection_agrees_with_a_general_solver(rng):
    lower, upper = BOUNDED.lower.to_numpy(), BOUNDED.upper.to_numpy()
    for p in rng.dirichlet(np.ones(3), size=8):
        ours = BOUNDED.project(table(p)).to_numpy()[0]
        theirs = minimize(
            lambda x, p=p: np.sum(x * np.log(np.maximum(x, 1e-12) / p)),
            np.clip(p, lower, upper),
            bounds=list(zip(lower, upper, strict=True)),
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        assert ours.sum() == pytest.approx(1, abs=1e-12)
        np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_zero_shares_stay_zero_unless_the_others_cannot_fill_the_whole():
    region = Region(NAMES, upper={"general": 0.6, "math": 0.3})
    moved = region.project(table([0.9, 0.0, 0.1], [0.5, 0.5, 0.0]))
    np.testing.assert_allclose(moved, [[0.6, 0.0, 0.4], [0.6, 0.3, 0.1]], atol=1e-6)


def test_nearest_takes_weights_of_any_sum():
    weights = pd.Series({"code": 10.0, "math": 30.0, "general": 60.0})
    np.testing.assert_allclose(Region(NAMES).nearest(weights), PRIOR)
    np.testing.assert_allclose(BOUNDED.nearest(weights), BOUNDED.project(table(PRIOR)).iloc[0])
    assert (Region(NAMES).nearest(pd.Series([1.0, 0.0, 0.0], NAMES)) > 0).all()


# --- draws


DRAWS = {
    "draw": lambda region, rng: region.draw(200, rng=rng),
    "dirichlet": lambda region, rng: region.dirichlet(PRIOR, 200, rng=rng),
} | {how: lambda region, rng, how=how: region.design(20, how=how, rng=rng) for how in DESIGNS}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("region", [Region(NAMES), BOUNDED], ids=["simplex", "bounded"])
def test_every_draw_lies_in_its_region_and_repeats_with_the_seed(draw, region):
    first, again, other = (draw(region, np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first, other)
    pd.testing.assert_frame_equal(mixtures.validate(first, NAMES), first, check_names=False)
    assert region.holds(first).all() and first.index.is_unique


def test_uniform_draws_are_uniform(rng):
    sample = Region(NAMES).draw(20_000, rng=rng)
    # on a uniform simplex of 3 corners P(share > t) = (1 - t)^2
    for threshold in (0.2, 0.5, 0.8):
        assert (sample["math"] > threshold).mean() == pytest.approx((1 - threshold) ** 2, abs=0.015)


def test_dirichlet_centres_on_its_prior_and_is_sparse(rng):
    sample = Region(NAMES).dirichlet(PRIOR, 4000, rng=rng)
    np.testing.assert_allclose(sample.mean(), PRIOR, atol=0.03)
    assert not ((sample > 0) & (sample < mixtures.SPARSE_BELOW)).any(axis=None)
    turned = Region(NAMES).dirichlet(PRIOR[NAMES[::-1]], 5, rng=np.random.default_rng(1))  # the prior goes by name
    pd.testing.assert_frame_equal(turned, Region(NAMES).dirichlet(PRIOR, 5, rng=np.random.default_rng(1)))


def test_strengths_say_how_far_draws_stray(rng):
    spread = [Region(NAMES).dirichlet(PRIOR, 500, rng=rng, strengths=[s])["math"].std() for s in (0.5, 5.0, 50.0)]
    assert spread == sorted(spread, reverse=True)
    assert spread[2] == pytest.approx(np.sqrt(0.3 * 0.7 / 51), rel=0.1)  # variance p(1−p)/(λ+1)


# --- designs


MANY = [f"c{number:03d}" for number in range(100)]
CAPPED = Region(MANY, lower={"c000": 0.02}, upper=dict.fromkeys(MANY[:50], 0.1))
REACHES = {  # how far from the centre a design's mixtures are, more is further
    "largest share": lambda shares: shares.max(axis=1).mean(),
    "few at a time": lambda shares: -(1 / (shares**2).sum(axis=1)).mean(),
    "apart": lambda shares: np.mean([np.linalg.norm(a - b) for a, b in combinations(np.sqrt(shares.to_numpy()), 2)]),
}


def least_gap(shares: pd.DataFrame) -> float:
    points = np.sqrt(shares.to_numpy())
    return min(np.linalg.norm(a - b) for a, b in combinations(points, 2))


@pytest.mark.parametrize("region", [Region(MANY), CAPPED], ids=["simplex", "capped"])
@pytest.mark.parametrize("reach", REACHES.values(), ids=REACHES)
def test_of_a_hundred_candidates_all_designs_reach_further_than_uniform(reach, region):
    found = {how: reach(region.design(40, how=how, rng=np.random.default_rng(7))) for how in DESIGNS}
    uniform = found.pop("uniform")
    assert found and min(found.values()) > uniform + 0.3 * abs(uniform), (uniform, found)


@pytest.mark.parametrize("how", DESIGNS)
def test_a_design_of_a_hundred_candidates_stays_in_its_region_and_repeats_with_the_seed(how):
    first, again, other = (
        CAPPED.design(30, how=how, rng=np.random.default_rng(seed), prefix="d") for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, again)
    assert CAPPED.holds(first).all() and not np.allclose(first, other) and list(first.index)[:2] == ["d00", "d01"]


def test_the_uniform_design_is_the_uniform_draw_and_sparse_ones_centre_on_their_prior():
    draws = (
        Region(NAMES).draw(9, rng=np.random.default_rng(4)),
        Region(NAMES).dirichlet(PRIOR, 9, rng=np.random.default_rng(4)),
    )
    pd.testing.assert_frame_equal(Region(NAMES).design(9, rng=np.random.default_rng(4)), draws[0])
    given = Region(NAMES).design(9, how="dirichlet", rng=np.random.default_rng(4), prior=PRIOR)
    pd.testing.assert_frame_equal(given, draws[1])


def test_pools_are_as_wide_as_the_design_that_they_follow():
    region = Region([f"c{i}" for i in range(13)])
    largest = {how: region.pool(300, how=how, rng=np.random.default_rng(0)).max(axis=1).mean() for how in DESIGNS}
    assert largest["uniform"] < 0.8 * largest["dirichlet"] and largest["maximin"] == largest["dirichlet"]
    pd.testing.assert_frame_equal(
        region.pool(9, rng=np.random.default_rng(1)), region.draw(9, rng=np.random.default_rng(1), prefix="p")
    )
    with pytest.raises(Refusal, match="no design 'wide'"):
        region.pool(9, how="wide", rng=np.random.default_rng(0))


def test_a_design_that_is_no_row_is_refused_and_rows_say_what_they_are_for(rng):
    with pytest.raises(Refusal, match="no design 'sobol'; take one of uniform, dirichlet, maximin"):
        Region(NAMES).design(3, how="sobol", rng=rng)
    assert all(row.label and row.paper and row.use for row in DESIGNS.values())


def test_maximin_is_the_greedy_choice_among_uniform_and_sparse_mixtures(monkeypatch):
    monkeypatch.setattr("demix_nb.region.POOL", 40)
    chosen, rng = BOUNDED.design(6, how="maximin", rng=np.random.default_rng(5)), np.random.default_rng(5)
    pool = pd.concat([BOUNDED.draw(20, rng=rng, prefix="u"), BOUNDED.dirichlet(mixtures.uniform(NAMES), 20, rng=rng)])
    points = {name: np.sqrt(row.to_numpy()) for name, row in pool.iterrows()}
    centre = np.mean(list(points.values()), axis=0)
    taken = [min(points, key=lambda name: np.linalg.norm(points[name] - centre))]
    while len(taken) < 6:  # brute force: the farthest from its nearest neighbour
        rest = [name for name in points if name not in taken]
        taken.append(max(rest, key=lambda name: min(np.linalg.norm(points[name] - points[t]) for t in taken)))
    np.testing.assert_array_equal(chosen, pool.loc[taken])
    assert list(chosen.index) == [f"m{i}" for i in range(6)]


def test_maximin_leaves_its_points_farther_apart_than_chance(rng):
    by_chance = [least_gap(BOUNDED.draw(16, rng=rng)) for _ in range(20)]
    assert least_gap(BOUNDED.design(16, how="maximin", rng=rng)) > 3 * np.median(by_chance)


def test_maximin_of_more_than_its_pool_draws_a_larger_pool(rng, monkeypatch):
    monkeypatch.setattr("demix_nb.region.POOL", 4)
    assert len(Region(NAMES).design(7, how="maximin", rng=rng)) == 7


# --- seeds and names


def test_seed_grid_is_corners_priors_and_coarse_steps(rng):
    some = PARTS[:4]
    prior = NATURAL[some] / NATURAL[some].sum()
    grid = seed_grid(some, 40, rng=rng, prior=prior)
    assert len(mixtures.validate(grid, some)) == 40 and not grid.round(9).duplicated().any()
    assert all((grid.loc[name] == mixtures.one_hot(some, name)).all() for name in some)
    assert np.allclose(grid.loc["uniform"], 0.25) and np.allclose(grid.loc["natural"], prior)
    steps = grid.filter(like="grid-", axis=0) * 5  # 35 points in fourths are too few for 40, 56 in fifths are not
    assert len(steps) == 34 and np.allclose(steps, steps.round())
    with pytest.raises(Refusal, match="5 seeds for 4 candidates"):
        seed_grid(some, 5, rng=rng, prior=prior)
    with pytest.raises(Refusal, match="for 1 candidates"):
        seed_grid(["news"], 5, rng=rng)


def test_rows_are_numbered_with_leading_zeros():
    assert list(named(np.ones((11, 1)), ["a"], "r1-").index[[0, 10]]) == ["r1-00", "r1-10"]
    assert list(named(np.ones((1, 1)), ["a"], "m").index) == ["m0"]


# --- regions of a hierarchy's stages


FILLED = table([1.0, 0.0, 0.0], [0.0, 0.6, 0.4]).set_axis(["words", "rest"])


def test_what_obeys_the_stages_obeys_the_whole(rng):
    whole = Region(NAMES, lower={"code": 0.1}, upper={"general": 0.7, "math": 0.3})
    coarse = over(whole, FILLED)
    assert coarse.candidates == ["words", "rest"]
    assert coarse.lower.to_dict() == pytest.approx({"words": 0.0, "rest": 0.25})  # 0.1 of code is a quarter of rest
    assert coarse.upper.to_dict() == pytest.approx({"words": 0.7, "rest": 0.5})  # and 0.3 of math is half
    shares = coarse.draw(100, rng=rng)
    assert whole.holds((shares @ FILLED).set_axis(shares.index)).all()
    for share in shares["rest"][:20]:
        inner = inside(whole, ["math", "code"], share).draw(5, rng=rng) * share
        assert whole.holds(inner.assign(general=1 - share)[NAMES]).all()


def test_what_groups_may_have_is_what_their_members_may():
    region = Region(PARTS, lower={"drill": 0.1, "news": 0.05}, upper={"word": 0.1, "books": 0.25})
    even = pd.DataFrame({"prose": [1 / 2] * 2 + [0] * 4, "sums": [0] * 2 + [1 / 3] * 3 + [0], "code": [0] * 5 + [1]}).T
    groups = over(region, even.set_axis(PARTS, axis=1))
    assert np.allclose(groups.lower, [0.1, 0.3, 0.0]) and np.allclose(groups.upper, [0.5, 0.3, 1.0])
    within = inside(region, GROUPS["sums"], 0.4)
    assert np.allclose(within.lower, [0, 0.25, 0]) and np.allclose(within.upper, [0.25, 1, 1])


def test_a_group_that_cannot_hold_its_share_is_refused():
    whole = Region(NAMES, upper={"math": 0.1, "code": 0.1})
    with pytest.raises(Refusal, match=r"no mixture obeys upper math 0\.25, upper code 0\.25"):
        inside(whole, ["math", "code"], 0.4)


# --- UniMax


def water_filling(tokens, target, epochs):
    """UniMax as its authors write it: smallest candidate first, each takes an equal part of what is left or its cap."""
    left, shares = target, {}
    for done, (name, size) in enumerate(tokens.sort_values().items()):
        shares[name] = min(left / (len(tokens) - done), epochs * size)
        left -= shares[name]
    return pd.Series(shares)[tokens.index] / target


def test_unimax_agrees_with_water_filling(rng):
    for _ in range(30):
        tokens = pd.Series(rng.integers(1, 1000, size=5), index=list("abcde"))
        epochs = float(rng.choice([1, 5, 10]))
        target = float(rng.uniform(0.2, 1)) * epochs * tokens.sum()
        np.testing.assert_allclose(unimax(tokens, target, epochs), water_filling(tokens, target, epochs), atol=1e-9)
    with pytest.raises(Refusal, match=r"no mixture obeys .* would do, or 2 times the epochs"):
        unimax(tokens, 2 * epochs * tokens.sum(), epochs)
    with pytest.raises(Refusal, match="'c' has 0 tokens"):
        unimax(tokens.where(tokens.index != "c", 0), target, epochs)


# --- groups, fixed shares, a distance from a mixture

MANY = [f"c{number}" for number in range(8)]
GROUPED = Region(
    MANY, lower={"c0": 0.05}, upper={"c1": 0.2}, fixed={"c2": 0.1},
    groups={"first": (MANY[:3], 0.3, 0.4), "last": (MANY[6:], 0.0, 0.2)}, near=(dict.fromkeys(MANY, 1 / 8), 0.25),
)  # fmt: skip


@pytest.mark.parametrize("how", DESIGNS)
def test_every_draw_obeys_groups_fixed_shares_and_a_distance(how, rng):
    for drawn in (GROUPED.draw(200, rng=rng), GROUPED.design(20, how=how, rng=rng), GROUPED.pool(50, how=how, rng=rng)):
        assert GROUPED.holds(drawn).all()
        assert np.allclose(drawn["c2"], 0.1) and drawn[MANY[:3]].sum(axis=1).between(0.3 - 1e-9, 0.4 + 1e-9).all()
        assert (drawn[MANY[6:]].sum(axis=1) <= 0.2 + 1e-9).all()
        assert ((drawn - 1 / 8).abs().sum(axis=1) / 2 <= 0.25 + 1e-9).all()
    assert GROUPED.told["groups"]["first"] == {"members": MANY[:3], "lower": 0.3, "upper": 0.4}


def test_what_breaks_one_bound_alone_is_not_held(rng):
    fine = GROUPED.draw(1, rng=rng).iloc[0]
    for moved in ({"c2": 0.01, "c0": -0.01}, {"c0": 0.2, "c3": -0.1, "c4": -0.1}, {"c6": 0.3}):
        row = fine.add(pd.Series(moved), fill_value=0).clip(lower=0)
        assert not GROUPED.holds((row / row.sum()).to_frame("m").T).iloc[0], moved


def test_the_nearest_mixture_is_that_of_a_general_solver(rng):
    """200 random regions of every kind against cvxpy."""
    compared = 0
    while compared < 200:
        region, p = random_region(rng)
        found, wanted = region.nearest(p), solved_by_cvxpy(region, p)
        if wanted is None:  # the solver says itself that it is not exact
            continue
        assert np.abs(found.to_numpy() - wanted).max() < 1e-6
        compared += 1


def random_region(rng):
    """A region of 3 to 13 candidates that holds one mixture at least, and weights to be moved into it."""
    k = int(rng.integers(3, 14))
    names, inside = [f"c{number}" for number in range(k)], rng.dirichlet(np.ones(k))
    low = np.maximum(inside - 0.2 * rng.random(k), 0) * (rng.random(k) < 0.5)
    high = np.where(rng.random(k) < 0.5, np.minimum(inside + 0.3 * rng.random(k), 1), 1.0)
    label, groups = rng.integers(0, int(rng.integers(1, 5)), k), {}
    for number in range(1, label.max() + 1):
        members = [name for name, mine in zip(names, label == number, strict=True) if mine]
        total = inside[label == number].sum()
        bounds = max(total - 0.1 * rng.random(), 0), min(total + 0.1 * rng.random(), 1)
        groups |= {f"group {number}": (members, *bounds)} if members else {}
    near = None
    if rng.random() < 0.5:
        centre = rng.dirichlet(np.ones(k))
        near = (dict(zip(names, centre, strict=True)), min(np.abs(inside - centre).sum() / 2 + 0.05 * rng.random(), 1))
    bounds = (dict(zip(names, side, strict=True)) for side in (low, high))
    weights = np.maximum(rng.dirichlet(np.ones(k) * rng.choice([0.3, 1, 5])), 1e-9)
    return Region(names, *bounds, groups=groups, near=near), pd.Series(weights / weights.sum(), names)


def solved_by_cvxpy(region, p):
    x, bounds = cvxpy.Variable(len(p)), region.limits.bounds
    held = [x >= bounds.low, x <= bounds.high, cvxpy.sum(x) == 1]
    for mask, least, most in zip(bounds.groups, bounds.least, bounds.most, strict=True):
        held += [cvxpy.sum(x[np.flatnonzero(mask)]) >= least, cvxpy.sum(x[np.flatnonzero(mask)]) <= most]
    if bounds.centre is not None:
        held.append(cvxpy.norm1(x - bounds.centre) <= 2 * bounds.reach)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum(cvxpy.kl_div(x, p.to_numpy()))), held)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return x.value if problem.status == "optimal" else None


SENSELESS = {
    "member that is none": (
        {"groups": {"g": (["maths"], 0, 1)}},
        r"group 'g' has the member 'maths', which is no cand",
    ),
    "two groups": (
        {"groups": {"g": (["math"], 0, 1), "h": (["code", "math"], 0, 1)}},
        r"'math' is in the groups 'g' and 'h'; leave it in one",
    ),
    "no members": ({"groups": {"g": ([], 0, 1)}}, "group 'g' has no members; name some, or drop it"),
    "group crossed": ({"groups": {"g": (["math"], 0.5, 0.2)}}, "group 'g' has lower bound 0.5 above its upper bound"),
    "group that is no share": ({"groups": {"g": (["math"], 0, 2)}}, "upper bound of 'g' is 2; a bound is a share"),
    "fixed outside": (
        {"fixed": {"math": 0.5}, "upper": {"math": 0.2}},
        "'math' is fixed at 0.5, outside of its bounds",
    ),
    "fixed beyond one": ({"fixed": {"math": 0.7, "code": 0.6}}, r"no mixture obeys .*lower math 0\.7.*loosen one"),
    "group against candidate": (
        {"groups": {"g": (["math", "code"], 0.9, 1)}, "upper": {"math": 0.3, "code": 0.2}},
        r"no mixture obeys upper math 0\.3, upper code 0\.2, lower group g 0\.9; loosen one: "
        r"upper math to 0\.7 or upper code to 0\.6 or lower group g to 0\.5",
    ),
    "too near": (
        {"near": ({"math": 1.0}, 0.1), "upper": {"math": 0.5}},
        r"no mixture obeys upper math 0\.5, near 0\.1; loosen one: upper math to 0\.9 or near to 0\.5",
    ),
    "near none": ({"near": ({"math": 0.4}, 0.1)}, "'near' sums to 0.4, not 1"),
}


@pytest.mark.parametrize(("bounds", "message"), SENSELESS.values(), ids=SENSELESS)
def test_bounds_without_sense_are_named_with_a_remedy(bounds, message):
    with pytest.raises(Refusal, match=message):
        Region(NAMES, **bounds)


def test_every_way_that_is_told_mends_by_itself_and_no_less_does(rng):
    for _ in range(20):
        upper = dict(zip(MANY[:4], 0.1 * rng.random(4), strict=True))
        least = float(sum(upper.values()) + 0.1 + 0.4 * rng.random())
        with pytest.raises(Refusal) as refused:
            Region(MANY, upper=upper, groups={"first": (MANY[:4], least, 1.0)})
        ways = str(refused.value).partition("loosen one: ")[2].split(" or ")
        assert len(ways) == 3
        for way in ways:
            name, value = way.removeprefix("upper ").rsplit(" to ", 1)
            Region(MANY, upper=upper | {name: float(value) + 1e-3}, groups={"first": (MANY[:4], least, 1.0)})
            with pytest.raises(Refusal, match="no mixture obeys"):
                Region(MANY, upper=upper | {name: float(value) - 1e-3}, groups={"first": (MANY[:4], least, 1.0)})


def test_data_may_limit_one_candidate_alone():
    tokens = pd.Series({"general": 400.0, "math": 100.0, "code": np.nan})
    region = Region.of_data(tokens, target_tokens=500, epochs={"math": 2}, general="general", beta=0.5)
    assert region.upper.to_dict() == pytest.approx({"general": 1.0, "math": 0.8, "code": 1.0})
    with pytest.raises(Refusal, match="epochs of 'maths' are limited, which is no candidate: general, math, code"):
        Region.of_data(tokens, target_tokens=500, epochs={"maths": 2}, general="general", beta=0.5)


def test_groups_bind_every_stage_of_a_hierarchy():
    region = Region(PARTS, groups={"some": (PARTS[:2], 0.3, 0.5)}, near=(uniform(PARTS), 0.4))
    whole = pd.DataFrame(np.eye(len(PARTS)), PARTS, PARTS)
    assert over(region, whole).limits.groups == {"some": (PARTS[:2], 0.3, 0.5)}
    assert inside(region, PARTS[:3], 0.6).limits.groups == {"some": (PARTS[:2], 0.5, pytest.approx(0.5 / 0.6))}
    out = whole.iloc[[-1]]
    assert region.holds(region.settled(out)).all() and not region.holds(out).any()
    kept = region.project(out)
    pd.testing.assert_frame_equal(region.settled(kept), kept)
