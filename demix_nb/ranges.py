"""What every option may be: one table, name → type, of notebooks' parameters and of functions' arguments alike.

A type is pydantic's, and its description says what the value must be: it is the remedy in the refusal and the column
in `demix-nb params`. Choices are read from the tables whose rows they name, and only when another value than the
notebook's own is given, so that nothing heavy is imported for a default.
"""

import difflib
import functools
import importlib.util
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, Field

from demix_nb import DATA
from demix_nb.store import Refusal


def closest(name: str, known: Sequence[str]) -> str:
    """Return the end of an error message that lists the known names, nearest first."""
    return near(name, known, "did you mean {}? ") + f"known: {', '.join(sorted(known))}"


def near(name: str, known: Iterable[str], told: str) -> str:
    """Return `told` with the known name that is nearest; nothing where none is near."""
    return "".join(map(told.format, difflib.get_close_matches(name, known, n=1)))


def choice(known: Callable[[], Collection[str]], what: str, *, empty: bool = False) -> Any:
    """Return the type of a name that is one of `known()`, which is asked only when there is a name to check.

    `empty`: "" passes too.
    """

    def check(name: str) -> str:
        if not name and empty:
            return name
        if name not in (names := list(known())):
            raise Refusal(closest(name, names))
        return name

    return Annotated[str, AfterValidator(check), Field(description=what)]


def place(there: Callable[[Path], bool], what: str, *words: str) -> Any:
    """Return the type of a path where something lies, "" or one of the `words` that stand for something else."""

    def check(path: str) -> str:
        if path in ("", *words) or there(Path(path)):
            return path
        raise Refusal(f"it must be {what}, and there is none")

    return Annotated[str, AfterValidator(check), Field(description=", or ".join([what, *map(repr, words)]))]


def several(item: Any, what: str, least: int = 1) -> Any:
    """Return the type of a list of at least `least` items."""
    enough = {0: "", 1: ", not empty"}.get(least, f", at least {least} of them")
    return Annotated[list[item], Field(min_length=least, description=f"a list of {what}{enough}")]


def number(what: str, **bounds: float) -> Any:
    """Return the type of a finite number within bounds, named as pydantic does: gt, ge, lt, le."""
    return Annotated[float, Field(description=what, allow_inf_nan=False, **bounds)]


def at_least(least: int) -> Any:
    """Return the type of a whole number with a lower bound."""
    return Annotated[int, Field(description=f"a whole number, at least {least}", ge=least)]


def _predictors() -> Collection[str]:
    from demix_nb.predictors import PREDICTORS  # imports scipy, too long to wait for where no step is run

    return PREDICTORS


def _designs() -> Collection[str]:
    from demix_nb.region import DESIGNS  # as above: it brings pandas

    return DESIGNS


def _rules() -> Collection[str]:
    from demix_nb.decide import RULES  # as above

    return RULES


def _methods() -> Collection[str]:
    from demix_nb.merging import METHODS  # imports torch

    return ["all", *METHODS]


@functools.cache
def _suites() -> Collection[str]:
    files = [yaml.load(path.read_text("utf-8"), yaml.BaseLoader) for path in (DATA / "tasks").glob("*yaml")]
    return {
        "heldout",
        *(file["task"] for file in files if "task" in file),
        *(tag for file in files for tag in _tags(file)),
    }


def _tags(file: Mapping[str, object]) -> list[str]:
    tags = file.get("tag", [])
    return [tags] if isinstance(tags, str) else tags


def _suite(name: str) -> str:
    if name not in _suites():
        from lm_eval.tasks import TaskManager  # imports torch and reads 14,000 files: only for a task that is not ours

        if name not in TaskManager().all_tasks:
            raise Refusal(closest(name, sorted(_suites())))
    return name


TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")  # that `accelerate` logs with, and we name runs in


def _tracker(name: str) -> str:
    if name and name not in TRACKERS:
        raise Refusal(closest(name, TRACKERS))
    if name and importlib.util.find_spec(name) is None:
        raise Refusal(f"{name} is not installed here; `pip install {name}`, or leave it out")
    return name


SCHEDULES = ("cosine", "constant", "averaged")  # how the laptop's models are trained (`lab.schedules`)
PRETRAINED = ("smollm2",)  # words for models that others trained, which the laptop's world can have

Share = number("a share, between 0 and 1", ge=0, le=1)
Part = number("a share, above 0 and at most 1", gt=0, le=1)
Positive = number("a number above 0", gt=0)
NotNegative = number("a number, at least 0", ge=0)
Count, Size, Pair = at_least(0), at_least(1), at_least(2)
References = at_least(4)  # fewer order nothing: fidelity.MIN_REFERENCES
Flag = Annotated[bool, Field(description="true or false")]
Name = Annotated[str, Field(description="a name, or empty")]
Names = several(str, "names", least=0)
Sizes = several(Size, "whole numbers above 0")
Shares = several(Share, "shares, between 0 and 1", 0)
Parts = several(Part, "shares, above 0 and at most 1", 0)
File = place(Path.is_file, "a file")
Folder = place(Path.is_dir, "a folder")
Predictor = choice(_predictors, "the name of a predictor")
Predictors = several(Predictor, "names of predictors")

