"""The command line, `demix-nb`: run the notebooks, examine checkpoints."""

import argparse
import sys
from pathlib import Path

from demix_nb import gallery, runner

DEFAULT_PROFILE = "laptop"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(prog="demix-nb", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run notebooks end to end")
    run.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(runner.STEPS)}; default: 01 to 07")
    run.add_argument("--profile", default=DEFAULT_PROFILE, help="a section of notebooks/profiles.yml (default: laptop)")
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    run.add_argument("--run-dir", type=Path, help="where tables, models and copies go (default: data/runs/PROFILE)")
    run.add_argument("--force", action="store_true", help="run steps that are up to date, too")
    run.set_defaults(call=command_run)
    shown = commands.add_parser("figures", help="keep a run's figures and tables, and write figures/README.md")
    shown.add_argument("--profile", default=DEFAULT_PROFILE, help="whose figures (default: laptop)")
    shown.add_argument("--run-dir", type=Path, help="where the run is (default: data/runs/PROFILE)")
    shown.set_defaults(call=command_figures)
    examine = commands.add_parser("doctor", help="say whether checkpoints can be merged, and how well")
    examine.add_argument("directories", nargs="+", type=Path, metavar="DIR", help="component checkpoint folders")
    examine.add_argument("--base", type=Path, help="the checkpoint they were all trained from: adds drift and cosines")
    examine.add_argument("--text", type=Path, help="a text file, one document per line: adds the loss barrier")
    examine.set_defaults(call=command_doctor)
    return top


def command_run(options: argparse.Namespace) -> None:
    """Run the chosen steps and print what was found."""
    pairs = [text.partition("=") for text in options.parameters]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise runner.RunError(f"-p {wrong[0]}: write -p name=value")
    overrides = {name: value for name, _, value in pairs}
    steps = runner.plan(options.steps, options.profile, overrides, options.run_dir)
    runner.run(steps, force=options.force, say=lambda line: print(line, flush=True))
    print(f"\n{runner.closing_table(steps)}\n\neverything is in {steps[0].run_dir}")


def command_doctor(options: argparse.Namespace) -> None:
    """Print one line per check; raises RunError when one fails."""
    from demix_nb import doctor  # imports torch, which the other commands do not need

    texts = options.text.read_text(encoding="utf-8").splitlines() if options.text else []
    failed = 0
    for finding in doctor.examine(options.directories, options.base, texts):
        print(f"{'ok  ' if finding.passed else 'FAIL'} {finding.check}: {finding.sentence}", flush=True)
        failed += not finding.passed
    if failed:
        raise runner.RunError("these checkpoints cannot be merged as they are")


def command_figures(options: argparse.Namespace) -> None:
    """Copy a run's figures and tables to where they are committed."""
    run_dir = options.run_dir or runner.ROOT / "data" / "runs" / options.profile
    shown = gallery.keep(options.profile, run_dir, runner.ROOT / "figures", runner.ROOT / "data" / "results")
    print(f"{len(shown)} figures in {runner.ROOT / 'figures' / 'README.md'}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 with one message for an error the user can mend."""
    options = parser().parse_args(arguments)
    try:
        options.call(options)
    except runner.RunError as error:
        print(f"demix-nb: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demix-nb: stopped; the same command goes on where this run ended", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
