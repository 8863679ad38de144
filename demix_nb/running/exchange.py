"""`demix-nb export`, `merge` and `read`: what goes out to trainers and to the hub, what comes in from rivals.

Imports wait until a command needs them, as everywhere on the command line.
"""

from pathlib import Path
from typing import Annotated, Any

import typer


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
    sequence: Annotated[int | None, _given("tokens of a sequence; none: 4,096", min=1)] = None,
    batch: Annotated[int | None, _given("sequences of a step, where there are phases", min=1)] = None,
    force: Annotated[bool, typer.Option("--force", help="replace what the folder holds")] = False,
) -> None:
    """Write mixtures as the files that trainers read, with what their numbers mean."""
    from demix_nb.running import handing

    size = handing.Size(tokens, sequence, batch)
    print(*handing.hand_over(file, to, data, output, size, study, everything=everything, force=force), sep="\n")


def merge(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="mixture.yaml, or another file of one mixture")],
    study: Annotated[Path, typer.Option(help="the study file that names the components")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the folder of the checkpoint")],
    method: Annotated[str, typer.Option(help="how: linear, ties, …")] = "linear",
    seed: Annotated[int, typer.Option(min=0, help="of methods that drop numbers at random")] = 0,
) -> None:
    """Save a mixture's merged proxy as a checkpoint, with a model card and mergekit's YAML."""
    from demix_nb.running import handing

    print(*handing.merged(file, study, output, method, seed), sep="\n")


def read(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="tables of mixtures and scores, as they came")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the folder of the new study")],
    mixtures: Annotated[Path | None, _given("which of the files holds the mixtures")] = None,
    shares: Annotated[str | None, _given("what the names of the columns of shares have in common")] = None,
    phase: Annotated[str | None, _given("1, 2 or mean, where runs have two")] = None,
    task: Annotated[list[str] | None, _given("a column of scores that counts; may come again")] = None,
    lower_is_better: Annotated[
        bool | None,
        typer.Option("--lower-is-better/--higher-is-better", help="where names do not tell", show_default=False),
    ] = None,
) -> None:
    """Read what rivals wrote (OLMix, RegMix, mixprior, W&B, lm-eval, DeMix) into a study of tables."""
    from demix_nb import rivals
    from demix_nb.running import receiving

    higher = None if lower_is_better is None else not lower_is_better
    choice = rivals.Choice(mixtures, shares, phase, task or (), higher)
    print(*receiving.receive(files, output, choice), sep="\n")