TYPES: dict[str, Any] = {
    # candidates and models
    "corpora": place(Path.is_dir, "a folder with one file or folder per candidate", "builtin", "seven"),
    "families": File,
    "tokenizer": place(lambda path: (path / "tokenizer.json").is_file(), "a folder with a tokenizer.json", *PRETRAINED),
    "start": place(lambda path: (path / "config.json").is_file(), "a folder with a model", *PRETRAINED),
    "warm": Count,
    "bfloat16": Flag,
    "general": Annotated[str, Field(min_length=1, description="the name of a candidate")],
    "megabytes": Positive,
    "heldout_kb": Positive,
    "vocab_size": at_least(257),  # every single byte is a token
    "hidden": Size,
    "layers": Size,
    "head_dim": Annotated[int, Field(ge=2, multiple_of=2, description="an even whole number, at least 2")],
    "context": Pair,
    "batch": Size,
    "base_tokens": Size,
    "everything": Share,
    "base_learning_rate": Positive,
    "component_tokens": Size,
    "learning_rate": Positive,
    "schedule": choice(lambda: SCHEDULES, "cosine, constant or averaged"),
    "beta": Part,
    "repetition": choice(lambda: ("matched",), "matched or empty", empty=True),
    "log_with": Annotated[str, AfterValidator(_tracker), Field(description=", ".join([*TRACKERS, "or empty"]))],
    "suites": several(Annotated[str, AfterValidator(_suite)], "names of suites or lm-eval tasks"),
    "steer": Annotated[str, Field(min_length=1, description="one of the suites")],
    "sections": Annotated[dict[str, Any], Field(description="a mapping of sections of a study file")],
    "limit": Size,
    # mixtures of one's own
    "mixtures_file": File,
    "save_as": Name,
    "path_from": Name,
    "path_to": Name,
    "path_points": Pair,
    "reference_points": Shares,
    "methods": several(choice(_methods, "the name of a merge method, or all"), "names of merge methods, or all"),
    # references and proxies
    "n_references": References,
    "n_replicates": Pair,
    "drawn": choice(_designs, "the name of a design"),
    "trained_budgets": several(Part, "shares, above 0 and at most 1", 2),
    "searched": Size,
    "min_signal_to_noise": NotNegative,
    "max_luck": Part,
    "n_mending": References,
    "component_budgets": Parts,
    "method_references": References,
    "betas": Parts,
    "rates": several(Positive, "numbers above 0", 0),
    "changed_references": References,
    # predictors, search, interactions
    "targets": several(str, "names of tasks or families, or all"),
    "learners": Predictors,
    "regressors": Predictors,
    "predictor": Predictor,
    "rounds": Sizes,
    "curve_sizes": Sizes,
    "fitted_runs": Sizes,
    "subsets": Size,
    "repeats": Size,
    "pool": Size,
    "top_k": Size,
    "rule": choice(_rules, "a rule for the answer"),
    "tied_rule": choice(lambda: ("best", "nearest", "robust"), "best, nearest, robust or empty", empty=True),
    "top": Size,
    "simulated": Size,
    "caps": Annotated[
        dict[str, Share], Field(description="a mapping of candidates to their largest shares, between 0 and 1")
    ],
    "max_epochs": NotNegative,
    "target_tokens": Count,
    "recommend": choice(lambda: ("merged", "mixed", "table"), "merged, mixed, table or empty", empty=True),
    "n_telling": Size,
    "pair_task": Name,
    "permutations": Size,
    "curved_permutations": Size,
    "pair_permutations": Size,
    "curved_runs": References,
    "curved_deals": Size,
    "false_share": number("a share, above 0 and below 1", gt=0, lt=1),
    # the studies
    "regime": Annotated[str, Field(min_length=1, description="a name")],
    "n_seeds": Size,
    "trained_rounds": Sizes,
    "trained_budget": Part,
    "temperature": Positive,
    "larger_hidden": Count,
    "larger_layers": Size,
    "larger_references": References,
    "transferred": several(str, "names of strategies"),
    "counts": several(at_least(7), "whole numbers, 7 or more"),  # split into rounds of 4 : 2 : 1
    "merged_seeds": Count,
    "noise_seeds": Size,
    "parts": Annotated[
        dict[str, Size], Field(min_length=1, description="a mapping of candidates to numbers of parts, at least 1")
    ],
    "fine_references": References,
    "n_parts": at_least(4),
    "part_budget": Part,
    "short_runs": Sizes,
    "part_learners": Predictors,
    "part_references": References,
    "dual_points": several(Share, "shares, between 0 and 1"),
    "grid": Size,
    "corruption": Parts,
    "copied": Parts,
    "spoilt": Annotated[str, Field(min_length=1, description="the name of a candidate")],
    "sample_tokens": Pair,
    "n_good": Size,
    "spoilt_shares": several(Part, "shares, above 0 and at most 1"),
    "n_bases": Size,
    "scarce": Annotated[str, Field(min_length=1, description="the name of a candidate")],
    "epochs": several(number("a number, at least 1", ge=1), "numbers, at least 1"),
    "budgets": several(Part, "shares, above 0 and at most 1", 2),
    "scarce_shares": several(Share, "shares, between 0 and 1, from 0 to 1", 3),
    "ended": number("a number, at least 1", ge=1),
    "dynamic_seeds": Count,
    "making_bases": Size,
    "making_share": Part,
    "making_references": References,
    "times_wider": Pair,
    # arguments of functions that no notebook has
    "sizes": Sizes,
    "n": Size,
    "tokens": Size,
    "window": Pair,
    "budget": Positive,
    # everywhere
    "regmix_dir": Folder,
    "results": place(Path.is_dir, "a folder of tables", "run"),
    "run": Folder,
    "strict": Flag,
    "seed": Count,
    "workers": Size,
}
