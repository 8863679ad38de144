"""Triangles are mixtures, their corners groups of candidates, and one scale colours what is predicted and scored."""

import fixtures_panels
import pandas as pd
import pytest
from scipy.stats import rankdata

from demix_nb.figures.colours import INK, WHITE
from demix_nb.mixtures import validate
from demix_nb.panels import landscapes

play, scored, predictor, corners, crowd = (
    fixtures_panels.play, fixtures_panels.scored, fixtures_panels.predictor, fixtures_panels.corners,
    fixtures_panels.crowd,
)  # fmt: skip


def test_a_triangle_is_a_grid_of_mixtures_and_finds_its_own_corners(corners):
    weights, grid = landscapes.triangle(corners, edge=6)
    assert len(grid) == 28
    validate(grid)
    pd.testing.assert_frame_equal(landscapes.in_triangle(grid, corners), weights, check_dtype=False)
    assert set(grid.loc["6-0-0"][grid.loc["6-0-0"] > 0].index) == {"general", "general_licences"}


def test_a_corner_is_a_family_of_several_or_a_candidate_and_the_first_three_are_families(play):
    origin = play.study.families
    groups = landscapes.groups(origin)
    assert list(groups) == ["all general", "math", "code", *origin], "a candidate is called as its family is"
    assert groups["math"] == ["math_word", "math_drill", "math_prose"]
    assert landscapes.first(origin, play.weights) == ["all general", "math", "code"]

    def of(origin):
        return landscapes.first(origin, pd.Series(1.0, list(origin)))

    assert of({"news": "text", "law": "text"}) == []
    assert of({"a": "x", "b": "x", "c": "x"}) == ["a", "b", "c"]
    assert of({"a": "x", "b": "y", "c": "z", "d": "z"}) == ["a", "b", "z"]


def test_a_family_called_as_a_candidate_is_another_corner_than_the_candidate():
    origin = {"web": "general", "general": "general", "all general": "math", "code": "code"}
    groups = landscapes.groups(origin)
    assert groups["general"] == ["general"] and groups["all all general"] == ["web", "general"]
    first = landscapes.first(origin, pd.Series(1.0, list(origin)))
    assert first == ["all all general", "all general", "code"] and not landscapes.shared({n: groups[n] for n in first})


def test_corners_that_share_a_candidate_are_no_triangle(play):
    groups = landscapes.groups(play.study.families)
    assert landscapes.shared({name: groups[name] for name in ("math", "math_word", "code")})
    assert landscapes.shared({name: groups[name] for name in ("math", "math", "code")})
    assert not landscapes.shared({name: groups[name] for name in ("math_drill", "math_word", "code")})


def test_of_many_families_the_heaviest_stand_at_the_first_corners(crowd):
    origin, weights = crowd.study.families, crowd.weights
    assert set(landscapes.first(origin, weights)) == set(weights.groupby(origin).sum().nlargest(3).index)
    assert len(landscapes.groups(origin)) == 109


def test_landscapes_colour_ground_and_proxies_by_one_scale(scored, predictor, corners):
    figure = landscapes.landscape(predictor, scored, corners, "math", scored.mixtures.iloc[:2])
    ground, points, *marks = figure.data
    _, grid = landscapes.triangle(corners)
    assert list(ground.marker.color) == pytest.approx(predictor.predict(grid).scores["math"].to_list())
    assert list(points.marker.color) == pytest.approx(scored.scores["math"].to_list())
    assert ground.marker.coloraxis == points.marker.coloraxis and figure.layout.coloraxis.reversescale
    assert [mark.name for mark in marks] == list(scored.mixtures.index[:2])
    inside = landscapes.in_triangle(scored.mixtures, corners).sum(axis=1)
    assert (rankdata(points.marker.size) == rankdata((4 + 6 * inside).round(1))).all(), "smaller, not paler"
    assert points.marker.opacity == 1 and set(points.marker.line.color) == {INK, WHITE}
    best = landscapes.height(scored, landscapes.MACRO)
    assert best.to_list() == pytest.approx((rankdata(scored.ranks) - 1) / (len(scored) - 1)), "ties share their places"
    assert best[scored.best] == best.min() < best.nsmallest(4).iloc[-1]
