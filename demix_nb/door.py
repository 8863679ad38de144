"""The door of a study: whatever its file names is there and fits together, asked before anything is loaded.

`open_study` is what a run begins with: read the file, fill in what follows from it, refuse what cannot be used, in one
sentence. Checkpoints are opened as far as their headers and configurations, tables are read whole. `install` puts the
file, and the table of its candidates, into the run's folder, where notebooks find them; a file that notebook 01 wrote
lies there already.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from demix_nb import DATA, allowed, given, goals, reading, store, studyfile, textfiles
from demix_nb.engines import Engine
from demix_nb.ranges import near
from demix_nb.store import Refusal
from demix_nb.studyfile import HELDOUT, StudyFile

LIMITS = ("lower", "upper", "fixed")
ALONE = "but there are no components to compare them with; give their scores"
BROUGHT = ("candidates", "components", "base", "tokenizer", "proxies", "references")  # what notebook 01 would make


def open_study(path: str | Path) -> StudyFile:
    """Read a study file and refuse what is wrong with it or with what it names; nothing is loaded, nothing written."""
    path = Path(path)
    file = studyfile.read(path)
    try:
        for check in CHECKS[:FIRST]:
            if problem := next(check(file), None):
                raise Refusal(problem)
        file = _filled(file)
        for check in CHECKS[FIRST:]:
            if problem := next(check(file), None):
                raise Refusal(problem)
    except Refusal as refusal:
        raise Refusal(f"{path.name}: {refusal}") from refusal
    return file


def run_folder(path: Path, file: StudyFile) -> Path:
    """Return where a study's results go: `run` beside a study.yaml, a folder of the file's own name else.

    A file that notebook 01 wrote lies in its run's folder.
    """
    path = path.resolve()
    if file.trained_here:
        return path.parent
    return path.parent / ("run" if path.name == studyfile.NAME else path.name.partition(".")[0])


def install(file: StudyFile, folder: Path) -> None:
    """Write the study file and the table of its candidates into a run's folder."""
    studyfile.write(file, folder / studyfile.NAME)
    store.write(candidates(file), folder / "tables" / "corpora.csv", "corpora")


def candidates(file: StudyFile) -> pd.DataFrame:
    """Return the table of candidates: family, and tokens there are (NaN where nobody said)."""
    tokens = [one.tokens or np.nan for one in file.candidates.values()]
    return pd.DataFrame(
        {"family": file.families, "tokens": dict(zip(file.candidates, tokens, strict=True))}
    ).rename_axis("candidate")


def to_train(corpora: str | Path) -> list[str]:
    """Return the candidates that notebook 01 trains components of: the built-in ones, or those of a folder of text.

    Raises Refusal as `textfiles.texts`.
    """
    if profile := studyfile.BUILTIN.get(str(corpora)):
        return list(store.read(DATA / "results" / profile / "corpora.csv", "corpora").index)
    return list(textfiles.texts(corpora))


def named_files(file: StudyFile) -> list[Path]:
    """Return every path that a study names, on which its results depend."""
    found: list[Path] = []
    pending: list[object] = [file.model_dump()]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one
        elif isinstance(one, Path):
            found.append(one)
    return sorted(set(found))


def _filled(file: StudyFile) -> StudyFile:
    """The file with the candidates of its tables, where it names none."""
    if file.candidates or file.proxies is None:
        return file
    names, _ = reading.mixtures(file.proxies.mixtures)
    return file.model_copy(update={"candidates": {name: studyfile.Candidate() for name in names}})


# --- what cannot stand together


