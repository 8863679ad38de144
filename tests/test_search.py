"""Every strategy finds a planted optimum, beats chance, and keeps every cap."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from demix_nb import search
from demix_nb.mixtures import natural, one_hot, uniform
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


PRIOR = natural(pd.Series({"general": 4, "math": 2, "code": 2, "law": 1}))


def rounds(seed=0, score=planted, predictor="gaussian_process", strategy=search.demix, **options):
    smaller = {} if strategy is search.regmix else {"rounds": (32, 16, 8)}
    return list(
        strategy(
            score,
            PREDICTORS[predictor](rng=np.random.default_rng(0)),
            NAMES,
            TASKS,
            rng=np.random.default_rng(seed),
            **smaller | {"pool": 2000, "top_k": 32} | options,
        )
    )


@pytest.mark.parametrize(
    "strategy, options",
    [
        (search.demix, {}),
        (search.climb, {"top_n": 100}),
        (search.climb, {"top_n": 100, "top_k": 1}),
        (search.regmix, {"n": 56, "prior": PRIOR}),
    ],
)
def test_every_strategy_finds_the_planted_optimum(strategy, options):
    last = rounds(strategy=strategy, **options)[-1]
    start = np.linalg.norm(uniform(NAMES) - TARGET)
    assert np.linalg.norm(last.winner - TARGET) < start / 2
    assert planted(last.winner.to_frame("w").T)["g"].iloc[0] < planted(last.mixtures)["g"].quantile(0.1)
    assert last.predicted["g"] == pytest.approx(planted(last.winner.to_frame("w").T)["g"].iloc[0], abs=0.05)


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
    "strategy, options", [(search.demix, {}), (search.climb, {}), (search.regmix, {"n": 56, "prior": PRIOR})]
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
