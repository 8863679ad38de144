"""Sliders stay on the simplex and in the region, whatever is moved and locked, and say what they do not do."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.mixtures import validate
from demix_nb.panels import sliders
from demix_nb.region import Region
from demix_nb.store import Refusal

SEVEN = list("abcdefg")
TIGHT = Region(SEVEN, {"a": 0.05}, {"b": 0.25, "c": 0.0333}, groups={"last": (["e", "f", "g"], 0.2, 0.5)})


def on_screen(shares):
    """What a reader sees of a mixture, per cent with one digit, as whole thousandths."""
    return [round(10 * float(f"{100 * share:.1f}")) for share in shares]


def table(shares):
    return shares.to_frame("m").T


def test_whatever_is_moved_the_numbers_on_screen_sum_to_one_and_locks_hold(rng):
    region = Region(SEVEN)
    shares = sliders.whole_steps(pd.Series(rng.dirichlet(np.ones(7)), index=SEVEN))
    for _ in range(200):
        name = rng.choice(SEVEN)
        held = [other for other in SEVEN if rng.random() < 0.3 and other != name][:5]
        asked = float(rng.choice([0.0, 1.0, rng.random()]))
        after = sliders.moved(shares, name, asked, region, held)
        assert sum(on_screen(after)) == 1000 and (after >= 0).all()
        assert np.allclose(after[held], shares[held], atol=1e-12)
        assert after[name] == pytest.approx(min(asked, 1 - shares[held].sum()), abs=sliders.STEP)
        shares = after
    validate(table(shares))


def test_whatever_is_moved_the_mixture_stays_in_the_region(rng):
    shares = TIGHT.draw(1, rng=rng).iloc[0]
    for _ in range(100):
        name = rng.choice(SEVEN)
        held = [other for other in SEVEN if rng.random() < 0.2 and other != name][:3]
        asked = float(rng.choice([0.0, 1.0, rng.random()]))
        try:
            after = sliders.moved(shares, name, asked, TIGHT, held)
        except Refusal:
            continue
        assert TIGHT.holds(table(after)).all() and np.allclose(after[held], shares[held], atol=1e-8)
        least, most = sliders.reached(sliders.within(TIGHT, {n: shares[n] for n in held}), name)
        assert after[name] == pytest.approx(np.clip(asked, least, most), abs=sliders.STEP)
        shares = after


def test_how_far_a_candidate_goes_is_what_a_linear_program_finds():
    from scipy.optimize import linprog

    bounds = list(zip(TIGHT.lower, TIGHT.upper, strict=True))
    last = np.array([0, 0, 0, 0, 1, 1, 1.0])
    for number, name in enumerate(SEVEN):
        for sign, end in zip((1, -1), sliders.reached(TIGHT, name), strict=True):
            cost = sign * np.eye(7)[number]
            found = linprog(cost, A_ub=[last, -last], b_ub=[0.5, -0.2], A_eq=[np.ones(7)], b_eq=[1], bounds=bounds)
            assert end == pytest.approx(sign * found.fun, abs=1e-6)


def test_the_others_keep_their_proportions():
    shares, region = pd.Series({"a": 0.2, "b": 0.6, "c": 0.2}), Region(list("abc"))
    assert sliders.moved(shares, "a", 0.6, region).to_dict() == pytest.approx({"a": 0.6, "b": 0.3, "c": 0.1})
    assert sliders.moved(shares, "a", 0.6, region, ["c"]).to_dict() == pytest.approx({"a": 0.6, "b": 0.2, "c": 0.2})
    corner = sliders.moved(shares, "a", 1.0, region)
    assert corner.to_dict() == pytest.approx({"a": 1, "b": 0, "c": 0})
    halved = sliders.moved(corner, "a", 0.5, region)
    assert halved.to_dict() == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    with pytest.raises(Refusal, match="a cannot move: the 2 others are locked"):
        sliders.moved(shares, "a", 0.6, region, ["b", "c"])


def three(region=None, **more):
    presets = pd.DataFrame({"a": [0.5, 0.1], "b": [0.3, 0.2], "c": [0.2, 0.7]}, index=["first", "second"])
    return sliders.Sliders(presets, region=region, **more)


def test_sliders_tell_once_per_move_and_obey_their_locks():
    made, told = three(), []
    made.mixture.observe(lambda change: told.append(change.new), "value")
    made.sliders["a"].value = 0.1
    assert len(told) == 1 and told[0] == pytest.approx({"a": 0.1, "b": 0.54, "c": 0.36})
    assert {n: s.value for n, s in made.sliders.items()} == pytest.approx(told[0]) and "100.0%" in made.said.value
    made.locks["b"].value = True
    assert made.sliders["b"].disabled and not made.sliders["a"].disabled
    made.sliders["c"].value = 0.9
    assert told[-1] == pytest.approx({"a": 0.0, "b": 0.54, "c": 0.46})
    assert "c goes to 46.0% and no further: the locks leave no more" in made.said.value


def test_a_preset_is_put_back_when_it_is_pressed_again():
    made = three()
    made.buttons["second"].click()
    assert made.mixture.value == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.7})
    assert [button.button_style for button in made.buttons.values()] == ["", "info"]
    made.sliders["a"].value = 0.5
    assert made.buttons["second"].button_style == ""
    made.buttons["second"].click()
    assert made.mixture.value == pytest.approx({"a": 0.1, "b": 0.2, "c": 0.7})


def test_when_all_others_are_locked_the_last_one_says_why_it_cannot_move():
    made = three()
    for name in "ab":
        made.locks[name].value = True
    assert "c cannot move: the 2 others are locked" in made.said.value and made.sliders["c"].disabled
    made.move("c", 0.9)
    assert made.mixture.value == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}) and "unlock one" in made.said.value
    made.locks["a"].value = False
    assert "cannot move" not in made.said.value and not made.sliders["c"].disabled


def test_a_preset_outside_of_the_region_is_shown_and_said_and_the_first_move_comes_inside():
    made = three(Region(list("abc"), upper={"c": 0.4}))
    made.start("second")
    assert made.mixture.value["c"] == pytest.approx(0.7) and "not allowed here: upper c" in made.said.value
    made.sliders["a"].value = 0.3
    assert made.mixture.value == pytest.approx({"a": 0.3, "b": 0.3, "c": 0.4}) and "not allowed" not in made.said.value
    made.sliders["c"].value = 0.9
    assert made.mixture.value["c"] == pytest.approx(0.4) and "the region leave no more" in made.said.value
    made.start("second")
    made.locks["c"].value = True
    made.sliders["a"].value = 0.2
    assert made.mixture.value["c"] == pytest.approx(0.7) and "outside of its bounds 0 to 0.4" in made.said.value


def test_a_rail_shows_what_is_allowed_and_what_is_tied_with_the_best():
    ties = pd.DataFrame({"low": [0.1], "high": [0.3], "share": [0.2]}, index=["b"])
    made = three(Region(list("abc"), {"b": 0.05}, {"c": 0.4}), tied=ties)
    style = made.shades.box.value
    assert "#262626 10.0% 30.0%" in style and "left / 5.0%" in style and "right / 60.0%" in style
    assert "dark: tied" in style and "hatched: not allowed" in style
    assert made.sliders["b"].tooltip == "b: tied with the best at 10.0% to 30.0%, allowed at 5.0% to 100.0%"
    assert made.sliders["a"].tooltip == "a" and "dark" not in three().shades.box.value


def test_of_many_candidates_those_named_have_a_slider_and_the_rest_gives_way():
    presets = pd.DataFrame({"a": [0.4], "b": [0.4], "c": [0.15], "d": [0.05]}, index=["first"])
    made = sliders.Sliders(presets, ["a", "b"])
    assert list(made.sliders) == ["a", "b"] and "20.0%</b> of it in 2 candidates" in made.said.value
    made.sliders["a"].value = 0.7
    assert made.mixture.value == pytest.approx({"a": 0.7, "b": 0.2, "c": 0.075, "d": 0.025})


def test_of_many_presets_the_first_are_buttons_and_any_can_be_typed():
    presets = pd.DataFrame({"a": np.linspace(0, 1, 30), "b": np.linspace(1, 0, 30)}, [f"p{i}" for i in range(30)])
    made = sliders.Sliders(presets)
    assert len(made.buttons) == 20
    typed = made.box.children[1]
    typed.value = "p25"
    after = made.mixture.value
    assert after["a"] == pytest.approx(25 / 29, abs=sliders.STEP)
    typed.value = "p25 or so"
    assert made.mixture.value == after
