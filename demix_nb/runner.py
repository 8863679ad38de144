"""Run the notebooks end to end: strict parameters, skip what is up to date, one line per notebook, lean copies.

papermill executes; we add what it lacks. A misspelt parameter is refused (papermill warns and runs with the default), a
wrong type is refused, a step whose notebook, package, parameters, inputs and upstream steps are unchanged is skipped,
and a failed cell ends with the cell, the error and the path of the executed copy. What a step needs runs before it,
unless you bring it along. Knows notebooks, not science.
"""

import ast
import difflib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import papermill
import psutil
import yaml

from demix_nb import STATIC, tables
from demix_nb.tables import atomic, content_hash, file_hash

ROOT = Path(__file__).resolve().parent.parent
STEPS: dict[str, tuple[str, ...]] = {  # notebook → the notebooks whose tables it reads
    "00_tour": (),
    "01_components": (),
    "02_merging": ("01_components",),
    "03_proxy_fidelity": ("01_components",),
    "04_regression": ("03_proxy_fidelity",),
    "05_search": ("03_proxy_fidelity",),
    "06_domain_interactions": ("05_search",),
    "07_mixture_quality": ("05_search",),
    "08_playground": ("02_merging", "05_search"),
    "study_proxies": ("03_proxy_fidelity",),
    "study_strategies": ("study_proxies",),
    "study_capabilities": ("03_proxy_fidelity",),
    "study_ablations": ("03_proxy_fidelity",),
    "paper_regmix": (),
    "paper_demix": (),
    "paper_mergemix": (),
}
STANDALONE = ("mixtures_csv", "components_dir", "run")  # given one of these, a step reads your files and stands alone
STORY = tuple(name for name in STEPS if name[0].isdigit())  # runs when neither the command nor the profile names a step
VERSIONED = ("torch", "transformers", "lm-eval", "lightgbm", "scikit-learn", "numpy", "pandas")


class RunError(RuntimeError):
    """A run that cannot start or did not finish; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One notebook with its resolved parameters, the folder it writes to and the steps whose tables it reads."""

    name: str
    parameters: Mapping[str, object]
    run_dir: Path
    needs: tuple["Step", ...] = field(default=(), repr=False)

    @property
    def notebook(self) -> Path:
        return _notebook(self.name)

    @property
    def executed(self) -> Path:
        return self.run_dir / "notebooks" / f"{self.name}.ipynb"

    @property
    def stamp(self) -> Path:
        return self.run_dir / "stamps" / f"{self.name}.json"

    def key(self) -> str:
        """Return a hash of everything the step's result depends on."""
        cells = [cell.source for cell in nbformat.read(self.notebook, as_version=4).cells]
        inputs = {name: _fingerprint(value) for name, value in self.parameters.items()}
        return content_hash(cells, inputs, package_hash(), versions(), [step.key() for step in self.needs])

    def up_to_date(self) -> bool:
        """Return whether the last good run had this key and everything it wrote is still there, unchanged."""
        if not self.stamp.is_file() or not self.executed.is_file():
            return False
        stamp = json.loads(self.stamp.read_text())
        files = {self.run_dir / name: digest for name, digest in stamp["files"].items()}
        unchanged = all(path.is_file() and file_hash(path) == digest for path, digest in files.items())
        return unchanged and stamp["key"] == self.key()


def _notebook(step: str) -> Path:
    return ROOT / "notebooks" / f"{step}.ipynb"


def _fingerprint(value: object) -> object:
    """A parameter's value; for one that names a file or folder, also the names, sizes and times of all in it."""
    if not isinstance(value, str) or not value:
        return value
    files = sorted(path for path in (Path(value), *Path(value).rglob("*")) if path.is_file())
    return [value, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]]


def package_hash() -> str:
    """Return a hash of the package's sources and task files: results depend on both."""
    files = sorted([*(ROOT / "demix_nb").glob("*.py"), *(ROOT / "data" / "tasks").glob("*")])
    return content_hash([(file.name, file_hash(file)) for file in files])


def versions() -> dict[str, str]:
    """Return the versions of the libraries results depend on."""
    return {name: importlib.metadata.version(name) for name in VERSIONED}


