"""Keep what a finished run shows: its figures, its small tables, and a page that says where each came from.

A figure in the gallery can be made again by anyone: the page names the notebook, the function that draws it and the
command. Knows notebooks and files, not science.
"""

import importlib
import inspect
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pandas as pd

from demix_nb import runner, tables
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
    """Copy a run's figures to `figures`, its tables to `results`/<profile>; write the gallery, return its entries.

    `results`/<profile>/run.csv says which step took how long where. A profile that names its steps keeps the figures
    of those alone. Raises RunError when the run has no figure yet. Figures of notebooks that this run did not execute
    stay as they are.
    """
    found, own = entries(), runner.profiles().get(profile, {}).get("steps", list(runner.STEPS))
    files = {entry.file for entry in found if entry.notebook in own}
    fresh = [path for path in sorted((run_dir / "figures").glob("*.png")) if path.name in files]
    if not fresh:
        raise runner.RunError(f"no figures in {run_dir}; run `demix-nb run --profile {profile}` first")
    for source in fresh:
        _copy(source, figures / source.name)
    for source in sorted((run_dir / "tables").glob("*.csv")):
        _copy(source, results / profile / source.name)
    tables.write(circumstances(run_dir), results / profile / "run.csv", "run")
    shown = [entry for entry in found if (figures / entry.file).is_file()]
    with atomic(figures / "README.md") as temporary:
        temporary.write_text(page(shown), encoding="utf-8")
    return shown


def circumstances(run_dir: Path) -> pd.DataFrame:
    """Return per step of a run its seconds, seed, machine, torch version and commit; empty where a stamp says less."""
    stamps = {path.stem: json.loads(path.read_text()) for path in sorted((run_dir / "stamps").glob("*.json"))}
    rows = {
        step: {
            "seconds": stamp["seconds"],
            "seed": stamp["parameters"].get("seed", ""),
            "machine": stamp.get("machine", ""),
            "torch": stamp.get("versions", {}).get("torch", ""),
            "commit": stamp.get("commit", ""),
        }
        for step, stamp in stamps.items()
    }
    columns = ["seconds", "seed", "machine", "torch", "commit"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("step")


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
