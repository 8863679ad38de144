"""Which files hold which candidate's text: a folder as people keep it, with every file in it accounted for.

A file is text, or a mark beside text that is passed over, or it is refused by name: no text is lost in silence. Nothing
is opened but what is too small to be data (pointers that stand for a file). What the files hold is read in `documents`.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demix_nb.sheets import POINTERS
from demix_nb.store import Refusal

TEXT = re.compile(r"(.+?)(\.parquet|(\.txt|\.jsonl|\.ndjson|\.json)(\.gz|\.bz2|\.xz|\.zst)?)", re.I | re.S)
ENDINGS = ".txt, .jsonl, .parquet (also .json or .ndjson with an object per line, and .gz, .bz2, .xz or .zst behind)"
NOTES = (".yml", ".yaml", ".md")  # beside the candidates: families, a page about the data
SPLITS = ("train", "valid", "validation", "val", "dev", "test", "eval")  # beside `train`, not trained on
MARKS = ("_temporary", "_spark_metadata", "__MACOSX", "Thumbs.db", "desktop.ini")  # what programs leave behind
LAKES = {"_delta_log": "Delta", ".hoodie": "Hudi"}  # of these tables some files hold rows that were deleted since
POINTER_BYTES = 1024  # the most that a pointer has, Git LFS's specification
NUMBER = re.compile(r"(.+)-([0-9]+)", re.S)
NUMBER_OF = re.compile(r"(.*?)[-_.]?([0-9]+)[-_]of[-_]([0-9]+)(?:-[0-9a-f]{8,})?")  # some writers add a hash


def texts(folder: str | Path) -> dict[str, list[Path]]:
    """Return candidate → files of a folder of text, sorted: a file `<candidate>.<ending>` each, or a folder of files.

    Endings are ENDINGS, in small letters or capitals. A folder `train` inside is taken as the root, which is how
    RegMix's users keep `train/<candidate>-<number>`. Numbers at the end of files' names are those of one candidate's
    shards where they count up from 0 or 1 without gaps (a lone `news-0` or `news-1` is the candidate `news`), or where
    the file says so (`news-00000-of-00012`, all twelve must be there); other numbers are names (`CC-MAIN-2023-06`),
    and so are those of folders. Links are followed, and a file that a candidate reaches twice is read once. Passed over
    are hidden files, names that begin with `_` and have none of the endings (`_SUCCESS`), MARKS, and YAML and Markdown
    files beside the candidates.

    Raises Refusal naming what it cannot read: other endings, links to nowhere or back, pointers of Git LFS, missing
    shards, tables of a data lake, files in two forms; a file and a folder of one name (or names that differ in capitals
    only), a file that two candidates share, and text beside `train` other than SPLITS.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise Refusal(f"no folder {folder}; give one with a file or folder per candidate")
    root = folder / "train" if (folder / "train").is_dir() else folder
    with _readable():
        if root != folder:
            _check_alone(folder)
        found = _told_apart(_candidates(root))
    if not found:
        raise Refusal(f"no .txt, .jsonl, .parquet file in {root}; give one file or folder per candidate")
    return found


def named(places: Mapping[str, str | Path]) -> dict[str, list[Path]]:
    """Return candidate → files of text that lie anywhere, sorted: `places` names a file or a folder of files for each.

    Raises Refusal as `texts` does, and where there is nothing.
    """
    with _readable():
        return _told_apart((name, _of_one(name, Path(place))) for name, place in places.items())


def kind(path: Path) -> str:
    """Return the ending that says what a file of text holds, in small letters and without the packing behind it."""
    _, ending, unpacked, _ = TEXT.fullmatch(path.name).groups()
    return (unpacked or ending).lower()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Refusal(f"cannot read {error.filename}: {error.strerror}; make it readable or move it away") from error


def _of_one(name: str, place: Path, above: tuple[Path, ...] = ()) -> list[Path]:
    if not place.exists():
        raise Refusal(f"no {place}, which is named for candidate {name!r}; check the path")
    files = list(_inside(place, above)) if place.is_dir() else [*_stems([place]).values()]
    if not files:
        raise Refusal(f"candidate {name!r} is empty: no file in {place}")
    return files


def _check_alone(folder: Path) -> None:
    for path in _listed(folder):
        if path.name not in SPLITS and any(TEXT.fullmatch(one.name) for one in (path, *path.rglob("*"))):
            raise Refusal(f"{path} lies beside {folder / 'train'}, which is taken for all there is; move it in or away")


def _candidates(root: Path) -> Iterator[tuple[str, list[Path]]]:
    entries = list(_listed(root))
    for path in filter(Path.is_dir, entries):
        yield path.name, _of_one(path.name, path, (root.resolve(),))
    files = [path for path in entries if not path.is_dir()]
    yield from _series([path for path in files if path.suffix.lower() not in NOTES])


