"""`demix-nb study`: what a study file may say, what one says, and a first one by looking into a folder.

Imports wait until a command needs them, as everywhere on the command line.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Study files: write a first one, check one, print the JSON schema.")

Kept = Annotated[Path | None, typer.Option("-o", "--output", help="the file to write; none: FOLDER/study.yaml")]


def _place(what: str) -> Any:
    return typer.Option(help=f"{what}, where more than one may be", show_default=False)


def _schema(asked: bool) -> bool:
    if asked:
        from demix_nb import studyfile

        print(studyfile.as_json())
        raise typer.Exit
    return asked


@app.callback(no_args_is_help=True)
def _top(
    schema: Annotated[
        bool,
        typer.Option("--schema", callback=_schema, is_eager=True, help="print the JSON schema of study files"),
    ] = False,
) -> None:
    pass  # what it has to say, its option says


@app.command()
def check(file: Annotated[Path, typer.Argument(metavar="FILE", help="a study file")]) -> None:
    """Say what a study holds and lacks, and what each notebook will show of it; nothing is loaded."""
    from rich.console import Console

    from demix_nb.running import holdings

    console = Console(highlight=False, markup=False)
    for part in holdings.told(file):
        console.print(part, "")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="checkpoints, text, or tables of runs")],
    output: Kept = None,
    components: Annotated[Path | None, _place("the folder of the components' folders")] = None,
    base: Annotated[Path | None, _place("the checkpoint that all components began from")] = None,
    text: Annotated[Path | None, _place("the folder of text, a file or folder per candidate")] = None,
    mixtures: Annotated[Path | None, _place("the table of mixtures")] = None,
    scores: Annotated[Path | None, _place("the scores of these mixtures")] = None,
    lower_is_better: Annotated[
        bool | None,
        typer.Option("--lower-is-better/--higher-is-better", help="direction of scores", show_default=False),
    ] = None,
) -> None:
    """Write a first study file from what lies in a folder, and say what is left to fill in."""
    from demix_nb.running import drafting, looking

    path = output or folder / "study.yaml"
    drafting.refuse_existing(path)
    chosen = {"components": components, "base": base, "text": text, "mixtures": mixtures, "scores": scores}
    found = looking.look(folder, {name: place for name, place in chosen.items() if place is not None})
    draft = drafting.draft(found, path, higher_is_better=None if lower_is_better is None else not lower_is_better)
    draft.write()
    print(f"wrote {path}: {found.told}", *(f"left out: {one}" for one in found.left_out), sep="\n")
    print("to fill in:" if draft.open else "nothing is left open", *(f"  {one}" for one in draft.open), sep="\n")
    print(f"then: demix-nb study check {path}")
