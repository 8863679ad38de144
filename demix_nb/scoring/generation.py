"""Answers that a live model writes, the likeliest token at a time: prompts share forward passes, keys and values.

The text is that of `generate(do_sample=False)` on one prompt alone, cut as lm-eval cuts it. It is had sooner: equal
prompts are written once; what many prompts begin with (the examples shown) is read once, and its keys and values are
shared by all of them; a row that has ended makes room for the next prompt; and rows need no padding, for each has its
own length. `theirs` writes what is sampled, and on models whose past is more than keys and values seen by all.

Source: Juravsky et al., Hydragen, 3.1 (the attention of all rows to a shared beginning is one matrix product);
Gao et al., lm-evaluation-harness 0.4.13 (what a request asks for, and where a text is cut).
"""

import inspect
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from torch import nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from demix_nb.scoring.reader import WRITTEN, head_at, quiet
from demix_nb.scoring.slots import Slots, attending
from demix_nb.scoring.texts import AsLmEval, Once
from demix_nb.store import Refusal

READ = 2048  # tokens of prompts read in one forward pass
SEEN = 2**15  # tokens seen by them, which includes the shared ones once for each row
ALIKE = 64  # first tokens by which prompts that begin alike are known
REFILL = 8  # the part of the rows that must have ended before others are read
SAVED = 4096  # tokens that a shared beginning must save: its rows wait for no others, so the last of them run alone
OTHERWISE = ("attn_logit_softcapping", "kv_lora_rank")  # settings of attention that is not softmax over the keys kept
UNUSED = {"temperature", "top_p", "top_k"}  # of a request or a model, by one that does not sample
GREEDY = UNUSED | {"do_sample", "max_length", "use_cache", "output_attentions", "output_hidden_states"}
GREEDY |= {"bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "_from_model_config"}


class Prompt(NamedTuple):
    """What is to be continued, and until when."""

    tokens: tuple[int, ...]
    stops: tuple[str, ...]
    most: int  # tokens written at most


def written(model: PreTrainedModel, texts: Once, context: int, known: dict, requests: Sequence[Instance]) -> list[str]:
    """Return the text that the model writes for each request; `known` holds prompts' tokens for the next model.

    Raises Refusal where an answer may have as many tokens as the context.
    """
    with quiet():
        asked = [prompt(texts, context, known, *request.args[:2]) for request in requests]
    alone = lends_itself(model, context) and not _batched(texts, requests)
    ours = list(dict.fromkeys(each for each in asked if each)) if alone else []
    found = dict(zip(ours, Writer(model, texts.tokenizer).write(ours), strict=True)) if ours else {}
    left = [request for request, each in zip(requests, asked, strict=True) if each not in found]
    others = iter(_theirs(model, texts, context, known, left) if left else [])
    return [found[each] if each in found else next(others) for each in asked]


def _batched(texts: Once, requests: Sequence[Instance]) -> bool:
    """Whether a prompt's tokens are lm-eval's, and depend there on the first prompt of a batch."""
    if not isinstance(texts, AsLmEval) or not any(texts.around):
        return False
    begin = texts.tokenizer.decode(texts.prefix)
    return any(request.args[0][: len(begin)] == begin for request in requests)


def _theirs(model: PreTrainedModel, texts: Once, context: int, known: dict, requests: Sequence[Instance]) -> list[str]:
    from demix_nb.scoring.theirs import Generator  # seconds

    with quiet():
        return Generator(model, texts, context, known).generate_until(list(requests), disable_tqdm=True)


def prompt(texts: Once, context: int, known: dict, text: str, how: dict) -> Prompt | None:
    """Return what a request asks for, a prompt that is too long cut at its start; None where that is not greedy."""
    asked = normalize_gen_kwargs(how, WRITTEN)
    most, until, sampled = asked.pop("max_gen_toks"), asked.pop("until"), asked.pop("do_sample")
    if sampled or most < 1 or set(asked) - UNUSED:
        return None
    if most >= context:
        raise Refusal(f"a text may have {most} tokens, context is {context}: no prompt fits; lower `max_gen_toks`")
    if text not in known:
        known[text] = texts.prompt(text)
    tokenizer = texts.tokenizer
    ends = tokenizer.eos_token_id is not None and tokenizer.decode(tokenizer.eos_token_id)
    tokens = tuple(known[text][most - context :])
    return Prompt(tokens, tuple(handle_stop_sequences(until, ends or None)), most) if tokens else None


def lends_itself(model: nn.Module, context: int) -> bool:
    """Return whether the model's past is keys and values that all later tokens see, and its ways are plain greedy."""
    if not isinstance(model, PreTrainedModel) or not model.can_generate() or model._is_stateful:
        return False
    replaceable = model._supports_attention_backend and model._can_set_attn_implementation()
    if model.config.is_encoder_decoder or not replaceable or not _cache_name(model):
        return False
    layers, config = DynamicCache(config=model.config).layers, model.config.get_text_config(decoder=True)
    whole = [type(layer) is DynamicLayer or _sees(layer, context) for layer in layers]
    if len(whole) != config.num_hidden_layers or not all(whole):
        return False
    odd = any(getattr(config, name, None) for name in OTHERWISE)
    return not odd and not set(model.generation_config.to_diff_dict()) - GREEDY


def _sees(layer: object, context: int) -> bool:
    return type(layer) is DynamicSlidingWindowLayer and layer.sliding_window >= context


def _cache_name(model: PreTrainedModel) -> str | None:
    names = inspect.signature(model.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in names and "position_ids" in names), None)


