"""Written answers: the text of `generate` on each prompt alone, cut as lm-eval cuts, however prompts share passes."""

import numpy as np
import pytest
import torch
from fixtures_scoring import CONTEXT, sentence
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from demix_nb.scoring import generation, slots, theirs
from demix_nb.scoring.generation import Prompt, beginnings, lends_itself
from demix_nb.scoring.reader import LiveModel
from demix_nb.store import Refusal

SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}
LLAMA = {"intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128}
OURS = {  # architecture → what its config has beside the shape
    "qwen3": LLAMA,
    "llama": LLAMA,
    "gpt2": {},
    "gpt_neox": {"intermediate_size": 48},
    "phi3": LLAMA | {"pad_token_id": 0},
    "qwen3_moe": LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8},
    "mistral": LLAMA | {"sliding_window": CONTEXT},
}
THEIRS = {
    "mistral": LLAMA | {"sliding_window": CONTEXT - 1},
    "gemma2": LLAMA,
    "mamba": {"state_size": 4},
    "bloom": {},
    "deepseek_v3": {"q_lora_rank": 8, "kv_lora_rank": 8, "intermediate_size": 48, "first_k_dense_replace": 2},
}
PROMPTS = [sentence(i, 2 + 3 * i % 11) for i in range(9)] + [sentence(4, 60), "", "q"]
SHOWN = sentence(1, 9) + "\n\n"


def made(kind: str, tokenizer, changes: dict):
    torch.manual_seed(3)
    config = AutoConfig.for_model(kind, **SHAPE, vocab_size=len(tokenizer), eos_token_id=0, bos_token_id=0, **changes)
    return AutoModelForCausalLM.from_config(config).eval()


def asked(texts: list[str], **how) -> list[Instance]:
    return [Instance("generate_until", {}, (text, dict(how)), number) for number, text in enumerate(texts)]


def live(tokenizer, model, **how) -> LiveModel:
    found = LiveModel(tokenizer, CONTEXT, **how)
    found.model = model
    return found


def alone(tokenizer, model, requests: list[Instance]) -> list[str]:
    """Oracle: lm-eval's model, a prompt at a time."""
    with torch.no_grad():
        return HFLM(model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=1).generate_until(requests, True)


@pytest.fixture
def close(monkeypatch):
    """Beginnings are shared where there is anything to share, and rows are few, so that prompts wait for them."""
    for module, changes in {generation: {"ALIKE": 4, "SAVED": 1, "READ": 30}, slots: {"ROWS": 3}}.items():
        for name, value in changes.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture
def ours_only(monkeypatch):
    def refuse(*_):
        raise AssertionError("lm-eval's model was asked")

    monkeypatch.setattr(generation, "_theirs", refuse)


def texts_and_stops(tokenizer, model) -> tuple[list[str], list[str]]:
    """Prompts with and without what is shown, and stops cut out of what the model writes, inside its tokens."""
    texts = [SHOWN + text for text in PROMPTS[:9]] + PROMPTS
    texts = [text for text in texts if text] * 2
    whole = [text for text in alone(tokenizer, model, asked(texts, max_gen_toks=12)) if len(text) > 8]
    return texts, [whole[0][3:6], whole[-1][5:7]]


@pytest.mark.parametrize("kind", OURS)
def test_texts_are_those_of_each_prompt_alone(kind, tokenizer, close, ours_only):
    model = made(kind, tokenizer, OURS[kind])
    texts, stops = texts_and_stops(tokenizer, model)
    assert (
        lends_itself(model, CONTEXT) and len(beginnings([Prompt(tuple(tokenizer.encode(t)), (), 1) for t in texts])) > 1
    )
    before = model.config._attn_implementation
    for how in ({"max_gen_toks": 12}, {"until": stops, "max_new_tokens": 12}, {"until": stops[0], "max_gen_toks": 1}):
        requests = asked(texts, **how)
        found = live(tokenizer, model).generate_until(requests)
        assert found == alone(tokenizer, model, requests), how
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("as_lm_eval", [False, True])
def test_one_call_holds_requests_of_every_kind_and_equals_the_path_before(tokenizer, model, close, as_lm_eval):
    """Oracle: all of them through lm-eval's model, sixteen rows at a time; texts stop in all rows of its batches."""
    texts, stops = texts_and_stops(tokenizer, model)
    hows = [
        {"until": stops, "max_gen_toks": 9},
        {"until": [stops[1]], "max_tokens": 5, "temperature": 0.0, "top_p": 0.5},
    ]
    hows += [{"max_completion_tokens": 7, "do_sample": False, "temperature": 0.7}, {"max_gen_toks": 6, "num_beams": 3}]
    requests = [request for how in hows for request in asked(texts, **how)]
    ours = live(tokenizer, model, as_lm_eval=as_lm_eval)
    before = theirs.Generator(model, ours.texts, CONTEXT, {}).generate_until(requests, disable_tqdm=True)
    assert ours.generate_until(requests) == before
    known = {text: tokens for text, tokens in ours.prompts.items() if isinstance(text, str)}
    assert set(known) == set(texts), "kept for the next model"


