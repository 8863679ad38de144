"""Figures of the pipeline, from components to a trained winner: tables in, figure out.

Each function's first sentence is its caption in the gallery, its arguments are the tables of its row there
(`gallery.FIGURES`), as a run writes them. Where these hold too little to draw, it returns None.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from demix_nb.fidelity import CEILING, ranked_suite
from demix_nb.figures import colours, marks
from demix_nb.figures.colours import GREY, INK
from demix_nb.proxies import KINDS
from demix_nb.scored import Scored

REFERENCE = ("really trained", "d")  # label and marker of a model trained on the mixture itself


def kind_label(kind: str, budget: float = 1.0) -> str:
    """Return what a kind of proxy is called in figures; `budget`: the share of the tokens that trained ones got."""
    return _look(kind)[0] + (f" ({budget:g})" if kind in KINDS and KINDS[kind].trains else "")


def component_scores(scores: pd.DataFrame, tasks: pd.DataFrame) -> Figure | None:
    """What each component gains (blue) or loses (red) against the base, component × task.

    `scores` has a row `base`; shown are the tasks in the first one's unit.
    """
    if "base" not in scores.index or len(scores) < 2:
        return None
    unit = tasks["unit"].iloc[0]
    shown = tasks[tasks["unit"] == unit]
    sign = shown["higher_is_better"].map({True: 1, False: -1})
    gain = ((scores.drop(index="base") - scores.loc["base"])[shown.index] * sign).rename(
        columns=lambda name: name.removesuffix(f"_{unit}")
    )
    figure, ((axes,),) = marks.canvas(height=1.6 + 0.3 * len(gain))
    marks.heat(axes, gain, unit=f"gain against the base, {_spelt(unit)}")
    axes.set(ylabel="component")
    return figure


def _spelt(unit: str) -> str:
    return {"bpb": "bits per byte", "acc": "share of items right"}.get(unit, unit)


def loss_curves(curves: pd.DataFrame, corpora: pd.DataFrame) -> Figure:
    """Training loss against tokens, a line per component in its family's colour and a dash of its own.

    `curves`: index model (a component by its candidate), columns tokens, loss (nats per token).
    """
    families = corpora["family"]
    hue, number = colours.families(families), families.groupby(families).cumcount()
    figure, ((axes,),) = marks.canvas(height=max(3.4, 0.2 + 0.18 * len(families)))
    for name, mine in curves.groupby(level=0, sort=False):
        smooth = mine.assign(value=mine["loss"].rolling(5, min_periods=1).mean(), thousand=mine["tokens"] / 1e3)
        dash = marks.DASHES[number[name] % len(marks.DASHES)]
        marks.lines(axes, smooth.set_index("thousand")[["value"]], dash=dash, colour=hue[families[name]], label=name)
    axes.set(xlabel="thousand tokens trained on", ylabel="training loss, nats per token")
    figure.legend(loc="outside right upper")
    return figure


def drift(table: pd.DataFrame) -> Figure:
    """Size δ of every component's update, layer by layer (DeMix eq. 4); rows layers, columns components."""
    figure, ((axes,),) = marks.canvas(height=1.4 + 0.24 * len(table))
    marks.heat(axes, table, unit="δ, share of the layer's weights", signed=False)
    axes.set(ylabel="layer")
    return figure


def cosines(table: pd.DataFrame) -> Figure:
    """Cosine between the components' updates: which components moved the same way."""
    figure, ((axes,),) = marks.canvas(height=1.6 + 0.34 * len(table))
    marks.heat(axes, table, unit="cosine between updates")
    return figure


def merge_path(
    mixtures: pd.DataFrame, merged: pd.DataFrame, reference: pd.DataFrame, corpora: pd.DataFrame, tasks: pd.DataFrame
) -> Figure | None:
    """Held-out score of two candidates along the way between their components, merged (lines) and really trained.

    `mixtures` gives the way, from one candidate to the other. Where scores have no `heldout_<candidate>` of both, the
    lines are their families' tasks, of those in the first one's unit.
    """
    start, end = mixtures.iloc[0].idxmax(), mixtures.iloc[-1].idxmax()
    families = corpora["family"]
    if {f"heldout_{name}" for name in (start, end)} <= set(merged):
        shown = {name: [f"heldout_{name}"] for name in (start, end)}
        spelt = "held-out text, bits per byte (lower is better)"
    else:
        shown, spelt = _of_families(tasks[tasks.index.isin(merged.columns)], families[[start, end]])
    if not shown or start == end:
        return None
    hue, (figure, ((axes,),)) = colours.families(families), marks.canvas(height=3.6)
    for (name, own), dash in zip(shown.items(), ("-", "--"), strict=False):
        colour = hue[families.get(name, name)]
        line = pd.DataFrame({"value": merged[own].mean(axis=1).to_numpy()}, mixtures.loc[merged.index, end])
        marks.lines(axes, line, dash=dash, colour=colour, label=f"{name}, merged")
        if len(reference):
            x, y = reference.index.astype(float), reference.reindex(columns=own).mean(axis=1)
            label = f"{name}, {REFERENCE[0]}"
            marks.points(axes, x, y, colour=colour, marker=REFERENCE[1], size=52, label=label)
    axes.set(xlabel=f"weight of {end}, the rest is {start}", ylabel=spelt)
    axes.legend()
    return figure


