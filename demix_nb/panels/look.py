"""The look of every panel: plotly's theme, how a figure is stored, and a layout that a narrow page holds as well.

Panels are read on a laptop and on a telephone: titles are short and on the left, legends lie under the picture, and
what could stand side by side stands one above the other.
"""

import json
from collections.abc import Iterable, Mapping
from html import escape
from textwrap import wrap

import plotly.graph_objects as go
import plotly.io as pio
from IPython import get_ipython
from IPython.display import display

from demix_nb import PLOTLY

SIDES = {"l": 20, "r": 20, "t": 60, "b": 50}  # pixels around a picture; tick labels take what they need themselves
INLAID = {"width": 1.5, "color": "white"}  # around a black mark, which is then seen on every ground


def style() -> None:
    """Plotly's look beside seaborn's; figures are stored as data alone, as whoever reads them brings plotly.js."""
    pio.templates.default = "plotly_white"
    if shell := get_ipython():
        # not by plotly's own renderers: they import nbformat, and a reader with a slider waits for that
        own = shell.display_formatter.ipython_display_formatter
        own.for_type(go.Figure, lambda figure: display(stored(figure), raw=True))


def stored(figure: go.Figure) -> dict[str, dict]:
    """Return a figure as a notebook stores it: a MIME bundle of its data, without any JavaScript."""
    return {PLOTLY: json.loads(figure.to_json())}


def arranged(figure: go.Figure, title: str, height: float, **more: object) -> go.Figure:
    """Return the figure with title, height in pixels, and what keeps it readable at 390 pixels of width."""
    layout = {"margin": SIDES, "legend": {"orientation": "h", "y": -0.12, "yanchor": "top"}} | more
    return figure.update_layout(title={"text": title, "x": 0.02, "font": {"size": 13}}, height=height, **layout)


def said(sentence: str) -> go.Figure:
    """Return a picture that says in words why there is nothing to be drawn."""
    lines = wrap(escape(sentence, quote=False), 48)
    words = {"x": 0, "y": 0.5, "xref": "paper", "yref": "paper", "xanchor": "left", "align": "left", "showarrow": False}
    figure = go.Figure().add_annotation(text="<br>".join(lines), **words).update_xaxes(visible=False)
    return arranged(figure.update_yaxes(visible=False), "", 24 * len(lines) + 40, margin=dict.fromkeys("lrtb", 20))


def dots(x: Iterable, y: Iterable, marker: Mapping[str, object], names: Iterable[str]) -> go.Scatter:
    """Return named points that say their name and place when pointed at."""
    hover = "%{text}: %{x:.3g}, %{y:.3f}<extra></extra>"
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, text=names, hovertemplate=hover)


def short(name: str, most: int = 14) -> str:
    """Return a name in at most so many letters: what a narrow page has room for beside a picture."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
