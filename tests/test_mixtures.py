"""Mixtures stay on the simplex, caps are met exactly, and nothing malformed gets in."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize

from demix_nb import mixtures
from demix_nb.mixtures import MixtureError

NAMES = ["general", "math", "code"]


def table(*rows, columns=NAMES):
    return pd.DataFrame(rows, index=[f"m{i}" for i in range(len(rows))], columns=columns)


def test_samples_lie_on_the_simplex_and_repeat_with_the_seed(rng):
    first, again, other = (mixtures.sample_uniform(NAMES, 50, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first, other)
    pd.testing.assert_frame_equal(mixtures.validate(first, NAMES), first, check_names=False)


def test_uniform_sampling_is_uniform(rng):
    sample = mixtures.sample_uniform(NAMES, 20_000, rng=rng)
    # on a uniform simplex of 3 corners P(share > t) = (1 - t)^2
    for threshold in (0.2, 0.5, 0.8):
        assert (sample["math"] > threshold).mean() == pytest.approx((1 - threshold) ** 2, abs=0.015)


def test_dirichlet_centres_on_its_prior_and_is_sparse(rng):
    prior = pd.Series({"general": 0.6, "math": 0.3, "code": 0.1})
    sample = mixtures.sample_dirichlet(prior, 4000, rng=rng)
    assert np.allclose(sample.mean(), prior, atol=0.03)
    assert not ((sample > 0) & (sample < mixtures.SPARSE_BELOW)).any(axis=None)


def test_dirichlet_meets_its_caps(rng):
    prior = pd.Series({"general": 0.6, "math": 0.3, "code": 0.1})
    upper = (4 * prior).clip(upper=0.7)
    sample = mixtures.sample_dirichlet(prior, 500, rng=rng, upper=upper)
    assert (sample <= upper + 1e-9).all(axis=None)


@pytest.mark.parametrize(
    "row, message",
    [
        ([0.5, 0.6, 0.2], "'m1' sums to 1.3"),
        ([0.5, -0.1, 0.6], "'m1' has weight -0.1 for 'math'"),
        ([np.nan, 0.5, 0.5], "'m1' has weight nan for 'general'"),
    ],
)
def test_rows_off_the_simplex_are_refused_by_name(row, message):
    with pytest.raises(MixtureError, match=message):
        mixtures.validate(table([0.2, 0.3, 0.5], row))


def test_names_are_checked():
    with pytest.raises(MixtureError, match="unknown candidate 'code'"):
        mixtures.validate(table([0.2, 0.3, 0.5]), ["general", "math"])
    with pytest.raises(MixtureError, match="no weight for candidate 'law'"):
        mixtures.validate(table([0.2, 0.3, 0.5]), [*NAMES, "law"])
    with pytest.raises(MixtureError, match="mixture 'm0' appears twice"):
        mixtures.validate(pd.concat([table([0.2, 0.3, 0.5])] * 2))
    with pytest.raises(MixtureError, match="empty"):
        mixtures.validate(table())


def test_projection_leaves_feasible_mixtures_alone(rng):
    sample = mixtures.sample_uniform(NAMES, 100, rng=rng)
    assert np.allclose(mixtures.project(sample, 0.0, 1.0), sample, atol=1e-12)


def test_projection_agrees_with_a_general_solver(rng):
    upper, lower = np.array([0.5, 0.3, 0.6]), np.array([0.1, 0.0, 0.05])
    for p in rng.dirichlet(np.ones(3), size=8):
        ours = mixtures.project(table(p), pd.Series(lower, NAMES), pd.Series(upper, NAMES)).to_numpy()[0]
        theirs = minimize(
            lambda x, p=p: np.sum(x * np.log(np.maximum(x, 1e-12) / p)),
            np.clip(p, lower, upper),
            bounds=list(zip(lower, upper, strict=True)),
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            options={"ftol": 1e-12, "maxiter": 500},
        ).x
        assert ours.sum() == pytest.approx(1, abs=1e-12)
        assert np.allclose(ours, theirs, atol=2e-4)


def test_impossible_bounds_are_named():
    row = table([0.2, 0.3, 0.5])
    with pytest.raises(MixtureError, match=r"at most 0.9 < 1"):
        mixtures.project(row, upper=0.3)
    with pytest.raises(MixtureError, match=r"lower bounds sum to 1.2"):
        mixtures.project(row, lower=0.4)
    with pytest.raises(MixtureError, match=r"'math' has lower bound 0.5 above its upper bound 0.1"):
        mixtures.project(row, lower=pd.Series({"math": 0.5}), upper=pd.Series({"math": 0.1}))
    with pytest.raises(MixtureError, match="unknown candidate 'maths'"):
        mixtures.project(row, upper=pd.Series({"maths": 0.1}))
    with pytest.raises(MixtureError, match=r"at most 0.5 < 1"):
        mixtures.project(table([0.5, 0.5, 0.0]), upper=pd.Series({"general": 0.25, "math": 0.25}))


def test_recipe_dilutes_with_general():
    alpha = pd.Series({"general": 0.2, "math": 0.8, "code": 0.0})
    recipe = mixtures.recipe(alpha, "general", 0.5)
    assert recipe.to_dict() == pytest.approx({"general": 0.6, "math": 0.4, "code": 0.0})
    pd.testing.assert_series_equal(mixtures.recipe(alpha, "general", 1.0), alpha, check_names=False)
    with pytest.raises(MixtureError, match=r"beta is 1.5"):
        mixtures.recipe(alpha, "general", 1.5)
    with pytest.raises(MixtureError, match="unknown candidate 'law'"):
        mixtures.recipe(alpha, "law", 0.5)


def test_natural_and_caps():
    tokens = pd.Series({"general": 600, "math": 300, "code": 100})
    assert mixtures.natural(tokens).to_dict() == pytest.approx({"general": 0.6, "math": 0.3, "code": 0.1})
    assert mixtures.caps(tokens, 500, 1).to_dict() == pytest.approx({"general": 1.0, "math": 0.6, "code": 0.2})
    with pytest.raises(MixtureError, match="'code' has 0 tokens"):
        mixtures.natural(tokens.where(tokens > 100, 0))
    with pytest.raises(MixtureError, match="must be positive"):
        mixtures.caps(tokens, 0, 1)


def test_temperature_runs_from_uniform_to_natural():
    tokens = pd.Series({"general": 900, "math": 400, "code": 100})
    pd.testing.assert_series_equal(mixtures.temperature(tokens, 1.0), mixtures.natural(tokens))
    pd.testing.assert_series_equal(mixtures.temperature(tokens, 0.0), mixtures.uniform(NAMES))
    assert mixtures.temperature(tokens, 0.5).to_dict() == pytest.approx(
        {"general": 3 / 6, "math": 2 / 6, "code": 1 / 6}
    )


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
        ours = mixtures.unimax(tokens, target, epochs)
        assert np.allclose(ours, water_filling(tokens, target, epochs), atol=1e-9)
    with pytest.raises(MixtureError, match=r"at most 0.5 < 1"):
        mixtures.unimax(tokens, 2 * epochs * tokens.sum(), epochs)


@pytest.mark.parametrize("suffix", ["csv", "yaml", "json"])
def test_reading_normalises_counts_and_says_so(tmp_path, suffix):
    path = tmp_path / f"mix.{suffix}"
    entries = {"a": {"general": 0.2, "math": 0.3, "code": 0.5}, "b": {"general": 100, "math": 300, "code": 0}}
    if suffix == "csv":
        pd.DataFrame(entries).T.to_csv(path)
    else:
        path.write_text(json.dumps(entries))
    read, notes = mixtures.read(path, NAMES)
    assert read.loc["b"].to_list() == pytest.approx([0.25, 0.75, 0])
    assert len(notes) == 1 and notes[0].startswith("b: weights summed to 400")


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"a": {"general": 1, "law": 1}}, "entry 'a' names unknown candidate 'law'"),
        ({"a": {"general": -1, "math": 2}}, "entry 'a' has weight -1 for 'general'"),
        ({"a": {"general": None}}, "entry 'a' has weight None"),
        ({"a": {"general": "much"}}, "entry 'a' has weight 'much'"),
        ({"a": {"general": 0, "math": 0}}, "entry 'a' is all zero"),
        ({"a": {}}, "entry 'a' is empty"),
        ({"a": {"general": 1}, "b": 3}, "entry 'b' is not a mapping"),
        ({}, "is empty"),
    ],
)
def test_reading_names_the_broken_entry(tmp_path, entries, message):
    path = tmp_path / "mix.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(MixtureError, match=message):
        mixtures.read(path, NAMES)


def test_released_reference_mixtures_are_read(shared):
    read, notes = mixtures.read(shared / "demix" / "sampled_mixture.json")
    assert read.shape == (17, 7)
    assert any(note.startswith("mix_0: weights summed to 2933") for note in notes)
