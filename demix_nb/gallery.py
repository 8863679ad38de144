"""Keep what a finished run shows: its figures, its small tables, and a page that says where each came from.

A figure in the gallery can be made again by anyone: the page names the notebook, the function that draws it and the
command. Knows notebooks and files, not science.
"""

import importlib
import inspect
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat

from demix_nb import runner
from demix_nb.tables import atomic

DRAWN = re.compile(r"(figures\w*)\.(\w+)\((?:(?!figures\w*\.save)[\s\S])*?figures\w*\.save\(.*?\"([\w.-]+\.png)\"\)")


@dataclass(frozen=True)
class Entry:
    """One figure: its file, the notebook that draws it, and what it shows (the drawing function's first sentence)."""

    file: str
    notebook: str
    function: str
    caption: str


def entries() -> list[Entry]:
    """Return every figure that a notebook saves, in the notebooks' order."""
    found = []
    for step in runner.STEPS:
        cells = nbformat.read(runner.ROOT / "notebooks" / f"{step}.ipynb", as_version=4).cells
        for cell in (cell for cell in cells if cell.cell_type == "code"):
            for module, function, file in DRAWN.findall(cell.source):
                drawn = getattr(importlib.import_module(f"demix_nb.{module}"), function)
                caption = inspect.getdoc(drawn).split("\n\n")[0].replace("\n", " ")
                found.append(Entry(file, step, f"{module}.{function}", caption))
    return found


def keep(profile: str, run_dir: Path, figures: Path, results: Path) -> list[Entry]:
    """Copy a run's figures to `figures` and its tables to `results`/<profile>; write the gallery, return its entries.

    Raises RunError when the run has no figure yet. Figures of notebooks that this run did not execute stay as they are.
    """
    fresh = sorted((run_dir / "figures").glob("*.png"))
    if not fresh:
        raise runner.RunError(f"no figures in {run_dir}; run `demix-nb run --profile {profile}` first")
    for source in fresh:
        _copy(source, figures / source.name)
    for source in sorted((run_dir / "tables").glob("*.csv")):
        _copy(source, results / profile / source.name)
    shown = [entry for entry in entries() if (figures / entry.file).is_file()]
    with atomic(figures / "README.md") as temporary:
        temporary.write_text(page(shown), encoding="utf-8")
    return shown


def _copy(source: Path, target: Path) -> None:
    with atomic(target) as temporary:
        shutil.copyfile(source, temporary)
    target.chmod(0o644)


def page(shown: list[Entry]) -> str:
    """Return the gallery as Markdown."""
    parts = ["# Figures", "Every figure here is drawn by a notebook from tables that the same run wrote."]
    for entry in shown:
        command = f"demix-nb run {entry.notebook} && demix-nb figures"
        parts += [
            f"## {entry.file.removesuffix('.png').replace('_', ' ')}",
            f"![{entry.caption}]({entry.file})",
            entry.caption,
            f"Notebook [`{entry.notebook}`](../notebooks/{entry.notebook}.ipynb), function `{entry.function}`; "
            f"`{command}`",
        ]
    return "\n\n".join(parts) + "\n"