def circumstances() -> dict[str, object]:
    """Return what a reader of numbers wants to know about where they come from: machine, versions, git commit."""
    memory = psutil.virtual_memory().total / 2**30
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB"
    return {"machine": machine, "versions": {"python": platform.python_version()} | versions(), "commit": _commit()}


def _commit() -> str:
    if not shutil.which("git"):
        return "unknown (no git here)"
    asked = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return asked.stdout.strip() or "unknown (not a git clone)"


def declared(step: str) -> dict[str, object]:
    """Return the parameters a notebook declares in its `parameters` cell, with their defaults.

    Without `run_dir`, which is the runner's to set.
    """
    cells = nbformat.read(_notebook(step), as_version=4).cells
    sources = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(sources) != 1:
        raise RunError(f"{step}.ipynb has {len(sources)} cells tagged `parameters`; it needs exactly one")
    assignments = [node for node in ast.parse(sources[0]).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [(node.targets[0] if isinstance(node, ast.Assign) else node.target) for node in assignments]
    defaults = {target.id: ast.literal_eval(node.value) for target, node in zip(targets, assignments, strict=True)}
    return {name: value for name, value in defaults.items() if name != "run_dir"}


def profiles() -> dict[str, dict[str, object]]:
    """Return profile → parameter → value from notebooks/profiles.yml; `steps` is what it runs when no step is named."""
    return yaml.safe_load((ROOT / "notebooks" / "profiles.yml").read_text(encoding="utf-8"))


def profile_of(name: str) -> tuple[list[str], dict[str, object]]:
    """Return a profile's steps and parameters; raises RunError when it, or a parameter in it, is unknown."""
    known = profiles()
    if name not in known:
        raise RunError(f"no profile {name!r}; {closest(name, list(known))}")
    given = dict(known[name])
    steps = typed(given.pop("steps", list(STORY)), [], "steps")
    everywhere = {parameter for step in STEPS for parameter in declared(step)}
    if strangers := [parameter for parameter in given if parameter not in everywhere]:
        raise RunError(f"profiles.yml, {name}: no notebook has a parameter {strangers[0]!r}")
    return steps, given


def parse_value(text: str, default: object, name: str) -> object:
    """Turn `-p name=text` into the type of the notebook's default; raises RunError when it does not fit."""
    if isinstance(default, str):
        return text
    try:
        value = float(text) if isinstance(default, float) else yaml.safe_load(text)  # to YAML, 1e-3 is a string
    except (ValueError, yaml.YAMLError):
        value = text
    return typed(value, default, name)


def typed(value: object, default: object, name: str) -> object:
    """Return `value` if it has the type of `default` (an int may stand for a float)."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(default):
        raise RunError(
            f"parameter {name} wants {type(default).__name__}, e.g. {default!r}; got {value!r} ({type(value).__name__})"
        )
    return value


def closest(name: str, known: Sequence[str]) -> str:
    """Return the end of an error message that lists the known names, nearest first."""
    near = [f"did you mean {hit}? " for hit in difflib.get_close_matches(name, known, n=1)]
    return "".join(near) + f"known: {', '.join(sorted(known))}"


def step_of(name: str) -> str:
    """Return the one step that a name or a part of it stands for, as `05` and `search`; raises RunError otherwise."""
    hits = [step for step in STEPS if name == step] or [step for step in STEPS if name in step]
    if len(hits) != 1:
        raise RunError(f"step {name!r} is {'ambiguous' if hits else 'unknown'}; {closest(name, list(STEPS))}")
    return hits[0]


def needs(step: str, parameters: Mapping[str, object]) -> tuple[str, ...]:
    """Return the steps that must run before this one: none when a parameter of STANDALONE is given."""
    return () if any(parameters.get(name) for name in STANDALONE) else STEPS[step]


def plan(names: Sequence[str], profile: str, overrides: Mapping[str, str], run_dir: Path | None = None) -> list[Step]:
    """Return the steps to run, in order and with those they need, every parameter resolved.

    No names: the steps of the profile. Raises RunError for an unknown profile, step or parameter.
    """
    chosen, given = profile_of(profile)
    run_dir = Path(run_dir or ROOT / "data" / "runs" / profile).resolve()
    wanted = {step_of(name) for name in names or chosen}
    parameters: dict[str, dict[str, object]] = {}
    for step in reversed(STEPS):  # what a step needs stands before it
        if step in wanted:
            parameters[step] = _parameters(step, given, overrides)
            wanted.update(needs(step, parameters[step]))
    known = sorted({name for values in parameters.values() for name in values})
    if strangers := [name for name in overrides if name not in known]:
        raise RunError(f"no parameter {strangers[0]!r}; {closest(strangers[0], known)}")
    steps: dict[str, Step] = {}
    for step, values in reversed(parameters.items()):
        steps[step] = Step(step, values, run_dir, tuple(steps[need] for need in needs(step, values)))
    return list(steps.values())


def _parameters(step: str, given: Mapping[str, object], overrides: Mapping[str, str]) -> dict[str, object]:
    """A notebook's defaults, the profile's values over them, the command line's over both."""
    defaults = declared(step)
    values = {name: typed(given.get(name, default), default, name) for name, default in defaults.items()}
    return values | {name: parse_value(overrides[name], defaults[name], name) for name in defaults if name in overrides}


def run(steps: Sequence[Step], *, force: bool = False, say: Callable[[str], None] = print) -> dict[str, float | None]:
    """Run the steps in order; return seconds per step, None where it was up to date.

    Raises RunError at the first failed cell; the steps before it stay done.
    """
    seconds: dict[str, float | None] = {}
    for number, step in enumerate(steps, start=1):
        head = f"[{number}/{len(steps)}] {step.name:<24}"
        if not force and step.up_to_date():
            seconds[step.name] = None
            say(f"{head} up to date")
            continue
        seconds[step.name] = execute(step)
        say(f"{head} {seconds[step.name]:6.1f} s")
    return seconds


def execute(step: Step) -> float:
    """Execute one notebook into the run's folder and stamp it; returns seconds."""
    began, started, key = time.perf_counter(), time.time(), step.key()
    _make_room(step)
    _execute_cells(step)
    lean(step.executed)
    took = time.perf_counter() - began
    stamp = {"key": key, "seconds": round(took, 1), "parameters": dict(step.parameters)} | circumstances()
    stamp["files"] = {str(path.relative_to(step.run_dir)): file_hash(path) for path in _written(step, started)}
    with atomic(step.stamp) as temporary:
        temporary.write_text(json.dumps(stamp, indent=1))
    return took


def _make_room(step: Step) -> None:
    try:
        step.stamp.unlink(missing_ok=True)
        step.executed.parent.mkdir(parents=True, exist_ok=True)
        step.stamp.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write to {step.run_dir}: {error.strerror}; give another folder with --run-dir"
        ) from error


