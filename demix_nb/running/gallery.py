"""Keep what a finished run shows: its figures, its tables, and a page that says where each figure came from.

A figure in the gallery can be made again by anyone: the page names the function that draws it, the notebook, the
command and the tables. Knows rows of figures and files, not science.
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import pyplot

from demix_nb import NOTEBOOKS, store, studyfile
from demix_nb.figures import gallery
from demix_nb.figures.gallery import Row
from demix_nb.running import runner
from demix_nb.store import Refusal, atomic

NAMED = re.compile(r"""\b(?:figure|draw)\(\s*["'](\w+)["']""")  # how a notebook asks for a figure


def shown_in(source: str) -> list[str]:
    """Return the names of the gallery's figures that a cell draws, in its order."""
    known = gallery.rows()
    return [name for name in NAMED.findall(source) if name in known]


def keep(profile: str, run_dir: Path, figures: Path, results: Path) -> dict[str, Row]:
    """Copy a run's tables and study file to `results`/<profile>, draw all figures from what is kept, write the page.

    Returns the rows shown. `results`/<profile>/run.csv says which step took how long where; like the tables of a
    step, its row stays where the run does not have it. What holds others' data is not copied; a figure of it comes
    from the run as it is. Figures that neither has the tables of stay as they are. Raises Refusal when the run has no
    table yet.
    """
    rows, tables = gallery.rows(), sorted((run_dir / "tables").glob("*.csv"))
    if not tables:
        raise Refusal(f"no tables in {run_dir}; run `demix-nb run --profile {profile}` first")
    outside = {table for row in rows.values() for table in row.outside}
    for source in (path for path in tables if path.stem not in outside):
        _copy(source, results / profile / source.name)
    if (run_dir / studyfile.NAME).is_file():
        _copy(run_dir / studyfile.NAME, results / profile / studyfile.NAME)
    took, now = results / profile / "run.csv", circumstances(run_dir)
    before = store.read(took, "run") if took.is_file() else now.iloc[:0]
    steps = pd.concat([before.drop(index=now.index, errors="ignore"), now])
    store.write(steps.loc[[step for step in runner.STEPS if step in steps.index]], took, "run")
    for name, row in rows.items():
        _picture(name, row, run_dir / "figures", figures, results / row.profile)
    shown = {name: row for name, row in rows.items() if (figures / f"{name}.png").is_file()}
    with atomic(figures / "README.md") as temporary:
        temporary.write_text(page(shown), encoding="utf-8")
    return shown


def _picture(name: str, row: Row, drawn: Path, figures: Path, tables: Path) -> None:
    """Draw a figure from the tables kept; from others' tables, take the run's own."""
    if row.outside and (drawn / f"{name}.png").is_file():
        _copy(drawn / f"{name}.png", figures / f"{name}.png")
    elif all((tables / f"{table}.csv").is_file() for table in row.tables):
        pyplot.close(gallery.draw(name, gallery.reader(tables), figures))


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


def page(shown: Mapping[str, Row]) -> str:
    """Return the gallery as Markdown, notebook by notebook: a site that shows no outputs shows these pictures."""
    titles = {step: notebook.title for step, notebook in runner.STEPS.items()}
    drawn = [step for step in titles if any(row.notebook == step for row in shown.values())]
    contents = "\n".join(f"* [{titles[step]}](#{_anchor(titles[step])})" for step in drawn)
    parts = ["# Figures", "Every figure is drawn from tables alone, by the function it names.", contents]
    for step in drawn:
        path = runner.STEPS[step].path.relative_to(NOTEBOOKS).as_posix()
        parts += [f"## {titles[step]}", f"Notebook [`{step}`](../notebooks/{path}), `demix-nb run {step}`"]
        for name, row in ((name, row) for name, row in shown.items() if row.notebook == step):
            parts += [
                f"### {name.replace('_', ' ')}",
                f"![{row.caption}]({name}.png)",
                row.caption,
                f"Function `{row.function}`, from {_data(row)}",
            ]
    return "\n\n".join(parts) + "\n"


def _anchor(heading: str) -> str:
    """Return what GitHub calls a heading: words and hyphens, in small letters."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _data(row: Row) -> str:
    """Return the links to the tables that a figure is drawn from, as far as they are committed."""
    kept = [(table, f"../data/results/{row.profile}/{table}.csv") for table in row.tables if table not in row.outside]
    printed = [(table, f"../data/published/{table}.csv") for table in row.printed]
    links = [f"[`{table}`]({path})" for table, path in kept + printed]
    return ", ".join([*links, *(f"`{table}` (not ours, not committed)" for table in row.outside)])
