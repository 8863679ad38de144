"""Sliders stay on the simplex, whatever is moved and locked; whoever watches a control is told, once and in turn."""

from threading import Thread

import ipywidgets as widgets
import numpy as np
import pandas as pd
import pytest

from demix_nb import STATIC
from demix_nb.mixtures import validate
from demix_nb.panels import controls
from demix_nb.store import Refusal


def on_screen(shares):
    """What a reader sees of a mixture, per cent with one digit, as whole thousandths."""
    return [round(10 * float(f"{100 * share:.1f}")) for share in shares]


def test_whatever_is_moved_the_numbers_on_screen_sum_to_one_and_locks_hold(rng):
    names = list("abcdefg")
    shares = controls.whole_steps(pd.Series(rng.dirichlet(np.ones(7)), index=names))
    for _ in range(500):
        locked = [name for name in names if rng.random() < 0.3]
        name = rng.choice([name for name in names if name not in locked] or names)
        asked = float(rng.choice([0.0, 1.0, rng.random()]))
        after = controls.moved(shares, name, asked, [other for other in locked if other != name])
        assert sum(on_screen(after)) == 1000 and (after >= 0).all()
        held = [other for other in locked if other != name]
        assert (after[held] == shares[held]).all()
        if len(held) < 6:
            assert after[name] == pytest.approx(min(asked, 1 - shares[held].sum()), abs=controls.STEP)
        shares = after
    validate(shares.to_frame("m").T)


def test_the_others_keep_their_proportions():
    shares = pd.Series({"a": 0.2, "b": 0.6, "c": 0.2})
    assert controls.moved(shares, "a", 0.6).to_dict() == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})
    assert controls.moved(shares, "a", 0.6, ["c"]).to_dict() == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    assert controls.moved(shares, "a", 0.6, ["b", "c"]).to_dict() == shares.to_dict()
    corner = controls.moved(shares, "a", 1.0)
    assert controls.moved(corner, "a", 0.5).to_dict() == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})


def test_a_desk_tells_once_per_move_and_obeys_its_locks():
    desk = controls.Desk(pd.DataFrame({"a": [0.5, 0.1], "b": [0.3, 0.2], "c": [0.2, 0.7]}, index=["first", "second"]))
    told = []
    desk.mixture.observe(lambda change: told.append(change.new), "value")
    desk.sliders["a"].value = 0.1
    assert len(told) == 1 and told[0] == pytest.approx({"a": 0.1, "b": 0.54, "c": 0.36})
    assert {name: slider.value for name, slider in desk.sliders.items()} == told[0] and "100.0%" in desk.sum.value
    desk.locks["b"].value = True
    assert desk.sliders["b"].disabled
    desk.sliders["c"].value = 0.9
    assert told[-1] == pytest.approx({"a": 0.0, "b": 0.54, "c": 0.46})
    desk.choice.value = "second"
    assert told[-1] == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.7})


def test_panels_answer_to_what_they_watch():
    desk, seen = controls.Desk(pd.DataFrame({"a": [0.5], "b": [0.5]}, index=["even"])), []

    def panel(mixture):
        seen.append(mixture["a"])
        return [mixture["a"]]

    controls.wired(panel, desk.box, mixture=desk.mixture)
    desk.sliders["a"].value = 0.8
    assert seen == pytest.approx([0.5, 0.8])


def test_a_pressed_cell_is_framed_and_told_to_whoever_watches():
    gain = pd.DataFrame({"math": [0.5, -2.0], "code": [-0.1, 1.0]}, index=["general", "code_cpp"])
    cells = controls.Cells(gain, ("general", "math"))
    told = []
    cells.observe(lambda change: told.append(change.new), "value")
    cells.buttons["code_cpp", "code"].click()
    assert told == [("code_cpp", "code")] == [pair for pair, button in cells.buttons.items() if button.layout.border]
    assert len(cells.box.children) == (len(gain) + 1) * (gain.shape[1] + 1)


