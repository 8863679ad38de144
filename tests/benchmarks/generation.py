"""Seconds and tokens of written answers: lm-eval's model, as before, beside our own, on the real base, in turns.

Run by hand: `python tests/benchmarks/generation.py [turns] [prompts]` (3 and 64; a turn takes minutes). Prompts are
sums in words, alone and behind eight examples with their reasoning, as GSM8K has them; answers stop at lm-eval's stops
for GSM8K or at 128 tokens. The two paths take turns on two threads; tokens are those of the texts given back, counted
alike for both, so the ratio is one of seconds. `fixed` has no stop: both write all of 64 tokens.
"""

import sys
import time

import numpy as np
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb.lab import real_base
from demix_nb.scoring.generation import _theirs, written
from demix_nb.scoring.texts import Once

NAMES, THINGS = "Tom Ana Lee Sara Omar Mia Jan Eva".split(), "apples books coins cards shells pens".split()
STOPS = {"until": ["Question:", "</s>", "<|im_end|>"], "max_gen_toks": 128, "do_sample": False}


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


def main(turns: int = 3, prompts: int = 64, names: str = "") -> None:
    torch.set_num_threads(2)
    folder = real_base.prepare()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for name, requests in cases(prompts).items():
        if names and name not in names.split(","):
            continue
        seconds, texts = {_theirs: [], written: []}, {}
        for _ in range(turns):
            for way, spent in seconds.items():
                start = time.perf_counter()
                texts[way] = way(model, Once(tokenizer), 2048, {}, requests)
                spent.append(time.perf_counter() - start)
        same = sum(one == other for one, other in zip(texts[_theirs], texts[written], strict=True))
        tokens = sum(len(tokenizer.encode(text)) for text in texts[written])
        before, after = (np.array(spent) for spent in seconds.values())
        ratio = before / after
        rates = ", ".join(f"{tokens / np.median(each):.1f}" for each in (before, after))
        spread = f"{np.median(ratio):.2f} times, {ratio.min():.2f} to {ratio.max():.2f}"
        print(f"{name}: {same} of {prompts} texts alike, {tokens} tokens; {rates} tokens/s: {spread}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]), *sys.argv[3:])
