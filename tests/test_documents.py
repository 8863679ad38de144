"""What files hold: every document is read, in every form; whatever is no text is refused by name."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from fixtures_texts import PACK, docs, jsonl, parquet, put

from demix_nb import documents, textfiles
from demix_nb.store import Refusal

TEXTS = ["one", "two\nlines\r\nand three", "Ärger 东京 👍", "", "\u2028 and \x85 end no line", "  "]


def held(folder: Path) -> dict[str, list[str]]:
    return {name: documents.read(files) for name, files in textfiles.texts(folder).items()}


# --- what is read


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".jsonl", ".json", ".ndjson", ".JSONL"])
def test_records_come_back_from_every_packing(ending, packing, tmp_path):
    plain = jsonl(TEXTS) + b"\n" + jsonl(TEXTS, ensure_ascii=False).replace(b"\n", b"\r\n")
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + plain))
    assert held(tmp_path) == {"a": TEXTS * 2}


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_packings_that_were_appended_to_are_read_to_their_end(packing, tmp_path):
    put(tmp_path / f"a.jsonl{packing}", PACK[packing](jsonl(["one"])) + PACK[packing](jsonl(["two"])))
    assert held(tmp_path) == {"a": ["one", "two"]}


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("ending", [".txt", ".TXT"])
def test_text_files_come_back_from_every_packing(ending, packing, tmp_path):
    text = "\n\n".join(docs(0, 30)) + "\n\nÄrger"
    put(tmp_path / f"a{ending}{packing}", PACK[packing](b"\xef\xbb\xbf" + text.encode()))
    assert held(tmp_path) == {"a": [text]}


@pytest.mark.parametrize(
    "column",
    [pa.array(TEXTS), pa.array(TEXTS, pa.large_string()), pa.array(TEXTS, pa.string_view()),
     pa.array(TEXTS).dictionary_encode(), pa.chunked_array([TEXTS[:2], TEXTS[2:]])],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_every_type_of_string_is_read(column, tmp_path):
    parquet(tmp_path / "a.parquet", column, row_group_size=2)
    assert held(tmp_path) == {"a": TEXTS}


def test_files_without_rows_have_no_documents(tmp_path):
    parquet(tmp_path / "a" / "0.parquet", pa.array([], pa.string()))
    parquet(tmp_path / "a" / "1.parquet", pa.array([], pa.null()))
    put(tmp_path / "a" / "2.jsonl", b"")
    parquet(tmp_path / "a" / "3.parquet", TEXTS)
    assert held(tmp_path)["a"] == TEXTS


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
        held(tmp_path)


@pytest.mark.parametrize("value", [["a", "b"], {"de": "a"}, 1, 1.5, True, None, [None]], ids=str)
def test_a_field_of_anything_but_strings_is_refused(value, tmp_path):
    put(tmp_path / "a.jsonl.gz", gzip.compress(jsonl(["fine", value])))
    with pytest.raises(Refusal, match=r"a\.jsonl\.gz, line 2: expected a JSON object with a text in its field 'text'"):
        held(tmp_path)


@pytest.mark.parametrize(
    "data", [b'[{"text": "a"}]', b'{\n "text": "a"\n}', b'"text"', b"[" * 99_999, b"a,text\n1,b\n"]
)
def test_json_that_is_not_an_object_a_line_is_refused(data, tmp_path):
    put(tmp_path / "a.json", data)
    with pytest.raises(Refusal, match=r"a\.json, line 1: expected a JSON object"):
        held(tmp_path)


def test_missing_texts_of_a_table_are_refused_by_row(tmp_path):
    parquet(tmp_path / "a.parquet", ["one", "two", None, "four"], row_group_size=1)
    with pytest.raises(Refusal, match=r"a\.parquet, row 3: no text, but a missing value \(null\); drop such rows"):
        held(tmp_path)


def test_a_column_that_is_missing_or_there_twice_is_refused(tmp_path):
    pa.parquet.write_table(pa.table({"Text": ["a"], "id": [1]}), tmp_path / "a.parquet")
    with pytest.raises(Refusal, match=r"a\.parquet has no column 'text', only Text, id; rename one"):
        held(tmp_path)
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pa.parquet.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(Refusal, match=r"a\.parquet has 2 columns 'text'; rename one"):
        held(tmp_path)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz", ".jsonl.bz2", ".txt.xz", ".txt.zst", ".jsonl"])
def test_files_cut_short_are_refused_wherever_they_are_cut(ending, tmp_path):
    whole = parquet(tmp_path / "whole", docs(0, 40)).read_bytes()
    if ending != ".parquet":
        packing = ending.removeprefix(".jsonl").removeprefix(".txt")
        whole = PACK[packing](jsonl(docs(0, 40)) if ending.startswith(".jsonl") else "\n\n".join(docs(0, 40)).encode())
    for share in (0.1, 0.5, 0.9):
        path = put(tmp_path / "law" / f"b{ending}", whole[: int(share * len(whole))])
        with pytest.raises(Refusal, match=rf"b{ending}.*(damaged or cut short, get it again|expected a JSON object)"):
            held(tmp_path / "law")
        path.write_bytes(whole)
        assert len(held(tmp_path / "law")["b"]) == (1 if ".txt" in ending else 40)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz", ".txt.bz2", ".txt.xz", ".jsonl.zst"])
def test_files_that_are_not_what_their_ending_says_are_refused(ending, tmp_path):
    put(tmp_path / f"a{ending}", b"<html><body>404 Not Found</body></html>")
    with pytest.raises(Refusal, match=rf"cannot read .*a{ending} \(.*\); if it is damaged or cut short, get it again"):
        held(tmp_path)


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("encoding", ["utf-16", "latin1", "utf-32", "cp1252"])
@pytest.mark.parametrize("ending", [".txt", ".jsonl"])
def test_other_encodings_are_refused(ending, encoding, packing, tmp_path):
    data = "Ärger\n" if ending == ".txt" else '{"text": "Ärger"}\n'
    put(tmp_path / f"a{ending}{packing}", PACK[packing](data.encode(encoding)))
    with pytest.raises(Refusal, match=rf"a{ending}{packing}.* is not UTF-8 \(byte \d+\); convert it"):
        held(tmp_path)


def test_bytes_that_a_table_calls_a_string_are_refused(tmp_path):
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    parquet(tmp_path / "a.parquet", broken)
    with pytest.raises(Refusal, match=r"a\.parquet, a row of column 'text', is not UTF-8"):
        held(tmp_path)


# --- what a study names


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with a text file, a file of records and a folder of two files, of three candidates."""
    put(tmp_path / "web.txt", b"one\n\ntwo")
    put(tmp_path / "math.jsonl.gz", gzip.compress(jsonl(["three", "four"])))
    put(tmp_path / "code" / "b.jsonl", jsonl(["six"]))
    parquet(tmp_path / "code" / "a.parquet", ["five"])
    return tmp_path


