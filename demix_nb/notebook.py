"""What every notebook needs: a quiet start, a function's source on the page, when to assert a claim, its summary."""

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
from IPython.display import Code, display
from numpy import isnan

from demix_nb import tables

PUBLISHED = Path(__file__).parent.parent / "data" / "published"


def begin(run_dir: str, *, panels: bool = False) -> Path:
    """Set the style of figures, or of plotly `panels`, silence libraries that chat, and return the run's folder."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", message="A worker stopped")  # loky replaces a worker that has grown; no loss
    # imported here: a reader who is to move sliders waits for what they need alone
    if panels:
        from demix_nb import explore as drawing
    else:
        from demix_nb import figures as drawing
    drawing.style()
    return Path(run_dir)


def show_source(function: Callable) -> None:
    """Show the code that runs, highlighted, where a copy in the notebook would grow stale."""
    display(Code(inspect.getsource(function), language="python"))


def printed(table: str) -> pd.DataFrame:
    """Return a table of a paper as it was printed, from `data/published/<table>.csv`."""
    return pd.read_csv(PUBLISHED / f"{table}.csv")


def given_tables(folder: str, run_dir: Path, profile: str) -> Path:
    """Return the folder a notebook reads: `folder`, "run" for the run's own tables, "" for those committed."""
    committed = PUBLISHED.parent / "results" / profile
    return run_dir / "tables" if folder == "run" else Path(folder) if folder else committed


def claimed(strict: bool, candidates: Iterable[str]) -> bool:
    """Return whether the full claim is asserted: where it was made, on the built-in candidates; yours may be harder."""
    from demix_nb.sources import BUILTIN  # imports sympy, too long to wait for before the first cell of a notebook

    return strict and set(candidates) == set(BUILTIN)


def with_interval(value: float, low: float, high: float, *, digits: int = 2, undefined: str = "undefined") -> str:
    """Return a value with its interval, as in "0.91 [0.79, 0.95]"; for NaN `undefined`, which may say why."""
    return undefined if isnan(value) else f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def summarise(run_dir: Path, step: str, results: Mapping[str, object]) -> pd.DataFrame:
    """Write `summary/<step>.csv`, the step's lines in the closing table of `demix-nb run`, and return it."""
    frame = pd.DataFrame({"value": [str(value) for value in results.values()]}, index=list(results))
    tables.write(frame.rename_axis("result"), run_dir / "summary" / f"{step}.csv", "summary")
    return frame
