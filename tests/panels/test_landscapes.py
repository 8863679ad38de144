"""Triangles are mixtures, their corners groups of candidates, and one scale colours what is predicted and scored."""

import fixtures_panels
import pandas as pd
import pytest

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
    assert set(grid.loc["6-0-0"][grid.loc["6-0-0"] > 0].index) == {"general"}


def test_triangles_are_the_three_families_and_every_three_candidates(play):
    sets = landscapes.triangles(play.study.families, play.weights)
    assert len(sets) == 1 + 35 and sets["families"]["math"] == ["math_word", "math_drill", "math_prose"]

    def of(origin):
        return landscapes.triangles(origin, pd.Series(1.0, list(origin)))

    assert of({"news": "text", "law": "text"}) == {}
    assert list(of({"a": "x", "b": "x", "c": "x"})) == ["a / b / c"]
    assert next(iter(of({"a": "x", "b": "y", "c": "z", "d": "z"}))) == "families"


def test_of_many_families_and_candidates_the_heaviest_stand_at_corners(crowd):
    origin, weights = crowd.study.families, crowd.weights
    sets = landscapes.triangles(origin, weights)
    assert len(sets) == 35 + 35, "every three of seven families, and of seven candidates"
    alone = {name for groups in sets.values() for members in groups.values() if len(members) == 1 for name in members}
    assert alone == set(weights.nlargest(7).index)
    families = weights.groupby(origin).sum()
    together = {family for groups in sets.values() for family, members in groups.items() if len(members) > 1}
    assert together == set(families.nlargest(7).index)


def test_landscapes_colour_ground_and_proxies_by_one_scale(scored, predictor, corners):
    figure = landscapes.landscape(predictor, scored, corners, "math", scored.mixtures.iloc[:2])
    ground, points, *marks = figure.data
    _, grid = landscapes.triangle(corners)
    assert list(ground.marker.color) == pytest.approx(predictor.predict(grid).scores["math"].to_list())
    assert list(points.marker.color) == pytest.approx(scored.scores["math"].to_list())
    assert ground.marker.coloraxis == points.marker.coloraxis and figure.layout.coloraxis.reversescale
    assert [mark.name for mark in marks] == list(scored.mixtures.index[:2])
    best = landscapes.height(scored, landscapes.MACRO)
    assert best.min() == 0 and best.max() == 1 and best.idxmin() == scored.best
