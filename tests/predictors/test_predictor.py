"""Every row of the table keeps the same promises on landscapes that are known; nothing is learnt from nothing."""

import subprocess
import sys
import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demix_nb.intervals import spearman
from demix_nb.predictors import PREDICTORS, Predictor, out_of_fold
from demix_nb.predictors.predictor import Row
from demix_nb.scored import Scored, dealt, describe
from demix_nb.store import Refusal

CANDIDATES = ["web", "books", "math", "code"]
TARGET = np.array([0.4, 0.1, 0.3, 0.2])  # the mixture that the curved landscape rewards most
CORNERED = ("ridge", "mixing_law", "log_linear")  # can only place the optimum at a corner


def simplex(rng, n: int, prefix: str = "m") -> pd.DataFrame:
    return pd.DataFrame(rng.dirichlet(np.ones(4), n), [f"{prefix}{i}" for i in range(n)], CANDIDATES)


def curved(mixtures: pd.DataFrame) -> pd.Series:
    """2.5 plus squared Hellinger distance to TARGET: a bowl inside the simplex, lower is better."""
    return 2.5 + ((np.sqrt(mixtures) - np.sqrt(TARGET)) ** 2).sum(axis=1)


def tilted(mixtures: pd.DataFrame) -> pd.Series:
    """1 + exp(t·α): a slope with its lowest point at the corner 'math'."""
    return 1 + np.exp(mixtures @ [0.5, 0.2, -1.5, -0.3])


def losses(mixtures: pd.DataFrame, **columns: pd.Series) -> Scored:
    """Mixtures with these scores, lower is better."""
    return Scored(mixtures, pd.DataFrame(columns), describe(columns, unit="nats", higher_is_better=False))


def planted(mixtures: pd.DataFrame) -> Scored:
    return losses(mixtures, curved=curved(mixtures), tilted=tilted(mixtures))


@pytest.fixture
def seen(rng) -> Scored:
    return planted(simplex(rng, 60))


@pytest.fixture
def unseen(rng) -> Scored:
    return planted(simplex(np.random.default_rng(7), 300, "u"))


every = pytest.mark.parametrize("name", PREDICTORS)


@every
def test_a_planted_landscape_is_learnt_far_better_than_by_its_mean(name, seen, rng):
    if PREDICTORS[name].least == 40:  # 20 rows per leaf cannot draw a bowl from 60
        seen = planted(simplex(rng, 200))
    pool = planted(simplex(rng, 4000, "p"))
    predicted = PREDICTORS[name].new(rng=rng).fit(seen).predict(pool.mixtures)
    for task in ["tilted"] if name in CORNERED else ["curved", "tilted"]:
        guess, truth = predicted.scores[task], pool.scores[task]
        mean = ((truth - seen.scores[task].mean()) ** 2).mean()  # the score of always predicting the mean
        assert ((guess - truth) ** 2).mean() < 0.25 * mean, f"{name} on {task}, the mean has {mean:.4f}"
        rank = truth.rank(pct=True)[guess.nsmallest(20).index].mean()
        assert rank < 0.08, f"the 20 best predicted on {task} are truly at {rank:.0%}"


@every
def test_shuffled_scores_teach_nothing(name, seen, unseen, rng):
    """A plane through noise leans somewhere, so one deal proves little: the mean over many has no direction."""
    deals = {f"deal {i}": dealt(seen, rng=rng).scores["curved"] for i in range(12)}
    predicted = PREDICTORS[name].new(rng=rng).fit(losses(seen.mixtures, **deals)).predict(unseen.mixtures).scores
    truth = unseen.scores["curved"].to_numpy()
    nothing = spearman(predicted.to_numpy().T, np.tile(truth, (len(deals), 1))).mean()
    learnt = PREDICTORS[name].new(rng=rng).fit(seen).predict(unseen.mixtures).scores["curved"]
    assert abs(nothing) < 0.3 < spearman(learnt.to_numpy(), truth)


