"""The exercises have answers in a finished smoke run: none asks for what its study lacks."""

import pytest

from demix_nb.running.lessons import EXERCISES, told
from demix_nb.study import Study

pytestmark = pytest.mark.notebooks


@pytest.mark.parametrize(("step", "n"), [(step, n) for step, rows in EXERCISES.items() for n in rows])
def test_a_finished_run_knows_the_answer(step, n, story):
    study, row = Study.open(story[0], n_jobs=1), EXERCISES[step][n]
    assert told(row, None, study).endswith(f". {row.because}")
