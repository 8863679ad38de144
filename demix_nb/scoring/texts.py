"""From a text to its tokens and to those that stand before it: a beginning is given once, an end never.

Some tokenizers put tokens of their own around a text: `<s>` before it (Llama), `</s>` behind it, nothing (GPT-2). What
is put before is what the text's first token is predicted from: it stands there once, whatever the text itself begins
with, and is not scored. What is put behind is left out, for it says that the text is over. Where nothing is put before,
a text without context begins with bos, or else eos.

Source: Gao et al., lm-evaluation-harness 0.4.13, whose Hugging Face model predicts a rolled document's bos from another
bos, and closes every context where the tokenizer ends texts; `AsLmEval` gives its numbers.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import islice

from transformers import PreTrainedTokenizerBase

from demix_nb.store import Refusal

PROBES = 1000  # tokens looked at, at most, for one that shows what is put around it


class Once:
    """The tokens of texts, a beginning given once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer

    def pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        """Return the tokens of context and continuation, and how many of them belong to the continuation.

        Blanks at the end of the context count as the continuation's.
        """
        whole, said = self._plain(context + continuation), context.rstrip()
        if before := len(self._plain(said)) if said else 0:
            return _begun(self.around[0], whole), len(whole) - before
        tokens = _begun(self.start, whole)
        return tokens, len(tokens) - len(self.start)

    def document(self, text: str) -> tuple[list[int], list[int]]:
        """Return what stands before a document, at least one token, and the document's tokens."""
        return self.start, _begun(self.start, self._plain(text))[len(self.start) :]

    def prompt(self, text: str) -> list[int]:
        """Return the tokens of a text that is to be continued."""
        return _begun(self.around[0], self._plain(text)) or self.start

    @cached_property
    def around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before a text and behind it, found by encoding one with and without."""
        for text in _probes(self.tokenizer):
            bare, full = self._plain(text), self.tokenizer.encode(text)
            places = [place for place in range(len(full)) if full[place : place + len(bare)] == bare]
            if bare and len(places) == 1:
                return full[: places[0]], full[places[0] + len(bare) :]
        raise Refusal("what the tokenizer puts around a text cannot be told from the text; mend its post-processor")

    @property
    def start(self) -> list[int]:
        """What stands before a text without context."""
        return self.around[0] or [self.prefix]

    @property
    def prefix(self) -> int:
        """The token that begins a text where the tokenizer puts none before it."""
        for token in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id):
            if token is not None:
                return token
        raise Refusal("the tokenizer has neither a bos nor an eos token to start a document with; set one")

    @property
    def facts(self) -> list:
        """What tells these tokens from those of a tokenizer that puts nothing around a text: empty for such a one."""
        return [type(self).__name__, *self.around] if any(self.around) else []

    def _plain(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)


class AsLmEval(Once):
    """The tokens that lm-eval 0.4.13's Hugging Face model scores, its second bos and its ends included."""

    def pair(self, context: str, continuation: str) -> tuple[list[int], int]:
        before = self._encode(context.rstrip()) if context else []
        if not before:
            return super().pair(context, continuation)
        answer = self._encode(context + continuation)[len(before) :]
        return before + answer, len(answer)

    def document(self, text: str) -> tuple[list[int], list[int]]:
        return self.start, self._encode(text)

    def prompt(self, text: str) -> list[int]:
        return self._encode(text)

    @property
    def start(self) -> list[int]:
        return [self.prefix]

    def _encode(self, text: str) -> list[int]:
        begin = self.tokenizer.decode(self.prefix)
        return self._plain(text) if text[: len(begin)] == begin else self.tokenizer.encode(text)


def _begun(start: Sequence[int], tokens: Sequence[int]) -> list[int]:
    return list(tokens) if list(tokens[: len(start)]) == list(start) else [*start, *tokens]


def _probes(tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    yield "a"
    yield from (tokenizer.decode([token]) for token in islice(range(len(tokenizer)), PROBES))
