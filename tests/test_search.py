"""Every strategy finds a planted optimum, stays in its region, and goes on where it was broken off."""

from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
from planted import BOUNDED, FREE, GROUPS, NAMES, PRIOR, SHARES, TASKS, Known, Proxy, excess, loss, losses, predictor

from demix_nb import search
from demix_nb.decide import DISTINCT
from demix_nb.mixtures import one_hot, uniform
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

FACTS = {
    "prior": PRIOR, "groups": GROUPS, "general": "news", "tokens": 1e6 * PRIOR, "target_tokens": 2.25e6, "epochs": 3.0,
}  # fmt: skip
SMALL = {
    "demix": {"sizes": (24, 12, 8), "pool": 1000, "top_k": 16},
    "climb": {"sizes": (24, 12, 8), "pool": 1000, "top_n": 50},
    "regmix": {"n": 112, "pool": 8000, "top_k": 64},
    "mergemix": {"pool": 1000},
    "mergemix, top-down": {"pool": 1000},
    "mergemix, bottom-up": {"pool": 1000},
    "improve": {"sizes": (8,) * 7, "pool": 1000, "top_k": 16},
}
ASKING = [name for name, row in search.STRATEGIES.items() if row.asks]
SILENT = [name for name, row in search.STRATEGIES.items() if not row.asks]
REGIONS = pytest.mark.parametrize("region", [FREE, BOUNDED], ids=["free", "bounded"])


def run(name, proxy=None, region=FREE, *, seed=0, model=None, known=None, **options):
    row = search.STRATEGIES[name]
    options = {need: FACTS[need] for need in row.needs} | SMALL.get(name, {}) | options
    proxy, model = proxy or Proxy(), model or predictor()
    return search.run(name, proxy, region, model, TASKS, rng=np.random.default_rng(seed), known=known, **options)


@cache
def usual(name, region=FREE):
    """A run that several tests look at, and the proxy it asked."""
    proxy = Proxy()
    return run(name, proxy, region), proxy


# --- the protocol: over every row


@REGIONS
@pytest.mark.parametrize("name", ASKING)
def test_a_strategy_that_asks_finds_the_planted_optimum_and_stays_in_the_region(name, region):
    """Equal shares have an excess of 1 over the region's optimum, a random mixture about 5."""
    found, proxy = usual(name, region)
    assert excess(found.winner, region) < 1 / 2 and 0 < len(found.scored) == proxy.count
    assert region.holds(found.scored.mixtures).all() and region.holds(found.winner.to_frame("it").T).all()
    pd.testing.assert_frame_equal(found.scored.scores, losses(found.scored.mixtures), check_names=False)


@REGIONS
@pytest.mark.parametrize("name", SILENT)
def test_a_strategy_that_asks_nothing_calls_no_proxy_and_stays_in_the_region(name, region):
    found, proxy = usual(name, region)
    assert not proxy.asked and len(found.scored) == len(found.rounds) == len(found.predicted) == 0
    assert list(found.winner.index) == NAMES and region.holds(found.winner.to_frame("it").T).all()
    assert list(found.rank_table()) == ["round", "rank"] and found.rank_table().empty


@pytest.mark.parametrize("name", search.STRATEGIES)
def test_one_seed_gives_one_search(name):
    first, again = usual(name)[0], run(name)
    assert first.winner.equals(again.winner) and first.predicted.equals(again.predicted)
    pd.testing.assert_frame_equal(first.scored.mixtures, again.scored.mixtures, check_exact=True)
    pd.testing.assert_series_equal(first.rounds, again.rounds)


@pytest.mark.parametrize("name", search.STRATEGIES)
def test_a_row_says_whether_its_predictor_speaks_of_the_winner(name):
    found, _ = usual(name)
    if not search.STRATEGIES[name].predicts:
        assert found.predicted.empty
        return
    truth = losses(found.winner.to_frame("it").T).loc["it"].to_numpy()
    mean = found.scored.scores.mean().to_numpy()
    assert (np.abs(found.predicted.to_numpy() - truth) < np.abs(mean - truth) / 2).all()


