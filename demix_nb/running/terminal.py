"""What a person sees while notebooks run: one line that moves, or a plain line now and then where nobody watches.

    [3/9] 03_proxy_fidelity  cell 5 of 21  references 12/40  62 s, about 180 s left

The cell comes from the engine, the inner count from the file that the notebook's own loops write to, the time that is
left from how long the step takes (`estimate`) and from how far the loop is: the longer of the two.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.text import Text

EVERY = 30.0  # seconds between two lines where the output is no terminal


@dataclass
class Running:
    """What is known of a step while it runs: `expected` seconds of the whole, and the file its loops write to."""

    head: str
    inner: Path
    expected: float | None = None
    clock: Callable[[], float] = time.time
    cell: int = 0
    cells: int = 0

    def __post_init__(self) -> None:
        self.began = self.clock()

    def at(self, cell: int, cells: int) -> None:
        """Note that a cell starts, counted from 1."""
        self.cell, self.cells = cell, cells

    def line(self) -> str:
        """Return the line that says where the step is."""
        loop, passed = self._loop(), self.clock() - self.began
        left = [self.expected - passed] if self.expected else []
        parts = [self.head, f"cell {self.cell} of {self.cells}" if self.cells else "starting"]
        if loop:
            parts.append(f"{loop['what']} {loop['done']}" + (f"/{loop['total']}" if loop["total"] else ""))
            if loop["total"] and loop["done"]:
                left.append((self.clock() - loop["began"]) * (loop["total"] / loop["done"] - 1))
        remaining = f", about {max(left):.0f} s left" if left and max(left) > 0 else ""
        return "  ".join([*parts, f"{passed:.0f} s{remaining}"])

    def _loop(self) -> dict | None:
        try:
            return json.loads(self.inner.read_text(encoding="utf-8"))
        except FileNotFoundError:  # no loop runs
            return None


class Screen:
    """Where lines go: on a terminal the last one moves while a step runs, elsewhere there is a new one now and then."""

    def __init__(self, console: Console | None = None, every: float = EVERY) -> None:
        self.console, self.every = console or Console(soft_wrap=True, highlight=False), every

    def say(self, line: str) -> None:
        """Print a line, as it is."""
        self.console.print(Text(line), soft_wrap=True)
        self.console.file.flush()

    @contextmanager
    def watching(self, running: Running) -> Iterator[None]:
        """Show where a step is until the block ends."""
        if self.console.is_terminal:
            look = lambda: Text(running.line(), no_wrap=True, overflow="ellipsis")  # noqa: E731
            with Live(console=self.console, get_renderable=look, refresh_per_second=4, transient=True):
                yield
            return
        over = threading.Event()
        thread = threading.Thread(target=self._tell, args=(running, over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _tell(self, running: Running, over: threading.Event) -> None:
        while not over.wait(self.every):
            self.say(running.line())
