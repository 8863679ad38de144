"""From names to lm-eval tasks: those of one's own folder, those that ship with us, those of lm-eval, side by side.

A name means the first of these that has it. lm-eval passes over what it cannot read, and takes the first of two tasks
of one name; here a folder of one's own is read strictly, so that no task goes missing and none stands for another.

Source: Gao et al., lm-evaluation-harness 0.4.13.
"""

import difflib
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

from lm_eval.api.task import Task
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind
from lm_eval.tasks._yaml_loader import load_yaml

from demix_nb import DATA, sheets
from demix_nb.scoring import beside
from demix_nb.store import Refusal

TASKS = DATA / "tasks"
CODE = "runs code that the model wrote; allow it by unsafe_code=True and HF_ALLOW_CODE_EVAL=1"
WHENCE = {"custom_dataset", "dataset_path", "dataset_name", "dataset_kwargs", "metadata", "tag", "task_alias"}
UNREAD = {"__pycache__", ".ipynb_checkpoints"}  # folders that lm-eval passes over

BySuite = dict[str, dict[str, Task]]  # name asked for → name of a task → task


def load_tasks(names: Sequence[str], include_path: str | Path = TASKS) -> BySuite:
    """Return the lm-eval tasks, by name, that each of `names` stands for: a task, a tag such as `nine`, or a group.

    A name is looked for in `include_path`, then among our tasks, then among lm-eval's 14,000, which are read (seconds)
    only for a name, or for a member of a group, that is in neither; so a task of one's own goes before another of its
    name, but not inside somebody else's tag or group. Code beside the tasks (`!function utils.f`) runs in any process.

    Raises Refusal naming an unknown task and the nearest names, a file of `include_path` that cannot be read, a name
    that stands twice in it, two tasks of one name that are asked for, or a task that cannot be loaded, and why.
    """
    if not names:
        return {}
    found = {name: _load(manager, name) for name, manager in _managers(names, include_path).items()}
    _check_alike([pair for tasks in found.values() for pair in tasks.items()])
    return found


def check_names(names: Sequence[str], include_path: str | Path = TASKS) -> dict[str, list[str] | None]:
    """Return name → the tasks it stands for, None of a group; no task's data is loaded.

    Raises Refusal for a name that stands for no task, with the nearest that do.
    """
    entries = {name: manager.task_index[name] for name, manager in _managers(names, include_path).items()}
    kinds = {Kind.TAG: lambda entry: sorted(entry.tags), Kind.GROUP: lambda _: None}
    return {name: kinds.get(entry.kind, lambda entry: [entry.name])(entry) for name, entry in entries.items()}


def rules(task: Task) -> dict[str, object]:
    """Return what decides a score beside documents and requests: a task's settings, functions by name and content."""
    settings = {name: value for name, value in vars(task.config).items() if name not in WHENCE}
    return {"class": beside.said(type(task)), **{name: _told(value) for name, value in settings.items()}}


def source(task: Task) -> str | None:
    """Return the file that describes a task."""
    return (task.config.metadata or {}).get("config_source")


