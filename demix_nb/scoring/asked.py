"""How a task is asked for: by name, and with what is to differ from what its own file says.

Knows neither lm-eval nor torch, so that whoever only reads a study waits for neither.
"""

from dataclasses import dataclass

from demix_nb.options import check
from demix_nb.store import Refusal


@dataclass(frozen=True)
class Asked:
    """One entry of a study's tasks: a task, tag or group, or `heldout`, whose members all take what is said here.

    `family` goes before what a task's metadata says. `metrics`: by lm-eval's names, a row of the task table for each;
    none: the first that a task lists. `filter`: the name of one of a task's lm-eval filters; None: the first.
    `num_fewshot`: examples before a question; None: the task's own. `limit`: items; None: the suite's. `window`: tokens
    that a model sees at once; None: the suite's context. `target`: whether its rows steer. `higher_is_better`: the
    direction where a task does not say one.

    Raises Refusal for a number that cannot be what it is, naming the task.
    """

    name: str
    family: str | None = None
    metrics: tuple[str, ...] = ()
    filter: str | None = None
    num_fewshot: int | None = None
    limit: int | None = None
    window: int | None = None
    target: bool = True
    higher_is_better: bool | None = None

    def __post_init__(self) -> None:
        given = {"limit": self.limit, "window": self.window}
        try:
            check(**{name: value for name, value in given.items() if value is not None})
        except Refusal as refusal:
            raise Refusal(f"{self.name}: {refusal}") from refusal
        if self.num_fewshot is not None and self.num_fewshot < 0:
            raise Refusal(f"{self.name}: num_fewshot is {self.num_fewshot}; it must be 0 or more")
