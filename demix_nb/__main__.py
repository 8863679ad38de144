"""The command line, `demix-nb`: run the notebooks, open them, hand them out, examine checkpoints.

Whatever a command needs is imported inside it, so that help and completion come at once. Anything refused is one
sentence and exit status 2.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from demix_nb import NOTEBOOKS, ROOT, RUNS, __version__
from demix_nb.running import exchange, letters, machines, stopping, studies

ABOUT = "Find the data mixture for language-model pre-training before the training run is spent."


class Door(TyperGroup):
    """The commands, with every refusal told in one sentence and never as a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command; a Refusal, or a file that the system refuses, ends with status 2, signal n with 128 + n."""
        try:
            with stopping.heard():
                return super().invoke(ctx)
        except (ValueError, OSError) as error:
            from demix_nb.store import Refusal  # imports pandas

            if not isinstance(error, Refusal) and getattr(error, "filename", None) is None:
                raise  # a fault of ours, to be seen whole
            told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else error
            print(f"demix-nb: {told}", file=sys.stderr)
            raise typer.Exit(2) from error


app = typer.Typer(cls=Door, help=ABOUT, pretty_exceptions_enable=False)
app.add_typer(studies.app, name="study")
app.add_typer(machines.app, name="engine")


def _steps(incomplete: str) -> list[str]:
    return [path.stem for path in sorted(NOTEBOOKS.rglob("*.ipynb")) if incomplete in path.stem]


def _profiles(incomplete: str) -> list[str]:
    from demix_nb.running import runner

    return [name for name in runner.profiles() if incomplete in name]


Steps = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="STEP...",
        autocompletion=_steps,
        help="notebooks, or parts of their names such as 05; none: the profile's, else the numbered",
    ),
]
Profile = Annotated[str, typer.Option(autocompletion=_profiles, help="a section of notebooks/profiles.yml")]
RunDir = Annotated[
    Path | None, typer.Option(help="where tables, models and copies lie; none: data/runs/PROFILE", show_default=False)
]
Given = Annotated[
    list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="set a parameter", show_default=False)
]


def _version(asked: bool) -> bool:
    if asked:
        print(f"demix-nb {__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="say which")] = False,
) -> None:
    pass  # what it has to say, its option says


StudyFile = Annotated[
    Path | None, typer.Option("--study", metavar="FILE", help="a study file of your own", show_default=False)
]


@app.command()
def run(
    steps: Steps = None,
    profile: Profile = "laptop",
    parameters: Given = None,
    run_dir: RunDir = None,
    study: StudyFile = None,
    force: Annotated[bool, typer.Option("--force", help="run steps that are up to date, too")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, and what it takes")] = False,
) -> None:
    """Run notebooks end to end."""
    print(f"demix-nb {__version__}, profile {profile}", flush=True)  # before anything is imported: it has started
    from demix_nb.running import given, runner

    opened = given.Given.open(study) if study else None
    planned = runner.plan(steps or [], profile, overrides(parameters or []), run_dir, opened)
    if dry_run:
        _show_costs(planned, profile, force)
        return
    from demix_nb.running import estimate
    from demix_nb.running.terminal import Screen

    expected = estimate.expected(planned, profile)
    runner.run(planned, force=force, screen=Screen(), expected=expected, given=opened)
    print(f"\n{runner.closing_table(planned)}\n\neverything is in {planned[0].run_dir}")


def overrides(pairs: list[str]) -> dict[str, str]:
    """Return name → text of what follows each -p; raises Refusal for one without a value."""
    from demix_nb.store import Refusal

    if wrong := [pair for pair in pairs if "=" not in pair]:
        raise Refusal(f"-p {wrong[0]}: write -p name=value")
    return dict(pair.split("=", 1) for pair in pairs)


def _show_costs(planned: list, profile: str, force: bool) -> None:
    from rich.console import Console

    from demix_nb.running import estimate

    console = Console(soft_wrap=True, highlight=False)
    console.print(estimate.table(estimate.costs(planned, profile, force=force)))
    console.print("models that are trained already are kept; minutes are those of committed runs, for this machine")
    console.print(f"nothing was run; all of it would go into {planned[0].run_dir}", markup=False)


def _number(what: str) -> Any:
    return Annotated[float | None, typer.Option(help=what, show_default=False)]


@app.command()
def plan(
    study: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="a study file: what it tells is not asked")
    ] = None,
    candidates: _number("how many") = None,
    parameters: _number("of a model") = None,
    component_tokens: _number("that a component is trained on") = None,
    reference_tokens: _number("that a reference is trained on; none: a component's") = None,
    searched: _number("mixtures that are looked at") = None,
    references: _number("really trained mixtures") = None,
    replicates: _number("of them trained twice") = None,
    budget: _number("tokens of a trained proxy, as a share of a component's") = None,
    gpu: Annotated[str, typer.Option(help="a100, h100, h200, l40s or rtx4090")] = "h100",
    utilisation: Annotated[float, typer.Option(help="share of the GPU's peak that is reached")] = 0.4,
    wanted: _number("macro ρ: which kind reaches it at the least cost") = None,
) -> None:
    """Say what a search will cost, by kind of proxy, and what that bought us; nothing is trained."""
    from rich.console import Console

    from demix_nb import plan as planning
    from demix_nb.running import planning as told

    given = {name: value for name, value in locals().items() if name in planning.Sizes.__dataclass_fields__}
    sizes, machine = told.sizes(study, given), planning.Machine(gpu, utilisation)
    console, costs, known = Console(soft_wrap=True, highlight=False), planning.table(sizes, machine), told.known()
    console.print(told.costs(costs))
    console.print(f"on {gpu} at {utilisation:.0%} of its peak; a merged proxy is measured, a mixed one is not\n")
    if known is not None:
        console.print(told.reached(known))
    if known is not None and wanted is not None:
        for regime, kind in planning.cheapest(costs, known, wanted).items():
            console.print(f"macro ρ {wanted:g}, {regime}: {kind or 'no kind reached it'}")


Tables = Annotated[Path, typer.Argument(metavar="FILE", help="a study file of tables: mixtures and their scores")]


@app.command(name="next")
def following(
    study: Tables,
    n: Annotated[int, typer.Option("-n", min=1, help="how many")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="another one asks for others")] = 0,
) -> None:
    """Say which mixtures to train next, and write them down."""
    from demix_nb.running import rounds

    found = rounds.ask(study, n, seed=seed)
    print(found.mixtures.round(4).to_string(), found.told, f"written to {found.path}", sep="\n")


@app.command()
def tell(
    study: Tables,
    scores: Annotated[Path, typer.Argument(metavar="SCORES", help="a table of scores, or lm-eval's results")],
    mixtures: Annotated[Path | None, typer.Option(help="of those nobody asked for", show_default=False)] = None,
) -> None:
    """Add what was trained to the runs that a study knows."""
    from demix_nb.running import rounds

    print(*rounds.tell(study, scores, mixtures), sep="\n")


app.command()(exchange.export)
app.command()(exchange.merge)
app.command()(exchange.read)


@app.command()
def params(
    step: Annotated[str | None, typer.Argument(autocompletion=_steps, help="a notebook, or a part of its name")] = None,
) -> None:
    """List a notebook's parameters: type, default, comment; without a name, the notebooks."""
    from rich.console import Console

    from demix_nb.running import listing

    Console(highlight=False).print(listing.parameters(step) if step else listing.notebooks())


