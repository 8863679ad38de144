"""Merged proxies of a bank measured on tasks of lm-eval, through the store that opens and remembers them."""

import pandas as pd
import pytest
from fixtures_models import ARCHITECTURES, family, own_tasks
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb.merging import Bank
from demix_nb.proxies import Merges, Store
from demix_nb.scoring import Suite

TABLE = pd.DataFrame([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.5, 0.3]], ["one", "two", "three"], list("abc"))


def never(*_args, **_how):
    raise AssertionError("done again")


@pytest.fixture
def llama(tmp_path):
    return family(tmp_path / "llama", ARCHITECTURES["llama"]())


@pytest.fixture
def alone(llama):
    """Component 'a' as anyone would load it, and its tokenizer."""
    return AutoModelForCausalLM.from_pretrained(llama[0]["a"]), AutoTokenizer.from_pretrained(llama[0]["a"])


@pytest.fixture
def rows(alone):
    """Texts, and the word that component 'a' writes after each."""
    model, tokenizer = alone
    texts = [f"w{n} w{n + 7} w{n + 3}" for n in range(3, 9)]
    said = [model(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1].argmax() for text in texts]
    words = [tokenizer.decode(word, skip_special_tokens=True) for word in said]
    return [{"text": text, "word": word} for text, word in zip(texts, words, strict=True)]


@pytest.fixture
def tokenised(monkeypatch, alone):
    """Every text that is tokenised from now on."""
    kind, seen = type(alone[1]), []

    def spy(plain):
        def spied(self, text, *args, **how):
            seen.extend([text] if isinstance(text, str) else text)
            return plain(self, text, *args, **how)

        return spied

    for name in ("encode", "__call__"):
        monkeypatch.setattr(kind, name, spy(getattr(kind, name)))
    return seen


def test_mixtures_are_scored_on_any_task_of_lm_eval_each_once(llama, alone, rows, tokenised, tmp_path, monkeypatch):
    """Texts are tokenised when the suite is built; component 'a' says what it says, as its proxy; no model twice."""
    names = own_tasks(tmp_path / "tasks", rows)
    build = {"tokenizer": alone[1], "context": 16, "include_path": tmp_path / "tasks"}
    suite, likelihood = Suite.build(names, **build), Suite.build(["word_bits"], **build)
    expected = suite.measure(alone[0])
    assert {row["text"] for row in rows} <= set(tokenised)
    tokenised.clear()
    bank, store = Bank.load(*llama), Store(tmp_path / "cache", n_jobs=1)
    scores = store.scores(Merges(bank, TABLE), suite)
    assert scores.loc["one"].to_dict() == pytest.approx(expected.to_dict())
    assert scores.loc["one", "say_word"] == 1 and scores["word_bits"].nunique() == 3
    assert not set(tokenised) & {row["text"] for row in rows}
    alike = store.scores(Merges(bank, TABLE), likelihood)
    assert alike["word_bits"].tolist() == pytest.approx(scores["word_bits"].tolist())
    monkeypatch.setattr(Suite, "measure", never)
    again = store.scores(Merges(Bank.load(*llama), TABLE.rename(index=str.upper)), suite)
    assert again.to_numpy().tolist() == scores.to_numpy().tolist()


def test_a_seed_of_what_is_dropped_is_remembered_beside_the_scores(llama, alone, rows, tmp_path):
    own_tasks(tmp_path / "tasks", rows)
    suite = Suite.build(["word_bits"], tokenizer=alone[1], context=16, include_path=tmp_path / "tasks")
    bank, store = Bank.load(*llama), Store(tmp_path / "cache", n_jobs=1)
    first, second, again = (store.scores(Merges(bank, TABLE, "dare_linear", seed), suite) for seed in (0, 1, 0))
    assert first.equals(again) and not (first == second).any(axis=None)
