"""The repository keeps its promises: lean notebooks, one dependency list, imports that point one way."""

import ast
import re
import subprocess
import sys
import tomllib

import nbformat
import pytest
import yaml
from conftest import REPOSITORY

from demix_nb import gallery, runner

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
# each module may import only from rows below its own, or from a row's earlier modules
LAYERS = (
    ("__main__",),
    ("report",),
    ("gallery",),
    ("runner", "doctor", "explore", "notebook", "live", "controls"),
    ("proxies", "pruning", "reweighting"),
    ("components", "ensemble", "variants"),
    ("corpora", "scoring"),
    ("sources", "benchmarks", "saving", "generation", "figures_regmix", "figures_study"),
    ("problems", "figures_regression", "merging", "appraisal", "regmix"),
    ("calibration",),
    ("fidelity", "search", "interactions", "figures"),
    ("layout", "methods", "online", "predictors", "ranking", "runs"),
    ("checkpoints", "parallel"),
    ("tables", "evidence"),
    ("mixtures", "colours"),
)
NEEDS_TORCH = {
    "components", "proxies", "scoring", "merging", "methods", "layout", "saving", "checkpoints", "doctor", "ensemble",
    "reweighting", "pruning", "live", "generation", "__main__",
}  # fmt: skip


def modules():
    return sorted(path.stem for path in (REPOSITORY / "demix_nb").glob("*.py") if path.stem != "__init__")


def imported(module):
    tree = ast.parse((REPOSITORY / "demix_nb" / f"{module}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "demix_nb":
            yield from {alias.name for alias in node.names} & set(modules())
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("demix_nb."):
            yield node.module.removeprefix("demix_nb.")


def test_every_module_has_its_layer_and_imports_point_down():
    layer = {name: row for row, names in enumerate(LAYERS) for name in names}
    assert sorted(layer) == modules()
    upward = [(m, n) for m in modules() for n in imported(m) if layer[n] <= layer[m]]
    assert upward == []


def test_whoever_reads_tables_needs_no_torch():
    light = [name for name in modules() if name not in NEEDS_TORCH]
    code = (
        f"import sys; from demix_nb import {', '.join(light)}; print(*{{'torch', 'transformers'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped_and_tell_their_story(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "strip the outputs"
    assert all(cell.get("id") for cell in notebook.cells)
    assert "widgets" not in notebook.metadata
    opening = notebook.cells[0].source
    assert "**Question.**" in opening and "**Answer.**" in opening and "**What you will learn**" in opening
    assert "assert " in "".join(cell.source for cell in code[-2:]), "the last cells test the claim"


@pytest.mark.parametrize("path", [path for path in NOTEBOOKS if path.stem[0].isdigit()], ids=lambda path: path.stem)
def test_numbered_notebooks_teach(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert len(re.findall(r"^\* ", cells[0].source, flags=re.M)) == 3, "three things to learn"
    assert "$$" in prose and "*What to notice.*" in prose
    assert any(cell.source.startswith("show_source(") or "\nshow_source(" in cell.source for cell in cells)
    answers = re.findall(r"<details><summary>Answer</summary>(.*?)</details>", prose, flags=re.S)
    checks = [re.findall(r"`(assert [^`]+)`", answer) for answer in answers]
    assert len(answers) >= 2 and all(len(found) == 1 for found in checks), "each worked answer has one check"
    for (check,) in checks:
        ast.parse(check.replace("\n", " "))
    assert re.search(r"\]\(\d\d_\w+\.ipynb\)", prose), "links on"


def test_every_notebook_is_a_step_and_every_step_a_notebook():
    assert [path.stem for path in NOTEBOOKS] == sorted(runner.STEPS)


def test_there_is_one_dependency_list():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    names = [
        entry.split("=")[0] if isinstance(entry, str) else "+".join(entry) for entry in environment["dependencies"]
    ]
    assert names == ["python", "pip", "pip"]
    assert environment["dependencies"][-1] == {"pip": ["-e .[test]"]}
    assert not list(REPOSITORY.glob("requirements*.txt")) and not (REPOSITORY / "setup.py").exists()


def test_what_is_imported_is_declared():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    listed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    declared = {
        line.split("[")[0].split("~")[0].split(">")[0].split("=")[0].strip().replace("-", "_") for line in listed
    }
    renamed = {"yaml": "pyyaml", "sklearn": "scikit_learn", "IPython": "jupyterlab"}
    files = [*(REPOSITORY / "demix_nb").glob("*.py"), *(REPOSITORY / "tests").glob("*.py")]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in {renamed.get(name.split(".")[0], name.split(".")[0]) for name in names}:
                local = name == "demix_nb" or (path.parent / f"{name}.py").exists()
                assert name in sys.stdlib_module_names or name in declared or local, f"{path.name} imports {name}"


def test_the_gallery_shows_every_committed_figure():
    files = {path.name for path in (REPOSITORY / "figures").glob("*.png")} - {"playground.png"}  # the screen, no table
    page = (REPOSITORY / "figures" / "README.md").read_text()
    drawn = {entry.file for entry in gallery.entries()}
    assert files and files <= drawn
    assert all(f"]({name})" in page for name in files)


def test_the_readme_names_the_two_commands():
    readme = (REPOSITORY / "README.md").read_text()
    assert "pip install -e . && demix-nb run" in readme and 'pip install -e ".[test]" && pytest' in readme
    assert 'pip install --quiet -e ".[test]"' in (REPOSITORY / ".ci" / "run").read_text()
