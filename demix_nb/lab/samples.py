"""What lies in each candidate, to be seen: a document of it as it begins, beside how long its documents are."""

from textwrap import wrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from demix_nb.figures import marks
from demix_nb.figures.colours import families

LETTERS, LINES = 68, 3  # of a document that are shown
BINS = np.geomspace(8, 20_000, 22)  # tokens
ROW = 0.62  # inches


def lengths(tokens: np.ndarray, end: int) -> pd.Series:
    """Return the tokens of every document of a stream, without its end-of-text token `end`."""
    return pd.Series(np.diff(np.flatnonzero(np.asarray(tokens) == end), prepend=-1) - 1)


def samples(corpora) -> Figure:
    """Draw every candidate of `Corpora` as a row: the beginning of a held-out document, and a histogram of lengths.

    Lengths are in tokens, of the training text, on a scale of powers; the bars of a row have the row's height.
    """
    names, hues = corpora.candidates, families(corpora.families.values())
    figure, grid = marks.canvas(
        len(names), 2, height=ROW * len(names) + 0.5, width_ratios=[3, 1.3], sharex="col", gridspec_kw={"hspace": 0.1}
    )
    for name, (left, right) in zip(names, grid, strict=True):
        hue = hues[corpora.families[name]]
        _words(left, name, corpora.heldout[name][0], hue)
        right.hist(
            lengths(corpora.train[name], corpora.tokenizer.eos_token_id).clip(BINS[0], BINS[-1]), BINS, color=hue
        )
        right.set(xscale="log", yticks=[])
        right.grid(visible=False)
    grid[-1, 1].set_xlabel("tokens of a document")
    return figure


def _words(axes: Axes, name: str, text: str, hue: str) -> None:
    shown = wrap(" ".join(text.split()), LETTERS, max_lines=LINES, placeholder=" …")
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.text(0, 0.98, name, va="top", color=hue, weight="bold", size=marks.SMALL)
    axes.text(0, 0.72, "\n".join(shown), va="top", size=marks.TINY + 1, parse_math=False, family="monospace")
