"""A file as people have it, read strictly: names stay text, numbers are numbers in any program's spelling, or neither.

Whoever guesses types loses names (`nan`, `no`, `2023`, `00e1`) and columns (one that comes twice, one without a name).
Here nothing is guessed but the separator, and that only where a single one makes a table: cells are text until somebody
asks for numbers, and what is not plainly one is refused by row and column.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from demix_nb.store import Refusal

TABLES, MAPPINGS = (".csv", ".tsv", ".tab", ".txt"), (".yaml", ".yml", ".json")
RUNS = ("run", "run_id")  # what OLMix calls the column of the mixtures' names
SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab"}
SPELT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?:\s*%)?")  # a number, or percent
COMMA = re.compile(r"([+-]?[0-9]*),([0-9]+(?:[eE][+-]?[0-9]+)?\s*%?)")  # a decimal comma, where commas part no cells
FRACTION = re.compile(r"[+-]?[0-9]*[.,][0-9]+(?:[eE][+-]?[0-9]+)?|[0-9.]+[eE]-[0-9]+|[0-9.,]+\s*%")
TRUTH = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0"), False)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
POINTERS = (b"version https://git-lfs.github.com/spec/v1", b"/annex/objects/")  # of Git LFS, of git-annex


def there(path: str | Path, kind: str, wanted: str) -> Path:
    """Return the path of a file that is there; raises Refusal saying what kind is missing and what is wanted."""
    if not Path(path).is_file():
        raise Refusal(f"no {kind} file at {path}; give {wanted}")
    return Path(path)


def suffix(path: Path) -> str:
    """Return how a file's name ends, in lower case and without `.gz`; raises Refusal where that is no table of ours."""
    name = path.name.lower().removesuffix(".gz")
    ending = Path(name).suffix
    if ending not in (*TABLES, *MAPPINGS):
        raise Refusal(f"{path.name} ends in {ending or 'nothing'}; give one of {', '.join((*TABLES, *MAPPINGS))}")
    return ending


def text(path: Path) -> str:
    """Return a file's text: UTF-8 or marked UTF-16, with or without a mark, packed by gzip or not.

    Raises Refusal for what is no text, for a truncated archive and for a Git LFS pointer.
    """
    content = path.read_bytes()
    if content.startswith(POINTERS):
        raise Refusal(f"{path.name} is a Git LFS pointer or the like, not the file; fetch it by `git lfs pull`")
    try:
        content = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        told = content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except (EOFError, OSError) as error:
        raise Refusal(f"{path.name} is a damaged archive ({error}); pack or copy it again") from error
    except UnicodeDecodeError as error:
        raise Refusal(f"{path.name} is no UTF-8 text (byte {error.start}); save it as CSV in UTF-8") from error
    if "\0" in told:
        raise Refusal(f"{path.name} holds a zero byte and is no text; save it as CSV in UTF-8")
    return told


# --- tables


def table(path: Path, *, repeats: bool = False) -> pd.DataFrame:
    """Return a table's cells as text; the first column names the rows (OLMix: `run`), the first line the columns.

    Separators are commas, semicolons or tabs, whichever makes a table; blanks around cells are dropped. Raises Refusal
    for an empty file, lines of unlike length, a name that is missing or comes twice (a row's may where it `repeats`).
    """
    rows = _rows(path, text(path))
    (corner, *columns), body = rows[0], rows[1:]
    if not body:
        raise Refusal(f"{path.name} has a line of names and is empty below; give at least one row")
    if "" in columns:
        raise Refusal(f"{path.name}: column {columns.index('') + 2} has no name; name it, or drop it")
    check_names(path.name, "column", columns)
    first = pd.Index([row[0] for row in body], name=corner or None)
    cells = _of_runs(path.name, pd.DataFrame([row[1:] for row in body], first, columns))
    names = list(cells.index)
    if "" in names:
        raise Refusal(f"{path.name}: row {names.index('') + 1} has no name; the first column names the rows")
    check_names(path.name, "row", list(dict.fromkeys(names)) if repeats else names)
    return cells


