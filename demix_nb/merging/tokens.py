"""Whether two folders' tokenizers do the same: equal words, equal merges, and the same ids for the same text.

The same tokenizer is written in many ways (merges as pairs or as strings, defaults left out or written out, other names
of the file that holds it), so files that differ are opened by transformers and tried: on every byte that text can
hold and on 2,000 texts put together from the tokenizer's own words, in capitals, with accents, between spaces. Folders
with the same bytes are not opened at all. A word whose id lies beyond the rows of the embedding (a pad token that was
added without resizing) belongs to no model, so it may differ.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from demix_nb.merging.folders import built_by_transformers, read_config, read_json
from demix_nb.store import Refusal, content_hash, file_hash

VOCABULARY = ("tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "*.model", "*.tiktoken", "tekken.json")
FILES = (*VOCABULARY, "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*")
TEXTS = 2000
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
SPELT = (  # what normalizers and pre-tokenizers take away, put between, or cut at
    str, str, str, str.upper, str.lower, str.title, lambda text: text.translate(FULL_WIDTH),
    lambda text: f"{text[:1]}\u0301{text[1:]}", lambda text: f"{text[:2]}\u200b\x07{text[2:]}",
    lambda text: f"  {text.replace(' ', '  ')} ", lambda text: f"\t({text}, {text}.)\n",
    lambda text: f"{text}'s 1{text}",
)  # fmt: skip


def digest(directory: Path) -> str | None:
    """Content hash of the files that make a folder's tokenizer, 16 hex digits; None where it stores none."""
    if not any(path for pattern in VOCABULARY for path in directory.glob(pattern)):
        return None
    kept = sorted({path for pattern in FILES for path in directory.glob(pattern) if path.is_file()})
    config = read_json(directory / "config.json")  # where the files name no class, these two choose one
    chosen = [config.get("tokenizer_class"), config.get("model_type")]
    return content_hash([(path.name, file_hash(path)) for path in kept], chosen)


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


def beyond(directory: Path, rows: int) -> tuple[dict[str, int], bool]:
    """The words whose ids have no row among those of an embedding, and whether every text would be given one."""
    tokenizer = open_tokenizer(directory)
    words = {word: number for word, number in tokenizer.get_vocab().items() if number >= rows}
    return words, any(number >= rows for number in tokenizer("").input_ids)


def rows_of(directory: Path) -> int:
    """Rows of a folder's embedding. Raises Refusal where transformers does not know its configuration."""
    with built_by_transformers(directory):
        return read_config(directory).get_text_config().vocab_size


_COMPARED: dict[tuple[str, str, int], str | None] = {}  # by content: a bank is opened for every study and worker


def _difference(ours: str, theirs: str, first: Path, other: Path) -> str | None:
    key = (ours, theirs, rows_of(first))
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


def _compare(ours: PreTrainedTokenizerBase, theirs: PreTrainedTokenizerBase, rows: int) -> str | None:
    words, others = ({w: n for w, n in one.get_vocab().items() if n < rows} for one in (ours, theirs))
    if words != others:
        word = min(word for word, _ in words.items() ^ others.items())
        return f"the token {word!r} is {words.get(word, 'absent')} in one and {others.get(word, 'absent')} in the other"
    if _merges(ours) != _merges(theirs):
        return "their merges (or the scores of their pieces) are not the same"
    texts = ["", *_characters(), *_texts(ours, words)]
    for text, a, b in zip(texts, _encoded(ours, texts), _encoded(theirs, texts), strict=True):
        if a != b:
            return f"{text!r} becomes {a} in one and {b} in the other"
    return None


def _encoded(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[Any]:
    """The ids of every text; where one cannot be encoded (a tokenizer without a token for the unknown), why."""
    try:
        return tokenizer(texts).input_ids
    except Exception as error:
        return [str(error)] if len(texts) == 1 else [_encoded(tokenizer, [text])[0] for text in texts]


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
    """Texts of one to six words of a tokenizer, joined and then spelt in some way; always the same ones."""
    rng, words = np.random.default_rng(0), sorted(words, key=words.get)
    joined = ("".join, " ".join, tokenizer.convert_tokens_to_string)
    shape = (TEXTS * bool(words), 3)
    for count, join, spelt in rng.integers([1, 0, 0], [7, len(joined), len(SPELT)], shape):
        yield SPELT[spelt](joined[join]([words[place] for place in rng.integers(len(words), size=count)]))