def _parts(file: StudyFile) -> Iterator[str]:
    if not file.candidates and not file.to_train and file.proxies is None:
        yield "it names no candidate; write `candidates:` with a line for each"
    if file.to_train and "corpora" not in file.training:
        yield "training has no `corpora`; name the folder with a file or folder of text per candidate"
    given_too = [name for name in BROUGHT if getattr(file, name)] if file.to_train else []
    if given_too:
        yield f"notebook 01 is to train its models, so `{given_too[0]}` is not given; drop it, or `training`"
    if not file.to_train and not file.folders and file.proxies is None:
        yield "it has neither components nor proxies; name a component per candidate, or tables of runs"
    if file.folders and (missing := [name for name in file.candidates if name not in file.folders]):
        yield f"candidate {missing[0]!r} has no component; name its checkpoint folder"
    if len(file.folders) == 1:
        yield f"{next(iter(file.folders))!r} is the only candidate; give two or more"
    if file.folders and file.proxies is not None:
        yield "it has components and proxies; give one of them: a study is of models, or of tables"
    if file.folders and not file.tasks:
        yield "it names no task; write under `tasks:` what models are to be measured on"
    if file.general and file.beta is None:
        yield f"recipes are diluted with {file.general!r}, but how much is not said; write `beta`, 1 for not at all"
    if file.beta is not None and file.general is None and not file.to_train:
        yield f"beta is {file.beta:g} without `general`; name the candidate that recipes are diluted with"
    if file.beta == 0:
        yield "beta is 0, so every recipe is general alone; give the share of the candidates, above 0"
    if file.region.max_epochs and not file.run.target_tokens:
        yield "region.max_epochs needs run.target_tokens; give both or neither"
    if file.references and file.references.checkpoints is None and file.references.scores is None:
        yield "references have neither checkpoints nor scores; give one of them"
    if file.references and file.references.checkpoints and file.references.scores:
        yield "references have checkpoints and scores; give one of them"
    if file.references and file.references.checkpoints and not file.folders:
        yield f"references are checkpoints, {ALONE}"
    if file.proxies and file.proxies.scores is None:
        yield "proxies have no scores; name their table"
    if file.proxies and file.proxies.tasks and file.proxies.higher_is_better is not None:
        yield "proxies.higher_is_better stands beside proxies.tasks, which tells each task's; leave one out"
    names = [name for name, _ in file.asked]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"tasks names {twice[0]!r} twice; write it once, several metrics in its list"


def _names(file: StudyFile) -> Iterator[str]:
    """Names that are no candidate's, and those that cannot be a family's."""
    baseline = file.run.baseline if isinstance(file.run.baseline, dict) else {}
    used = {"general": [file.general] if file.general else [], "run.baseline": baseline}
    used |= {f"region.{kind}": getattr(file.region, kind) for kind in LIMITS}
    used |= {f"region.groups.{name}": group.members for name, group in file.region.groups.items()}
    used |= {"region.max_epochs": file.region.max_epochs if isinstance(file.region.max_epochs, dict) else []}
    known = list(file.candidates)
    for where, names in used.items():
        for name in names if known else []:
            if name not in known:
                hint = near(name, known, "did you mean {!r}? ")
                yield f"{where} names {name!r}, which is no candidate; {hint}candidates: {', '.join(known)}"
    stated = [task.family for _, task in file.asked] + list(file.families.values())
    store.check_families(filter(None, stated))


# --- what is named and must be there


def _paths(file: StudyFile) -> Iterator[str]:
    if file.to_train:
        to_train(file.training["corpora"])
        return
    for path in named_files(file):
        if not path.exists():
            yield f"there is nothing at {path}; mend the path"


def _engine(file: StudyFile) -> Iterator[str]:
    """An engine that is not installed, or whose words its queue does not know."""
    if engine := Engine.of(file.engine):
        engine.check()
    yield from ()


def _models(file: StudyFile) -> Iterator[str]:
    """Checkpoints that are none, that do not belong together, or that cannot be opened as they are to be."""
    if not file.folders:
        return
    from demix_nb.merging.alike import open_alike
    from demix_nb.merging.folders import by_name
    from demix_nb.merging.tokens import difference

    folders = by_name(file.folders) | ({"(base)": file.base} if file.base else {})
    open_alike(folders)
    first = next(iter(file.folders))
    for role, models in given.references(file, list(file.candidates), None).items():
        open_alike({first: file.folders[first]} | {f"{role} {name}": path for name, path in models.folders.items()})
    if file.tokenizer and (differs := difference(next(iter(file.folders.values())), file.tokenizer)):
        yield f"the tokenizer is not that of the components: {differs}; name theirs, or none"
    given.precision(file)
    longest = given.longest(next(iter(file.folders.values())))
    windows = {"window": file.window} | {f"tasks.{name}.window": task.window for name, task in file.asked}
    for where, window in windows.items():
        if window and longest and window > longest:
            yield f"{where} is {window} tokens, the models see {longest} at once; lower it"


