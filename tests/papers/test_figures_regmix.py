"""Figures of the RegMix replay show what was found beside what was printed."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.papers import figures_regmix

pytestmark = pytest.mark.usefixtures("styled")

DOMAINS = ["Pile-CC", "Github", "ArXiv"]


@pytest.fixture
def shares(rng):
    return pd.DataFrame(rng.dirichlet(np.ones(3), 30), columns=DOMAINS, index=[f"m{i}" for i in range(30)])


def comparison():
    rows = [(name, test, 90.0, 85.0, 95.0, 91.0) for name in ("ridge", "lightgbm_regmix") for test in ("1M", "60M")]
    return pd.DataFrame(rows, columns=["predictor", "test", "rho", "low", "high", "printed"]).set_index("predictor")


def test_rank_invariance_marks_ours_and_the_printed_value():
    axes = figures_regmix.rank_invariance(comparison()).axes[0]
    assert axes.get_yticklabels()[0].get_text() == "ridge on 1M"
    np.testing.assert_allclose(axes.collections[1].get_offsets()[:, 0], 90)
    np.testing.assert_allclose(axes.collections[2].get_offsets()[:, 0], 91)


def test_the_printed_value_is_a_line_in_its_panel():
    rows = [("ridge", runs, test, 0.9, 0.89, 0.91) for runs in (64, 128) for test in ("1M", "60M")]
    curve = pd.DataFrame(rows, columns=["predictor", "runs", "test", "rho", "low", "high"]).set_index("predictor")
    table = comparison()
    table.loc[table["test"] == "60M", "printed"] = 95.0
    figure = figures_regmix.learning_curves(curve, table)
    assert [set(axes.lines[-1].get_ydata()) for axes in figure.axes] == [{0.91}, {0.95}]


def test_downstream_writes_every_correlation(rng):
    table = pd.DataFrame(rng.uniform(-1, 1, (3, 2)), DOMAINS, ["HellaSwag", "Avg"])
    axes = figures_regmix.downstream(table).axes[0]
    assert [text.get_text() for text in axes.texts] == [f"{value:.2f}" for value in table.to_numpy().ravel()]


def test_own_weight_has_a_panel_per_scored_domain(shares):
    figure = figures_regmix.own_weight(shares, shares[["Github", "ArXiv"]] + 3)
    assert [axes.get_title() for axes in figure.axes] == ["Github", "ArXiv"]
    places = figure.axes[0].collections[0].get_offsets()
    np.testing.assert_allclose(places[:, 0], shares["Github"].clip(lower=figures_regmix.LEAST))


def test_found_mixtures_puts_the_first_mixtures_largest_domain_first(shares):
    parts = [
        shares.loc[name].rename("share").to_frame().assign(mixture=name, printed=name == "m0")
        for name in shares.index[:4]
    ]
    table = pd.concat(parts).rename_axis("domain")
    figure = figures_regmix.found_mixtures(table)
    assert figure.axes[0].get_yticklabels()[0].get_text() == shares.iloc[0].idxmax()
    printed, *found = figure.axes[0].collections
    assert not len(printed.get_facecolor()) and all(len(marks.get_facecolor()) for marks in found)
    assert printed.get_zorder() > max(marks.get_zorder() for marks in found), "seen where both are"
    assert [text.get_text() for text in figure.legends[0].texts] == ["m0", "m1", "m2", "m3"]


def test_top_distributions_leave_out_small_domains_and_are_sorted():
    values = {"Pile-CC": 0.9, "Github": 0.01, "ArXiv": 0.05, "EuroParl": 0.004}
    parts = [pd.DataFrame({"value": values, "low": 0.0, "high": 1.0}).assign(fitted=fitted) for fitted in ("1M", "60M")]
    figure = figures_regmix.top_distributions(pd.concat(parts).rename_axis("domain"))
    axes = figure.axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Pile-CC", "ArXiv", "Github"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["fitted to 1M", "fitted to 60M"]
    np.testing.assert_allclose(axes.collections[1].get_offsets()[:, 0], [0.9, 0.05, 0.01])


def test_the_star_is_the_lowest_prediction(rng):
    rows = [(f"m{i}", name, test, "Pile-CC", rng.normal(), rng.normal())
            for name in ("ridge", "stack") for test in ("1M", "1B") for i in range(10)]  # fmt: skip
    columns = ["mixture", "predictor", "test", "task", "predicted", "true"]
    table = pd.DataFrame(rows, columns=columns).set_index("mixture")
    for axes, name in zip(figures_regmix.choice_of_64(table).axes, ("ridge", "stack"), strict=True):
        mine = table[(table["test"] == "1B") & (table["predictor"] == name)]
        best = mine.loc[mine["predicted"].idxmin()]
        np.testing.assert_allclose(axes.collections[1].get_offsets(), [[best["predicted"], best["true"]]])
