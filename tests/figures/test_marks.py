"""The five marks draw what the table says, and names stay legible."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from demix_nb.figures import colours, marks

pytestmark = pytest.mark.usefixtures("styled")


@pytest.fixture
def axes():
    return marks.canvas(height=3)[1][0, 0]


def test_dots_stand_at_their_values_with_a_marker_each(axes):
    table = pd.DataFrame({"value": [1.0, 2.0, 3.0], "low": 0.5, "high": 3.5}, ["a", "b", "c"])
    marks.dots(axes, table, marker=["o", "s", "o"], label="here")
    intervals, round_ones, square = axes.collections
    np.testing.assert_allclose(round_ones.get_offsets(), [[1, 0], [3, 2]])
    np.testing.assert_allclose(square.get_offsets(), [[2, 1]])
    assert [segment[:, 0].tolist() for segment in intervals.get_segments()] == [[0.5, 3.5]] * 3
    assert len(axes.get_legend_handles_labels()[1]) == 1


@pytest.mark.parametrize("colour", [colours.GREY, colours.INK, *colours.FAMILY_COLOURS.values()])
def test_marks_are_as_strong_as_their_colour(axes, colour):
    table = pd.DataFrame({"value": [1.0, 2.0], "low": 0.5, "high": 3.5})
    marks.points(axes, [1, 2], [1, 2], colour=colour)
    marks.dots(axes, table, colour=colour)
    marks.lines(axes, table[["value"]], colour=colour)
    drawn = [one.get_facecolor() if len(one.get_facecolor()) else one.get_edgecolor() for one in axes.collections]
    drawn += [[to_rgba(line.get_color(), line.get_alpha())] for line in axes.lines]
    assert len(drawn) == 4 and all(contrast_on_white(one) >= 3 for rows in drawn for one in rows)


def contrast_on_white(rgba):
    *parts, opacity = rgba
    return colours.contrast(to_hex([opacity * part + 1 - opacity for part in parts]), colours.WHITE)


def test_lines_have_a_band_where_the_table_has_one(axes):
    table = pd.DataFrame({"value": [1.0, 2.0], "low": [0.0, 1.0], "high": [2.0, 3.0]}, [10, 20])
    marks.lines(axes, table)
    marks.lines(axes, table[["value"]])
    assert len(axes.lines) == 2 and len(axes.collections) == 1
    np.testing.assert_allclose(axes.lines[0].get_xydata(), [[10, 1], [20, 2]])


def test_heat_is_blue_above_zero_and_crosses_out_noise(axes):
    table = pd.DataFrame([[1.0, -1.0], [0.5, 0.0]], ["a", "b"], ["x", "y"])
    marks.heat(axes, table, unit="points", crossed=table < 0)
    mesh, *crosses = axes.collections
    red, _, blue, _ = mesh.get_facecolors()[0]
    assert blue > red
    assert all(marked.get_offsets().tolist() == [[1.5, 0.5]] for marked in crosses)
    assert [text.get_text() for text in axes.texts] == ["1.00", "-1.00", "0.50", "0.00"]


def test_bars_reach_one_and_wide_parts_bear_their_name(axes):
    shares = pd.DataFrame([[0.9, 0.06, 0.04], [0.3, 0.3, 0.4]], ["p", "q"], ["general", "math_word", "tiny"])
    marks.bars(axes, shares, colours.candidates({"general": "g", "math_word": "m", "tiny": "m"}))
    ends = {round(bar.get_x() + bar.get_width(), 6) for bar in axes.patches}
    assert max(ends) == 1.0
    assert len(axes.texts) == 5, "the part of 4 % bears no name"


def test_names_do_not_leave_their_bars():
    figure, ((axes,),) = marks.canvas(height=3)
    names = ["reviews_of_everything_2019", "a rather long candidate name", "Œuvres complètes", "x"]
    shares = pd.DataFrame(np.full((1, 4), 0.25), ["p"], names)
    shares.loc["narrow"] = [0.07, 0.08, 0.1, 0.75]
    marks.bars(axes, shares, colours.candidates(dict.fromkeys(names, "f")))
    figure.draw_without_rendering()
    widths = {(round(bar.get_x(), 6), round(bar.get_y())): bar.get_window_extent() for bar in axes.patches}
    for text in axes.texts:
        box = text.get_window_extent()
        inside = [bar for bar in widths.values() if bar.x0 - 4 <= box.x0 and box.x1 <= bar.x1 + 4]
        assert inside, f"{text.get_text()!r} leaves its bar"


def test_text_is_broken_after_separators_alone():
    assert marks.wrapped("code_scientific", 10) == "code_\nscientific"
    assert marks.wrapped("standard deviations per unit", 20) == "standard deviations\nper unit"
    assert marks.wrapped("unbreakable", 3) == "unbreakable"


def test_labels_at_the_ends_cover_no_other(axes):
    axes.set_ylim(0, 1)
    marks.ends(axes, {"a": 0.50, "b": 0.501, "c": 0.502, "far": 0.9})
    axes.figure.draw_without_rendering()
    boxes = sorted((plt.Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))


def test_every_figure_is_as_wide_as_a_readmes_column():
    figure, grid = marks.panels(5, across=3, height=2)
    assert figure.get_size_inches().tolist() == [7.2, 4.0] and len(grid) == 5
    assert not figure.axes[-1].axison, "the panel left over is empty"


def test_saved_figures_are_whole_files_and_leave_nothing_behind(tmp_path):
    figure, _ = plt.subplots(figsize=(2, 1))
    path = marks.save(figure, tmp_path / "deep" / "figure.png")
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.read_bytes()[-8:-4] == b"IEND"
    assert [file.name for file in path.parent.iterdir()] == ["figure.png"]
