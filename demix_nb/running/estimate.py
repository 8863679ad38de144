"""What a plan will cost, said before it begins: models to train, training tokens, disk, minutes.

Models are counted by the notebooks themselves: the metadata's `trains` is a Python list with one budget, in full
budgets of a component, per model, over the parameters. Seconds are those of a committed run (`run.csv`), brought to
this plan's training tokens and model size where a step trains, and to this machine by a probe: numpy does what a small
model's layer does, for a second, and the laptop's committed run, of the same machine as all others, says how fast that
model was trained.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table
from threadpoolctl import threadpool_limits

from demix_nb import DATA, store
from demix_nb.door import to_train
from demix_nb.running import runner
from demix_nb.running.runner import STEPS, Step
from demix_nb.store import Refusal

TURN_TOKENS = 40  # training tokens of the default model in the time of one turn of the probe, two processes at once
PROBED = 1.0  # seconds
TOKENIZER_BYTES = 80  # per token, beside a model's weights
DEFAULT = 164e3  # weights of that model
PER_TOKEN = 670e3  # weights that cost what a token costs beside them: from that model and one of 135M, two cores


@dataclass(frozen=True)
class Cost:
    """What one step costs: `budgets` in training tokens, one per model; seconds, None where no committed run has it."""

    step: Step
    done: bool
    budgets: tuple[float, ...]
    seconds: float | None

    @property
    def disk(self) -> float:
        """Bytes of its models, four a weight."""
        if not self.budgets:
            return 0.0
        return len(self.budgets) * (4 * weights(self.step) + TOKENIZER_BYTES * known(self.step)["vocab_size"])


def known(step: Step) -> dict[str, object]:
    """Return the parameters of a step and of those it needs, and the number of candidates where text is chosen."""
    values = {name: value for need in step.needs for name, value in known(need).items()} | dict(step.parameters)
    return values | ({"candidates": len(to_train(values["corpora"]))} if "corpora" in values else {})


def weights(step: Step) -> float:
    """Return how many weights a model of a step has: 12 hidden² in a layer (Kaplan et al. 2020, section 2.1)."""
    values = known(step)
    return values["vocab_size"] * values["hidden"] + 12 * values["layers"] * values["hidden"] ** 2


def budgets(step: Step) -> tuple[float, ...]:
    """Return the training tokens of every model that a step trains; none where a study file says what there is."""
    notebook, values = STEPS[step.name], known(step)
    if "component_tokens" not in values:
        return ()
    try:
        shares = eval(notebook.trains, {"__builtins__": {"len": len, "sum": sum}}, values)
    except (NameError, TypeError) as error:
        raise Refusal(f"{step.name}: what it trains, {notebook.trains!r}, cannot be counted: {error}") from error
    return tuple(share * values["component_tokens"] for share in shares)


def costs(steps: Sequence[Step], profile: str, *, force: bool = False) -> list[Cost]:
    """Return what each step costs on this machine; nothing for one that is up to date."""
    speed, found = probe(), []
    for step in steps:
        if not force and step.up_to_date():
            found.append(Cost(step, True, (), 0.0))
        else:
            found.append(Cost(step, False, budgets(step), seconds(step, profile, speed)))
    return found


def probe(lasting: float = PROBED) -> float:
    """Return how many tokens a second one process of two would train the default model on, told by numpy."""
    rng = np.random.default_rng(0)
    states, weights = rng.random((2048, 64), dtype=np.float32), rng.random((64, 256), dtype=np.float32)
    turns, began = 0, time.perf_counter()
    with threadpool_limits(limits=1):
        while time.perf_counter() - began < lasting:
            raised = np.exp(-(states @ weights))
            raised /= raised.sum(axis=1, keepdims=True)
            turns += 1
    return TURN_TOKENS * turns / (time.perf_counter() - began)


def committed(step: str, profile: str) -> tuple[str, float] | None:
    """Return a profile whose committed run has this step, this one or the laptop's first, and the step's seconds."""
    for name in dict.fromkeys([profile, "laptop", *runner.profiles()]):
        path = DATA / "results" / name / "run.csv"
        if path.is_file() and step in (took := store.read(path, "run")["seconds"]):
            return name, float(took[step])
    return None


def seconds(step: Step, profile: str, speed: float) -> float | None:
    """Return how long a step takes at `speed`, tokens a second; None where no committed run has it.

    What a step takes beside its training, a kernel's start and figures, is put at what the tour takes. A committed run
    that was broken off and went on says too little of its last piece: no step takes less than two processes train.
    """
    if (found := committed(step.name, profile)) is None:
        return None
    origin, took = found
    if before := work(runner.plan([step.name], origin, {})[-1]):
        _, beside = committed("00_tour", "laptop")
        took = beside + (took - beside) * work(step) / before
    return max(took * pace(), work(step) / 2) / speed


def work(step: Step) -> float:
    """Return what a step trains, in training tokens of the default model that would take as long."""
    tokens = sum(budgets(step))
    return tokens * (weights(step) + PER_TOKEN) / (DEFAULT + PER_TOKEN) if tokens else 0.0


def pace() -> float:
    """Return at how many tokens a second the committed run trained the default model, in one process of two."""
    models = store.read(DATA / "results" / "laptop" / "component_models.csv", "models").query("kind == 'component'")
    return float((models["tokens"] / models["seconds"]).median())


def expected(steps: Sequence[Step], profile: str) -> dict[str, float]:
    """Return how many seconds each step should take on this machine, for those that a committed run has."""
    speed = probe()
    found = {step.name: seconds(step, profile, speed) for step in steps}
    return {name: took for name, took in found.items() if took is not None}


def table(found: Sequence[Cost]) -> Table:
    """Return the costs of a plan as a table to print: a row per step and their sum."""
    shown = Table(box=None, pad_edge=False, show_footer=True)
    models = [budget for cost in found for budget in cost.budgets]
    disk, took = sum(cost.disk for cost in found), [cost.seconds for cost in found]
    unknown = took.count(None)
    total = f"{sum(one for one in took if one is not None) / 60:.1f}" + (f" and {unknown} unknown" if unknown else "")
    shown.add_column("step", "all")
    for name, end in (("models", len(models)), ("training tokens", f"{sum(models):,.0f}"), ("MB", f"{disk / 1e6:.1f}"),
                      ("minutes", total)):  # fmt: skip
        shown.add_column(name, str(end), justify="right")
    for cost in found:
        if cost.done:
            shown.add_row(cost.step.name, "up to date")
        else:
            minutes = "unknown" if cost.seconds is None else f"{cost.seconds / 60:.1f}"
            tokens = f"{sum(cost.budgets):,.0f}"
            shown.add_row(cost.step.name, str(len(cost.budgets)), tokens, f"{cost.disk / 1e6:.1f}", minutes)
    return shown
