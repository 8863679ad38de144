"""Execute one notebook with papermill into a run's folder, lean and stamped.

We add what papermill lacks: it says which cell runs, a failed cell ends in one sentence with the path of the executed
copy, widgets are dropped, and a stamp notes what the result depends on and which files it wrote.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.engines import NBClientEngine, NotebookExecutionManager, papermill_engines

from demix_nb import PROGRESS, STATIC
from demix_nb.running import stopping
from demix_nb.running.origin import circumstances
from demix_nb.running.runner import Step
from demix_nb.store import Refusal, atomic, file_hash

ENVIRONMENT = {  # of kernels: nobody at the controls, no bars of libraries, no warnings about our own doing
    STATIC: "1",
    "TQDM_DISABLE": "1",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUTF8": "1",  # files are read as they are written, whatever the terminal can show
    "PYTHONIOENCODING": ":backslashreplace",  # and nothing that is printed on the way is worth an error
    "PYTHONWARNINGS": "ignore:resource_tracker",  # what frees the memory of stopped workers says so on stderr
}
OnCell = Callable[[int, int], None]  # the cell that starts, counted from 1, and how many there are


class Patient(AsyncKernelManager):
    """A kernel manager that asks a kernel to end without interrupting it first.

    The interrupt reaches an idle kernel in the middle of its own housekeeping now and then, which it logs as an error.
    A busy one hears the request all the same, on its control channel.
    """

    async def _async_interrupt_kernel(self) -> None:
        if not self.shutting_down:
            await super()._async_interrupt_kernel()

    interrupt_kernel = _async_interrupt_kernel


class Counted(NBClientEngine):
    """papermill's own engine, telling which cell starts."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: NotebookExecutionManager, kernel_name: str, *, on_cell: OnCell, **options
    ) -> None:
        """Execute as papermill does, calling `on_cell` before every cell."""
        start, cells = nb_man.cell_start, len(nb_man.nb.cells)

        def told(cell: nbformat.NotebookNode, index: int) -> None:
            stopping.STOP.in_cell = True
            on_cell(index + 1, cells)
            start(cell, index)

        nb_man.cell_start = told
        super().execute_managed_notebook(nb_man, kernel_name, kernel_manager_class=Patient, **options)


papermill_engines.register("counted", Counted)


def execute(step: Step, on_cell: OnCell, inner: Path) -> float:
    """Execute one notebook into the run's folder and stamp it; returns seconds.

    `on_cell` is called when a cell starts; a cell's own loops write how far they are to the file `inner`. Raises
    Refusal with the cell, its error and the executed copy where one fails.
    """
    began, started, key = time.perf_counter(), time.time(), step.key()
    _make_room(step)
    with _surroundings(inner):
        _execute_cells(step, on_cell)
    lean(step.executed)
    took = time.perf_counter() - began
    stamp = {"key": key, "seconds": round(took, 1), "parameters": dict(step.parameters)} | circumstances()
    stamp["files"] = {str(path.relative_to(step.run_dir)): file_hash(path) for path in _written(step, started)}
    with atomic(step.stamp) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1))
    return took


def _make_room(step: Step) -> None:
    try:
        step.stamp.unlink(missing_ok=True)
        step.executed.parent.mkdir(parents=True, exist_ok=True)
        step.stamp.parent.mkdir(parents=True, exist_ok=True)
        step.executed.open("a").close()
        if not step.executed.stat().st_size:
            step.executed.unlink()  # papermill writes it, whole
    except OSError as error:
        raise Refusal(
            f"cannot write to {step.run_dir}: {error.strerror}; give another folder with --run-dir"
        ) from error


@contextmanager
def _surroundings(inner: Path) -> Iterator[None]:
    """What kernels find in their environment, for as long as one runs; whatever they started ends with them."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT | {PROGRESS: str(inner), stopping.MARK: stopping.OURS})
    try:
        yield
    finally:
        stopping.STOP.in_cell = False
        os.environ.clear()
        os.environ.update(before)
        stopping.end_started()


def _execute_cells(step: Step, on_cell: OnCell) -> None:
    try:
        papermill.execute_notebook(
            step.notebook,
            step.executed,
            {**step.parameters, "run_dir": str(step.run_dir)},
            engine_name="counted",
            on_cell=on_cell,
            progress_bar=False,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],
            log_output=False,
        )
    except DeadKernelError as error:
        raise Refusal(
            f"the kernel of {step.name} died, most often because memory ran out; take fewer workers (-p workers=1)"
        ) from error
    except papermill.PapermillExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))  # colours
        raise Refusal(
            f"{step.name} failed in cell {error.cell_index} ({error.ename}): {message}\nexecuted copy: {step.executed}"
        ) from error


def _written(step: Step, since: float) -> list[Path]:
    """The tables and summaries in the run's folder that are no older than `since`, seconds of `time.time()`."""
    found = sorted(path for folder in ("tables", "summary") for path in (step.run_dir / folder).glob("*"))
    return [path for path in found if path.stat().st_mtime >= since]


def lean(executed: Path) -> None:
    """Drop widget state and views from an executed notebook: they are megabytes that no reader of the copy can use."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
            ]
    with atomic(executed) as temporary:
        nbformat.write(notebook, temporary)