def _of_families(tasks: pd.DataFrame, families: pd.Series) -> tuple[dict[str, list[str]], str]:
    """Each family's tasks, as far as they are measured as the first of them is, and what their mean is called."""
    mine = tasks[tasks["family"].isin(families)]
    for fact in ("unit", "higher_is_better"):
        mine = mine[mine[fact] == mine[fact].iloc[0]] if len(mine) else mine
    if mine.empty:
        return {}, ""
    better = "higher" if mine["higher_is_better"].iloc[0] else "lower"
    shown = {
        name: list(mine.index[mine["family"] == name]) for name in pd.unique(families) if name in set(mine["family"])
    }
    return shown, f"mean task of the family,\n{_spelt(mine['unit'].iloc[0])} ({better} is better)"


def signal_to_noise(tasks: pd.DataFrame, *, least: float = 2.0) -> Figure | None:
    """How many times more mixtures move a score than seeds do; below the dashed line a task is left out of the rank."""
    table = tasks[["ratio", "family"]].dropna().sort_values("ratio")
    if table.empty:
        return None
    hue = colours.families(tasks["family"])
    figure, ((axes,),) = marks.canvas(height=0.9 + 0.26 * len(table))
    axes.barh(table.index, table["ratio"], color=table["family"].map(hue))
    axes.axvline(least, color=INK, lw=1, ls="--")
    axes.set(xlabel="spread between mixtures / spread between seeds")
    marks.plain_log(axes.xaxis)
    axes.grid(axis="y", visible=False)
    handles = [Line2D([], [], color=hue[name], lw=6, label=name) for name in hue]
    figure.legend(handles=handles, loc="outside right upper")
    return figure


def fidelity_scatter(
    mixtures: pd.DataFrame, scores: pd.DataFrame, reference: pd.DataFrame, tasks: pd.DataFrame, fidelity: pd.DataFrame,
    *, kind: str = "merged",
) -> Figure | None:  # fmt: skip
    """Merged proxy against really trained reference, family by family: the order, not the diagonal, is what counts.

    `scores`: of the proxies of a `kind`, of which those are shown that have a reference.
    """
    rows = on_ranked(fidelity, tasks)
    rho = rows[rows.index == kind].drop_duplicates("measure").set_index("measure")["value"]
    if rho.empty:
        return None
    ranked, both = tasks[tasks["in_rank"]], reference.index.intersection(scores.index, sort=False)
    proxies, truth = (Scored(mixtures.loc[both], table.loc[both], ranked) for table in (scores, reference))
    hue, units = colours.families(ranked["family"]), truth.units.map(_spelt)
    figure, grid = marks.panels(len(units))
    for axes, family in zip(grid, truth.families, strict=True):
        marks.points(axes, proxies.families[family], truth.families[family], colour=hue[family], size=26)
        title = marks.wrapped(f"{family}: ρ = {rho[f'rho_{family}']:.2f}", 28)
        axes.set(title=title, xlabel=f"{kind} proxy, {units[family]}")
    grid[0].set_ylabel(f"reference, {units.iloc[0]}" if units.nunique() == 1 else "reference, in the same unit")
    return figure


