"""Run the notebooks end to end: strict parameters, skip what is up to date, one line per notebook.

A notebook says in its metadata what it needs and trains, and in its first code cell what can be changed, so adding one
is adding a file. What a step needs runs before it, unless you bring it along; a step whose notebook, package,
parameters, inputs and upstream steps are unchanged is skipped. `execution` runs one notebook. Knows notebooks, not
science.
"""

import ast
import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from demix_nb import NOTEBOOKS, RUNS, store
from demix_nb.cluster import Cluster, shared
from demix_nb.door import to_train
from demix_nb.options import agree, given, named, typed
from demix_nb.ranges import closest
from demix_nb.running import lock
from demix_nb.running.given import Given
from demix_nb.running.origin import versions
from demix_nb.running.terminal import Running, Screen
from demix_nb.store import Refusal, content_hash, file_hash, package_hash

NEUTRAL = ("workers",)  # parameters on which no result depends, bit for bit
FOLDERS = ("", "studies", "papers")  # of notebooks, in the order in which they run; "" is the course


@dataclass(frozen=True)
class Notebook:
    """A notebook of the repository, with what its metadata say under `demix_nb`.

    `needs`: the notebooks whose tables it reads; `unless`: parameters that bring your own files in their place;
    `trains`: a Python list of budgets, in full budgets of a component, one for every model that it trains; `makes`:
    "study" of the one that writes the study file which the others read.
    """

    path: Path
    cells: tuple[tuple[str, bool], ...] = field(repr=False)  # source, and whether it is tagged `parameters`
    needs: tuple[str, ...] = ()
    unless: tuple[str, ...] = ()
    trains: str = "[]"
    makes: str = ""

    @classmethod
    def read(cls, path: Path) -> "Notebook":
        """Read one file; raises Refusal naming one that is no notebook."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            cells = [(cell["source"], cell["metadata"].get("tags", [])) for cell in content["cells"]]
            facts = content["metadata"].get("demix_nb", {})
        except (ValueError, KeyError) as error:
            raise Refusal(f"{path} is no notebook ({error}); mend it or move it away") from error
        told = {name: tuple(facts.get(name, [])) for name in ("needs", "unless")}
        marked = tuple(("".join(source), "parameters" in tags) for source, tags in cells)
        return cls(path, marked, **told, trains=facts.get("trains", "[]"), makes=facts.get("makes", ""))

    @cached_property
    def declared(self) -> dict[str, object]:
        """The parameters that its `parameters` cell declares, with their defaults, without the runner's `run_dir`."""
        sources = [source for source, tagged in self.cells if tagged]
        if len(sources) != 1:
            raise Refusal(f"{self.path.name} has {len(sources)} cells tagged `parameters`; it needs exactly one")
        assignments = [node for node in ast.parse(sources[0]).body if isinstance(node, ast.Assign | ast.AnnAssign)]
        targets = [node.targets[0] if isinstance(node, ast.Assign) else node.target for node in assignments]
        defaults = {target.id: ast.literal_eval(node.value) for target, node in zip(targets, assignments, strict=True)}
        return {name: value for name, value in defaults.items() if name != "run_dir"}

    @property
    def title(self) -> str:
        """The heading it opens with."""
        return self.cells[0][0].partition("\n")[0].lstrip("# ")


def notebooks(folder: Path) -> dict[str, Notebook]:
    """Return step → notebook of all in `folder`: the course, the studies, the papers, each by name.

    A step is named as its file is. Raises Refusal for one that needs what does not stand before it.
    """
    found: dict[str, Notebook] = {}
    for path in (path for kind in FOLDERS for path in sorted((folder / kind).glob("*.ipynb"))):
        notebook = Notebook.read(path)
        if missing := [name for name in notebook.needs if name not in found]:
            raise Refusal(f"{path.name} needs {missing[0]!r}, which is no notebook before it")
        found[path.stem] = notebook
    return found


STEPS = notebooks(NOTEBOOKS)
STORY = tuple(name for name, notebook in STEPS.items() if notebook.path.parent == NOTEBOOKS)  # runs when none is named


