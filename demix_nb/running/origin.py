"""Where numbers come from: the code, libraries and machine that a result depends on or that its reader asks for."""

import importlib.metadata
import os
import platform
import shutil
import subprocess

import psutil

from demix_nb import INSTALLED, ROOT, __version__

VERSIONED = ("torch", "transformers", "lm-eval", "lightgbm", "scikit-learn", "numpy", "pandas")


def versions() -> dict[str, str]:
    """Return the versions of the libraries results depend on."""
    return {name: importlib.metadata.version(name) for name in VERSIONED}


def circumstances() -> dict[str, object]:
    """Return what a reader of numbers wants to know about where they come from: machine, versions, git commit."""
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB"
    return {"machine": machine, "versions": {"python": platform.python_version()} | versions(), "commit": commit()}


def commit() -> str:
    """Return the commit of this checkout, or the version of an installed package."""
    if INSTALLED:
        return f"release {__version__}"
    if not shutil.which("git"):
        return "unknown (no git here)"
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown (not a git clone)"
