"""Families of small checkpoints made on the spot: one base and its components, for tests that merge."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import (
    AutoModelForCausalLM,
    DeepseekV4Config,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3MoeConfig,
)
from transformers.utils import logging

logging.disable_progress_bar()

ENDS = {"bos_token_id": 1, "eos_token_id": 2, "vocab_size": 64}
SIZES = ENDS | {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "num_key_value_heads": 1}
ARCHITECTURES = {
    "qwen3": lambda: Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True),
    "llama": lambda: LlamaConfig(**SIZES),
    "gpt2": lambda: GPT2Config(**ENDS, n_positions=32, n_embd=16, n_layer=2, n_head=2),
    "qwen3_moe": lambda: Qwen3MoeConfig(
        **SIZES, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8
    ),
    "mixtral": lambda: MixtralConfig(**SIZES, num_local_experts=4),
}


def hashed_routing() -> DeepseekV4Config:
    """An architecture that stores integer tensors: a table from token to expert."""
    heads = {"num_attention_heads": 2, "head_dim": 16, "q_lora_rank": 8, "o_groups": 2, "o_lora_rank": 8}
    index = {"index_n_heads": 2, "index_head_dim": 8, "index_topk": 4, "sliding_window": 16}
    experts = {"moe_intermediate_size": 16, "num_experts_per_tok": 2, "n_routed_experts": 4}
    return DeepseekV4Config(**ENDS, **heads, **index, **experts, hidden_size=32, num_hidden_layers=2)


def save_model(model, folder: Path, words: int = 64, **saving) -> Path:
    """Save a model with a word-level tokenizer of that many words."""
    model.save_pretrained(folder, **saving)
    vocabulary = {"[UNK]": 0, "w1": 1, "</s>": 2} | {f"w{number}": number for number in range(3, words)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>").save_pretrained(folder)
    return folder


TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
output_type: {kind}
test_split: test
doc_to_text: "{question}"
doc_to_target: "{answer}"
generation_kwargs: {{until: ["."], max_gen_toks: 1, do_sample: false}}
metric_list: [{{metric: {metric}, aggregation: {aggregation}, higher_is_better: {up}}}]
"""


def own_tasks(folder: Path, rows: list[dict[str, str]]) -> list[str]:
    """Write two lm-eval tasks on rows of `text` and the next `word`, one that generates it and one in bits per byte."""
    folder.mkdir()
    data = folder / "words.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    says = {"kind": "generate_until", "question": "{{text}}", "answer": "{{word}}", "metric": "exact_match"}
    bits = {"kind": "loglikelihood_rolling", "question": "", "answer": "{{text}}", "metric": "bits_per_byte"}
    says |= {"name": "say_word", "aggregation": "mean", "up": "true"}
    bits |= {"name": "word_bits", "aggregation": "bits_per_byte", "up": "false"}
    for task in (says, bits):
        (folder / f"{task['name']}.yaml").write_text(TASK.format(data=data, **task))
    return ["say_word", "word_bits"]


def family(
    folder: Path, config, *, names=("a", "b", "c"), dtype=torch.float32, drift=0.01, seed=0, **saving
) -> tuple[dict[str, Path], Path]:
    """Component name → folder, and the folder of their base; every weight of a component is the base's plus noise."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).to(dtype)
    for buffer in (tensor for tensor in model.state_dict().values() if not tensor.is_floating_point()):
        buffer.random_(0, 4)
    base = save_model(model, folder / "base", **saving)
    start = {name: tensor.clone() for name, tensor in model.named_parameters()}
    for name in names:
        with torch.no_grad():
            for key, tensor in model.named_parameters():
                tensor.copy_(start[key] + drift * torch.randn(tensor.shape))
        save_model(model, folder / name, **saving)
    return {name: folder / name for name in names}, base
