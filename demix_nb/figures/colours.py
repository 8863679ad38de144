"""Colours of everything drawn: a hue means a family and nothing else, a shade a candidate of it.

Families called general, math and code have hues of their own; any others get Okabe & Ito's in the order of the table,
darkened where they would vanish on white. All have a contrast of 3 : 1 on white and on a dark page, and readers with
any colour vision tell the first four apart; names are written beside. Kinds of proxy are told by marker, predictors by
dash. Apart from the marks, so that a notebook of panels need not wait for seaborn.

Source: Okabe & Ito (2008), "Color Universal Design"; contrast as in WCAG 2.2, 1.4.11.
"""

from collections.abc import Iterable, Mapping

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, YELLOW, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442", "#7F7F7F"
)  # fmt: skip
WHITE, DARK = "#FFFFFF", "#16181C"  # the two pages that colours are seen on
INK, PALE = "#262626", "#C8C8C8"  # of what belongs to no family

FAMILY_COLOURS = {"general": BLUE, "math": VERMILION, "code": GREEN}
LEAST, MOST = 0.135, 0.29  # luminance that leaves 3 : 1 on both pages
SHADES = 0.03, 0.295  # luminance of a family's darkest and lightest candidate; more is less than 3 : 1 on white


def luminance(colour: str) -> float:
    """Return the relative luminance of "#RRGGBB", 0 black to 1 white (WCAG 2.2)."""
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), _linear(colour), strict=True))


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2)."""
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def at(colour: str, wanted: float) -> str:
    """Return the colour with another luminance, of the same hue: darkened evenly, or thinned with white."""
    now, parts = luminance(colour), _linear(colour)
    if wanted <= now:
        return _hex(part * wanted / now for part in parts)
    return _hex(part + (wanted - now) / (1 - now) * (1 - part) for part in parts)


def _linear(colour: str) -> list[float]:
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def _hex(parts: Iterable[float]) -> str:
    shown = (12.92 * part if part <= 0.0031308 else 1.055 * part ** (1 / 2.4) - 0.055 for part in parts)
    return "#" + "".join(f"{round(255 * part):02X}" for part in shown)


# lightest, darkest, lightest, …: neighbours in the table differ in more than hue
OTHERS = (at(PURPLE, MOST), at(ORANGE, LEAST), at(SKY, MOST), at(YELLOW, MOST), GREY)


def families(names: Iterable[str]) -> dict[str, str]:
    """Return family → colour, in the order of the names; where there are more families than hues, lightness varies."""
    names = list(dict.fromkeys(names))
    strange = [name for name in names if name not in FAMILY_COLOURS]
    free = [colour for name, colour in FAMILY_COLOURS.items() if name not in names]
    return {name: FAMILY_COLOURS.get(name) or _other(strange.index(name), [*free, *OTHERS]) for name in names}


def _other(number: int, hues: list[str]) -> str:
    turn, place = divmod(number, len(hues))
    if turn == 0:
        return hues[place]
    other = LEAST if luminance(hues[place]) > (LEAST + MOST) / 2 else MOST
    step = (1 - turn) / (turn + 1)  # 0 in the second turn: as far from the hue as may be; then ever nearer to it
    return at(hues[place], other + step * (other - luminance(hues[place])))


def candidates(families_of: Mapping[str, str]) -> dict[str, str]:
    """Return candidate → shade of its family's colour, spread over as many as the family has.

    `families_of`: candidate → family.
    """
    hues = families(families_of.values())
    members = {family: [name for name, own in families_of.items() if own == family] for family in hues}
    return {name: _shade(hues[family], members[family].index(name), len(members[family]))
            for name, family in families_of.items()}  # fmt: skip


def _shade(hue: str, number: int, of: int) -> str:
    if of == 1:
        return hue
    dark, light = (value ** (1 / 3) for value in SHADES)  # the eye sees cube roots (CIE L*)
    return at(hue, (dark + (light - dark) * number / (of - 1)) ** 3)


def ink_on(colour: str) -> str:
    """Return what is read best on a colour: black or white."""
    return max((INK, WHITE), key=lambda ink: contrast(ink, colour))
