"""`demix-nb export`: what goes out to trainers.

Imports wait until a command needs them, as everywhere on the command line.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

SEQUENCE = 4096  # tokens; as in `exports.order`, which imports pandas


def _given(what: str, **how: Any) -> Any:
    return typer.Option(help=what, show_default=False, **how)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="mixture.yaml, a table of mixtures, or a study file")],
    to: Annotated[list[str], typer.Option(help="a trainer's format, may come again; all: every one")],
    data: Annotated[Path, typer.Option(help="YAML: candidate: path, or {path, tokens, document_tokens, valid, test}")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the folder to write")],
    study: Annotated[Path | None, _given("whose beta, tokens and lengths count where nobody else tells them")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="of a study file: the recipes of its components and references")
    ] = False,
    tokens: Annotated[float | None, _given("of the run; none: the study's")] = None,
    sequence: Annotated[int, typer.Option(min=1, help="tokens of a sequence")] = SEQUENCE,
    batch: Annotated[int | None, _given("sequences of a step, where there are phases", min=1)] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what the folder holds")] = False,
) -> None:
    """Write mixtures as the files that trainers read, with what their numbers mean."""
    from demix_nb.running import handing

    size = handing.Size(tokens, sequence, batch)
    print(*handing.hand_over(file, to, data, output, size, study, everything=everything, force=force), sep="\n")
