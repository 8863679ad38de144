"""A study file that a run is given: what it makes of a plan, and how it comes into the run's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from demix_nb import door, given
from demix_nb.engines import Engine
from demix_nb.scored import Scored
from demix_nb.store import Refusal, content_hash
from demix_nb.studyfile import StudyFile, dumped

APART = (
    "candidates",
    "components",
    "training",
    "general",
    "beta",
    "window",
)  # parameters of notebook 01, or its result


@dataclass(frozen=True)
class Given:
    """A study file at `path`, checked."""

    path: Path
    file: StudyFile

    @classmethod
    def open(cls, path: Path) -> "Given":
        """Open and check a study file; raises Refusal as `door.open_study`."""
        return cls(path, door.open_study(path))

    @property
    def folder(self) -> Path:
        """Where its results go if nobody says where."""
        return door.run_folder(self.path, self.file)

    @property
    def candidates(self) -> list[str]:
        """The candidates' names."""
        return list(self.file.candidates) or door.to_train(self.file.training["corpora"])

    @property
    def engine(self) -> Engine | None:
        """What does the work, if not processes on this machine."""
        return Engine.of(self.file.engine)

    @cached_property
    def runs(self) -> Scored | None:
        """The runs of a study of tables."""
        return given.runs(self.file, self.candidates) if self.file.proxies else None

    @property
    def parameters(self) -> dict[str, object]:
        """What it says to notebook 01, where that is to train its models."""
        if not self.file.to_train:
            return {}
        told: dict[str, object] = {**self.file.training}
        more = {"general": self.file.general, "beta": self.file.beta, "context": self.file.window}
        if twice := [name for name in (*more, "sections") if name in told]:
            raise Refusal(f"{self.path.name}: training has {twice[0]!r}, which stands beside it; move it there")
        said = {name: value for name, value in more.items() if value is not None}
        sections = {name: value for name, value in dumped(self.file).items() if name not in APART}
        return told | said | {"sections": sections}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of what it says and of the names, sizes and times of all that it names."""
        found = [path for place in door.named_files(self.file) for path in (place, *sorted(place.rglob("*")))]
        found += sorted((self.folder / "tables").glob("told_*.csv"))  # by `demix-nb tell`
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in found if path.is_file()]
        return content_hash(dumped(self.file), files)

    def check_place(self, folder: Path) -> None:
        """Refuse a run's folder inside the folder of text, where all would be taken for text."""
        if self.file.to_train and folder.is_relative_to(Path(self.file.training["corpora"]).resolve()):
            told = f"results would go to {folder}, among the text of training.corpora"
            raise Refusal(f"{told}; put the text in a folder of its own, or give another by --run-dir")

    def install(self, folder: Path) -> None:
        """Write the file into the run's folder, unless notebook 01 writes it, or wrote it there."""
        if not (self.file.to_train or self.file.trained_here):
            door.install(self.file, folder)

    def check(self, values: Mapping[str, Any], *, asked: bool) -> dict[str, Any]:
        """Return the parameters that it changes: as many workers as there are GPUs, if nobody `asked` for a number."""
        if not self.file.folders or self.engine:
            return {}
        from demix_nb.devices import workers

        _, device = given.precision(self.file)
        return {} if device == "cpu" else {"workers": workers(values["workers"] if asked else 0, device)}
