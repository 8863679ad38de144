"""Every quoted figure as a row: the function that draws it, the tables it is drawn from, the notebook that shows it.

A figure is drawn from tables only, so that whoever has the tables has the figure, and a test can redraw each committed
one. What is absent in a study is a table without rows, and its figure is one sentence in words. Adding a figure is a
function in a module beside this one and a row here. Rooms apart from the core hold rows of their own under the same
name, `FIGURES`; they are looked for when a name is not here, and may be gone.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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

    `draw` takes its `tables` in this order, then those `printed` in papers (`data/published/`), then `options`; it
    returns None where they hold too little to draw. The name of a table that is `read` may have an option in braces.
    `absent`: the sentence that stands for the figure then, or where a table has no rows that is not `spared`; "" where
    tables always have some. `profile`: whose committed tables the committed figure shows. `outside`: of the tables,
    those that hold others' data and are not committed.
    """

    draw: Callable[..., Figure | None]
    read: tuple[str, ...]
    notebook: str
    options: Mapping[str, object] = field(default_factory=dict)
    printed: tuple[str, ...] = ()
    profile: str = "laptop"
    outside: tuple[str, ...] = ()
    absent: str = ""
    spared: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables it is drawn from."""
        return tuple(name.format(**self.options) for name in self.read)

    @property
    def caption(self) -> str:
        """What it shows: the first paragraph of the function's docstring, where a sentence may be all there is."""
        return " ".join((self.draw.__doc__ or "").strip().split("\n\n")[0].split())

    @property
    def function(self) -> str:
        """The function's name with its module's."""
        return f"{self.draw.__module__}.{self.draw.__qualname__}"


FIGURES = {
    "loss_curves": Row(
        pipeline.loss_curves, ("loss_curves", "corpora"), "01_components",
        absent="No component was trained here: there are no losses to draw.",
    ),
    "component_scores": Row(
        pipeline.component_scores, ("component_scores", "component_tasks"), "01_components",
        absent="No base and components with scores: there is nothing that could have gained.",
    ),
    "drift": Row(
        pipeline.drift, ("drift",), "02_merging",
        absent="No base beside the components: how far they have moved is not known.",
    ),
    "cosines": Row(
        pipeline.cosines, ("cosines",), "02_merging",
        absent="No base beside the components: which of them moved the same way is not known.",
    ),
    "merge_path": Row(
        pipeline.merge_path,
        ("path_mixtures", "path_merged_scores", "path_reference_scores", "corpora", "component_tasks"), "02_merging",
        absent="No two components with scores of their families' tasks: there is no way between them to draw.",
        spared=("path_reference_scores",),
    ),
    "signal_to_noise": Row(
        pipeline.signal_to_noise, ("tasks",), "03_proxy_fidelity",
        absent="No mixtures were trained twice: the noise of a second seed is not known.",
    ),
    "fidelity_scatter": Row(
        pipeline.fidelity_scatter,
        ("reference_mixtures", "{kind}_scores", "reference_scores", "tasks", "fidelity"), "03_proxy_fidelity",
        {"kind": "merged"},
        absent="No references that such proxies can be compared with, or fewer than four.",
    ),
    "fidelity_cost": Row(
        pipeline.fidelity_cost, ("fidelity", "tasks"), "03_proxy_fidelity",
        absent="No references in this study, or fewer than four: nothing to compare proxies with.",
    ),
    "learning_curves": Row(
        regression.learning_curves, ("learning_curve",), "04_regression",
        absent="No mixtures to learn from and to be judged on: there is no learning curve.",
    ),
    "predicted_against_true": Row(
        regression.predicted_against_true, ("predictions",), "04_regression",
        absent="No mixtures that a predictor has not seen: nothing to hold predictions against.",
    ),
    "residuals": Row(
        regression.residuals, ("predictions",), "04_regression",
        absent="No mixtures that a predictor has not seen: its errors are not known.",
    ),
    "coverage": Row(
        regression.coverage, ("coverage",), "04_regression",
        absent="No mixtures that a predictor has not seen: how honest its intervals are is not known.",
    ),
    "search_rounds": Row(
        pipeline.search_rounds,
        ("search_rounds", "search_mixtures", "search_scores", "named_mixtures", "named_scores", "tasks"), "05_search",
        absent="Nothing was scored in this search.",
        spared=("named_mixtures", "named_scores"),
    ),
    "tied": Row(
        pipeline.tied, ("tied", "corpora"), "05_search",
        absent="Nobody knows what a second seed changes, or how sure the predictor is: no mixture is told to be tied.",
    ),
    "mixtures": Row(
        pipeline.mixtures, ("named_mixtures", "corpora"), "05_search", absent="No mixture was named in this study."
    ),
    "interactions_linear": Row(
        regression.effects, ("effects",), "06_domain_interactions", {"kind": "linear", "title": "ridge coefficients"},
        absent="No linear effects were asked for, or too few mixtures are scored to tell any.",
    ),
    "interactions_curved": Row(
        regression.effects, ("effects",), "06_domain_interactions",
        {"kind": "curved", "title": "Gaussian process, around the average mixture"},
        absent="No curved effects were asked for, or too few mixtures are scored to tell any.",
    ),
    "interactions_pairs": Row(
        regression.pairs, ("pairs",), "06_domain_interactions",
        absent="No pairs of candidates were asked for, or too few mixtures are scored to tell any.",
    ),
    "interactions_path": Row(
        regression.pair_path, ("pair_path",), "06_domain_interactions",
        absent="No pair of candidates was followed from one to the other.",
    ),
    "quality": Row(
        pipeline.quality, ("quality", "reference_mixtures"), "07_mixture_quality",
        absent="No mixture was trained beside references: no place among them is known.",
    ),
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

    Where they hold nothing to draw, it is the row's sentence in words. `extra` goes to the figure's function. The
    figure stays open in pyplot, which shows it below the notebook's cell: end the line with a semicolon, or it is shown
    twice.
    """
    chosen = row(name)
    chosen = replace(chosen, options={**chosen.options, **extra})
    tables = {table: read(table) for table in chosen.tables}
    figure = None
    if not chosen.absent or all(len(tables[table]) for table in tables.keys() - set(chosen.spared)):
        figure = chosen.draw(*tables.values(), *map(reading.printed, chosen.printed), **chosen.options)
    figure = figure or marks.words(chosen.absent)
    if folder is not None:
        marks.save(figure, Path(folder) / f"{name}.png")
    return figure


def reader(folder: Path | str) -> Read:
    """Return what reads tables by name, checked, from a folder of them."""
    return lambda table: store.read(Path(folder) / f"{table}.csv", store.schema_of(table))
