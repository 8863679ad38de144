"""The command line, `demix-nb`: run the notebooks, open them, hand them out, examine checkpoints."""

import argparse
import os
import sys
from pathlib import Path

from demix_nb import gallery, runner

DEFAULT_PROFILE = "laptop"


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    top = argparse.ArgumentParser(prog="demix-nb", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run notebooks end to end")
    steps = f"of {', '.join(runner.STEPS)}; default: the profile's, else the numbered"
    run.add_argument("steps", nargs="*", metavar="STEP", help=steps)
    run.add_argument("--profile", default=DEFAULT_PROFILE, help="a section of notebooks/profiles.yml (default: laptop)")
    run.add_argument("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE", help="set a parameter")
    run.add_argument("--run-dir", type=Path, help="where tables, models and copies go (default: data/runs/PROFILE)")
    run.add_argument("--force", action="store_true", help="run steps that are up to date, too")
    run.set_defaults(call=command_run)
    shown = commands.add_parser("figures", help="keep a run's figures and tables, and write figures/README.md")
    shown.add_argument("--profile", default=DEFAULT_PROFILE, help="whose figures (default: laptop)")
    shown.add_argument("--run-dir", type=Path, help="where the run is (default: data/runs/PROFILE)")
    shown.set_defaults(call=command_figures)
    pages = commands.add_parser("report", help="write a finished run as HTML pages that open from disk")
    pages.add_argument("--profile", default=DEFAULT_PROFILE, help="whose run (default: laptop)")
    pages.add_argument("--run-dir", type=Path, help="where the run is (default: data/runs/PROFILE)")
    pages.set_defaults(call=command_report)
    lab = commands.add_parser("lab", help="open the notebooks in JupyterLab; further arguments go to it")
    lab.set_defaults(call=command_lab)
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


def command_report(options: argparse.Namespace) -> None:
    """Write the report of a run and print where it begins."""
    from demix_nb import report  # imports nbconvert, which the other commands do not need

    run_dir = options.run_dir or runner.ROOT / "data" / "runs" / options.profile
    first, *others = report.write(options.profile, run_dir.resolve())
    print(f"{len(others)} notebooks, {sum(path.stat().st_size for path in others) / 1e6:.1f} MB; open {first}")


def command_lab(options: argparse.Namespace) -> None:
    """Start JupyterLab on the notebooks, for this computer alone and with the Python that runs this command."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # or a kernel named python3 in the user's folder would win
    from jupyterlab.labapp import LabApp  # imports a web server, which the other commands do not need

    here = [f"--ServerApp.root_dir={runner.ROOT / 'notebooks'}", "--ServerApp.ip=127.0.0.1"]
    LabApp.launch_instance([*here, "--LabApp.default_url=/lab/tree/00_tour.ipynb", *options.more])


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status, 1 with one message for an error the user can mend."""
    top = parser()
    options, options.more = top.parse_known_args(arguments)
    if options.more and options.command != "lab":
        top.error(f"unrecognized arguments: {' '.join(options.more)}")
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
