"""Every cleaner drops what it is for and counts it; each of its parts agrees with a plain oracle."""

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from transformers import AutoModelForCausalLM

from demix_nb.intervals import spearman
from demix_nb.lab import cleaners, variants
from demix_nb.lab.cleaners import CLEANERS, Given, above_lowest, cleaned, keeps, perplexities, within_tails
from demix_nb.lab.corpora import load
from demix_nb.lab.jobs import Architecture, Job
from demix_nb.lab.train import train
from demix_nb.lab.variants import documents
from demix_nb.store import Refusal

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)
DROPPED = 0.2


@pytest.fixture(scope="module")
def reference(small_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "reference"
    recipe = dict.fromkeys(small_data.candidates, 1 / 3)
    train(Job("reference", "base", recipe, 20_480, 5e-3, TINY, batch=256), directory, small_data)
    return directory


@pytest.fixture(scope="module")
def model(reference):
    return AutoModelForCausalLM.from_pretrained(reference).eval()


@pytest.fixture(scope="module")
def given(small_data, reference):
    """What every cleaner could need: a model that has read the text, and a hundred documents called good."""
    end = small_data.tokenizer.eos_token_id
    texts = documents(small_data.train["math"], end)[:100]
    return {"reference": reference, "good": small_data.tokenizer.batch_decode([text[:-1] for text in texts])}


@pytest.fixture(scope="module")
def spoilt(small_data):
    """Documents of `math` of which the last quarter is bad in each of three ways, by the cleaner that is for it."""
    end, rng = small_data.tokenizer.eos_token_id, np.random.default_rng(2)
    texts = documents(small_data.train["math"], end)[100:220]
    noise = [np.r_[rng.integers(1, 400, 60), end].astype(texts[0].dtype) for _ in range(40)]
    code = documents(small_data.train["code"], end)[:40]
    return {name: [*texts, *bad] for name, bad in {"repeats": texts[:40], "perplexity": noise, "quality": code}.items()}


# ---- every row


@pytest.mark.parametrize("name", CLEANERS)
def test_a_cleaner_drops_what_it_is_for(name, small_data, given, spoilt):
    desk = Given(small_data, **given)
    drop = {"repeats": None, "perplexity": 0.5, "quality": 0.25}[name]  # of both tails half is the odd one
    kept = keeps(name, {"math": spoilt[name]}, desk, drop=drop)["math"]
    bad = np.r_[np.zeros(120, bool), np.ones(40, bool)]
    assert (~kept)[bad].mean() > 0.95, "what is bad goes; of documents drawn at random a quarter is"
    if name != "perplexity":
        assert (~kept)[~bad].mean() < 0.02


@pytest.mark.parametrize("name", CLEANERS)
def test_a_cleaner_does_not_depend_on_how_candidates_are_called(name, small_data, given, spoilt):
    desk, texts = Given(small_data, **given), spoilt[name]
    one, other = (keeps(name, {called: texts}, desk, drop=DROPPED)[called] for called in ("math", "code"))
    assert (one == other).all()


@pytest.mark.parametrize("name", CLEANERS)
def test_a_cleaned_candidate_lacks_what_was_counted(name, small_data, given, tmp_path):
    row, end = CLEANERS[name], small_data.tokenizer.eos_token_id
    drop = DROPPED if row.drop else None
    before = load(small_data.directory)
    messy = variants.repeated(small_data.train["math"], 0.5, end, rng=np.random.default_rng(1))
    origin = variants.rewritten(small_data, tmp_path / "messy", {"math": messy})
    found = cleaned(origin, tmp_path / "clean", {name: drop}, candidates=["math"], **given)
    texts = documents(messy, end)
    kept = keeps(name, {"math": texts}, Given(origin, **given), drop=drop)["math"]
    expected = np.concatenate([text for text, keep in zip(texts, kept, strict=True) if keep])
    assert np.array_equal(found.train["math"], expected) and found.train["math"].dtype == messy.dtype
    row, whole = found.table.loc["math"], origin.table.loc["math"]
    assert row[name] == (~kept).sum() == whole["train_documents"] - row["train_documents"] > 0
    assert row["train_tokens"] == len(expected) and row["heldout_bytes"] == whole["heldout_bytes"]
    assert row["tokens"] / row["train_tokens"] == pytest.approx(whole["tokens"] / whole["train_tokens"], rel=1e-3)
    assert found.table.loc["code", name] == 0 and np.array_equal(found.train["code"], before.train["code"])
    assert found.heldout == before.heldout and found.key != origin.key


@pytest.mark.parametrize("name", CLEANERS)
def test_a_row_says_where_it_is_from_and_what_it_needs(name, small_data, tmp_path):
    row = CLEANERS[name]
    assert row.label and "arXiv" in row.paper and (row.drop is None or 0 < row.drop < 0.1)
    for need in row.needs:
        with pytest.raises(Refusal, match=f"cleaner '{name}' needs {need}"):
            cleaned(small_data, tmp_path / "clean", {name: None})
    assert not list(tmp_path.iterdir())


# ---- one after another, and again


def test_cleaners_follow_one_another(small_data, given, tmp_path):
    end = small_data.tokenizer.eos_token_id
    messy = variants.repeated(small_data.train["math"], 0.5, end, rng=np.random.default_rng(1))
    origin = variants.rewritten(small_data, tmp_path / "messy", {"math": messy})
    one = cleaned(origin, tmp_path / "one", {"repeats": None}, **given)
    both = cleaned(one, tmp_path / "both", {"quality": DROPPED}, **given)
    row = cleaned(origin, tmp_path / "row", {"repeats": None, "quality": DROPPED}, **given)
    assert all(np.array_equal(both.train[name], row.train[name]) for name in row.candidates)
    assert row.table["repeats"].equals(one.table["repeats"]) and row.table["quality"].equals(both.table["quality"])


def test_it_is_done_once_and_again_when_asked_for_more(small_data, given, tmp_path):
    first = cleaned(small_data, tmp_path / "clean", {"perplexity": None}, **given)
    stamp = (tmp_path / "clean" / "corpora.json").stat().st_mtime_ns
    assert cleaned(small_data, tmp_path / "clean", {"perplexity": 0.02}, **given).key == first.key
    assert (tmp_path / "clean" / "corpora.json").stat().st_mtime_ns == stamp
    again = cleaned(small_data, tmp_path / "clean", {"perplexity": DROPPED}, **given)
    assert again.table["perplexity"].sum() > first.table["perplexity"].sum()
    assert load(tmp_path / "clean").key == again.key and list(tmp_path.iterdir()) == [tmp_path / "clean"]


def test_what_is_odd_is_named(small_data, given, tmp_path):
    with pytest.raises(Refusal, match="no cleaner 'soap'"):
        cleaned(small_data, tmp_path / "clean", {"soap": 0.1})
    with pytest.raises(Refusal, match=r"has no training\.json"):
        cleaned(small_data, tmp_path / "clean", {"perplexity": None}, reference=tmp_path)
    for drop in (1.0, -0.1):
        with pytest.raises(Refusal, match=f"drop is {drop} for 'quality'"):
            cleaned(small_data, tmp_path / "clean", {"quality": drop}, **given)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "diary.txt").write_text("mine")
    with pytest.raises(Refusal, match=r"cannot write .*taken"):
        cleaned(small_data, tmp_path / "taken", {"repeats": None})
    assert (tmp_path / "taken" / "diary.txt").read_text() == "mine"