def _listed(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder, by name, but what is passed over everywhere."""
    for path in sorted(folder.iterdir()):
        if path.name in LAKES:
            raise Refusal(
                f"{folder} is a {LAKES[path.name]} table: not all of its files hold rows that are still there; "
                "export it as Parquet files"
            )
        if path.name.startswith(".") or path.name in MARKS:
            continue
        if path.name.startswith("_") and not path.is_dir() and not TEXT.fullmatch(path.name):
            continue
        if not path.exists():
            raise Refusal(f"{path} is a link to nowhere ({path.readlink()}); mend it or take it away")
        yield path


def _inside(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files of a candidate's folder and of those in it; `above`: where the way down has led through."""
    real = folder.resolve()
    if any(one.is_relative_to(real) for one in above):
        raise Refusal(f"{folder} leads back to {real}, which it lies in; take the link away")
    entries = list(_listed(folder))
    for _, files in _series([path for path in entries if not path.is_dir()]):
        yield from files
    for path in filter(Path.is_dir, entries):
        yield from _inside(path, (*above, real))


def _series(files: Iterable[Path]) -> Iterator[tuple[str, list[Path]]]:
    """Yield name and files of every candidate among the files of one folder; raises Refusal for a missing shard."""
    series: dict[tuple[str, int | None], dict[Path, int]] = {}
    for stem, path in _stems(files).items():
        if told := NUMBER_OF.fullmatch(stem):
            series.setdefault((told[1], int(told[3])), {})[path] = int(told[2])
        elif counted := NUMBER.fullmatch(stem):
            series.setdefault((counted[1], None), {})[path] = int(counted[2])
        else:
            yield stem, [path]
    for (name, total), numbers in series.items():
        ordered, found = sorted(numbers.values()), list(numbers)
        if total is not None:
            _check_whole(ordered, total, found[0])
        if total is not None or ordered in ([*range(len(found))], [*range(1, len(found) + 1)]):
            yield name, found
        else:
            yield from ((TEXT.fullmatch(path.name)[1], [path]) for path in found)


def _stems(files: Iterable[Path]) -> dict[str, Path]:
    """Return name without ending → file; raises Refusal for what is no text, and for text in two forms."""
    stems: dict[str, Path] = {}
    for path in files:
        if not path.is_file() or not (match := TEXT.fullmatch(path.name)):
            raise Refusal(f"cannot read {path}: use {ENDINGS}; convert it or move it away")
        if other := stems.get(match[1]):
            raise Refusal(f"{other} and {path.name} look like one text in two forms; keep one, or rename one")
        size, plain = path.stat().st_size, match[3] and not match[4]
        if not size and not plain:
            raise Refusal(f"{path} is damaged, it has no bytes at all; get it again, or move it away")
        if size < POINTER_BYTES and path.read_bytes().startswith(POINTERS):
            raise Refusal(f"{path} is a pointer to a file that was not fetched; run `git lfs pull` or `git annex get`")
        stems[match[1]] = path
    return stems


def _check_whole(numbers: list[int], total: int, example: Path) -> None:
    first = 1 if total in numbers else 0
    if missing := sorted(set(range(first, first + total)) - set(numbers)):
        raise Refusal(f"{example} is one of {total} shards, and number {missing[0]} is missing; get it, or rename them")
    if len(numbers) != total:
        raise Refusal(f"{example} is one of {total} shards, but there are {len(numbers)}; keep those of one writing")


def _told_apart(found: Iterable[tuple[str, list[Path]]]) -> dict[str, list[Path]]:
    """Return candidate → files by name; raises Refusal where two candidates have one name or one file."""
    names: dict[str, Path] = {}
    owners: dict[tuple[int, int], tuple[str, Path]] = {}
    candidates: dict[str, list[Path]] = {}
    for name, files in found:
        if not name or not name.isprintable() or name != name.strip():
            raise Refusal(f"{files[0]} gives the name {name!r} to a candidate; rename it, so that tables can hold it")
        key = unicodedata.normalize("NFC", name).casefold()
        if key in names:
            how = "capitals alone do not tell them apart; join them in one folder, or rename one"
            raise Refusal(f"{names[key]} and {files[0]} are both of candidate {name!r}: {how}")
        names[key] = files[0]
        for path in files:
            owner, first = owners.setdefault((path.stat().st_dev, path.stat().st_ino), (name, path))
            if owner != name:
                raise Refusal(f"{first} and {path} are one file, in candidates {owner!r} and {name!r}; keep one")
            if first is path:
                candidates.setdefault(name, []).append(path)
    return dict(sorted(candidates.items()))
