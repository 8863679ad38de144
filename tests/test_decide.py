"""What is predicted best comes first, every rule's answer is near the optimum, and gradients agree with a solver."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from planted import BOUNDED, FREE, NAMES, SHARES, TASKS, Known, Proxy, excess, losses
from scipy.optimize import minimize

from demix_nb import decide
from demix_nb.mixtures import average, one_hot, uniform
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal


@pytest.fixture
def pool(rng):
    return FREE.draw(3000, rng=rng, prefix="p")


def answer(rule, predictor, pool, proxy, **options):
    """Drive a rule to its end."""
    search = decide.winner(rule, predictor, pool, **options)
    try:
        asked = next(search)
        while True:
            asked = search.send(proxy(asked))
    except StopIteration as end:
        return end.value


def test_best_is_best_first_and_by_any_objective(pool):
    by_rank = decide.best(Known(), pool, 10)
    assert list(by_rank.index) == list(losses(pool)["g"].nsmallest(10).index)
    least_news = decide.best(Known(), pool, 5, by=lambda scored: scored.mixtures["news"])
    assert list(least_news.index) == list(pool["news"].nsmallest(5).index)


def test_equals_keep_the_pools_order(pool):
    flat = Known(lambda mixtures: pd.DataFrame(1.0, index=mixtures.index, columns=list("gmc")))
    assert decide.best(flat, pool, 7).equals(pool.iloc[:7])


def test_proposed_is_the_mean_of_the_best(pool):
    assert np.allclose(decide.propose(Known(), pool, 16), average(decide.best(Known(), pool, 16)))
    corners = pd.DataFrame([one_hot(NAMES, "books"), one_hot(NAMES, "word")], index=["books", "word"])
    assert decide.propose(Known(), corners, top_k=1)["word"] == 1  # of one: itself


@pytest.mark.parametrize("rule", decide.RULES)
def test_every_rule_answers_near_the_optimum_and_asks_if_it_says_so(rule, pool):
    """Equal shares have an excess of 1, the best of the pool less than 0.3."""
    proxy = Proxy()
    found = answer(rule, Known(), pool, proxy, n=16 if rule == "average" else None)
    assert excess(found) < 0.3 and excess(decide.best(Known(), pool, 1).iloc[0]) < 0.3
    assert bool(proxy.asked) == decide.RULES[rule].asks and found.sum() == pytest.approx(1)


def test_what_is_verified_is_believed_only_when_scored(pool):
    misled, proxy = Known(lambda mixtures: losses(mixtures[NAMES[::-1]].set_axis(NAMES, axis=1))), Proxy()
    found = answer("verified", misled, pool, proxy)
    (finals,) = proxy.asked
    assert list(finals.index) == ["optimum", "runner-up-1", "runner-up-2", "runner-up-3"]
    assert np.allclose(finals.loc["optimum"], decide.best(misled, pool, 1).iloc[0])
    assert losses(finals)["g"].idxmin() != "optimum" and found.equals(finals.loc[losses(finals)["g"].idxmin()])


def test_the_careful_take_what_is_good_even_at_its_worst(pool):
    """The predicted best is the one that is least sure: another is chosen, for the worse end of either direction."""
    favourite = decide.best(Known(), pool, 1).index[0]
    for higher in (False, True):
        sign = -1.0 if higher else 1.0
        boastful = Known(lambda mixtures, sign=sign: sign * losses(mixtures), TASKS.assign(higher_is_better=higher))
        boastful.spread = lambda mixtures: pd.DataFrame(
            {task: np.where(mixtures.index == favourite, 9.0, 0.01) for task in TASKS.index}, mixtures.index
        )
        assert np.allclose(answer("single", boastful, pool, None), pool.loc[favourite])
        found = answer("robust", boastful, pool, None)
        assert np.allclose(found, decide.best(Known(), pool, 2).iloc[1])
        at_worst = decide.at_worst(boastful.predict(pool), boastful.spread(pool)).scores
        gap = sign * (at_worst - boastful.predict(pool).scores)
        assert gap.loc[favourite].to_numpy() == pytest.approx(9 * 1.2816, rel=1e-4)


def test_of_few_runs_a_rule_takes_one_near_the_mean_of_its_best():
    shares = np.array([[0.0, 1.0], [0.2, 0.8], [0.45, 0.55], [0.8, 0.2], [1.0, 0.0]])
    costs = np.array([2.0, 1.0, 1.5, 0.5, 9.0])
    assert [decide.RULES[rule].among(shares, costs) for rule in ("single", "robust", "verified")] == [3, 3, 3]
    one = replace(decide.RULES["average"], n=3).among(shares, costs)  # the best three: 3, 1, 2, whose mean is 0.48
    assert one == 2
    assert decide.RULES["average"].among(shares[:1], costs[:1]) == 0


def test_finalists_lie_apart(pool):
    rows = decide.apart(decide.best(Known(), pool, len(pool)), 5)
    far = [(rows.loc[a] - rows.loc[b]).abs().sum() / 2 for a in rows.index for b in rows.index if a < b]
    assert len(rows) == 5 and min(far) >= decide.DISTINCT
    assert len(decide.apart(pool.iloc[[0, 0, 0]], 5)) == 1  # nothing else is far enough


def test_there_is_no_other_rule(pool):
    with pytest.raises(Refusal, match="no rule 'mean'; take one of average, single, robust, verified"):
        decide.winner("mean", Known(), pool)


@pytest.mark.parametrize("region", [FREE, BOUNDED], ids=["free", "bounded"])
def test_refinement_reaches_the_top_from_afar(region, rng):
    """From equal shares, an excess of 1, and from the optimum's opposite."""
    for start in (uniform(NAMES), (1 / SHARES) / (1 / SHARES).sum()):
        found = decide.refine(Known(), region.nearest(start), region, rng=rng)
        assert excess(found, region) < 0.1 and region.holds(found.to_frame("it").T).all()
    near = decide.refine(Known(), uniform(NAMES), Region(NAMES), rng=rng)
    assert np.linalg.norm(near - SHARES) < 0.02


