"""Code beside task files, known by one name in every process: a folder of it is a package named by place and content.

lm-eval calls the module of a YAML's `!function utils.f` by its path, a name that no other process can import. While
`importable` is open it is `demix_nb.scoring.beside.<folder>@<hash>.utils` instead, and importing that name finds the
folder again: when a worker opens a pickled suite, on whatever machine sees the folder. Folders do not see each other's
files; files beside one another import each other by `from utils2 import g` or `from .utils2 import g`. As with lm-eval,
what is installed goes before what lies beside.
"""

import builtins
import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from urllib.parse import quote, unquote_to_bytes

import lm_eval
from lm_eval.tasks import _yaml_loader

from demix_nb.store import Refusal, content_hash, file_hash

__path__: list[str] = []  # names below this one can be imported; `Finder` alone knows what they are
HERE = __name__.split(".")
LM_EVAL = Path(lm_eval.__file__).resolve().parent
DEPTH = ("*.py", "*/*.py", "*/*/*.py")  # what counts as the folder's code


@contextmanager
def importable() -> Iterator[None]:
    """Let lm-eval import what lies beside task files, other than its own, under names that every process knows."""
    theirs = _yaml_loader._load_module_with_cache
    _yaml_loader._load_module_with_cache = lambda path: theirs(path) if LM_EVAL in path.parents else _load(path)
    try:
        yield
    finally:
        _yaml_loader._load_module_with_cache = theirs


def said(thing: object) -> str:
    """Return the name of a function or class, the same wherever its folder lies, another when its code is another."""
    name = f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"
    return name.rpartition("@")[2]


def _load(path: Path) -> ModuleType:
    importlib.invalidate_caches()  # the file may have been written a moment ago
    folder = quote(os.fsencode(path.parent), safe="").replace(".", "%2E")
    return importlib.import_module(f"{__name__}.{folder}@{_code(path.parent)}.{path.stem}")


def _code(folder: Path) -> str:
    files = sorted(path for pattern in DEPTH for path in folder.glob(pattern) if path.is_file())
    return content_hash([[str(path.relative_to(folder)), file_hash(path)] for path in files])


class Finder:
    """Finds the folders of task code, and what lies in them."""

    @classmethod
    def find_spec(
        cls, name: str, path: Iterable[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        parts = name.split(".")
        if parts[: len(HERE)] != HERE or "@" not in "".join(parts[len(HERE) :]):
            return None
        if len(parts) == len(HERE) + 1:
            return _folder(name, parts[-1])
        spec = PathFinder.find_spec(name, path)
        if spec and isinstance(spec.loader, SourceFileLoader):
            spec.loader = Loader(name, spec.origin)
        return spec


def _folder(name: str, called: str) -> ModuleSpec:
    place, _, code = called.partition("@")
    folder = Path(os.fsdecode(unquote_to_bytes(place)))
    if _code(folder) != code:
        raise Refusal(f"the code beside the tasks in {folder} is not what the suite was built with; build it again")
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return spec


class Loader(SourceFileLoader):
    """Runs a file whose imports see what lies beside it, and keeps no bytecode, which is known by its second alone."""

    def path_stats(self, path: str) -> Mapping:
        raise OSError

    def exec_module(self, module: ModuleType) -> None:
        package = ".".join(module.__name__.split(".")[: len(HERE) + 1])
        module.__dict__["__builtins__"] = vars(builtins) | {"__import__": partial(_import, package)}
        super().exec_module(module)


def _import(package: str, name: str, globals=None, locals=None, fromlist=(), level: int = 0) -> ModuleType:
    """Import as Python does; what only lies beside, from `package`."""
    if level == 0 and _beside(package, name.partition(".")[0]):
        return builtins.__import__(name, {"__package__": package}, None, fromlist, 1)
    return builtins.__import__(name, globals, locals, fromlist, level)


def _beside(package: str, root: str) -> bool:
    here = find_spec(f"{package}.{root}")
    if here is None:
        return False
    try:
        there = find_spec(root)
    except ValueError:  # a module without a spec: it is there
        return False
    return there is None or _place(here) == _place(there) is not None


def _place(spec: ModuleSpec) -> str | None:
    return spec.origin and os.path.realpath(spec.origin)


sys.meta_path.insert(0, Finder)
