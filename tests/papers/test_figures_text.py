"""Figures of repeated and spoilt text show what their tables say, and so does the page of results."""

import numpy as np
import pytest
from conftest import REPOSITORY

from demix_nb.figures import gallery
from demix_nb.papers import figures_text, spoiling
from demix_nb.running import results_text

pytestmark = pytest.mark.usefixtures("styled")

read = gallery.reader(REPOSITORY / "data" / "results" / "study")


def test_a_line_goes_through_the_means_over_bases():
    report = read("repetition")
    panels = gallery.draw("repetition", read).axes
    scarcities = sorted(set(report["epochs"]))
    assert [float(axes.get_title().split()[1]) for axes in panels] == scarcities
    for axes, often in zip(panels, scarcities, strict=True):
        drawn = {line.get_label(): line for line in axes.lines}
        mine = report[(report["epochs"] == often) & (report["measure"] == "off")]
        assert set(drawn) == {f"{kind}, {how}" for kind in ("trained", "merged", "mixed")
                              for how in ("as it comes", "matched")}  # fmt: skip
        for name, line in drawn.items():
            kind, how = name.split(", ")
            part = mine[(mine.index == kind) & (mine["repetition"] == how)]
            part = part[(part["budget"] < 1) | (kind != "trained")]
            assert line.get_ydata() == pytest.approx(part.groupby("budget")["value"].mean().to_numpy())


def test_what_is_lost_is_lost_beside_the_sound_text_of_the_same_base():
    robustness, less = read("robustness"), figures_text.lost(read("robustness"))
    assert (spoiling.SOUND, spoiling.NONE) not in less.index.droplevel(["drop", "base"])
    for (text, cleaner, drop, base), row in less.iterrows():
        mine = robustness[robustness["base"] == base]
        sound = mine[(mine.index == spoiling.SOUND) & (mine["cleaner"] == spoiling.NONE)].iloc[0]
        own = mine[(mine.index == text) & (mine["cleaner"] == cleaner) & np.isclose(mine["drop"], drop)].iloc[0]
        for column in figures_text.LESS:
            assert row[column] == pytest.approx(own[column] - sound[column])


def test_cleaners_stand_in_rows_with_what_they_found():
    figure = gallery.draw("cleaning", read)
    less, counts = figures_text.lost(read("robustness")), read("cleaners").reset_index()
    keys = list(dict.fromkeys(less.index.droplevel("base")))
    names = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert names == [figures_text.called(*key) for key in keys] and len(set(names)) == len(names)
    found = counts.groupby(["text", "cleaner", "drop"])[["found", "dropped"]].sum()
    shares = figure.axes[2].collections[0].get_offsets()
    for key, (share, row) in zip(keys, np.ma.filled(shares, np.nan), strict=True):
        if key in found.index and found.loc[key, "dropped"]:
            assert share == pytest.approx(found.loc[key, "found"] / found.loc[key, "dropped"]) and row == keys.index(
                key
            )


def test_the_page_tells_every_proxy_and_every_cleaner_once():
    report = read("repetition")
    head, _, *rows = results_text.repetition(report).splitlines()
    assert head.count("read") == report["epochs"].nunique()
    own = report[(report["measure"] == "off") & (report.index == "trained") & (report["budget"] < 1)]
    means = own.groupby("repetition")["value"].mean()
    for how in ("as it comes", "matched"):
        [row] = [row for row in rows if f"| trained | {how} |" in row]
        assert row.split("|")[-2].split()[0] == f"{means[how]:.2f}"
    _, _, *rows = results_text.cleaning(read("robustness"), read("cleaners")).splitlines()
    keys = read("robustness").reset_index()[["text", "cleaner", "drop"]].drop_duplicates()
    assert len(rows) == len(keys) - 1, "all but the sound text, which the others are held against"
