"""Topics that are known are found again, by name, and no document is lost."""

import numpy as np
import pytest

from demix_nb.lab import clusters, variants
from demix_nb.lab.variants import documents
from demix_nb.store import Refusal


@pytest.fixture(scope="module")
def blended(small_data, tmp_path_factory):
    """Candidate `math` with all documents of `math` and of `code`: two topics, of unequal size."""
    half = documents(small_data.train["code"], small_data.tokenizer.eos_token_id)[::3]
    both = np.concatenate([small_data.train["math"], *half])
    return variants.rewritten(small_data, tmp_path_factory.mktemp("blended") / "it", {"math": both})


@pytest.fixture(scope="module")
def finer(blended, tmp_path_factory):
    return variants.divided(blended, tmp_path_factory.mktemp("finer") / "it", {"math": 2, "code": 3}, clusters.by_topic)


def test_two_topics_in_one_candidate_become_two_parts_called_by_their_words(finer, small_data):
    end = small_data.tokenizer.eos_token_id
    code = "def return self for in range import if else lambda yield assert class with open as".split()
    known = {text.tobytes() for text in documents(small_data.train["code"], end)}
    parts = [name for name in finer.candidates if finer.table.loc[name, "part_of"] == "math"]
    foreign = {part: np.mean([text.tobytes() in known for text in documents(finer.train[part], end)]) for part in parts}
    assert sorted(foreign.values()) == [0.0, 1.0]
    called = {part: set(part.split("-")[1:]) & set(code) for part in parts}
    assert bool(called[max(foreign, key=foreign.get)]) and not called[min(foreign, key=foreign.get)]
    held = {part: finer.heldout[part] for part in parts}
    assert held[min(foreign, key=foreign.get)] == small_data.heldout["math"], "the mathematics held out belongs there"


def test_parts_hold_all_documents_once_of_any_size(finer, blended):
    end = blended.tokenizer.eos_token_id
    for name, number in (("math", 2), ("code", 3)):
        parts = list(finer.table.index[finer.table["part_of"] == name])
        texts = [text.tobytes() for part in parts for text in documents(finer.train[part], end)]
        assert len(parts) == number
        assert sorted(texts) == sorted(text.tobytes() for text in documents(blended.train[name], end))
        assert sorted(text for part in parts for text in finer.heldout[part]) == sorted(blended.heldout[name])
    assert np.array_equal(finer.train["general"], blended.train["general"])
    assert finer.table.loc["general", "part_of"] == "general"


def test_a_mixture_of_whole_candidates_is_the_same_data_in_parts(finer, blended):
    inside = clusters.inside(finer)
    assert list(inside.index) == blended.candidates and list(inside.columns) == finer.candidates
    text = blended.table["train_tokens"]
    assert np.allclose((text / text.sum()) @ inside, finer.table["train_tokens"] / text.sum())


def test_numbers_are_in_proportion_to_text_and_two_at_least(blended):
    text = blended.table["train_tokens"]
    for total in (5, 9, 40):
        found = clusters.numbers(blended, total)
        assert 1 + sum(found.values()) == total and min(found.values()) >= 2 and set(found) == {"math", "code"}
    more = {name: number - 2 for name, number in found.items()}
    assert more["math"] / more["code"] == pytest.approx(text["math"] / text["code"], rel=0.1)


@pytest.mark.parametrize(("total", "message"), [(4, "are 5, more than 4; ask for more"), (2000, "fewer documents")])
def test_too_few_and_too_many_are_refused(blended, total, message):
    with pytest.raises(Refusal, match=message):
        clusters.numbers(blended, total)


def test_documents_of_one_kind_are_no_two_topics(small_data, tmp_path):
    copies = np.tile(documents(small_data.train["math"], small_data.tokenizer.eos_token_id)[0], 5)
    same = variants.rewritten(small_data, tmp_path / "same", {"math": copies})
    with pytest.raises(Refusal, match="'math' are of 1 kinds, too few for 2 parts"):
        variants.divided(same, tmp_path / "parts", {"math": 2}, clusters.by_topic)
