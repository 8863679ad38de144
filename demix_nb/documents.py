"""What is in files of text: every document of every file is read, or refused by file and line.

Text files (a document each), JSON lines (field `text`) and Parquet (column `text`), packed or not; `textfiles` says
which file is whose. A text is a string: lists, numbers and missing ones are refused, since their spelling would be
read by models. `of` opens the text that a study names for its candidates.
"""

import bz2
import gzip
import io
import json
import lzma
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from demix_nb import textfiles
from demix_nb.ranges import closest
from demix_nb.store import Refusal


def _zstd(file: Path) -> io.BufferedReader:
    import pyarrow as pa  # here and below: a fifth of a second that readers of plain text need not spend

    return io.BufferedReader(pa.input_stream(str(file), compression="zstd"))


UNPACK: dict[str, Callable[[Path], BinaryIO | io.BufferedReader]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstd,
}


def files(given: str | Path | Mapping[str, str | Path], candidates: Sequence[str]) -> dict[str, list[Path]]:
    """Return candidate → files of held-out documents, in the order of `candidates`, without those that have none.

    `given`: a folder with a file or folder per candidate (`textfiles.texts`), or candidate → file or folder. Raises
    Refusal naming what is not there, a name that is no candidate's with the nearest that is, and a folder of text to
    train on.
    """
    if not isinstance(given, Mapping) and (train := Path(given) / "train").is_dir():
        raise Refusal(f"{train} is text to train on, which is not held out; name the folder of held-out text alone")
    found = textfiles.named(given) if isinstance(given, Mapping) else textfiles.texts(given)
    if unknown := [name for name in found if name not in candidates]:
        told = f"{found[unknown[0]][0]} is given for {unknown[0]!r}, which is no candidate"
        raise Refusal(f"{told}; {closest(unknown[0], candidates)}")
    return {name: found[name] for name in candidates if name in found}


def of(given: str | Path | Mapping[str, str | Path], candidates: Sequence[str]) -> dict[str, list[str]]:
    """Return candidate → documents of its `files`; raises Refusal for what cannot be read or holds blanks alone."""
    places = files(given, candidates)
    found = {name: read(paths) for name, paths in places.items()}
    for name, texts in found.items():
        if not any(map(str.strip, texts)):
            raise Refusal(f"candidate {name!r} has no text in {places[name][0]}; give at least one document")
    return found


def read(paths: Iterable[Path]) -> list[str]:
    """Return the documents of all files, in the order of the files; raises Refusal for what cannot be read."""
    return list(chain.from_iterable(map(in_file, paths)))


def in_file(file: Path) -> Iterable[str]:
    """Return the documents of a file, read as they are asked for: a text file is one, other files have records."""
    return [read_text(file)] if textfiles.kind(file) == ".txt" else records(file)


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
    except (OSError, EOFError, zlib.error, lzma.LZMAError, *_of_arrow()) as error:
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Refusal(f"cannot read {file} ({told}); if it is damaged or cut short, get it again") from error


def _of_arrow() -> tuple[type[Exception], ...]:
    """Return what pyarrow raises, and it alone: nothing where it has not been imported."""
    arrow = sys.modules.get("pyarrow")
    return (arrow.ArrowException,) if arrow else ()


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
    from pyarrow.parquet import ParquetFile

    with _opened(file) as stream:
        parquet = ParquetFile(stream, page_checksum_verification=True)
        _check_column(file, parquet.schema_arrow)
        texts = chain.from_iterable(_strings(file, batch["text"]) for batch in parquet.iter_batches(columns=["text"]))
        for number, text in enumerate(texts, 1):
            if text is None:
                raise Refusal(f"{file}, row {number}: no text, but a missing value (null); drop such rows")
            yield text


def _strings(file: Path, column: Any) -> list[str | None]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError as error:
        raise _foreign(f"{file}, a row of column 'text',", error) from error


def _check_column(file: Path, schema: Any) -> None:
    """Raise Refusal unless there is one column `text`, of strings."""
    import pyarrow as pa

    strings = (pa.string(), pa.large_string(), pa.string_view(), pa.null())  # an empty table may not know its type
    if (number := schema.names.count("text")) != 1:
        told = f"{number} columns 'text'" if number else f"no column 'text', only {', '.join(schema.names) or 'none'}"
        raise Refusal(f"{file} has {told}; rename one")
    held = schema.field("text").type
    value = held.value_type if pa.types.is_dictionary(held) else held
    if value not in strings:
        raise Refusal(f"{file}: column 'text' holds {held}, not text; write each document as one string")
