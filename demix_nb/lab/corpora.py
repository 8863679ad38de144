"""Candidate datasets on disk: built once from the texts of every candidate, then loaded by whoever trains or scores.

Each candidate is read in an order decided by a seed, cleaned and split (`clean`), and turned into one array of tokens
and a set of held-out documents. One tokenizer serves all candidates (`tokenizer`); where it is kept, a candidate that
is added changes nothing for the others. Everything lies in one folder under a manifest of hashes, so that a folder is
either whole and as written, or refused. Corpora that are changed on purpose are in `variants`.

Source: DeMix (arXiv 2602.00747) 3 and appendix A.
"""

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import UInt
from tokenizers import Tokenizer

from demix_nb import documents, options, store
from demix_nb.lab import clean as cleaning
from demix_nb.lab import own
from demix_nb.lab import tokenizer as tokens
from demix_nb.lab.clean import REASONS, Cleaned, check_amount, clean, drop_leaks, size_of
from demix_nb.lab.families import assign_families
from demix_nb.lab.text import BUILTIN, SETS, Reader, origin
from demix_nb.parallel import fan_out
from demix_nb.store import Refusal

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "corpora.csv"
SAMPLE = 160  # characters of a candidate's text on its card
SHUFFLING = ""  # in the place of a candidate's name: the random stream of what picks among them


@dataclass(frozen=True)
class Corpora:
    """Candidate datasets on disk, ready to train and score on.

    `train`: one memory-mapped array of token ids per candidate, every document followed by the end-of-text token.
    `heldout`: documents that share no source with the training text. `families`: candidate → family. `key`: hash of
    text, tokenizer, families and general candidate. `contents`: file → hash, of all that was written but the table.
    `table` (index `candidate`): `family`; `read`, documents looked at; then how many were dropped as `generated`,
    `surplus` (beyond the source's share of the split), `short`, `characters`, `exact`, `near` (repeats) and `leak`
    (repeats a held-out document of another candidate); `train_documents`, `train_tokens` (with ends), `train_bytes`
    (UTF-8), `heldout_documents`, `heldout_tokens` (without ends), `heldout_bytes`; `tokens`, how many there are before
    cleaning and `megabytes`: bytes of all the text · train_tokens / train_bytes.
    """

    directory: Path
    key: str
    builtin: bool
    general: str
    families: dict[str, str]
    contents: dict[str, str] = field(repr=False)
    train: dict[str, UInt[np.ndarray, " tokens"]] = field(repr=False)
    heldout: dict[str, list[str]] = field(repr=False)
    table: pd.DataFrame = field(repr=False)

    @property
    def candidates(self) -> list[str]:
        return list(self.families)

    @property
    def cards(self) -> pd.DataFrame:
        """What each candidate is: family, bytes there are, of built-in ones their card, and how a held-out text begins.

        Bytes are those before cleaning.
        """
        there = self.table["tokens"] * self.table["train_bytes"] / self.table["train_tokens"]
        rows = {
            name: {"family": family, "MB": round(there[name] / 1e6, 1)}
            | (BUILTIN[name].card if self.builtin else {})
            | {"sample": " ".join(self.heldout[name][0].split())[:SAMPLE]}
            for name, family in self.families.items()
        }
        return pd.DataFrame.from_dict(rows, "index").rename_axis("candidate")

    def samples(self) -> "Figure":
        """Draw a document of each candidate, as it begins, beside how long its documents are."""
        from demix_nb.lab.samples import samples

        return samples(self)

    @property
    def streams(self) -> dict[str, int]:
        """Candidate → the number of its random stream, and that of SHUFFLING; one candidate more moves no other's."""
        return {name: int(store.content_hash(name), 16) for name in [*self.candidates, SHUFFLING]}

    def behind(self, names: Iterable[str]) -> list[object]:
        """Return what decides a training on these candidates alone, in our order: tokens, streams, the tokenizer."""
        numbers, kept = self.streams, set(names)
        texts = [[name, self.contents[f"train/{name}.npy"], numbers[name]] for name in self.candidates if name in kept]
        tokenizer = [self.contents[f"tokenizer/{name}"] for name in (tokens.FILE, tokens.SETTINGS)]
        return [tokenizer, texts, numbers[SHUFFLING]]

    @cached_property
    def tokenizer(self):
        """The shared tokenizer as a PreTrainedTokenizerFast; transformers is imported here only, text needs none."""
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast.from_pretrained(self.directory / "tokenizer")


