"""Perplexities agree with a plain loop, both tails go and nothing else, and what is left is an ordinary Corpora."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from demix_nb import components, pruning
from demix_nb.components import Architecture, Job, TrainingError
from demix_nb.corpora import load
from demix_nb.sources import CorpusError
from demix_nb.variants import documents

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


@pytest.fixture(scope="module")
def reference(small_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "reference"
    recipe = dict.fromkeys(small_data.domains, 1 / 3)
    components.train(Job("reference", "base", recipe, 20_480, 5e-3, TINY, batch=256), directory, small_data.directory)
    return directory


@pytest.fixture(scope="module")
def model(reference):
    return AutoModelForCausalLM.from_pretrained(reference).eval()


def test_both_tails_go_and_nothing_else(rng):
    values = rng.permutation(100).astype(float)
    kept = pruning.within_tails(values, 0.1)
    assert sorted(values[kept]) == list(range(5, 95))
    assert pruning.within_tails(values, 0.0).all() and pruning.within_tails(values, 0.019).all()
    assert pruning.within_tails(np.ones(10), 0.5).sum() == 6  # ties go by place, so that the share is met
    for wrong in ((values, 1.0), (values, -0.1), (np.array([1.0, np.nan]), 0.1)):
        with pytest.raises(ValueError, match="share in"):
            pruning.within_tails(*wrong)


def test_perplexities_agree_with_a_plain_loop(small_data, model):
    end = small_data.tokenizer.eos_token_id
    texts = documents(small_data.train["code"], end)[:40]
    texts = [text[:length] for text, length in zip(texts, [1, 5, 32, 33, 64, 65] * 7, strict=False)]
    found = pruning.perplexities(model, texts, end, context=32)
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
    found = pruning.perplexities(model, [*texts, noise], end, context=32)
    assert found.argmax() == 98 and found[98] > 1.5 * found[:98].max()
    kept = pruning.within_tails(found, 0.021)
    assert not kept[98] and not kept[found.argmin()] and kept.sum() == 97


def test_a_pruned_corpora_is_a_corpora(small_data, reference, model, tmp_path):
    pruned = pruning.prune(small_data, reference, tmp_path / "pruned", drop=0.2)
    end = small_data.tokenizer.eos_token_id
    for name in small_data.domains:
        texts = documents(small_data.train[name], end)
        kept = pruning.within_tails(pruning.perplexities(model, texts, end, context=32), 0.2)
        expected = np.concatenate([text for text, keep in zip(texts, kept, strict=True) if keep])
        assert np.array_equal(pruned.train[name], expected) and pruned.train[name].dtype == small_data.train[name].dtype
        row, before = pruned.table.loc[name], small_data.table.loc[name]
        assert row["train_documents"] + row["perplexity"] == before["train_documents"] and row["perplexity"] > 0
        assert row["train_tokens"] == len(expected) and row["heldout_bytes"] == before["heldout_bytes"]
        text = small_data.tokenizer.decode(expected, skip_special_tokens=True)
        assert row["train_bytes"] == len(text.encode())
    assert pruned.heldout == small_data.heldout and pruned.key != small_data.key
    assert pruned.tokenizer.get_vocab() == small_data.tokenizer.get_vocab()
    job = Job("m", "base", {"math": 1.0}, 2560, 5e-3, TINY, batch=256)
    assert components.train(job, tmp_path / "m", pruned.directory)["tokens"] == 2560


def test_pruning_is_done_once_and_again_when_asked_for_more(small_data, reference, tmp_path):
    first = pruning.prune(small_data, reference, tmp_path / "pruned")
    stamp = (tmp_path / "pruned" / "corpora.json").stat().st_mtime_ns
    assert pruning.prune(small_data, reference, tmp_path / "pruned").key == first.key
    assert (tmp_path / "pruned" / "corpora.json").stat().st_mtime_ns == stamp
    again = pruning.prune(small_data, reference, tmp_path / "pruned", drop=0.2)
    assert again.table["perplexity"].sum() > first.table["perplexity"].sum()
    assert load(tmp_path / "pruned").key == again.key and list(tmp_path.iterdir()) == [tmp_path / "pruned"]


def test_bad_folders_are_named(small_data, reference, tmp_path):
    with pytest.raises(TrainingError, match=r"has no training\.json"):
        pruning.prune(small_data, tmp_path, tmp_path / "pruned")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").write_text("mine")
    with pytest.raises(CorpusError, match=r"cannot write .*taken"):
        pruning.prune(small_data, reference, tmp_path / "taken")
    assert (tmp_path / "taken" / "diary.txt").read_text() == "mine"
