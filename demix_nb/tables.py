"""Named tables on disk: a fixed schema checked on read and write, atomic replacement, content hashes.

Notebooks hand each other everything through CSV tables under `data/runs/<profile>/tables/`; this module is the only
door. A table that was cut short, edited into nonsense or written by another version fails here, by name, and not three
notebooks later. `data/README.md` explains every column.
"""

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Schema:
    """What a table must hold: the index's name and column → kind.

    `open`: it has further columns, one per candidate, task, family or domain. `unique`: no index value comes twice.
    `numeric`: every column holds numbers, the further ones too.
    """

    index: str
    columns: Mapping[str, str]
    open: bool = True
    unique: bool = True
    numeric: bool = False


TASK = {"family": "str", "unit": "str", "higher_is_better": "bool", "items": "int", "chance": "float"}
SCHEMAS = {
    "corpora": Schema("domain", {"family": "str", "train_tokens": "int", "heldout_tokens": "int"}),
    "tasks": Schema("task", TASK),
    "models": Schema("model", {"kind": "str", "seed": "int", "tokens": "int", "seconds": "float", "loss": "float"}),
    "mixtures": Schema("mixture", {}, numeric=True),
    "scores": Schema("mixture", {}, numeric=True),
    "fidelity": Schema("proxy", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "differences": Schema("pair", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "calibration": Schema("proxy", {"family": "str", "power": "float", "scale": "float"}, unique=False),
    "trust": Schema("proxy", {"verdict": "str", "because": "str"}),
    "costs": Schema("proxy", {"measure": "str", "tokens": "float", "trained_tokens": "float"}, unique=False),
    "consistency": Schema("mixture", {"type": "str", "share": "float", "delta": "float"}, unique=False),
    "measures": Schema("strategy", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "landscape": Schema("mixture", {"type": "str"}, unique=False),
    "counts": Schema("mixture", {"proxies": "int", "kind": "str", "believed": "float", "level": "float"}),
    "robustness": Schema("mixture", {"text": "str", "share": "float", "candidate": "str"}),
    "ratios": Schema("family", {}, numeric=True),
    "quality": Schema("model", {"strategy": "str", "seed": "int", "macro": "float", "place": "float"}),
    "run": Schema("step", {"seconds": "float", "machine": "str"}),
    "summary": Schema("result", {"value": "str"}, open=False),
    "rounds": Schema("mixture", {"round": "int", "rank": "float"}, numeric=True),
}


class TableError(ValueError):
    """A table that is missing, unreadable or not what its schema says."""


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and move it to `path` when the block ends well; else remove it."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise TableError(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from error
    os.close(handle)
    try:
        yield Path(name)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a hidden folder beside `path` and give it that name when the block ends well; else remove it.

    Raises OSError where it cannot be made, or where `path` holds something when the block ends.
    """
    path = Path(path)
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden.mkdir()
        yield hidden
        os.replace(hidden, path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def content_hash(*parts: object) -> str:
    """Return 16 hex digits that depend on the content of all parts (bytes, arrays, frames, or JSON-able values)."""
    digest = hashlib.sha256()
    for part in parts:
        for chunk in _chunks(part):
            digest.update(len(chunk).to_bytes(8, "little"))
            digest.update(chunk)
    return digest.hexdigest()[:16]


def _chunks(part: object) -> list[bytes]:
    if isinstance(part, bytes):
        return [part]
    if isinstance(part, np.ndarray):
        return [str((part.dtype, part.shape)).encode(), np.ascontiguousarray(part).tobytes()]
    if isinstance(part, pd.Series | pd.DataFrame):
        return [part.to_csv().encode()]
    return [json.dumps(part, sort_keys=True, default=str).encode()]


def file_hash(path: str | Path) -> str:
    """Return the sha256 of a file's bytes, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(frame: pd.DataFrame, schema: str, where: str) -> pd.DataFrame:
    """Return `frame` with the schema's index and column types; raises TableError naming what is wrong."""
    wanted = SCHEMAS[schema]
    if frame.index.name != wanted.index:
        raise TableError(f"{where}: the first column is {frame.index.name!r}, expected {wanted.index!r}")
    if missing := [name for name in wanted.columns if name not in frame.columns]:
        raise TableError(f"{where}: column {missing[0]!r} is missing; expected {', '.join(wanted.columns)}")
    if wanted.unique and frame.index.has_duplicates:
        raise TableError(f"{where}: {wanted.index} {frame.index[frame.index.duplicated()][0]!r} appears twice")
    if not wanted.open and (extra := [name for name in frame.columns if name not in wanted.columns]):
        raise TableError(f"{where}: unknown column {extra[0]!r}")
    for name, kind in wanted.columns.items():
        try:
            frame = frame.assign(**{name: frame[name].astype(kind)})
        except (TypeError, ValueError) as error:
            raise TableError(f"{where}: column {name!r} must be {kind}: {error}") from error
    if wanted.numeric and (text := frame.select_dtypes(exclude="number").columns.tolist()):
        raise TableError(f"{where}: column {text[0]!r} must hold numbers")
    return frame


def write(frame: pd.DataFrame, path: str | Path, schema: str) -> Path:
    """Check `frame` against `schema` and write it as CSV, atomically; returns the path."""
    path = Path(path)
    checked = check(frame, schema, path.name)
    with atomic(path) as temporary:
        checked.to_csv(temporary, float_format="%.10g")
    return path


def read(path: str | Path, schema: str) -> pd.DataFrame:
    """Read and check a table; raises TableError naming the file and how to make it."""
    path = Path(path)
    if not path.is_file():
        raise TableError(f"no table at {path}; run the notebook that writes it (`demix-nb run`), or check the path")
    index = SCHEMAS[schema].index
    try:
        frame = pd.read_csv(path, dtype={index: str})
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise TableError(
            f"{path.name} cannot be read as CSV ({error}); delete it and run `demix-nb run` again"
        ) from error
    if index not in frame.columns:
        raise TableError(f"{path.name}: no column {index!r}; it has {', '.join(map(str, frame.columns[:5]))}")
    return check(frame.set_index(index), schema, path.name)
