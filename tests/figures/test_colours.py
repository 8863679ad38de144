"""A hue is a family: told apart with any colour vision, seen on white and on a dark page, whatever the name."""

from itertools import combinations

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb

from demix_nb.figures import colours
from demix_nb.figures.colours import DARK, FAMILY_COLOURS, GREY, INK, WHITE, contrast

APART = 10  # ΔE' of CAM02-UCS, 100 from black to white; Okabe & Ito's own closest pair is 11 apart
VISIONS = (None, "protanomaly", "deuteranomaly", "tritanomaly")
ODD = ["Lettres", "ξ", "consumer goods & services", "CJK", "law", "bio/chem", "dialogue", "Q", "miscellany"]


def seen(colour, vision):
    """A colour as a reader sees it who lacks one kind of cone entirely (Machado et al. 2009)."""
    if vision is None:
        return np.array(to_rgb(colour))
    space = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
    return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)


def distance(first, second, vision):
    return deltaE(seen(first, vision), seen(second, vision), input_space="sRGB1")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("names", [["general", "math", "code", "law"], ODD[:4]], ids=["usual", "odd"])
def test_any_reader_tells_four_families_apart(names, vision):
    hue = colours.families(names) | {"ink": INK}
    apart = {pair: distance(hue[pair[0]], hue[pair[1]], vision) for pair in combinations(hue, 2)}
    assert {pair: round(apart[pair], 1) for pair in apart if apart[pair] < APART} == {}


def test_the_simulation_confuses_what_such_readers_confuse():
    assert distance("#D55E00", "#B8860B", None) > 15 > APART > distance("#D55E00", "#B8860B", "deuteranomaly")


@pytest.mark.parametrize("names", [list(FAMILY_COLOURS), ODD, [f"f{i}" for i in range(25)]], ids=["usual", "odd", "25"])
def test_every_family_is_seen_on_white_and_on_the_dark_page(names):
    hue = colours.families(names)
    assert list(hue) == names and len(set(hue.values())) == len(names)
    assert min(contrast(colour, page) for colour in hue.values() for page in (WHITE, DARK)) >= 3


@pytest.mark.parametrize("size", [1, 2, 9, 40])
def test_every_candidate_and_all_that_belongs_to_no_family_is_seen_on_white(size):
    families = {f"{family}-{i}": family for family in (*FAMILY_COLOURS, *ODD) for i in range(size)}
    seen = [*colours.candidates(families).values(), INK, GREY]
    assert min(contrast(colour, WHITE) for colour in seen) >= 3


def test_contrast_is_that_of_the_standard():
    assert contrast("#FFFFFF", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)  # the known example that just fails 4.5


def test_general_math_and_code_keep_theirs_beside_strangers():
    hue = colours.families(["law", "general", "code", "math"])
    assert {name: hue[name] for name in FAMILY_COLOURS} == FAMILY_COLOURS
    assert hue["law"] not in FAMILY_COLOURS.values()


def test_a_colour_keeps_its_hue_at_another_luminance():
    for wanted in (0.05, 0.2, 0.6):
        assert colours.luminance(colours.at("#0072B2", wanted)) == pytest.approx(wanted, abs=0.01)
    assert colours.at("#0072B2", colours.luminance("#0072B2")) == "#0072B2"


def test_shades_spread_over_the_familys_real_size():
    families = {f"c{i}": "math" for i in range(9)} | {"alone": "general", "a": "code", "b": "code"}
    shade = colours.candidates(families)
    assert shade["alone"] == FAMILY_COLOURS["general"]
    lights = [colours.luminance(shade[f"c{i}"]) for i in range(9)]
    assert lights == sorted(lights) and len(set(lights)) == 9
    pair = [colours.luminance(shade[name]) for name in "ab"]
    assert pair == pytest.approx([lights[0], lights[-1]], abs=0.01), "two of a family lie as far apart as nine do"


def test_what_is_written_on_a_shade_can_be_read():
    shades = colours.candidates({f"c{i}": "math" for i in range(9)}).values()
    assert min(contrast(shade, colours.ink_on(shade)) for shade in shades) > 3.5