@every
def test_candidates_go_by_name(name, seen):
    names = dict(zip(CANDIDATES, ["w", "b", "m", "c"], strict=True))
    plain = PREDICTORS[name].new(rng=np.random.default_rng(1)).fit(seen).predict(seen.mixtures).scores
    other = replace(seen, mixtures=seen.mixtures.rename(columns=names))
    fitted = PREDICTORS[name].new(rng=np.random.default_rng(1)).fit(other)
    turned = other.mixtures.sample(frac=1, random_state=1)[["c", "m", "b", "w"]]
    pd.testing.assert_frame_equal(fitted.predict(turned).scores.loc[seen.names], plain)
    with pytest.raises(Refusal, match="unknown candidate 'web'"):
        fitted.predict(seen.mixtures)


@every
def test_runs_may_come_in_any_order_of_columns(name, seen, unseen):
    """Fitted to candidates in another order it says much the same: trees and starts break ties by position."""
    turned = replace(seen, mixtures=seen.mixtures[CANDIDATES[::-1]])
    one, two = (
        PREDICTORS[name].new(rng=np.random.default_rng(1)).fit(runs).predict(unseen.mixtures) for runs in (seen, turned)
    )
    gap = ((one.scores - two.scores) ** 2).mean()
    assert (gap < 0.05 * unseen.scores.var()).all()


@every
def test_too_few_runs_are_refused_with_the_remedy(name, seen, rng):
    row = PREDICTORS[name]
    least = row.needs(4)
    with pytest.raises(Refusal, match=rf"{least} runs, not {least - 1}; score more mixtures") as caught:
        row.new(rng=rng).fit(seen.take(range(least - 1)))
    assert row.label in str(caught.value)
    able = [other for other, facts in PREDICTORS.items() if facts.needs(4) < least]
    assert ("or take" in str(caught.value)) == bool(able)
    some = seen.take(range(least + 5))  # five more: with just so many, trees need luck to find their one split
    assert len(PREDICTORS[name].new(rng=rng).fit(some).predict(seen.mixtures)) == 60


@every
def test_the_row_says_who_knows_a_spread(name, seen, rng):
    fitted = PREDICTORS[name].new(rng=rng).fit(seen)
    if PREDICTORS[name].spread:
        spread = fitted.spread(seen.mixtures)
        assert (spread > 0).all(axis=None) and list(spread) == list(seen.scores) and list(spread.index) == seen.names
    else:
        assert not any(hasattr(one, "spread") for one in fitted.regressors.values())
        with pytest.raises(Refusal, match="no spread; take 'lightgbm_bagged' or 'gaussian_process' or 'stack'"):
            fitted.spread(seen.mixtures)


@every
def test_one_and_two_workers_agree_bit_for_bit(name, seen):
    one, two = (
        PREDICTORS[name].new(rng=np.random.default_rng(3), n_jobs=n).fit(seen).predict(seen.mixtures) for n in (1, 2)
    )
    pd.testing.assert_frame_equal(one.scores, two.scores, check_exact=True)


@every
def test_fitting_twice_gives_the_same_twice(name, seen):
    predictor = PREDICTORS[name].new(rng=np.random.default_rng(3))
    one, two = (predictor.fit(seen).predict(seen.mixtures) for _ in range(2))
    pd.testing.assert_frame_equal(one.scores, two.scores, check_exact=True)


@every
def test_only_random_rows_depend_on_the_generator(name, rng):
    mixtures = simplex(rng, 45)
    noise = rng.normal(0, 0.6, 45)  # so much of it that ridge's penalty wavers
    noisy = losses(mixtures, loss=4 + mixtures["web"] + noise)
    found = {PREDICTORS[name].new(rng=np.random.default_rng(seed)).fit(noisy).predict(mixtures[:3]).scores.to_csv()
             for seed in range(8)}  # fmt: skip
    assert (len(found) > 1) == PREDICTORS[name].random