# ---- scores


def test_both_tails_go_and_nothing_else(rng):
    values = rng.permutation(100).astype(float)
    kept = within_tails(values, 0.1)
    assert sorted(values[kept]) == list(range(5, 95))
    assert within_tails(values, 0.0).all() and within_tails(values, 0.019).all()
    assert within_tails(np.ones(10), 0.5).sum() == 6  # ties go by place, so that the share is met
    with pytest.raises(Refusal, match="perplexity is not finite"):
        within_tails(np.array([1.0, np.nan]), 0.1)


def test_the_lowest_go_and_nothing_else(rng):
    values = rng.permutation(100).astype(float)
    assert sorted(values[above_lowest(values, 0.03)]) == list(range(3, 100))
    assert above_lowest(values, 0.0).all() and above_lowest(values, 0.0099).all()
    assert above_lowest(np.ones(10), 0.5).sum() == 5


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


def test_repeats_are_those_that_came_before(small_data, rng):
    end = small_data.tokenizer.eos_token_id
    texts = documents(small_data.train["math"], end)[:30]
    near = texts[3].copy()
    near[-2] = near[-3]
    found = cleaners.repeats({"math": [*texts, texts[3], near, texts[7]]}, Given(small_data))["math"]
    assert found.tolist() == [0.0] * 30 + [1.0] * 3


def test_the_classifier_says_what_an_exact_one_does(small_data, given, spoilt):
    """The same words and pairs, counted without hashing; each half judged by what the other taught."""
    desk, texts = Given(small_data, **given), spoilt["quality"]
    found, read, good = cleaners.quality({"math": texts}, desk)["math"], desk.texts(texts), given["good"]
    order, expected = np.random.default_rng(desk.seed).permutation(len(read)), np.zeros(len(read))
    words = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]").fit([*good, *read])
    for seen, asked in ((order[::2], order[1::2]), (order[1::2], order[::2])):
        drawn = [read[i] for i in seen[: len(good)]]
        told = np.r_[np.ones(len(good)), np.zeros(len(drawn))]
        exact = LogisticRegression(C=cleaners.ODDS, class_weight="balanced", max_iter=500)
        exact.fit(normalize(words.transform([*good, *drawn])), told)
        expected[asked] = exact.decision_function(normalize(words.transform([read[i] for i in asked])))
    assert spearman(found, expected) > 0.99
    assert abs(found[:120].mean() - expected[:120].mean()) < 0.05
    alike = cleaners.quality({"math": texts[:120]}, desk)["math"]
    assert abs(alike.mean()) < 0.3 * abs(found[120:].mean()), "where all are alike none is judged worse for being drawn"
