"""The notebooks to look through: what there is, what each can be told, and where JupyterLab opens them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from demix_nb import FOUND, INSTALLED, NOTEBOOKS, ROOT
from demix_nb.options import described
from demix_nb.running import runner

SHOWS = "08_playground"  # the notebook that shows a run, and needs nothing run again


def notebooks() -> Table:
    """Return a table of the notebooks: step, title, what it needs."""
    shown = Table("step", "title", "needs", box=None, pad_edge=False)
    for name, notebook in runner.STEPS.items():
        shown.add_row(name, Text(notebook.title), ", ".join(notebook.needs))
    return shown


def parameters(step: str) -> Table:
    """Return a table of a step's parameters: name, what it must be, default, comment. Raises Refusal for no step."""
    import papermill  # takes a second

    notebook = runner.STEPS[runner.step_of(step)]
    told = papermill.inspect_notebook(notebook.path)
    shown = Table("parameter", "must be", "default", "comment", box=None, pad_edge=False)
    for name, default in notebook.declared.items():
        shown.add_row(*(Text(part) for part in (name, described(name, default), repr(default), told[name]["help"])))
    return shown


def at_hand() -> Path:
    """Return the folder of notebooks to open: a checkout's own, or copies under the current folder, each made once."""
    if not INSTALLED:
        return NOTEBOOKS
    for source in sorted(NOTEBOOKS.rglob("*.ipynb")):
        target = ROOT / "notebooks" / source.relative_to(NOTEBOOKS)
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
    return ROOT / "notebooks"


def newest(runs: Path) -> Path | None:
    """Return the folder of the run below `runs` that was finished last, as far as the playground needs; None: none."""
    needed = runner.STEPS[SHOWS].needs
    last = {folder: [folder / "stamps" / f"{step}.json" for step in needed] for folder in runs.glob("*/")}
    done = {folder: stamps[-1].stat().st_mtime for folder, stamps in last.items() if all(map(Path.is_file, stamps))}
    return max(done, key=done.get) if done else None


def open_lab(folder: Path, more: Sequence[str], found: Path | None) -> None:
    """Start JupyterLab on `folder`, for this computer alone and with the Python that runs this command.

    `found`: the folder of the run that the playground shows; None: the tables that come with the package.
    """
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # or a kernel named python3 in the user's folder would win
    os.environ[FOUND] = str(found or "")
    from jupyterlab.labapp import LabApp  # imports a web server

    here = [f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
    LabApp.launch_instance([*here, "--LabApp.default_url=/lab/tree/00_tour.ipynb", *more])