@pytest.mark.parametrize("name", ASKING)
def test_what_is_known_under_any_name_is_not_scored_again(name):
    whole, proxy = usual(name)[0], Proxy()
    kept = whole.scored.take(np.arange(0, len(whole.scored), 2))
    other = Scored(kept.mixtures.add_prefix("was-", axis=0), kept.scores.add_prefix("was-", axis=0), TASKS)
    again = run(name, proxy, known=other)
    asked = pd.concat(proxy.asked).index if proxy.asked else []
    assert set(asked) <= set(whole.scored.names) - set(kept.names)
    assert np.allclose(again.winner, whole.winner, atol=1e-9) and again.rounds.equals(whole.rounds)
    pd.testing.assert_frame_equal(again.scored.scores, whole.scored.scores, rtol=1e-9)


# --- the driver


def test_a_search_that_broke_off_goes_on_where_it_stopped():
    whole, scored = usual("demix")[0], []

    def breaking(mixtures):
        if len(scored) == 2:
            raise KeyboardInterrupt
        scored.append(Proxy()(mixtures))
        return scored[-1]

    with pytest.raises(KeyboardInterrupt):
        run("demix", breaking)
    proxy = Proxy()
    rest = run("demix", proxy, known=scored[0] + scored[1])
    assert [len(table) for table in proxy.asked] == [8]
    assert rest.winner.equals(whole.winner) and rest.predicted.equals(whole.predicted)
    pd.testing.assert_frame_equal(rest.rank_table(), whole.rank_table(), check_exact=True)


STARTING = [name for name, row in search.STRATEGIES.items() if row.starts]
PAST = FREE.draw(60, rng=np.random.default_rng(7), prefix="past-")


def start(mixtures=PAST):
    return Scored(mixtures[NAMES[::-1]], losses(mixtures).assign(other=0.0), TASKS)


@REGIONS
def test_from_a_table_alone_a_mixture_is_proposed_within_the_region(region):
    found = search.run("demix", None, region, predictor(), TASKS, rng=np.random.default_rng(0), start=start(), sizes=[])
    assert region.holds(found.winner.to_frame("it").T).all() and excess(found.winner, region) < 1
    assert found.rounds.eq(0).all() and found.scored.names == list(PAST.index)
    assert list(found.predicted.index) == list(TASKS.index)
    pd.testing.assert_frame_equal(found.scored.scores, losses(PAST), check_names=False)


@pytest.mark.parametrize("name", STARTING)
def test_a_start_is_round_0_and_is_learnt_first(name):
    proxy, options = Proxy(), {} if name == "regmix" else {"sizes": (8,)}
    found = run(name, proxy, start=start(), **options)
    asked = pd.concat(proxy.asked)
    assert found.scored.names == [*PAST.index, *asked.index] and excess(found.winner) < 1 / 2
    assert found.rounds[PAST.index].eq(0).all() and found.rounds[asked.index].eq(1).all()
    assert found.rank_table()["rank"].equals(found.scored.ranks)
    if name != "regmix":  # whose one round is blind
        assert losses(asked)["g"].mean() < losses(PAST)["g"].quantile(0.25)


def test_an_empty_start_is_none():
    nothing = run("demix", start=Scored.none(TASKS))
    assert nothing.winner.equals(usual("demix")[0].winner) and nothing.rounds.equals(usual("demix")[0].rounds)


def test_a_start_that_cannot_be_one_is_refused():
    with pytest.raises(Refusal, match="'MergeMix' begins with mixtures of its own; leave `start` out, or take demix; "):
        run("mergemix", start=start())
    with pytest.raises(Refusal, match="unknown candidate 'maths'"):
        run("demix", start=Scored(PAST.assign(maths=0.0), losses(PAST), TASKS))
    with pytest.raises(Refusal, match=r"sizes is \[\]"):
        run("demix", sizes=[])
    with pytest.raises(Refusal, match="8 mixtures are to be scored and nothing scores them"):
        search.run("demix", None, FREE, predictor(), TASKS, rng=np.random.default_rng(0), start=start(), sizes=[8])


