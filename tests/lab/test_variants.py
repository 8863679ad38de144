"""Variants of corpora: what is changed changes, all else stays; perplexities agree with a plain loop."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from demix_nb.lab import variants
from demix_nb.lab.corpora import load
from demix_nb.lab.jobs import Architecture, Job
from demix_nb.lab.train import train
from demix_nb.lab.variants import documents, perplexities, within_tails
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
def test_repeats_are_copies_of_a_few_and_can_be_dropped_again(small_data, rng, share):
    tokens, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    messy = variants.repeated(tokens, share, end, rng=rng)
    before, after = ([text.tobytes() for text in documents(array, end)] for array in (tokens, messy))
    assert set(after) <= set(before) and messy.dtype == tokens.dtype
    assert len(messy) == pytest.approx(len(tokens), rel=0.02)
    copied = {text for text in after if after.count(text) > 1}
    assert len(copied) <= variants.POOL and bool(copied) == (share > 0)
    clean = variants.unrepeated(messy, end)
    assert len(clean) / len(tokens) == pytest.approx(1 - share, abs=0.03)
    assert sorted(text.tobytes() for text in documents(clean, end)) == sorted(set(after))


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
    assert len(variants.unrepeated(messy, end)) < len(few)


def test_what_repeats_nothing_keeps_its_order(small_data):
    tokens, end = small_data.train["math"], small_data.tokenizer.eos_token_id
    assert np.array_equal(variants.unrepeated(np.concatenate([tokens, tokens]), end), tokens)


def test_parts_hold_all_documents_once_and_equal_tokens(small_data, tmp_path):
    end = small_data.tokenizer.eos_token_id
    pruned = variants.rewritten(
        small_data, tmp_path / "pruned", {"math": small_data.train["math"]}, reason="perplexity"
    )
    finer = variants.divided(pruned, tmp_path / "finer", {"math": 3, "code": 2})
    assert (finer.table["perplexity"] == 0).all()
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


# ---- pruned by perplexity


@pytest.fixture(scope="module")
def reference(small_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "reference"
    recipe = dict.fromkeys(small_data.candidates, 1 / 3)
    train(Job("reference", "base", recipe, 20_480, 5e-3, TINY, batch=256), directory, small_data)
    return directory


@pytest.fixture(scope="module")
def model(reference):
    return AutoModelForCausalLM.from_pretrained(reference).eval()


def test_both_tails_go_and_nothing_else(rng):
    values = rng.permutation(100).astype(float)
    kept = within_tails(values, 0.1)
    assert sorted(values[kept]) == list(range(5, 95))
    assert within_tails(values, 0.0).all() and within_tails(values, 0.019).all()
    assert within_tails(np.ones(10), 0.5).sum() == 6  # ties go by place, so that the share is met
    with pytest.raises(Refusal, match="perplexity is not finite"):
        within_tails(np.array([1.0, np.nan]), 0.1)


def test_perplexities_agree_with_a_plain_loop(small_data, model):
    end = small_data.tokenizer.eos_token_id
    texts = documents(small_data.train["code"], end)[:40]
    texts = [text[:length] for text, length in zip(texts, [1, 5, 32, 33, 64, 65] * 7, strict=False)]
    found = perplexities(model, texts, end, context=32)
    for text, value in zip(texts, found, strict=True):
        ids, logs = [end, *text.tolist()], []
        for place in range(1, len(ids)):
            start = (place - 1) // 32 * 32
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([ids[start:place]])).logits[0, -1]
            logs.append(-torch.log_softmax(logits, 0)[ids[place]].item())
        assert value == pytest.approx(np.exp(np.mean(logs)), rel=1e-4)


def test_what_is_no_text_is_dropped(small_data, model, rng):
    end = small_data.tokenizer.eos_token_id
    texts = documents(small_data.train["general"], end)[:98]
    noise = np.r_[rng.integers(1, 400, 60), end].astype(texts[0].dtype)
    found = perplexities(model, [*texts, noise], end, context=32)
    assert found.argmax() == 98 and found[98] > 1.5 * found[:98].max()
    kept = within_tails(found, 0.021)
    assert not kept[98] and not kept[found.argmin()] and kept.sum() == 97


def test_a_pruned_corpora_is_a_corpora(small_data, reference, model, tmp_path):
    pruned = variants.prune(small_data, reference, tmp_path / "pruned", drop=0.2)
    end = small_data.tokenizer.eos_token_id
    for name in small_data.candidates:
        texts = documents(small_data.train[name], end)
        kept = within_tails(perplexities(model, texts, end, context=32), 0.2)
        expected = np.concatenate([text for text, keep in zip(texts, kept, strict=True) if keep])
        assert np.array_equal(pruned.train[name], expected) and pruned.train[name].dtype == small_data.train[name].dtype
        row, before = pruned.table.loc[name], small_data.table.loc[name]
        assert row["train_documents"] + row["perplexity"] == before["train_documents"] and row["perplexity"] > 0
        assert row["train_tokens"] == len(expected) and row["heldout_bytes"] == before["heldout_bytes"]
        assert row["tokens"] / row["train_tokens"] == pytest.approx(before["tokens"] / before["train_tokens"], rel=1e-3)
        text = small_data.tokenizer.decode(expected, skip_special_tokens=True)
        assert row["train_bytes"] == len(text.encode())
    assert pruned.heldout == small_data.heldout and pruned.key != small_data.key
    assert pruned.tokenizer.get_vocab() == small_data.tokenizer.get_vocab()
    job = Job("m", "base", {"math": 1.0}, 2560, 5e-3, TINY, batch=256)
    assert train(job, tmp_path / "m", pruned)["tokens"] == 2560


def test_pruning_is_done_once_and_again_when_asked_for_more(small_data, reference, tmp_path):
    first = variants.prune(small_data, reference, tmp_path / "pruned")
    stamp = (tmp_path / "pruned" / "corpora.json").stat().st_mtime_ns
    assert variants.prune(small_data, reference, tmp_path / "pruned").key == first.key
    assert (tmp_path / "pruned" / "corpora.json").stat().st_mtime_ns == stamp
    again = variants.prune(small_data, reference, tmp_path / "pruned", drop=0.2)
    assert again.table["perplexity"].sum() > first.table["perplexity"].sum()
    assert load(tmp_path / "pruned").key == again.key and list(tmp_path.iterdir()) == [tmp_path / "pruned"]


def test_bad_folders_are_named(small_data, reference, tmp_path):
    with pytest.raises(Refusal, match=r"has no training\.json"):
        variants.prune(small_data, tmp_path, tmp_path / "pruned")
    for drop in (1.0, -0.1):
        with pytest.raises(Refusal, match=f"drop is {drop}; it is a share"):
            variants.prune(small_data, reference, tmp_path / "pruned", drop=drop)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").write_text("mine")
    with pytest.raises(Refusal, match=r"cannot write .*taken"):
        variants.prune(small_data, reference, tmp_path / "taken")
    assert (tmp_path / "taken" / "diary.txt").read_text() == "mine"
