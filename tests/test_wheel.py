"""A wheel is enough: installed outside the repository it holds whatever `demix-nb run` reads, and runs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile

import pytest
from commands import REPOSITORY

from demix_nb import __version__
from demix_nb.running import runner


def committed(folder, pattern):
    return {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / folder).rglob(pattern) if path.is_file()}


def test_every_package_is_listed():
    listed = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(REPOSITORY) for path in (REPOSITORY / "demix_nb").rglob("__init__.py")}
    assert sorted(listed) == sorted(
        [*(".".join(folder.parts) for folder in folders), "demix_nb.data", "demix_nb.notebooks"]
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel built from a copy of what is committed for it, so that nothing is left in the repository."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".ipynb_checkpoints")
    for folder in ("demix_nb", "notebooks", "data"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copyfile(REPOSITORY / file, source / file)
    build = ["wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(target)]
    subprocess.run([sys.executable, "-m", "pip", *build, str(source)], check=True)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return a call of `demix-nb` in a fresh environment that holds the wheel and sees our libraries."""
    home = tmp_path_factory.mktemp("elsewhere")
    venv.create(home / "venv", symlinks=True)
    python, libraries = home / "venv" / "bin" / "python", sysconfig.get_path("purelib")
    (site,) = (home / "venv" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"{libraries}\n")  # a path alone: what it installs for editing stays out
    install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    clean |= {"JUPYTER_PATH": os.path.join(sys.prefix, "share", "jupyter")}  # nbconvert's templates

    def call(*arguments):
        asked = [str(home / "venv" / "bin" / "demix-nb"), *arguments]
        done = subprocess.run(asked, cwd=home, env=clean, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return home, call


@pytest.mark.slow
def test_a_wheel_carries_notebooks_tasks_and_committed_results(wheel):
    names = {name.removeprefix("demix_nb/") for name in zipfile.ZipFile(wheel).namelist()}
    wanted = committed("notebooks", "*.ipynb") | {"notebooks/profiles.yml"} | committed("data/tasks", "*")
    wanted |= committed("data/published", "*.csv") | committed("data/results", "*.csv")
    wanted |= {name.removeprefix("demix_nb/") for name in committed("demix_nb/running/web", "*")}
    assert len(wanted) > 100 and wanted <= names
    assert not [name for name in names if "data/runs" in name]


@pytest.mark.slow
def test_the_installed_command_runs_the_notebooks_it_brought(installed):
    home, call = installed
    assert call("--version") == f"demix-nb {__version__}\n"
    told = call("run", "--dry-run", "--profile", "smoke")
    assert all(step in told for step in runner.STORY) and str(home / "data" / "runs" / "smoke") in told
    assert "[1/1] 00_tour" in call("run", "00", "--profile", "smoke")
    run_dir = home / "data" / "runs" / "smoke"
    stamp = json.loads((run_dir / "stamps" / "00_tour.json").read_text())
    assert stamp["commit"] == f"release {__version__}"
    assert "2 pages" in call("report", "--profile", "smoke") and (run_dir / "report" / "00_tour.html").is_file()
    assert {path.name for path in home.iterdir()} == {"venv", "data"}, "and nothing else is written"


@pytest.mark.slow
def test_the_lab_of_an_installed_package_opens_copies(installed):
    home, _ = installed
    code = "from demix_nb.running import listing; print(listing.at_hand())"
    python = home / "venv" / "bin" / "python"
    for kept in ("", "mine"):
        done = subprocess.run([python, "-c", code], cwd=home, env={}, capture_output=True, text=True, check=True)
        assert done.stdout == f"{home / 'notebooks'}\n"
        tour = home / "notebooks" / "00_tour.ipynb"
        assert tour.read_text() == (kept or runner.STEPS["00_tour"].path.read_text()), "a reader's copy stays"
        tour.write_text("mine")
    assert (home / "notebooks" / "papers" / "paper_demix.ipynb").is_file()
