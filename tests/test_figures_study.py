"""The study's figures are redrawn from the committed tables: same tables, same picture, and it shows what it says."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb import figures, figures_study, tables
from demix_nb.notebook import printed

RESULTS = REPOSITORY / "data" / "results" / "study"
MEASURES = {"rho_macro": "macro ρ", "rho_rank": "ρ of the rank"}


pytestmark = pytest.mark.usefixtures("styled")


def read(name, schema):
    return tables.read(RESULTS / f"{name}.csv", schema)


def draw_kinds():
    return figures_study.kinds(read("proxy_kinds", "fidelity"), MEASURES)


def draw_cost():
    return figures.fidelity_cost(read("proxy_kinds", "fidelity"), "rho_macro", 112)


def draw_budgets():
    return figures_study.budgets(read("component_budgets", "fidelity"), "rho_macro")


def draw_strategies():
    return figures_study.strategies(read("strategy_summary", "measures"), "level", "level")


def draw_counts():
    return figures_study.proxy_counts(read("proxy_counts", "counts"))


def draw_dual():
    return figures_study.dual_capability(read("dual_capability", "consistency"), ["math", "code"])


def draw_landscape():
    return figures_study.landscape(read("landscape", "landscape"), ["general", "math", "code"])


def draw_stages():
    return figures_study.stages(printed("demix_table10_corpora_stages"))


def draw_consistency():
    table = pd.DataFrame({"family": ["math", "math", "code"], "delta": [0.03, 0.1, 0.1], "ratio": [1.0, 0.8, 0.75]})
    return figures_study.consistency(table, table)


def draw_partition():
    return figures_study.partition(read("partition_quality", "quality"), len(read("reference_scores", "scores")))


DRAWN = [draw_kinds, draw_cost, draw_budgets, draw_strategies, draw_counts, draw_dual, draw_landscape, draw_stages,
         draw_consistency, draw_partition]  # fmt: skip


@pytest.mark.parametrize("draw", DRAWN, ids=lambda draw: draw.__name__)
def test_the_same_tables_give_the_same_picture(draw, drawn_twice):
    drawn_twice(draw)


def test_every_kind_but_the_ceiling_has_its_dot_at_its_value():
    report = read("proxy_kinds", "fidelity")
    figure = draw_kinds()
    for axes, measure in zip(figure.axes, MEASURES, strict=True):
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        places = axes.collections[-1].get_offsets()
        expected = report[report["measure"] == measure]["value"].drop("ceiling")[names]
        np.testing.assert_allclose(places[:, 0], expected)


def test_the_best_strategy_stands_on_top():
    summary = read("strategy_summary", "measures")
    (axes,) = draw_strategies().axes
    level = summary[summary["measure"] == "level"]["value"]
    assert next(label.get_text() for label in axes.get_yticklabels()) == level.idxmin()
    assert axes.yaxis_inverted()


def test_stages_add_up_to_one():
    left, _ = draw_stages().axes
    for number in range(3):
        tops = [bar.get_y() + bar.get_height() for bar in left.patches if round(bar.get_x() + 0.4) == number]
        assert max(tops) == pytest.approx(1.0)


def test_the_landscapes_star_marks_the_lowest_bits():
    surface = read("landscape", "landscape")
    axes = draw_landscape().axes[0]
    assert axes.get_title() == "general, merged"
    merged = surface[surface["type"] == "merged"]
    best = merged.iloc[merged["score_general"].to_numpy().argmin()]
    place = best[[name for name in surface if name.startswith("share_")]].to_numpy(float) @ figures_study.TRIANGLE
    np.testing.assert_allclose(axes.collections[-1].get_offsets()[0], place)


def test_the_bars_stand_at_the_mean_places():
    quality = read("partition_quality", "quality")
    (axes,) = draw_partition().axes
    means = quality.groupby(["strategy", "candidates"], sort=False)["place"].mean()
    bars = [float(marks.get_offsets()[0][0]) for marks in axes.collections[1::2]]
    assert bars == pytest.approx(list(means))
