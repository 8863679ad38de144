"""Studies of what somebody else made: checkpoints that were trained elsewhere, or scored mixtures in CSV files.

What a study of ours reads from its folder is given by hand: components by folder, or runs by files; no tables, no text
of candidates. Nothing is trained here, so there are no references; where neither task nor text is given, nothing is
measured.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from demix_nb.scored import Scored
from demix_nb.store import Refusal
from demix_nb.study import HeldOut, Models, Study

if TYPE_CHECKING:
    from demix_nb.merging import Bank
    from demix_nb.scoring import Suite


@dataclass(frozen=True)
class Brought(Study):
    """Components under `checkpoints`, one folder each; `base`: the checkpoint they were all trained from, if any.

    `text`: a file of held-out text, a document per line. `tasks`: lm-eval tasks, `include_path` a folder of task files,
    `limit` items per task, `window` tokens that a model sees at once. Raises Refusal for fewer than two components.
    """

    checkpoints: Path = Path()
    base: Path | None = None
    text: Path | None = None
    tasks_asked: tuple[str, ...] = ()
    include_path: Path | None = None
    limit: int = 64
    window: int = 256
    unsafe_code: bool = False

    @cached_property
    def setting(self) -> dict[str, Any]:
        """The general candidate is the first component, and recipes are not diluted, as far as anybody knows."""
        return {"general": self.candidates[0], "beta": 1.0, "base": self.base}

    @cached_property
    def folders(self) -> dict[str, Path]:
        """Component → folder: every checkpoint of the folder but the base, complete or not (opening tells)."""
        parts = ("config.json", "*.safetensors", "adapter_config.json")
        held = (path for part in parts for path in Path(self.checkpoints).glob(f"*/{part}"))
        found = {folder.name: folder for folder in sorted({path.parent for path in held})}
        named = {name: path for name, path in found.items() if not (self.base and path.samefile(self.base))}
        if len(named) < 2:
            raise Refusal(f"{self.checkpoints} holds {len(named)} component folders beside the base; give two or more")
        return named

    @cached_property
    def families(self) -> dict[str, str]:
        """Every candidate is a family of its own."""
        return {name: name for name in self.folders}

    @cached_property
    def components(self) -> Models:
        """The checkpoints as they were given."""
        return Models(self.folders, self.corners)

    @cached_property
    def bank(self) -> "Bank":
        """The components, and their base where there is one, opened once."""
        from demix_nb.merging import Bank

        return Bank.load(self.folders, base=self.base)

    @cached_property
    def texts(self) -> list[str]:
        """The held-out documents that were given."""
        return [line for line in Path(self.text).read_text("utf-8").splitlines() if line.strip()] if self.text else []

    @cached_property
    def heldout(self) -> HeldOut:
        """The text given, as one family."""
        return HeldOut({"text": "text"}, {"text": self.texts})

    @cached_property
    def suite(self) -> "Suite | None":
        """The tasks and the text that were given; None where neither was."""
        from transformers import AutoTokenizer

        from demix_nb.scoring import TASKS, Suite

        asked = [*self.tasks_asked, *(["heldout"] if self.texts else [])]
        if not asked:
            return None
        tokenizer = AutoTokenizer.from_pretrained(next(iter(self.folders.values())), trust_remote_code=False)
        how = {"limit": self.limit, "context": self.window, "include_path": self.include_path or TASKS}
        return Suite.build(asked, tokenizer, heldout=self.heldout, unsafe_code=self.unsafe_code, **how)


@dataclass(frozen=True)
class BroughtRuns(Study):
    """Scored mixtures alone: `runs` stand wherever a study of ours has scores in its tables; there are no models."""

    runs: Scored | None = None
    builtin = False

    @cached_property
    def families(self) -> dict[str, str]:
        """Every candidate is a family of its own."""
        return {name: name for name in self.runs.candidates}

    @property
    def ranked(self) -> pd.DataFrame:
        """Every task that came with a score."""
        return self.runs.tasks

    def scored(self, name: str = "", mixtures: str | None = None, tasks: pd.DataFrame | None = None) -> Scored:
        """Return the runs, under whatever name, on all tasks or on `tasks`."""
        return self.runs if tasks is None else self.runs.only(tasks.index)
