"""What stands on the desk shows the numbers it is given."""

from itertools import pairwise

import fixtures_panels
import numpy as np
import pandas as pd
import pytest

from demix_nb.mixtures import uniform
from demix_nb.panels import desk

play, scored, predictor, crowd = (
    fixtures_panels.play, fixtures_panels.scored, fixtures_panels.predictor, fixtures_panels.crowd
)  # fmt: skip


def test_the_recipe_table_counts_tokens_and_epochs():
    tokens = pd.Series({"general": 1000, "code": 100})
    table = desk.recipe_table(pd.Series({"general": 0.2, "code": 0.8}), "general", 0.5, tokens, 2000)
    assert table["recipe"].to_dict() == pytest.approx({"general": 0.6, "code": 0.4})
    assert table["tokens"].sum() == pytest.approx(2000)
    assert table["epochs"].to_dict() == pytest.approx({"general": 1.2, "code": 8.0})
    page = desk.shown_recipe(table).to_html()
    assert page.count("font-weight: bold") == 1, "only what is repeated more than four times stands out"


def test_scored_proxies_get_their_own_place(scored, predictor):
    for name in (scored.ranks.idxmin(), scored.ranks.idxmax()):
        found = desk.guess(predictor, scored.mixtures.loc[name], scored)
        assert (found.mean - scored.scores.loc[name]).abs().max() < 0.02 and (found.spread > 0).all()
        assert abs(found.place - (scored.ranks < scored.ranks[name]).sum()) <= 5


def test_standing_marks_the_prediction_among_all_proxies(scored, predictor):
    found = desk.guess(predictor, uniform(scored.candidates), scored)
    figure = desk.standing(found, scored)
    dots, marks = figure.data[::2], figure.data[1::2]
    assert [len(trace.x) for trace in dots] == [len(scored)] * 3
    assert [trace.x[0] for trace in marks] == pytest.approx(found.mean.to_list())
    assert f"place {found.place} of {len(scored) + 1}" in figure.layout.title.text


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


def test_a_recipe_is_that_of_the_study(play):
    class Setting:
        setting, tokens = {"general": "general", "beta": 0.5}, play.study.tokens

    table = type(play).recipe(type("Play", (), {"study": Setting})(), uniform(play.study.candidates), 1e6)
    assert table["recipe"]["general"] == pytest.approx(0.5 + 0.5 / 7)
    assert np.isclose(table["tokens"].sum(), 1e6)
