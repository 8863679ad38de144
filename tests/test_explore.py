"""Panels show the numbers they are given."""

import json
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from conftest import REPOSITORY

from demix_nb import PLOTLY, explore, tables
from demix_nb.interactions import towards
from demix_nb.mixtures import uniform, validate
from demix_nb.predictors import PREDICTORS
from demix_nb.ranking import family_scores, macro_rank

RESULTS = REPOSITORY / "data" / "results" / "laptop"


def read(name, schema="scores"):
    return tables.read(RESULTS / f"{name}.csv", schema)


@pytest.fixture(scope="module")
def tasks():
    return read("tasks", "tasks").query("in_rank")


@pytest.fixture(scope="module")
def runs(tasks):
    return explore.by_family(read("search_mixtures", "mixtures"), read("search_scores"), tasks)


@pytest.fixture(scope="module")
def predictor(runs):
    return PREDICTORS["gaussian_process"](rng=np.random.default_rng(0)).fit(runs.mixtures, runs.scores)


@pytest.fixture(scope="module")
def corners(runs):
    families = read("corpora", "corpora")["family"].to_dict()
    return explore.corners_of(explore.triangles(families)["families"], list(runs.mixtures))


def test_the_recipe_table_counts_tokens_and_epochs():
    tokens = pd.Series({"general": 1000, "code": 100})
    table = explore.recipe_table(pd.Series({"general": 0.2, "code": 0.8}), "general", 0.5, tokens, 2000)
    assert table["recipe"].to_dict() == pytest.approx({"general": 0.6, "code": 0.4})
    assert table["tokens"].sum() == pytest.approx(2000)
    assert table["epochs"].to_dict() == pytest.approx({"general": 1.2, "code": 8.0})
    page = explore.shown_recipe(table).to_html()
    assert page.count("font-weight: bold") == 1, "only what is repeated more than four times stands out"


def test_scored_proxies_get_their_own_place(runs, predictor):
    ranks = macro_rank(runs.scores, runs.tasks)
    for name in (ranks.idxmin(), ranks.idxmax()):
        found = explore.guess(predictor, runs.mixtures.loc[name], runs)
        assert (found.mean - runs.scores.loc[name]).abs().max() < 0.02 and (found.spread > 0).all()
        assert abs(found.place - (ranks < ranks[name]).sum()) <= 5


def test_standing_marks_the_prediction_among_all_proxies(runs, predictor):
    found = explore.guess(predictor, uniform(list(runs.mixtures)), runs)
    figure = explore.standing(found, runs)
    dots, marks = figure.data[::2], figure.data[1::2]
    assert [len(trace.x) for trace in dots] == [len(runs)] * 3
    assert [trace.x[0] for trace in marks] == pytest.approx(found.mean.to_list())
    assert f"place {found.place} of {len(runs) + 1}" in figure.layout.title.text


def test_a_triangle_is_a_grid_of_mixtures_and_finds_its_own_corners(corners):
    weights, grid = explore.triangle(corners, edge=6)
    assert len(grid) == 28
    validate(grid)
    pd.testing.assert_frame_equal(explore.in_triangle(grid, corners), weights, check_dtype=False)
    assert set(grid.loc["6-0-0"][grid.loc["6-0-0"] > 0].index) == {"general"}


def test_triangles_are_the_three_families_and_every_three_domains():
    seven = read("corpora", "corpora")["family"].to_dict()
    sets = explore.triangles(seven)
    assert len(sets) == 1 + 35 and sets["families"]["math"] == ["math_word", "math_drill", "math_prose"]
    assert explore.triangles({"news": "text", "law": "text"}) == {}
    assert list(explore.triangles({"a": "x", "b": "x", "c": "x"})) == ["a / b / c"]


def test_landscapes_colour_ground_and_proxies_by_one_scale(runs, predictor, corners):
    figure = explore.landscape(predictor, runs, corners, "math", runs.mixtures.iloc[:2])
    ground, points, *marks = figure.data
    _, grid = explore.triangle(corners)
    assert list(ground.marker.color) == pytest.approx(predictor.predict(grid)["math"].to_list())
    assert list(points.marker.color) == pytest.approx(runs.scores["math"].to_list())
    assert ground.marker.coloraxis == points.marker.coloraxis and figure.layout.coloraxis.reversescale
    assert [mark.name for mark in marks] == list(runs.mixtures.index[:2])
    best = explore.height(runs.scores, runs.tasks, explore.MACRO)
    assert best.min() == 0 and best.max() == 1 and best.idxmin() == macro_rank(runs.scores, runs.tasks).idxmin()