def beginnings(prompts: Sequence[Prompt]) -> list[tuple[int, list[Prompt]]]:
    """Return groups of prompts, longest first, and how many tokens those of a group begin with alike."""
    alike, groups, rest = defaultdict(list), [], []
    for each in prompts:
        alike[each.tokens[:ALIKE]].append(each)
    for group in alike.values():
        tokens = [each.tokens for each in group]
        alone = min(map(len, tokens)) - 1  # a token of its own is left to each, which predicts the next
        shared = min(_alike(min(tokens), max(tokens)), alone)
        if shared * (len(group) - 1) >= SAVED:
            groups.append((shared, group))
        else:
            rest += group
    groups += [(0, rest)] if rest else []
    return [(shared, sorted(group, key=lambda each: -len(each.tokens))) for shared, group in groups]


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    size = min(len(one), len(other))
    return next((place for place in range(size) if one[place] != other[place]), size)


class Row:
    """A prompt and what has been written behind it."""

    def __init__(self, prompt: Prompt, shared: int, first: int) -> None:
        self.prompt, self.shared, self.tokens, self.ended = prompt, shared, [first], False

    @property
    def own(self) -> int:
        """How many tokens of its own a model has read: not the last one written."""
        return len(self.prompt.tokens) - self.shared + len(self.tokens) - 1


class Writer:
    """A model that writes behind prompts, as many at a time as memory holds."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer, self.cache = model, tokenizer, _cache_name(model)
        self.device = model.get_input_embeddings().weight.device
        ends = model.generation_config.eos_token_id
        self.ends = {ends} if isinstance(ends, int) else set(ends or ())
        self.lookback: dict[tuple[str, ...], int] = {}

    @torch.inference_mode()
    def write(self, prompts: Sequence[Prompt]) -> list[str]:
        """Return what is written behind each prompt, all of them different."""
        found: dict[Prompt, str] = {}
        for shared, group in beginnings(prompts):
            slots = Slots(self.model.config.get_text_config(decoder=True).num_hidden_layers)
            with attending(self.model, slots):
                for row in self._rows(slots, shared, group):
                    text = self.tokenizer.decode(row.tokens, skip_special_tokens=True)
                    found[row.prompt] = postprocess_generated_text(text, list(row.prompt.stops), None)
        return [found[each] for each in prompts]

    def _rows(self, slots: Slots, shared: int, prompts: list[Prompt]) -> Iterator[Row]:
        self._next(slots, [prompts[0].tokens[: max(1, shared)]], 0)
        longest = max(len(each.tokens) - shared + each.most for each in prompts)
        size = slots.share(shared, longest, len(prompts))
        waiting, rows = deque(prompts), []
        while waiting or rows:
            if waiting and (size - len(rows)) * REFILL >= size:
                rows += (new := self._read(slots, shared, waiting, size - len(rows)))
            else:
                slots.step(torch.tensor([row.own for row in rows], device=self.device))
                new = rows
                for row, token in zip(rows, self._next(slots, [row.tokens[-1:] for row in rows], shared), strict=True):
                    row.tokens.append(token)
            yield from self._leave(slots, rows, new)
            slots.filled, slots.own = len(rows), None

    def _read(self, slots: Slots, shared: int, waiting: deque[Prompt], free: int) -> list[Row]:
        """Read the next prompts, and return them with their first token each."""
        longest = len(waiting[0].tokens)
        count = max(1, min(free, READ // (longest - shared), SEEN // longest))
        prompts = [waiting.popleft() for _ in range(min(count, len(waiting)))]
        tokens = self._next(slots, [each.tokens[shared:] for each in prompts], shared)
        return [Row(each, shared, token) for each, token in zip(prompts, tokens, strict=True)]

    def _next(self, slots: Slots, read: Sequence[Sequence[int]], shared: int) -> list[int]:
        """Read tokens of each row, whatever stands behind a shorter one is not seen, and return the likeliest next."""
        width = max(map(len, read))
        ids = torch.tensor([[*tokens, *[0] * (width - len(tokens))] for tokens in read], device=self.device)
        start = torch.zeros(len(read), dtype=torch.int64, device=self.device) if slots.own is None else slots.own
        positions = shared + start[:, None] + torch.arange(width, device=self.device)
        rows, last = torch.arange(len(read), device=self.device), torch.tensor([len(tokens) - 1 for tokens in read])
        last = last.to(self.device)
        with head_at(self.model, rows, last):
            logits = self.model(ids, position_ids=positions, use_cache=True, **{self.cache: slots}).logits
        return (logits[rows, last] if logits.ndim == 3 else logits).argmax(-1).tolist()

    def _leave(self, slots: Slots, rows: list[Row], new: list[Row]) -> list[Row]:
        """Take rows that have ended from the slots, the last ones put in their places, and return them."""
        tails = self.tokenizer.batch_decode([row.tokens[-self._seen(row.prompt.stops) :] for row in new])
        for row, tail in zip(new, tails, strict=True):
            whole = len(row.tokens) == row.prompt.most or row.tokens[-1] in self.ends
            row.ended = whole or any(stop in tail for stop in row.prompt.stops)
        left = [row for row in rows if row.ended]
        for place in [place for place, row in enumerate(rows) if row.ended][::-1]:
            last = rows.pop()
            if place < len(rows):
                rows[place] = last
                for layer in slots.layers:
                    layer.take(len(rows), place, last.own)
        return left

    def _seen(self, stops: tuple[str, ...]) -> int:
        """Return how many of the last tokens a stop may be in: two more than its own, as lm-eval has it."""
        if stops not in self.lookback:
            encode = self.tokenizer.encode
            self.lookback[stops] = 2 + max((len(encode(stop, add_special_tokens=False)) for stop in stops), default=0)
        return self.lookback[stops]
