"""A study file's region: families, recipes and amounts of data become bounds on shares; what has no sense is told."""

import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb import allowed, studyfile
from demix_nb.running.holdings import _region
from demix_nb.store import Refusal

CANDIDATES = {
    "web": {"family": "general", "tokens": 8e9},
    "maths": {"family": "math", "tokens": 1e9},
    "proofs": {"family": "math", "tokens": 1e9},
    "python": {"family": "code", "tokens": 2e9},
}


@pytest.fixture
def opened(tmp_path):
    """Return the region of a file with such a section, and more beside it."""

    def make(region, **more):
        content = {"candidates": CANDIDATES, "general": "web", "beta": 0.5, "region": region} | more
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        file = studyfile.read(tmp_path / "study.yaml")
        tokens = {name: one.tokens for name, one in file.candidates.items()}
        return allowed.region(file, pd.Series(tokens, dtype=float))

    return make


def test_a_group_is_a_family_or_has_members(opened, rng):
    region = opened({"groups": {"math": [0.2, 0.4], "mine": {"members": ["web", "python"], "lower": 0.5}}})
    drawn = region.draw(100, rng=rng)
    assert drawn[["maths", "proofs"]].sum(axis=1).between(0.2 - 1e-9, 0.4 + 1e-9).all()
    assert region.limits.groups == {"math": (["maths", "proofs"], 0.2, 0.4), "mine": (["web", "python"], 0.5, 1.0)}


def test_bounds_on_recipes_count_the_diluting_share(opened, rng):
    bounds = {"on": "recipe", "lower": {"maths": 0.1}, "upper": {"web": 0.7}, "fixed": {"python": 0.05},
              "groups": {"math": [0.2, 0.3]}}  # fmt: skip
    region = opened(bounds)
    recipes = 0.5 * region.draw(200, rng=rng) + 0.5 * np.array([1, 0, 0, 0])
    assert (recipes["maths"] >= 0.1 - 1e-9).all() and (recipes["web"] <= 0.7 + 1e-9).all()
    assert np.allclose(recipes["python"], 0.05)
    assert recipes[["maths", "proofs"]].sum(axis=1).between(0.2 - 1e-9, 0.3 + 1e-9).all()


def test_near_names_a_baseline(opened, rng):
    base = {"web": 0.7, "maths": 0.1, "proofs": 0.1, "python": 0.1}
    for name, run, centre in (
        ("baseline", {"run": {"baseline": base}}, list(base.values())),
        ("baseline", {"run": {"baseline": "uniform"}}, [0.25] * 4),
        ("uniform", {}, [0.25] * 4),
        ("natural", {}, [8 / 12, 1 / 12, 1 / 12, 2 / 12]),
    ):
        drawn = opened({"near": {name: 0.1}}, **run).draw(50, rng=rng)
        away = np.abs(drawn - np.array(centre)).sum(axis=1) / 2
        assert (away <= 0.1 + 1e-9).all() and away.max() > 0.09


def test_epochs_may_be_limited_for_each(opened):
    region = opened({"max_epochs": {"maths": 4, "proofs": 2}}, run={"target_tokens": 4e10})
    assert region.upper.to_dict() == pytest.approx({"web": 1, "maths": 0.2, "proofs": 0.1, "python": 1})


SENSELESS = {
    "family that is none": ({"groups": {"maths2": [0, 1]}}, "groups.maths2 is no family and has no members; famil"),
    "recipe below its dilution": ({"on": "recipe", "upper": {"web": 0.4}},
                                  r"region.upper.web is 0.4, but diluting with 'web' alone is 0.5 of every recipe"),
    "near nothing": ({"near": {"ours": 0.1}}, "region.near names 'ours'; name baseline"),
    "near no baseline": ({"near": {"baseline": 0.1}}, "region.near names 'baseline'; name baseline .with run.baseline"),
    "too little data": ({"max_epochs": 1}, r"no mixture obeys .*; at most \S+ target_tokens would do, or \S+ times"),
}  # fmt: skip


@pytest.mark.parametrize(("bounds", "message"), SENSELESS.values(), ids=SENSELESS)
def test_a_region_without_sense_is_told(bounds, message, opened):
    with pytest.raises(Refusal, match=message):
        opened(bounds, run={"target_tokens": 1.5e10})


def test_a_group_that_is_no_bound_is_refused_when_the_file_is_read(tmp_path):
    for said in ([0.1], [0.1, 0.2, 0.3], {"least": 0.1}, [0.1, 2]):
        content = {"candidates": CANDIDATES, "region": {"groups": {"math": said}}}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        with pytest.raises(Refusal, match=r"region\.groups\.math"):
            studyfile.read(tmp_path / "study.yaml")


def test_what_is_allowed_is_told_in_a_line(tmp_path):
    region = {"lower": {"web": 0.1}, "fixed": {"python": 0.2}, "groups": {"math": [0.1, 0.3]}, "on": "recipe",
              "near": {"uniform": 0.4}, "max_epochs": {"maths": 4}}  # fmt: skip
    content = {"candidates": CANDIDATES, "general": "web", "beta": 0.5, "region": region, "run": {"target_tokens": 1e9}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert _region(studyfile.read(tmp_path / "study.yaml")) == (
        "web ≥ 0.1, python = 0.2, math 0.1 to 0.3 in all, 0.4 at most other than uniform, at most 4 epochs of maths "
        "(of the recipe)"
    )