def test_a_path_has_one_curve_per_kind_and_domain():
    merged = pd.DataFrame({"a": [1.0, 2, 3], "b": [3.0, 2, 1]}, index=[0.0, 0.5, 1.0])
    figure = explore.path({"merged": merged, "mixed": merged.iloc[[1]]})
    assert [(trace.name, len(trace.x)) for trace in figure.data] == [("merged", 3)] * 2 + [("mixed", 1)] * 2


def test_dependence_walks_the_way_of_effects(runs, predictor):
    centre = runs.mixtures.mean()
    curve = explore.dependence(predictor, centre, "code_cpp", points=5)
    assert list(curve.index) == [0, 0.25, 0.5, 0.75, 1]
    share = 0.5
    there = towards(centre, "code_cpp", step=(share - centre["code_cpp"]) / (1 - centre["code_cpp"]))
    assert there["code_cpp"] == pytest.approx(share)
    expected = predictor.predict(there.to_frame("there").T).loc["there"]
    assert curve.loc[share, "mean"].to_dict() == pytest.approx(expected.to_dict())


def test_the_chosen_cell_is_framed_and_its_curve_drawn(runs, predictor):
    figure = explore.interactions_panel(predictor, runs, "math_word", "code")
    heat, (frame,) = figure.data[0], figure.layout.shapes
    assert heat.x[int(frame.x0 + 0.5)] == "code" and heat.y[int(frame.y0 + 0.5)] == "math_word"
    assert np.asarray(heat.z).shape == (7, 3)
    assert list(figure.data[2].x) == pytest.approx(runs.mixtures["math_word"].to_list())


def test_the_curve_of_a_cell_alone_is_that_of_the_whole_panel(runs, predictor):
    alone, whole = (draw(predictor, runs, "code_cpp", "code")
                    for draw in (explore.dependence_panel, explore.interactions_panel))  # fmt: skip
    assert len(whole.data) == 1 + len(alone.data) == 4
    for ours, theirs in zip(alone.data, whole.data[1:], strict=True):
        assert list(ours.x) == list(theirs.x) and list(ours.y) == list(theirs.y)


def test_a_replay_shows_each_mixture_once_and_the_best_only_improves(runs, corners, rng):
    rounds = read("search_rounds", "rounds")["round"]
    stages = explore.replay_stages(runs, rounds, corners, rng=rng)
    assert len(stages) == 2 * rounds.nunique() and stages[0].ground is None
    assert [name for stage in stages for name in stage.new] == list(runs.mixtures.index)
    shots = [explore.replay(stage, runs, corners) for stage in stages]
    best = shots[-1].data[4].y
    assert all(later <= earlier for earlier, later in pairwise(best))
    assert best[-1] == macro_rank(runs.scores, runs.tasks).min()
    moving = explore.film(stages, runs, corners)
    assert [len(frame.data) for frame in moving.frames] == [5] * len(stages)


def test_what_a_model_wrote_is_shown_as_it_is():
    shown = explore.continuations({"code": "if a < b:"}, pd.Series({"code": "\n  <b>$1$</b>"})).to_html()
    assert "if a &lt; b:" in shown and "\n  &lt;b&gt;$1$&lt;/b&gt;" in shown and "mathjax_ignore" in shown


def test_figures_are_stored_as_data_alone(runs, predictor, corners):
    explore.style()
    figure = explore.landscape(predictor, runs, corners, explore.MACRO)
    bundle = explore.stored(figure)
    assert list(bundle) == [PLOTLY] and isinstance(figure, go.Figure)
    assert len(json.dumps(bundle)) < 2e5
    assert list(bundle[PLOTLY]) == ["data", "layout"] and len(bundle[PLOTLY]["data"]) == len(figure.data)


def test_a_reader_waits_for_nothing_that_the_first_panels_do_not_need():
    first = "from demix_nb import controls, explore, notebook, predictors, tables; notebook.begin('.', panels=True)"
    heavy = "print([name for name in ('lightgbm', 'nbformat', 'seaborn', 'sklearn', 'torch') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", f"{first}\nimport sys\n{heavy}"], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_family_runs_are_the_family_scores(runs, tasks):
    pd.testing.assert_frame_equal(runs.scores, family_scores(read("search_scores"), tasks))
    assert list(runs.tasks.index) == list(runs.scores)
