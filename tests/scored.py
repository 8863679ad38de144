"""A tiny tokenizer, model, corpora and benchmarks, for the tests of whatever scores."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from demix_nb import benchmarks
from demix_nb.corpora import Corpora

CONTEXT = 48
WORDS = "the red fox sees twelve small birds near seven old trees and counts green leaves on four long branches".split()


def sentence(start: int, size: int) -> str:
    return " ".join(WORDS[(start * 7 + i * 3) % len(WORDS)] for i in range(size))


def question(i: int, gold: int = 0, choices: tuple[str, ...] = (), long: int = 0) -> dict:
    """An item in the form of benchmarks.documents; every fifth question is too long for the context."""
    text = f"Question {i}: {sentence(i, 60 if i % 5 == 4 else 8)}\nAnswer:"
    return {
        "question": text,
        "answer": " " + sentence(i + 1, long or 3 + i % 4),
        "choices": list(choices),
        "gold": gold,
    }


@contextmanager
def cached(folder: Path) -> Iterator[Path]:
    """A cache folder that already holds small benchmarks, so that nothing is downloaded."""
    items = {
        "arc_easy": [question(i, i % 3, tuple(sentence(i + k, 2 + k) for k in range(3))) for i in range(12)],
        "gsm8k": [question(i) for i in range(3, 18)],
        "humaneval": [question(i, long=200 if i % 4 == 0 else 0) for i in range(12)],
        "winogrande": [
            question(i, i % 2) | {"choices": [f"{sentence(i, 4)} {name}" for name in ("fox", "birds")]}
            for i in range(8)
        ],
    }
    for name, rows in items.items():
        path = folder / f"benchmarks-{benchmarks.VERSION}-{benchmarks.SHA256[:8]}" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in benchmarks.minimal_pairs(rows)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEMIX_NB_CACHE", str(folder))
        yield folder


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([sentence(i, 30) for i in range(20)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|end|>")


def tiny(tokenizer, seed: int = 0, **changes) -> Qwen3ForCausalLM:
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "head_dim": 16,
        "initializer_range": 0.2,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "tie_word_embeddings": True}
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 128}
    return Qwen3ForCausalLM(Qwen3Config(**(shape | heads | sizes | changes))).eval()


def small_corpora(folder: Path) -> Corpora:
    heldout = {"tales": [sentence(i, 20 + 60 * i) for i in range(4)], "sums": ["1 + 1 = 2", "12 birds"]}
    families = {"tales": "general", "sums": "math"}
    return Corpora(folder, "key", "tales", families, {}, heldout, pd.DataFrame())


NAMES = ["arc_easy_bpb", "gsm8k_bpb", "arc_easy_minpair", "arc_easy_acc", "winogrande_acc", "winogrande_bpb", "heldout"]
