"""The look of every quoted figure, in one place: theme, colours, and how a figure reaches the disk.

A quoted figure is a named function that takes tables and returns a matplotlib figure; notebooks show it, `save` writes
it, and the tests draw it again. Colours are Okabe & Ito's palette, which readers with any colour vision can tell apart.
"""

import os
from pathlib import Path

import seaborn as sns
from matplotlib.figure import Figure

# Okabe & Ito (2008), "Color Universal Design"; yellow left out: it vanishes on white.
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE, GREY = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
)  # fmt: skip

FAMILY_COLOURS = {"general": BLUE, "math": VERMILION, "code": GREEN, "macro": BLACK}

# One colour per way of predicting or choosing, the same in every notebook; papers' own settings are grey and sky.
METHOD_COLOURS = {
    "ridge": GREY,
    "lightgbm_regmix": SKY,
    "lightgbm_demix": BLUE,
    "lightgbm_bagged": GREEN,
    "gaussian_process": VERMILION,
    "mixing_law": PURPLE,
    "log_linear": ORANGE,
    "ensemble": BLACK,
}

DPI = 110  # small enough to commit, sharp enough for a README column


def style() -> None:
    """Seaborn theme shared by all figures; call it once at the top of a notebook."""
    sns.set_theme(
        style="whitegrid",
        palette=[BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, BLACK],
        rc={
            "figure.dpi": DPI,
            "axes.titlesize": "medium",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": "#E6E6E6",
            "legend.frameon": False,
        },
    )


def save(figure: Figure, path: Path | str) -> Path:
    """Write a PNG at 110 dpi under a temporary name beside `path`, then rename: nobody ever sees half a figure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.png")
    try:
        figure.savefig(temporary, dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
