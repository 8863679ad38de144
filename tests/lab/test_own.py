"""Candidates of own files: all text is handed on and counted; families by name or file; amounts of all there is."""

import gzip
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from fixtures_texts import PACK, docs, jsonl, parquet, put

from demix_nb import mixtures
from demix_nb.lab import own
from demix_nb.lab.corpora import build
from demix_nb.lab.families import assign_families
from demix_nb.region import Region
from demix_nb.store import Refusal

ROW = {"megabytes": 0.06, "vocab_size": 300, "heldout_kb": 8, "seed": 0}
TEXTS = ["one", "two\nlines\r\nand three", "Ärger 东京 👍", "", "  "]


def held(folder: Path) -> dict[str, list[str]]:
    return {name: sorted(files(np.random.default_rng(0))) for name, files in own.readers(folder).items()}


def words(texts: list[str]) -> list[str]:
    return sorted(" ".join(texts).split())


# --- what is handed on and counted


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".ndjson", ".JSONL"])
def test_all_bytes_of_records_are_counted_in_every_packing(ending, packing, tmp_path):
    plain = jsonl(TEXTS) + b"\n" + jsonl(TEXTS, ensure_ascii=False).replace(b"\n", b"\r\n")
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + plain))
    size = 2 * sum(len(text.encode()) for text in TEXTS)
    assert own.sizes(own.readers(tmp_path), n_jobs=1) == {"a": size}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".txt", ".TXT"])
def test_all_bytes_of_text_files_are_counted_in_every_packing(ending, packing, tmp_path):
    text = "\n\n".join(docs(0, 30)) + "\n\nÄrger"
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + text.encode()))
    assert own.sizes(own.readers(tmp_path), n_jobs=1) == {"a": len(text.encode())}


def test_records_come_whole_and_text_files_in_pieces_and_all_bytes_are_counted(tmp_path):
    text = "\n\n".join(docs(0, 30)) + "\n\nÄrger"
    parquet(tmp_path / "a.parquet", TEXTS)
    put(tmp_path / "b.txt", text.encode())
    found = held(tmp_path)
    assert found["a"] == sorted(TEXTS) and words(found["b"]) == words([text]) and len(found["b"]) > 1
    size = sum(len(one.encode()) for one in TEXTS)
    assert own.sizes(own.readers(tmp_path), n_jobs=1) == {"a": size, "b": len(text.encode())}


def test_many_text_files_stay_whole_and_few_lose_their_empty_ones(tmp_path):
    long = "\n\n".join(docs(0, 30))
    for number in range(own.FEW_FILES):
        put(tmp_path / "many" / f"{number}.txt", f"{number} {long}".encode())
    put(tmp_path / "few" / "0.txt", b"")
    put(tmp_path / "few" / "1.txt", b"one")
    found = held(tmp_path)
    assert len(found["many"]) == own.FEW_FILES and found["few"] == ["one"]


def test_what_cannot_be_read_is_refused_when_it_is_counted(tmp_path):
    put(tmp_path / "a.jsonl", jsonl(["fine", 7]))
    with pytest.raises(Refusal, match=r"a\.jsonl, line 2: expected a JSON object with a text in its field 'text'"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


# --- families


NAMES = ["no", "2023", "nan", "1e3", "true", "~", "00e1", "0x10", "1_000", "2024-01-01", "12:30"]


def test_families_are_read_as_they_are_spelt(tmp_path):
    lines = {name: f"{name}-family" for name in NAMES}
    (tmp_path / "families.yml").write_text("".join(f"{name}: {family}\n" for name, family in lines.items()))
    assert assign_families(NAMES, tmp_path / "families.yml") == lines
    (tmp_path / "families.yml").write_text(yaml.safe_dump({name: name for name in NAMES}))
    assert assign_families(NAMES, tmp_path / "families.yml") == {name: name for name in NAMES}
    (tmp_path / "families.yml").write_text("{a: no, b: 007}")
    assert assign_families(["a", "b"], tmp_path / "families.yml") == {"a": "no", "b": "007"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: x\na: y\nb: z", r"names candidate 'a' twice; keep one line"),
        ("a: x\n'a': x\nb: z", r"names candidate 'a' twice"),
        ("a:\nb: z", r"has no family for candidate 'a'"),
        ("a: [x]\nb: z", r"must have a line `candidate: family` for each of a, b, no more"),
        ("a: {x: 1}\nb: z", r"must have a line `candidate: family`"),
        ("[a, b]: x", r"must have a line `candidate: family`"),
        ("", r"must have a line `candidate: family`"),
        ("a: x\n---\nb: y", r"cannot read families from .*families\.yml: [^\n]+$"),
        ("a: x\nb: y\nA: z", r"names unknown candidate 'A'"),
    ],
)
def test_families_that_do_not_say_one_thing_are_refused(text, message, tmp_path):
    (tmp_path / "families.yml").write_text(text)
    with pytest.raises(Refusal, match=message):
        assign_families(["a", "b"], tmp_path / "families.yml")


def test_families_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(Refusal, match=r"cannot read .*families\.yml \(.*No such file"):
        assign_families(["a", "b"], tmp_path / "families.yml")


