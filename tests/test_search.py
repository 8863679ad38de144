"""Every strategy finds a planted optimum, beats chance, and keeps every cap."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from demix_nb import search
from demix_nb.mixtures import MixtureError, natural, one_hot, uniform, validate
from demix_nb.predictors import PREDICTORS
from demix_nb.ranking import RankingError, family_scores

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


PRIOR = natural(pd.Series({"general": 4, "math": 2, "code": 2, "law": 1}))


def rounds(seed=0, score=planted, predictor="gaussian_process", strategy=search.demix, **options):
    smaller = {"rounds": (32, 16, 8)} if strategy in (search.demix, search.climb) else {}
    smaller |= {} if strategy is search.mergemix else {"top_k": 32}
    return list(
        strategy(
            score,
            PREDICTORS[predictor](rng=np.random.default_rng(0)),
            NAMES,
            TASKS,
            rng=np.random.default_rng(seed),
            **smaller | {"pool": 2000} | options,
        )
    )


@pytest.mark.parametrize(
    "strategy, options",
    [
        (search.demix, {}),
        (search.climb, {"top_n": 100}),
        (search.climb, {"top_n": 100, "top_k": 1}),
        (search.regmix, {"n": 56, "prior": PRIOR}),
        (search.mergemix, {"n": 52, "prior": PRIOR}),
    ],
)
def test_every_strategy_finds_the_planted_optimum(strategy, options):
    last = rounds(strategy=strategy, **options)[-1]
    start = np.linalg.norm(uniform(NAMES) - TARGET)
    assert np.linalg.norm(last.winner - TARGET) < start / 2
    assert planted(last.winner.to_frame("w").T)["g"].iloc[0] < planted(last.mixtures)["g"].quantile(0.1)
    assert last.predicted.iloc[0] == pytest.approx(planted(last.winner.to_frame("w").T)["g"].iloc[0], abs=0.05)


def test_climb_draws_from_the_predicted_top_and_from_all_of_it():
    narrow, top = (
        rounds(strategy=s, rounds=(32, 8), **o)[-1] for s, o in ((search.climb, {"top_n": 8}), (search.demix, {}))
    )
    assert set(narrow.mixtures.index) == set(top.mixtures.index)  # nothing to choose: the very best, as DeMix takes
    wide = rounds(strategy=search.climb, rounds=(32, 8), top_n=200)[-1]
    second = wide.mixtures[wide.rounds == 2]
    assert len(second) == 8 and set(second.index) != set(top.mixtures.index[-8:])
    ranks = planted(wide.mixtures)["g"]
    assert ranks[wide.rounds == 2].mean() < ranks[wide.rounds == 1].quantile(0.25)


def test_regmix_is_one_round_around_the_natural_shares():
    (only,) = rounds(strategy=search.regmix, n=400, prior=PRIOR, predictor="ridge")
    assert len(only.mixtures) == len(only.scores) == 400 and (only.rounds == 1).all()
    assert np.allclose(only.mixtures.mean(), PRIOR, atol=0.06)
    reordered = rounds(strategy=search.regmix, n=400, prior=PRIOR[::-1], predictor="ridge")[-1]
    pd.testing.assert_series_equal(reordered.winner, only.winner)


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


@pytest.mark.parametrize(
    "strategy, options",
    [(search.demix, {}), (search.climb, {}), (search.regmix, {"n": 56, "prior": PRIOR}), (search.mergemix, {})],
)
def test_caps_hold_everywhere(strategy, options):
    upper = pd.Series({"math": 0.2, "code": 0.25})
    last = rounds(strategy=strategy, upper=upper, **options)[-1]
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


def test_seed_grid_is_corners_priors_and_coarse_steps(rng):
    grid = search.seed_grid(NAMES, 40, rng=rng, prior=PRIOR)
    assert len(validate(grid, NAMES)) == 40 and not grid.round(9).duplicated().any()
    assert all((grid.loc[name] == one_hot(NAMES, name)).all() for name in NAMES)
    assert np.allclose(grid.loc["uniform"], 0.25) and np.allclose(grid.loc["natural"], PRIOR)
    steps = grid.filter(like="grid-", axis=0) * 5  # 35 points in fourths are too few for 40, 56 in fifths are not
    assert len(steps) == 34 and np.allclose(steps, steps.round())
    with pytest.raises(MixtureError, match="5 seeds for 4 candidates"):
        search.seed_grid(NAMES, 5, rng=rng, prior=PRIOR)
    with pytest.raises(MixtureError, match="for 1 candidates"):
        search.seed_grid(["general"], 5, rng=rng)


GOALS = {"g": one_hot(NAMES, "general"), "m": TARGET, "c": one_hot(NAMES, "law")}


def torn(mixtures):
    """Each family has an optimum of its own."""
    return pd.DataFrame({task: 1 + ((mixtures - goal) ** 2).sum(axis=1) for task, goal in GOALS.items()})


def test_mergemix_follows_the_users_utility():
    for family, task in zip(["general", "math", "code"], "gmc", strict=True):
        last = rounds(strategy=search.mergemix, score=torn, utility=lambda f, family=family: f[family])[-1]
        assert np.linalg.norm(last.winner - GOALS[task]) < 0.1
    macro = rounds(strategy=search.mergemix, score=torn)[-1].winner
    assert all(np.linalg.norm(macro - goal) > 0.2 for goal in GOALS.values())


class Misled:
    """A predictor that has learnt another optimum than the true one."""

    def fit(self, mixtures, scores):
        return self

    def predict(self, mixtures):
        return pd.DataFrame({f: ((mixtures - one_hot(NAMES, "law")) ** 2).sum(axis=1) for f in TASKS["family"]})


def test_mergemix_verifies_what_it_proposes():
    first, last = search.mergemix(planted, Misled(), NAMES, TASKS, rng=np.random.default_rng(0), pool=2000)
    assert np.linalg.norm(first.winner - one_hot(NAMES, "law")) < 0.05 and len(first.mixtures) == 40
    final = last.mixtures[last.rounds == 2]
    assert list(final.index) == ["optimum", "runner-up-1", "runner-up-2", "runner-up-3"]
    assert np.allclose(final.loc["optimum"], first.winner)
    pd.testing.assert_frame_equal(last.scores.loc[final.index], planted(final))
    best = planted(final)["g"].idxmin()
    assert best != "optimum" and np.allclose(last.winner, final.loc[best])
    far = [(final.loc[a] - final.loc[b]).abs().sum() / 2 for a in final.index for b in final.index if a < b]
    assert min(far) >= search.DISTINCT


def test_refinement_reaches_the_top_from_afar(rng):
    def worth(mixtures):
        return -((mixtures - TARGET) ** 2).sum(axis=1)

    found = search.refine(worth, uniform(NAMES), rng=rng)
    assert np.linalg.norm(found - TARGET) < 0.02
    capped = search.refine(worth, uniform(NAMES), rng=rng, upper=pd.Series({"math": 0.3}))
    assert capped["math"] <= 0.3 + 1e-9 and worth(capped.to_frame("x").T).item() > -((0.15**2 * 4 / 3) + 0.001)


def test_utility_gets_signed_standard_deviations():
    higher = TASKS.assign(higher_is_better=[True, False, False])
    seen = family_scores(planted(pd.DataFrame(np.eye(4), columns=NAMES)), TASKS)
    scaled = search.standardised(seen, seen, higher)
    assert np.allclose(scaled.mean(), 0) and np.allclose(scaled.std(), 1)
    assert np.allclose(scaled["general"], -scaled["math"])


GROUPS = {"prose": ["news", "books"], "sums": ["word", "drill", "proofs"], "code": ["python"]}
PARTS = [name for members in GROUPS.values() for name in members]
SHARES = pd.Series([0.1, 0.2, 0.3, 0.05, 0.15, 0.2], index=PARTS)


def divergence(mixtures):
    """KL to the target: its best inside a group does not depend on the rest, so both hierarchies can find it."""
    loss = -np.log(np.ascontiguousarray(mixtures) + 1e-3) @ SHARES.to_numpy()  # C order: sums round alike
    return pd.DataFrame({"g": loss, "m": 2 * loss, "c": loss**2}, index=mixtures.index)


def flat(seed=0, **options):
    predictor = PREDICTORS["gaussian_process"](rng=np.random.default_rng(0))
    settings = {"rounds": (24, 12), "pool": 1000, "top_k": 8} | options
    return partial(search.demix, predictor=predictor, tasks=TASKS, rng=np.random.default_rng(seed), **settings)


@pytest.mark.parametrize("hierarchy", [search.top_down, search.bottom_up])
@pytest.mark.parametrize("groups", [{"all": PARTS}, {f"only {name}": [name] for name in PARTS}], ids=["one", "single"])
def test_a_hierarchy_of_one_group_or_of_single_candidates_is_the_flat_search(hierarchy, groups):
    upper = pd.Series({"word": 0.25})
    plain = list(flat()(divergence, candidates=PARTS, upper=upper))
    nested = list(hierarchy(flat(), divergence, groups, TASKS, upper=upper))
    assert len(plain) == len(nested) == 2
    for ours, theirs in zip(nested, plain, strict=True):
        assert np.array_equal(ours.mixtures, theirs.mixtures) and np.array_equal(ours.scores, theirs.scores)
        assert np.array_equal(ours.rounds, theirs.rounds) and np.array_equal(ours.ranks, theirs.ranks)
        pd.testing.assert_series_equal(ours.winner, theirs.winner, check_exact=True, check_names=False)


@pytest.mark.parametrize("hierarchy", [search.top_down, search.bottom_up])
def test_hierarchies_find_the_planted_optimum(hierarchy):
    history = list(hierarchy(flat(), divergence, GROUPS, TASKS))
    last = history[-1]
    assert [r.number for r in history] == [1, 2, 3, 4, 5, 6] and last.rounds.max() == 6
    assert len(last.mixtures) == len(last.scores) == 3 * 36 and last.mixtures.index.is_unique
    pd.testing.assert_frame_equal(divergence(validate(last.mixtures, PARTS)), last.scores, check_names=False)
    assert np.linalg.norm(last.winner - SHARES) < np.linalg.norm(uniform(PARTS) - SHARES) / 3
    found = divergence(last.winner.to_frame("w").T)["g"].item()
    assert found < divergence(last.mixtures.filter(like="r1-", axis=0))["g"].min() + 0.01


def test_top_down_keeps_the_other_groups_and_bottom_up_leaves_them_out():
    down, up = (list(h(flat(), divergence, GROUPS, TASKS))[-1].mixtures for h in (search.top_down, search.bottom_up))
    inside = down.filter(like="sums/", axis=0)
    assert inside[["news", "books", "python"]].nunique().eq(1).all() and inside["word"].nunique() == len(inside)
    coarse = down.filter(like="groups/", axis=0)
    assert np.allclose(coarse["word"], coarse["proofs"]) and not np.allclose(coarse["word"], coarse["news"])
    assert np.allclose(up.filter(like="sums/", axis=0)[GROUPS["sums"]].sum(axis=1), 1)


def test_hierarchies_start_from_natural_shares_and_meet_caps():
    prior, upper = pd.Series([1, 4, 1, 1, 2, 1], index=PARTS), pd.Series({"word": 0.1, "books": 0.15})
    last = list(search.top_down(flat(), divergence, GROUPS, TASKS, prior=prior, upper=upper))[-1]
    coarse = last.mixtures.filter(like="groups/", axis=0)
    assert np.allclose(coarse["books"], 4 * coarse["news"])
    assert all(last.mixtures[name].max() <= cap + 1e-9 for name, cap in upper.items())
    winner = list(search.bottom_up(flat(), divergence, GROUPS, TASKS, upper=upper))[-1].winner
    assert all(winner[name] <= cap + 1e-9 for name, cap in upper.items())


def test_groups_are_checked():
    with pytest.raises(MixtureError, match="'news' is in two groups"):
        list(search.top_down(flat(), divergence, GROUPS | {"more": ["news"]}, TASKS))
    with pytest.raises(MixtureError, match="nothing to search"):
        list(search.bottom_up(flat(), divergence, {"all": ["news"]}, TASKS))


def log_loss(rng):
    """MixMin's loss −mean log Σ αₖpₖ over 40 sequences with its gradient, in tables and in arrays."""
    p = rng.gamma(0.7, size=(40, 4))

    def objective(mixture):
        mixed = p @ mixture.to_numpy()
        return -np.log(mixed).mean(), pd.Series(-(p / mixed[:, None]).mean(axis=0), index=mixture.index)

    return objective


