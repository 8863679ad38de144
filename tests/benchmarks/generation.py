"""Seconds and tokens of written answers: lm-eval's model, as before, beside our own, on the real base, in turns.

Run by hand: `python tests/benchmarks/generation.py [turns] [prompts] [threads] [cases]`, by default 3, 64, 2, and all;
a turn takes minutes. Prompts are sums in words, alone and behind eight examples with their reasoning, as GSM8K has
them; answers stop where lm-eval stops those of GSM8K, or at its 256 tokens; `fixed` has no stop, and 64 tokens. Tokens
are those of the texts given back, alike for both, so a ratio is one of seconds: wall, and in brackets the processor's,
which a busy machine disturbs less where there is one thread.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb.lab import real_base
from demix_nb.scoring.generation import _theirs, written
from demix_nb.scoring.texts import Once

NAMES, THINGS = "Tom Ana Lee Sara Omar Mia Jan Eva".split(), "apples books coins cards shells pens".split()
STOPS = {"until": ["Question:", "</s>", "<|im_end|>"], "do_sample": False}


def problem(draw: np.random.Generator) -> tuple[str, str]:
    one, other, thing = *draw.choice(NAMES, 2, replace=False), draw.choice(THINGS)
    has, more, gives = draw.integers(20, 60), draw.integers(2, 19), draw.integers(2, 15)
    text = f"{one} has {has} {thing} and buys {more} more. Then {one} gives {gives} of them to {other}, who lost some."
    asks = f"Question: {text} How many {thing} does {one} have in the end?\nAnswer:"
    whole = f" {one} has {has} + {more} = {has + more} {thing}. After giving {gives} away, {one} has "
    return asks, whole + f"{has + more} - {gives} = {has + more - gives}. #### {has + more - gives}\n\n"


def cases(prompts: int) -> dict[str, list[Instance]]:
    draw = np.random.default_rng(0)
    examples = "".join("".join(problem(draw)) for _ in range(8))
    asked = [problem(draw)[0] for _ in range(prompts)]
    fixed = {"until": [], "max_gen_toks": 64, "do_sample": False}
    texts = {
        "zero-shot": ("", STOPS),
        "few-shot": (examples, STOPS),
        "fixed": ("", fixed),
        "few-shot fixed": (examples, fixed),
    }
    return {
        name: [Instance("generate_until", {}, (before + each, dict(how)), i) for i, each in enumerate(asked)]
        for name, (before, how) in texts.items()
    }


def spent(work: Callable[[], list[str]]) -> tuple[list[str], tuple[float, float]]:
    start, processor = time.perf_counter(), time.process_time()
    texts = work()
    return texts, (time.perf_counter() - start, time.process_time() - processor)


def main(turns: int = 3, prompts: int = 64, threads: int = 2, names: str = "") -> None:
    torch.set_num_threads(threads)
    folder = real_base.prepare()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name, requests in cases(prompts).items():
        if names and name not in names.split(","):
            continue
        seconds, texts = {_theirs: [], written: []}, {}
        for _ in range(turns):
            for way, each in seconds.items():
                texts[way], took = spent(
                    lambda way=way, requests=requests: way(model, Once(tokenizer), 2048, {}, requests)
                )
                each.append(took)
        same = sum(one == other for one, other in zip(texts[_theirs], texts[written], strict=True))
        tokens = sum(len(tokenizer.encode(text)) for text in texts[written])
        before, after = (np.array(each) for each in seconds.values())
        rates = ", ".join(f"{tokens / np.median(each[:, 0]):.1f}" for each in (before, after))
        (least, _), (middle, processor), (most, _) = (of(before / after, axis=0) for of in (np.min, np.median, np.max))
        print(
            f"{name}: {same} of {prompts} texts alike, {tokens} tokens; {rates} tokens/s: {middle:.2f} times, "
            f"{least:.2f} to {most:.2f} ({processor:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]), *sys.argv[4:])
