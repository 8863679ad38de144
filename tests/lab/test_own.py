"""What own files hold: every text is read and counted, in every form; whatever is no text is refused by name."""

import bz2
import gzip
import json
import lzma
import random
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml

from demix_nb import mixtures
from demix_nb.lab import own
from demix_nb.lab.corpora import build
from demix_nb.lab.families import assign_families
from demix_nb.region import Region
from demix_nb.store import Refusal

WORDS = "river stone market letter garden winter engine signal border harvest mirror candle bridge thunder".split()
ROW = {"megabytes": 0.06, "vocab_size": 300, "heldout_kb": 8, "seed": 0}
TEXTS = ["one", "two\nlines\r\nand three", "Ärger 东京 👍", "", "\u2028 and \x85 end no line", "  "]


def docs(seed: int, count: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choice(WORDS) for _ in range(60)).capitalize() + "." for _ in range(count)]


def jsonl(texts: list[object], **how) -> bytes:
    return "".join(json.dumps({"text": text, "id": 7}, **how) + "\n" for text in texts).encode()


def parquet(path: Path, column: object, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table({"id": list(range(len(column))), "text": column}), path, **how)
    return path


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd, ".GZ": gzip.compress}


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def held(folder: Path) -> dict[str, list[str]]:
    return {name: sorted(files(np.random.default_rng(0))) for name, files in own.readers(folder).items()}


# --- what is read


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".ndjson", ".JSONL"])
def test_records_come_back_from_every_packing(ending, packing, tmp_path):
    plain = jsonl(TEXTS) + b"\n" + jsonl(TEXTS, ensure_ascii=False).replace(b"\n", b"\r\n")
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + plain))
    assert held(tmp_path) == {"a": sorted(TEXTS * 2)}
    size = 2 * sum(len(text.encode()) for text in TEXTS)
    assert own.sizes(own.readers(tmp_path), n_jobs=1) == {"a": size}


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_packings_that_were_appended_to_are_read_to_their_end(packing, tmp_path):
    put(tmp_path / f"a.jsonl{packing}", PACK[packing](jsonl(["one"])) + PACK[packing](jsonl(["two"])))
    assert held(tmp_path) == {"a": ["one", "two"]}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".txt", ".TXT"])
def test_text_files_come_back_from_every_packing(ending, packing, tmp_path):
    text = "\n\n".join(docs(0, 30)) + "\n\nÄrger"
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + text.encode()))
    assert sorted(" ".join(held(tmp_path)["a"]).split()) == sorted(text.split())
    assert own.sizes(own.readers(tmp_path), n_jobs=1) == {"a": len(text.encode())}


