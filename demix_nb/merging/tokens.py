"""Whether two folders' tokenizers do the same: equal words, equal merges, and the same ids for the same text.

The same tokenizer is written in many ways (merges as pairs or as strings, defaults left out or written out, other names
of the file that holds it), so files that differ are opened by transformers and tried: on every byte that text can
hold and on 2,000 texts put together from the tokenizer's own words, which no vocabulary holds as they are. Folders with
the same bytes are not opened at all. A word whose id lies beyond the rows of the embedding (a pad token that was added
without resizing) belongs to no model, so it may differ.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from demix_nb.merging.folders import read_config, read_json
from demix_nb.store import Refusal, content_hash, file_hash

VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
FILES = (*VOCABULARY, "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*")
TEXTS = 2000
SPELLINGS = ("", " ", "  two  spaces ", "a\nb\n\n\tc\r\n", "don't", "UPPER Lower", "3.14159 1,000,000")
SPELLINGS += (
    "x_y->z == C++;",
    "https://a.b/c?d=e&f",
    "caf\u00e9",
    "cafe\u0301",
    "\ufb01n \uff21",
    "\u0130stanbul \u00df",
)
SPELLINGS += ("\ud55c\uad6d\uc5b4 \u65e5\u672c\u8a9e", "\U0001f600\u200d\U0001f525", "\u0645\u0631\u062d\u0628\u0627")


def digest(directory: Path) -> str | None:
    """Content hash of the files that make a folder's tokenizer, 16 hex digits; None where it stores none."""
    if not any(path for pattern in VOCABULARY for path in directory.glob(pattern)):
        return None
    kept = sorted({path for pattern in FILES for path in directory.glob(pattern) if path.is_file()})
    config = read_json(directory / "config.json")  # where the files name no class, it chooses one
    return content_hash([(path.name, file_hash(path)) for path in kept], config.get("tokenizer_class"))


def open_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """A folder's tokenizer as transformers opens it. Raises Refusal where it cannot, or would have to run code."""
    return _opened(directory, digest(directory))


def difference(first: Path, other: Path) -> str | None:
    """Say in what two folders' tokenizers differ, None where they do the same. Raises Refusal for a damaged one."""
    ours, theirs = digest(first), digest(other)
    if ours == theirs:
        return None
    if ours is None or theirs is None:
        return f"{other if theirs is None else first} stores none"
    return _difference(ours, theirs, first, other)


def beyond(directory: Path) -> tuple[dict[str, int], bool]:
    """The words whose ids have no row in the embedding, and whether every text would be given one of them."""
    tokenizer, rows = open_tokenizer(directory), _rows(directory)
    words = {word: number for word, number in tokenizer.get_vocab().items() if number >= rows}
    return words, any(number >= rows for number in tokenizer("").input_ids)


_COMPARED: dict[tuple[str, str, int], str | None] = {}  # by content: a bank is opened for every study and worker


def _difference(ours: str, theirs: str, first: Path, other: Path) -> str | None:
    key = (ours, theirs, _rows(first))
    if key not in _COMPARED:
        _COMPARED[key] = _compare(_opened(first, ours), _opened(other, theirs), key[2])
    return _COMPARED[key]


@lru_cache(maxsize=2)
def _opened(directory: Path, _digest: str | None) -> PreTrainedTokenizerBase:
    """The digest is there for the cache alone: a rewritten tokenizer is opened again."""
    try:
        return AutoTokenizer.from_pretrained(directory, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # from nonsense the libraries below raise anything
        why = " ".join(str(error).split())[:200] or type(error).__name__
        told = f"{directory}: transformers cannot open its tokenizer ({why})"
        raise Refusal(f"{told}; copy or save the tokenizer again") from error


def _rows(directory: Path) -> int:
    """Rows of the embedding."""
    return read_config(directory).get_text_config().vocab_size


def _compare(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, rows: int) -> str | None:
    words, others = ({w: n for w, n in one.get_vocab().items() if n < rows} for one in (ours, theirs))
    if words != others:
        word = min(word for word, _ in words.items() ^ others.items())
        return f"the token {word!r} is {words.get(word, 'absent')} in one and {others.get(word, 'absent')} in the other"
    if _merges(ours) != _merges(theirs):
        return "their merges (or the scores of their pieces) are not the same"
    texts = [*_characters(), *SPELLINGS, *_texts(ours, words)]
    for text, a, b in zip(texts, ours(texts).input_ids, theirs(texts).input_ids, strict=True):
        if a != b:
            return f"{text!r} becomes {a} in one and {b} in the other"
    return None


def _merges(tokenizer: PreTrainedTokenizerBase) -> Any:
    """What decides between ways to cut a text, as tokenizers spells it: merges, or pieces' scores."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    model = json.loads(backend.to_str())["model"] if backend else {}
    pieces = model.get("vocab")
    return model.get("merges"), pieces if isinstance(pieces, list) else None


def _characters() -> Iterator[str]:
    """Characters whose UTF-8 takes every byte that can occur in text, alone and inside a word."""
    two, three, four = ((n << 6 for n in range(4, 32)), (n << 12 for n in range(1, 16)), (n << 18 for n in range(1, 5)))
    for character in map(chr, (*range(256), *two, 0x800, *three, 0x10000, *four)):
        yield from (character, f"a{character}b")


def _texts(tokenizer: PreTrainedTokenizerBase, words: dict[str, int]) -> Iterator[str]:
    """Texts of one to six words of a tokenizer, spaced, glued or as it joins them itself; always the same ones."""
    rng, words = np.random.default_rng(0), sorted(words, key=words.get)
    for count, how in zip(rng.integers(1, 7, TEXTS), rng.integers(0, 3, TEXTS), strict=True):
        chosen = [words[place] for place in rng.integers(len(words), size=count)]
        yield tokenizer.convert_tokens_to_string(chosen) if how == 2 else ("", " ")[how].join(chosen)
