"""Panels to look at: pure functions of plain values that return plotly figures and tables.

A panel is called with tables and one mixture and returns what is to be seen. It knows no widget: `controls` calls it
for every move, and the notebook once more without controls, so that executed copies and HTML pages, where nothing
answers to a slider, show something too.

Sources: DeMix (arXiv 2602.00747) 2.2–2.4 for what is shown; MergeMix (2601.17858) for landscapes over the simplex.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, cycle

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io as pio
from IPython import get_ipython
from IPython.display import display
from pandas.io.formats.style import Styler
from plotly.subplots import make_subplots

from demix_nb import PLOTLY
from demix_nb.colours import BLACK, BLUE, FAMILY_COLOURS, GREY, PROXY_COLOURS, SKY, VERMILION
from demix_nb.interactions import effects, towards
from demix_nb.mixtures import recipe
from demix_nb.predictors import PREDICTORS
from demix_nb.ranking import family_scores, macro_rank, rank_among
from demix_nb.runs import Runs

EDGE = 24  # steps along an edge of a triangle: 325 points, enough for a smooth map and light enough for a page
MACRO = "macro rank"


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


# --- what is known about mixtures: runs per family -------------------------------------------------------------------


def by_family(mixtures: pd.DataFrame, scores: pd.DataFrame, tasks: pd.DataFrame) -> Runs:
    """Return scored mixtures with one score per family, its mean benchmark (DeMix 3.3.2), as a study of its own."""
    families = tasks.groupby("family", sort=False)[["unit", "higher_is_better"]].first()
    return Runs(mixtures, family_scores(scores, tasks), families.assign(family=families.index).rename_axis("task"))


@dataclass(frozen=True)
class Guess:
    """What a predictor says of one mixture: family → mean and standard deviation, and its place among proxies."""

    mean: pd.Series
    spread: pd.Series
    place: int


def guess(predictor, mixture: pd.Series, runs: Runs) -> Guess:
    """Return the predicted scores of one mixture and the place they would give it among the runs (1 = best)."""
    row = mixture.to_frame("mixture").T
    mean, spread = predictor.predict(row, spread=True)
    place = rank_among(mean, runs.scores, runs.tasks)["place"]
    return Guess(mean.loc["mixture"], spread.loc["mixture"], int(place.iloc[0]))


# --- a: the mixture desk ---------------------------------------------------------------------------------------------


def recipe_table(mixture: pd.Series, general: str, beta: float, tokens: pd.Series, budget: float) -> pd.DataFrame:
    """Return candidate → mixture, recipe (1−β)·general + β·α (DeMix 2.2), its tokens, and how often each repeats.

    `tokens`: candidate → training tokens there are; `budget`: tokens of the run that the mixture is for.
    """
    shares = recipe(mixture, general, beta)
    spent = shares * budget
    columns = {"mixture": mixture, "recipe": shares, "tokens": spent, "epochs": spent / tokens[mixture.index]}
    return pd.DataFrame(columns).rename_axis("candidate")


def shown_recipe(table: pd.DataFrame) -> Styler:
    """Return a recipe table as it is read: per cent, thousands of tokens, and more than four epochs in bold."""
    formats = {"mixture": "{:.1%}", "recipe": "{:.1%}", "tokens": "{:,.0f}", "epochs": "{:.2f}"}
    # beyond four epochs repeated text is worth less than fresh text (Muennighoff et al., 2305.16264)
    bold = table.style.map(lambda epochs: "font-weight: bold" if epochs > 4 else "", subset=["epochs"])
    return bold.format(formats)


def standing(found: Guess, runs: Runs) -> go.Figure:
    """Predicted family scores (diamonds, 95 % intervals) among those of all proxies, and the predicted place."""
    families = list(runs.scores)
    figure = make_subplots(rows=len(families), cols=1, vertical_spacing=0.14)
    aside = 0.3 * np.sin(2.4 * np.arange(len(runs)))  # spread by order: a random jitter would jump at every move
    for row, family in enumerate(families, start=1):
        colour, unit = FAMILY_COLOURS.get(family, GREY), runs.tasks.loc[family, "unit"]
        dots = _dots(runs.scores[family], aside, {"color": colour, "opacity": 0.35, "size": 7}, runs.mixtures.index)
        here = {"color": BLACK, "symbol": "diamond", "size": 12}
        mark = _dots([found.mean[family]], [0], here, ["predicted"])
        mark.error_x = {"array": [1.96 * found.spread[family]], "thickness": 2}
        figure.add_traces([dots, mark], rows=row, cols=1)
        figure.update_yaxes(visible=False, range=[-0.6, 0.6], row=row, col=1)
        said = f"{family}: {found.mean[family]:.3f} ± {found.spread[family]:.4f} {unit}"
        figure.update_xaxes(title={"text": said, "standoff": 4}, row=row, col=1)
    title = f"predicted place {found.place} of {len(runs) + 1} by macro rank"
    figure.update_layout(title=title, showlegend=False, height=110 * len(families) + 70, margin={"t": 50, "b": 50})
    return figure


def _dots(x: Iterable, y: Iterable, marker: Mapping[str, object], names: Iterable[str]) -> go.Scatter:
    hover = "%{text}: %{x:.3g}, %{y:.3f}<extra></extra>"
    return go.Scatter(x=x, y=y, mode="markers", marker=marker, text=names, hovertemplate=hover)


# --- b: the live proxy -----------------------------------------------------------------------------------------------


def live_scores(scores: pd.Series, even: pd.Series, families: Mapping[str, str]) -> go.Figure:
    """Bits per byte of a live proxy on each domain's excerpt (dots) beside the uniform mixture's proxy (ticks)."""
    colours = [FAMILY_COLOURS.get(families[name], GREY) for name in scores.index]
    said = {"mode": "markers+text", "text": scores.map("{:.3f}".format), "textposition": "middle right"}
    dots = go.Scatter(x=scores.index, y=scores, **said, marker={"color": colours, "size": 15}, name="this mixture")
    tick = {"symbol": "line-ew-open", "size": 34, "color": BLACK, "line": {"width": 2}}
    ticks = go.Scatter(x=even.index, y=even, mode="markers", name="uniform mixture", marker=tick)
    figure = go.Figure([ticks, dots])
    figure.update_yaxes(title="bits per byte (lower is better)")
    title = "really merged, really scored (ticks: the uniform mixture)"
    figure.update_layout(title=title, height=340, margin={"t": 50, "b": 40}, showlegend=False)
    return figure


def continuations(prompts: Mapping[str, str], written: pd.Series) -> Styler:
    """Return domain → the beginning that a proxy was given and what it wrote, to be read in full."""
    table = pd.DataFrame({"given": pd.Series(prompts)[written.index], "written": written}).rename_axis("domain")
    look = table.style.format(escape="html").set_table_attributes(
        'class="mathjax_ignore tex2jax_ignore"'
    )  # "$4" is text
    look.set_table_styles([{"selector": "th", "props": "text-align: left"}])
    return look.set_properties(**{"text-align": "left", "white-space": "pre-wrap", "vertical-align": "top"})


# --- c: landscapes ---------------------------------------------------------------------------------------------------


def triangles(families: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Return what can stand at three corners, label → (corner → candidates): the families if three, any three domains.

    `families`: candidate → family. Empty for fewer than three candidates.
    """
    groups = {family: [name for name in families if families[name] == family] for family in families.values()}
    by_domain = {" / ".join(names): {name: [name] for name in names} for names in combinations(families, 3)}
    return ({"families": groups} if len(groups) == 3 else {}) | by_domain


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


