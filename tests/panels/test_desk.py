"""What stands on the desk shows the numbers it is given."""

from itertools import pairwise

import fixtures_panels
import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb.mixtures import recipe, uniform
from demix_nb.panels import desk
from demix_nb.predictors import PREDICTORS, calibrated, ranges

play, scored, predictor, crowd = (
    fixtures_panels.play, fixtures_panels.scored, fixtures_panels.predictor, fixtures_panels.crowd
)  # fmt: skip


def test_the_recipe_table_counts_tokens_and_epochs():
    tokens = pd.Series({"general": 1000, "code": 100})
    mixture = pd.Series({"general": 0.2, "code": 0.8})
    table = desk.recipe_table(mixture, recipe(mixture, "general", 0.5), tokens, 2000)
    assert table["recipe"].to_dict() == pytest.approx({"general": 0.6, "code": 0.4})
    assert table["tokens"].sum() == pytest.approx(2000)
    assert table["epochs"].to_dict() == pytest.approx({"general": 1.2, "code": 8.0})
    page = desk.shown_recipe(table).to_html()
    assert page.count("font-weight: bold") == 1, "only what is repeated more than four times stands out"


def test_what_nobody_knows_has_no_column_and_is_said():
    mixture = pd.Series({"general": 0.2, "code": 0.8})
    some = pd.Series({"general": np.nan, "code": 100.0})
    assert list(desk.recipe_table(mixture, mixture)) == ["mixture", "recipe"]
    assert list(desk.recipe_table(mixture, mixture, some)) == ["mixture", "recipe"]
    for nothing in (None, some * np.nan):
        table = desk.recipe_table(mixture, mixture, nothing, 2000)
        assert list(table) == ["mixture", "recipe", "tokens"] and "80.0%" in desk.shown_recipe(table).to_html()
        assert "of any candidate" in desk.untold(nothing, list(mixture.index))
    table = desk.recipe_table(mixture, mixture, some, 2000)
    assert table["epochs"]["code"] == 16 and "–" in desk.shown_recipe(table).to_html()
    assert (
        "of 1 of 2 candidates" in desk.untold(some, list(mixture.index))
        and desk.untold(some.fillna(1), list(mixture.index)) == ""
    )


def test_candidates_that_are_not_listed_are_one_row_with_the_most_that_one_is_repeated():
    mixture = pd.Series({"a": 0.5, "b": 0.3, "c": 0.2})
    table = desk.recipe_table(mixture, mixture, pd.Series({"a": 100, "b": 10, "c": 1}), 100)
    rows = desk.listed(table, ["a"])
    assert list(rows.index) == ["a", "2 others"] and rows[["mixture", "recipe"]].sum().to_list() == [1, 1]
    assert rows.loc["2 others", "tokens"] == 50 and rows.loc["2 others", "epochs"] == 20
    pd.testing.assert_frame_equal(desk.listed(table, ["a", "b", "c"]), table)


def test_what_is_saved_sums_to_one_to_six_digits_and_is_read_back(tmp_path, rng):
    names = [f"c{number}" for number in range(100)]
    mixture = pd.Series(rng.dirichlet(np.full(100, 0.3)), names)
    path = desk.save(tmp_path / "made" / "desk.yaml", mixture, recipe(mixture, "c0", 1 / 3))
    told = yaml.safe_load(path.read_text("utf-8"))
    assert list(told) == ["mixture", "recipe"] and [each.name for each in path.parent.iterdir()] == ["desk.yaml"]
    for shares, wanted in ((told["mixture"], mixture), (told["recipe"], recipe(mixture, "c0", 1 / 3))):
        assert sum(round(1e6 * share) for share in shares.values()) == 1_000_000
        assert all(share == round(share, 6) for share in shares.values())
        np.testing.assert_allclose(pd.Series(shares)[names], wanted, atol=1e-6)


