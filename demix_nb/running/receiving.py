"""`demix-nb read`: what rivals wrote becomes a study of tables.

The study's folder gets mixtures, scores and what these mean as tables of ours, and a study file that names them.
"""

from pathlib import Path
from typing import Any

from demix_nb import rivals, store, studyfile
from demix_nb.running.drafting import FAMILY, REFERENCES, RUN, TOKENS, Draft
from demix_nb.store import Refusal

SCORES = "proxies: {mixtures: mixtures.csv, scores: FILE}, or components; without them there is nothing to learn from"


def receive(paths: list[Path], output: Path, choice: rivals.Choice) -> list[str]:
    """Read files into a new study's folder; return what was read and what is left to fill in.

    Raises Refusal where the folder holds something, and as `rivals.read`.
    """
    if output.exists() and (output.is_file() or any(output.iterdir())):
        raise Refusal(f"{output} holds something; give another folder by -o")
    brought = rivals.read(paths, choice)
    with store.atomic_folder(output) as folder:
        store.write(brought.mixtures, folder / "mixtures.csv", "mixtures")
        if brought.scores is not None:
            store.write(brought.scores, folder / "scores.csv", "scores")
            brought.tasks[["family", "unit", "higher_is_better"]].rename_axis("task").to_csv(folder / "tasks.csv")
        draft = Draft(folder / studyfile.NAME, _sections(brought))
        draft.write()
    questions = [f"  {one}" for one in draft.open]
    return [*brought.told, f"wrote {output / studyfile.NAME}: {brought.summary}", "to fill in:", *questions]


def _sections(brought: rivals.Brought) -> tuple[tuple[tuple[str, ...], dict[str, Any]], ...]:
    """The study file's sections, each with the questions before it."""
    candidates = {"candidates": {name: {} for name in brought.mixtures}}
    runs = {"proxies": {"mixtures": "mixtures.csv", "scores": "scores.csv", "tasks": "tasks.csv"}}
    known = ((), runs) if brought.scores is not None else ((SCORES,), {})
    return (((TOKENS, FAMILY), candidates), known, ((REFERENCES,), {}), ((RUN,), {}))
