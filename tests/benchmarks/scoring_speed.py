"""Time of `Suite.measure` against the bare forward passes over the same tokens, in one run; prints one line per model.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/scoring_speed.py [suite …]`, default `nine`, 100 items per task.
Both sides are CPU seconds of one thread (the best of five), which a busy machine disturbs less than wall time. The bare
passes compute logits at every position, as `model(ids)` does, and nothing from them.
"""

import sys
import tempfile
import time
from collections.abc import Callable

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from demix_nb.lab import corpora
from demix_nb.scoring import Suite


def qwen(hidden: int, layers: int, vocabulary: int) -> Qwen3ForCausalLM:
    heads = {"num_attention_heads": hidden // 32, "num_key_value_heads": hidden // 32, "head_dim": 32}
    sizes = {"hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": layers}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=vocabulary, tie_word_embeddings=True, **heads, **sizes)).eval()


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = corpora.build(folder, megabytes=0.3, vocab_size=2048, heldout_kb=32, seed=0)
        suite = Suite.build(names, data.tokenizer, heldout=data, limit=100)
    batches = [batch for plan in suite.live.plans.values() for batch in plan.batches]
    for hidden, layers in ((64, 2), (128, 4)):
        model = qwen(hidden, layers, len(data.tokenizer))

        @torch.inference_mode()
        def bare(model: Qwen3ForCausalLM = model) -> None:
            for batch in batches:
                model(input_ids=batch.ids, use_cache=False)

        times = [(seconds(bare), seconds(lambda model=model: suite.measure(model))) for _ in range(5)]
        floor, whole = (min(column) for column in zip(*times, strict=True))
        tokens = sum(plan.tokens for plan in suite.live.plans.values())
        parameters = sum(value.numel() for value in model.parameters()) / 1e6
        print(
            f"{parameters:.2f}M  {tokens} tokens  bare {floor:.2f} s  measure {whole:.2f} s  ratio {whole / floor:.2f}"
        )


if __name__ == "__main__":
    main(sys.argv[1:] or ["nine"])
