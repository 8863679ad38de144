"""Long tables, a cell a line, made wide: a row per mixture, a column per candidate or task; repeats must agree.

Which column holds what is known by the columns' names, and only where no other reading is possible; numbers are read
later, by whoever asks for them (`sheets.numbers`).
"""

from collections.abc import Collection, Iterable

import pandas as pd

from demix_nb import sheets
from demix_nb.store import Refusal

ROWS = ("mixture", "run", "run_id", "run_name", "name", "model")  # what the column of the mixtures' names is called


def gathered(where: str, told: Iterable[tuple[str, str, str]], untold: str = "") -> tuple[pd.DataFrame, list[str]]:
    """Return cells told one by one (row, column, cell) as a table of text, and the rows that were told again.

    Raises Refusal for a cell that is told twice, differently.
    """
    found: dict[tuple[str, str], str] = {}
    again: dict[str, None] = {}
    for row, column, cell in told:
        if (row, column) not in found:
            found[row, column] = cell
        else:
            again[row] = None
            held = found[row, column]
            if held != cell and (sheets.number(held) is None or sheets.number(held) != sheets.number(cell)):
                raise Refusal(f"{where}: row {row!r} comes twice, with {held or 'nothing'} and {cell or 'nothing'} in "
                              f"{column!r}; keep one")  # fmt: skip
    rows, columns = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    cells = [[found.get((row, name), untold) for name in columns] for row in rows]
    return pd.DataFrame(cells, rows, columns), list(again)


def unpivoted(cells: pd.DataFrame, items: Collection[str], values: Collection[str]) -> pd.DataFrame | None:
    """Return the columns of a long table: `row`, `item` (one or more, in the order of `items`), `value`; None: wide.

    Long is a table with one column called like one of `values`, beside one like `items` that holds words, not numbers;
    rows are called by the column ROWS names, else by the first. Further columns are not read.
    """
    first = str(cells.index.name).lower()
    columns = {first: pd.Series(cells.index)}
    columns |= {name.lower(): cells[name].reset_index(drop=True) for name in cells}
    item = [name for name in items if name in columns and columns[name].map(sheets.number).isna().any()]
    value = [name for name in values if name in columns]
    row = next((name for name in ROWS if name in columns), first)
    if not item or len(value) != 1 or row in item:
        return None
    return pd.DataFrame({"row": columns[row], **{name: columns[name] for name in item}, "value": columns[value[0]]})