def test_scored_proxies_get_their_own_place(scored, predictor):
    for name in (scored.ranks.idxmin(), scored.ranks.idxmax()):
        found = desk.guess(predictor, scored.mixtures.loc[name], scored)
        assert (found.mean - scored.scores.loc[name]).abs().max() < 0.02 and (found.reach > 0).all()
        assert abs(found.place - (scored.ranks < scored.ranks[name]).sum()) <= 5


def test_standing_marks_the_prediction_among_all_proxies(scored, predictor):
    found = desk.guess(predictor, uniform(scored.candidates), scored)
    figure = desk.standing(found, scored)
    dots, marks = figure.data[::2], figure.data[1::2]
    assert [len(trace.x) for trace in dots] == [len(scored)] * 3
    assert [trace.x[0] for trace in marks] == pytest.approx(found.mean.to_list())
    assert f"place {found.place} of {len(scored) + 1}" in figure.layout.title.text


def test_its_intervals_are_the_calibrated_ones(play, scored):
    plain = PREDICTORS["gaussian_process"].new(rng=np.random.default_rng(0)).fit(scored)
    wide, reached = calibrated(plain, scored, rng=np.random.default_rng([0, 7]))
    mixture = uniform(scored.candidates)
    found = desk.guess(play.predictor, mixture, scored)
    ends = ranges(wide, mixture)
    assert found.reach.to_dict() == pytest.approx(((ends["high"] - ends["low"]) / 2).to_dict())
    assert (reached["covered"] >= 0.85).all() and (reached["times"] != 1).any()
    bars = [trace.error_x.array[0] for trace in desk.standing(found, scored).data[1::2]]
    assert bars == pytest.approx(found.reach.to_list())


def test_nine_families_of_any_name_stand_apart_in_colours_of_their_own(crowd):
    found = desk.guess(crowd.predictor, uniform(crowd.study.candidates), crowd.families)
    figure = desk.standing(found, crowd.families)
    assert len({trace.marker.color for trace in figure.data[::2]}) == 9
    spans = [figure.layout[f"yaxis{row if row > 1 else ''}"].domain for row in range(1, 10)]
    gaps = [upper[0] - lower[1] for upper, lower in pairwise(spans)]
    assert min(gaps) * figure.layout.height > 25, "an axis and what it says need this many pixels"


def test_live_scores_stand_beside_the_uniform_mixtures():
    scores, even = pd.Series({"a": 3.0, "b": 2.5}), pd.Series({"b": 2.6, "a": 2.9})
    ticks, here = desk.live_scores(scores, even, {"a": "general", "b": "math"}).data
    assert list(ticks.y) == list(here.y) == ["a", "b"]
    assert list(here.x) == [3.0, 2.5] and list(ticks.x) == [2.9, 2.6]
    assert list(here.text) == ["3.000", "2.500"] and len(set(here.marker.color)) == 2


def test_what_a_model_wrote_is_shown_as_it_is():
    shown = desk.continuations({"code": "if a < b:"}, pd.Series({"code": "\n  <b>$1$</b>"})).to_html()
    assert "if a &lt; b:" in shown and "\n  &lt;b&gt;$1$&lt;/b&gt;" in shown and "mathjax_ignore" in shown


def test_what_follows_is_shown_as_it_is_with_how_likely_it_is():
    words = {"given": ["a <"], "right": ["b>"], "wrong": ["$c$"], "p_right": [0.25], "p_wrong": [0.001]}
    shown = desk.choices(pd.DataFrame(words, index=["code"])).to_html()
    assert "b&gt;" in shown and "$c$" in shown and "25.0%" in shown and "0.1%" in shown and "mathjax_ignore" in shown


def test_a_recipe_is_that_of_the_study():
    study = fixtures_panels.Crowd(7, beta=0.5, general="candidate 00 of 7")
    table = fixtures_panels.Playground(study).recipe(uniform(study.candidates), 1e6)
    assert table["recipe"]["candidate 00 of 7"] == pytest.approx(0.5 + 0.5 / 7)
    assert np.isclose(table["tokens"].sum(), 1e6)
    np.testing.assert_allclose(table["epochs"], table["tokens"] / study.tokens)
