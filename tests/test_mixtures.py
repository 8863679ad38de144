"""Mixtures stay on the simplex, and nothing malformed gets in."""

import json

import numpy as np
import pandas as pd
import pytest

from demix_nb import mixtures, reading
from demix_nb.store import Refusal

NAMES = ["general", "math", "code"]


def table(*rows, columns=NAMES):
    return pd.DataFrame(rows, index=[f"m{i}" for i in range(len(rows))], columns=columns)


@pytest.mark.parametrize(
    "row, message",
    [
        ([0.5, 0.6, 0.2], "'m1' sums to 1.3"),
        ([0.5, -0.1, 0.6], "'m1' has weight -0.1 for 'math'"),
        ([np.nan, 0.5, 0.5], "'m1' has weight nan for 'general'"),
    ],
)
def test_rows_off_the_simplex_are_refused_by_name(row, message):
    with pytest.raises(Refusal, match=message):
        mixtures.validate(table([0.2, 0.3, 0.5], row))


def test_names_are_checked():
    with pytest.raises(Refusal, match="unknown candidate 'code'"):
        mixtures.validate(table([0.2, 0.3, 0.5]), ["general", "math"])
    with pytest.raises(Refusal, match="no weight for candidate 'law'"):
        mixtures.validate(table([0.2, 0.3, 0.5]), [*NAMES, "law"])
    with pytest.raises(Refusal, match="mixture 'm0' appears twice"):
        mixtures.validate(pd.concat([table([0.2, 0.3, 0.5])] * 2))
    with pytest.raises(Refusal, match="empty"):
        mixtures.validate(table())


def test_recipe_dilutes_with_general():
    alpha = pd.Series({"general": 0.2, "math": 0.8, "code": 0.0})
    recipe = mixtures.recipe(alpha, "general", 0.5)
    assert recipe.to_dict() == pytest.approx({"general": 0.6, "math": 0.4, "code": 0.0})
    pd.testing.assert_series_equal(mixtures.recipe(alpha, "general", 1.0), alpha, check_names=False)
    with pytest.raises(Refusal, match=r"beta is 1.5"):
        mixtures.recipe(alpha, "general", 1.5)
    with pytest.raises(Refusal, match="unknown candidate 'law'"):
        mixtures.recipe(alpha, "law", 0.5)


def test_natural_shares_follow_the_tokens():
    tokens = pd.Series({"general": 600, "math": 300, "code": 100})
    assert mixtures.natural(tokens).to_dict() == pytest.approx({"general": 0.6, "math": 0.3, "code": 0.1})
    with pytest.raises(Refusal, match="'code' has 0 tokens"):
        mixtures.natural(tokens.where(tokens > 100, 0))


def test_the_mean_of_the_corners_is_uniform():
    corners = mixtures.as_table({name: mixtures.one_hot(NAMES, name) for name in NAMES})
    assert (corners.to_numpy() == np.eye(3)).all() and corners.index.name == "mixture"
    pd.testing.assert_series_equal(mixtures.average(corners), mixtures.uniform(NAMES))
    with pytest.raises(Refusal, match=r"'m1' sums to 1.3"):
        mixtures.average(table([0.2, 0.3, 0.5], [0.5, 0.6, 0.2]))
    with pytest.raises(Refusal, match="unknown candidate 'law'"):
        mixtures.one_hot(NAMES, "law")


def test_temperature_runs_from_uniform_to_natural():
    tokens = pd.Series({"general": 900, "math": 400, "code": 100})
    pd.testing.assert_series_equal(mixtures.temperature(tokens, 1.0), mixtures.natural(tokens))
    pd.testing.assert_series_equal(mixtures.temperature(tokens, 0.0), mixtures.uniform(NAMES))
    assert mixtures.temperature(tokens, 0.5).to_dict() == pytest.approx(
        {"general": 3 / 6, "math": 2 / 6, "code": 1 / 6}
    )


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_reading_normalises_counts_and_says_so(tmp_path, suffix):
    path = tmp_path / f"mix.{suffix}"
    entries = {"a": {"general": 0.2, "math": 0.3, "code": 0.5}, "b": {"general": 100, "math": 300, "code": 0}}
    path.write_text(json.dumps(entries))
    read, notes = reading.mixtures(path, NAMES)
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
    with pytest.raises(Refusal, match=message):
        reading.mixtures(path, NAMES)


def test_released_reference_mixtures_are_read(shared):
    read, notes = reading.mixtures(shared / "demix" / "sampled_mixture.json")
    assert read.shape == (17, 7)
    assert any(note.startswith("mix_0: weights summed to 2933") for note in notes)


def test_apportioning_meets_the_recipe_exactly(rng):
    for shares in rng.dirichlet(np.ones(5), size=50):
        recipe = dict(zip("abcde", shares, strict=True))
        counts = mixtures.apportion(recipe, 97)
        assert sum(counts.values()) == 97
        assert all(abs(counts.get(name, 0) - share * 97) < 1 for name, share in recipe.items())