def build(
    directory: str | Path,
    *,
    sources: str | Path = "builtin",
    families: str | Path | None = None,
    megabytes: float,
    vocab_size: int,
    heldout_kb: float,
    seed: int,
    general: str = "general",
    tokenizer: str | Path | None = None,
    n_jobs: int = 1,
) -> Corpora:
    """Make the candidate datasets under `directory`, or load them when they were made from the same inputs.

    `sources`: "builtin", "seven" (DeMix's roles among these), or a folder with a file or folder per candidate
    (`textfiles.texts`). `families`: a YAML file `candidate: family`; without it, the part of the name before
    `_` if that is general, math or code, else the whole name. `megabytes` (1e6 bytes) bounds each candidate's training
    text; `heldout_kb` (1e3 bytes) is held out of each on top. `general` names the candidate that recipes are diluted
    with. `tokenizer`: a folder with the one to keep, or a word of PRETRAINED; none: learnt from all candidates.

    Raises Refusal for sizes out of range, for missing, unreadable or too little text, for
    families that do not fit the candidates, a tokenizer that cannot be kept, and where the folder cannot be written.
    """
    options.check(megabytes=float(megabytes), vocab_size=vocab_size, heldout_kb=float(heldout_kb))
    directory, builtin = Path(directory), sources in SETS
    readers = {name: BUILTIN[name] for name in SETS[sources]} if builtin else own.readers(Path(sources))
    check_candidates(list(readers), general)
    kept = None if tokenizer is None else _kept(tokenizer, vocab_size)
    header = {"general": general, "families": assign_families(list(readers), families), "builtin": builtin}
    given = [header, megabytes, vocab_size, heldout_kb, seed, kept and kept.to_str()]
    inputs = store.content_hash(*given, _code(), origin() if builtin else own.origin(readers))
    if before := made(directory, inputs):
        return before
    sizes = own.sizes(readers, n_jobs=n_jobs)  # reads, and may refuse, all there is
    _clear(directory)
    cleaned = _cleaned(readers, megabytes * 1e6, heldout_kb * 1e3, seed, n_jobs)
    learnt = kept or tokens.learn({name: list(one.train) for name, one in cleaned.items()}, vocab_size)
    _write(directory, cleaned, sizes, learnt, header | {"inputs": inputs})
    return load(directory)


def _kept(tokenizer: str | Path, vocab_size: int) -> Tokenizer:
    from demix_nb.lab.real_base import pretrained  # here: it brings torch, and text needs none

    return tokens.kept(pretrained(tokenizer), vocab_size)


def _code() -> list[str]:
    """Return hashes of what makes corpora of texts."""
    return [store.file_hash(path) for path in (__file__, cleaning.__file__, tokens.__file__)]


def _cleaned(readers: Mapping[str, Reader], train: float, heldout: float, seed: int, n_jobs: int) -> dict[str, Cleaned]:
    """Return the documents of every candidate, cleaned side by side and without leaks; sizes are bytes."""
    calls = [(name, reader, {"heldout": heldout, "train": train}, seed) for name, reader in readers.items()]
    cleaned = dict(zip(readers, fan_out(_candidate, calls, n_jobs=n_jobs, ordered=True), strict=True))
    drop_leaks(cleaned)
    for name, candidate in cleaned.items():
        check_amount(name, candidate, heldout)
    return cleaned


def _candidate(name: str, reader: Reader, budget: Mapping[str, float], seed: int) -> Cleaned:
    order, places = np.random.default_rng([seed, *name.encode()]).spawn(2)
    return clean(reader(order), budget, rng=places)


def load(directory: str | Path) -> Corpora:
    """Load what `build` wrote; raises Refusal naming a file that is missing or whose content has changed."""
    directory = Path(directory)
    manifest = _manifest(directory)
    files, remedy = manifest["files"], f"delete {directory / 'corpora.json'} and build again"
    for name, expected in files.items():
        if not (directory / name).is_file():
            raise Refusal(f"{directory / name} is missing; {remedy}")
        if store.file_hash(directory / name) != expected:
            raise Refusal(f"{directory / name} is not what was written (its sha256 differs); {remedy}")
    names = manifest["families"]
    contents = {name: digest for name, digest in files.items() if name != TABLE}  # what was counted decides no model
    return Corpora(
        directory=directory,
        key=store.content_hash(contents, list(names.items()), manifest["general"]),
        builtin=manifest["builtin"],
        general=manifest["general"],
        families=names,
        contents=contents,
        train={name: np.load(directory / f"train/{name}.npy", mmap_mode="r") for name in names},
        heldout={name: list(documents.records(directory / f"heldout/{name}.jsonl")) for name in names},
        table=store.read(directory / TABLE, "corpora").astype({"tokens": int}),
    )


