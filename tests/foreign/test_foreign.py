"""Trainers' own code reads what we write and draws what was asked; each in an environment of its own."""

import numpy as np
import pytest
import report
import trainers
from filelock import FileLock

from demix_nb.exports import FORMATS

DRAWS = 60_000


@pytest.mark.slow
@pytest.mark.parametrize("name", trainers.PACKAGES)
def test_the_trainer_s_own_code_draws_what_was_asked(name, tmp_path):
    trainers.PLACE.mkdir(parents=True, exist_ok=True)
    order = trainers.order(name, trainers.sparse(), tmp_path, DRAWS)
    with FileLock(trainers.PLACE / "lock"):
        found = trainers.drawn(name, order, tmp_path, DRAWS)
    if found is None:
        pytest.skip(f"{', '.join(trainers.PACKAGES[name])} cannot be had")
    asked = order.phases[0].shares
    assert sorted(found.index) == sorted(asked.index), "nothing is lost, and nothing drawn that has no share"
    chance = 4 * np.sqrt(2 * asked * (1 - asked) / DRAWS) if FORMATS[name].chance else 0.0
    assert ((found - asked).abs() <= 1e-3 * asked.clip(lower=1 / DRAWS / 1e-3) + chance).all(), found - asked
    wrong = asked.mul(order.lengths(order.phases[0]))
    assert ((wrong / wrong.sum() - asked).abs() > 4 * chance + 2e-3).any(), "documents for tokens would be found out"


def test_every_format_that_names_real_code_is_read_by_it():
    assert {name for name, row in FORMATS.items() if row.real} == set(trainers.PACKAGES)
    for name, packages in trainers.PACKAGES.items():
        for package in packages[:1]:
            assert FORMATS[name].real.split(":")[0] == package.replace("==", " ")


def test_the_report_has_a_row_for_every_phase_or_says_that_there_is_none():
    first, second = report.rows(FORMATS["levanter"], "two phases", trainers.two_phases(), 10**6)
    assert (first["phase"], second["phase"]) == (1, 2) and first["read"] == second["read"] == "grammar"
    assert first["difference"] == abs(first["realised"] - first["requested"]) < 1e-3
    [none] = report.rows(FORMATS["megatron"], "two phases", trainers.two_phases(), 10**6)
    assert none["read"] == "no phases" and "requested" not in none
