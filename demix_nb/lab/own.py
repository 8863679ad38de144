"""Candidates from files of your own: all their text is read (`documents`), counted, and handed on in random order.

How much text a candidate has is counted over all of it, however little of it is then taken.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import getsourcefile
from operator import methodcaller
from pathlib import Path

import numpy as np

from demix_nb import documents, store, textfiles
from demix_nb.lab.text import Candidate, pieces, shuffled
from demix_nb.parallel import fan_out

FEW_FILES = 160  # a candidate with fewer .txt files is divided by piece: whole files held out would eat a tenth of it
AT_ONCE = 500_000_000  # bytes of one candidate's files that are read and shuffled together


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


def sizes(readers: Mapping[str, Files | Candidate], *, n_jobs: int) -> dict[str, float]:
    """Return candidate → UTF-8 bytes of all its text, of files or built-in."""
    calls = [(reader,) for reader in readers.values()]
    return dict(zip(readers, fan_out(methodcaller("size"), calls, n_jobs=n_jobs, ordered=True), strict=True))


def origin(own: Mapping[str, Files]) -> list:
    """Return what the texts depend on, to be hashed: the content of all files, and the code that reads them."""
    code = [store.file_hash(path) for path in (__file__, documents.__file__, textfiles.__file__, getsourcefile(pieces))]
    return [code, [[name, [store.file_hash(file) for file in files.paths]] for name, files in own.items()]]


def _texts(file: Path, cut: bool) -> Iterable[str]:
    found = documents.in_file(file)
    return (piece for text in found for piece in pieces(text)) if cut and textfiles.kind(file) == ".txt" else found
