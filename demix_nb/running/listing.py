"""The notebooks to look through: what there is, what each can be told, and where JupyterLab opens them."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from demix_nb import INSTALLED, NOTEBOOKS, ROOT
from demix_nb.options import described
from demix_nb.running import runner


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


def open_lab(folder: Path, more: Sequence[str]) -> None:
    """Start JupyterLab on `folder`, for this computer alone and with the Python that runs this command."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # or a kernel named python3 in the user's folder would win
    from jupyterlab.labapp import LabApp  # imports a web server

    here = [f"--ServerApp.root_dir={folder}", "--ServerApp.ip=127.0.0.1"]
    LabApp.launch_instance([*here, "--LabApp.default_url=/lab/tree/00_tour.ipynb", *more])
