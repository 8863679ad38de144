"""Controls to move: sliders kept on the simplex, a table of buttons, and the wire from them to a picture.

`Panel` wires any function of plain values to controls as `ipywidgets.interactive_output` does, and answers while cells
still run as well. It leaves no JavaScript in the notebook (a FigureWidget leaves 5 MB). Every control shrinks with the
page: at 390 pixels a slider is shorter, and a wide table scrolls in its own box.
"""

import os
from collections.abc import Callable, Collection, Sequence
from html import escape
from itertools import chain
from threading import Lock

import ipywidgets as widgets
import numpy as np
import pandas as pd
from IPython.display import clear_output, display
from plotly.colors import sample_colorscale
from traitlets import Dict, HasTraits, Tuple

from demix_nb import STATIC
from demix_nb.figures.colours import BLACK
from demix_nb.ranges import near
from demix_nb.store import Refusal

LISTED = 20  # of anything that a page lists: sliders, rows, entries of a list
STEP = 0.001  # of share, one step of a slider; whole steps are what lets the numbers on screen sum to exactly 1
LONG = {"style": {"description_width": "8.5rem"}, "layout": {"width": "100%", "max_width": "26rem"}}


# --- mixtures under sliders ------------------------------------------------------------------------------------------


def whole_steps(shares: pd.Series, total: float = 1.0, step: float = STEP) -> pd.Series:
    """Return shares in whole steps, thousandths by default, that sum to `total`, by largest remainder."""
    steps = shares * (total / shares.sum()) / step
    floor = np.floor(steps + 1e-9)
    missing = round(total / step) - int(floor.sum())
    floor[(steps - floor).nlargest(missing).index] += 1
    return floor * step


def moved(shares: pd.Series, name: str, share: float, locked: Collection[str] = ()) -> pd.Series:
    """Return the mixture after `name` was set to `share`: unlocked others are rescaled, locked ones stay as they are.

    `share` is cut to what the locks leave; with every other candidate locked nothing moves. Others that were all zero
    take equal parts.
    """
    free = [other for other in shares.index if other != name and other not in locked]
    if not free:
        return shares
    room = shares[[name, *free]].sum()
    after = shares.copy()
    after[name] = round(min(max(share, 0.0), room) / STEP) * STEP
    weights = shares[free] if shares[free].sum() > 0 else pd.Series(1.0, free)
    after[free] = whole_steps(weights, room - after[name]) if room - after[name] > STEP / 2 else 0.0
    return after


class Mixture(HasTraits):
    """The mixture that the sliders stand for, as one value that a panel can watch."""

    value = Dict()


class Desk:
    """One slider and one lock per candidate, kept on the simplex, and a list of presets; `mixture` is what they say.

    `names`: the candidates that get a slider, all of them where none are named; the others move in proportion.
    """

    def __init__(self, presets: pd.DataFrame, names: Sequence[str] = ()) -> None:
        self.presets = presets
        self.choice = chooser("start from", list(presets.index))
        self.sliders = {name: _slider(name) for name in names or presets}
        self.locks = {name: widgets.Checkbox(description="lock", indent=False, layout={"width": "4rem"})
                      for name in self.sliders}  # fmt: skip
        self.sum = widgets.HTML()
        self.mixture = Mixture()
        self.choice.observe(lambda change: self.start(change.new), "value")
        for name in self.sliders:
            self.sliders[name].observe(lambda change, name=name: self.move(name, change.new), "value")
            self.locks[name].observe(lambda change, name=name: self._hold(name, change.new), "value")
        self.show(presets.iloc[0])

    def start(self, name: str) -> None:
        """Put a preset on the sliders; a name that is being typed and is none yet changes nothing."""
        if name in self.presets.index:
            self.show(self.presets.loc[name])

    def show(self, shares: pd.Series) -> None:
        """Put a mixture on the sliders, in whole steps, and let whoever watches know once."""
        shares = whole_steps(shares)
        self.moving = True  # sliders that we move ourselves must not answer
        for name, slider in self.sliders.items():
            slider.value = shares[name]
        self.moving = False
        self.sum.value = f"sum <b>{shares.sum():.1%}</b>{self._unseen(shares)}"
        self.mixture.value = shares.to_dict()

    def move(self, name: str, share: float) -> None:
        """Answer to a slider that the reader moved."""
        if not self.moving:
            locked = [other for other, lock in self.locks.items() if lock.value]
            self.show(moved(pd.Series(self.mixture.value), name, share, locked))

    def _unseen(self, shares: pd.Series) -> str:
        rest = shares.drop(list(self.sliders))
        return f", <b>{rest.sum():.1%}</b> of it in {len(rest)} candidates without a slider" if len(rest) else ""

    def _hold(self, name: str, held: bool) -> None:
        self.sliders[name].disabled = held

    @property
    def box(self) -> widgets.VBox:
        """The controls, ready to be displayed."""
        width = {"width": "100%", "max_width": "31rem"}
        rows = [widgets.HBox([self.sliders[name], self.locks[name]], layout=width) for name in self.sliders]
        return widgets.VBox([self.choice, *rows, self.sum])


