"""lm-eval's Hugging Face model around a live one, which does what `generation` leaves: samples, other models.

A worker that measures several proxies in a row tokenises for the first of them. A prompt begins once and does not end
(`texts`). A module of its own, because importing lm-eval's model takes seconds, which others do not need.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import PreTrainedModel

from demix_nb.scoring.texts import AsLmEval, Once

ROWS = 16  # prompts continued at a time


class Generator(HFLM):
    """lm-eval's model around a live one; `known` holds the tokens of prompts from one model to the next."""

    def __init__(self, model: PreTrainedModel, texts: Once, context: int, known: dict) -> None:
        self.known, self.texts = known, texts
        super().__init__(pretrained=model, tokenizer=texts.tokenizer, max_length=context, batch_size=ROWS)

    def tok_encode(self, string: str, *args, **options) -> list[int]:
        """Return the tokens of one prompt."""
        return self._once(super().tok_encode, string, args, options)

    def tok_batch_encode(self, strings: Sequence[str], *args, **options) -> tuple:
        """Return the padded tokens of a batch of prompts and their attention mask."""
        theirs = isinstance(self.texts, AsLmEval)
        return self._once(super().tok_batch_encode if theirs else self._padded, strings, args, options)

    def _padded(self, strings: Sequence[str], left_truncate_len: int, **_options) -> tuple[torch.Tensor, torch.Tensor]:
        rows = [self.texts.prompt(text)[-left_truncate_len:] for text in strings]
        width = max(map(len, rows))
        ids = [[self.tokenizer.pad_token_id] * (width - len(row)) + row for row in rows]
        mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
        return torch.tensor(ids), torch.tensor(mask)

    def _once(self, encode: Callable, text: str | Sequence[str], args: tuple, options: dict) -> Any:
        key = (text if isinstance(text, str) else tuple(text), args, tuple(sorted(options.items())))
        if key not in self.known:
            self.known[key] = encode(text, *args, **options)
        return self.known[key]
