"""A search, replayed: which mixtures were scored when, over the map that the predictor had drawn until then.

Source: DeMix (arXiv 2602.00747) 2.4: sample, score, fit, sample where the fit points.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from demix_nb.figures.colours import BLACK
from demix_nb.panels.landscapes import MACRO, axes, ground, height, in_triangle, points, triangle
from demix_nb.panels.look import INLAID, arranged
from demix_nb.predictors import PREDICTORS
from demix_nb.scored import Scored

BEFORE = {"color": "white", "size": 8, "line": {"width": 1.5, "color": BLACK}}
NOW = {"color": BLACK, "size": 9, "line": INLAID}


@dataclass(frozen=True)
class Stage:
    """Half a round: new mixtures sampled and scored, or the predictor fitted to all that was scored so far."""

    title: str
    seen: list[str]  # mixtures scored before
    new: list[str]  # mixtures scored now; none in the half that fits
    ground: pd.Series | None  # height predicted over the triangle by the latest predictor; None before the first


def replay_stages(scored: Scored, rounds: pd.Series, corners: pd.DataFrame, *, rng: np.random.Generator) -> list[Stage]:
    """Return a search as it went, two stages per round; `rounds`: mixture → the round it was scored in.

    Round 0 holds what nobody searched for: runs that were scored before.
    """
    _, grid = triangle(corners)
    row, stages, ground = PREDICTORS["gaussian_process"], [], None
    for number in sorted(rounds.unique()):
        seen, new = list(rounds.index[rounds < number]), list(rounds.index[rounds == number])
        chosen = "where the predictor points" if seen else "uniformly"
        drawn = f"mixtures sampled<br>{chosen}, merged and scored" if number else "mixtures<br>that were scored before"
        title = f"round {number}: {len(new)} {drawn}"
        stages.append(Stage(title, seen, new, ground))
        known = [*seen, *new]
        if len(known) < row.needs(len(scored.candidates)):
            continue
        fitted = row.new(rng=rng).fit(scored.of(known))
        ground = height(fitted.predict(grid), MACRO)
        stages.append(Stage(f"round {number}: predictor fitted to {len(known)}", known, [], ground))
    return stages


def replay(stage: Stage, scored: Scored, corners: pd.DataFrame) -> go.Figure:
    """One stage of a search: samples over the predictor's map, and under it macro ranks and the best so far.

    Black: scored now; white: scored before.
    """
    figure = make_subplots(rows=2, cols=1, specs=[[{"type": "ternary"}], [{"type": "xy"}]], row_heights=[0.66, 0.34])
    weights, _ = triangle(corners)
    drawn = (weights, stage.ground) if stage.ground is not None else (weights.iloc[:0], pd.Series(dtype=float))
    inside, ranks = in_triangle(scored.mixtures, corners), scored.ranks
    figure.add_traces([ground(*drawn), points(inside.loc[stage.seen], BEFORE), points(inside.loc[stage.new], NOW)])
    figure.add_traces(_course(ranks, stage), rows=2, cols=1)
    figure.update_xaxes(title="mixtures scored", range=[0, len(scored) + 1])
    figure.update_yaxes(title="macro rank (1 = best)", range=[ranks.max() + 3, ranks.min() - 3])
    scale = {"colorscale": "Cividis", "reversescale": True, "showscale": False, "cmin": 0, "cmax": 1}
    return arranged(figure, stage.title, 640, ternary=axes(corners), coloraxis=scale, showlegend=False,
                    margin={"l": 40, "r": 40, "t": 100, "b": 50})  # fmt: skip


def _course(ranks: pd.Series, stage: Stage) -> list[go.Scatter]:
    """Macro ranks in the order of scoring, and the best so far."""
    known = [*stage.seen, *stage.new]
    order = list(range(1, len(known) + 1))
    fill = ["white"] * len(stage.seen) + [BLACK] * len(stage.new)
    marker = {"color": fill, "size": 7, "line": {"width": 1, "color": BLACK}}
    best = go.Scatter(x=order, y=ranks[known].cummin(), line={"color": BLACK, "shape": "hv"}, name="best so far")
    return [go.Scatter(x=order, y=ranks[known], mode="markers", marker=marker, text=known, name="scored"), best]


def film(stages: Sequence[Stage], scored: Scored, corners: pd.DataFrame) -> go.Figure:
    """All stages of a search in one figure that plays by itself, in a notebook and in a page from disk."""
    shots = [replay(stage, scored, corners) for stage in stages]
    figure = shots[0]
    figure.frames = [go.Frame(data=shot.data, name=str(i), layout={"title": {"text": stage.title}})
                     for i, (shot, stage) in enumerate(zip(shots, stages, strict=True))]  # fmt: skip
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    run = {"fromcurrent": True, "frame": {"duration": 1400, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": str(i + 1), "method": "animate", "args": [[str(i)], still]} for i in range(len(stages))]
    buttons = [{"label": "play", "method": "animate", "args": [None, run]},
               {"label": "pause", "method": "animate", "args": [[None], still]}]  # fmt: skip
    menu = {"type": "buttons", "direction": "left", "buttons": buttons, "x": 0, "xanchor": "left", "y": -0.4}
    bar = {"steps": steps, "pad": {"t": 60}, "currentvalue": {"prefix": "stage "}}
    return figure.update_layout(sliders=[bar], updatemenus=[menu | {"yanchor": "top"}], height=800, margin={"b": 210})