def check_names(where: str, kind: str, found: list[str]) -> None:
    """Raise Refusal for a name of a `kind` that comes twice or holds what no name holds."""
    if odd := [name for name in found if CONTROL.search(name)]:
        raise Refusal(f"{where}: {kind} {odd[0]!r} has a line break or another control character in its name")
    if twice := [name for name in found if found.count(name) > 1] if len(set(found)) < len(found) else []:
        raise Refusal(f"{where}: {kind} {twice[0]!r} comes twice; keep one, or give it another name")


def _of_runs(where: str, cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with rows called by their run, as OLMix writes, and without an `index` that only numbers them.

    Raises Refusal where such a column may as well be a candidate's amounts.
    """
    if "index" not in cells or not _tells_apart(cells["index"]):
        return cells
    run = next((name for name in RUNS if name in cells or name == cells.index.name), None)
    if run is None and not _counts(cells["index"]):
        raise Refusal(f"{where}: column 'index' may number the rows or hold amounts; drop it, or call it otherwise")
    words = ["name"] if run and "name" in cells and cells["name"].map(number).isna().all() else []
    names = cells[run] if run in cells else cells.index
    return cells.drop(columns=["index", *words, *({run} & {*cells})]).set_axis(pd.Index(names, name=names.name))


def _tells_apart(column: pd.Series) -> bool:
    """Whether a column holds whole numbers, none twice."""
    values = column.map(number)
    return bool(values.notna().all() and (values % 1 == 0).all() and values.is_unique)


def _counts(column: pd.Series) -> bool:
    """Whether a column counts its rows, from 0 or from 1."""
    values = sorted(column.map(number))
    return values in ([*range(len(values))], [*range(1, len(values) + 1)])


def _rows(path: Path, content: str) -> list[list[str]]:
    """The cells of every line that is not blank, parted by the one separator that makes lines of like length."""
    if not content.strip():
        raise Refusal(f"{path.name} is empty; its first line names the columns, its first column the rows")
    read = {mark: rows for mark in SEPARATORS if (rows := _parted(content, mark))}
    if not read:
        raise Refusal(f"{path.name} cannot be read as CSV; check its quotation marks, each must be closed")
    even = {mark: rows for mark, rows in read.items() if len(rows[0]) > 1 and len({len(row) for row in rows}) == 1}
    if len(even) == 1:
        return next(iter(even.values()))
    if even:
        found = " and by ".join(f"{SEPARATORS[mark]}s" for mark in even)
        raise Refusal(f"{path.name} can be parted by {found}; put names that hold one of them in quotation marks")
    mark, rows = max(read.items(), key=lambda item: len(item[1][0]))
    if len(rows[0]) == 1:
        raise Refusal(f"{path.name} has one column; part cells by commas, semicolons or tabs, names in the first")
    line = next(number for number, row in enumerate(rows, 1) if len(row) != len(rows[0]))
    found = f"line {line} has {len(rows[line - 1])} cells, the first has {len(rows[0])}"
    raise Refusal(f"{path.name}, parted by {SEPARATORS[mark]}s: {found}; mend that line, or the names in the first")


def _parted(content: str, mark: str) -> list[list[str]]:
    """The cells of lines parted by that mark; none where quotation marks then stand inside a cell."""
    try:
        lines = csv.reader(io.StringIO(content, newline=""), delimiter=mark, strict=True, skipinitialspace=True)
        return [cells for line in lines if any(cells := [cell.strip() for cell in line])]
    except csv.Error:
        return []


def numbers(cells: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a table of text as floats; `50 %` is 0.5, and a decimal comma is read where it is the table's way.

    Raises Refusal naming row and column of a cell that holds no finite number, and of a column that mixes percent with
    plain numbers.
    """
    cells = _with_points(cells)
    values, percent = cells.map(number), cells.map(lambda cell: cell[-1:] == "%")
    if (bad := values.isna()).any(axis=None):
        row, column = np.argwhere(bad.to_numpy())[0]
        held = repr(cells.iat[row, column]) if cells.iat[row, column] else "nothing"
        raise Refusal(f"{where}: row {cells.index[row]!r}, column {cells.columns[column]!r} holds {held}, no finite "
                      "number; mend or drop it")  # fmt: skip
    if (mixed := percent.any() & (~percent & (values != 0)).any()).any():
        raise Refusal(f"{where}: column {mixed.idxmax()!r} has percent and plain numbers; write all one way")
    return values.astype(float)


def _with_points(cells: pd.DataFrame) -> pd.DataFrame:
    """The cells with decimal points, where decimal commas are written and no point is."""
    flat = cells.to_numpy().ravel()
    if any("." in cell for cell in flat) or not any(COMMA.fullmatch(cell) for cell in flat):
        return cells
    return cells.apply(lambda column: column.str.replace(COMMA, r"\1.\2", regex=True))


def unnamed(cells: pd.DataFrame) -> bool:
    """Return whether the first column holds fractions, every one: then it names nothing."""
    return all(FRACTION.fullmatch(name) for name in cells.index)


# --- mappings


def mapping(path: Path, what: str = "names to weights") -> dict[str, Any]:
    """Return the mapping of a YAML or JSON file; keys and values are text, whatever they look like; `null` is None.

    Raises Refusal for a key that comes twice, and for what is no mapping or cannot be read.
    """
    told = text(path)
    try:
        content, twice = (_json if suffix(path) == ".json" else spelt)(told)
    except Refusal as refusal:
        raise Refusal(f"{path.name}: {refusal}") from refusal
    except (yaml.YAMLError, json.JSONDecodeError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise Refusal(f"{path.name} cannot be read ({problem}); check it where it says so") from error
    if twice:
        raise Refusal(f"{path.name}: {twice[0]!r} stands twice; keep one")
    if not isinstance(content, Mapping):
        raise Refusal(f"{path.name} must map {what}; it holds {_kind(content)}")
    return dict(content)


def spelt(told: str) -> tuple[object, list[str]]:
    """Return what a YAML document holds, names and numbers as text, and the keys that one of its mappings has twice.

    Raises YAMLError for what is no YAML, and Refusal for a key that is no name.
    """
    loader = _Text(told)
    try:
        return loader.get_single_data(), loader.twice
    finally:
        loader.dispose()


def number(value: object) -> float | None:
    """Return the number that a text spells, `50 %` being 0.5; None where it spells none that is finite."""
    told = value.strip() if isinstance(value, str) else ""
    if not SPELT.fullmatch(told):
        return None
    found = float(told.rstrip("% ")) / (100 if told[-1] == "%" else 1)
    return found if np.isfinite(found) else None


class _Text(yaml.BaseLoader):
    """YAML in which everything is text."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        pairs = [tuple(self.construct_object(one, deep=True) for one in pair) for pair in node.value]
        return _once(pairs, self.twice)

    def construct_yaml_map(self, node: yaml.MappingNode) -> dict:
        return self.construct_mapping(node, deep=True)


_Text.add_constructor("tag:yaml.org,2002:map", _Text.construct_yaml_map)


def _json(told: str) -> tuple[object, list[str]]:
    twice: list[str] = []
    as_text = {"parse_int": str, "parse_float": str, "parse_constant": str}
    return json.loads(told, object_pairs_hook=lambda pairs: _once(pairs, twice), **as_text), twice


def _once(pairs: list[tuple[Any, Any]], twice: list[str]) -> dict[str, Any]:
    """The mapping of some pairs; a key that comes again is noted in `twice`."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise Refusal(f"{key!r} is no name; a name is text")
        key = key.strip()
        if not key or CONTROL.search(key):
            raise Refusal(f"the name {key!r} is empty or holds a control character; give it another")
        twice += [key] if key in found else []
        found[key] = value
    return found


def _kind(content: object) -> str:
    return {list: "a list", str: "plain text", type(None): "nothing"}.get(type(content), f"a {type(content).__name__}")
