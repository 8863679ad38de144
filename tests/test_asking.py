"""What to score next: half of the runs that chance needs, no two alike, and an end where a seed says as much."""

import numpy as np
from planted import BOUNDED, FREE, NAMES, TASKS, excess, losses, predictor

from demix_nb import asking
from demix_nb.decide import best
from demix_nb.scored import Scored

QUICK = {"pool": 800, "top_k": 8}


def noisy(mixtures, rng, noise=0.02):
    return Scored(mixtures, losses(mixtures) + noise * rng.standard_normal((len(mixtures), 3)), TASKS)


def driven(seed, *, runs, region=FREE, **more):
    """The excess of what is predicted best in the end, the batches, and the answer."""
    rng, learnt, tables = np.random.default_rng(seed), predictor(), []
    search = asking.improve(region, learnt, TASKS, rng=rng, sizes=(4,) * (runs // 4), **QUICK | more)
    asked, seen = next(search), Scored.none(TASKS)
    try:
        while True:
            tables.append(asked)
            found = noisy(asked, np.random.default_rng([seed, len(seen)]))
            seen += found
            asked = search.send(found)
    except StopIteration as end:
        return excess(chosen(seen, region), region), tables, end.value


def chosen(seen, region=FREE):
    return best(predictor().fit(seen), region.draw(2000, rng=np.random.default_rng(1)), 1).iloc[0]


def by_chance(seed, runs):
    rng = np.random.default_rng([seed, 9])
    return excess(chosen(noisy(FREE.draw(runs, rng=rng), rng)))


def test_it_needs_fewer_runs_than_chance_for_the_same_regret():
    """By the mean over seeds: what 60 random runs reach, at most 40 chosen ones do."""
    chance = np.mean([by_chance(seed, 60) for seed in range(4)])
    asked = np.mean([driven(seed, runs=40)[0] for seed in range(4)])
    assert asked < chance


def test_a_batch_asks_no_question_twice_and_stays_in_the_region():
    _, tables, answer = driven(0, runs=40, region=BOUNDED)
    for table in tables:
        assert BOUNDED.holds(table).all() and len(table) == 4
        gaps = np.abs(table.to_numpy()[:, None] - table.to_numpy()).sum(axis=-1) / 2
        assert (gaps[~np.eye(4, dtype=bool)] > 0.01).all()
    assert BOUNDED.holds(answer.to_frame("it").T).all()


def test_enough_is_less_than_one_run_shows():
    assert asking.enough(1.9, 1.0) and not asking.enough(2.1, 1.0)
    assert not asking.enough(0.0, np.nan) and not asking.enough(np.inf, 1.0)


def test_it_ends_where_a_batch_may_gain_less_than_a_seed_changes():
    many, few = (len(driven(1, runs=80, noise=noise)[1]) for noise in (0.0, 0.2))
    assert few < many == 20
    assert len(driven(1, runs=80, noise=50.0)[1]) == asking.KNOWN * len(NAMES) // 4, "what is spread out is asked for"


def test_a_batch_may_gain_what_its_first_may_and_more(rng):
    seen, pool = noisy(FREE.draw(40, rng=rng), rng), FREE.draw(800, rng=rng)
    learnt = predictor().fit(seen)
    many, gain = asking.batch(learnt, pool, seen, 5, rng=np.random.default_rng(0))
    one, less = asking.batch(learnt, pool, seen, 1, rng=np.random.default_rng(0))
    assert gain > less > 0 and list(many.index[:1]) == list(one.index)


def test_what_is_waiting_is_not_asked_for_again(rng):
    seen = noisy(FREE.draw(40, rng=rng), rng)
    pool, learnt = FREE.draw(800, rng=rng, prefix="p"), predictor()
    first, gain = asking.ask(learnt, pool, seen, 4, rng=np.random.default_rng(0))
    again, less = asking.ask(learnt, pool, seen, 4, rng=np.random.default_rng(0), waiting=first)
    assert np.isfinite(gain) and less < gain
    gaps = np.abs(again.to_numpy()[:, None] - first.to_numpy()).sum(axis=-1) / 2
    assert (gaps > 0.01).all()
    few = noisy(FREE.draw(3, rng=rng, prefix="q"), rng)
    spread, unknown = asking.ask(learnt, pool, few, 4, rng=rng, waiting=first)
    assert unknown == np.inf and not set(spread.index) & set(first.index)
