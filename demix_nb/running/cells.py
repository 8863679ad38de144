"""What every notebook needs: a quiet start, a function's source on the page, when to assert a claim, its summary."""

import inspect
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from pathlib import Path

import pandas as pd
from IPython.display import Code, display

from demix_nb import DATA, FOUND, PROGRESS, store
from demix_nb.intervals import with_interval
from demix_nb.reading import printed
from demix_nb.running.lessons import exercises
from demix_nb.study import Study

__all__ = ["begin", "claimed", "exercises", "printed", "progress", "show_source", "shown", "with_interval"]

SENTENCE = 600  # characters of a cell that a table shows
TELL_EVERY = 0.2  # seconds between two notes of how far a loop is


def begin(
    run_dir: str,
    entries: Sequence[str] | str | None = None,
    *,
    workers: int = 2,
    panels: bool = False,
    results: str = "run",
    profile: str = "",
    limit: int | None = None,
    look: str | None = None,
) -> Study:
    """Set the style of figures, or of plotly `panels`, silence libraries that chat, and open the study of a run.

    `entries`: of the study's tasks, those that are measured, `limit`: items of others (`Study`). `results`: the folder
    of the tables that are read, "run" for the run's own, "" for those committed of `profile`; what is written goes to
    the run. `look`: the folder of a finished run to look at in the place of `run_dir`; "": the one that `demix-nb lab`
    found, where it opened the notebook; where it found none, the committed tables of `profile`, without models.
    """
    pd.set_option("display.max_colwidth", SENTENCE)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="A worker stopped")  # loky replaces a worker that has grown; no loss
    # imported here: a reader who is to move sliders waits for what they need alone
    if panels:
        from demix_nb.panels.look import style
    else:
        from demix_nb.figures.marks import theme as style
    style()
    committed = DATA / "results" / profile
    given = {"run": None, "": committed}.get(results, Path(results))
    if look is not None and (look := look or os.environ.get(FOUND, run_dir)):
        run_dir = look
    elif look is not None:
        print(f"No run is finished here: these are the committed results of profile {profile}, and no model is live.")
        run_dir, given = str(committed), committed
    return Study.open(run_dir, entries, limit=limit, n_jobs=workers, progress=progress, given=given)


def progress(iterable: Iterable, total: int | None = None, desc: str = "") -> Iterable:
    """Yield from `iterable`, showing how far it is: a bar in Jupyter, a note for the runner where it executes."""
    if file := os.environ.get(PROGRESS):
        return _told(iterable, len(iterable) if total is None and isinstance(iterable, Sized) else total, desc, file)
    from tqdm.auto import tqdm

    return tqdm(iterable, total=total, desc=desc)


def _told(iterable: Iterable, total: int | None, desc: str, file: str) -> Iterator:
    began, last = time.time(), 0.0
    for done, item in enumerate(iterable):
        if time.time() - last > TELL_EVERY:
            last = time.time()
            with store.atomic(file) as temporary:
                temporary.write_text(json.dumps({"what": desc, "done": done, "total": total, "began": began}))
        yield item
    Path(file).unlink(missing_ok=True)


def shown(table: pd.DataFrame, absent: str) -> None:
    """Show a table, or say in words what is absent where it has no row with a number or a word in it."""
    if table.dropna(how="all").empty:
        print(absent)
    else:
        display(table)


def show_source(function: Callable) -> None:
    """Show the code that runs, highlighted, where a copy in the notebook would grow stale."""
    display(Code(inspect.getsource(function), language="python"))


def claimed(strict: bool, study: Study) -> bool:
    """Return whether the full claim is asserted: where it was made, on the built-in candidates; yours may be harder."""
    return strict and study.builtin