def why(error: Exception) -> str:
    """Return in one line what went wrong in code or settings that are not ours."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _told(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _told(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_told(each) for each in value]
    if callable(value):
        return beside.said(value)
    return _told(vars(value)) if hasattr(value, "__dict__") else value


def _check_alike(pairs: Sequence[tuple[str, Task]]) -> None:
    seen: dict[str, Task] = {}
    for name, task in pairs:
        other = seen.setdefault(name, task)
        if (source(other), rules(other)) != (source(task), rules(task)):
            raise Refusal(f"two different tasks are called {name!r}, of {source(other)} and {source(task)}; rename one")


# --- one's own folder -----------------------------------------------------------------------------------------------


def _survey(folder: Path) -> dict[str, Path]:
    """Return the name of every task, group and tag of a folder → a file that has it. Raises Refusal as `load_tasks`."""
    found: dict[str, Path] = {}
    tags: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*.yaml") if not UNREAD & set(path.parts)):
        settings = _settings(path)
        name = settings.get("group" if "group" in settings and "class" not in settings else "task")
        if name is None:
            continue  # what other files include
        called = _several(settings.get("tag"))
        if odd := [each for each in (name, *called) if not isinstance(each, str)]:
            raise Refusal(f"{path} names a task or tag {odd[0]!r}, which is no text; write it in quotes")
        if name == "heldout":
            raise Refusal(f"{path} has a task 'heldout', the name of held-out text; rename it")
        if name in found:
            raise Refusal(f"{name!r} stands twice, in {found[name]} and in {path}; rename one")
        found[name] = path
        tags |= dict.fromkeys(called, path)
    if both := sorted(tags.keys() & found.keys()):
        raise Refusal(f"{both[0]!r} is a tag in {tags[both[0]]} and a task in {found[both[0]]}; rename one")
    return found | tags


def _settings(path: Path) -> Mapping:
    try:
        content, twice = sheets.spelt(path.read_text("utf-8"))
        settings = load_yaml(path, resolve_func=False) if isinstance(content, Mapping) else {}
    except Exception as error:  # of the parser, of what a file includes, of settings of another type
        raise Refusal(f"cannot read the task file {path} ({why(error)}); mend it or take it away") from error
    if settings and twice:
        raise Refusal(f"{twice[0]!r} stands twice in {path}, and YAML takes the last; write it once")
    return settings


def _several(value: object) -> list:
    return value if isinstance(value, list) else [value] if value is not None else []


# --- lm-eval's managers ---------------------------------------------------------------------------------------------


@functools.cache
def _ours() -> TaskManager:
    return TaskManager(include_path=str(TASKS), include_defaults=False)


@functools.cache
def _lm_eval() -> TaskManager:
    return TaskManager()


def _managers(names: Sequence[str], include_path: str | Path) -> dict[str, TaskManager]:
    """Name → the manager that it is loaded by; raises Refusal where there is no such folder."""
    folder = Path(include_path).resolve()
    if not folder.is_dir():
        raise Refusal(f"no folder of tasks at {include_path}; give include_path=, a folder of lm-eval task files")
    own = _survey(folder) if folder != TASKS.resolve() else {}
    return {name: _manager(name, own, str(folder)) for name in names}


def _manager(name: str, own: Mapping[str, Path], folder: str) -> TaskManager:
    """Return the manager that a name is loaded by: it knows the name and all that it stands for."""
    if name in own:
        both = [str(TASKS), folder]  # of two tasks of one name, that of the later
        near = TaskManager(include_path=both, include_defaults=False)
        return near if near.task_index.keys() >= _members(near, name) else TaskManager(include_path=both)
    for manager in (_ours, _lm_eval):
        if name in manager().task_index:
            return manager()
    near = difflib.get_close_matches(name, ["heldout", *{*own, *_ours().all_tasks, *_lm_eval().all_tasks}], n=3)
    raise Refusal(f"no task {name!r}; near names: {', '.join(near) or 'none'}")


def _members(manager: TaskManager, name: str) -> set[str]:
    """Return a name and, for a group, whatever it names, groups in groups included."""
    known: set[str] = set()
    new = [name]
    while new:
        if (one := new.pop()) not in known:
            known.add(one)
            entry = manager.task_index.get(one)
            listed = _several(entry.cfg.get("task")) if entry and entry.kind == Kind.GROUP else []
            new += [each.get("group", each.get("task")) if isinstance(each, dict) else each for each in listed]
    return known


def _load(manager: TaskManager, name: str) -> dict[str, Task]:
    where = manager.task_index[name].yaml_path or "its tag"
    try:
        with beside.importable():
            tasks = manager.load([name])["tasks"]
    except Refusal:
        raise
    except OSError as error:
        raise Refusal(f"cannot get the data of task {name!r} ({error}); it needs access to its source") from error
    except Exception as error:  # whatever a task's own code and settings bring
        if "HF_ALLOW_CODE_EVAL" in str(error):  # humaneval's tries it when it is imported
            raise Refusal(f"{name} {CODE}") from error
        raise Refusal(f"cannot load task {name!r} of {where} ({why(error)}); mend it") from error
    if not tasks:
        raise Refusal(f"{name!r} of {where} stands for no task; give it tasks, or leave it out")
    return tasks
