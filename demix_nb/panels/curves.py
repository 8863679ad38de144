"""Curves: the way from one candidate to another, and what more of a candidate does to a score.

Hue is the family of what is scored, as everywhere; ways of getting there (merged, mixed, really trained) are told apart
by mark and dash. The way of an interaction is that of `interactions.effects`: a candidate's share grows from a centre
and all others shrink in proportion.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from demix_nb.figures.colours import BLACK, GREY, families
from demix_nb.interactions import effects, towards
from demix_nb.panels.look import arranged, dots, short
from demix_nb.predictors import SURE
from demix_nb.scored import Scored

SHARES = (0, 0.01, 0.05, 0.2, 0.5, 1)  # that an axis of roots names
AXIS = 40  # pixels that an axis among others takes at least: a page that has less shows them in a box that scrolls
LOOKS = {  # kind → how it is drawn; references are few and stand as marks alone
    "merged": {"mode": "lines+markers", "line": {"dash": "solid"}, "marker": {"symbol": "circle", "size": 6}},
    "mixed": {"mode": "lines+markers", "line": {"dash": "dash"}, "marker": {"symbol": "square-open", "size": 6}},
    "reference": {"mode": "markers", "marker": {"symbol": "diamond", "size": 12}},
}


def path(curves: Mapping[str, pd.DataFrame], origin: Mapping[str, str]) -> go.Figure:
    """Scores along the way between two candidates, a panel per candidate, one curve per way of getting there.

    `curves`: merged, mixed or reference → table whose index is the weight of the second candidate; bits per byte.
    `origin`: candidate → family.
    """
    names, hues = list(next(iter(curves.values()))), families(origin.values())
    figure = make_subplots(rows=len(names), cols=1, subplot_titles=names, shared_xaxes=True, vertical_spacing=0.1)
    for kind, table in curves.items():
        for row, name in enumerate(names, start=1):
            line = go.Scatter(x=table.index, y=table[name], name=kind, legendgroup=kind, showlegend=row == 1)
            line.update(LOOKS[kind]).update(marker_color=hues[origin[name]], line_color=hues[origin[name]])
            figure.add_trace(line, row=row, col=1)
    figure.update_yaxes(title="bits per byte")
    figure.update_xaxes(title=f"weight of {names[-1]}", row=len(names), col=1)
    return arranged(figure, "", 230 * len(names) + 60, legend={"orientation": "h", "y": -0.17, "yanchor": "top"})


def parallel(scored: Scored, names: Sequence[str]) -> go.Figure:
    """Every scored mixture as one line over the shares of `names`, the families' scores and the macro rank.

    Shares stand on the scale of their roots, as most are small; on every axis of a score better is up. A stretch of an
    axis that is dragged over keeps the lines through it.
    """
    marks = {"tickvals": np.sqrt(SHARES), "range": [0, 1]}
    shares = [{"values": np.sqrt(scored.mixtures[name]), "label": short(name), "ticktext": [""] * len(SHARES), **marks}
              for name in names]  # fmt: skip
    shares[0]["ticktext"] = [f"{share:.0%}" for share in SHARES]  # of all of them, as their scales are one
    told = [_axis(values, bool(scored.directions[name]), ".2f") for name, values in scored.families.items()]
    ranks = _axis(scored.ranks.rename("macro rank"), False, ".0f")
    line = {"color": scored.ranks, "colorscale": "Cividis", "reversescale": True}
    figure = go.Figure(go.Parcoords(line=line, dimensions=[*shares, *told, ranks], labelangle=-35, labelside="bottom"))
    margin = {"l": 50, "r": 40, "t": 50, "b": 120}
    wide = {"least": AXIS * len(figure.data[0].dimensions) + 90}
    said = "shares, then scores: drag along an axis<br>to keep a stretch of it"
    return arranged(figure, said, 460, margin=margin, meta=wide)


def _axis(values: pd.Series, higher_is_better: bool, digits: str) -> dict[str, object]:
    ends = [values.min(), values.max()]
    marks = {"tickvals": np.linspace(*ends, 5), "tickformat": digits}
    return {
        "values": values,
        "label": short(str(values.name)),
        "range": ends[:: 1 if higher_is_better else -1],
        **marks,
    }


# --- interactions ----------------------------------------------------------------------------------------------------


def gains(predictor, scored: Scored) -> pd.DataFrame:
    """Return candidate × task: what more of the candidate does at the mean mixture, positive where it helps.

    In standard deviations of the task per unit of share, so that tasks of other units share one picture.
    """
    return effects(predictor, scored.mixtures.mean()) / scored.scores.std()


def heat(gain: pd.DataFrame, cell: tuple[str, str]) -> go.Figure:
    """Which candidate helps (blue) which task; `cell`, a candidate and a task, is framed."""
    limit = float(gain.abs().to_numpy().max())
    bar = {"thickness": 10, "title": {"text": "sd per unit of share", "side": "right"}}
    shades = {"colorscale": "RdBu", "zmin": -limit, "zmax": limit, "colorbar": bar}
    hover = "%{y} → %{x}: %{z:.2f}<extra></extra>"
    figure = go.Figure(go.Heatmap(z=gain, x=gain.columns, y=gain.index, hovertemplate=hover, **shades))
    row, column = gain.index.get_loc(cell[0]), gain.columns.get_loc(cell[1])
    around = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
    figure.add_shape(type="rect", line={"color": BLACK, "width": 3}, **around)
    figure.update_xaxes(tickvals=list(gain.columns), ticktext=[short(name, 22) for name in gain.columns])
    figure.update_yaxes(
        autorange="reversed", tickvals=list(gain.index), ticktext=[short(name, 18) for name in gain.index]
    )
    return arranged(figure, "who helps (blue) which score", 28 * len(gain) + 170)


def dependence(predictor, centre: pd.Series, candidate: str, points: int = 31) -> pd.DataFrame:
    """Return predicted mean and spread of every task as `candidate` grows from 0 to all, the others in proportion.

    Index: the candidate's share; columns: (mean or spread, task).
    """
    grown = np.linspace(0, 1, points)
    steps = (grown - centre[candidate]) / (1 - centre[candidate])  # negative below the centre: others grow instead
    rows = {f"{share:.4f}": towards(centre, candidate, step=step) for share, step in zip(grown, steps, strict=True)}
    way = pd.DataFrame(rows).T.clip(lower=0)
    mean, spread = predictor.predict(way).scores, predictor.spread(way)
    return pd.concat({"mean": mean, "spread": spread}, axis=1).set_axis(grown)


def dependence_panel(predictor, scored: Scored, candidate: str, task: str) -> go.Figure:
    """How a task changes with a candidate's share: mean, 90 % interval, and the scored proxies (grey)."""
    curve = dependence(predictor, scored.mixtures.mean(), candidate)
    mean, reach = curve["mean", task], SURE * curve["spread", task]
    hue = families(scored.tasks["family"])[scored.tasks.loc[task, "family"]]
    around, edge = [*curve.index, *curve.index[::-1]], [*(mean + reach), *(mean - reach)[::-1]]
    band = go.Scatter(x=around, y=edge, fill="toself", line={"color": hue, "width": 1}, mode="lines", hoverinfo="skip")
    grey = {"color": GREY, "size": 6, "line": {"width": 0.8, "color": "white"}}
    seen = dots(scored.mixtures[candidate], scored.scores[task], grey, scored.names)
    line = go.Scatter(x=curve.index, y=mean, line={"color": hue}, hovertemplate="%{x:.0%}: %{y:.3f}<extra></extra>")
    figure = go.Figure([band, seen, line])
    figure.update_xaxes(title=f"share of {candidate}", tickformat=".0%")
    figure.update_yaxes(title=f"{task}, {scored.tasks.loc[task, 'unit']}")
    return arranged(figure, "", 380, showlegend=False)