def _tasks(file: StudyFile) -> Iterator[str]:
    """Tasks that there are not, and families that nothing measures."""
    if not file.folders:
        return
    from demix_nb.scoring.library import TASKS, check_names

    names = [name for name, _ in file.asked if name != HELDOUT]
    check_names(names, file.include_path or TASKS)
    given.heldout(file, list(file.candidates))
    stated = {one.family for one in file.candidates.values() if one.family}
    steering = _steering(file)
    if stated and steering is not None and (lost := sorted(stated - steering)):
        yield f"family {lost[0]!r} has no task that steers; give a task `family: {lost[0]}`, or its candidates another"


def _steering(file: StudyFile) -> set[str] | None:
    """The families of the tasks that steer; None where only the tasks themselves can tell."""
    found: set[str] = set()
    for name, task in file.asked:
        if not task.target:
            continue
        told = [task.family] if task.family else _families_of(name, file)
        if told is None:
            return None
        found |= set(told)
    return found


def _families_of(name: str, file: StudyFile) -> list[str] | None:
    if name == HELDOUT:
        return [file.families[one] for one in given.texts(file, list(file.candidates))]
    if file.include_path:  # a task of one's own may be called as one of ours is
        return None
    told = [yaml.load(path.read_text("utf-8"), yaml.BaseLoader) for path in (DATA / "tasks").glob("*.yaml")]
    ours = [one["metadata"]["family"] for one in told if name in (one["task"], one.get("tag"))]
    return ours or None


def _tables(file: StudyFile) -> Iterator[str]:
    """Tables of mixtures and scores that cannot be read, or that are of other candidates and tasks."""
    names = list(file.candidates)
    runs = given.runs(file, names) if file.proxies else None
    brought = given.references(file, names, _rows(file) if runs is None else runs.tasks)
    if runs is not None and (lone := [role for role, models in brought.items() if models.folders]):
        yield f"{lone[0]}s are checkpoints, {ALONE}"


def _rows(file: StudyFile) -> pd.DataFrame | None:
    """The rows of the task table that models will have, and whether they steer; None where only loading could tell."""
    from demix_nb.scoring.library import TASKS, check_names

    told = check_names([name for name, _ in file.asked if name != HELDOUT], file.include_path or TASKS)
    steers: dict[str, bool] = {}
    for name, task in file.asked:
        if name == HELDOUT:
            steers |= {f"{HELDOUT}_{one}": task.target for one in given.texts(file, list(file.candidates))}
        elif (tasks := told[name]) is None:
            return None
        elif len(task.metric) > 1:
            steers |= {f"{one}/{metric}": task.target for one in tasks for metric in task.metric}
        else:
            steers |= dict.fromkeys(tasks, task.target)
    return pd.DataFrame({"target": steers})


def _allowed(file: StudyFile) -> Iterator[str]:
    """A region that is empty or cannot be counted, and a baseline that cannot be known."""
    if file.to_train:
        return
    table = candidates(file)
    allowed.region(file, table["tokens"])
    if file.run.baseline == "natural" and (unknown := table["tokens"].isna()).any():
        yield f"the baseline is natural, but {unknown.idxmax()!r} has no `tokens`; write how many there are"
    if file.guardrails and file.run.baseline is None:
        yield "guardrails are held against a baseline; name one (run.baseline)"
    goals.goal(file.objective)
    allowed.baseline(file)


Check = Callable[[StudyFile], Iterator[str]]
CHECKS: tuple[Check, ...] = (_parts, _names, _paths, _names, _engine, _models, _tasks, _tables, _allowed)
FIRST = 3  # before the candidates of tables are filled in