def _execute_cells(step: Step) -> None:
    os.environ.update(TQDM_DISABLE="1", PYDEVD_DISABLE_FILE_VALIDATION="1", TOKENIZERS_PARALLELISM="false")
    os.environ[STATIC] = "1"
    try:
        papermill.execute_notebook(
            step.notebook,
            step.executed,
            {**step.parameters, "run_dir": str(step.run_dir)},
            progress_bar=False,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))  # colours
        raise RunError(
            f"{step.name} failed in cell {error.cell_index} ({error.ename}): {message}\nexecuted copy: {step.executed}"
        ) from error
    finally:
        del os.environ[STATIC]


def _written(step: Step, since: float) -> list[Path]:
    """The tables and summaries in the run's folder that are no older than `since`, seconds of `time.time()`."""
    found = sorted(path for folder in ("tables", "summary") for path in (step.run_dir / folder).glob("*"))
    return [path for path in found if path.stat().st_mtime >= since]


def lean(executed: Path) -> None:
    """Drop widget state and views from an executed notebook: they are megabytes that no reader of the copy can use."""
    notebook = nbformat.read(executed, as_version=4)
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                o for o in cell.outputs if "application/vnd.jupyter.widget-view+json" not in o.get("data", {})
            ]
    with atomic(executed) as temporary:
        nbformat.write(notebook, temporary)


def closing_table(steps: Sequence[Step]) -> str:
    """Return what the run found, step by step, with seconds: each notebook's summary table, in order."""
    rows = []
    for step in steps:
        seconds = json.loads(step.stamp.read_text())["seconds"]
        rows.append((step.name, f"{seconds:.0f} s"))
        summary = step.run_dir / "summary" / f"{step.name}.csv"
        if summary.is_file():
            values = tables.read(summary, "summary")["value"]
            rows += [(f"  {name}", value) for name, value in values.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