def on_ranked(fidelity: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return the fidelity on the tasks that are in the rank."""
    return fidelity[fidelity["suite"] == ranked_suite(tasks)]


def fidelity_cost(
    fidelity: pd.DataFrame, tasks: pd.DataFrame | None = None, *, measure: str = "rho_macro"
) -> Figure | None:
    """Fidelity against the training tokens of a whole search, by kind of proxy; the grey band is a second training run.

    Columns: measure, value, low, high, tokens (NaN for the ceiling), budget. Kinds of one cost stand side by side; one
    whose cost is not known (NaN, 0) is a line across.
    """
    rows = fidelity if tasks is None else on_ranked(fidelity, tasks)
    rows = rows[rows["measure"] == measure]
    if rows.empty:
        return None
    figure, ((axes,),) = marks.canvas(height=3.7)
    if CEILING in rows.index:  # a study may have no second seeds
        marks.band(axes, rows.loc[CEILING], "second seed of the references")
    costs = rows.drop(index=CEILING, errors="ignore")["tokens"].where(lambda tokens: tokens > 0)
    costs = costs.groupby(level=0, sort=False).first()
    beside = costs.groupby(costs).cumcount() - (costs.groupby(costs).transform("size") - 1) / 2
    for kind in costs.index:
        table = rows.loc[[kind]].sort_values("tokens")
        if np.isnan(costs[kind]):
            label = f"{_look(kind)[0]}, its cost is not known"
            axes.axhline(table["value"].iloc[0], color=INK, lw=1, ls="-.", label=label)
            continue
        table = table.set_index(table["tokens"] / 1e6 * 1.07 ** beside[kind])
        _kind_at_its_cost(axes, kind, table)
    axes.set(xlabel="million training tokens of a search", ylabel=_measure(measure))
    marks.plain_log(axes.xaxis)
    figure.legend(loc="outside right upper")
    return figure


def _kind_at_its_cost(axes: Axes, kind: str, table: pd.DataFrame) -> None:
    axes.vlines(table.index, table["low"], table["high"], color=INK, lw=1.2, alpha=0.5)
    look = {"ls": ":" if len(table) > 1 else "", "lw": 1, "ms": 8, "color": INK, "mec": "white", "mew": 0.5}
    label, marker = _look(kind)
    axes.plot(table.index, table["value"], marker=marker, label=label, **look)


def _look(kind: str) -> tuple[str, str]:
    """Label and marker of a kind of proxy; one that no row knows has its own name and a star."""
    return (KINDS[kind].label, KINDS[kind].marker) if kind in KINDS else (kind, "*")


def _measure(name: str) -> str:
    spelt = {"rho_macro": "Spearman's ρ, mean over the families", "rho_rank": "Spearman's ρ of the macro rank"}
    return spelt.get(name, name)


def search_rounds(
    rounds: pd.DataFrame, searched: pd.DataFrame, scores: pd.DataFrame, named: pd.DataFrame, named_scores: pd.DataFrame,
    tasks: pd.DataFrame,
) -> Figure:  # fmt: skip
    """Macro rank of every mixture scored, round by round, and of the mixture proposed, merged and scored (dashed).

    Round 0 is what was known before. Where the mixture proposed has no score there is no dashed line.
    """
    figure, ((axes,),) = marks.canvas(height=3.4)
    # spread by order of scoring: a random jitter would draw another picture every time
    aside = 0.2 * np.sin(2.4 * np.arange(len(rounds)))
    marks.points(axes, rounds["round"] + aside, rounds["rank"], colour=GREY, label="mixture scored")
    best = rounds.groupby("round")["rank"].min().cummin().to_frame("value")
    marks.lines(axes, best, marker="o", label="best so far")
    if len(verified := named_scores[named_scores.index.isin(named.index[:1])]):
        ranked = tasks[tasks["in_rank"]]
        winner = Scored(named.loc[verified.index], verified, ranked)
        place = winner.places(Scored(searched, scores, ranked))["macro"].iloc[0]
        axes.axhline(place, color=INK, ls="--", lw=1, label="mixture proposed")
    axes.invert_yaxis()
    axes.set(xlabel="round of the search", ylabel="macro rank (1 = best)", xticks=best.index)
    axes.legend(loc="lower right")
    return figure


def mixtures(named: pd.DataFrame, corpora: pd.DataFrame) -> Figure:
    """Shares of the candidates, a bar per mixture; hues are families, shades their candidates."""
    beside = max(1, min(4, 100 // (6 + max(map(len, named)))))  # names in a line of the legend
    figure, ((axes,),) = marks.canvas(height=1.1 + 0.42 * len(named) + 0.14 * named.shape[1] / beside)
    marks.bars(axes, named[list(corpora.index)], colours.candidates(corpora["family"].to_dict()))
    axes.set(xlabel="share of the mixture", xlim=(0, 1))
    axes.grid(visible=False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=beside)
    return figure


def tied(ranges: pd.DataFrame, corpora: pd.DataFrame) -> Figure | None:
    """Share of every candidate in the answer, and as a line the shares it has among mixtures tied with the best.

    Columns: share, low, high.
    """
    if ranges.empty:
        return None
    figure, ((axes,),) = marks.canvas(height=0.9 + 0.28 * len(ranges))
    shade = colours.candidates(corpora["family"].to_dict())
    for height, (name, row) in enumerate(ranges.iterrows()):
        marks.dots(axes, row.to_frame().T.rename(columns={"share": "value"}), colour=shade[name], aside=height)
    marks.rows(axes, ranges.index)
    axes.set(xlabel="share of the mixture: the answer, and the range among mixtures that are as good", xlim=(0, None))
    return figure


def quality(models: pd.DataFrame, references: pd.DataFrame) -> Figure:
    """Place of really trained mixtures among the references: a dot per seed, a line and a number at their mean.

    Columns: strategy, seed, place; 1 is best of references + 1.
    """
    means = models.groupby("strategy", sort=False)["place"].mean().sort_values(kind="stable")
    figure, ((axes,),) = marks.canvas(height=0.9 + 0.34 * len(means))
    heights = models["strategy"].map(list(means.index).index) + 0.1 * (models["seed"] - models["seed"].mean())
    marks.points(axes, models["place"], heights, colour=GREY, size=30)
    for height, mean in enumerate(means):
        axes.plot([mean, mean], [height - 0.28, height + 0.28], color=INK, lw=2)
        axes.text(1.01, height, f"mean {mean:.1f}", transform=axes.get_yaxis_transform(), va="center")
    axes.set(xlabel=f"place by macro rank among {len(references)} references (1 = best)")
    axes.set_xlim(0.3, len(references) + 1.7)
    marks.rows(axes, means.index)
    return figure
