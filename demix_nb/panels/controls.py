"""Controls that panels are made of: lists to choose from, buttons that answer, a heat map under the finger.

Every control shrinks with the page: at 390 pixels a slider is shorter, and a wide table scrolls in its own box.
"""

from collections.abc import Callable, Collection, Sequence
from html import escape
from itertools import chain

import ipywidgets as widgets
import numpy as np
import pandas as pd
from plotly.colors import sample_colorscale
from traitlets import HasTraits, Tuple

from demix_nb.figures.colours import BLACK
from demix_nb.ranges import near
from demix_nb.store import Refusal

LISTED = 20  # of anything that a page lists: sliders, rows, entries of a list
BUDGETS = 5, 14  # powers of ten of tokens: from a test on a laptop to the longest runs there are
LONG = {"style": {"description_width": "8.5rem"}, "layout": {"width": "100%", "max_width": "26rem"}}


def tokens_slider(tokens: float) -> widgets.FloatLogSlider:
    """Return a slider over budgets from 1e5 to 1e14 tokens, which stands at the study's own `tokens`."""
    least, most = BUDGETS
    return widgets.FloatLogSlider(
        value=tokens, min=min(least, np.floor(np.log10(tokens))), max=max(most, np.ceil(np.log10(tokens))), step=0.05,
        description="tokens to train", readout_format=".3s", continuous_update=False, **LONG,
    )  # fmt: skip


def chooser(
    description: str, known: Sequence[str], value: str | None = None, listed: Sequence[str] = ()
) -> widgets.Dropdown | widgets.Combobox:
    """Return a list of which one is chosen, the first where `value` names none.

    Of more than `LISTED` only those `listed` (the first ones where none are) stand in it, and any other can be typed:
    whoever watches must expect names that are not `known` (`unknown`).
    """
    how = {"value": value or known[0], "description": description, "layout": {"width": "98%", "max_width": "31rem"}}
    if len(known) <= LISTED:
        return widgets.Dropdown(options=known, **how)
    return widgets.Combobox(options=list(listed or known)[:LISTED], placeholder="type a name", continuous_update=False,
                            **how)  # fmt: skip


def unknown(names: Sequence[str], known: Collection[str]) -> str:
    """Return what is to be said of the first name that is not known, with the nearest that is; "" where all are."""
    odd = next((name for name in names if name not in known), None)
    return "" if odd is None else f"There is no {odd!r} here{near(odd, known, '; did you mean {!r}?') or '.'}"


def button(description: str, act: Callable[[], str]) -> widgets.HBox:
    """Return a button, and beside it what `act()` returns when it is pressed; a refusal is said there too."""
    pressed, said = widgets.Button(description=description), widgets.HTML()

    def answer(_: object) -> None:
        try:
            said.value = escape(act())
        except Refusal as refusal:
            said.value = escape(str(refusal))

    pressed.on_click(answer)
    return widgets.HBox([pressed, said])


# --- a heat map under the finger -------------------------------------------------------------------------------------


class Cells(HasTraits):
    """A table of gains as a heat map of buttons; `value` is the (candidate, target) of the one pressed last."""

    value = Tuple()

    def __init__(self, gain: pd.DataFrame, chosen: tuple[str, str]) -> None:
        limit = float(gain.abs().to_numpy().max())
        self.buttons = {(name, target): _cell(name, target, gain.loc[name, target], limit)
                        for name in gain.index for target in gain}  # fmt: skip
        for pair, button in self.buttons.items():
            button.on_click(lambda _, pair=pair: self.choose(pair))
        self.choose(chosen)

    def choose(self, pair: tuple[str, str]) -> None:
        """Frame one cell instead of the one before, and let whoever watches know."""
        if self.value:
            self.buttons[self.value].layout.border = None
        self.buttons[pair].layout.border = f"3px solid {BLACK}"
        self.value = pair

    @property
    def box(self) -> widgets.GridBox:
        """The heat map, ready to be displayed."""
        rows, columns = (list(dict.fromkeys(names)) for names in zip(*self.buttons, strict=True))
        heads = [_head(target) for target in columns]
        lines = ([_head(name), *(self.buttons[name, target] for target in columns)] for name in rows)
        across = f"9rem repeat({len(columns)}, minmax(3.2rem, 5.5rem))"
        layout = {"grid_template_columns": across, "overflow": "auto", "max_width": "100%"}
        return widgets.GridBox([_head(""), *heads, *chain(*lines)], layout=layout)


def _cell(candidate: str, target: str, gain: float, limit: float) -> widgets.Button:
    (colour,) = sample_colorscale("RdBu", [(gain / limit + 1) / 2])
    style = {"button_color": colour, "text_color": "white" if abs(gain) > 0.6 * limit else BLACK}
    return widgets.Button(description=f"{gain:+.1f}", tooltip=f"{candidate} → {target}", style=style,
                          layout={"width": "auto", "margin": "1px", "padding": "0"})  # fmt: skip


def _head(name: str) -> widgets.HTML:
    shown = escape(name).replace("_", "_<wbr>")
    return widgets.HTML(f'<div style="line-height: 1.2; font-size: 0.8rem">{shown}</div>', layout={"margin": "1px 4px"})
