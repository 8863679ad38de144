"""What RESULTS.md says of a hundred candidates, of luck and of growth is what the tables say."""

import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb.figures.gallery import reader
from demix_nb.running import results_hundred

read = reader(REPOSITORY / "data" / "results" / "study")


def cells(markdown):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines()[2:]]


def test_every_way_on_every_set_of_references_has_a_row_with_its_mean_over_bases():
    table = read("hundred")
    rows = cells(results_hundred.fidelity(table))
    keys = table.reset_index().fillna({"tokens": 0.0}).groupby(["references", "proxy", "tokens"])
    assert len(rows) == len(keys)
    own = table.loc[["mixed, parts"]].query("measure == 'rho_macro' and references == 'of the parts'")
    row = next(row for row in rows if row[:2] == ["of the parts", "mixed, parts"])
    assert row[4].startswith(f"{own['value'].mean():.2f}") and row[3] == str(own["base"].nunique())


def test_winners_stand_by_their_level_the_best_on_top():
    table = read("hundred_quality")
    rows = cells(results_hundred.winners(table))
    levels = table.groupby("strategy")["level"].mean().sort_values()
    assert [row[0] for row in rows] == list(levels.index)
    assert all(row[4].startswith(f"{level:.2f}") for row, level in zip(rows, levels, strict=True))


def test_luck_is_told_in_a_training_runs_noise_base_by_base():
    """Two bases whose searches spread by 0.1 and 0.3 around other means, at a noise of 0.1 and 0.2."""
    parts = [
        pd.DataFrame({"kind": "mixed", "proxies": 28, "seed": [0, 1, 2], "base": base, "noise": noise, "width": 0.2,
                      "real": [level - spread, level, level + spread], "away": 0.1, "place": 1.0})
        for base, (level, spread, noise) in enumerate([(-1.0, 0.1, 0.1), (-2.0, 0.3, 0.2)])
    ]  # fmt: skip
    (row,) = cells(results_hundred.noise(pd.concat(parts)))
    assert row == ["28", "2", "3", "-1.50", "1.25", "0.10", "0.20", "1.0"]


def test_a_search_of_three_hundred_candidates_keeps_its_limits():
    """On two cores: CPU seconds of all workers at most those of two minutes of both, and 2 GB."""
    whole = read("growth").loc[["whole search"]].set_index("candidates").loc[300]
    assert whole["cpu"] <= 240 and whole["mb"] <= 2000
    row = cells(results_hundred.growth(read("growth")))[-1]
    assert row[0] == "whole search" and row[-1] == f"{whole['cpu']:.1f} s, {whole['mb']:.0f} MB"


@pytest.mark.parametrize(("values", "said"), [([1.0], "1.0"), ([1.0, 2.0, 3.0], "2.0 [-0.5, 4.5]")])
def test_an_interval_takes_three_bases(values, said):
    assert results_hundred.over_bases(pd.Series(values), 1) == said
