"""One object whose methods are the panels: each has controls and a still picture, and stays bounded on a big study."""

import json
import subprocess
import sys
import time

import fixtures_panels
import ipywidgets as widgets
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import yaml

from demix_nb import PLOTLY, STATIC
from demix_nb.panels import look
from demix_nb.scored import describe

play, crowd, bare = fixtures_panels.play, fixtures_panels.crowd, fixtures_panels.bare
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
    assert all(len(each.options) <= 20 for each in shown if isinstance(each, widgets.Dropdown | widgets.Combobox))
    assert len([each for each in shown if isinstance(each, widgets.FloatSlider)]) <= 20 + (9 if name == "desk" else 0)
    said = " ".join(each.value for each in shown if isinstance(each, widgets.HTML))
    assert (
        name == "replay"
        or "80 candidates without a slider" in said
        or " of 100 candidates" in said
        or "20 of 109" in said
    )
    assert all(len(json.dumps(look.stored(figure))) < 2e6 for figure in panel.still if isinstance(figure, go.Figure))


def test_sliders_moved_in_one_panel_move_in_all(play):
    shown = [[each for each in held(play.standing().box) if isinstance(each, widgets.FloatSlider)] for _ in range(2)]
    assert shown[0] == shown[1] == list(play.sliders.sliders.values())


def test_places_are_those_of_the_predictions(play):
    named = play.named
    places = play.places(named)
    alone = [play.places(named.loc[[name]])["place"].iloc[0] for name in named.index]
    assert places["place"].to_list() == alone and places["macro"].between(1, len(play.families) + 1).all()


def words(panel):
    """What stands in the place of a picture."""
    (figure,) = panel.still
    return figure.layout.annotations[0].text.replace("<br>", " ")


def test_a_hundred_candidates_are_there_within_seconds(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    began = time.perf_counter()
    playground = fixtures_panels.Playground(fixtures_panels.Crowd())
    for name in (*PANELS, "desk"):
        assert getattr(playground, name)().still
    assert time.perf_counter() - began < 15, "two on a free machine"


def test_a_hundred_families_and_tasks_fit_on_a_page_too(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    study = fixtures_panels.Crowd(60)
    study.families = {name: f"family of {name}" for name in study.candidates}
    study.scores = 3 - study.shares**0.5
    study.ranked = describe(study.candidates, unit="bpb", higher_is_better=False)
    playground = fixtures_panels.Playground(study)
    standing, cells = playground.standing(), playground.interactions()
    assert len(standing.still[0].data) == 2 * 20 and len(playground.interactions().still[0].data[0].x) == 20
    said = " ".join(each.value for panel in (standing, cells) for each in held(panel.box) if hasattr(each, "value")
                    and isinstance(each, widgets.HTML))  # fmt: skip
    assert "20 of 60 families" in said and "20 of 60 scores" in said and "20 of 60 candidates" in said
    listed = [each for each in held(playground.landscape().box) if isinstance(each, widgets.Combobox)]
    assert len(listed) == 4 and all(len(each.options) == 20 for each in listed)


def test_any_candidate_can_be_typed_into_a_corner_and_what_is_none_is_said(crowd):
    light = crowd.weights.nsmallest(3).index
    (figure,) = crowd._landscape(*light, "macro rank")
    assert len(figure.data) > 2
    (said,) = crowd._landscape(*light[:2], "candidate 7", "macro rank")
    assert "There is no 'candidate 7' here" in said.layout.annotations[0].text
    (said,) = crowd._landscape(*light[:2], light[0], "macro rank")
    assert "share no candidate" in said.layout.annotations[0].text


def test_the_desk_saves_its_mixture_and_says_where(tmp_path, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    study = fixtures_panels.Crowd(12, folder=tmp_path, general="candidate 00 of 12", beta=0.5)
    playground = fixtures_panels.Playground(study)
    panel = playground.desk()
    playground.sliders.sliders["candidate 03 of 12"].value = 0.5
    boxes = [each for each in held(panel.box) if isinstance(each, widgets.HBox) and len(each.children) == 2]
    save, said = next(each.children for each in boxes if getattr(each.children[0], "description", "") == "save")
    save.click()
    told = yaml.safe_load((tmp_path / "desk.yaml").read_text("utf-8"))
    assert str(tmp_path / "desk.yaml") in said.value and told["mixture"]["candidate 03 of 12"] == 0.5
    assert told["recipe"]["candidate 03 of 12"] == 0.25 and told["mixture"] == pytest.approx(
        playground.sliders.mixture.value
    )
    (tmp_path / "desk.yaml").unlink()
    study.folder = tmp_path / "desk.yaml"
    study.folder.write_text("")
    save.click()
    assert said.value.startswith("cannot write")


def test_a_study_of_tables_shows_what_it_has_and_says_what_it_lacks(bare, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    for name in ("live", "path"):
        assert words(getattr(bare, name)()) == "This study has no checkpoints: a mixture cannot be merged here."
    recipe, standing = bare.desk().still
    assert list(recipe.data) == ["mixture", "recipe"] and len(standing.data) == 2 * 9
    assert not any(isinstance(each, widgets.FloatLogSlider) for each in held(bare.desk().box))
    assert any("no epochs" in each.value for each in held(bare.desk().box) if isinstance(each, widgets.HTML))
    assert [stage.title for stage in bare._stages] == [
        "round 0: 30 mixtures<br>that were scored before", "round 0: predictor fitted to 30"
    ]  # fmt: skip
    assert "No model between" in bare.walk("a", "b").layout.annotations[0].text
    assert (
        len(bare.whole(bare.named)) == len(bare.glance(bare.named)) == 0
        and list(bare.glance(bare.named).scores) == bare.study.candidates
    )
    assert list(bare.sliders.presets.index) == ["uniform"]


def test_a_study_without_a_search_or_with_hardly_a_run_says_so(bare, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    bare.study.tables = {"search_rounds": pd.DataFrame({"round": [], "rank": []})}
    assert words(bare.replay()) == "No search has been run in this study."
    assert "No search" in bare.film().layout.annotations[0].text
    few = fixtures_panels.Crowd(12)
    few.shares, few.scores = few.shares.iloc[:3], few.scores.iloc[:3]
    playground = fixtures_panels.Playground(few)
    for name in PANELS:
        assert words(getattr(playground, name)()) == "Nothing is predicted from 3 scored mixtures: it takes 5."
    assert len(playground.desk().still) == 2


def test_amounts_that_are_known_are_a_budget_where_none_is_told(bare):
    bare.study.tokens = pd.Series(1000.0, bare.study.candidates)
    bare.study.tokens.iloc[0] = np.nan
    assert bare.budget == 11_000 and bare.recipe(bare.named.iloc[0], bare.budget)["epochs"].isna().sum() == 1
    bare.study.budget = 5e6
    assert bare.budget == 5e6


def test_fewer_than_three_candidates_have_no_triangle(monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    pair = fixtures_panels.Playground(fixtures_panels.Crowd(2))
    for panel in (pair.landscape(), pair.replay()):
        assert held(panel.box)[2:] == [] and "three candidates" in words(panel)


def test_figures_are_stored_as_data_alone(play, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
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
