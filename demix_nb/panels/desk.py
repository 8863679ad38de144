"""What stands on the desk: one mixture's recipe, what is expected of it, and what its merged model scores and writes.

Functions of tables and one mixture, all but `save` pure. They know no widget: `controls` calls them for every move, and
the page shows them once more for readers without Python.

Source: DeMix (arXiv 2602.00747) 2.2–2.4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import yaml
from pandas.io.formats.style import Styler
from plotly.subplots import make_subplots

from demix_nb.figures.colours import BLACK, families
from demix_nb.panels.look import arranged, dots, short
from demix_nb.panels.sliders import whole_steps
from demix_nb.predictors import SURE
from demix_nb.scored import Scored
from demix_nb.store import atomic

MILLIONTH = 1e-6  # of share, one step of what is saved
ROW = 100  # pixels that a family takes, its axis included


@dataclass(frozen=True)
class Guess:
    """What a predictor says of a mixture: family → mean and half its interval of 90 %, and its place among proxies."""

    mean: pd.Series
    reach: pd.Series
    place: int


def guess(predictor, mixture: pd.Series, scored: Scored) -> Guess:
    """Return the predicted scores of one mixture and the place they would give it among what is scored (1 = best).

    `predictor`: a calibrated one, whose intervals hold what they promise.
    """
    row = mixture.to_frame("mixture").T
    predicted = predictor.predict(row)
    place = predicted.places(scored)["place"].iloc[0]
    return Guess(predicted.scores.iloc[0], SURE * predictor.spread(row).iloc[0], int(place))


def recipe_table(
    mixture: pd.Series, recipe: pd.Series, tokens: pd.Series | None = None, budget: float | None = None
) -> pd.DataFrame:
    """Return candidate → mixture, recipe (DeMix 2.2), and, out of a `budget` of tokens, its tokens and its epochs.

    `tokens`: candidate → training tokens there are, NaN where nobody knows. Columns that nothing is known for are not
    there: tokens without a budget, epochs (how often each repeats) without amounts.
    """
    columns = {"mixture": mixture, "recipe": recipe}
    if budget is not None:
        columns["tokens"] = recipe * budget
        if tokens is not None and tokens.notna().any():
            columns["epochs"] = columns["tokens"] / tokens[mixture.index]
    return pd.DataFrame(columns).rename_axis("candidate")


def untold(tokens: pd.Series | None, candidates: Sequence[str]) -> str:
    """Return what is to be said where amounts of text are not known, "" where they are."""
    missing = list(candidates) if tokens is None else list(tokens.index[tokens.isna()])
    if not missing:
        return ""
    whose = (
        "of any candidate" if len(missing) == len(candidates) else f"of {len(missing)} of {len(candidates)} candidates"
    )
    return f"Nobody has told how much text there is {whose}: there are no epochs to count."


def listed(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a recipe table that a page lists, and under them all others as one: their epochs at most."""
    rest = table.drop(list(names))
    if rest.empty:
        return table
    row = rest.sum().to_frame(f"{len(rest)} others").T
    if "epochs" in row:
        row["epochs"] = rest["epochs"].max()
    return pd.concat([table.loc[list(names)], row]).rename_axis("candidate")


def shown_recipe(table: pd.DataFrame) -> Styler:
    """Return a recipe table as it is read: per cent, tokens in full, and more than four epochs in bold."""
    formats = {"mixture": "{:.1%}", "recipe": "{:.1%}", "tokens": "{:,.0f}", "epochs": "{:.2f}"}
    known = table.columns.intersection(["epochs"])
    # beyond four epochs repeated text is worth less than fresh text (Muennighoff et al., 2305.16264)
    bold = table.style.map(lambda epochs: "font-weight: bold" if epochs > 4 else "", subset=known)
    return bold.format({name: formats[name] for name in table}, na_rep="–").format_index(escape="html")