# --- how much there is


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """Return the folder and the corpora of a large and a small candidate, both cut by `megabytes`."""
    folder = tmp_path_factory.mktemp("sizes")
    put(folder / "texts" / "general.txt", "\n\n".join(docs(0, 4000)).encode())
    for number in range(4):
        put(folder / "texts" / f"law-{number}.jsonl.gz", gzip.compress(jsonl(docs(5 + number, 150))))
    parquet(folder / "texts" / "news" / "a.parquet", docs(20, 200))
    return folder / "texts", build(folder / "built", sources=folder / "texts", **ROW)


def test_amounts_are_those_of_the_text_given_not_of_what_was_taken(sized):
    folder, corpus = sized
    table, given = corpus.table, own.sizes(own.readers(folder), n_jobs=2)
    assert given["general"] == (folder / "general.txt").stat().st_size
    assert table["train_bytes"].max() < 0.07e6 < min(given.values()) < given["general"] / 15
    expected = pd.Series(given) * table["train_tokens"] / table["train_bytes"]
    assert (table["tokens"] - expected).abs().max() <= 0.5
    assert (table["tokens"] > table["train_tokens"]).all()
    shares, sizes = mixtures.natural(table["tokens"]), pd.Series(given) / sum(given.values())
    assert (shares - sizes).abs().max() < 0.01, "much the same words"
    assert mixtures.natural(table["train_tokens"])["general"] < 0.4 < 0.75 < shares["general"]


def test_the_amounts_do_not_depend_on_how_much_is_taken(sized, tmp_path):
    folder, corpus = sized
    more = build(tmp_path / "more", sources=folder, **ROW | {"megabytes": 0.12}).table
    assert (more["train_tokens"] > corpus.table["train_tokens"]).all()
    assert np.allclose(mixtures.natural(more["tokens"]), mixtures.natural(corpus.table["tokens"]), atol=0.01)


def test_a_cap_on_epochs_lets_all_text_be_read(sized):
    tokens = sized[1].table["tokens"]
    region = Region.of_data(tokens, target_tokens=tokens.sum() / 2, epochs=1, general="general", beta=1.0)
    assert np.allclose(region.upper, (2 * tokens / tokens.sum()).clip(upper=1))


def test_damage_beyond_what_would_be_taken_is_refused_and_what_was_built_stays(sized, tmp_path):
    folder, _ = sized
    (tmp_path / "texts").mkdir()
    for path in folder.iterdir():
        (tmp_path / "texts" / path.name).symlink_to(path)
    before = build(tmp_path / "built", sources=tmp_path / "texts", **ROW)
    (tmp_path / "texts" / "law-3.jsonl.gz").unlink()
    whole = (folder / "law-3.jsonl.gz").read_bytes()
    put(tmp_path / "texts" / "law-3.jsonl.gz", whole[:-99])
    with pytest.raises(Refusal, match=r"cannot read .*law-3\.jsonl\.gz"):
        build(tmp_path / "built", sources=tmp_path / "texts", **ROW)
    put(tmp_path / "texts" / "law-3.jsonl.gz", whole)
    assert build(tmp_path / "built", sources=tmp_path / "texts", **ROW).key == before.key


def test_half_a_surrogate_pair_is_counted_and_cleaned_away(tmp_path):
    put(tmp_path / "a.jsonl", b'{"text": "\\ud83d"}\n' + jsonl(docs(0, 200)))
    put(tmp_path / "b.jsonl", jsonl(docs(1, 200)))
    assert own.sizes(own.readers(tmp_path), n_jobs=1)["a"] == 3 + sum(len(text) for text in docs(0, 200))
    corpus = build(tmp_path / "built", sources=tmp_path, general="a", **ROW)
    assert corpus.candidates == ["a", "b"]


# --- the cases beside the repository


@pytest.fixture(scope="module")
def cases(shared, tmp_path_factory) -> Path:
    script, folder = shared / "cases" / "corpora" / "make.py", tmp_path_factory.mktemp("cases")
    if not script.is_file():
        pytest.skip(f"no {script.name} of corpora among the cases beside the repository")
    before, sys.argv = sys.argv, [str(script), str(folder)]
    try:
        runpy.run_path(str(script))
    finally:
        sys.argv = before
    return folder


@pytest.mark.parametrize(
    ("case", "read"),
    [
        ("sizes", {"general": 4000, "law": 250}),
        ("snapshots", {"CC-MAIN-2023-06": 150, "CC-MAIN-2023-50": 150, "general": 200}),
        ("linked", {"general": 200, "law": 250}),
        ("hidden", {"general": 200, "law": 150}),
        ("nan", {"general": 200, "nan": 200, "yue": 200}),
    ],
)
def test_cases_that_are_to_be_read(case, read, cases, tmp_path):
    texts = held(cases / case)
    found = {name: sum(text.count(".") for text in texts[name]) for name in texts}  # each document ends in its only one
    assert found == read
    corpus = build(tmp_path / "built", sources=cases / case, **ROW)
    assert corpus.candidates == list(read)
    rows = (corpus.directory / "corpora.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == list(read)
    if case == "sizes":
        assert mixtures.natural(corpus.table["tokens"]).round(2).to_dict() == {"general": 0.94, "law": 0.06}


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("lists", r"law\.parquet: column 'text' holds list<.*string>, not text"),
        ("empty-shard", r"part-1\.parquet is damaged, it has no bytes at all"),
    ],
)
def test_cases_that_are_to_be_refused(case, message, cases, tmp_path):
    with pytest.raises(Refusal, match=message):
        build(tmp_path / "built", sources=cases / case, **ROW)
    assert not (tmp_path / "built").exists()
