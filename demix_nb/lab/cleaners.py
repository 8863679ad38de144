"""What takes bad documents out of candidates: repeats, odd perplexity, poor quality; a table of cleaners.

`CLEANERS` has a row for each: what it drops, whose it is, what it needs beside the documents, and the share that its
source drops. A cleaner gives every document a score, and says which it keeps; where it drops a share, it is that share
of each candidate, since code and prose differ more than good text and bad. `cleaned` makes corpora by one after
another and counts in their table what each dropped. Rules that judge a text by itself are in `clean`.

Sources: DeMix (arXiv 2602.00747) appendix A; perplexity by a small model: Perplexed by Perplexity (2405.20541). DeMix's
classifier is fastText's; ours is a logistic one on hashed words and pairs of words, as linear, of scikit-learn.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, PreTrainedModel

from demix_nb import store
from demix_nb.lab.clean import Sketches, sketch
from demix_nb.lab.corpora import Corpora, made
from demix_nb.lab.jobs import read_record
from demix_nb.lab.loop import PADDING, next_token_losses
from demix_nb.lab.variants import Document, documents, rewritten
from demix_nb.store import Refusal

ROWS = 32  # windows read at a time
HASHED = 2**18  # features; DeMix silent, fastText's default is 2·10⁶ buckets for larger texts
SHOWN = 20_000  # characters of a document that the classifier reads
WORDS = r"\w+|[^\w\s]"
ODDS = 10.0  # how far a document's words may decide alone: the inverse of the penalty on weights, paper silent
Scores = Float[np.ndarray, " document"]
Kept = Bool[np.ndarray, " document"]


@dataclass(frozen=True)
class Given:
    """What cleaners have beside the documents: the corpora these are of, and whatever a row `needs`.

    `reference`: a checkpoint of ours that reads them. `good`: texts that somebody called good.
    """

    corpora: Corpora
    reference: str | Path | None = None
    good: Sequence[str] = ()
    seed: int = 0

    @property
    def end(self) -> int:
        return self.corpora.tokenizer.eos_token_id

    def texts(self, found: Sequence[Document]) -> list[str]:
        """Return documents as text."""
        return self.corpora.tokenizer.batch_decode([text[text != self.end] for text in found])


Score = Callable[[Mapping[str, Sequence[Document]], Given], dict[str, Scores]]


@dataclass(frozen=True)
class Cleaner:
    """One cleaner. `score` judges the documents of all candidates, `keep` those of one by their scores and a share.

    `drop`: the share that its source drops; None where it drops what it finds. `needs`: fields of `Given`.
    """

    label: str
    paper: str
    score: Score
    keep: Callable[[Scores, float], Kept]
    drop: float | None = None
    needs: tuple[str, ...] = ()


def cleaned(
    corpora: Corpora,
    directory: str | Path,
    cleaners: Mapping[str, float | None],
    *,
    candidates: Sequence[str] | None = None,
    **given: object,
) -> Corpora:
    """Return the corpora without what the cleaners drop, made under `directory` unless they lie there already.

    `cleaners`: row of CLEANERS → share of each candidate's documents to drop, None for its source's; one after another,
    in this order. `candidates`: those cleaned, all by default. `given`: fields of `Given`. The table gains a column per
    cleaner, the documents it dropped.

    Raises Refusal for an unknown cleaner, one without what it needs or without a share where it drops one, a share
    outside [0, 1), and where the folder cannot be written.
    """
    shares, desk = {name: _share(name, drop) for name, drop in cleaners.items()}, Given(corpora, **given)
    check(cleaners, desk)
    names = list(corpora.candidates if candidates is None else candidates)
    model = read_record(desk.reference)["key"] if desk.reference else ""
    facts = [corpora.key, names, list(shares.items()), model, store.content_hash(list(desk.good)), desk.seed]
    inputs = store.content_hash("cleaned", store.file_hash(__file__), *facts)
    if (before := made(Path(directory), inputs)) is not None:
        return before
    texts = {name: documents(corpora.train[name], desk.end) for name in names}
    dropped = pd.DataFrame(0, index=names, columns=list(shares))
    for cleaner, share in shares.items():
        for name, kept in keeps(cleaner, texts, desk, drop=share).items():
            texts[name] = [text for text, keep in zip(texts[name], kept, strict=True) if keep]
            dropped.loc[name, cleaner] = int((~kept).sum())
    train = {name: np.concatenate(found) for name, found in texts.items()}
    return rewritten(corpora, directory, train, inputs=inputs, dropped=dropped)


def keeps(
    cleaner: str, texts: Mapping[str, Sequence[Document]], given: Given, *, drop: float | None = None
) -> dict[str, Kept]:
    """Return which documents of each candidate a cleaner keeps."""
    row = CLEANERS[cleaner]
    share = _share(cleaner, drop) or 0.0
    return {name: row.keep(scores, share) for name, scores in row.score(texts, given).items()}


def check(cleaners: Mapping[str, float | None] | Sequence[str], given: Given) -> None:
    """Raise Refusal for a cleaner that there is not, and for one without what it needs."""
    for name in cleaners:
        if name not in CLEANERS:
            raise Refusal(f"no cleaner {name!r}; there are {', '.join(CLEANERS)}")
        for need in CLEANERS[name].needs:
            if not getattr(given, need):
                raise Refusal(f"cleaner {name!r} needs {need}; give {need}=…, or leave the cleaner out")


def _share(name: str, drop: float | None) -> float | None:
    """Return the share that a cleaner is to drop, its source's where none is said."""
    row = CLEANERS.get(name)
    share = drop if drop is not None or row is None else row.drop
    if share is not None and not 0 <= share < 1:
        raise Refusal(f"drop is {share} for {name!r}; it is a share of the documents, at least 0 and below 1")
    return share


