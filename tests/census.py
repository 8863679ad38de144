"""What a reader of this repository meets, in numbers: `python -m tests.census`. Targets are in CONTRIBUTING.md.

The way from a mixture to its rank is walked for real: given the folder of a finished smoke run, the files of ours that
one call of its merged proxy enters are counted by `sys.setprofile`.
"""

import ast
import json
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "demix_nb"
STOREYS = {  # storey → its rooms; core imports point down this list only
    "spine": (
        "__main__.py", "__init__.py", "study.py", "facts.py", "proxies.py", "search.py", "hierarchy.py", "decide.py",
        "headroom.py", "fidelity.py", "mending.py", "predictors", "interactions.py", "studyfile.py", "faults.py",
        "given.py", "door.py", "rivals.py", "reading.py", "entries.py", "scoresheets.py", "tasksheets.py",
        "longsheets.py", "documents.py", "textfiles.py", "sheets.py", "options.py", "ranges.py", "scored.py", "runs.py",
        "region.py", "mixtures.py", "intervals.py", "sources.py", "devices.py", "store.py", "schemas.py", "parallel.py",
    ),
    "engines": ("merging", "scoring"),
    "stage": ("figures", "panels", "running"),
    "hand-over": ("exports",),
    "lab": ("lab",),
    "papers": ("papers",),
}  # fmt: skip

TARGETS = {  # the most of each; tests hold it
    "modules that the numbered notebooks meet": 8,
    "names they meet": 45,
    "cells over 20 lines": 0,
    "local functions": 12,
    'run / "tables"': 0,
    "longest function": 40,
    "median function": 10,
    "longest class": 150,
    "longest module": 300,
}


def cells(pattern: str) -> Iterator[str]:
    """Yield the code cells of notebooks by pattern, but those of parameters, which hold a line for each."""
    for path in sorted((REPOSITORY / "notebooks").glob(pattern)):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", []):
                yield "".join(cell["source"])


def met(pattern: str = "0*.ipynb") -> tuple[set[str], set[tuple[str, str]]]:
    """Return the modules of ours that notebooks name, and the names they take from them."""
    modules, names = set(), set()
    for path in sorted((REPOSITORY / "notebooks").glob(pattern)):
        tree = ast.parse("\n".join(cells(path.name)))
        alias = {}
        for node in (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)):
            if (node.module or "").split(".")[0] != "demix_nb":
                continue
            for name in node.names:
                inside = PACKAGE.joinpath(*node.module.split(".")[1:], name.name)
                if inside.is_dir() or inside.with_suffix(".py").is_file():
                    alias[name.asname or name.name] = f"{node.module}.{name.name}"
                    modules.add(alias[name.asname or name.name])
                else:
                    modules.add(node.module)
                    names.add((node.module, name.name))
        used = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name))
        names |= {(alias[node.value.id], node.attr) for node in used if node.value.id in alias}
    return modules, names


def definitions(kind: type | tuple[type, ...]) -> list[tuple[int, str]]:
    """Return (lines, where) of every function or class of the package."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                found.append((node.end_lineno - node.lineno + 1, f"{path.relative_to(REPOSITORY)}:{node.name}"))
    return found


def lines(path: Path) -> int:
    """Return the lines of a file, or of all Python files of a folder."""
    files = path.rglob("*.py") if path.is_dir() else [path]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def way(folder: Path) -> dict[str, int]:
    """Return the files of ours, with their lines, that `study.proxy("merged")(mixtures).ranks` enters.

    `folder`: a finished smoke run. The study is open and its models are loaded; one worker, so that all is seen.
    """
    import numpy as np

    from demix_nb.study import Study

    study = Study.open(folder, "ranked", n_jobs=1)
    proxy = study.proxy("merged")
    mixtures = study.region.draw(2, rng=np.random.default_rng(os.getpid()))  # not in the cache
    entered: set[str] = set()

    def watch(frame, event, _) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered.add(frame.f_code.co_filename)

    sys.setprofile(watch)
    try:
        _ = proxy(mixtures).ranks
    finally:
        sys.setprofile(None)
    return {str(Path(name).relative_to(REPOSITORY)): lines(Path(name)) for name in sorted(entered)}


def census(run: Path | None = None) -> dict[str, object]:
    """Return every figure by name; `run` is a finished smoke run, for the way from a mixture to its rank."""
    modules, names = met()
    code = [*cells("**/*.ipynb")]
    functions = definitions((ast.FunctionDef, ast.AsyncFunctionDef))
    files = list(PACKAGE.rglob("*.py"))
    trees = [ast.parse(cell) for cell in code if not cell.lstrip().startswith("%")]
    found = {
        "modules that the numbered notebooks meet": len(modules),
        "names they meet": len(names),
        "cells over 20 lines": sum(cell.count("\n") + 1 > 20 for cell in code),
        "local functions": sum(isinstance(node, ast.FunctionDef) for tree in trees for node in ast.walk(tree)),
        'run / "tables"': sum(cell.count('/ "tables"') for cell in code),
        "longest function": max(functions),
        "median function": statistics.median(size for size, _ in functions),
        "longest class": max(definitions(ast.ClassDef)),
        "longest module": max((lines(path), str(path.relative_to(REPOSITORY))) for path in files),
        **{f"lines, {storey}": sum(lines(PACKAGE / room) for room in rooms) for storey, rooms in STOREYS.items()},
    }
    if run:
        entered = way(run)
        found |= {"files from a mixture to its rank": len(entered), "their lines": sum(entered.values())}
    return found


if __name__ == "__main__":
    for name, value in census(Path(sys.argv[1]) if len(sys.argv) > 1 else None).items():
        print(f"{name}: {value}")
