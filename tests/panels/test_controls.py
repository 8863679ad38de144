"""Controls offer what there is, and say what they did."""

import ipywidgets as widgets
import pandas as pd
import pytest

from demix_nb.panels import controls
from demix_nb.store import Refusal


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


@pytest.mark.parametrize("tokens", [4e4, 3e5, 2.5e12, 3e14])
def test_a_budget_reaches_from_a_laptops_to_the_longest_runs_and_stands_at_the_studys_own(tokens):
    slider = controls.tokens_slider(tokens)
    assert slider.value == tokens and 10**slider.min <= min(tokens, 1e5) and 10**slider.max >= max(tokens, 1e14)


def test_a_long_list_can_be_searched_and_a_short_one_cannot_be_missed():
    names = [f"c{number}" for number in range(100)]
    few, many = controls.chooser("from", names[:20]), controls.chooser("from", names, "c77", names[50:70])
    assert isinstance(few, widgets.Dropdown) and few.value == "c0" and len(few.options) == 20
    assert isinstance(many, widgets.Combobox) and many.value == "c77" and list(many.options) == names[50:70]
    many.value = "c99"  # any other can be typed
    assert controls.unknown(["c1", many.value], names) == ""
    assert controls.unknown(["c1", "c999"], names) == "There is no 'c999' here; did you mean 'c99'?"
    assert controls.unknown(["zzz"], names) == "There is no 'zzz' here."


def test_a_button_says_what_it_did_or_why_it_did_not():
    done, refused = controls.button("save", lambda: "in <here>"), controls.button("save", lambda: refuse())

    def refuse():
        raise Refusal("cannot write")

    for box in (done, refused):
        box.children[0].click()
    assert done.children[1].value == "in &lt;here&gt;" and refused.children[1].value == "cannot write"
