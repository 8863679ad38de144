"""The worked answers of the exercises are true: each check runs at the end of its notebook, on a finished smoke run."""

import ast
import re
import shutil

import nbformat
import papermill
import pytest

from demix_nb import STATIC
from demix_nb.running import runner
from demix_nb.running.lessons import EXERCISES

pytestmark = pytest.mark.notebooks

# what an exercise asks the reader to change before the check
CHANGED = {"05_search": {"caps": "{code_cpp: 0.05}"}}


def worked(notebook):
    """Yield the statements of the answers, in order: assignments that a check needs, and the check."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
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


@pytest.mark.parametrize("step", runner.STORY)
def test_the_worked_answers_hold(step, finished, tmp_path, monkeypatch):
    for name in (STATIC, "TQDM_DISABLE", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(name, "1")
    asked = runner.plan([step], "smoke", CHANGED.get(step, {}), finished)[-1]
    notebook = nbformat.read(asked.notebook, as_version=4)
    checks = [*worked(notebook), *(f"check({n}, None)" for n in EXERCISES.get(step, ()))]
    assert sum(text.startswith(("assert", "check")) for text in checks) >= 2
    notebook.cells += [nbformat.v4.new_code_cell(text) for text in checks]
    nbformat.write(notebook, tmp_path / "asked.ipynb")
    given = {**asked.parameters, "run_dir": str(finished)}
    given |= dict.fromkeys({"workers"} & given.keys(), 1)  # a worker takes seconds to start
    papermill.execute_notebook(
        tmp_path / "asked.ipynb", tmp_path / "done.ipynb", given, kernel_name="python3", progress_bar=False
    )
    assert "this study lacks" not in (tmp_path / "done.ipynb").read_text(), "an exercise without its answer"