def solved(objective, upper):
    """The same minimum by a general solver."""
    found = minimize(
        lambda x: objective(pd.Series(x, NAMES))[0],
        np.minimum(0.25, upper),
        jac=lambda x: objective(pd.Series(x, NAMES))[1].to_numpy(),
        bounds=[(1e-12, cap) for cap in upper],
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return found.x


@pytest.mark.parametrize("upper", [None, {"math": 0.2, "code": 0.3}])
def test_direct_optimisation_agrees_with_a_general_solver(rng, upper):
    caps = None if upper is None else pd.Series(upper)
    for _ in range(2):
        objective = log_loss(rng)
        mixture, curve = search.optimise(objective, NAMES, upper=caps, steps=400)
        theirs = solved(objective, pd.Series(upper or {}, dtype=float).reindex(NAMES).fillna(1.0).to_numpy())
        assert np.allclose(mixture, theirs, atol=2e-3)
        assert objective(mixture)[0] == pytest.approx(objective(pd.Series(theirs, NAMES))[0], abs=1e-7)
        assert (curve.diff().dropna() <= 0).all() and len(curve) == 401


def quadratic(mixture):
    return float(((mixture - TARGET) ** 2).sum()), 2 * (mixture - TARGET)


def test_direct_optimisation_reaches_the_optimum_inside_and_at_a_cap():
    mixture, curve = search.optimise(quadratic, NAMES, steps=300)
    assert np.allclose(mixture, TARGET, atol=1e-4) and curve.iloc[-1] < 1e-8
    capped, _ = search.optimise(quadratic, NAMES, steps=300, upper=pd.Series({"math": 0.3}))
    assert capped["math"] == pytest.approx(0.3)
    # the other three share the missing 0.15 equally: all their gradients are then alike
    assert np.allclose(capped.drop("math"), TARGET.drop("math") + 0.05, atol=1e-4)


def test_a_rate_that_overshoots_is_halved_until_the_loss_falls():
    mixture, curve = search.optimise(quadratic, NAMES, steps=300, rate=1e4)
    assert np.allclose(mixture, TARGET, atol=1e-3) and (curve.diff().dropna() <= 0).all()


def test_macro_loss_averages_families_in_their_units():
    tasks = pd.concat([TASKS, TASKS.loc[["m"]].rename({"m": "m2"})])
    slopes = pd.DataFrame(np.arange(16.0).reshape(4, 4), index=tasks.index, columns=NAMES)
    spread = pd.Series({"general": 1.0, "math": 2.0, "code": 4.0})
    objective = search.macro_loss(lambda mixture: (slopes @ mixture, slopes), tasks, spread)
    loss, slope = objective(TARGET)
    g, m, c, m2 = slopes @ TARGET
    assert loss == pytest.approx((g + (m + m2) / 2 / 2 + c / 4) / 3) and loss == pytest.approx(slope @ TARGET)
    scores = pd.DataFrame([slopes @ TARGET], index=["x"])
    assert search.macro_loss(lambda mixture: (slopes @ mixture, slopes), tasks)(TARGET)[0] == pytest.approx(
        family_scores(scores, tasks).mean(axis=1).item()
    )
    with pytest.raises(ValueError, match="'m' is no loss"):
        search.macro_loss(lambda mixture: (slopes @ mixture, slopes), tasks.assign(higher_is_better=tasks.index == "m"))
