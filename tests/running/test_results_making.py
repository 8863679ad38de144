"""The page's part on how models are made says what the committed tables hold, a row for each way."""

import pytest
from conftest import REPOSITORY

from demix_nb.figures.gallery import reader
from demix_nb.intervals import student, with_interval
from demix_nb.running import results_making

read = reader(REPOSITORY / "data" / "results" / "study")


def cells(page):
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines()[2:]]


def test_every_kind_schedule_and_judge_has_its_row_with_students_interval():
    table, rows = read("averaging"), cells(results_making.averaging(read("averaging")))
    pairs = {(kind, row["schedule"], row["judged"]) for kind, row in table.iterrows()}
    assert {tuple(row[:3]) for row in rows} == pairs and len(rows) == len(pairs)
    kind, schedule, judged, *_, error = rows[0]
    own = (table["schedule"] == schedule) & (table["judged"] == judged) & (table["measure"] == "error")
    mine = table[own & (table.index == kind)]["value"]
    assert error == with_interval(*student(mine), digits=3) and len(mine) >= 3


def test_orders_and_levels_of_every_way_are_there():
    growing, levels = read("growing"), read("averaging_levels")
    rows = cells(results_making.growing(growing))
    assert {tuple(row[:2]) for row in rows} == set(zip(growing.index, growing["references"], strict=True))
    rows = cells(results_making.levels(levels))
    assert [row[0] for row in rows] == list(dict.fromkeys(levels.index))
    way = rows[0][0]
    means = levels.loc[way].groupby("base")["value"].mean()
    assert float(rows[0][-1].split()[0]) == pytest.approx(means.mean(), abs=6e-4)


def test_every_proxy_of_two_phases_has_its_row_and_what_sees_no_phase_says_so():
    table = reader(REPOSITORY / "data" / "results" / "laptop")("two_phases")
    rows = cells(results_making.phases(table))
    assert [tuple(row[:2]) for row in rows] == list(dict.fromkeys(zip(table["looks"], table["kind"], strict=True)))[1:]
    assert [row[4] == "cannot tell" for row in rows] == [row[0] == "mean of both phases" for row in rows]
    mine = table[(table["looks"] == rows[-1][0]) & (table["kind"] == rows[-1][1])]
    assert rows[-1][3] == with_interval(*student(mine["error"]), digits=3)
