"""Landscapes: what is predicted and what was scored over a triangle of mixtures.

The simplex of K candidates has K − 1 dimensions, a page has two: so three groups of candidates stand at the corners,
each as an even split of its members, and everything between them is an average of the three.

Source: MergeMix (arXiv 2601.17858) draws landscapes over the simplex.
"""

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool
from scipy.spatial.distance import cdist

from demix_nb.figures.colours import BLACK, INK, WHITE
from demix_nb.panels.look import INLAID, arranged, short
from demix_nb.scored import Scored

EDGE = 24  # steps along an edge of a triangle: 325 points, enough for a smooth map and light enough for a page
MACRO = "macro rank"
TOO_FEW = "A triangle needs three candidates; this study has fewer."
SHARED = "Choose three corners that share no candidate."


def heaviest(weights: pd.Series, most: int) -> list[str]:
    """Return the `most` names with the largest weights, in the order of `weights`."""
    chosen = set(weights.nlargest(most).index)
    return [name for name in weights.index if name in chosen]


def groups(origin: Mapping[str, str]) -> dict[str, list[str]]:
    """Return what can stand at a corner, label → candidates: families of several, then every candidate alone.

    `origin`: candidate → family. A family that is called as a candidate is is labelled "all <family>".
    """
    several = {family: members for family, members in _members(origin).items() if len(members) > 1}
    return {_label(family, origin): members for family, members in several.items()} | {name: [name] for name in origin}


def first(origin: Mapping[str, str], weights: pd.Series) -> list[str]:
    """Return the labels of three corners to begin with; none for fewer than three candidates.

    They are the families with the largest `weights` (candidate → weight), or candidates where there are no three.
    """
    members = _members(origin)
    if len(members) < 3:
        return heaviest(weights[list(origin)], 3) if len(origin) >= 3 else []
    large = heaviest(pd.Series({family: weights[names].sum() for family, names in members.items()}), 3)
    return [_label(family, origin) if len(members[family]) > 1 else members[family][0] for family in large]


def _members(origin: Mapping[str, str]) -> dict[str, list[str]]:
    return {family: [name for name in origin if origin[name] == family] for family in origin.values()}


def _label(family: str, origin: Mapping[str, str]) -> str:
    while family in origin:
        family = f"all {family}"
    return family


def shared(groups: Mapping[str, Sequence[str]]) -> bool:
    """Return whether some candidate stands at two corners, or the corners are not three."""
    members = [name for group in groups.values() for name in group]
    return len(groups) < 3 or len(set(members)) < len(members)


def corners_of(groups: Mapping[str, Sequence[str]], candidates: Sequence[str]) -> pd.DataFrame:
    """Return the three mixtures at the corners of a triangle: each an even split of one group of candidates."""
    rows = {label: [float(name in group) / len(group) for name in candidates] for label, group in groups.items()}
    return pd.DataFrame(rows, index=list(candidates)).T


def triangle(corners: pd.DataFrame, edge: int = EDGE) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a grid over the triangle between three mixtures: weights of the corners, and the mixtures themselves."""
    steps = [(a, b, edge - a - b) for a in range(edge + 1) for b in range(edge + 1 - a)]
    names = pd.Index([f"{a}-{b}-{c}" for a, b, c in steps], name="mixture")
    weights = pd.DataFrame(np.array(steps) / edge, index=names, columns=corners.index)
    return weights, weights @ corners


def in_triangle(mixtures: pd.DataFrame, corners: pd.DataFrame) -> pd.DataFrame:
    """Return the share of each corner's candidates in every mixture; what is missing to 1 lies outside the triangle."""
    return mixtures @ (corners.T > 0).astype(float)


def height(scored: Scored, what: str) -> pd.Series:
    """Return one family's score, or for `MACRO` the share of the table that has a better macro rank (0 = best)."""
    if what != MACRO:
        return scored.families[what]
    return (scored.ranks.rank() - 1) / max(len(scored) - 1, 1)