def made(directory: Path, inputs: str) -> Corpora | None:
    """Return the corpora that lie in `directory` if made from the same inputs; raises Refusal as `load`."""
    same = (directory / "corpora.json").exists() and _manifest(directory)["inputs"] == inputs
    return load(directory) if same else None


def _manifest(directory: Path) -> dict:
    try:
        return json.loads((directory / "corpora.json").read_text("utf-8"))
    except FileNotFoundError:
        remedy = "make them (`demix-nb run components`) or check the path"
        raise Refusal(f"no corpora under {directory}; {remedy}") from None
    except ValueError as error:
        raise Refusal(f"{directory / 'corpora.json'} is damaged ({error}); delete it and build again") from error


def _clear(directory: Path) -> None:
    """Make the folder ready to be written, and what is in it invalid; raises Refusal before any work is done."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
        (directory / "corpora.json").unlink(missing_ok=True)
    except OSError as error:
        raise Refusal(f"cannot write to {directory}: {error.strerror}; choose another folder") from error


def check_candidates(candidates: list[str], general: str) -> None:
    """Raise Refusal unless there are at least two candidates, none called `base`, and `general` is one of them."""
    if len(candidates) < 2:
        raise Refusal(f"only one candidate, {candidates[0]!r}: nothing to mix; give at least two files or folders")
    if "base" in candidates:
        raise Refusal("a candidate is called 'base', as the model that all components begin with is; rename it")
    if general not in candidates:
        choose = f"say which one the base is trained on, as in general={candidates[0]!r}"
        raise Refusal(f"no candidate {general!r} among {', '.join(candidates)}; {choose}")


# ---- files


def _write(
    directory: Path, cleaned: Mapping[str, Cleaned], given: Mapping[str, float], tokenizer: Tokenizer, header: dict
) -> None:
    rows, train = {}, {name: tokens.encode(tokenizer, candidate.train) for name, candidate in cleaned.items()}
    for name, candidate in cleaned.items():
        rows[name] = {"family": header["families"][name]}
        rows[name] |= {reason: candidate.counts[reason] for reason in ("read", *REASONS)}
        for split, texts in (("train", candidate.train), ("heldout", candidate.heldout)):
            rows[name] |= {f"{split}_documents": len(texts), f"{split}_bytes": size_of(texts)}
        heldout_tokens = len(tokens.encode(tokenizer, candidate.heldout)) - len(candidate.heldout)
        size = rows[name]["train_bytes"]
        there = round(len(train[name]) * given[name] / size)
        rows[name] |= {"train_tokens": len(train[name]), "tokens": there, "heldout_tokens": heldout_tokens}
    keep(
        directory,
        {tokens.SETTINGS: json.dumps(tokens.CONFIG), tokens.FILE: tokenizer.to_str()},
        pd.DataFrame.from_dict(rows, "index").rename_axis("candidate"),
        train,
        {name: list(candidate.heldout) for name, candidate in cleaned.items()},
        header,
    )


def keep(
    directory: Path,
    tokenizer: Mapping[str, str],
    table: pd.DataFrame,
    train: Mapping[str, np.ndarray],
    heldout: Mapping[str, Sequence[str]],
    header: dict,
) -> None:
    """Write everything that `load` reads; the manifest with the hashes of all files comes last and makes them valid.

    `tokenizer`: file name → text. `header`: inputs, general, families, builtin.
    """
    texts = {f"tokenizer/{name}": text for name, text in tokenizer.items()}
    for name, held in heldout.items():
        texts[f"heldout/{name}.jsonl"] = "".join(json.dumps({"text": text}) + "\n" for text in held)
    arrays = {f"train/{name}.npy": array for name, array in train.items()}
    for path, array in arrays.items():
        with store.atomic(directory / path) as temporary, open(temporary, "wb") as file:
            np.save(file, array)
    for path, text in texts.items():
        if (directory / path).is_file() and (directory / path).read_text("utf-8") == text:
            continue  # a tokenizer that is kept stays as old as it is
        with store.atomic(directory / path) as temporary:
            temporary.write_text(text, "utf-8")
    store.write(table, directory / TABLE, "corpora")
    files = {path: store.file_hash(directory / path) for path in [*arrays, *texts, TABLE]}
    with store.atomic(directory / "corpora.json") as temporary:
        temporary.write_text(json.dumps(header | {"files": files}, indent=1), "utf-8")
