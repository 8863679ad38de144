"""Colours that stand for something are told apart by readers with any colour vision, and seen on white."""

from itertools import combinations

import numpy as np
import pytest
from colorspacious import cspace_convert, deltaE
from matplotlib.colors import to_rgb

from demix_nb.colours import FAMILY_COLOURS, METHOD_COLOURS, PROXY_COLOURS

APART = 10  # ΔE' of CAM02-UCS, 100 from black to white; Okabe & Ito's own closest pair is 11 apart
VISIONS = (None, "protanomaly", "deuteranomaly", "tritanomaly")


def seen(colour, vision):
    """A colour as a reader sees it who lacks one kind of cone entirely (Machado et al. 2009)."""
    if vision is None:
        return np.array(to_rgb(colour))
    space = {"name": "sRGB1+CVD", "cvd_type": vision, "severity": 100}
    return np.clip(cspace_convert(to_rgb(colour), space, "sRGB1"), 0, 1)


def distance(first, second, vision):
    return deltaE(seen(first, vision), seen(second, vision), input_space="sRGB1")


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("palette", [FAMILY_COLOURS, METHOD_COLOURS, PROXY_COLOURS])
def test_any_reader_tells_them_apart(palette, vision):
    apart = {pair: distance(palette[pair[0]], palette[pair[1]], vision) for pair in combinations(palette, 2)}
    assert {pair: round(apart[pair], 1) for pair in apart if apart[pair] < APART} == {}


@pytest.mark.parametrize("palette", [FAMILY_COLOURS, METHOD_COLOURS, PROXY_COLOURS])
def test_they_are_seen_on_white(palette):
    assert all(distance(colour, "white", None) > 2 * APART for colour in palette.values())


def test_the_simulation_confuses_what_such_readers_confuse():
    assert distance("#D55E00", "#B8860B", None) > 15 > APART > distance("#D55E00", "#B8860B", "deuteranomaly")