@pytest.mark.parametrize(
    "column",
    [pa.array(TEXTS), pa.array(TEXTS, pa.large_string()), pa.array(TEXTS, pa.string_view()),
     pa.array(TEXTS).dictionary_encode(), pa.chunked_array([TEXTS[:2], TEXTS[2:]])],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_every_type_of_string_is_read(column, tmp_path):
    parquet(tmp_path / "a.parquet", column, row_group_size=2)
    assert held(tmp_path) == {"a": sorted(TEXTS)}


def test_files_without_rows_are_passed_over(tmp_path):
    parquet(tmp_path / "a" / "0.parquet", pa.array([], pa.string()))
    parquet(tmp_path / "a" / "1.parquet", pa.array([], pa.null()))
    put(tmp_path / "a" / "2.jsonl", b"")
    put(tmp_path / "a" / "3.txt.gz", gzip.compress(b""))
    parquet(tmp_path / "a" / "4.parquet", TEXTS)
    assert held(tmp_path)["a"] == sorted(TEXTS)


# --- what is refused


@pytest.mark.parametrize(
    "column",
    [[["a", "b"]], [{"de": "a"}], [1], [1.5], [True], [b"bytes"], [pd.Timestamp(0)], [[None]],
     pa.array([["a"], None]), pa.array([1, 1]).dictionary_encode()],
    ids=str,
)  # fmt: skip
def test_a_column_of_anything_but_strings_is_refused(column, tmp_path):
    parquet(tmp_path / "law" / "b.parquet", column)
    with pytest.raises(Refusal, match=r"b\.parquet: column 'text' holds .*, not text; write each document as one str"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


@pytest.mark.parametrize("value", [["a", "b"], {"de": "a"}, 1, 1.5, True, None, [None]], ids=str)
def test_a_field_of_anything_but_strings_is_refused(value, tmp_path):
    put(tmp_path / "a.jsonl.gz", gzip.compress(jsonl(["fine", value])))
    with pytest.raises(Refusal, match=r"a\.jsonl\.gz, line 2: expected a JSON object with a text in its field 'text'"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


@pytest.mark.parametrize(
    "data", [b'[{"text": "a"}]', b'{\n "text": "a"\n}', b'"text"', b"[" * 99_999, b"a,text\n1,b\n"]
)
def test_json_that_is_not_an_object_a_line_is_refused(data, tmp_path):
    put(tmp_path / "a.json", data)
    with pytest.raises(Refusal, match=r"a\.json, line 1: expected a JSON object"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


def test_missing_texts_of_a_table_are_refused_by_row(tmp_path):
    parquet(tmp_path / "a.parquet", ["one", "two", None, "four"], row_group_size=1)
    with pytest.raises(Refusal, match=r"a\.parquet, row 3: no text, but a missing value \(null\); drop such rows"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


def test_a_column_that_is_missing_or_there_twice_is_refused(tmp_path):
    pa.parquet.write_table(pa.table({"Text": ["a"], "id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(Refusal, match=r"a\.parquet has no column 'text', only Text, id; rename one"):
        own.sizes(own.readers(tmp_path), n_jobs=1)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pa.parquet.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(Refusal, match=r"a\.parquet has 2 columns 'text'; rename one"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz", ".jsonl.bz2", ".txt.xz", ".txt.zst", ".jsonl"])
def test_files_cut_short_are_refused_wherever_they_are_cut(ending, tmp_path):
    whole = parquet(tmp_path / "whole", docs(0, 40)).read_bytes()
    if ending != ".parquet":
        packing = ending.removeprefix(".jsonl").removeprefix(".txt")
        whole = PACK[packing](jsonl(docs(0, 40)) if ending.startswith(".jsonl") else "\n\n".join(docs(0, 40)).encode())
    for share in (0.1, 0.5, 0.9):
        path = put(tmp_path / "law" / f"b{ending}", whole[: int(share * len(whole))])
        with pytest.raises(Refusal, match=rf"b{ending}.*(damaged or cut short, get it again|expected a JSON object)"):
            own.sizes(own.readers(tmp_path / "law"), n_jobs=1)
        path.write_bytes(whole)
        assert own.sizes(own.readers(tmp_path / "law"), n_jobs=1)["b"] > 9000


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz", ".txt.bz2", ".txt.xz", ".jsonl.zst"])
def test_files_that_are_not_what_their_ending_says_are_refused(ending, tmp_path):
    put(tmp_path / f"a{ending}", b"<html><body>404 Not Found</body></html>")
    with pytest.raises(Refusal, match=rf"cannot read .*a{ending} \(.*\); if it is damaged or cut short, get it again"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-16", "latin1", "utf-32", "cp1252"])
@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
def test_other_encodings_are_refused(ending, encoding, packing, tmp_path):
    data = "Ärger\n" if ending == ".txt" else '{"text": "Ärger"}\n'
    put(tmp_path / f"a{ending}{packing}", PACK[packing](data.encode(encoding)))
    with pytest.raises(Refusal, match=rf"a{ending}{packing}.* is not UTF-8 \(byte \d+\); convert it"):
        own.sizes(own.readers(tmp_path), n_jobs=1)


def test_bytes_that_a_table_calls_a_string_are_refused(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    parquet(tmp_path / "a.parquet", broken)
    with pytest.raises(Refusal, match=r"a\.parquet, a row of column 'text', is not UTF-8"):
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
