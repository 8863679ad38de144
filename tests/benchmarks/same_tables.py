"""Are the tables of two runs the same, but for seconds and renamed columns? Usage: same_tables.py OLD NEW [RENAMES.yml]

OLD and NEW are folders of CSV tables (a run's `tables/`). RENAMES.yml maps what was renamed since OLD: `tables` (old
file name → new, without .csv), `columns` and `values` (old → new, in any table), `patterns` (of values: a regular
expression → its replacement), and `within` (table → values, before those of all). Prints one line per table and exits 1
where a number differs by more than the tolerance, a row or a column is gone, or a table is.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from pandas.api.types import is_numeric_dtype

TOLERANCE = 1e-6  # relative and absolute: tables hold ten digits, and sums may be added up in another order
TIMES = ("seconds", "key")  # columns that say how and by which code, not what


def renamed(table: pd.DataFrame, renames: Mapping[str, Mapping], name: str = "") -> pd.DataFrame:
    """Return a table of the old words, called `name` then, in the new ones."""
    words = renames.get("values", {}) | renames.get("within", {}).get(name, {})
    patterns = {re.compile(old): new for old, new in renames.get("patterns", {}).items()}

    def told(cell: object) -> object:
        if cell in words or not isinstance(cell, str):
            return words.get(cell, cell)
        return next((old.sub(new, cell) for old, new in patterns.items() if old.fullmatch(cell)), cell)

    columns = table.rename(columns=renames.get("columns", {}))
    return columns.apply(lambda column: column if is_numeric_dtype(column) else column.map(told))


def difference(old: pd.DataFrame, new: pd.DataFrame) -> str:
    """Return what differs between two tables whose first columns name the rows; nothing where they agree."""
    old, new = (table.drop(columns=[name for name in TIMES if name in table]) for table in (old, new))
    if gone := [name for name in old if name not in new]:
        return f"column {gone[0]!r} is gone"
    if len(old) != len(new):
        return f"{len(old)} rows became {len(new)}"
    keys = [name for name in old if not is_numeric_dtype(old[name])]
    old, new = (table.sort_values(keys, kind="stable").reset_index(drop=True) for table in (old, new[list(old)]))
    for name in old:
        if not is_numeric_dtype(old[name]):
            same = old[name].fillna("").astype(str).to_numpy() == new[name].fillna("").astype(str).to_numpy()
        else:
            same = np.isclose(old[name], new[name], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        if not same.all():
            row = int(np.argmin(same))
            where = ", ".join(str(old[key][row]) for key in keys)
            return f"row {row} ({where}), {name}: {old[name][row]} → {new[name][row]}"
    return ""


def main(old_folder: str, new_folder: str, renames_file: str = "") -> int:
    """Compare every table of the old folder; returns how many differ."""
    renames = yaml.safe_load(Path(renames_file).read_text(encoding="utf-8")) if renames_file else {}
    wrong = 0
    for path in sorted(Path(old_folder).glob("*.csv")):
        target = Path(new_folder) / f"{renames.get('tables', {}).get(path.stem, path.stem)}.csv"
        if not target.is_file():
            said = "gone"
        else:
            said = difference(renamed(pd.read_csv(path), renames, path.stem), pd.read_csv(target))
        wrong += bool(said)
        print(f"{'DIFFERS' if said else 'same   '} {path.stem}{': ' + said if said else ''}")
    return wrong


if __name__ == "__main__":
    sys.exit(min(main(*sys.argv[1:]), 1))