def test_heads_of_cells_show_names_as_they_are():
    cells = controls.Cells(pd.DataFrame({"<talk>_bits": [1.0]}, index=["a&b"]), ("a&b", "<talk>_bits"))
    said = " ".join(child.value for child in cells.box.children if isinstance(child, widgets.HTML))
    assert "&lt;talk&gt;_<wbr>bits" in said and "a&amp;b" in said


def test_a_move_during_the_first_picture_waits_for_its_turn():
    watched, painting, most = controls.Mixture(value={"a": 1.0}), [], []

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
    controls.wired(panel, mixture=watched)
    move.join()
    assert most == [1, 1, 1], "two pictures were drawn at once"


def test_where_nobody_moves_them_the_controls_stand_alone(monkeypatch):
    slider = widgets.IntSlider()
    drawn = []
    monkeypatch.setenv(STATIC, "1")
    box = controls.wired(lambda value: drawn.append(value) or [], value=slider)
    assert box.children == (slider,) and drawn == []
    monkeypatch.delenv(STATIC)
    assert len(controls.wired(lambda value: drawn.append(value) or [], value=slider).children) == 2 and drawn == [0]


def test_a_panel_shows_its_controls_first_and_then_what_they_said_at_first(monkeypatch):
    slider, shown = widgets.IntSlider(value=3), []
    panel = controls.Panel(lambda value: [value * 10], value=slider)
    slider.value = 5
    monkeypatch.setattr(controls, "display", lambda *things: shown.append(things))
    panel._ipython_display_()
    assert shown == [(panel.box, 30)]
    assert controls.Panel(lambda value: [], still=lambda: ["still"], value=slider).still == ["still"]


def test_of_many_candidates_those_named_have_a_slider_and_the_rest_gives_way():
    presets = pd.DataFrame({"a": [0.4], "b": [0.4], "c": [0.15], "d": [0.05]}, index=["first"])
    desk = controls.Desk(presets, ["a", "b"])
    assert list(desk.sliders) == ["a", "b"] and "20.0%</b> of it in 2 candidates" in desk.sum.value
    desk.sliders["a"].value = 0.7
    assert desk.mixture.value == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.075, "d": 0.025})


def test_a_budget_reaches_from_the_studys_own_tokens_to_hundreds_of_times_as_many():
    for tokens in (4e4, 3e5, 2.5e12):
        slider = controls.tokens_slider(tokens)
        assert slider.value == tokens and 10**slider.min <= tokens and 10**slider.max >= 100 * tokens


def test_a_long_list_can_be_searched_and_a_short_one_cannot_be_missed():
    names = [f"c{number}" for number in range(100)]
    few, many = controls.chooser("from", names[:20]), controls.chooser("from", names, "c77", names[50:70])
    assert isinstance(few, widgets.Dropdown) and few.value == "c0" and len(few.options) == 20
    assert isinstance(many, widgets.Combobox) and many.value == "c77" and list(many.options) == names[50:70]
    many.value = "c99"  # any other can be typed
    assert controls.unknown(["c1", many.value], names) == ""
    assert controls.unknown(["c1", "c999"], names) == "There is no 'c999' here; did you mean 'c99'?"
    assert controls.unknown(["zzz"], names) == "There is no 'zzz' here."


def test_a_preset_that_is_typed_changes_the_sliders_when_it_is_one():
    presets = pd.DataFrame({"a": np.linspace(0, 1, 30), "b": np.linspace(1, 0, 30)}, [f"p{i}" for i in range(30)])
    desk = controls.Desk(presets)
    before = desk.mixture.value
    desk.choice.value = "p2"
    after = desk.mixture.value
    assert after != before
    desk.choice.value = "p2 or so"
    assert desk.mixture.value == after


def test_a_button_says_what_it_did_or_why_it_did_not():
    done, refused = controls.button("save", lambda: "in <here>"), controls.button("save", lambda: refuse())

    def refuse():
        raise Refusal("cannot write")

    for box in (done, refused):
        box.children[0].click()
    assert done.children[1].value == "in &lt;here&gt;" and refused.children[1].value == "cannot write"
