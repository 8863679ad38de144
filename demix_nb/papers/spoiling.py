"""One candidate's text, spoilt on purpose and cleaned again: which variants a study of cleaners compares, and how much
of what was dropped was bad.

A text is shuffled word by word in a share of its documents, or most of it is made copies of a few. Every cleaner goes
over every text at the share that its source drops; where documents are shuffled, those that drop a share also at as
much as is bad. Models are trained on what is left where that differs by design: deduplication is left out where nothing
was copied.

Source of the cleaners: `lab.cleaners`. What is bad is known here, since it was made so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from demix_nb.lab import variants
from demix_nb.lab.cleaners import CLEANERS, Given, keeps
from demix_nb.lab.variants import Tokens, documents

SOUND = "as it is"
NONE = "none"  # in the place of a cleaner


@dataclass(frozen=True)
class Spoilt:
    """One candidate's tokens, and which of its documents are bad; `share` of them, where cleaners could be told."""

    tokens: Tokens
    bad: Bool[np.ndarray, " document"]
    share: float | None = None


def spoilings(
    text: Tokens, end: int, corruption: Sequence[float], copied: Sequence[float], *, rng: np.random.Generator
) -> dict[str, Spoilt]:
    """Return what the text is called → the text as it is, shuffled and repeated by the shares, and what is bad of it.

    Of copies all but the first are bad.
    """
    whole = documents(text, end)
    found = {SOUND: Spoilt(text, np.zeros(len(whole), bool))}
    for share in corruption:
        noisy = variants.corrupted(text, share, end, rng=rng)
        pairs = zip(whole, documents(noisy, end), strict=True)
        found[f"{share:.0%} shuffled"] = Spoilt(noisy, np.array([(one != other).any() for one, other in pairs]), share)
    for share in copied:
        messy = variants.repeated(text, share, end, rng=rng)
        keys = pd.Series([text.tobytes() for text in documents(messy, end)])
        found[f"{share:.0%} repeats"] = Spoilt(messy, keys.duplicated().to_numpy())
    return found


def differs(spoilt: Spoilt, cleaner: str) -> bool:
    """Whether models are trained on what a cleaner leaves of the text: what drops repeats needs some."""
    return CLEANERS[cleaner].drop is not None or (spoilt.share is None and bool(spoilt.bad.any()))


def drops(spoilt: Spoilt) -> Iterator[tuple[str, float | None]]:
    """Yield cleaner and share to drop: of every row its source's, and where it can be told as much as is bad."""
    for name, row in CLEANERS.items():
        yield name, row.drop
        if row.drop is not None and spoilt.share is not None:
            yield name, spoilt.share


def variants_of(texts: Mapping[str, Spoilt], given: Given, name: str) -> tuple[dict[tuple, Tokens], pd.DataFrame]:
    """Return the tokens of candidate `name` by (text, cleaner, share dropped), and what each cleaner dropped.

    The table, a row per text, cleaner and `drop`: `documents`, `bad` among them, `dropped`, `found` (bad ones among the
    dropped).
    """
    tokens, rows = {}, []
    for label, spoilt in texts.items():
        whole = documents(spoilt.tokens, given.end)
        tokens[label, NONE, 0.0] = spoilt.tokens
        for cleaner, drop in drops(spoilt):
            kept = keeps(cleaner, {name: whole}, given, drop=drop)[name]
            if differs(spoilt, cleaner):
                left = [text for text, keep in zip(whole, kept, strict=True) if keep]
                tokens[label, cleaner, drop or 0.0] = np.concatenate(left)
            counts = {"documents": len(whole), "bad": spoilt.bad.sum(), "dropped": (~kept).sum()}
            place = {"text": label, "cleaner": cleaner, "drop": drop or 0.0}
            rows.append(place | counts | {"found": (spoilt.bad & ~kept).sum()})
    return tokens, pd.DataFrame(rows)
