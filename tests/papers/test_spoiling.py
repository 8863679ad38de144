"""Spoilt texts: what is called bad is what was made so, and what cleaners leave is what models are trained on."""

import numpy as np
import pytest

from demix_nb.lab.cleaners import CLEANERS, Given
from demix_nb.lab.variants import documents
from demix_nb.papers import spoiling


@pytest.fixture(scope="module")
def spoilt(small_data):
    text, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    return text, spoiling.spoilings(text, end, [0.5], [0.5], rng=np.random.default_rng(0))


def test_what_is_bad_is_what_was_changed(small_data, spoilt):
    text, made = spoilt
    end = small_data.tokenizer.eos_token_id
    whole = [one.tobytes() for one in documents(text, end)]
    assert list(made) == [spoiling.SOUND, "50% shuffled", "50% repeats"] and not made[spoiling.SOUND].bad.any()
    shuffled = made["50% shuffled"]
    same = np.array([one.tobytes() == old for one, old in zip(documents(shuffled.tokens, end), whole, strict=True)])
    assert (shuffled.bad == ~same).all() and shuffled.bad.mean() == pytest.approx(0.5, abs=0.01)
    repeats = documents(made["50% repeats"].tokens, end)
    assert len({text.tobytes() for text in repeats}) == (~made["50% repeats"].bad).sum()


def test_every_cleaner_is_counted_and_what_it_leaves_is_kept(small_data, spoilt, small_study):
    text, made = spoilt
    whole = documents(text, small_data.tokenizer.eos_token_id)
    good = small_data.tokenizer.batch_decode([one[:-1] for one in whole[:100]])
    tokens, counts = spoiling.variants_of(made, Given(small_data, small_study.file.base, good), "math")
    assert set(counts["cleaner"]) == set(CLEANERS) and set(counts["text"]) == set(made)
    assert (counts["found"] <= counts[["bad", "dropped"]].min(axis=1)).all()
    rows = counts.set_index(["text", "cleaner", "drop"])
    for (label, cleaner, drop), left in tokens.items():
        kept = len(documents(left, small_data.tokenizer.eos_token_id))
        gone = 0 if cleaner == spoiling.NONE else rows.loc[(label, cleaner, drop), "dropped"]
        assert kept == len(made[label].bad) - gone
    told = rows.loc[("50% repeats", "repeats", 0.0)]
    assert told["found"] == told["bad"] == told["dropped"], "copies, and nothing but copies"
    told = rows.loc[("50% shuffled", "quality", 0.5)]
    assert told["found"] > 0.8 * told["bad"], "of documents dropped blindly half would be bad"
    assert (spoiling.SOUND, "repeats", 0.0) not in tokens, "nothing was copied: it would be the same text again"
    assert len(tokens) == 3 + 5 + 4, "as the notebook's metadata count them"
