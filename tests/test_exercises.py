"""The worked answers of the exercises are true: each check runs at the end of its notebook, on a finished smoke run."""

import ast
import re
import shutil

import nbformat
import pytest

from demix_nb import STATIC
from demix_nb.running import runner

pytestmark = pytest.mark.notebooks

# what an exercise asks the reader to change before the check
CHANGED = {"04_regression": {"learners": "[ridge, lightgbm_demix]"}, "05_search": {"caps": "{code_cpp: 0.05}"}}


def worked(cells):
    """Yield the statements of the answers, in order: assignments that a check needs, and the check."""
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for answer in re.findall(r"<details><summary>Answer</summary>(.*?)</details>", prose, flags=re.S):
        for span in re.findall(r"`([^`]+)`", answer):
            text = span.replace("\n", " ")
            try:
                statements = ast.parse(text).body
            except SyntaxError:  # a name such as -p caps=…
                continue
            if any(isinstance(statement, ast.Assign | ast.Assert) for statement in statements):
                yield text


@pytest.fixture(scope="module")
def finished(story, tmp_path_factory):
    """Return a copy of the finished run, so that what an exercise changes is seen by no other test."""
    return shutil.copytree(story[0], tmp_path_factory.mktemp("exercises") / "run")


def executed(sources, namespace):
    """Execute cells one after the other as a kernel does, but here, where all they import is there already."""
    for number, source in enumerate(sources):
        exec(compile(source, f"cell {number}", "exec"), namespace)


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize("step", runner.STORY)
def test_the_worked_answers_hold(step, finished, monkeypatch):
    for name in (STATIC, "TQDM_DISABLE"):
        monkeypatch.setenv(name, "1")
    asked = runner.plan([step], "smoke", CHANGED.get(step, {}), finished)[-1]
    cells = nbformat.read(asked.notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    checks = list(worked(cells))
    assert sum(text.startswith("assert") for text in checks) >= 2
    given = {**asked.parameters, "run_dir": str(finished)}
    given |= dict.fromkeys({"workers"} & given.keys(), 1)  # a worker takes seconds to start
    namespace = {"__name__": "__main__"}
    executed(code[:1], namespace)
    executed([*code[1:], *checks], namespace | given)
