"""From controls to a picture: any function of plain values, drawn again whenever a watched value changes.

As `ipywidgets.interactive_output`, but it answers while cells still run as well, and leaves no JavaScript in the
notebook (a FigureWidget leaves 5 MB). Controls stand beside what they change, above it where a page is narrow. Where
nobody is at them (`STATIC` is set, as the runner does) a still picture stands in their place.
"""

import os
from collections.abc import Callable, Sequence
from threading import Lock

import ipywidgets as widgets
from IPython.display import clear_output, display
from traitlets import HasTraits

from demix_nb import STATIC

HAND = {"flex": "1 1 20rem", "max_width": "32rem", "min_width": "0"}  # the controls' column
EYE = {"flex": "3 1 26rem", "min_width": "0", "min_height": "24rem"}  # or the page would jump at every move
WIDE = {"flex": "1 1 100%", "max_width": "100%", "min_width": "0"}  # where they take a row of their own
ROW = {"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start", "width": "100%", "overflow": "visible"}


class Panel:
    """Controls beside what they change, or a still picture of it where nobody is at the controls.

    `draw(**values)` returns what is to be seen, from the values of `watched`; `controls` stand above those watched,
    which need not be named again. `still` draws the still picture where it is another than what `draw` says at first.
    `above`: the controls are wide, and stand above the picture.
    """

    def __init__(
        self,
        draw: Callable[..., Sequence],
        *controls: widgets.Widget,
        still: Callable[[], Sequence] | None = None,
        above: bool = False,
        **watched: HasTraits,
    ) -> None:
        first = {name: control.value for name, control in watched.items()}
        self.box = wired(draw, *controls, above=above, **watched)
        # drawn here and not when displayed: IPython passes over what fails there, and a run would not notice
        self.still = list(still() if still else draw(**first)) if os.environ.get(STATIC) or not watched else []

    def _ipython_display_(self) -> None:
        display(*(self.still or [self.box]))


def wired(
    draw: Callable[..., Sequence], *controls: widgets.Widget, above: bool = False, **watched: HasTraits
) -> widgets.Box:
    """Return `controls` beside what `draw(**values)` returns, drawn again whenever a watched value changes.

    Where nobody can move them the controls stand alone: an Output widget that captures while a notebook is executed
    unattended has been seen to lose the kernel's answer, and the run then waits for ever.
    """
    shown = [*controls, *(widget for widget in watched.values() if isinstance(widget, widgets.Widget))]
    hand = widgets.VBox(shown, layout=WIDE if above else HAND)
    if os.environ.get(STATIC) or not watched:
        return widgets.Box([hand], layout=ROW)
    output = widgets.Output(layout=EYE)
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
    return widgets.Box([hand, output], layout=ROW)


def answer_beside_cells(widget: widgets.Widget) -> None:
    """Let a move of `widget`, or of what it holds, be answered while cells run instead of after the last of them.

    JupyterLab hands moves to a thread of the kernel's own, a subshell. ipykernel 7.4 leads them back to where the
    widget was made, behind every cell that waits; a widget that has forgotten the place is answered at once.
    """
    vars(widget.comm).pop("_reply_subshell_id", None)
    for child in getattr(widget, "children", ()):
        answer_beside_cells(child)
