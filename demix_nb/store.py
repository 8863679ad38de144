"""What lies on disk: files replaced whole, content hashes, tables checked by schema, caches of what was measured.

Notebooks hand each other everything through CSV tables under `data/runs/<profile>/tables/`; this module is the only
door. A table that was cut short, edited into nonsense or written by another version fails here, by name, and not three
notebooks later. `schemas` says what each must hold.
"""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from demix_nb import DATA, PACKAGE
from demix_nb.schemas import BESIDE_FAMILIES, SCHEMAS, TABLES


class Refusal(ValueError):  # noqa: N818, a refusal is no error of ours
    """What was given cannot be used; the message is one sentence: what is wrong, where, and what to do instead."""


def schema_of(table: str) -> str:
    """Return the schema that a table of this name must follow."""
    return TABLES.get(table, "scores")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder and move it to `path` when the block ends well; else remove it."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise Refusal(f"cannot write {path}: {error.strerror}; choose a folder you may write to") from error
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


def folder_hash(directory: str | Path) -> str:
    """Return the sha256 over weights, configuration and tokenizer of a checkpoint, whatever its folder is called."""
    patterns = ("*.safetensors", "*.json", "*.model", "vocab.txt", "merges.txt")
    kept = {path for pattern in patterns for path in Path(directory).glob(pattern)}
    kept = [path for path in kept if not path.name.startswith(("training", "trainer"))]  # records, not the model
    digests = ((path, path.stat()) for path in sorted(kept))
    lines = [f"{path.name} {_hash_as_of(path.resolve(), s.st_size, s.st_mtime_ns)}\n" for path, s in digests]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def package_hash() -> str:
    """Return a hash of this package's sources and task files, on which results depend."""
    files = sorted([*PACKAGE.rglob("*.py"), *(DATA / "tasks").glob("*")])
    return content_hash([(file.name, file_hash(file)) for file in files])


@cache
def _hash_as_of(path: Path, size: int, modified: int) -> str:
    """Size and time of change are there for the cache alone: a rewritten file is read again."""
    return file_hash(path)


def check(frame: pd.DataFrame, schema: str, where: str) -> pd.DataFrame:
    """Return `frame` with the schema's index and column types; raises Refusal naming what is wrong."""
    wanted = SCHEMAS[schema]
    if frame.index.name != wanted.index:
        raise Refusal(f"{where}: the first column is {frame.index.name!r}, expected {wanted.index!r}")
    if missing := [name for name in wanted.columns if name not in frame.columns]:
        raise Refusal(f"{where}: column {missing[0]!r} is missing; add it, or run what writes it (`demix-nb run`)")
    if wanted.unique and frame.index.has_duplicates:
        raise Refusal(f"{where}: {wanted.index} {frame.index[frame.index.duplicated()][0]!r} appears twice")
    if not wanted.open and (extra := [name for name in frame.columns if name not in wanted.columns]):
        raise Refusal(f"{where}: unknown column {extra[0]!r}")
    for name, kind in wanted.columns.items():
        if kind == "bool" and not frame[name].isin([True, False]).all():  # to Python, every text is true
            raise Refusal(f"{where}: column {name!r} must hold True or False")
        try:
            frame = frame.assign(**{name: frame[name].astype(kind)})
        except (TypeError, ValueError) as error:
            raise Refusal(f"{where}: column {name!r} must be {kind}: {error}") from error
    if wanted.numeric and (text := frame.select_dtypes(exclude="number").columns.tolist()):
        raise Refusal(f"{where}: column {text[0]!r} must hold numbers")
    return frame


def check_families(families: Iterable[str]) -> None:
    """Raise Refusal for a family that is called as something is that stands beside families' columns."""
    if taken := BESIDE_FAMILIES.intersection(families):
        raise Refusal(f"a family is called {min(taken)!r}, as a column of our tables is; call it otherwise")


def write(frame: pd.DataFrame, path: str | Path, schema: str) -> Path:
    """Check `frame` against `schema` and write it as CSV, atomically; returns the path."""
    path = Path(path)
    checked = check(frame, schema, path.name)
    with atomic(path) as temporary:
        checked.to_csv(temporary, float_format="%.10g")
    return path


