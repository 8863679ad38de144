"""`demix-nb engine`: start the engine that a study names, ask its workers who they are, and time one proxy on it.

Imports wait until a command needs them, as everywhere on the command line.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

EACH = 2  # proxies that a worker is timed on

app = typer.Typer(help="The engine of a study: its workers, and how long a proxy takes there.", no_args_is_help=True)


@app.callback()
def _top() -> None:
    pass  # one command below a group: `engine check`


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a study file")],
    workers: Annotated[int, typer.Option(help="processes, where the engine is on this machine")] = 2,
) -> None:
    """Start a study's engine, and say of every worker what it has and sees; time one proxy."""
    from rich.console import Console

    from demix_nb.cluster import Cluster
    from demix_nb.running.given import Given

    opened, console = Given.open(file), Console(highlight=False, markup=False)
    if opened.engine is None:
        console.print(f"engine: processes, {workers} on this machine")
    else:
        cluster = Cluster(opened.engine, opened.folder, workers, console.print)
        try:
            began = time.perf_counter()
            answers = cluster.check()
            console.print(f"engine: {opened.engine.told}; it answered after {time.perf_counter() - began:.1f} s")
            console.print(_table(answers))
        finally:
            cluster.close()
    console.print(_timed(opened, workers))


def _table(answers: dict):
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, pad_edge=False)
    for column in ("worker", "host", "device", "threads", "free memory", "its limit", "version", "sees the folder"):
        shown.add_column(column, overflow="fold")
    for worker, one in sorted(answers.items()):
        limit = f"{one['limit'] / 2**30:.1f} GB" if one["limit"] else "none"
        said = (one["host"], one["device"], str(one["threads"]), f"{one['memory'] / 2**30:.1f} GB", limit)
        shown.add_row(*map(Text, (worker, *said, one["version"], "yes" if one["sees"] else "no")))
    return shown


def _timed(opened, workers: int) -> str:
    """Time two rounds of proxies, of which the first opens what the second finds open; nothing is kept."""
    if not opened.file.folders:
        return "no component is there yet, so no proxy is timed"
    from dataclasses import replace

    import numpy as np

    from demix_nb.sources import Merges
    from demix_nb.study import Study

    opened.install(opened.folder)
    study = Study.open(opened.folder, n_jobs=workers)
    n = study.engine.size if study.engine else workers
    took = []
    try:
        with tempfile.TemporaryDirectory(dir=opened.folder, prefix=".timed-") as folder:
            store = replace(study.store, folder=Path(folder))
            for seed in (0, 1):
                mixtures = study.region.draw(EACH * n, rng=np.random.default_rng(seed), prefix=f"timed {seed}-")
                began = time.perf_counter()
                store.scores(Merges(study.bank, mixtures), study.suite)
                took.append(time.perf_counter() - began)
    finally:
        if study.engine:
            study.engine.close()
    once = max(took[0] - took[1], 0.0)
    return f"{n} workers: a merged proxy takes {took[1] / EACH:.2f} s of a worker, opening all once took {once:.1f} s"