def test_one_may_score_by_hand_between_two_lines():
    asking = search.demix(FREE, predictor(), TASKS, rng=np.random.default_rng(0), **SMALL["demix"])
    first = next(asking)
    second = asking.send(Proxy()(first))
    found, _ = usual("demix")
    pd.testing.assert_frame_equal(pd.concat([first, second]), found.scored.mixtures.iloc[:36])


def test_the_rank_table_has_rounds_and_ranks():
    found, _ = usual("demix")
    table = found.rank_table()
    assert list(table) == ["round", "rank"] and table["round"].value_counts().to_dict() == {1: 24, 2: 12, 3: 8}
    assert table.index.equals(found.scored.mixtures.index)
    assert table["rank"].equals(found.scored.ranks) and table["rank"].idxmin() == found.scored.best
    assert table.groupby("round")["rank"].mean().is_monotonic_decreasing  # later rounds sample where it is good


def test_what_cannot_be_run_is_refused():
    with pytest.raises(Refusal, match="no strategy 'demx'; take one of demix; "):
        search.run("demx", Proxy(), FREE, predictor(), TASKS, rng=np.random.default_rng(0))
    with pytest.raises(Refusal, match="'RegMix' needs 'prior'"):
        search.run("regmix", Proxy(), FREE, predictor(), TASKS, rng=np.random.default_rng(0))
    with pytest.raises(Refusal, match="task 'c' is missing"):
        run("demix", Proxy(lambda mixtures: losses(mixtures).drop(columns="c")))
    with pytest.raises(Refusal, match="mixture 'r1-00'"):
        run("demix", lambda mixtures: Proxy()(mixtures.iloc[1:]))
    with pytest.raises(Refusal, match="unknown candidate 'maths'"):
        run("demix", known=Proxy()(FREE.draw(4, rng=np.random.default_rng(0)).assign(maths=0.0)))


def test_a_strategy_of_ones_own_needs_no_table():
    def corners(region, predictor, tasks, *, rng):
        scored = yield pd.DataFrame(np.eye(6), index=NAMES, columns=NAMES)
        return scored.mixtures.loc[scored.best]

    row = search.Strategy(corners, "best corner", "ours", "merged")
    found = search.run(row, Proxy(), FREE, None, TASKS, rng=np.random.default_rng(0))
    assert found.winner.equals(one_hot(NAMES, SHARES.idxmax())) and len(found.scored) == 6


# --- what each is known for


def test_climb_draws_from_the_predicted_top_and_from_all_of_it():
    narrow, top = run("climb", sizes=(24, 8), top_n=8).scored, run("demix", sizes=(24, 8)).scored
    assert set(narrow.names) == set(top.names)  # nothing to choose: the very best, as DeMix takes
    wide = run("climb", sizes=(24, 8), top_n=200)
    second = wide.rounds[wide.rounds == 2].index
    assert len(second) == 8 and set(second) != set(top.names[-8:])
    found = wide.scored.scores["g"]
    assert found[second].mean() < found[wide.rounds == 1].quantile(0.25)


def test_how_the_answer_is_taken_is_a_choice():
    mean, one = usual("demix")[0].winner, run("demix", rule="single", top_k=1).winner
    assert not mean.equals(one)
    checked = run("demix", rule="verified", top_k=None)
    finals = checked.scored.of(["optimum", "runner-up-1", "runner-up-2", "runner-up-3"])
    assert checked.winner.equals(finals.mixtures.loc[finals.best]) and checked.rounds["optimum"] == 4


