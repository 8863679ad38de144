"""One object whose methods are the panels: each has controls and a still picture, and stays bounded on a big study."""

import json
import subprocess
import sys

import fixtures_panels
import ipywidgets as widgets
import plotly.graph_objects as go
import pytest

from demix_nb import PLOTLY, STATIC
from demix_nb.panels import look

play, crowd = fixtures_panels.play, fixtures_panels.crowd
PANELS = ("standing", "landscape", "interactions", "replay")  # those that need no models


def held(widget):
    """A widget and all that it holds."""
    return [widget, *(each for child in getattr(widget, "children", ()) for each in held(child))]


@pytest.mark.parametrize("name", PANELS)
def test_every_panel_has_controls_and_a_still_picture_of_what_they_say(play, name, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    panel = getattr(play, name)()
    assert any(isinstance(each, widgets.ValueWidget | widgets.Button) for each in held(panel.box))
    assert all(isinstance(shown, go.Figure) for shown in panel.still) and panel.still


@pytest.mark.parametrize("name", (*PANELS, "desk"))
def test_a_hundred_candidates_fit_on_a_page_that_says_whom_it_leaves_out(crowd, name, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    panel = getattr(crowd, name)()
    shown = held(panel.box)
    assert len(shown) < 400
    assert all(len(each.options) <= 71 for each in shown if isinstance(each, widgets.Dropdown))
    said = " ".join(each.value for each in shown if isinstance(each, widgets.HTML))
    assert name == "replay" or "80 candidates without a slider" in said or " of 100 candidates" in said
    assert all(len(json.dumps(look.stored(figure))) < 2e6 for figure in panel.still if isinstance(figure, go.Figure))


def test_sliders_moved_in_one_panel_move_in_all(play):
    assert play.standing().box.children[0].children[1].children[0] is play.sliders.sliders["general"]
    one, other = play.standing(), play.standing()
    assert held(one.box)[1].children[1].children[0] is held(other.box)[1].children[1].children[0]


def test_places_are_those_of_the_predictions(play):
    named = play.named
    places = play.places(named)
    alone = [play.places(named.loc[[name]])["place"].iloc[0] for name in named.index]
    assert places["place"].to_list() == alone and places["macro"].between(1, len(play.families) + 1).all()


def test_fewer_than_three_candidates_have_no_triangle(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    pair = fixtures_panels.Playground(fixtures_panels.Crowd(2))
    for panel in (pair.landscape(), pair.replay()):
        assert panel.box.children == () and "three candidates" in panel.still[0]


def test_figures_are_stored_as_data_alone(play):
    figure = play.landscape().still[0]
    bundle = look.stored(figure)
    assert list(bundle) == [PLOTLY] and isinstance(figure, go.Figure)
    assert len(json.dumps(bundle)) < 2e5
    assert list(bundle[PLOTLY]) == ["data", "layout"] and len(bundle[PLOTLY]["data"]) == len(figure.data)


def test_a_reader_waits_for_nothing_that_the_first_panels_do_not_need():
    first = f"""
import os, sys
os.environ["{STATIC}"] = "1"
from demix_nb.panels import Playground
from demix_nb.running.cells import begin
Playground(begin(".", panels=True, results="", profile="laptop")).standing()
heavy = ("lightgbm", "lm_eval", "nbformat", "seaborn", "sklearn", "torch", "transformers")
print([name for name in heavy if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", first], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
