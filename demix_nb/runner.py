"""Run the notebooks end to end: strict parameters, skip what is up to date, one line per notebook, lean copies.

papermill executes; we add what it lacks. A misspelt parameter is refused (papermill warns and runs with the default), a
wrong type is refused, a step whose notebook, package, parameters, inputs and upstream steps are unchanged is skipped,
and a failed cell ends with the cell, the error and the path of the executed copy. Knows notebooks, not science.
"""

import ast
import difflib
import importlib.metadata
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import papermill
import yaml

from demix_nb import tables
from demix_nb.tables import atomic, content_hash, file_hash

ROOT = Path(__file__).resolve().parent.parent
STEPS: dict[str, tuple[str, ...]] = {  # notebook → the notebooks whose tables it reads
    "01_components": (),
    "02_merging": ("01_components",),
    "03_proxy_fidelity": ("01_components",),
    "04_regression": ("03_proxy_fidelity",),
    "05_search": ("03_proxy_fidelity",),
    "06_domain_interactions": ("05_search",),
    "07_mixture_quality": ("05_search",),
    "paper_regmix": (),
}
STORY = tuple(name for name in STEPS if name[0].isdigit())  # what `demix-nb run` runs when no step is named
VERSIONED = ("torch", "transformers", "lm-eval", "lightgbm", "scikit-learn", "numpy", "pandas")
GIVEN = ("run_dir",)  # parameters only the runner sets


class RunError(RuntimeError):
    """A run that cannot start or did not finish; the message says what to do."""


@dataclass(frozen=True)
class Step:
    """One notebook with its resolved parameters and the folder it writes to."""

    name: str
    parameters: Mapping[str, object]
    run_dir: Path
    needs: tuple["Step", ...] = field(default=(), repr=False)

    @property
    def notebook(self) -> Path:
        return ROOT / "notebooks" / f"{self.name}.ipynb"

    @property
    def executed(self) -> Path:
        return self.run_dir / "notebooks" / f"{self.name}.ipynb"

    @property
    def stamp(self) -> Path:
        return self.run_dir / "stamps" / f"{self.name}.json"

    def key(self) -> str:
        """Return a hash of everything the step's result depends on."""
        cells = [cell.source for cell in nbformat.read(self.notebook, as_version=4).cells]
        inputs = {name: _fingerprint(value) for name, value in self.parameters.items() if name not in GIVEN}
        return content_hash(cells, inputs, package_hash(), versions(), [step.key() for step in self.needs])

    def up_to_date(self) -> bool:
        """Return whether the last good run had this key and everything it wrote is still there, unchanged."""
        if not self.stamp.is_file() or not self.executed.is_file():
            return False
        stamp = json.loads(self.stamp.read_text())
        files = {name: self.run_dir / name for name in stamp["files"]}
        return stamp["key"] == self.key() and all(
            path.is_file() and file_hash(path) == stamp["files"][name] for name, path in files.items()
        )


def _fingerprint(value: object) -> object:
    """A parameter's value; for one that names files, also their names, sizes and times."""
    if not isinstance(value, str) or not value or not Path(value).exists():
        return value
    files = sorted(Path(value).rglob("*")) if Path(value).is_dir() else [Path(value)]
    return [value, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.is_file()]]


def package_hash() -> str:
    """Return a hash of the package's sources and task files: results depend on both."""
    files = sorted([*(ROOT / "demix_nb").glob("*.py"), *(ROOT / "data" / "tasks").glob("*")])
    return content_hash([(file.name, file_hash(file)) for file in files])


def versions() -> dict[str, str]:
    """Return the versions of the libraries results depend on."""
    return {name: importlib.metadata.version(name) for name in VERSIONED}


