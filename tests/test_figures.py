"""Quoted figures are redrawn from the committed tables: same tables, same picture, and it shows what it says."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb import figures, tables
from demix_nb.colours import FAMILY_COLOURS
from demix_nb.ranking import family_scores

RESULTS = REPOSITORY / "data" / "results" / "laptop"


pytestmark = pytest.mark.usefixtures("styled")


def read(name, schema):
    return tables.read(RESULTS / f"{name}.csv", schema)


def ranked():
    return read("tasks", "tasks").query("in_rank")


def draw_scatter():
    scores = [family_scores(read(f"{kind}_scores", "scores"), ranked()) for kind in ("merged", "reference")]
    return figures.fidelity_scatter(*scores, pd.Series({family: 0.5 for family in scores[0]}))


def draw_cost():
    report = read("fidelity", "fidelity")
    return figures.fidelity_cost(report[report["suite"] == "heldout"], "rho_macro", 112)


def draw_signal():
    return figures.signal_bars(read("tasks", "tasks")[["ratio", "family"]].dropna(), 2.0)


def draw_rounds():
    return figures.search_rounds(read("search_rounds", "rounds"), 5.0)


def draw_mixtures():
    return figures.mixture_bars(read("named_mixtures", "mixtures"), read("corpora", "corpora")["family"].to_dict())


def draw_quality():
    return figures.quality(read("quality", "quality"), len(read("reference_scores", "scores")))


def draw_components():
    scores = read("component_scores", "scores")
    tasks = read("tasks", "tasks")
    return figures.component_heatmap(scores.drop(index="base"), tasks, scores.loc["base"])


DRAWN = [draw_scatter, draw_cost, draw_signal, draw_rounds, draw_mixtures, draw_quality, draw_components]


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_the_same_tables_give_the_same_picture(draw, drawn_twice):
    drawn_twice(draw)


def test_the_scatter_has_a_point_per_reference_and_a_panel_per_family():
    figure = draw_scatter()
    assert len(figure.axes) == ranked()["family"].nunique()
    for axes in figure.axes:
        assert len(axes.collections[0].get_offsets()) == len(read("reference_mixtures", "mixtures"))


def test_bars_reach_one_and_the_legend_names_every_candidate():
    (axes,) = draw_mixtures().axes
    named = read("named_mixtures", "mixtures")
    ends = {round(bar.get_x() + bar.get_width(), 6) for bar in axes.patches}
    assert max(ends) == 1.0
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list(named)


def test_a_family_has_one_colour_everywhere():
    assert len(set(FAMILY_COLOURS.values())) == len(FAMILY_COLOURS)
    (axes,) = draw_signal().axes
    table = read("tasks", "tasks")[["ratio", "family"]].dropna().sort_values("ratio")
    drawn = [plt.matplotlib.colors.to_hex(bar.get_facecolor()).upper() for bar in axes.patches]
    assert drawn == [FAMILY_COLOURS[family] for family in table["family"]]


def test_a_candidate_has_its_familys_colour_and_a_line_of_its_own():
    families = read("corpora", "corpora")["family"].to_dict()
    (axes,) = figures.loss_curves({name: [(1000, 5.0), (2000, 4.0)] for name in families}, families).axes
    colours = {line.get_label(): line.get_color() for line in axes.lines}
    assert colours == {name: FAMILY_COLOURS[family] for name, family in families.items()}
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == len(families)


def test_the_cost_figure_orders_kinds_by_what_they_cost():
    (axes,) = draw_cost().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert {"trained proxies", "merged (DeMix)", "ensemble", "second seed of the references"} == set(labels)
