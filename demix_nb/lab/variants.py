"""Candidate datasets changed on purpose: spoilt, repeated, scarce, divided, or rewritten in any other way.

What does a search make of bad text, of text without deduplication, of little text, of finer candidates? A variant is an
ordinary `Corpora` in a folder of its own with the tokenizer and the held-out documents of its origin, so that models
trained on either are scored alike. Functions on token arrays change one candidate's text, `rewritten` makes a variant
of that; `scarce` leaves some candidates little, `divided` cuts candidates into parts. What takes bad text out again is
in `cleaners`.

Source: finer partition is an ablation of DeMix (arXiv 2602.00747; Table 7). How it divides is not public; we cut along
the direction in which a candidate's documents differ most, or by topic (`clusters`).
"""

import inspect
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Integer, UInt
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer

from demix_nb import store
from demix_nb.lab.clean import size_of
from demix_nb.lab.corpora import Corpora, keep, load, made
from demix_nb.store import Refusal

Tokens = UInt[np.ndarray, "_"]  # of any number
Document = Integer[np.ndarray, "_"]  # tokens of any number, the last the end of text
Parts = dict[str, tuple[list[Document], list[str]]]  # part → its documents to train on, and those held out
POOL = 8  # documents that repeats are copies of: boilerplate is few texts, many times


def documents(tokens: Integer[np.ndarray, " n"], end: int) -> list[Document]:
    """Cut a token array after every end-of-text token."""
    return [part for part in np.split(np.asarray(tokens), np.flatnonzero(tokens == end) + 1) if len(part)]


# ---- one candidate's text, changed


def corrupted(
    tokens: UInt[np.ndarray, " tokens"], share: float, end: int, *, rng: np.random.Generator
) -> UInt[np.ndarray, " tokens"]:
    """Return the tokens with a random `share` of the documents shuffled word by word into nonsense.

    `end` is the token that closes a document; ends stay in place, so do the counts of every token.
    """
    _share(share, "share")
    noisy, stops = np.array(tokens), np.flatnonzero(np.asarray(tokens) == end)
    starts = np.concatenate([[0], stops[:-1] + 1])
    for document in rng.permutation(len(stops))[: round(share * len(stops))]:
        span = slice(starts[document], stops[document])
        noisy[span] = rng.permutation(noisy[span])
    return noisy


def repeated(tokens: Tokens, share: float, end: int, *, rng: np.random.Generator) -> Tokens:
    """Return about as many tokens, a `share` of them copies of a few of the documents, in random order.

    That is text as it comes before deduplication.
    """
    _share(share, "share")
    texts = documents(tokens, end)
    texts = [texts[i] for i in rng.permutation(len(texts))]
    sizes = np.cumsum([len(text) for text in texts])
    kept = texts[: max(int(np.searchsorted(sizes, (1 - share) * sizes[-1], side="right")), 1)]
    missing, copies = sizes[-1] - sum(map(len, kept)), []
    while missing > 0:
        copies.append(kept[len(copies) % min(POOL, len(kept))])
        missing -= len(copies[-1])
    mixed = [*kept, *copies]
    return np.concatenate([mixed[i] for i in rng.permutation(len(mixed))])


# ---- whole corpora


def rewritten(
    corpora: Corpora,
    directory: str | Path,
    tokens: Mapping[str, Tokens],
    *,
    inputs: str = "rewritten",
    there: Mapping[str, int] | None = None,
    dropped: pd.DataFrame | None = None,
) -> Corpora:
    """Return a copy of `corpora`, written whole under `directory`, in which some candidates have other training tokens.

    Tokenizer and held-out documents stay. `inputs` says what the tokens were made from, `there` how many there are of
    them where that is not as before, `dropped` (candidate × reason) which documents are gone: columns of the table.
    Raises Refusal for an unknown candidate or a folder that cannot be written.
    """
    _known(tokens, corpora)
    table, train = corpora.table.copy(), dict(corpora.train) | dict(tokens)
    for name, array in tokens.items():
        sizes = _sizes(corpora, name, documents(array, corpora.tokenizer.eos_token_id))
        sizes |= {"tokens": there[name]} if there else {}
        table.loc[name, list(sizes)] = list(sizes.values())
    if dropped is not None:
        table[list(dropped)] = dropped.reindex(table.index, fill_value=0)
    return _written(corpora, directory, table, train, corpora.heldout, inputs)


def scarce(corpora: Corpora, directory: str | Path, amounts: Mapping[str, int], *, rng: np.random.Generator) -> Corpora:
    """Return the corpora as if of the named candidates there were no more than so many tokens: documents at random.

    The last one is cut. Raises Refusal as `rewritten`, and for more tokens than there are, or fewer than 2.
    """
    _known(amounts, corpora)
    few, end = {}, corpora.tokenizer.eos_token_id
    for name, amount in amounts.items():
        texts, most = documents(corpora.train[name], end), len(corpora.train[name])
        if not 2 <= amount <= most:
            raise Refusal(f"{name!r} cannot have {amount} tokens; give a number from 2 to the {most} that there are")
        few[name] = np.concatenate([texts[i] for i in rng.permutation(len(texts))])[:amount]
    return rewritten(corpora, directory, few, there={name: len(tokens) for name, tokens in few.items()})


