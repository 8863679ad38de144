"""Whoever watches a control is told, once and in turn; a still picture stands where nobody is at the controls."""

from threading import Thread

import ipywidgets as widgets
import pandas as pd
import pytest

from demix_nb import STATIC
from demix_nb.panels import sliders, wiring


def test_panels_answer_to_what_they_watch():
    desk, seen = sliders.Sliders(pd.DataFrame({"a": [0.5], "b": [0.5]}, index=["even"])), []

    def panel(mixture):
        seen.append(mixture["a"])
        return [mixture["a"]]

    wiring.wired(panel, desk.box, mixture=desk.mixture)
    desk.sliders["a"].value = 0.8
    assert seen == pytest.approx([0.5, 0.8])


def test_a_move_during_the_first_picture_waits_for_its_turn():
    watched, painting, most = sliders.Mixture(value={"a": 1.0}), [], []

    def panel(mixture):
        painting.append(mixture)
        if len(most) == 0:
            most.append(1)
            move.start()  # what a slider does in a thread of its own
            move.join(0.3)
        most.append(len(painting))
        painting.remove(mixture)
        return []

    move = Thread(target=lambda: watched.set_trait("value", {"a": 0.5}))
    wiring.wired(panel, mixture=watched)
    move.join()
    assert most == [1, 1, 1], "two pictures were drawn at once"


def test_where_nobody_moves_them_the_controls_stand_alone(monkeypatch):
    slider = widgets.IntSlider()
    drawn = []
    monkeypatch.setenv(STATIC, "1")
    box = wiring.wired(lambda value: drawn.append(value) or [], value=slider)
    (hand,) = box.children
    assert hand.children == (slider,) and drawn == []
    monkeypatch.delenv(STATIC)
    assert len(wiring.wired(lambda value: drawn.append(value) or [], value=slider).children) == 2 and drawn == [0]


def test_where_somebody_is_at_the_controls_they_are_shown_and_elsewhere_what_they_said_at_first(monkeypatch):
    slider, shown = widgets.IntSlider(value=3), []
    monkeypatch.setattr(wiring, "display", lambda *things: shown.append(things))
    monkeypatch.setenv(STATIC, "1")
    panel = wiring.Panel(lambda value: [value * 10], value=slider)
    slider.value = 5
    panel._ipython_display_()
    assert shown == [(30,)]
    assert wiring.Panel(lambda value: [], still=lambda: ["still"], value=slider).still == ["still"]
    monkeypatch.delenv(STATIC)
    panel = wiring.Panel(lambda value: [value * 10], still=lambda: shown.append("drawn"), value=slider)
    shown.clear()
    panel._ipython_display_()
    assert shown == [(panel.box,)]


def test_controls_stand_beside_their_picture_or_above_it_and_a_panel_without_any_is_its_words():
    slider = widgets.IntSlider()
    beside, above = (wiring.wired(lambda value: [], above=above, value=slider) for above in (False, True))
    assert all(box.layout.flex_flow == "row wrap" for box in (beside, above))
    assert beside.children[0].layout.max_width == "32rem" and above.children[0].layout.flex == "1 1 100%"
    assert wiring.Panel(list, still=lambda: ["nothing to move"]).still == ["nothing to move"]