@app.command()
def figures(profile: Profile = "laptop", run_dir: RunDir = None) -> None:
    """Keep a run's figures and tables, and write figures/README.md and RESULTS.md."""
    from demix_nb.running import gallery, results

    shown = gallery.keep(profile, run_dir or RUNS / profile, ROOT / "figures", ROOT / "data" / "results")
    results.write(ROOT / "data" / "results", ROOT / "RESULTS.md")
    print(f"{len(shown)} figures in {ROOT / 'figures' / 'README.md'}")


@app.command()
def report(profile: Profile = "laptop", run_dir: RunDir = None) -> None:
    """Write a finished run as HTML pages that open from disk."""
    from demix_nb.running import report as pages

    written = pages.write(profile, (run_dir or RUNS / profile).resolve())
    print(f"{len(written)} pages, {sum(path.stat().st_size for path in written) / 1e6:.1f} MB; open {written[0]}")


@app.command(context_settings={"ignore_unknown_options": True})
def lab(
    more: Annotated[list[str] | None, typer.Argument(metavar="MORE...", help="arguments of jupyter lab")] = None,
) -> None:
    """Open the notebooks in JupyterLab, the playground on the run finished last; further arguments go to it."""
    from demix_nb.running import listing

    found = listing.newest(RUNS)
    print(f"the playground shows {found}" if found else "no finished run: the playground shows the committed results")
    listing.open_lab(listing.at_hand(), more or [], found)


@app.command()
def doctor(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="component checkpoint folders")],
    base: Annotated[
        Path | None, typer.Option(help="the checkpoint they were all trained from: adds drift and cosines")
    ] = None,
    text: Annotated[Path | None, typer.Option(help="a text file, one document per line: adds the loss barrier")] = None,
) -> None:
    """Say whether checkpoints can be merged, and how well."""
    from demix_nb.merging import doctor as examiner
    from demix_nb.store import Refusal

    texts = text.read_text(encoding="utf-8").splitlines() if text else []
    failed = 0
    for finding in examiner.examine(directories, base, texts):
        print(f"{'ok  ' if finding.passed else 'FAIL'} {finding.check}: {finding.sentence}")
        failed += not finding.passed
    if failed:
        raise Refusal("these checkpoints cannot be merged as they are")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line, bare as help; returns the exit status, 0, or 2 for what was refused."""
    letters.use()
    try:
        app((sys.argv[1:] if arguments is None else arguments) or ["--help"], prog_name="demix-nb")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