def height(scores: pd.DataFrame, tasks: pd.DataFrame, what: str) -> pd.Series:
    """Return one family's score, or for `MACRO` the share of the table that has a better macro rank (0 = best)."""
    if what != MACRO:
        return scores[what]
    return (macro_rank(scores, tasks).rank() - 1) / max(len(scores) - 1, 1)


def landscape(predictor, runs: Runs, corners: pd.DataFrame, what: str, marks: pd.DataFrame | None = None) -> go.Figure:
    """Predicted score over a triangle of mixtures, the scored proxies on top in the same colours, `marks` as stars.

    `what`: a family, or `MACRO`. A proxy that lies partly outside the triangle is drawn as pale as its part outside.
    """
    weights, grid = triangle(corners)
    predicted, scored = (height(table, runs.tasks, what) for table in (predictor.predict(grid), runs.scores))
    inside = in_triangle(runs.mixtures, corners)
    better_high = what != MACRO and bool(runs.tasks.loc[what, "higher_is_better"])
    figure = go.Figure([_ground(weights, predicted), _points(inside, scored)])
    if marks is not None:
        figure.add_traces(_marks(in_triangle(marks, corners)))
    unit = "share that is better" if what == MACRO else runs.tasks.loc[what, "unit"]
    bar = {"title": {"text": unit, "side": "right"}, "thickness": 14}
    figure.update_layout(
        title=f"{what}: predicted (ground) and scored (circles); bright is better", ternary=_axes(corners),
        coloraxis={"colorscale": "Cividis", "reversescale": not better_high, "colorbar": bar},
        height=480, margin={"t": 90, "b": 40}, legend={"x": 0, "y": 1},
    )  # fmt: skip
    return figure