def in_order(corpora: Corpora, name: str, number: int) -> Parts:
    """Cut a candidate into `<candidate>-1`, `<candidate>-2`, … of equal tokens.

    Its documents are ordered along the first principal component of their TF-IDF token counts, and cut there; held-out
    documents are dealt out by the same component (a part may get none).
    """
    texts = documents(corpora.train[name], corpora.tokenizer.eos_token_id)
    unseen = corpora.heldout[name]
    counts = TfidfVectorizer(analyzer=list, sublinear_tf=True)
    component = PCA(1, svd_solver="full").fit(counts.fit_transform(texts).toarray())

    def place(tokens: Sequence) -> Float[np.ndarray, " document"]:
        return component.transform(counts.transform(tokens).toarray())[:, 0] if len(tokens) else np.empty(0)

    places = place(texts)
    order = np.argsort(places, kind="stable")
    read = np.cumsum([len(texts[i]) for i in order])
    middle = read - np.array([len(texts[i]) for i in order]) / 2  # a document goes where most of it lies
    owner = (middle * number / read[-1]).astype(int)
    starts = [places[order[owner == part][0]] for part in range(1, number)]
    taken = np.searchsorted(starts, place(corpora.tokenizer(unseen)["input_ids"]), side="right")
    return {
        f"{name}-{part + 1}": (
            [texts[i] for i in np.sort(order[owner == part])],
            [unseen[i] for i in np.flatnonzero(taken == part)],
        )
        for part in range(number)
    }


def divided(
    corpora: Corpora, directory: str | Path, parts: Mapping[str, int], cut: Callable[..., Parts] = in_order
) -> Corpora:
    """Return corpora in which the named candidates are cut into parts; column `part_of` says of what each is one.

    `cut(corpora, candidate, number)` returns part → its training and held-out documents; by default `in_order`. The
    general candidate stays whole, since every recipe is diluted with it. Made once: a folder made from the same text
    is loaded.

    Raises Refusal for an unknown candidate, the general one, fewer than 2 parts or more than documents, and where the
    folder cannot be written.
    """
    _known(parts, corpora)
    for name, number in parts.items():
        if name == corpora.general or not 2 <= number <= corpora.table.loc[name, "train_documents"]:
            raise Refusal(
                f"{name!r} cannot be cut into {number} parts: the general candidate stays whole, others have 2 parts "
                f"or more and at most one per document ({corpora.table.loc[name, 'train_documents']})"
            )
    code = [store.file_hash(path) for path in (__file__, inspect.getfile(cut))]
    inputs = store.content_hash("divided", cut.__qualname__, *code, corpora.key, dict(parts))
    if (before := made(Path(directory), inputs)) is not None:
        return before
    train, heldout, rows = {}, {}, {}
    for name in corpora.candidates:
        if name not in parts:
            train[name], heldout[name] = corpora.train[name], corpora.heldout[name]
            rows[name] = pd.Series(corpora.table.loc[name].to_dict() | {"part_of": name})
            continue
        for part, (texts, unseen) in cut(corpora, name, parts[name]).items():
            train[part], heldout[part] = np.concatenate(texts), unseen
            rows[part] = pd.Series(_row(corpora, name, texts, unseen) | {"part_of": name})
    table = pd.DataFrame(rows).T.infer_objects().rename_axis("candidate")
    return _written(corpora, directory, table, train, heldout, inputs)


def _row(corpora: Corpora, name: str, texts: Sequence[Document], unseen: Sequence[str]) -> dict[str, object]:
    """Return a part's row of the corpora table; what cleaning dropped is counted for the whole candidate only."""
    sizes = _sizes(corpora, name, texts)
    sizes |= {"heldout_documents": len(unseen), "heldout_bytes": size_of(unseen)}
    sizes["heldout_tokens"] = sum(map(len, corpora.tokenizer(unseen)["input_ids"])) if unseen else 0
    read = sizes["train_documents"] + sizes["heldout_documents"]
    return dict.fromkeys(corpora.table.columns, 0) | {"family": corpora.families[name], "read": read} | sizes


def _sizes(corpora: Corpora, name: str, texts: Sequence[Document]) -> dict[str, int]:
    """Return how much text of a candidate there is now; of what was given, the share that its training text keeps."""
    told = corpora.tokenizer.batch_decode([text[:-1] for text in texts])
    tokens, before = sum(map(len, texts)), corpora.table.loc[name]
    there = round(before["tokens"] * tokens / before["train_tokens"])
    return {"train_documents": len(texts), "train_tokens": tokens, "tokens": there, "train_bytes": size_of(told)}


def _share(value: float, name: str) -> None:
    if not 0 <= value <= 1:
        raise Refusal(f"{name} is {value}; it is a share of the documents, between 0 and 1")


def _known(named: Mapping[str, object], corpora: Corpora) -> None:
    if strangers := sorted(set(named) - set(corpora.candidates)):
        raise Refusal(f"no candidate {strangers[0]!r}; there are {', '.join(corpora.candidates)}")


def _written(
    origin: Corpora,
    directory: str | Path,
    table: pd.DataFrame,
    train: Mapping[str, Tokens],
    heldout: Mapping[str, Sequence[str]],
    inputs: str,
) -> Corpora:
    """Write a variant whole or not at all; one that lies there is replaced, anything else is left alone."""
    directory = Path(directory)
    tokenizer = {path.name: path.read_text("utf-8") for path in (origin.directory / "tokenizer").iterdir()}
    header = {"inputs": inputs, "general": origin.general, "families": table["family"].to_dict()}
    header |= {"builtin": origin.builtin}
    try:
        with store.atomic_folder(directory) as temporary:
            keep(temporary, tokenizer, table, train, heldout, header)
            if (directory / "corpora.json").is_file():
                shutil.rmtree(directory)
    except OSError as error:
        raise Refusal(f"cannot write {directory}: {error.strerror}; choose a new folder") from error
    return load(directory)
