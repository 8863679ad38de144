"""Curves walk the ways they say, in their families' colours."""

import fixtures_panels
import numpy as np
import pandas as pd
import pytest

from demix_nb.interactions import towards
from demix_nb.panels import curves

play, scored, predictor, crowd = (
    fixtures_panels.play, fixtures_panels.scored, fixtures_panels.predictor, fixtures_panels.crowd
)  # fmt: skip


def test_a_path_has_one_curve_per_kind_and_candidate():
    merged = pd.DataFrame({"a": [1.0, 2, 3], "b": [3.0, 2, 1]}, index=[0.0, 0.5, 1.0])
    figure = curves.path({"merged": merged, "reference": merged.iloc[[1]]}, {"a": "general", "b": "math"})
    assert [(trace.name, len(trace.x)) for trace in figure.data] == [("merged", 3)] * 2 + [("reference", 1)] * 2
    hues = [trace.marker.color for trace in figure.data]
    assert hues[:2] == hues[2:] and hues[0] != hues[1], "hue is the family's, whatever the kind"
    assert figure.data[0].mode != figure.data[2].mode and figure.data[0].marker.symbol != figure.data[2].marker.symbol


def test_a_walk_is_what_notebook_02_measured(play):
    figure = play.walk("general", "code_cpp")
    merged, reference = (play.study[f"path_{kind}_scores"] for kind in ("merged", "reference"))
    assert list(figure.data[1].y) == merged["heldout_code_cpp"].to_list()
    assert list(figure.data[2].y) == reference["heldout_general"].to_list()
    assert list(figure.data[2].x) == [0.3, 0.7]


def test_dependence_walks_the_way_of_effects(scored, predictor):
    centre = scored.mixtures.mean()
    curve = curves.dependence(predictor, centre, "code_cpp", points=5)
    assert list(curve.index) == [0, 0.25, 0.5, 0.75, 1]
    share = 0.5
    there = towards(centre, "code_cpp", step=(share - centre["code_cpp"]) / (1 - centre["code_cpp"]))
    assert there["code_cpp"] == pytest.approx(share)
    expected = predictor.predict(there.to_frame("there").T).scores.loc["there"]
    assert curve.loc[share, "mean"].to_dict() == pytest.approx(expected.to_dict())


def test_the_chosen_cell_is_framed(scored, predictor):
    figure = curves.heat(curves.gains(predictor, scored), ("math_word", "code"))
    (heat,), (frame,) = figure.data, figure.layout.shapes
    assert heat.x[int(frame.x0 + 0.5)] == "code" and heat.y[int(frame.y0 + 0.5)] == "math_word"
    assert np.asarray(heat.z).shape == (len(scored.candidates), 3)


def test_what_helps_in_the_planted_study_is_the_candidates_own_family(crowd):
    gain = curves.gains(crowd.predictor, crowd.families)
    own = {family: gain.index[[crowd.study.families[name] == family for name in gain.index]] for family in gain}
    others = {family: gain.index.difference(names) for family, names in own.items()}
    assert all(gain.loc[own[family], family].mean() > gain.loc[others[family], family].mean() for family in gain)


def test_a_curve_stands_among_the_scored_proxies(scored, predictor):
    band, seen, line = curves.dependence_panel(predictor, scored, "code_cpp", "code").data
    assert list(seen.x) == scored.mixtures["code_cpp"].to_list() and list(seen.y) == scored.scores["code"].to_list()
    assert len(band.x) == 2 * len(line.x) and min(band.y) < min(line.y) and max(band.y) > max(line.y)


def test_every_scored_mixture_is_a_line_and_better_is_up_on_every_score(scored):
    (lines,) = curves.parallel(scored, ["general", "code_cpp"]).data
    assert [axis.label for axis in lines.dimensions] == ["general", "code_cpp", *scored.families, "macro rank"]
    shares, scores = lines.dimensions[:2], lines.dimensions[2:]
    assert list(shares[1].values) == pytest.approx(scored.mixtures["code_cpp"].to_numpy() ** 0.5)
    assert [round(mark**2, 9) for mark in shares[0].tickvals] == list(curves.SHARES) and shares[0].range == (0, 1)
    assert all(axis.range[0] == max(axis.values) and axis.range[1] == min(axis.values) for axis in scores), "bpb, ranks"
    assert list(lines.line.color) == list(scores[-1].values) == scored.ranks.to_list()
