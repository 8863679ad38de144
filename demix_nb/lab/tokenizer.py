"""The tokenizer of all candidates: one byte-level BPE that is learnt from each equally, or one that is kept.

A tokenizer decides every token, so with one learnt anew all models are others; with one that is kept, a candidate that
comes or goes changes nothing for the rest.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np
from jaxtyping import UInt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from demix_nb.lab.clean import size_of
from demix_nb.store import Refusal

FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
END = "<|endoftext|>"  # follows every document
CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": END}
AMOUNT = 1_000_000  # bytes of text of each candidate that it is learnt from


def learn(texts: Mapping[str, list[str]], vocab_size: int) -> Tokenizer:
    """Train byte-level BPE on as much text of one candidate as of another; a small one is read more than once."""
    tokenizer = Tokenizer(models.BPE())
    # single digits, as in Qwen's tokenizers: else arithmetic depends on which numbers happened to be frequent
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
    )
    amount = min(AMOUNT, max(map(size_of, texts.values())))
    tokenizer.train_from_iterator((text for name in texts for text in _first(texts[name], amount)), trainer)
    if (size := tokenizer.get_vocab_size()) != vocab_size:
        raise Refusal(f"vocab_size is {vocab_size}, but this text gives {size}; lower it or give more text")
    tokenizer.encode_special_tokens = True  # a document that spells the end-of-text token must not end there
    return tokenizer


def kept(folder: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer of a folder; raises Refusal where there is none of this size that knows END."""
    path = folder / FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing more special
        raise Refusal(f"{path} cannot be opened ({error}); name a folder such as corpora/tokenizer of a run") from error
    if (size := tokenizer.get_vocab_size()) != vocab_size:
        raise Refusal(f"{path} has {size} tokens, but vocab_size is {vocab_size}; say vocab_size={size}")
    if tokenizer.token_to_id(END) is None:
        raise Refusal(f"{path} has no token {END}, which closes documents; name the tokenizer of an earlier run")
    tokenizer.encode_special_tokens = True  # as in `learn`; a file does not say it
    return tokenizer


def _first(texts: list[str], amount: int) -> Iterator[str]:
    """Yield texts, from the start again where they run out, until `amount` bytes are reached."""
    for text in cycle(texts):
        if amount <= 0:
            return
        yield text
        amount -= len(text.encode())


def encode(tokenizer: Tokenizer, texts: Iterable[str]) -> UInt[np.ndarray, " tokens"]:
    """Return the token ids of the documents, each followed by the end-of-text token."""
    end = [tokenizer.token_to_id(END)]
    ids = [found.ids + end for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
    return np.concatenate(ids).astype(np.uint16 if tokenizer.get_vocab_size() <= 2**16 else np.uint32)
