"""Corpora on disk: relations between what goes in and what comes out, and every refusal."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import AutoTokenizer

from demix_nb import documents, studyfile
from demix_nb.door import to_train
from demix_nb.lab import corpora
from demix_nb.lab import own as files
from demix_nb.lab import text as sources
from demix_nb.lab import tokenizer as tokens
from demix_nb.lab.clean import REASONS, Sketches, sketch
from demix_nb.lab.corpora import build, load
from demix_nb.lab.families import assign_families
from demix_nb.store import Refusal

WORDS = "the of ocean river letter window table number garden of seven winter build carry follow answer Ärger".split()
SMALL = {"megabytes": 0.05, "vocab_size": 320, "heldout_kb": 5, "seed": 1}


def prose(seed: int, words: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, size=words))


def write_jsonl(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "id": i}) + "\n" for i, text in enumerate(texts)), "utf-8")


def make_own(folder: Path) -> Path:
    """Write three candidates in three layouts: one file, shards, a folder of parquet that nearly repeats a shard."""
    folder.mkdir()
    (folder / "general.txt").write_text("\n\n".join(prose(i, 60) for i in range(200)), "utf-8")
    for shard in range(3):
        write_jsonl(folder / f"math_own-{shard}.jsonl", [prose(1000 * (shard + 1) + i, 70) for i in range(60)])
    (folder / "poems").mkdir()
    copied = [prose(1000 + i, 70) + " end" for i in range(60)]
    pd.DataFrame({"text": copied + [prose(9000 + i, 80) for i in range(120)]}).to_parquet(
        folder / "poems" / "all.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    return make_own(tmp_path_factory.mktemp("texts") / "own")


@pytest.fixture(scope="module")
def built(own, tmp_path_factory) -> corpora.Corpora:
    return build(tmp_path_factory.mktemp("built") / "corpora", sources=own, **SMALL)


@pytest.fixture(scope="module")
def builtin(tmp_path_factory) -> corpora.Corpora:
    return build(tmp_path_factory.mktemp("builtin"), **SMALL | {"megabytes": 0.5, "heldout_kb": 20}, n_jobs=2)


def decoded(corpus: corpora.Corpora, candidate: str) -> list[str]:
    """Return the training documents as read back from the token array."""
    tokens, end = corpus.train[candidate], corpus.tokenizer.eos_token_id
    assert tokens[-1] == end
    return [
        corpus.tokenizer.decode(part[part != end]) for part in np.split(tokens, np.flatnonzero(tokens == end) + 1)[:-1]
    ]


@pytest.mark.parametrize("which", ["built", "builtin"])
def test_table_agrees_with_what_is_on_disk(which, request):
    corpus = request.getfixturevalue(which)
    table = corpus.table
    dropped = table[list(REASONS)].sum(axis=1)
    assert (table["read"] == dropped + table["train_documents"] + table["heldout_documents"]).all()
    for candidate in corpus.candidates:
        row, train, heldout = table.loc[candidate], decoded(corpus, candidate), corpus.heldout[candidate]
        assert (row["train_documents"], row["heldout_documents"]) == (len(train), len(heldout))
        assert row["train_bytes"] == sum(len(text.encode()) for text in train)
        assert row["heldout_bytes"] == sum(len(text.encode()) for text in heldout)
        assert row["train_tokens"] == len(corpus.train[candidate])
        assert row["heldout_tokens"] == sum(len(corpus.tokenizer(text)["input_ids"]) for text in heldout)
        assert row["heldout_bytes"] >= 1e3 * SMALL["heldout_kb"]
    assert table.index.tolist() == corpus.candidates == list(corpus.families)


@pytest.mark.parametrize("which", ["built", "builtin"])
def test_heldout_documents_are_unseen_in_every_candidate(which, request):
    corpus = request.getfixturevalue(which)
    train = {text for candidate in corpus.candidates for text in decoded(corpus, candidate)}
    heldout = [text for texts in corpus.heldout.values() for text in texts]
    assert heldout and not train & set(heldout)
    assert which == "builtin" or corpus.table.loc["poems", "leak"] > 0
    marks = Sketches()
    for text in train:
        marks.add(sketch(text))
    assert not any(marks.near(sketch(text)) for text in heldout)


def test_builtin_candidates_are_thirteen_with_their_cards_and_natural_shares_are_what_is_there(builtin):
    table = builtin.table
    assert builtin.candidates == list(sources.BUILTIN)
    assert table["family"].value_counts().to_dict() == {"code": 8, "math": 3, "general": 2}
    filled = table["train_bytes"] / 0.5e6
    assert filled[sources.ROLES].between(1, 1.2).all()
    assert filled.between(0.6, 1.2).all(), "what repeats itself leaks from its own held-out text, or is all there is"
    assert all(text.startswith("Question: ") for text in builtin.heldout["math_word"])
    there = table["tokens"] * table["train_bytes"] / table["train_tokens"]
    for name in ("general", "general_licences", "math_drill", "code_markup"):
        assert there[name] == pytest.approx(sources.BUILTIN[name].size(), rel=1e-3)
    cards = builtin.cards
    assert list(cards) == ["family", "MB", "source", "licence", "what is wrong with it", "sample"]
    assert (cards.drop(columns="MB").map(len) > 2).all(axis=None) and (cards["MB"] > 0.5).all()


def test_generated_code_is_generated_and_no_longer_says_so(builtin):
    texts, marked = sources.BUILTIN["code_generated"](np.random.default_rng(0)), sources.SAYS_SO
    assert not any(marked.search(next(texts)) for _ in range(50))
    assert builtin.table.loc["code_generated", "generated"] == 0


def test_seven_of_them_play_the_parts_of_demix_and_own_text_has_no_card(built, tmp_path):
    families = assign_families(sources.SETS["seven"])
    assert pd.Series(families).value_counts().to_dict() == {"math": 3, "code": 3, "general": 1}
    assert set(studyfile.BUILTIN) == set(sources.SETS) and to_train("seven") == sources.SETS["seven"]
    assert list(built.cards) == ["family", "MB", "sample"]


def test_one_worker_and_two_workers_and_any_file_order_agree(own, built, tmp_path, monkeypatch):
    assert build(tmp_path / "two", sources=own, **SMALL, n_jobs=2).key == built.key
    for listing in ("iterdir", "rglob"):
        original = getattr(Path, listing)
        monkeypatch.setattr(Path, listing, lambda *args, f=original: reversed(list(f(*args))))
    assert build(tmp_path / "reversed", sources=own, **SMALL).key == built.key
    some, reader = [], sources.BUILTIN["code_stdlib"]
    for _ in range(2):
        texts = reader(np.random.default_rng(0))
        some.append([next(texts) for _ in range(3)])
        monkeypatch.undo()
    assert some[0] == some[1]


def test_another_seed_holds_out_other_documents(own, built, tmp_path):
    other = build(tmp_path / "seed", sources=own, **SMALL | {"seed": 2})
    assert other.key != built.key and set(other.heldout["poems"]) != set(built.heldout["poems"])


def test_building_again_does_no_work_and_changed_text_builds_anew(tmp_path, monkeypatch):
    own = make_own(tmp_path / "own")
    first = build(tmp_path / "out", sources=own, **SMALL)
    with monkeypatch.context() as context:
        context.setattr(corpora, "clean", lambda *args, **kwargs: pytest.fail("cleaned again"))
        assert build(tmp_path / "out", sources=own, **SMALL).key == first.key
    write_jsonl(own / "math_own-0.jsonl", [prose(i, 75) for i in range(60)])
    assert build(tmp_path / "out", sources=own, **SMALL).key != first.key


@pytest.mark.parametrize(
    "name", ["train/poems.npy", "heldout/general.jsonl", "tokenizer/tokenizer.json", "corpora.csv"]
)
def test_a_corrupted_or_missing_file_is_named_and_its_remedy_works(name, own, built, tmp_path):
    build(tmp_path / "out", sources=own, **SMALL)
    data = bytearray((tmp_path / "out" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "out" / name).write_bytes(data)
    with pytest.raises(Refusal, match=rf"{name} is not what was written.*delete .*corpora.json"):
        build(tmp_path / "out", sources=own, **SMALL)
    (tmp_path / "out" / name).unlink()
    with pytest.raises(Refusal, match=rf"{name} is missing"):
        load(tmp_path / "out")
    (tmp_path / "out" / "corpora.json").unlink()
    assert build(tmp_path / "out", sources=own, **SMALL).key == built.key


def test_an_interrupted_build_is_not_loaded(own, tmp_path, monkeypatch):
    build(tmp_path / "out", sources=own, **SMALL)
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(tokens, "learn", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        build(tmp_path / "out", sources=own, **SMALL | {"seed": 7})
    with pytest.raises(Refusal, match="no corpora under"):
        load(tmp_path / "out")


# ---- own data


def test_large_own_data_is_read_file_by_file_and_small_data_shuffled_together(own, monkeypatch):
    def shards_of_first(n: int) -> set[str]:
        origin = {text: file.name for file in own.glob("math*") for text in documents.records(file)}
        texts = list(files.readers(own)["math_own"](np.random.default_rng(0)))
        assert sorted(texts) == sorted(origin)
        return {origin[text] for text in texts[:n]}

    assert len(shards_of_first(60)) == 3
    monkeypatch.setattr(files, "AT_ONCE", 1)
    assert len(shards_of_first(60)) == 1


def test_layouts_and_families_of_own_data(own, tmp_path):
    readers = files.readers(own)
    assert list(readers) == ["general", "math_own", "poems"]
    assert len(list(readers["math_own"](np.random.default_rng(0)))) == 180
    assert assign_families(list(readers)) == {"general": "general", "math_own": "math", "poems": "poems"}
    for name in ("arxiv-0", "arxiv-1", "pile_cc-00000-of-00001"):  # RegMix's users: train/<candidate>-<number>.jsonl
        write_jsonl(tmp_path / "train" / f"{name}.jsonl", [name])
    write_jsonl(tmp_path / "valid" / "arxiv-0.jsonl", ["never read"])
    readers = files.readers(tmp_path)
    assert list(readers) == ["arxiv", "pile_cc"]
    assert sorted(readers["arxiv"](np.random.default_rng(0))) == ["arxiv-0", "arxiv-1"]
    (tmp_path / "families.yml").write_text("arxiv: science\npile_cc: web\n")
    given = assign_families(list(readers), tmp_path / "families.yml")
    assert given == {"arxiv": "science", "pile_cc": "web"}


def spoil(own: Path, case: str) -> dict:
    """Spoil a folder of own data in one way; return the arguments of `build` to go with it."""
    if case == "encoding":
        (own / "general.txt").write_bytes("Ärger".encode("latin1") * 9)
    elif case == "suffix":
        (own / "math.doc").write_text("[]")
    elif case == "empty folder":
        (own / "law").mkdir()
    elif case == "blank file":
        (own / "law.txt").write_text(" \n\n ")
    elif case == "too little":
        (own / "law.txt").write_text(prose(0, 900))
    elif case == "no field":
        (own / "math_own-1.jsonl").write_text('{"text": "fine"}\n{"content": "x"}\n')
    elif case == "no json":
        (own / "math_own-1.jsonl").write_text("plain text\n")
    elif case == "no column":
        pd.DataFrame({"body": ["x"]}).to_parquet(own / "poems" / "all.parquet")
    elif case == "one candidate":
        (own / "general.txt").rename(own / "only.txt")
        [path.unlink() for path in own.glob("math*")] + [path.unlink() for path in own.glob("poems/*")]
        (own / "poems").rmdir()
    return {
        "no general": {"general": "web"},
        "vocabulary": {"vocab_size": 60_000},
        "tiny vocabulary": {"vocab_size": 100},
        "no room": {"heldout_kb": 0.0},
        "no text": {"megabytes": -1.0},
        "unknown family": {"families": "general: a\nmath_own: b\npoems: c\nlaw: d\n"},
        "lacking family": {"families": "general: a\nmath_own: b\n"},
        "no mapping": {"families": "- general\n"},
        "no yaml": {"families": "general: [\n"},
    }.get(case, {})


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("encoding", r"general.txt is not UTF-8 \(byte 0\); convert it"),
        ("suffix", r"cannot read .*math.doc: use .txt, .jsonl, .parquet"),
        ("empty folder", r"candidate 'law' is empty"),
        ("blank file", r"candidate 'law' is empty: its files hold no text"),
        ("too little", r"candidate 'law' has .* kB to train on .* needs 20 kB .* add text"),
        ("no field", r"math_own-1.jsonl, line 2: expected a JSON object .* got {\"content\""),
        ("no json", r"math_own-1.jsonl, line 1: expected a JSON object"),
        ("no column", r"all.parquet has no column 'text', only body"),
        ("one candidate", r"only one candidate, 'only'"),
        ("no general", r"no candidate 'web' among general, math_own, poems; .*general='general'"),
        ("vocabulary", r"vocab_size is 60000, but this text gives \d+"),
        ("tiny vocabulary", r"vocab_size is 100; it must be a whole number, at least 257"),
        ("no room", r"heldout_kb is 0.0; it must be a number above 0"),
        ("no text", r"megabytes is -1.0"),
        ("unknown family", r"families.yml names unknown candidate 'law'"),
        ("lacking family", r"families.yml has no family for candidate 'poems'; add a line"),
        ("no mapping", r"families.yml must have a line `candidate: family` for each of general"),
        ("no yaml", r"cannot read families from .*families.yml"),
    ],
)
def test_bad_input_is_refused_by_name_with_the_remedy(case, message, tmp_path):
    own = make_own(tmp_path / "own")
    changes = spoil(own, case)
    if "families" in changes:
        (tmp_path / "families.yml").write_text(changes["families"])
        changes["families"] = tmp_path / "families.yml"
    with pytest.raises(Refusal, match=message):
        build(tmp_path / "out", sources=own, **SMALL | changes)


def test_missing_folders_and_a_target_that_cannot_be_written(own, tmp_path):
    with pytest.raises(Refusal, match=r"no folder .*nowhere"):
        build(tmp_path / "out", sources=tmp_path / "nowhere", **SMALL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refusal, match=r"no .txt, .jsonl, .parquet file in"):
        build(tmp_path / "out", sources=tmp_path / "empty", **SMALL)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Refusal, match=r"cannot write to .*choose another folder"):
        build(tmp_path / "file" / "below", sources=own, **SMALL)
    with pytest.raises(Refusal, match="no corpora under"):
        load(tmp_path / "nowhere")
    (tmp_path / "corpora.json").write_text("{")
    with pytest.raises(Refusal, match=r"corpora.json is damaged .* delete it and build again"):
        load(tmp_path)


# ---- tokens


def test_tokens_give_back_the_text_and_the_end_of_text_is_only_ever_ours(built):
    text = f"def f(x):\n\treturn  'Ä 东京 👍'  # 12345 {tokens.END}"
    tokenizer = tokens.learn({"a": [prose(0, 500)], "b": [prose(1, 500)]}, 300)
    ids = tokens.encode(tokenizer, [text, text])
    assert ids.dtype == np.uint16 and (ids == 0).sum() == 2 and ids[-1] == tokenizer.token_to_id(tokens.END) == 0
    assert tokenizer.decode(ids[: len(ids) // 2 - 1].tolist(), skip_special_tokens=False) == text
    again = AutoTokenizer.from_pretrained(built.directory / "tokenizer")
    assert again.eos_token == tokens.END and len(again) == SMALL["vocab_size"]
    assert again("12345 is a number")["input_ids"] == built.tokenizer("12345 is a number")["input_ids"]
    assert again.tokenize("12345") == list("12345")


def test_the_tokenizer_learns_from_a_small_candidate_as_much_as_from_a_large_one():
    large, small = [f"{a}{b}{c}" * 30 for a in "abc" for b in "def" for c in "gh"] * 9, ["zebra quokka " * 20]
    words = tokens.learn({"large": large, "small": small}, 300).get_vocab()
    assert any("zebra" in token for token in words) and any("quokka" in token for token in words)