def test_regmix_is_one_round_around_the_natural_shares():
    only = run("regmix", n=400, pool=1000, model=predictor("ridge"))
    assert len(only.scored) == 400 and (only.rounds == 1).all()
    assert np.allclose(only.scored.mixtures.mean(), PRIOR, atol=0.06)
    reordered = run("regmix", n=400, pool=1000, model=predictor("ridge"), prior=PRIOR[::-1])
    pd.testing.assert_series_equal(reordered.winner, only.winner)


def test_with_shuffled_scores_nothing_is_found():
    def shuffled(mixtures):
        return losses(mixtures).sample(frac=1, random_state=3).set_axis(mixtures.index)

    honest, blind = (
        np.mean([excess(run("demix", Proxy(f), seed=s).winner) for s in range(3)]) for f in (losses, shuffled)
    )
    assert honest < blind / 2


FEW = NAMES[:4]
INSIDE = pd.Series([0.15, 0.45, 0.35, 0.05], index=FEW)
GOALS = {"g": one_hot(FEW, FEW[0]), "m": INSIDE, "c": one_hot(FEW, FEW[-1])}


def torn(mixtures):
    """Each family has an optimum of its own."""
    return pd.DataFrame({task: 1 + ((mixtures - goal) ** 2).sum(axis=1) for task, goal in GOALS.items()})


def test_mergemix_follows_the_users_utility():
    for family, goal in zip(TASKS["family"], GOALS.values(), strict=True):
        utility = lambda families, family=family: families[family]  # noqa: E731
        only = run("mergemix", Proxy(torn), Region(FEW), pool=2000, utility=utility)
        assert np.linalg.norm(only.winner - goal) < 0.1
    macro = run("mergemix", Proxy(torn), Region(FEW), pool=2000).winner
    assert all(np.linalg.norm(macro - goal) > 0.2 for goal in GOALS.values())


def test_mergemix_verifies_what_it_proposes():
    """The predictor has learnt another optimum than the true one, and is not believed."""

    def misled(mixtures):
        far = ((mixtures - one_hot(NAMES, "drill")) ** 2).sum(axis=1)
        return pd.DataFrame(dict.fromkeys(TASKS["family"], far))

    found = run("mergemix", model=Known(misled), pool=2000)
    final = found.scored.of(found.rounds[found.rounds == 2].index)
    assert final.names == ["optimum", "runner-up-1", "runner-up-2", "runner-up-3"] and len(found.scored) == 44
    assert np.linalg.norm(final.mixtures.loc["optimum"] - one_hot(NAMES, "drill")) < 0.05
    best = final.scores["g"].idxmin()
    assert best != "optimum" and np.allclose(found.winner, final.mixtures.loc[best])
    rows = final.mixtures
    assert min((rows.loc[a] - rows.loc[b]).abs().sum() / 2 for a in rows.index for b in rows.index if a < b) >= DISTINCT


def test_plain_strategies_are_what_they_are_called():
    assert run("uniform").winner.equals(uniform(NAMES)) and run("natural").winner.equals(PRIOR)
    assert run("general only").winner.equals(one_hot(NAMES, "news"))
    assert np.allclose(run("temperature", power=1.0).winner, PRIOR)
    assert run("temperature").winner.max() < PRIOR.max()
    assert np.allclose(run("unimax").winner, [0.2] * 3 + [3 * 0.1 / 2.25] * 3)  # the small three thrice, then even


# --- hierarchy


FLAT = partial(search.demix, sizes=(24, 12), top_k=8)


def top_down(region=FREE, groups=GROUPS, **options):
    return run("mergemix, top-down", region=region, groups=groups, flat=FLAT, **options)