def test_rows_can_be_told_apart():
    assert list(PREDICTORS) == ["ridge", "lightgbm_regmix", "lightgbm_demix", "lightgbm_bagged", "gaussian_process",
                                "mixing_law", "log_linear", "stack"]  # fmt: skip
    for fact in ("label", "dash"):
        assert len({getattr(row, fact) for row in PREDICTORS.values()}) == len(PREDICTORS)
    assert all(row.paper for row in PREDICTORS.values())
    assert [PREDICTORS["stack"].needs(k) for k in (4, 7, 17)] == [10, 10, 10]
    assert [PREDICTORS["log_linear"].needs(k) for k in (4, 7, 17)] == [6, 9, 19]
    assert [PREDICTORS["log_linear"].trusted(k) for k in (4, 7, 17)] == [24, 36, 76]


@every
def test_what_cannot_be_learnt_from_is_refused(name, seen, rng):
    predictor = PREDICTORS[name].new(rng=rng)
    with pytest.raises(Refusal, match="'flat': the score is constant"):
        predictor.fit(losses(seen.mixtures, flat=seen.scores["curved"] * 0 + 1))
    with pytest.raises(Refusal, match="'m7' on 'curved' is not a finite"):
        predictor.fit(losses(seen.mixtures, curved=seen.scores["curved"].where(seen.scores.index != "m7", np.inf)))
    with pytest.raises(Refusal, match="'m0' sums to 2"):
        predictor.fit(replace(seen, mixtures=2 * seen.mixtures))
    with pytest.raises(Refusal, match="comes after fit"):
        predictor.predict(seen.mixtures)


def test_a_prediction_is_scored_like_what_was_seen(seen, unseen, rng):
    seen = replace(seen, tasks=seen.tasks.assign(family="one", higher_is_better=[True, False]))
    predicted = PREDICTORS["ridge"].new(rng=rng).fit(seen).predict(unseen.mixtures)
    pd.testing.assert_frame_equal(predicted.tasks, seen.tasks)
    pd.testing.assert_frame_equal(predicted.mixtures, unseen.mixtures, check_names=False)


def test_laws_refuse_what_they_cannot_represent(seen, rng):
    with pytest.raises(Refusal, match="take 'mixing_law'"):
        PREDICTORS["log_linear"].new(rng=rng).fit(replace(seen, scores=seen.scores - 3))


def test_trees_without_a_split_are_refused(rng):
    corners = pd.DataFrame(np.eye(4)[[0] * 21 + [1] * 3], [f"m{i}" for i in range(24)], CANDIDATES)
    twice = pd.concat([corners, corners.set_axis([f"n{i}" for i in range(24)])])  # 42 and 6 rows: no leaf of 20 each
    with pytest.raises(Refusal, match="found no split in 48 rows"):
        PREDICTORS["lightgbm_demix"].new(rng=rng).fit(losses(twice, loss=twice["web"]))


def test_a_large_pool_needs_no_large_memory(rng):
    mixtures, pool = simplex(rng, 200), simplex(rng, 50_000, "p")
    predictor = PREDICTORS["gaussian_process"].new(rng=rng).fit(losses(mixtures, bowl=curved(mixtures)))
    tracemalloc.start()
    whole = predictor.predict(pool).scores
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80e6  # bytes; the whole kernel alone would take 80 MB, three times over
    pd.testing.assert_frame_equal(whole.iloc[8000:8400], predictor.predict(pool.iloc[8000:8400]).scores)


class Memory:
    """Knows by heart what it saw and returns 0 for the rest: the worst that a leak could meet."""

    def fit(self, x, y):
        self.seen = {tuple(row): score for row, score in zip(x.round(6), y, strict=True)}
        return self

    def predict(self, x):
        return np.array([self.seen.get(tuple(row), 0.0) for row in x.round(6)])


