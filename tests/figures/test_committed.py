"""Every committed figure is what the committed tables draw, and would not be if a table were another."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import REPOSITORY
from matplotlib.image import imread

from demix_nb.figures import gallery, marks
from demix_nb.store import Refusal

pytestmark = pytest.mark.usefixtures("styled")

ROWS = gallery.rows()
SEEN = 60  # of 255: from here on a pixel has another colour
SAME = 10  # pixels that may differ: a dot that moves changes more
SIZE = 3  # pixels by which another platform's fonts may change the size
AWAITED: set[str] = set()  # tables that the next run writes: what is drawn from them cannot be compared before


def folder(row):
    return REPOSITORY / "data" / "results" / row.profile


def missing(row):
    return [table for table in row.tables if not (folder(row) / f"{table}.csv").is_file()]


def picture(figure):
    """A figure's pixels, row × column × colour, 0 to 255."""
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int)
    plt.close(figure)
    return pixels


@cache
def figure(name):
    """The figure that the committed tables draw, and its pixels."""
    found = gallery.draw(name, gallery.reader(folder(ROWS[name])))
    return found, picture(found)


def drawn(name):
    return figure(name)[1]


def unlike(first, second):
    """How many pixels of either picture are like none of the nine around their place in the other."""
    height, width = np.minimum(first.shape, second.shape)[:2]
    return max(_lonely(*pair) for pair in ((first[:height, :width], second[:height, :width]),
                                           (second[:height, :width], first[:height, :width])))  # fmt: skip


def _lonely(first, second):
    height, width = first.shape[:2]
    around = [second[y : y + height - 2, x : x + width - 2] for y in range(3) for x in range(3)]
    return int((np.min([np.abs(first[1:-1, 1:-1] - near).max(-1) for near in around], axis=0) > SEEN).sum())


COMPARED = [name for name, row in ROWS.items() if not missing(row)]


@pytest.mark.parametrize("name", ROWS)
def test_the_committed_figure_is_what_the_committed_tables_draw(name):
    row = ROWS[name]
    if absent := missing(row):
        assert set(absent) <= AWAITED | set(row.outside), f"{absent} should be committed under {folder(row)}"
        pytest.skip(f"{name}: {', '.join(absent)} " + ("hold others' data" if row.outside else "await the next run"))
    committed = np.round(255 * imread(REPOSITORY / "figures" / f"{name}.png")[..., :3]).astype(int)
    assert np.abs(np.subtract(committed.shape, drawn(name).shape)).max() <= SIZE
    assert unlike(committed, drawn(name)) <= SAME, "run `demix-nb figures`"


@pytest.mark.parametrize("name", [name for name in COMPARED if ROWS[name].tables])
def test_another_table_is_another_figure(name):
    row, read = ROWS[name], gallery.reader(folder(ROWS[name]))

    def changed(which):
        def other(table):
            frame = read(table)
            numbers = frame.select_dtypes("number").columns
            more = {column: (1.1 + 0.1 * i) * frame[column] for i, column in enumerate(numbers)}  # no mere other unit
            return frame.assign(**more) if table == which else frame

        return other

    assert any(unlike(picture(gallery.draw(name, changed(table))), drawn(name)) > SAME for table in row.tables)


def test_one_number_changed_is_seen():
    read = gallery.reader(folder(ROWS["quality"]))

    def changed(table):
        frame = read(table)
        if table == "quality":
            frame.iloc[0, frame.columns.get_loc("place")] += 1
        return frame

    assert unlike(picture(gallery.draw("quality", changed)), drawn("quality")) > SAME


def test_a_shift_of_a_pixel_is_no_difference():
    pixels = drawn("quality")
    assert unlike(pixels, np.roll(pixels, 1, axis=0)) <= SAME < unlike(pixels, np.roll(pixels, 4, axis=1))


def test_nothing_that_is_committed_is_still_awaited():
    committed = {path.stem for path in (REPOSITORY / "data" / "results").glob("*/*.csv")}
    assert AWAITED & committed == set(), "take them from AWAITED: they are compared from now on"


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_in_a_sentence_what_is_seen(name):
    caption = ROWS[name].caption
    assert caption[-1] == "." and len(caption) < 130 and "`" not in caption


@pytest.mark.parametrize("name", COMPARED)
def test_every_figure_is_legible_at_800_pixels(name):
    found, pixels = figure(name)
    assert pixels.shape[1] == 792, "no wider than a README's column"
    written = [text for text in found.findobj(plt.Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in written) >= marks.TINY
    axes = [own for own in found.axes if own.axison and own.name == "rectilinear"]
    quantities = "".join(own.get_xlabel() + own.get_ylabel() + own.get_title() for own in axes)
    assert len(quantities) > 10, "the axes say quantity and unit in words"


def test_a_name_no_room_has_is_refused():
    with pytest.raises(Refusal, match=r"no figure is called 'qualty'; there are .*quality"):
        gallery.draw("qualty", lambda table: None)


def test_the_core_does_without_the_rooms(monkeypatch):
    monkeypatch.setattr(gallery, "ROOMS", ("demix_nb.papers_that_are_gone.figures",))
    assert gallery.rows() == gallery.FIGURES
    assert gallery.row("quality") is gallery.FIGURES["quality"]
    with pytest.raises(Refusal, match="no figure is called 'landscape'"):
        gallery.row("landscape")


def test_a_room_that_lacks_what_it_needs_is_no_room_that_is_gone(monkeypatch, tmp_path):
    (tmp_path / "room.py").write_text("import something_not_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(gallery, "ROOMS", ("room",))
    with pytest.raises(ModuleNotFoundError, match="something_not_installed"):
        gallery.rows()


def test_drawing_saves_under_the_figures_name(tmp_path):
    read = gallery.reader(folder(ROWS["quality"]))
    found = gallery.draw("quality", read, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["quality.png"] and found.axes