def landscape(
    predictor, scored: Scored, corners: pd.DataFrame, what: str, marks: pd.DataFrame | None = None
) -> go.Figure:
    """Predicted score over a triangle of mixtures, the scored proxies on top in the same colours, `marks` as stars.

    `what`: a family, or `MACRO`. A proxy is drawn the smaller the more of it lies outside of the triangle.
    """
    weights, grid = triangle(corners)
    predicted, found = height(predictor.predict(grid), what), height(scored, what)
    ends = [min(predicted.min(), found.min()), max(predicted.max(), found.max())]
    inside = in_triangle(scored.mixtures, corners)
    tiles = predicted.iloc[cdist(inside.div(inside.sum(axis=1), axis=0), weights).argmin(axis=1)]
    better_high = what != MACRO and bool(scored.directions[what])
    bright = (tiles.to_numpy() > np.mean(ends)) == better_high
    figure = go.Figure([ground(weights, predicted), _circles(inside, found, bright)])
    if marks is not None:
        figure.add_traces(_stars(in_triangle(marks, corners)))
    unit = "share that is better" if what == MACRO else scored.units[what]
    bar = {"title": {"text": unit, "side": "top"}, "orientation": "h", "thickness": 12, "y": -0.1, "yanchor": "top"}
    scale = {"colorscale": "Cividis", "reversescale": not better_high, "colorbar": bar}
    scale |= dict(zip(("cmin", "cmax"), ends, strict=True))
    title = f"{what}: predicted (ground) and scored (circles)<br>bright is better"
    below = {"orientation": "h", "y": -0.38, "yanchor": "top"}
    figure = arranged(figure, title, 540, ternary=axes(corners), coloraxis=scale, legend=below)
    return figure.update_layout(margin={"l": 40, "r": 40, "t": 100, "b": 150})


# --- marks in a triangle; `replay` draws with them as well ----------------------------------------------------------


def points(inside: pd.DataFrame, marker: Mapping[str, object], **more: object) -> go.Scatterternary:
    """Return marks at mixtures given by the shares of the three corners."""
    a, b, c = (inside[corner] for corner in inside)
    return go.Scatterternary(
        a=a, b=b, c=c, **{"mode": "markers", "marker": marker, "showlegend": False, "cliponaxis": False} | more
    )


def ground(weights: pd.DataFrame, values: pd.Series) -> go.Scatterternary:
    """Return the map of predicted values over the grid."""
    marker = {"color": values, "size": 17, "symbol": "hexagon", "coloraxis": "coloraxis"}
    hover = "%{a:.0%}, %{b:.0%}, %{c:.0%}: %{marker.color:.3f}<extra>predicted</extra>"
    return points(weights, marker, hovertemplate=hover, cliponaxis=True)


def axes(corners: pd.DataFrame) -> dict[str, object]:
    """Return a triangle's axes, named after its corners, where a tick would be in the name's way."""
    ticks = {"tickformat": ".0%", "tickvals": [0.25, 0.5, 0.75]}
    named = zip(("aaxis", "baxis", "caxis"), corners.index, strict=True)
    return {axis: {"title": short(label), **ticks} for axis, label in named} | {"bgcolor": "white"}


def _circles(inside: pd.DataFrame, values: pd.Series, bright: Bool[np.ndarray, " mixture"]) -> go.Scatterternary:
    """Scored proxies in the colours of the ground, their edges dark where it is `bright`, else white."""
    marker = {"color": values, "size": (4 + 6 * inside.sum(axis=1)).round(1), "opacity": 1, "coloraxis": "coloraxis"}
    marker["line"] = {"width": 1.5, "color": np.where(bright, INK, WHITE)}
    return points(inside, marker, text=inside.index, hovertemplate="%{text}: %{marker.color:.3f}<extra>scored</extra>")


def _stars(inside: pd.DataFrame) -> list[go.Scatterternary]:
    look = {"size": 14, "color": BLACK, "line": INLAID}
    symbols = dict(zip(inside.index, cycle(("star", "square", "cross", "diamond", "x")), strict=False))
    return [points(inside.loc[[name]], look | {"symbol": symbols[name]}, name=name, showlegend=True, hoverinfo="name")
            for name in inside.index]  # fmt: skip
