"""What the regression's figures show is what the tables say."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from demix_nb.figures import marks, regression
from demix_nb.predictors import PREDICTORS

pytestmark = pytest.mark.usefixtures("styled")

NAMES = ["a", "b", "c"]


@pytest.fixture
def predictions(rng):
    rows = [(f"m{i}", name, "1M", task, true + off, true)
            for task in ("loss", "other") for i, true in enumerate(rng.normal(size=12))
            for name, off in (("ridge", 0.0), ("stack", 2.0))]  # fmt: skip
    columns = ["mixture", "predictor", "test", "task", "predicted", "true"]
    return pd.DataFrame(rows, columns=columns).set_index("mixture")


def test_every_predictor_has_a_dash_of_its_own_and_a_label():
    assert len({str(row.dash) for row in PREDICTORS.values()}) == len(PREDICTORS)
    assert regression.label("stack") == "stack" and regression.label("a team's own") == "a team's own"


def curve():
    index = pd.MultiIndex.from_product([PREDICTORS, [64, 128], ["1M", "1B"]], names=["predictor", "runs", "test"])
    rho = np.linspace(0.8, 0.99, len(index))
    return pd.DataFrame({"rho": rho, "low": rho - 0.01, "high": rho + 0.005}, index).reset_index(["runs", "test"])


def test_learning_curves_show_every_predictor_in_every_panel_and_name_it_at_its_end():
    figure = regression.learning_curves(curve())
    assert [axes.get_title() for axes in figure.axes] == ["1M", "1B"]
    assert all(len(axes.lines) == len(PREDICTORS) for axes in figure.axes)
    big, table = figure.axes[1], curve().query("test == '1B'")
    for line, name in zip(big.lines, PREDICTORS, strict=True):
        np.testing.assert_allclose(line.get_xydata(), table.loc[name, ["runs", "rho"]])
    assert {text.get_text() for text in big.texts} == {row.label for row in PREDICTORS.values()}
    assert len({line.get_color() for line in big.lines}) == 1, "a hue would mean a family"


def test_predicted_against_true_shows_the_first_task_of_every_predictor(predictions):
    figure = regression.predicted_against_true(predictions, unit="nats")
    assert [axes.get_title() for axes in figure.axes] == ["ridge", "stack"]
    for axes, off in zip(figure.axes, (0, 2), strict=True):
        places = axes.collections[0].get_offsets()
        assert len(places) == 12
        np.testing.assert_allclose(places[:, 1] - places[:, 0], off)


def test_residuals_are_in_standard_deviations_of_the_task(predictions):
    figure = regression.residuals(predictions)
    sd = predictions.query("predictor == 'ridge'").groupby("task")["true"].std()
    exact, off = (axes.collections[1].get_offsets()[:, 0] for axes in figure.axes)
    np.testing.assert_allclose(exact, 0, atol=1e-12)
    np.testing.assert_allclose(off, 2 / sd[["loss", "other"]])


def test_coverage_draws_a_line_per_predictor_and_the_diagonal():
    rows = [(name, level, level**2) for name in ("gaussian_process", "lightgbm_bagged") for level in (0.5, 0.95)]
    table = pd.DataFrame(rows, columns=["predictor", "level", "covered"]).set_index("predictor")
    axes = regression.coverage(table).axes[0]
    assert len(axes.lines) == 3
    assert {text.get_text() for text in axes.texts} == {"honest", "Gaussian process", "bagged LightGBM"}


def crosses(axes):
    return {(int(x), int(y)) for x, y in axes.collections[-1].get_offsets()}


def test_effects_cross_out_what_is_not_significant(rng):
    q = [0.01, 0.2, 0.9, 0.04, 0.06, 0.01, 1, 0.01, 0.01]
    rows = [(name, task, rng.normal(), 0.0, "curved") for name in NAMES for task in "xyz"]
    table = pd.DataFrame(rows, columns=["candidate", "task", "effect", "q", "kind"]).assign(q=q)
    both = pd.concat([table, table.assign(kind="linear", q=0.0)]).set_index("candidate")
    assert crosses(regression.effects(both, kind="curved").axes[0]) == {(1, 0), (2, 0), (1, 1), (0, 2)}
    axes = regression.effects(both, kind="linear").axes[0]
    assert len(axes.collections) == 1 or not len(axes.collections[-1].get_offsets())


def test_pairs_are_drawn_both_ways():
    rows = [(*pair, "loss", 1.0, q) for pair, q in zip(combinations(NAMES, 2), (0.01, 0.5, 0.01), strict=True)]
    table = pd.DataFrame(rows, columns=["first", "second", "task", "effect", "q"]).set_index("first")
    assert crosses(regression.pairs(table).axes[0]) == {(0, 2), (2, 0)}, "the first and the last, both ways"


def test_a_pairs_path_names_its_ends():
    rows = [("a", "b", name, "loss", share, share) for name in ("ridge", "gaussian_process") for share in (0.0, 1.0)]
    columns = ["first", "second", "predictor", "task", "share", "predicted"]
    axes = regression.pair_path(pd.DataFrame(rows, columns=columns).set_index("first")).axes[0]
    assert len(axes.lines) == 2 and axes.get_xlabel() == "share of b, the rest is a"
    assert {text.get_text() for text in axes.texts} == {"ridge", "Gaussian process"}


def test_there_are_dashes_enough():
    assert len({str(dash) for dash in marks.DASHES}) == len(marks.DASHES) >= 8
