"""The door for what other people have: mixtures and scores, checked, and what was repaired said.

Mixtures come as CSV, YAML or JSON, as shares or as counts; scores as CSV. Whatever passes is a mixture table, a score
table or a `Scored`; whatever does not is refused by file, row and column.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from demix_nb import DATA
from demix_nb.mixtures import SUM_TOLERANCE, validate
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal


def mixtures(path: str | Path, candidates: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read mixtures as people have them; return the mixture table and one note per entry that was normalised.

    Takes CSV (first column names the mixture), YAML or JSON (name → candidate → weight; a flat candidate → weight
    mapping is one mixture). Raw token counts are divided by their sum. Raises Refusal naming the entry for
    unknown candidates, negative, NaN, all-zero or empty entries.
    """
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no mixture file at {path}; give a .csv, .yaml or .json file")
    rows, notes = {}, []
    for name, weights in _entries(path):
        rows[name], note = _normalise(path, name, weights, candidates)
        notes += note
    if not rows:
        raise Refusal(f"{path.name} is empty; give at least one mixture")
    columns = list(candidates) if candidates is not None else list(next(iter(rows.values())))
    return validate(pd.DataFrame(rows).T.reindex(columns=columns), columns), notes


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    if path.suffix == ".csv":
        frame = pd.read_csv(path, index_col=0)
        if frame.index.has_duplicates:
            raise Refusal(f"{path.name}: entry {frame.index[frame.index.duplicated()][0]!r} appears twice")
        yield from ((str(name), row.to_dict()) for name, row in frame.iterrows())
        return
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(content, Mapping):
        raise Refusal(f"{path.name} must map names to weights; it holds a {type(content).__name__}")
    nested = [isinstance(value, Mapping) for value in content.values()]
    if any(nested) and not all(nested):
        name = next(key for key, flag in zip(content, nested, strict=True) if not flag)
        raise Refusal(f"{path.name}: entry {name!r} is not a mapping from candidates to weights")
    yield from content.items() if any(nested) else [(path.stem, content)]


def _normalise(
    path: Path, name: str, weights: Mapping[str, object], candidates: Sequence[str] | None
) -> tuple[dict[str, float], list[str]]:
    where = f"{path.name}: entry {name!r}"
    if not weights:
        raise Refusal(f"{where} is empty; give at least one candidate a weight")
    if unknown := [key for key in weights if candidates is not None and key not in candidates]:
        raise Refusal(f"{where} names unknown candidate {unknown[0]!r}; candidates: {', '.join(candidates)}")
    row = {str(key): weights.get(key, 0.0) for key in (candidates if candidates is not None else weights)}
    for key, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise Refusal(f"{where} has weight {value!r} for {key!r}; weights are numbers, finite, not negative")
    total = sum(row.values())
    if total == 0:
        raise Refusal(f"{where} is all zero; give at least one candidate a weight")
    note = [] if abs(total - 1) <= SUM_TOLERANCE else [f"{name}: weights summed to {total:.6g}, divided by it"]
    return {key: value / total for key, value in row.items()}, note


def scores(path: str | Path) -> pd.DataFrame:
    """Read a score table; raises Refusal naming the file and the row and column that is no number."""
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no score file at {path}; give a .csv whose first column names the mixture")
    table = pd.read_csv(path, index_col=0).rename_axis(index="mixture", columns=None)
    table.index = table.index.astype(str)
    numbers = table.apply(pd.to_numeric, errors="coerce")
    bad = np.argwhere(~np.isfinite(numbers.to_numpy(float)))
    if len(bad):
        row, column = table.index[bad[0, 0]], table.columns[bad[0, 1]]
        held = str(table.iat[*bad[0]])
        raise Refusal(f"{path.name}: row {row!r}, column {column!r} holds {held!r}, no finite number; mend or drop it")
    return numbers.astype(float)


def paired(shares: pd.DataFrame, scores: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return `scores` in the row order of `shares`; raises Refusal for a row missing, unknown or there twice."""
    twice = scores.index[scores.index.duplicated()]
    if len(twice):
        raise Refusal(f"{name}: row {twice[0]!r} comes twice; keep one")
    odd = shares.index.symmetric_difference(scores.index)
    if len(odd):
        raise Refusal(f"{name}: {len(odd)} rows have no partner among the mixtures or scores, first {odd[0]!r}")
    return scores.loc[shares.index]


def scored(
    mixtures_csv: str | Path, scores_csv: str | Path, tasks_csv: str | Path = "", *, higher_is_better: bool = False
) -> Scored:
    """Read a pair of CSV files whose first column names the mixture; other columns are candidates, or tasks.

    Mixtures may be raw counts, they are divided by their sum. Without `tasks_csv` (columns as in `data/README.md`)
    every task is a family of its own in the direction `higher_is_better`. Raises Refusal naming file, row, column.
    """
    shares, notes = mixtures(mixtures_csv)
    table = scores(scores_csv)
    if tasks_csv:
        tasks = pd.read_csv(tasks_csv, index_col=0)
        tasks = tasks.loc[[task for task in tasks.index if task in table]]
    else:
        tasks = describe(table.columns, unit="score", higher_is_better=higher_is_better)
    return Scored(shares, paired(shares, table, Path(scores_csv).name), tasks, tuple(notes))


def printed(table: str) -> pd.DataFrame:
    """Return a table of a paper as it was printed, from `data/published/<table>.csv`."""
    return pd.read_csv(DATA / "published" / f"{table}.csv")
