"""Candidates from files of your own: every text of every file is read, or refused by file and line.

Text files, JSON lines (field `text`) and Parquet (column `text`), packed or not; `textfiles` says which file is whose.
A text is a string: lists, numbers and missing ones are refused, since their spelling would be trained on. How much
text a candidate has is counted over all of it, however little of it is then taken.
"""

import bz2
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import getsourcefile
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow.parquet import ParquetFile

from demix_nb import store, textfiles
from demix_nb.lab.text import pieces, shuffled
from demix_nb.parallel import fan_out
from demix_nb.store import Refusal

FEW_FILES = 160  # a candidate with fewer .txt files is divided by piece: whole files held out would eat a tenth of it
AT_ONCE = 500_000_000  # bytes of one candidate's files that are read and shuffled together

STRINGS = (pa.string(), pa.large_string(), pa.string_view(), pa.null())  # an empty table may not know its type
UNPACK: dict[str, Callable[[Path], BinaryIO]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda file: io.BufferedReader(pa.input_stream(str(file), compression="zstd")),
}


@dataclass(frozen=True)
class Files:
    """One candidate's files, and a `Reader` of their texts."""

    paths: tuple[Path, ...]

    def __call__(self, rng: np.random.Generator) -> Iterator[str]:
        """Yield the texts in random order; beyond AT_ONCE bytes file by file, to spare memory."""
        cut = sum(textfiles.kind(file) == ".txt" for file in self.paths) < FEW_FILES
        together = sum(file.stat().st_size for file in self.paths) <= AT_ONCE
        for group in [self.paths] if together else [[file] for file in shuffled(self.paths, rng)]:
            yield from shuffled((text for file in group for text in _texts(file, cut)), rng)

    def size(self) -> int:
        """Return the UTF-8 bytes of all texts, one file after another; raises Refusal for what cannot be read."""
        return sum(len(text.encode("utf-8", "surrogatepass")) for file in self.paths for text in _texts(file, False))


def readers(folder: Path) -> dict[str, Files]:
    """Return a reader for each candidate of a folder of text, see `textfiles.texts`."""
    return {name: Files(tuple(files)) for name, files in textfiles.texts(folder).items()}


def sizes(own: Mapping[str, Files], *, n_jobs: int) -> dict[str, int]:
    """Return candidate → UTF-8 bytes of all its text, see `Files.size`."""
    calls = [(files,) for files in own.values()]
    return dict(zip(own, fan_out(Files.size, calls, n_jobs=n_jobs, ordered=True), strict=True))


def origin(own: Mapping[str, Files]) -> list:
    """Return what the texts depend on, to be hashed: the content of all files, and the code that reads them."""
    code = [store.file_hash(path) for path in (__file__, textfiles.__file__, getsourcefile(pieces))]
    return [code, [[name, [store.file_hash(file) for file in files.paths]] for name, files in own.items()]]


def _texts(file: Path, cut: bool) -> Iterable[str]:
    if textfiles.kind(file) != ".txt":
        return records(file)
    return pieces(read_text(file)) if cut else [read_text(file)]


def records(file: Path) -> Iterator[str]:
    """Yield the text of every record of a file of JSON lines or Parquet; raises Refusal naming file and line."""
    return _rows(file) if textfiles.kind(file) == ".parquet" else _lines(file)


def read_text(file: Path) -> str:
    """Read a UTF-8 file; raises Refusal for other encodings."""
    with _opened(file) as stream:
        try:
            return io.TextIOWrapper(stream, "utf-8-sig").read()
        except UnicodeDecodeError as error:
            raise _foreign(f"{file}", error) from error


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    """Open a file, unpacked; whoever reads on where it is damaged gets a Refusal."""
    try:
        with UNPACK.get(file.suffix.lower(), partial(open, mode="rb"))(file) as stream:
            yield stream
    except (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refusal(f"cannot read {file} ({told}); if it is damaged or cut short, get it again") from error


def _foreign(where: str, error: UnicodeDecodeError) -> Refusal:
    convert = "convert it, for example with `iconv -f latin1 -t utf-8`"
    return Refusal(f"{where} is not UTF-8 (byte {error.start}); {convert}")


def _lines(file: Path) -> Iterator[str]:
    with _opened(file) as stream:
        for number, line in enumerate(stream, 1):
            where = f"{file}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _foreign(where, error) from error
            if text.strip():
                yield _text_field(text, where)


def _text_field(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError, RecursionError):
        text = None
    if not isinstance(text, str):
        raise Refusal(f"{where}: expected a JSON object with a text in its field 'text', got {line[:60].strip()}")
    return text


def _rows(file: Path) -> Iterator[str]:
    with _opened(file) as stream:
        parquet = ParquetFile(stream, page_checksum_verification=True)
        _check_column(file, parquet.schema_arrow)
        texts = chain.from_iterable(_strings(file, batch["text"]) for batch in parquet.iter_batches(columns=["text"]))
        for number, text in enumerate(texts, 1):
            if text is None:
                raise Refusal(f"{file}, row {number}: no text, but a missing value (null); drop such rows")
            yield text


def _strings(file: Path, column: pa.Array) -> list[str | None]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        raise _foreign(f"{file}, a row of column 'text',", error) from error


def _check_column(file: Path, schema: pa.Schema) -> None:
    """Raise Refusal unless there is one column `text`, of strings."""
    if (number := schema.names.count("text")) != 1:
        told = f"{number} columns 'text'" if number else f"no column 'text', only {', '.join(schema.names) or 'none'}"
        raise Refusal(f"{file} has {told}; rename one")
    held = schema.field("text").type
    value = held.value_type if pa.types.is_dictionary(held) else held
    if value not in STRINGS:
        raise Refusal(f"{file}: column 'text' holds {held}, not text; write each document as one string")
