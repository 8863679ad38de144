"""The command line, `demix-nb`: run the notebooks, examine checkpoints."""

import argparse
import sys
from pathlib import Path

from demix_nb import runner

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