@pytest.mark.parametrize("groups", [{"all": NAMES}, {f"only {name}": [name] for name in NAMES}], ids=["one", "single"])
def test_a_hierarchy_of_one_group_or_of_single_candidates_is_the_flat_search(groups):
    region = Region(NAMES, upper={"word": 0.25})
    plain, nested = run("demix", region=region, sizes=(24, 12), top_k=8), top_down(region, groups)
    assert np.array_equal(nested.scored.mixtures, plain.scored.mixtures)
    assert np.array_equal(nested.scored.scores, plain.scored.scores)
    assert np.array_equal(nested.rounds, plain.rounds) and np.array_equal(nested.scored.ranks, plain.scored.ranks)
    pd.testing.assert_series_equal(nested.winner, plain.winner, check_exact=True, check_names=False)


def test_a_hierarchy_asks_by_stages_with_the_other_groups_fixed():
    found = top_down()
    assert found.rounds.max() == 6 and len(found.scored) == 3 * 36 and found.scored.mixtures.index.is_unique
    inside = found.scored.mixtures.filter(like="sums/", axis=0)
    assert inside[["news", "books", "python"]].nunique().eq(1).all() and inside["word"].nunique() == len(inside)
    coarse = found.scored.mixtures.filter(like="groups/", axis=0)
    assert np.allclose(coarse["word"], coarse["proofs"]) and not np.allclose(coarse["word"], coarse["news"])
    assert loss(found.winner) < found.scored.scores["g"].min() + 0.01


def test_a_hierarchy_starts_from_natural_shares():
    prior = pd.Series([1, 4, 1, 1, 2, 1], index=NAMES)
    coarse = top_down(prior=prior).scored.mixtures.filter(like="groups/", axis=0)
    assert np.allclose(coarse["books"], 4 * coarse["news"]) and np.allclose(coarse["proofs"], 2 * coarse["word"])


def test_bounds_on_candidates_bind_every_stage_of_a_hierarchy():
    region = Region(NAMES, lower={"drill": 0.1, "news": 0.05}, upper={"word": 0.1, "books": 0.15, "python": 0.3})
    found = top_down(region)
    assert region.holds(found.scored.mixtures).all() and excess(found.winner, region) < 1 / 3


def test_groups_that_are_filled_first_are_one_expert_each_afterwards():
    found = run("mergemix, bottom-up", flat=FLAT)
    inner, coarse = (found.scored.mixtures.filter(like=f"{stage}/", axis=0) for stage in ("sums", "groups"))
    assert found.rounds.max() == 6 and list(found.rounds[inner.index].unique()) == [3, 4]
    assert np.allclose(inner[["news", "books", "python"]], [1 / 6, 1 / 6, 1 / 3]), "the others stand evenly beside it"
    ratio = coarse["word"] / coarse[GROUPS["sums"]].sum(axis=1)
    assert np.ptp(ratio) < 1e-9 and abs(ratio.iloc[0] - 0.6) < 0.1, "of the sums, words are six tenths in the optimum"
    assert excess(found.winner) < 0.1


def test_groups_are_checked():
    with pytest.raises(Refusal, match="'news' is in two groups"):
        top_down(groups=GROUPS | {"more": ["news"]})
    with pytest.raises(Refusal, match="nothing to search"):
        top_down(groups={"all": ["news"]})
    with pytest.raises(Refusal, match="'python' is not both a candidate and in a group"):
        top_down(groups={name: members for name, members in GROUPS.items() if name != "code"})


def test_the_first_round_is_drawn_as_it_is_told(rng):
    """Of many candidates a uniform sample hugs the centre; another design reaches further, and the search goes on."""
    names = [f"c{number}" for number in range(40)]
    region, asked = Region(names), {}
    for design in ("uniform", "dirichlet"):
        steps = search.demix(region, None, TASKS, rng=np.random.default_rng(3), sizes=[6], design=design)
        asked[design] = next(steps)
    pd.testing.assert_frame_equal(asked["uniform"], region.draw(6, rng=np.random.default_rng(3), prefix="r1-"))
    assert asked["dirichlet"].max(axis=1).mean() > 2 * asked["uniform"].max(axis=1).mean()