# --- gradients


def log_loss(rng):
    """MixMin's loss −mean log Σ αₖpₖ over 40 sequences with its gradient, in tables and in arrays."""
    p = rng.gamma(0.7, size=(40, len(NAMES)))

    def objective(mixture):
        mixed = p @ mixture.to_numpy()
        return -np.log(mixed).mean(), pd.Series(-(p / mixed[:, None]).mean(axis=0), index=mixture.index)

    return objective


def solved(objective, upper):
    """The same minimum by a general solver."""
    found = minimize(
        lambda x: objective(pd.Series(x, NAMES))[0],
        np.minimum(1 / len(NAMES), upper),
        jac=lambda x: objective(pd.Series(x, NAMES))[1].to_numpy(),
        bounds=[(1e-12, cap) for cap in upper],
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 1000},
    )
    return found.x


@pytest.mark.parametrize("upper", [{}, {"books": 0.1, "word": 0.15}], ids=["free", "bounded"])
def test_direct_optimisation_agrees_with_a_general_solver(rng, upper):
    region = Region(NAMES, upper=upper)
    objective = log_loss(rng)
    mixture, curve = decide.optimise(objective, region, steps=300)
    theirs = solved(objective, region.upper.to_numpy())
    assert np.allclose(mixture, theirs, atol=2e-3)
    assert objective(mixture)[0] == pytest.approx(objective(pd.Series(theirs, NAMES))[0], abs=1e-7)
    assert (curve.diff().dropna() <= 0).all() and len(curve) == 301


def quadratic(mixture):
    return float(((mixture - SHARES) ** 2).sum()), 2 * (mixture - SHARES)


def test_direct_optimisation_reaches_the_optimum_inside_and_at_a_bound():
    mixture, curve = decide.optimise(quadratic, FREE, steps=300)
    assert np.allclose(mixture, SHARES, atol=1e-4) and curve.iloc[-1] < 1e-8
    capped, _ = decide.optimise(quadratic, Region(NAMES, upper={"word": 0.2}), steps=300)
    assert capped["word"] == pytest.approx(0.2)
    # the other five share the missing 0.1 equally: all their gradients are then alike
    assert np.allclose(capped.drop("word"), SHARES.drop("word") + 0.02, atol=1e-4)


