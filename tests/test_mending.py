"""Mending finds planted power and scale; fusing repairs a planted error and leaves a perfect proxy alone."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb import store
from demix_nb.mending import MIXED_ERRS, Blended, Fused, apart, bracket, mend, out_of_fold
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

RESULTS = REPOSITORY / "data" / "results"
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


# --- between two proxies, and what both say together


def low(mixtures):
    """A proxy that is always below the truth by a third of what `plain` is above it."""
    found = plain(mixtures)
    return scored(mixtures, found.scores - 0.4 * mixtures[NAMES].sum(axis=1).to_numpy()[:, None] * GAP)


GAP = np.array([1.0, 0.5, 2.0])


def between(mixtures):
    return scored(mixtures, plain(mixtures).scores - 0.3 * GAP)


def test_a_planted_share_is_found_and_scores_lie_between(mixtures, rng):
    found = Blended(plain, low).fit(between(mixtures))
    assert found.share == pytest.approx(0.25)
    fresh = Region(NAMES).draw(20, rng=rng)
    assert np.allclose(found(fresh).scores, between(fresh).scores) and set(found(fresh).tasks["kind"]) == {"blended"}
    beyond = scored(mixtures, plain(mixtures).scores + 1.0)
    assert Blended(plain, low).fit(beyond).share == 1.0, "no share is above 1"
    with pytest.raises(Refusal, match="3 references cannot blend two proxies"):
        Blended(plain, low).fit(between(mixtures.iloc[:3]))


def test_out_of_fold_nobody_is_judged_by_what_he_was_fitted_to(mixtures, rng):
    seen = []

    def fit(references):
        seen.append(set(references.names))
        return Fused(plain).fit(references)

    found = out_of_fold(fit, between(mixtures), rng=rng)
    assert found.names == list(mixtures.index) and len(seen) == 5
    assert set.intersection(*seen) == set() and all(18 <= len(names) <= 20 for names in seen)
    noise = scored(mixtures, rng.standard_normal((24, 3)))
    inside = Fused(plain).fit(noise)(mixtures).scores - noise.scores
    outside = out_of_fold(lambda own: Fused(plain).fit(own), noise, rng=rng).scores - noise.scores
    assert (outside**2).mean().mean() > (inside**2).mean().mean()


def test_the_bracket_counts_what_is_planted(mixtures, rng):
    found = bracket(plain(mixtures), low(mixtures), between(mixtures))
    assert found["mixed below"] == found["merged above"] == found["enclosed"] == 1
    assert found["error merged"] == pytest.approx(0.3 * GAP.mean())
    assert found["error mixed"] == pytest.approx(0.1 * GAP.mean())
    assert found["distance"] == pytest.approx(0.4 * GAP.mean())
    none = bracket(low(mixtures), plain(mixtures), between(mixtures))
    assert none["mixed below"] == none["merged above"] == none["enclosed"] == 0
    size = mixtures["general"].to_numpy()[:, None]
    truth = plain(mixtures)
    merged, mixed = (scored(mixtures, truth.scores + sign * size) for sign in (1, -0.5))
    assert bracket(merged, mixed, truth)["told"] == pytest.approx(1.0), "the distance ranks the errors"


def test_without_references_the_distance_encloses_the_merges_error(mixtures, rng):
    truth = plain(mixtures)
    spread = truth.scores.std().to_numpy()
    for size in (0.1, 1.0, 3.0):
        noise = rng.uniform(-1, 1, (2, *truth.scores.shape))
        mixed = scored(mixtures, truth.scores + MIXED_ERRS * noise[0] * spread)
        merged = scored(mixtures, truth.scores + size * (1 + noise[1] / 2) * spread)
        told = apart(merged, mixed).set_axis(truth.scores.columns)
        errs = (merged.scores - truth.scores).abs().mean() / mixed.scores.std()
        assert (errs.between(told["low"], told["high"])).all()
        assert (told["verdict"] == ("take either" if size < 1 else "mix, or train references")).all()


def test_the_distance_of_both_is_what_the_formula_says(rng):
    """log Σαp − log p(mean) = ½ Σ α (τ−τ̄)ᵀ(∇²p/p)(τ−τ̄) to second order: softmax of three logits, by differences."""

    def p(logits):
        return np.exp(logits[1]) / np.exp(logits).sum()

    base, alpha = rng.standard_normal(3), rng.dirichlet(np.ones(4))
    updates = 1e-2 * rng.standard_normal((4, 3))
    mean = alpha @ updates
    gap = np.log(alpha @ [p(base + one) for one in updates]) - np.log(p(base + mean))
    h, eye = 1e-4, np.eye(3)
    curved = np.array([[(p(base + h * (a + b)) - p(base + h * (a - b)) - p(base + h * (b - a)) + p(base - h * (a + b)))
                        / (4 * h * h) for a in eye] for b in eye]) / p(base)  # fmt: skip
    second = 0.5 * sum(w * (t - mean) @ curved @ (t - mean) for w, t in zip(alpha, updates, strict=True))
    assert gap == pytest.approx(second, rel=0.05)


def test_what_mixing_errs_by_is_what_committed_tables_say():
    """In spreads between mixtures, on every suite of every regime, and of the runs that are committed."""
    rows = store.read(RESULTS / "regimes.csv", "regimes").reset_index().query("proxy == 'bracket'")
    cells = rows.pivot_table(
        index=["regime", "base", "share", "suite"], columns="measure", values="value", observed=True
    )
    errors = {"regimes": (cells["error mixed"] / cells["spread"]).max()}
    for profile, kind in {"laptop": "mixed", "real": "mixed", "study": "kind_mixed"}.items():
        tables = (store.read(RESULTS / profile / f"{name}_scores.csv", "scores") for name in (kind, "reference"))
        mixed, true = (table.dropna(axis=1) for table in tables)
        tasks = store.read(RESULTS / profile / "tasks.csv", "tasks").reindex([name for name in mixed if name in true])
        for suite, names in tasks.groupby("suite", observed=True).groups.items():
            errors[profile, suite] = (mixed - true)[names].abs().mean().mean() / true[names].std().mean()
    assert len(errors) >= 5 and MIXED_ERRS - 0.05 < max(errors.values()) <= MIXED_ERRS, errors