def test_a_text_ends_at_any_eos_of_the_model(tokenizer, model, close, ours_only):
    """The oracle is `generate` itself, and what it writes before the eos."""
    ids = tokenizer.encode(PROMPTS[3])
    whole = model.generate(torch.tensor([ids]), max_new_tokens=10, do_sample=False)[0, len(ids) :].tolist()
    ends = [7, whole[4]]
    model.generation_config.eos_token_id = ends
    try:
        [found] = live(tokenizer, model).generate_until(asked([PROMPTS[3]], max_gen_toks=10))
        assert found == tokenizer.decode(whole[: whole.index(whole[4]) + 1])
        requests = asked(PROMPTS[:9], max_gen_toks=10)
        assert live(tokenizer, model).generate_until(requests) == alone(tokenizer, model, requests)
    finally:
        model.generation_config.eos_token_id = tokenizer.eos_token_id


def test_what_is_sampled_is_left_to_lm_eval(tokenizer, model):
    requests = asked(PROMPTS[:3], max_gen_toks=12, do_sample=True, temperature=1.5)
    ours = live(tokenizer, model)
    torch.manual_seed(0)
    found = ours.generate_until(requests)
    torch.manual_seed(0)
    assert found == theirs.Generator(model, ours.texts, CONTEXT, {}).generate_until(requests, disable_tqdm=True)
    torch.manual_seed(1)
    assert found != ours.generate_until(requests)


def test_other_pasts_and_other_ways_than_greedy_are_left_to_lm_eval(tokenizer, model):
    for kind, changes in THEIRS.items():
        assert not lends_itself(made(kind, tokenizer, changes), CONTEXT), kind
    small = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 32}
    assert not lends_itself(AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model("t5", **small)), CONTEXT)
    penal = made("qwen3", tokenizer, LLAMA)
    assert lends_itself(penal, CONTEXT)
    penal.generation_config.repetition_penalty = 1.3
    assert not lends_itself(penal, CONTEXT)
    requests = asked(PROMPTS[:4], max_gen_toks=12)
    found = live(tokenizer, penal).generate_until(requests)
    assert found == alone(tokenizer, penal, requests)
    penal.generation_config.repetition_penalty = 1.0
    assert found != live(tokenizer, penal).generate_until(requests)


def test_rows_are_as_many_as_memory_holds(tokenizer, model, monkeypatch, ours_only):
    """Two layers of two heads of 16 numbers of 4 bytes, keys and values: 512 bytes a token."""
    requests = asked(PROMPTS[:8], max_gen_toks=10)
    expected, seen = live(tokenizer, model).generate_until(requests), []
    longest = max(len(tokenizer.encode(text)) for text in PROMPTS[:8]) + 10
    share = slots.Slots.share
    monkeypatch.setattr(slots.Slots, "share", lambda *given: seen.append(share(*given)) or seen[-1])
    for free, rows in ((0, 1), (4 * 3 * longest * 512, 3), (4 * 3 * longest * 512 - 1, 2), (10**9, 8)):
        monkeypatch.setattr(slots, "_free_memory", lambda _, free=free: free)
        assert live(tokenizer, model).generate_until(requests) == expected and seen[-1] == rows


def test_a_shared_beginning_is_read_once_and_equal_prompts_once(tokenizer, model, monkeypatch, ours_only):
    read = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    texts, size = [SHOWN + text for text in PROMPTS[:9]], len(tokenizer.encode(SHOWN))
    try:
        sums = []
        for saved, many in ((1, 1), (10**9, 1), (1, 3)):
            monkeypatch.setattr(generation, "SAVED", saved)
            monkeypatch.setattr(generation, "ALIKE", 4)
            live(tokenizer, model).generate_until(asked(texts * many, max_gen_toks=1))
            sums.append(sum(read))
            read.clear()
    finally:
        hook.remove()
    shared = len(np.unique(texts)) - 1
    assert sums[1] - sums[0] >= shared * (size - 2) and sums[2] == sums[0]


def test_an_answer_as_long_as_the_context_is_refused(tokenizer, model):
    with pytest.raises(Refusal, match=f"may have {CONTEXT} tokens, context is {CONTEXT}: no prompt fits"):
        live(tokenizer, model).generate_until(asked(["fox"], max_gen_toks=CONTEXT))