NAMES = ["web", "poems", "math", "code"]
FOUND = {"web": ["one\n\ntwo"], "math": ["three", "four"], "code": ["five", "six"]}


def test_a_folder_and_named_files_give_the_same_documents_in_the_order_of_the_candidates(folder):
    by_folder = documents.of(folder, NAMES)
    places = {"code": folder / "code", "math": str(folder / "math.jsonl.gz"), "web": folder / "web.txt"}
    assert by_folder == documents.of(places, NAMES) == FOUND
    assert list(by_folder) == list(documents.of(places, NAMES)) == ["web", "math", "code"]
    assert list(documents.of(str(folder), NAMES[::-1])) == ["code", "math", "web"]


def test_a_file_may_be_called_otherwise_than_its_candidate(folder):
    assert documents.of({"poems": folder / "web.txt"}, NAMES) == {"poems": FOUND["web"]}


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"web": "webb.txt"}, r"no .*webb\.txt, which is named for candidate 'web'; check the path"),
        (
            {"wep": "web.txt"},
            r"web\.txt is given for 'wep', which is no candidate; did you mean web\? known: code, math",
        ),
        ({"web": "notes.md"}, r"cannot read .*notes\.md: use \.txt, \.jsonl, \.parquet"),
        ({"web": "nothing"}, r"candidate 'web' is empty: no file in .*nothing"),
        ({"web": "blank.txt"}, r"candidate 'web' has no text in .*blank\.txt; give at least one document"),
        ({"web": "empty.jsonl"}, r"candidate 'web' has no text in .*empty\.jsonl"),
        ({"web": "web.txt", "code": "web.txt"}, r"are one file, in candidates 'web' and 'code'; keep one"),
        ({"web": "broken.jsonl"}, r"broken\.jsonl, line 1: expected a JSON object"),
    ],
)
def test_named_text_that_is_not_there_or_no_candidates_is_refused(places, message, folder):
    (folder / "nothing").mkdir()
    for name, data in (("notes.md", b"a"), ("blank.txt", b" \n"), ("empty.jsonl", b""), ("broken.jsonl", b"a\n")):
        put(folder / name, data)
    with pytest.raises(Refusal, match=message):
        documents.of({name: folder / place for name, place in places.items()}, NAMES)


def test_a_folder_that_is_not_of_these_candidates_is_refused(folder):
    with pytest.raises(
        Refusal, match=r"math\.jsonl\.gz is given for 'math', which is no candidate; did you mean maths\?"
    ):
        documents.of(folder, ["web", "maths", "code"])
    with pytest.raises(Refusal, match=r"no folder .*elsewhere; give one with a file or folder per candidate"):
        documents.of(folder / "elsewhere", NAMES)
    (folder / "math.jsonl.gz").write_bytes(gzip.compress(jsonl(["", " \n"])))
    with pytest.raises(Refusal, match=r"candidate 'math' has no text in .*math\.jsonl\.gz; give at least one document"):
        documents.of(folder, NAMES)


def test_text_to_train_on_is_not_taken_for_held_out(folder):
    put(folder / "all" / "train" / "web.txt", b"a")
    put(folder / "all" / "valid" / "web.txt", b"b")
    with pytest.raises(Refusal, match=r"all/train is text to train on, which is not held out; name the folder"):
        documents.of(folder / "all", NAMES)
    assert documents.of(folder / "all" / "valid", NAMES) == {"web": ["b"]}


def test_plain_text_needs_no_pyarrow(folder):
    (folder / "code" / "a.parquet").unlink()
    code = f"""if True:
        import sys
        sys.modules["pyarrow"] = None
        from pathlib import Path
        from demix_nb import documents
        print(documents.of(Path({str(folder)!r}), ["web", "math", "code"]))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(FOUND | {"code": ["six"]})