def _slider(name: str) -> widgets.FloatSlider:
    look = {"readout_format": ".1%", "continuous_update": False, "description": name, "tooltip": name}
    return widgets.FloatSlider(min=0, max=1, step=STEP, **look, **LONG)


def tokens_slider(tokens: float) -> widgets.FloatLogSlider:
    """Return a slider over budgets: the study's own `tokens`, down to a tenth and up to a hundred times as many."""
    power = int(np.log10(tokens))
    return widgets.FloatLogSlider(value=tokens, min=power, max=power + 3, description="tokens to train",
                                  readout_format=",.0f", continuous_update=False, **LONG)  # fmt: skip


def chooser(
    description: str, known: Sequence[str], value: str | None = None, listed: Sequence[str] = ()
) -> widgets.Dropdown | widgets.Combobox:
    """Return a list of which one is chosen, the first where `value` names none.

    Of more than `LISTED` only those `listed` (the first ones where none are) stand in it, and any other can be typed:
    whoever watches must expect names that are not `known` (`unknown`).
    """
    how = {"value": value or known[0], "description": description, "layout": {"width": "100%", "max_width": "31rem"}}
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


# --- from a control to a picture -------------------------------------------------------------------------------------


class Panel:
    """Controls above what they change, and under it a still picture of it for pages without Python.

    `draw(**values)` returns what is to be seen, from the values of `watched`; `controls` stand above it, those watched
    need not be named again. `still` draws the still picture where it is another than what `draw` says at first.
    """

    def __init__(
        self,
        draw: Callable[..., Sequence],
        *controls: widgets.Widget,
        still: Callable[[], Sequence] | None = None,
        **watched: HasTraits,
    ) -> None:
        first = {name: control.value for name, control in watched.items()}
        self.box = wired(draw, *controls, **watched)
        # drawn here and not when displayed: IPython passes over what fails there, and a run would not notice
        self.still = list(still() if still else draw(**first))

    def _ipython_display_(self) -> None:
        display(self.box, *self.still)


def wired(draw: Callable[..., Sequence], *controls: widgets.Widget, **watched: HasTraits) -> widgets.VBox:
    """Return `controls` above what `draw(**values)` returns, drawn again whenever a watched value changes.

    Where nobody can move them (`STATIC` is set, as the runner does) the controls stand alone: an Output widget that
    captures while a notebook is executed unattended has been seen to lose the kernel's answer, and the run then waits
    for ever.
    """
    shown = [*controls, *(widget for widget in watched.values() if isinstance(widget, widgets.Widget))]
    if os.environ.get(STATIC):
        return widgets.VBox(shown)
    output = widgets.Output(layout={"min_height": "24rem"})  # or the page would jump at every move
    turn = Lock()  # a slider may move while the first picture is drawn, and an Output captures for one thread alone

    def again(_: object = None) -> None:
        with turn, output:
            clear_output(wait=True)
            display(*draw(**{name: control.value for name, control in watched.items()}))

    for control in watched.values():
        control.observe(again, "value")
    for widget in shown:
        answer_beside_cells(widget)
    again()
    return widgets.VBox([*shown, output])


def answer_beside_cells(widget: widgets.Widget) -> None:
    """Let a move of `widget`, or of what it holds, be answered while cells run instead of after the last of them.

    JupyterLab hands moves to a thread of the kernel's own, a subshell. ipykernel 7.4 leads them back to where the
    widget was made, behind every cell that waits; a widget that has forgotten the place is answered at once.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)
    for child in getattr(widget, "children", ()):
        answer_beside_cells(child)