def read(path: str | Path, schema: str) -> pd.DataFrame:
    """Read and check a table; raises Refusal naming the file and how to make it."""
    path = Path(path)
    if not path.is_file():
        raise Refusal(f"no table at {path}; run the notebook that writes it (`demix-nb run`), or check the path")
    wanted = SCHEMAS[schema]
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), None)
        if header is None:
            raise pd.errors.EmptyDataError("it is empty")
        text = [place for place, name in enumerate(header) if not place or wanted.columns.get(name) == "str"]
        # columns by place, since a candidate may be called as the first is; a name stays what it is (`nan`, `2023`)
        how = {"header": 0, "names": list(range(len(header))), "keep_default_na": False, "na_values": [""]}
        frame = pd.read_csv(path, index_col=False, dtype=dict.fromkeys(text, str), **how)
    except (UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError, csv.Error) as error:
        raise Refusal(f"{path.name} cannot be read as CSV ({error}); delete it and run `demix-nb run` again") from error
    if header[0] != wanted.index:
        raise Refusal(f"{path.name}: no column {wanted.index!r} comes first; there are {', '.join(header[:5])}")
    if odd := [name for name in header[1:] if not name or header[1:].count(name) > 1]:
        raise Refusal(f"{path.name}: column {odd[0]!r} comes twice or has no name; run what writes it again")
    frame = frame.set_index(0).rename_axis(index=wanted.index).set_axis(header[1:], axis=1)
    if wanted.numeric and frame.empty:  # no value says of what type a column without rows is
        frame = frame.astype(float)
    return check(frame, schema, path.name)


# --- what was measured, by content ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cache:
    """What was measured, a file per model: a second run measures nothing again, and a killed one loses nothing.

    A file is called by the model's key and holds row key → value, so that a further row is measured alone. `encode(key,
    values)` returns a file's bytes, `decode(key, bytes)` the values; it raises where they are damaged.
    """

    folder: Path
    suffix: str
    encode: Callable[[str, Mapping[str, Any]], bytes]
    decode: Callable[[str, bytes], dict[str, Any]]

    def path(self, key: str) -> Path:
        """Return where the values of a model's key lie."""
        return self.folder / f"{key}{self.suffix}"

    def get(self, key: str) -> dict[str, Any]:
        """Return what is stored of a model, row key → value, nothing if it is unknown; raises Refusal for damage."""
        path = self.path(key)
        try:
            return self.decode(key, path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise Refusal(f"{path} is damaged ({error!r}); delete it and run again") from error

    def put(self, key: str, values: Mapping[str, Any]) -> None:
        """Add values to what is stored of a model, all or none; raises Refusal for what is not finite, or no room."""
        path, content = self.path(key), self.encode(key, self.get(key) | dict(values))
        try:
            with atomic(path) as temporary:
                temporary.write_bytes(content)
        except OSError as error:
            raise Refusal(f"cannot write {path} ({error}); choose a folder that you may write to") from error


def _scores_to_json(key: str, scores: Mapping[str, float]) -> bytes:
    if bad := [row for row, score in scores.items() if not math.isfinite(score)]:
        raise Refusal(f"the score under {bad[0]!r} is not finite and is not stored; leave its model or task out")
    values = {row: float(score) for row, score in scores.items()}
    return json.dumps({"scores": values, "check": content_hash(key, values)}).encode()


def _scores_from_json(key: str, content: bytes) -> dict[str, float]:
    stored = json.loads(content)
    if stored["check"] != content_hash(key, stored["scores"]):
        raise Refusal("its checksum differs")
    return stored["scores"]


def _arrays_to_npz(_key: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    np.savez(file := io.BytesIO(), **arrays)
    return file.getvalue()


def _arrays_from_npz(_key: str, content: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(content)) as stored:
        return dict(stored)


def score_cache(folder: str | Path) -> Cache:
    """Return the cache of scores, row key → score: JSON with a checksum."""
    return Cache(Path(folder), ".json", _scores_to_json, _scores_from_json)


def log_cache(folder: str | Path) -> Cache:
    """Return the cache of answer tokens' log-probabilities (nats), row key → array: numpy archives."""
    return Cache(Path(folder), ".npz", _arrays_to_npz, _arrays_from_npz)