@dataclass(frozen=True)
class Step:
    """One notebook with its resolved parameters, the folder it writes to and the steps whose tables it reads."""

    name: str
    parameters: Mapping[str, object]
    run_dir: Path
    needs: tuple["Step", ...] = field(default=(), repr=False)
    study: str = ""  # of a study file that was given, what it says and names

    @property
    def notebook(self) -> Path:
        return STEPS[self.name].path

    @property
    def executed(self) -> Path:
        return self.run_dir / "notebooks" / f"{self.name}.ipynb"

    @property
    def stamp(self) -> Path:
        return self.run_dir / "stamps" / f"{self.name}.json"

    def key(self) -> str:
        """Return a hash of everything the step's result depends on."""
        cells = [source for source, _ in STEPS[self.name].cells]
        inputs = {name: _fingerprint(value) for name, value in self.parameters.items() if name not in NEUTRAL}
        given = [self.study] if self.study else []
        return content_hash(cells, inputs, package_hash(), versions(), [step.key() for step in self.needs], *given)

    def up_to_date(self) -> bool:
        """Return whether the last good run had this key and everything it wrote is still there, unchanged."""
        if not self.stamp.is_file() or not self.executed.is_file():
            return False
        stamp = json.loads(self.stamp.read_text())
        files = {self.run_dir / name: digest for name, digest in stamp["files"].items()}
        unchanged = all(path.is_file() and file_hash(path) == digest for path, digest in files.items())
        return unchanged and stamp["key"] == self.key()


def _fingerprint(value: object) -> object:
    """A parameter's value; for one that names a file or folder, also the names, sizes and times of all in it."""
    if not isinstance(value, str) or not value:
        return value
    files = sorted(path for path in (Path(value), *Path(value).rglob("*")) if path.is_file())
    return [value, [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]]


def profiles() -> dict[str, dict[str, object]]:
    """Return profile → parameter → value from notebooks/profiles.yml; `steps` is what it runs when no step is named."""
    return yaml.safe_load((NOTEBOOKS / "profiles.yml").read_text(encoding="utf-8"))


def profile_of(name: str) -> tuple[list[str], dict[str, object]]:
    """Return a profile's steps and parameters; raises Refusal when it, or a parameter in it, is unknown."""
    known = profiles()
    if name not in known:
        raise Refusal(f"no profile {name!r}; {closest(name, list(known))}")
    chosen = dict(known[name])
    steps = typed(chosen.pop("steps", list(STORY)), [], "steps")
    everywhere = {parameter for notebook in STEPS.values() for parameter in notebook.declared}
    if strangers := [parameter for parameter in chosen if parameter not in everywhere]:
        raise Refusal(f"profiles.yml, {name}: no notebook has a parameter {strangers[0]!r}")
    return steps, chosen


def step_of(name: str) -> str:
    """Return the one step that a name or a part of it stands for, as `05` and `search`; raises Refusal otherwise."""
    hits = [step for step in STEPS if name == step] or [step for step in STEPS if name in step]
    if len(hits) != 1:
        raise Refusal(f"step {name!r} is {'ambiguous' if hits else 'unknown'}; {closest(name, list(STEPS))}")
    return hits[0]


def needs(step: str, parameters: Mapping[str, object], given: Given | None = None) -> tuple[str, ...]:
    """Return the steps that must run before this one: none where it is given files of your own to read instead.

    A study file that is `given` stands for the notebook that would write one, unless that has to train its models.
    """
    if any(parameters.get(name) for name in STEPS[step].unless):
        return ()
    there = given is not None and not given.file.to_train
    return tuple(name for name in STEPS[step].needs if not (there and STEPS[name].makes == "study"))


def plan(
    names: Sequence[str],
    profile: str,
    overrides: Mapping[str, object],
    run_dir: Path | None = None,
    given: Given | None = None,
) -> list[Step]:
    """Return the steps to run, in order and with those they need, every parameter resolved and checked.

    No names: the steps of the profile, of which those are left out that a study file which is `given` does not need.
    `overrides` are values, or texts of them as after -p. Raises Refusal for an unknown profile, step or parameter, and
    for a value that it cannot have.
    """
    chosen, own = profile_of(profile)
    run_dir = Path(run_dir or (given.folder if given else RUNS / profile)).resolve()
    wanted = {step_of(name) for name in names or (_of_study(chosen, given) if given else chosen)}
    if given:
        given.check_place(run_dir)
        own |= given.parameters
    parameters: dict[str, dict[str, object]] = {}
    for step in reversed(STEPS):  # what a step needs stands before it
        if step in wanted:
            parameters[step] = _resolved(step, own | dict(overrides))
            wanted.update(needs(step, parameters[step], given))
    together = {name: value for values in parameters.values() for name, value in values.items()}
    if strangers := [name for name in overrides if name not in together]:
        raise Refusal(f"no parameter {strangers[0]!r}; {closest(strangers[0], sorted(together))}")
    agree(together)
    _check_given(given, parameters, together, "workers" in overrides)
    steps: dict[str, Step] = {}
    for step, values in reversed(parameters.items()):
        before = tuple(steps[need] for need in needs(step, values, given))
        steps[step] = Step(step, values, run_dir, before, given.fingerprint if given else "")
    return list(steps.values())


