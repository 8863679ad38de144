"""Prune every domain by perplexity: keep the documents that a small model finds neither too easy nor too hard.

What has an extremely low perplexity is boilerplate, what has an extremely high one is often no text at all. A small
reference model reads every training document once, and each domain loses both its tails; held-out text and tokenizer
stay as they are, so that scores before and after can be compared. The result is an ordinary `Corpora` in a new folder.

Sources: Perplexed by Perplexity (2405.20541), whose reference model is small like ours; DeMix (2602.00747) appendix A
drops about 2 % in this way. Tails are those of a domain: code and prose differ more than good text and bad.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from transformers import AutoModelForCausalLM, PreTrainedModel

from demix_nb import tables
from demix_nb.components import read_record
from demix_nb.corpora import Corpora, made
from demix_nb.variants import Document, documents, rewritten

DROP = 0.02  # share of the documents, both tails together, DeMix appendix A
ROWS = 32  # windows read at a time
IGNORED = -100  # label of padding, cross_entropy's default


def within_tails(perplexities: Float[np.ndarray, " document"], drop: float = DROP) -> Bool[np.ndarray, " document"]:
    """Return which documents to keep: all but the drop/2 of lowest and the drop/2 of highest perplexity.

    Raises ValueError for a share outside [0, 1) and for perplexities that are not finite.
    """
    if not 0 <= drop < 1 or not np.isfinite(perplexities).all():
        raise ValueError(f"drop is {drop} of {len(perplexities)} documents; it is a share in [0, 1) of finite values")
    order, tail = np.argsort(perplexities, kind="stable"), int(len(perplexities) * drop / 2)
    kept = np.ones(len(perplexities), dtype=bool)
    kept[order[:tail]] = kept[order[len(order) - tail :]] = False
    return kept


def perplexities(
    model: PreTrainedModel, texts: Sequence[Document], end: int, *, context: int
) -> Float[np.ndarray, " document"]:
    """Return exp(mean loss per token) of every document, read after an end-of-text token in windows of `context`."""
    windows = [(i, start) for i, text in enumerate(texts) for start in range(0, len(text), context)]
    windows.sort(key=lambda window: len(texts[window[0]]) - window[1])  # windows of one length share a batch
    total = np.zeros(len(texts))
    for first in range(0, len(windows), ROWS):
        chosen = windows[first : first + ROWS]
        rows = [np.r_[end, texts[i]][start : start + context + 1] for i, start in chosen]
        np.add.at(total, [i for i, _ in chosen], _losses(model, rows))
    return np.exp(total / np.array([len(text) for text in texts]))


@torch.no_grad()
def _losses(model: PreTrainedModel, rows: Sequence[Document]) -> Float[np.ndarray, " row"]:
    """Return the summed loss (nats) of each row's tokens but the first."""
    padded = torch.full((len(rows), max(map(len, rows))), IGNORED)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.from_numpy(row.astype(np.int64))
    padded = padded.to(model.device)
    logits = model(input_ids=padded[:, :-1].clamp(min=0), use_cache=False).logits  # padding follows: nobody sees it
    losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), padded[:, 1:].flatten(), reduction="none")
    return losses.view(len(rows), -1).sum(dim=1).double().cpu().numpy()


def prune(corpora: Corpora, reference: Path, directory: Path, *, drop: float = DROP) -> Corpora:
    """Return the corpora without the tails of each domain, made under `directory` unless they lie there already.

    `reference` is a checkpoint of ours that reads the documents. `table` gains a column `perplexity`, the documents
    dropped. Raises TrainingError for a checkpoint without record, CorpusError where the folder cannot be written.
    """
    inputs = tables.content_hash("pruned", corpora.key, read_record(reference)["key"], drop)
    if (before := made(directory, inputs)) is not None:
        return before
    model = AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32).eval()
    kept = {name: np.concatenate(_kept(model, corpora, name, drop)) for name in corpora.domains}
    return rewritten(corpora, directory, kept, inputs=inputs, reason="perplexity")


def _kept(model: PreTrainedModel, corpora: Corpora, name: str, drop: float) -> list[Document]:
    end = corpora.tokenizer.eos_token_id
    texts = documents(corpora.train[name], end)
    found = perplexities(model, texts, end, context=model.config.max_position_embeddings)
    return [text for text, keep in zip(texts, within_tails(found, drop), strict=True) if keep]
