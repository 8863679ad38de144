"""Variants of corpora: what is changed changes, all else stays."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.lab import variants
from demix_nb.lab.corpora import load
from demix_nb.lab.jobs import Architecture, Job
from demix_nb.lab.train import train
from demix_nb.lab.variants import documents
from demix_nb.store import Refusal

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


def test_documents_are_cut_after_their_ends(small_data):
    tokens, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    cut = documents(tokens, end)
    assert np.array_equal(np.concatenate(cut), tokens) and len(cut) == small_data.table.loc["math", "train_documents"]
    assert all(text[-1] == end and (text[:-1] != end).all() for text in cut)


def test_rewritten_corpora_differ_in_the_named_tokens_alone(small_data, tmp_path):
    doubled = np.concatenate([small_data.train["math"]] * 2)
    other = variants.rewritten(small_data, tmp_path / "other", {"math": doubled})
    assert (other.train["math"] == doubled).all() and (other.train["code"] == small_data.train["code"]).all()
    assert other.heldout == small_data.heldout and other.key != small_data.key
    assert other.table.loc["math", "train_tokens"] == len(doubled)
    with pytest.raises(Refusal, match="'poetry'"):
        variants.rewritten(small_data, tmp_path / "none", {"poetry": doubled})
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_corruption_shuffles_a_share_of_documents_and_nothing_else(small_data, rng, share):
    tokens, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    noisy = variants.corrupted(tokens, share, end, rng=rng)
    assert (np.sort(noisy) == np.sort(tokens)).all()
    assert ((noisy == end) == (np.asarray(tokens) == end)).all()
    documents = [np.split(array, np.flatnonzero(np.asarray(tokens) == end)) for array in (tokens, noisy)]
    changed = sum((a != b).any() for a, b in zip(*documents, strict=True))
    assert changed == pytest.approx(share * (np.asarray(tokens) == end).sum(), abs=1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_repeats_are_copies_of_a_few(small_data, rng, share):
    tokens, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    messy = variants.repeated(tokens, share, end, rng=rng)
    before, after = ([text.tobytes() for text in documents(array, end)] for array in (tokens, messy))
    assert set(after) <= set(before) and messy.dtype == tokens.dtype
    assert len(messy) == pytest.approx(len(tokens), rel=0.02)
    copied = {text for text in after if after.count(text) > 1}
    assert len(copied) <= variants.POOL and bool(copied) == (share > 0)


@pytest.mark.parametrize("change", [variants.corrupted, variants.repeated])
def test_a_share_is_a_share(change, small_data, rng):
    with pytest.raises(Refusal, match=r"share is 1\.5; it is a share of the documents"):
        change(small_data.train["math"], 1.5, small_data.tokenizer.eos_token_id, rng=rng)


def test_few_documents_repeat_too(small_data, rng):
    end = small_data.tokenizer.eos_token_id
    few = np.concatenate(documents(small_data.train["math"], end)[:3])
    messy = variants.repeated(few, 0.6, end, rng=rng)
    texts = [text.tobytes() for text in documents(messy, end)]
    assert len(messy) >= len(few) and len(set(texts)) < len(texts)


def test_a_scarce_candidate_has_documents_of_the_whole_and_no_more_tokens_than_told(small_data, tmp_path, rng):
    few = variants.scarce(small_data, tmp_path / "scarce", {"math": 1000}, rng=rng)
    end = small_data.tokenizer.eos_token_id
    whole = {text.tobytes() for text in documents(small_data.train["math"], end)}
    texts = documents(few.train["math"], end)
    assert len(few.train["math"]) == few.table.loc["math", "tokens"] == few.table.loc["math", "train_tokens"] == 1000
    assert all(text.tobytes() in whole for text in texts[:-1]) and len(texts) > 10
    assert np.array_equal(few.train["code"], small_data.train["code"]) and few.heldout == small_data.heldout
    for amount in (1, len(small_data.train["math"]) + 1):
        with pytest.raises(Refusal, match=f"'math' cannot have {amount} tokens"):
            variants.scarce(small_data, tmp_path / "odd", {"math": amount}, rng=rng)


def test_parts_hold_all_documents_once_and_equal_tokens(small_data, tmp_path):
    end = small_data.tokenizer.eos_token_id
    dropped = pd.DataFrame({"perplexity": [3]}, index=["math"])
    pruned = variants.rewritten(small_data, tmp_path / "pruned", {"math": small_data.train["math"]}, dropped=dropped)
    assert pruned.table["perplexity"].to_dict() == dict.fromkeys(small_data.candidates, 0) | {"math": 3}
    finer = variants.divided(pruned, tmp_path / "finer", {"math": 3, "code": 2})
    assert finer.table.loc["math-1", "perplexity"] == 0, "counted for the whole candidate only"
    assert finer.candidates == ["code-1", "code-2", "general", "math-1", "math-2", "math-3"]
    assert finer.general == "general" and finer.families["math-2"] == small_data.families["math"]
    assert np.array_equal(finer.train["general"], small_data.train["general"])
    for name, number in (("math", 3), ("code", 2)):
        parts = [f"{name}-{i + 1}" for i in range(number)]
        texts = [text.tobytes() for part in parts for text in documents(finer.train[part], end)]
        assert sorted(texts) == sorted(text.tobytes() for text in documents(small_data.train[name], end))
        assert sorted(text for part in parts for text in finer.heldout[part]) == sorted(small_data.heldout[name])
        tokens = finer.table.loc[parts, "train_tokens"]
        assert tokens.max() < 1.1 * tokens.min() and tokens.sum() == len(small_data.train[name])
        there, given = finer.table.loc[parts, "tokens"], small_data.table.loc[name, "tokens"]
        assert abs(there.sum() - given) <= number and np.allclose(there / given, tokens / tokens.sum(), atol=1e-3)
        for column in ("train_documents", "train_bytes", "heldout_documents", "heldout_bytes", "heldout_tokens"):
            assert finer.table.loc[parts, column].sum() == small_data.table.loc[name, column], column
    job = Job("m", "base", {"general": 0.5, "math-3": 0.5}, 1280, 5e-3, TINY, batch=256)
    assert train(job, tmp_path / "m", finer)["tokens"] == 1280


def test_parts_are_about_different_things(small_data, tmp_path):
    end = small_data.tokenizer.eos_token_id
    both = np.concatenate([small_data.train["math"], small_data.train["code"]])
    blended = variants.rewritten(small_data, tmp_path / "blended", {"math": both})
    finer = variants.divided(blended, tmp_path / "finer", {"math": 2})
    code = {text.tobytes() for text in documents(small_data.train["code"], end)}
    shares = [
        np.mean([text.tobytes() in code for text in documents(finer.train[part], end)]) for part in ("math-1", "math-2")
    ]
    assert sorted(shares) == [pytest.approx(0, abs=0.05), pytest.approx(1, abs=0.05)]


def test_a_division_is_made_once_and_again_when_asked_for_more(small_data, tmp_path):
    first = variants.divided(small_data, tmp_path / "finer", {"math": 2})
    stamp = (tmp_path / "finer" / "corpora.json").stat().st_mtime_ns
    assert variants.divided(small_data, tmp_path / "finer", {"math": 2}).key == first.key
    assert (tmp_path / "finer" / "corpora.json").stat().st_mtime_ns == stamp
    assert variants.divided(small_data, tmp_path / "finer", {"math": 3}).key != first.key
    assert "math-3" in load(tmp_path / "finer").candidates


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"poetry": 2}, "no candidate 'poetry'"),
        ({"general": 2}, "'general' cannot be cut"),
        ({"math": 1}, "into 1 parts"),
    ],
)
def test_what_cannot_be_divided_is_named(small_data, tmp_path, parts, message):
    with pytest.raises(Refusal, match=message):
        variants.divided(small_data, tmp_path / "finer", parts)
    assert not list(tmp_path.iterdir())