def _of_study(chosen: Sequence[str], given: Given) -> list[str]:
    """The steps that read a study file, and the one that writes it where its models are to be trained."""
    reads = {name for name, notebook in STEPS.items() if notebook.makes == "study"}
    for name, notebook in STEPS.items():
        reads |= {name} if reads & {*notebook.needs} else set()
    return [name for name in chosen if name in reads and (given.file.to_train or STEPS[name].makes != "study")]


def _check_given(
    given: Given | None, parameters: dict[str, dict[str, object]], together: Mapping[str, object], asked: bool
) -> None:
    """Check the names of candidates, and what a given study file excludes or decides."""
    if given is None:
        if "corpora" in together:
            named(together, to_train(together["corpora"]))
        return
    if odd := [step for step in parameters if STEPS[step].makes == "study" and not given.file.to_train]:
        raise Refusal(f"{given.path.name} has models or runs already, so {odd[0]} has nothing to make; leave it out")
    if strangers := [name for name in given.parameters if name not in together]:
        told = f"{given.path.name}: training has {strangers[0]!r}, which no step takes"
        raise Refusal(f"{told}; {closest(strangers[0], sorted(together))}")
    named(together, given.candidates)
    if changed := given.check(together, asked=asked) if "workers" in together else {}:
        for values in parameters.values():
            values |= {name: value for name, value in changed.items() if name in values}


def _resolved(step: str, chosen: Mapping[str, object]) -> dict[str, object]:
    """A notebook's defaults with what was chosen over them."""
    defaults = STEPS[step].declared
    return {name: given(name, chosen.get(name, default), default) for name, default in defaults.items()}


def run(
    steps: Sequence[Step],
    *,
    force: bool = False,
    screen: Screen,
    expected: Mapping[str, float] | None = None,
    given: Given | None = None,
) -> dict[str, float | None]:
    """Run the steps in order; return seconds per step, None where it was up to date.

    `expected` says how many seconds a step may take; a study file that is `given` is put into the folder first. Raises
    Refusal while another run is in the folder, and at the first failed cell; the steps before it stay done.
    """
    seconds: dict[str, float | None] = {}
    with lock.held(steps[0].run_dir), tempfile.TemporaryDirectory() as folder, ExitStack() as started:
        if given:
            given.install(steps[0].run_dir)
        engine = given.engine if given else None
        for number, step in enumerate(steps, start=1):
            head = f"[{number}/{len(steps)}] {step.name:<24}"
            if not force and step.up_to_date():
                seconds[step.name] = None
                screen.say(f"{head} up to date")
                continue
            from demix_nb.running.execution import execute  # imports papermill, which takes a second

            if engine:
                cluster = Cluster(engine, step.run_dir, int(step.parameters.get("workers", 1)), screen.say)
                started.enter_context(shared(cluster))
                engine = None
            running = Running(head.strip(), Path(folder) / "progress.json", (expected or {}).get(step.name))
            with screen.watching(running):
                seconds[step.name] = execute(step, running.at, running.inner)
            screen.say(f"{head} {seconds[step.name]:6.1f} s")
    return seconds


def closing_table(steps: Sequence[Step]) -> str:
    """Return what the run found, step by step, with seconds: each notebook's summary table, in order."""
    rows = []
    for step in steps:
        seconds = json.loads(step.stamp.read_text())["seconds"]
        rows.append((step.name, f"{seconds:.0f} s"))
        summary = step.run_dir / "summary" / f"{step.name}.csv"
        if summary.is_file():
            values = store.read(summary, "summary")["value"]
            rows += [(f"  {name}", value) for name, value in values.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