def test_out_of_fold_never_predicts_a_mixture_it_saw(rng):
    mixtures = pd.concat([simplex(rng, 15, "a")] * 2).set_axis([f"m{i}" for i in range(30)])  # each under two names
    seen, memory = losses(mixtures, bowl=curved(mixtures) - 2.5), Predictor(Row(Memory, "memory", "-", ""), rng=rng)
    assert (memory.fit(seen).predict(mixtures).scores == seen.scores).all(axis=None)
    held_out = out_of_fold(memory, seen, rng=rng)
    assert (held_out.scores["bowl"] == 0).all() and held_out.names == seen.names
    with pytest.raises(Refusal, match="15 distinct mixtures cannot fill 16 folds"):
        out_of_fold(memory, seen, folds=16, rng=rng)


def test_who_wants_a_surface_waits_for_no_trees():
    """The predictors' face and a fitted Gaussian process import none of what takes seconds."""
    fit = """
import sys, numpy as np, pandas as pd
from demix_nb.predictors import PREDICTORS
from demix_nb.scored import Scored, describe
x = pd.DataFrame(np.random.default_rng(0).dirichlet([1, 1], 9), columns=["a", "b"])
seen = Scored(x, x[["a"]], describe(["a"], unit="", higher_is_better=True))
PREDICTORS["gaussian_process"].new(rng=np.random.default_rng(0)).fit(seen).spread(x)
print([name for name in ("lightgbm", "matplotlib", "scipy.stats", "sklearn", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", fit], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stdout + done.stderr


# --- few runs of many candidates


def swarm(seed: int, n: int, candidates: int) -> Scored:
    """Runs of two or three candidates each, scored by few of these, with noise."""
    rng, names = np.random.default_rng(seed), [f"c{i}" for i in range(candidates)]
    x = np.zeros((n, candidates))
    for row in x:
        some = rng.choice(candidates, rng.integers(2, 4), replace=False)
        row[some] = rng.dirichlet(np.ones(len(some)))
    mixtures = pd.DataFrame(x, [f"m{i}" for i in range(n)], names)
    clear = 3 + np.exp(-np.sqrt(x[:, :6]).sum(axis=1)) + rng.normal(0, 0.02, n)
    return losses(mixtures, clear=pd.Series(clear, mixtures.index), noise=pd.Series(rng.normal(size=n), mixtures.index))


@every
@pytest.mark.parametrize(("candidates", "runs"), [(24, 24), (24, 64), (64, 64)])
def test_on_sparse_runs_nothing_is_off_by_two_variances_or_it_is_refused(name, candidates, runs):
    for seed in range(3):
        seen = swarm(seed, runs + 100, candidates)
        try:
            fitted = PREDICTORS[name].new(rng=np.random.default_rng(seed)).fit(seen.take(range(runs)))
        except Refusal as refusal:
            assert "score more mixtures" in str(refusal)
            continue
        new = seen.take(range(runs, runs + 100))
        predicted = fitted.predict(new.mixtures).scores
        error = ((predicted - new.scores[list(predicted)]) ** 2).mean() / seen.scores[list(predicted)].var()
        assert (error < 2).all(), error.to_dict()


def test_few_runs_must_beat_their_mean_out_of_fold(rng):
    seen = swarm(0, 40, 24)
    fitted = PREDICTORS["ridge"].new(rng=rng).fit(seen)
    assert "40 runs of 24 candidates are predicted out of fold no better than by their mean" in fitted.refused["noise"]
    many = swarm(0, 60, 24)
    assert not PREDICTORS["ridge"].new(rng=rng).fit(many).refused, "so many runs are believed"


def test_no_prediction_lies_farther_out_than_a_range_of_what_was_seen(seen, rng):
    class Wild:
        def fit(self, x, y):
            return self

        def predict(self, x):
            return np.where(x[:, 0] > x[:, 1], 1e9, -1e9)

    fitted = Predictor(Row(Wild, "wild", "-", "", proven=0), rng=rng).fit(seen)
    found, there = fitted.predict(seen.mixtures).scores["curved"], seen.scores["curved"]
    assert set(found) == {2 * there.max() - there.min(), 2 * there.min() - there.max()}
