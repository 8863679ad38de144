"""The colours of everything drawn: the same one for the same family, method and kind of proxy everywhere.

Okabe & Ito's palette and a brown, which readers with any colour vision can tell apart (tested on simulations). Apart
from `figures`, so that a notebook of plotly panels need not wait for seaborn.
"""

# Okabe & Ito (2008), "Color Universal Design"; yellow left out: it vanishes on white.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY, BROWN = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F", "#5A2D00"
)  # fmt: skip

FAMILY_COLOURS = {"general": BLUE, "math": VERMILION, "code": GREEN, "macro": BLACK}

# One colour per way of predicting or choosing, the same in every notebook; papers' own settings are sky and blue.
METHOD_COLOURS = {
    "ridge": BROWN,
    "lightgbm_regmix": SKY,
    "lightgbm_demix": BLUE,
    "lightgbm_bagged": GREEN,
    "gaussian_process": VERMILION,
    "mixing_law": PURPLE,
    "log_linear": ORANGE,
    "ensemble": BLACK,
}

# One colour per kind of proxy, the same in every notebook.
PROXY_COLOURS = {
    "merged": VERMILION,
    "calibrated": ORANGE,
    "calibrated per family": BROWN,
    "ensemble": GREEN,
    "fused merged": PURPLE,
    "fused ensemble": BLUE,
    "trained proxies": SKY,
    "mixed": BLACK,
}
