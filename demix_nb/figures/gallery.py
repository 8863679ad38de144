"""Every quoted figure as a row: the function that draws it, the tables it is drawn from, the notebook that shows it.

A figure is drawn from tables only, so that whoever has the tables has the figure, and a test can redraw each committed
one. Adding a figure is a function in a module beside this one and a row here. Rooms apart from the core hold rows of
their own under the same name, `FIGURES`; they are looked for when a name is not here, and may be gone.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from demix_nb import reading, store
from demix_nb.figures import marks, pipeline, regression
from demix_nb.store import Refusal

ROOMS = ("demix_nb.papers.figures",)  # modules with rows of their own, by name

Read = Callable[[str], pd.DataFrame]  # name of a table → table


@dataclass(frozen=True)
class Row:
    """One figure.

    `draw` takes its `tables` in this order, then those `printed` in papers (`data/published/`), then `options`.
    `profile`: whose committed tables the committed figure shows. `outside`: of the tables, those that hold others' data
    and are not committed.
    """

    draw: Callable[..., Figure]
    tables: tuple[str, ...]
    notebook: str
    options: Mapping[str, object] = field(default_factory=dict)
    printed: tuple[str, ...] = ()
    profile: str = "laptop"
    outside: tuple[str, ...] = ()

    @property
    def caption(self) -> str:
        """What it shows: the first paragraph of the function's docstring, where a sentence may be all there is."""
        return " ".join((self.draw.__doc__ or "").strip().split("\n\n")[0].split())

    @property
    def function(self) -> str:
        """The function's name with its module's."""
        return f"{self.draw.__module__}.{self.draw.__qualname__}"


FIGURES = {
    "loss_curves": Row(pipeline.loss_curves, ("loss_curves", "corpora"), "01_components"),
    "component_scores": Row(pipeline.component_scores, ("component_scores", "component_tasks"), "01_components"),
    "drift": Row(pipeline.drift, ("drift",), "02_merging"),
    "cosines": Row(pipeline.cosines, ("cosines",), "02_merging"),
    "merge_path": Row(
        pipeline.merge_path, ("path_mixtures", "path_merged_scores", "path_reference_scores", "corpora"), "02_merging"
    ),
    "signal_to_noise": Row(pipeline.signal_to_noise, ("tasks",), "03_proxy_fidelity"),
    "fidelity_scatter": Row(
        pipeline.fidelity_scatter,
        ("reference_mixtures", "merged_scores", "reference_scores", "tasks", "fidelity"),
        "03_proxy_fidelity",
    ),
    "fidelity_cost": Row(pipeline.fidelity_cost, ("fidelity", "tasks"), "03_proxy_fidelity"),
    "learning_curves": Row(regression.learning_curves, ("learning_curve",), "04_regression"),
    "predicted_against_true": Row(regression.predicted_against_true, ("predictions",), "04_regression"),
    "residuals": Row(regression.residuals, ("predictions",), "04_regression"),
    "coverage": Row(regression.coverage, ("coverage",), "04_regression"),
    "search_rounds": Row(
        pipeline.search_rounds,
        ("search_rounds", "search_mixtures", "search_scores", "named_mixtures", "named_scores", "tasks"),
        "05_search",
    ),
    "mixtures": Row(pipeline.mixtures, ("named_mixtures", "corpora"), "05_search"),
    "interactions_linear": Row(
        regression.effects, ("effects",), "06_domain_interactions", {"kind": "linear", "title": "ridge coefficients"}
    ),
    "interactions_curved": Row(
        regression.effects, ("effects",), "06_domain_interactions",
        {"kind": "curved", "title": "Gaussian process, around the average mixture"},
    ),
    "interactions_pairs": Row(regression.pairs, ("pairs",), "06_domain_interactions"),
    "interactions_path": Row(regression.pair_path, ("pair_path",), "06_domain_interactions"),
    "quality": Row(pipeline.quality, ("quality", "reference_mixtures"), "07_mixture_quality"),
}  # fmt: skip


def rows() -> dict[str, Row]:
    """Return the rows of all rooms, the core's first."""
    return FIGURES | {name: row for room in _rooms() for name, row in room.items()}


def _rooms() -> Iterator[Mapping[str, Row]]:
    for room in ROOMS:
        try:
            yield importlib.import_module(room).FIGURES
        except ModuleNotFoundError as error:
            if str(error.name) not in room:  # the room is there, but something it needs is not
                raise


def row(name: str) -> Row:
    """Return a figure's row; raises Refusal for a name no room has."""
    found = FIGURES.get(name) or rows().get(name)
    if found is None:
        raise Refusal(f"no figure is called {name!r}; there are {', '.join(rows())}")
    return found


def draw(name: str, read: Read, folder: Path | str | None = None, **extra: object) -> Figure:
    """Draw a figure from the tables that `read` returns by name, save it as `folder`/<name>.png, and return it.

    `extra` goes to the figure's function. The figure stays open in pyplot, which shows it below the notebook's cell:
    end the line with a semicolon, or it is shown twice.
    """
    chosen = row(name)
    tables = [read(table) for table in chosen.tables]
    figure = chosen.draw(*tables, *map(reading.printed, chosen.printed), **{**chosen.options, **extra})
    if folder is not None:
        marks.save(figure, Path(folder) / f"{name}.png")
    return figure


def reader(folder: Path | str) -> Read:
    """Return what reads tables by name, checked, from a folder of them."""
    return lambda table: store.read(Path(folder) / f"{table}.csv", store.schema_of(table))