# ---- repeats


def repeats(texts: Mapping[str, Sequence[Document]], given: Given) -> dict[str, Scores]:
    """Return 1 for every document that repeats an earlier one of its candidate, exactly or nearly (MinHash), else 0."""
    return {name: _repeats(given.texts(found)) for name, found in texts.items()}


def _repeats(texts: Sequence[str]) -> Scores:
    known, seen, found = Sketches(), set(), np.zeros(len(texts))
    for number, text in enumerate(texts):
        if text in seen or known.near(mark := sketch(text)):
            found[number] = 1.0
        else:
            seen.add(text)
            known.add(mark)
    return found


def zero(scores: Scores, drop: float) -> Kept:
    """Return which documents to keep: those with nothing against them, however many."""
    return scores == 0


# ---- perplexity


def perplexity(texts: Mapping[str, Sequence[Document]], given: Given) -> dict[str, Scores]:
    """Return the perplexity of every document to the reference model."""
    model = AutoModelForCausalLM.from_pretrained(given.reference, dtype=torch.float32).eval()
    context = model.config.max_position_embeddings
    return {name: perplexities(model, found, given.end, context=context) for name, found in texts.items()}


def within_tails(perplexities: Scores, drop: float) -> Kept:
    """Return which documents to keep: all but the drop/2 of lowest and the drop/2 of highest perplexity.

    Raises Refusal for perplexities that are not finite.
    """
    if not np.isfinite(perplexities).all():
        raise Refusal("a document's perplexity is not finite; the model that reads them is broken, take another")
    order, tail = np.argsort(perplexities, kind="stable"), int(len(perplexities) * drop / 2)
    kept = np.ones(len(perplexities), dtype=bool)
    kept[order[:tail]] = kept[order[len(order) - tail :]] = False
    return kept


def perplexities(model: PreTrainedModel, texts: Sequence[Document], end: int, *, context: int) -> Scores:
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
    ids = [torch.from_numpy(row.astype(np.int64)) for row in rows]
    padded = pad_sequence(ids, batch_first=True, padding_value=PADDING)
    return next_token_losses(model, padded).sum(dim=1).double().cpu().numpy()


# ---- quality


def quality(texts: Mapping[str, Sequence[Document]], given: Given) -> dict[str, Scores]:
    """Return how much likelier each document is to be one called good than one drawn at random, in log odds.

    Drawn are as many as are called good, if there are, evenly from all candidates, and once from either half of the
    documents: each is judged by what was learnt without it, or those drawn would seem worse than others like them.
    """
    rng = np.random.default_rng(given.seed)
    orders = {name: rng.permutation(len(found)) for name, found in texts.items()}
    scores = {name: np.zeros(len(found)) for name, found in texts.items()}
    read = {name: given.texts(found) for name, found in texts.items()}
    for half in (0, 1):
        seen = {name: order[half::2][: -(-len(given.good) // len(texts))] for name, order in orders.items()}
        model = _fitted(given.good, [read[name][i] for name, places in seen.items() for i in places])
        for name, order in orders.items():
            asked = order[1 - half :: 2]
            scores[name][asked] = model.decision_function([read[name][i] for i in asked]) if len(asked) else 0.0
    return scores


def _fitted(good: Sequence[str], drawn: Sequence[str]) -> Pipeline:
    """Return a logistic classifier on hashed words and pairs of neighbours, marks and numbers among the words."""
    words = HashingVectorizer(n_features=HASHED, ngram_range=(1, 2), token_pattern=WORDS, preprocessor=_begin)
    model = make_pipeline(words, LogisticRegression(C=ODDS, class_weight="balanced", max_iter=500))
    return model.fit([*good, *drawn], np.r_[np.ones(len(good)), np.zeros(len(drawn))])


def _begin(text: str) -> str:
    return text[:SHOWN].lower()


def above_lowest(scores: Scores, drop: float) -> Kept:
    """Return which documents to keep: all but the share of lowest score."""
    kept = np.ones(len(scores), dtype=bool)
    kept[np.argsort(scores, kind="stable")[: int(len(scores) * drop)]] = False
    return kept


DEMIX, SMALL = "DeMix, arXiv 2602.00747, appendix A", "Perplexed by Perplexity, arXiv 2405.20541"

CLEANERS: dict[str, Cleaner] = {
    "repeats": Cleaner("deduplication", DEMIX, repeats, zero),
    "perplexity": Cleaner("perplexity filter", SMALL, perplexity, within_tails, 0.02, ("reference",)),
    "quality": Cleaner("quality classifier", DEMIX, quality, above_lowest, 0.03, ("good",)),
}