def _on(points: pd.DataFrame, marker: Mapping[str, object], **more: object) -> go.Scatterternary:
    a, b, c = (points[corner] for corner in points)
    return go.Scatterternary(a=a, b=b, c=c, **{"mode": "markers", "marker": marker, "showlegend": False} | more)


def _ground(weights: pd.DataFrame, values: pd.Series) -> go.Scatterternary:
    marker = {"color": values, "size": 17, "symbol": "hexagon", "coloraxis": "coloraxis"}
    hover = "%{a:.0%}, %{b:.0%}, %{c:.0%}: %{marker.color:.3f}<extra>predicted</extra>"
    return _on(weights, marker, hovertemplate=hover)


def _points(inside: pd.DataFrame, values: pd.Series) -> go.Scatterternary:
    marker = {"color": values, "size": 9, "coloraxis": "coloraxis", "line": {"width": 1.2, "color": "white"}}
    marker["opacity"] = inside.sum(axis=1).clip(0.1, 1)
    return _on(inside, marker, text=inside.index, hovertemplate="%{text}: %{marker.color:.3f}<extra>scored</extra>")


def _marks(inside: pd.DataFrame) -> list[go.Scatterternary]:
    look = {"size": 14, "color": VERMILION, "line": {"width": 1.5, "color": "white"}}
    symbols = dict(zip(inside.index, cycle(("star", "square", "cross", "diamond")), strict=False))
    return [_on(inside.loc[[name]], look | {"symbol": symbols[name]}, name=name, showlegend=True, hoverinfo="name")
            for name in inside.index]  # fmt: skip


def _axes(corners: pd.DataFrame) -> dict[str, object]:
    named = zip(("aaxis", "baxis", "caxis"), corners.index, strict=True)
    return {axis: {"title": label, "tickformat": ".0%"} for axis, label in named} | {"bgcolor": "white"}