def test_a_rate_that_overshoots_is_halved_until_the_loss_falls():
    mixture, curve = decide.optimise(quadratic, FREE, steps=300, rate=1e4)
    assert np.allclose(mixture, SHARES, atol=1e-3) and (curve.diff().dropna() <= 0).all()


def test_macro_loss_averages_families_in_their_units():
    tasks = pd.concat([TASKS, TASKS.loc[["m"]].rename({"m": "m2"})])
    slopes = pd.DataFrame(np.arange(24.0).reshape(4, 6), index=tasks.index, columns=NAMES)
    spread = pd.Series({"general": 1.0, "math": 2.0, "code": 4.0})

    def gradient(mixture):
        return slopes @ mixture, slopes

    loss, slope = decide.macro_loss(gradient, tasks, spread)(SHARES)
    g, m, c, m2 = slopes @ SHARES
    assert loss == pytest.approx((g + (m + m2) / 2 / 2 + c / 4) / 3) and loss == pytest.approx(slope @ SHARES)
    assert decide.macro_loss(gradient, tasks)(SHARES)[0] == pytest.approx((g + (m + m2) / 2 + c) / 3)
    with pytest.raises(Refusal, match="'m' is no loss"):
        decide.macro_loss(gradient, tasks.assign(higher_is_better=tasks.index == "m"))


# --- what to train next


def nearest(row, others):
    return min(float(np.sqrt(((np.sqrt(row) - np.sqrt(other)) ** 2).sum())) for other in others)


@pytest.mark.parametrize("disagree", [False, True])
def test_what_tells_most_is_farthest_from_all_that_is_known(rng, disagree):
    """Against every choice tried one by one."""
    pool = Region(list("abc")).draw(30, rng=rng)
    known = Region(list("cab")).draw(3, rng=rng, prefix="k")
    apart = pd.Series(rng.random(30), pool.index)[::-1] if disagree else None
    have, expected = [row[list("abc")].to_numpy() for _, row in known.iterrows()], []
    for _ in range(4):
        value = {
            name: nearest(row.to_numpy(), have) * (1 + apart[name] / apart.mean() if disagree else 1)
            for name, row in pool.iterrows()
            if name not in expected
        }
        expected.append(max(value, key=value.get))
        have.append(pool.loc[expected[-1]].to_numpy())
    assert list(decide.telling(pool, known, 4, disagreement=apart).index) == expected


def test_where_nothing_is_known_the_middle_comes_first(rng):
    pool = Region(list("abc")).draw(30, rng=rng)
    roots = np.sqrt(pool)
    first, second = decide.telling(pool, pd.DataFrame(), 2).index
    assert first == ((roots - roots.mean()) ** 2).sum(axis=1).idxmin()
    assert second == ((roots - roots.loc[first]) ** 2).sum(axis=1).idxmax()
    assert set(decide.telling(pool, pool, 30).index) == set(pool.index)
    flat = decide.telling(pool, pd.DataFrame(), 9, disagreement=pd.Series(0.0, pool.index))
    assert flat.equals(decide.telling(pool, pd.DataFrame(), 9))


def test_a_pool_too_small_and_a_disagreement_that_is_none_are_refused(rng):
    pool = Region(list("abc")).draw(3, rng=rng)
    with pytest.raises(Refusal, match="4 mixtures are asked for, the pool has 3"):
        decide.telling(pool, pd.DataFrame(), 4)
    with pytest.raises(Refusal, match="disagreement about 'm1' is nan"):
        decide.telling(pool, pool, 1, disagreement=pd.Series({"m0": 1.0, "m2": 0.0}))


def test_two_kinds_disagree_in_standard_deviations_of_the_first(rng):
    mixtures = FREE.draw(20, rng=rng)
    scores = pd.DataFrame(rng.random((20, len(TASKS))), mixtures.index, list(TASKS.index))
    one = Scored(mixtures, scores, TASKS)
    other = Scored(mixtures[::-1], (scores + scores.std() / 2)[::-1], TASKS)
    apart = decide.disagreement(one, other)
    assert list(apart.index) == list(mixtures.index) and (decide.disagreement(one, one) == 0).all()
    means = (one.families - other.families.loc[mixtures.index]).abs() / one.families.std()
    assert np.allclose(apart, means.mean(axis=1)) and apart.min() > 0.3