def declared(notebook: Path) -> dict[str, object]:
    """Return the parameters a notebook declares in its `parameters` cell, with their defaults."""
    cells = nbformat.read(notebook, as_version=4).cells
    sources = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(sources) != 1:
        raise RunError(f"{notebook.name} has {len(sources)} cells tagged `parameters`; it needs exactly one")
    assignments = [node for node in ast.parse(sources[0]).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    targets = [(node.targets[0] if isinstance(node, ast.Assign) else node.target) for node in assignments]
    return {target.id: ast.literal_eval(node.value) for target, node in zip(targets, assignments, strict=True)}


def profiles() -> dict[str, dict[str, object]]:
    """Return profile → parameter → value from notebooks/profiles.yml."""
    return yaml.safe_load((ROOT / "notebooks" / "profiles.yml").read_text(encoding="utf-8"))


def parse_value(text: str, default: object, name: str) -> object:
    """Turn `-p name=text` into the type of the notebook's default; raises RunError when it does not fit."""
    return typed(text if isinstance(default, str) else yaml.safe_load(text), default, name)


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


def resolve(names: Sequence[str]) -> list[str]:
    """Return full step names in running order, with the steps they need; `05` and `search` are enough to name one."""
    chosen: set[str] = set()
    for name in names or STORY:
        hits = [step for step in STEPS if name == step] or [step for step in STEPS if name in step]
        if len(hits) != 1:
            raise RunError(f"step {name!r} is {'ambiguous' if hits else 'unknown'}; {closest(name, list(STEPS))}")
        stack = hits
        while stack:
            chosen.add(step := stack.pop())
            stack += STEPS[step]
    return [step for step in STEPS if step in chosen]


def plan(names: Sequence[str], profile: str, overrides: Mapping[str, str], run_dir: Path | None = None) -> list[Step]:
    """Return the steps to run with every parameter resolved; raises RunError for an unknown profile or parameter."""
    known = profiles()
    if profile not in known:
        raise RunError(f"no profile {profile!r}; {closest(profile, list(known))}")
    run_dir = Path(run_dir or ROOT / "data" / "runs" / profile).resolve()
    defaults = {name: declared(ROOT / "notebooks" / f"{name}.ipynb") for name in resolve(names)}
    everywhere = {name for step in STEPS for name in declared(ROOT / "notebooks" / f"{step}.ipynb")} - {*GIVEN}
    if strangers := [name for name in known[profile] if name not in everywhere]:
        raise RunError(f"profiles.yml, {profile}: no notebook has a parameter {strangers[0]!r}")
    here = {name for declared_here in defaults.values() for name in declared_here} - {*GIVEN}
    if strangers := [name for name in overrides if name not in here]:
        raise RunError(f"no parameter {strangers[0]!r}; {closest(strangers[0], sorted(here))}")
    steps: dict[str, Step] = {}
    for name, default in defaults.items():
        values = {key: typed(known[profile].get(key, value), value, key) for key, value in default.items()}
        values |= {key: parse_value(overrides[key], default[key], key) for key in default if key in overrides}
        values["run_dir"] = str(run_dir)
        steps[name] = Step(name, values, run_dir, tuple(steps[need] for need in STEPS[name]))
    return list(steps.values())


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
    try:
        step.stamp.unlink(missing_ok=True)
        step.executed.parent.mkdir(parents=True, exist_ok=True)
        step.stamp.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"cannot write to {step.run_dir}: {error.strerror}; give another folder with --run-dir"
        ) from error
    os.environ.update(TQDM_DISABLE="1", PYDEVD_DISABLE_FILE_VALIDATION="1", TOKENIZERS_PARALLELISM="false")
    try:
        papermill.execute_notebook(
            step.notebook,
            step.executed,
            dict(step.parameters),
            progress_bar=False,
            kernel_name="python3",
            extra_arguments=["--IPKernelApp.log_level=40"],
            log_output=False,
        )
    except papermill.PapermillExecutionError as error:
        message = re.sub(r"\x1b\[[0-9;]*m", "", str(error.evalue))
        raise RunError(
            f"{step.name} failed in cell {error.cell_index} ({error.ename}): {message}\nexecuted copy: {step.executed}"
        ) from error
    lean(step.executed)
    written = sorted(path for folder in ("tables", "summary") for path in (step.run_dir / folder).glob("*"))
    files = {str(p.relative_to(step.run_dir)): file_hash(p) for p in written if p.stat().st_mtime >= started}
    took = time.perf_counter() - began
    with atomic(step.stamp) as temporary:
        stamp = {"key": key, "seconds": round(took, 1), "parameters": dict(step.parameters), "files": files}
        temporary.write_text(json.dumps(stamp, indent=1))
    return took


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