def save(path: Path, mixture: pd.Series, recipe: pd.Series) -> Path:
    """Write a mixture and its recipe as YAML, shares in whole millionths, whole or not at all; returns the path."""
    shares = {"mixture": mixture, "recipe": recipe}
    told = {key: whole_steps(value, step=MILLIONTH).round(6).to_dict() for key, value in shares.items()}
    with atomic(path) as temporary:
        temporary.write_text(yaml.safe_dump(told, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def standing(found: Guess, scored: Scored, names: Sequence[str] = ()) -> go.Figure:
    """Predicted family scores (diamonds, 90 % intervals) among those of all proxies, and the predicted place.

    `names`: the families that are drawn, all of them where none are named.
    """
    names, hues = list(names or scored.families), families(scored.families)
    figure = make_subplots(rows=len(names), cols=1, vertical_spacing=0.45 / len(names))
    aside = 0.3 * np.sin(2.4 * np.arange(len(scored)))  # spread by order: a random jitter would jump at every move
    for row, family in enumerate(names, start=1):
        mean, reach = found.mean[family], found.reach[family]
        proxies = {"color": hues[family], "size": 7, "line": {"width": 0.8, "color": "white"}}
        here = {"color": BLACK, "symbol": "diamond", "size": 12}
        mark = dots([mean], [0], here, ["predicted"])
        mark.error_x = {"array": [reach], "thickness": 2}
        figure.add_traces([dots(scored.families[family], aside, proxies, scored.names), mark], rows=row, cols=1)
        figure.update_yaxes(visible=False, range=[-0.6, 0.6], row=row, col=1)
        said = f"{short(family, 24)}: {mean:.3f} ± {reach:.3f} {scored.units[family]}"
        figure.update_xaxes(title={"text": said, "standoff": 4, "font": {"size": 13}}, row=row, col=1)
    title = f"predicted place {found.place} of {len(scored) + 1} by macro rank<br>bars: 90 % intervals"
    return arranged(figure, title, ROW * len(names) + 100, showlegend=False)


def live_scores(scores: pd.Series, even: pd.Series, origin: Mapping[str, str]) -> go.Figure:
    """Bits per byte of a live proxy on each candidate's excerpt (dots) beside the uniform mixture's proxy (ticks).

    `origin`: candidate → family.
    """
    hues = families(origin.values())
    colours = [hues[origin[name]] for name in scores.index]
    said = {"mode": "markers+text", "text": scores.map("{:.3f}".format), "textposition": "top center"}
    here = go.Scatter(x=scores, y=scores.index, **said, marker={"color": colours, "size": 14}, name="this mixture")
    tick = {"symbol": "line-ns-open", "size": 14, "color": BLACK, "line": {"width": 2}}
    ticks = go.Scatter(x=even[scores.index], y=scores.index, mode="markers", name="uniform mixture", marker=tick)
    figure = go.Figure([ticks, here])
    figure.update_xaxes(title="bits per byte (lower is better)")
    figure.update_yaxes(
        autorange="reversed", tickvals=list(scores.index), ticktext=[short(n, 18) for n in scores.index]
    )
    title = "really merged, really scored<br>(ticks: the uniform mixture)"
    return arranged(figure, title, 46 * len(scores) + 130, showlegend=False)


def choices(odds: pd.DataFrame) -> Styler:
    """Return candidate → what a proxy was given, what really follows, what follows elsewhere, how likely each is to it.

    `odds`: as `Live.odds` returns them; probabilities are per token.
    """
    names = {"right": "really follows", "p_right": "p", "wrong": "follows elsewhere", "p_wrong": "p there"}
    table = odds[["given", *names]].rename(columns=names)
    return _words(table, table.columns.difference(["p", "p there"])).format("{:.1%}", subset=["p", "p there"])


def continuations(prompts: Mapping[str, str], written: pd.Series) -> Styler:
    """Return candidate → the beginning that a proxy was given and what it wrote, to be read in full."""
    table = pd.DataFrame({"given": pd.Series(prompts)[written.index], "written": written}).rename_axis("candidate")
    return _words(table, table.columns)


def _words(table: pd.DataFrame, texts: pd.Index) -> Styler:
    """Return a table of text that is to be read as it is."""
    plain = 'class="mathjax_ignore tex2jax_ignore"'  # "$4" is text
    look = table.style.format(escape="html", subset=texts).format_index(escape="html").set_table_attributes(plain)
    look.set_table_styles([{"selector": "th", "props": "text-align: left"}])
    wrapped = {"white-space": "pre-wrap", "overflow-wrap": "anywhere"}
    look.set_properties(**{"text-align": "left", "vertical-align": "top"})
    return look.set_properties(**wrapped, subset=texts)
