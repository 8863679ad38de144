"""Every figure of the regression notebooks and the RegMix replay is drawn from tables that fit on a page."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from demix_nb import figures_regmix, figures_regression
from demix_nb.colours import METHOD_COLOURS
from demix_nb.figures import save
from demix_nb.predictors import PREDICTORS

DOMAINS = ["Pile-CC", "Github", "ArXiv"]


pytestmark = pytest.mark.usefixtures("styled")


@pytest.fixture
def shares(rng):
    return pd.DataFrame(rng.dirichlet(np.ones(3), 30), columns=DOMAINS, index=[f"m{i}" for i in range(30)])


def matrix(rng, rows=DOMAINS, columns=DOMAINS):
    return pd.DataFrame(rng.normal(size=(len(rows), len(columns))), rows, columns)


def test_every_predictor_has_a_colour_and_a_name():
    assert set(PREDICTORS) == set(METHOD_COLOURS) == set(figures_regression.LABELS)


def test_learning_curves_show_every_predictor_in_every_panel():
    index = pd.MultiIndex.from_product(
        [["ridge", "ensemble"], [64, 128], ["1M", "1B"]], names=["predictor", "runs", "test"]
    )
    means = pd.DataFrame({"rho": np.linspace(0.8, 0.99, 8), "low": 0.79, "high": 0.995}, index)
    figure = figures_regression.learning_curves(means, pd.Series({"1M": 0.98}))
    one, big = figure.axes
    assert [axes.get_title() for axes in figure.axes] == ["1M", "1B"]
    np.testing.assert_allclose(big.lines[0].get_ydata(), means.loc[[("ridge", 64, "1B"), ("ridge", 128, "1B")], "rho"])
    assert len(one.lines) == 3 and len(big.lines) == 2  # the mark of the printed value is on 1M only
    assert [text.get_text() for text in big.get_legend().texts] == ["ridge", "ensemble"]


def test_predicted_against_true_pairs_by_name(rng):
    actual = pd.Series(rng.normal(size=20), [f"m{i}" for i in range(20)])
    figure = figures_regression.predicted_against_true({"ridge": actual.iloc[::-1]}, actual, "loss")
    points = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 0], points[:, 1])


def test_residuals_have_a_box_per_predictor_and_task(rng, shares):
    figure = figures_regression.residuals({"ridge": shares + 0.1, "ensemble": shares}, shares)
    assert len(figure.axes[0].patches) >= 6
    assert [text.get_text() for text in figure.axes[0].get_legend().texts] == ["ridge", "ensemble"]


def test_calibration_draws_a_line_per_predictor():
    table = pd.DataFrame({"covered": [0.4, 0.9]}, index=[0.5, 0.95])
    figure = figures_regression.calibration({"gaussian_process": table, "lightgbm_bagged": table})
    assert len(figure.axes[0].lines) == 3


def test_effect_matrix_crosses_out_what_is_not_significant(rng):
    q = pd.DataFrame([[0.01, 0.2, 0.9], [0.04, 0.06, 0.01], [1, 0.01, 0.01]], DOMAINS, DOMAINS)
    figure = figures_regression.effect_matrix(matrix(rng), q, "effects", "sd")
    crosses = figure.axes[0].collections[-1].get_offsets()
    assert {(int(x), int(y)) for x, y in crosses} == {(1, 0), (2, 0), (1, 1), (0, 2)}


def test_pair_matrix_and_path_are_drawn(rng):
    index = pd.MultiIndex.from_tuples([("Pile-CC", "Github"), ("Pile-CC", "ArXiv"), ("Github", "ArXiv")])
    pairs, q = pd.Series([1.0, -1.0, 0.5], index), pd.Series([0.01, 0.5, 0.01], index)
    crosses = figures_regression.pair_matrix(pairs, q, "pairs", "sd").axes[0].collections[-1].get_offsets()
    assert {(int(x), int(y)) for x, y in crosses} == {(0, 2), (2, 0)}  # Pile-CC and ArXiv, both ways
    curve = pd.Series([0.0, 1.0], [0.0, 1.0])
    figure = figures_regression.pair_path({"ridge": curve, "gaussian_process": curve}, "a → b", "sd")
    assert len(figure.axes[0].lines) == 2


def test_rank_invariance_marks_ours_and_the_printed_value():
    index = pd.MultiIndex.from_product([["ridge", "lightgbm_regmix"], ["1M", "60M"]])
    table = pd.DataFrame({"rho": 90.0, "low": 85.0, "high": 95.0, "printed": 91.0}, index)
    axes = figures_regmix.rank_invariance(table).axes[0]
    assert axes.get_yticklabels()[0].get_text() == "ridge on 1M"
    np.testing.assert_allclose(axes.collections[2].get_offsets()[:, 0], 91)


def test_downstream_writes_every_correlation(rng):
    axes = figures_regmix.downstream(matrix(rng, columns=["HellaSwag", "Avg"]).clip(-1, 1)).axes[0]
    assert len(axes.texts) == 6


def test_own_weight_has_a_panel_per_scored_domain(shares):
    figure = figures_regmix.own_weight(shares, shares[["Github", "ArXiv"]] + 3)
    assert [axes.get_title() for axes in figure.axes[:3]] == ["Github", "ArXiv", ""]


def test_found_mixtures_puts_the_first_mixtures_largest_domain_first(shares):
    figure = figures_regmix.found_mixtures(shares.iloc[:5])
    assert figure.axes[0].get_xticklabels()[0].get_text() == shares.iloc[0].idxmax()
    assert len(figure.axes[0].get_legend().texts) == 5


def test_top_distributions_have_a_box_per_fit_and_domain(shares):
    figure = figures_regmix.top_distributions({"512 × 1M": shares, "256 × 1M": shares, "256 × 60M": shares})
    assert len(figure.axes[0].get_legend().texts) == 3 and len(figure.axes[0].get_xticklabels()) == 3


def test_the_star_is_the_lowest_prediction(rng):
    names = [f"m{i}" for i in range(10)]
    predicted = pd.DataFrame(rng.normal(size=(10, 2)), names, ["ridge", "ensemble"])
    actual = pd.Series(rng.normal(size=10), names)
    for axes, name in zip(figures_regmix.choice_of_64(predicted, actual).axes, predicted, strict=True):
        best = predicted[name].idxmin()
        np.testing.assert_allclose(axes.collections[1].get_offsets(), [[predicted.loc[best, name], actual[best]]])


def test_saved_figures_are_whole_files_and_leave_nothing_behind(tmp_path):
    figure, _ = plt.subplots(figsize=(2, 1))
    path = save(figure, tmp_path / "deep" / "figure.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.read_bytes()[-8:-4] == b"IEND"
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