def path(curves: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Scores along the way between two domains, a panel per domain, one curve per way of getting there.

    `curves`: merged, ensemble or mixed → table whose index is the weight of the second domain; bits per byte.
    """
    domains = list(next(iter(curves.values())))
    figure = make_subplots(rows=1, cols=len(domains), subplot_titles=domains)
    for kind, table in curves.items():
        mode = "markers" if kind == "mixed" else "lines+markers"
        marker = {"color": PROXY_COLOURS[kind], "size": 11 if kind == "mixed" else 5}
        marker["symbol"] = "diamond" if kind == "mixed" else "circle"
        for column, domain in enumerate(domains, start=1):
            line = go.Scatter(x=table.index, y=table[domain], mode=mode, marker=marker, name=kind,
                              legendgroup=kind, showlegend=column == 1)  # fmt: skip
            figure.add_trace(line, row=1, col=column)
    figure.update_xaxes(title=f"weight of {domains[-1]}")
    figure.update_yaxes(title="bits per byte", col=1)
    figure.update_layout(height=360, margin={"t": 40, "b": 50}, legend={"orientation": "h", "y": -0.25})
    return figure


# --- d: interactions -------------------------------------------------------------------------------------------------


def dependence(predictor, centre: pd.Series, candidate: str, points: int = 31) -> pd.DataFrame:
    """Return predicted mean and spread of every score as `candidate` grows from 0 to all, the others in proportion.

    Index: the candidate's share; columns: (mean or spread, score). The way is that of `interactions.effects`.
    """
    grown = np.linspace(0, 1, points)
    steps = (grown - centre[candidate]) / (1 - centre[candidate])  # negative below the centre: others grow instead
    rows = pd.DataFrame({f"{share:.4f}": towards(centre, candidate, step=step)
                         for share, step in zip(grown, steps, strict=True)}).T.clip(lower=0)  # fmt: skip
    mean, spread = predictor.predict(rows, spread=True)
    return pd.concat({"mean": mean, "spread": spread}, axis=1).set_axis(grown)


def gains(predictor, runs: Runs) -> pd.DataFrame:
    """Return candidate × target: what more of the candidate does at the mean mixture, positive where it helps.

    In standard deviations of the target per unit of share, so that targets of other units share one picture.
    """
    return effects(predictor, runs.mixtures.mean(), runs.tasks) / runs.scores.std()


def interactions_panel(predictor, runs: Runs, candidate: str, target: str) -> go.Figure:
    """Which candidate helps (blue) which target, and for the chosen cell how the target changes with the share."""
    gain = gains(predictor, runs)
    figure = make_subplots(rows=1, cols=2, column_widths=[0.45, 0.55], horizontal_spacing=0.2)
    limit = float(gain.abs().to_numpy().max())
    heat = go.Heatmap(z=gain, x=gain.columns, y=gain.index, colorscale="RdBu", zmin=-limit, zmax=limit)
    bar = {"x": 0.4, "thickness": 10, "title": {"text": "sd per unit of share", "side": "right"}}
    heat.update(colorbar=bar, hovertemplate="%{y} → %{x}: %{z:.2f}<extra></extra>")
    figure.add_trace(heat, row=1, col=1)
    column, row = list(gain.columns).index(target), list(gain.index).index(candidate)
    figure.add_shape(type="rect", x0=column - 0.5, x1=column + 0.5, y0=row - 0.5, y1=row + 0.5,
                     line={"color": BLACK, "width": 3}, row=1, col=1)  # fmt: skip
    figure.update_yaxes(autorange="reversed", row=1, col=1)
    return _with_dependence(figure, predictor, runs, candidate, target, row=1, col=2)


def dependence_panel(predictor, runs: Runs, candidate: str, target: str) -> go.Figure:
    """How the target changes with the candidate's share: mean, 95 % interval, and the scored proxies."""
    return _with_dependence(make_subplots(), predictor, runs, candidate, target, row=1, col=1)


def _with_dependence(figure: go.Figure, predictor, runs: Runs, candidate: str, target: str, **place: int) -> go.Figure:
    for trace in _dependence_traces(predictor, runs, runs.mixtures.mean(), candidate, target):
        figure.add_trace(trace, **place)
    figure.update_xaxes(title=f"share of {candidate}", tickformat=".0%", **place)
    figure.update_yaxes(title=f"{target}, {runs.tasks.loc[target, 'unit']}", **place)
    return figure.update_layout(height=400, showlegend=False, margin={"t": 40, "b": 50})


def _dependence_traces(predictor, runs: Runs, centre: pd.Series, candidate: str, target: str) -> list[go.Scatter]:
    curve = dependence(predictor, centre, candidate)
    mean, reach = curve["mean", target], 1.96 * curve["spread", target]
    around = [*curve.index, *curve.index[::-1]]
    edge = [*(mean + reach), *(mean - reach)[::-1]]
    band = go.Scatter(x=around, y=edge, fill="toself", line={"color": BLUE, "width": 0}, hoverinfo="skip", opacity=0.5)
    line = go.Scatter(x=curve.index, y=mean, line={"color": BLUE}, hovertemplate="%{x:.0%}: %{y:.3f}<extra></extra>")
    grey = {"color": GREY, "size": 6, "opacity": 0.6}
    return [band, _dots(runs.mixtures[candidate], runs.scores[target], grey, runs.mixtures.index), line]


# --- e: search, replayed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """Half a round: new mixtures sampled and scored, or the predictor fitted to all that was scored so far."""

    title: str
    seen: list[str]  # mixtures scored before
    new: list[str]  # mixtures scored now; none in the half that fits
    ground: pd.Series | None  # height predicted over the triangle by the latest predictor; None before the first


def replay_stages(runs: Runs, rounds: pd.Series, corners: pd.DataFrame, *, rng: np.random.Generator) -> list[Stage]:
    """Return a search as it went, two stages per round; `rounds`: mixture → the round it was scored in."""
    _, grid = triangle(corners)
    stages, ground = [], None
    for number in sorted(rounds.unique()):
        seen, new = list(rounds.index[rounds < number]), list(rounds.index[rounds == number])
        chosen = "where the predictor points" if seen else "uniformly"
        title = f"round {number}: {len(new)} mixtures sampled {chosen}, merged and scored"
        stages.append(Stage(title, seen, new, ground))
        known = [*seen, *new]
        fitted = PREDICTORS["gaussian_process"](rng=rng).fit(runs.mixtures.loc[known], runs.scores.loc[known])
        ground = height(fitted.predict(grid), runs.tasks, MACRO)
        stages.append(Stage(f"round {number}: predictor fitted to {len(known)}", known, [], ground))
    return stages


def replay(stage: Stage, runs: Runs, corners: pd.DataFrame) -> go.Figure:
    """One stage of a search: samples over the predictor's map (left), macro ranks and the best so far (right)."""
    figure = make_subplots(rows=1, cols=2, specs=[[{"type": "ternary"}, {"type": "xy"}]], horizontal_spacing=0.14)
    weights, _ = triangle(corners)
    inside, ranks = in_triangle(runs.mixtures, corners), macro_rank(runs.scores, runs.tasks)
    if stage.ground is None:
        weights, ground = weights.iloc[:0], pd.Series(dtype=float)
    else:
        ground = stage.ground
    old, new = ({"color": colour, "size": 8, "line": {"width": 1, "color": "white"}} for colour in (SKY, VERMILION))
    left = [_ground(weights, ground), _on(inside.loc[stage.seen], old), _on(inside.loc[stage.new], new)]
    figure.add_traces(left, rows=1, cols=1)
    known = [*stage.seen, *stage.new]
    colours = [SKY] * len(stage.seen) + [VERMILION] * len(stage.new)
    order = list(range(1, len(known) + 1))
    dots = go.Scatter(x=order, y=ranks[known], mode="markers", marker={"color": colours, "size": 7}, text=known)
    best = go.Scatter(x=order, y=ranks[known].cummin(), line={"color": BLACK, "shape": "hv"}, name="best so far")
    figure.add_traces([dots, best], rows=1, cols=2)
    figure.update_xaxes(title="mixtures scored", range=[0, len(runs) + 1], row=1, col=2)
    figure.update_yaxes(title="macro rank among all (1 = best)", range=[ranks.max() + 3, ranks.min() - 3], row=1, col=2)
    scale = {"colorscale": "Cividis", "reversescale": True, "showscale": False, "cmin": 0, "cmax": 1}
    figure.update_layout(title=stage.title, ternary=_axes(corners), coloraxis=scale, height=430, showlegend=False,
                         margin={"t": 90, "b": 50})  # fmt: skip
    return figure


def film(stages: Sequence[Stage], runs: Runs, corners: pd.DataFrame) -> go.Figure:
    """All stages of a search in one figure that plays by itself, in a notebook and in a page from disk."""
    shots = [replay(stage, runs, corners) for stage in stages]
    figure = shots[0]
    figure.frames = [go.Frame(data=shot.data, name=str(i), layout={"title": {"text": stage.title}})
                     for i, (shot, stage) in enumerate(zip(shots, stages, strict=True))]  # fmt: skip
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    run = {"fromcurrent": True, "frame": {"duration": 1400, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"label": str(i + 1), "method": "animate", "args": [[str(i)], still]} for i in range(len(stages))]
    buttons = [{"label": "play", "method": "animate", "args": [None, run]},
               {"label": "pause", "method": "animate", "args": [[None], still]}]  # fmt: skip
    figure.update_layout(
        sliders=[{"steps": steps, "pad": {"t": 40}, "currentvalue": {"prefix": "stage "}, "x": 0.15, "len": 0.85}],
        updatemenus=[{"type": "buttons", "direction": "left", "buttons": buttons, "x": 0, "y": -0.15}],
        height=520, margin={"t": 90, "b": 110},
    )  # fmt: skip
    return figure
