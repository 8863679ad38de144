"""A folder of text, listed: every file is some candidate's, or passed over by a rule, or refused by name."""

import os
from itertools import chain
from pathlib import Path

import pytest

from demix_nb.store import Refusal
from demix_nb.textfiles import kind, texts


def make(folder: Path, *names: str) -> Path:
    """Write files by their names; what a file holds does not matter here, but that it is more than nothing."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"text {number}")
    return folder


def listed(folder: Path) -> dict[str, list[str]]:
    return {name: [path.relative_to(folder).as_posix() for path in paths] for name, paths in texts(folder).items()}


# --- numbers at a name's end


@pytest.mark.parametrize(
    ("names", "candidates"),
    [
        ("CC-MAIN-2023-06 CC-MAIN-2023-50", "CC-MAIN-2023-06 CC-MAIN-2023-50"),
        ("news-2024", "news-2024"),
        ("wiki-2019 wiki-2020 wiki-2021", "wiki-2019 wiki-2020 wiki-2021"),
        ("v-2 v-3 v-4", "v-2 v-3 v-4"),
        ("x-0 x-1 x-3", "x-0 x-1 x-3"),
        ("x-1 x-01", "x-01 x-1"),
        ("news-0", "news"),
        ("news-1", "news"),
        ("news-0 news-1 news-2", "news"),
        ("news-1 news-2", "news"),
        ("news-000 news-001", "news"),
        ("pile-2023-0 pile-2023-1", "pile-2023"),
        ("a-0 b-0 b-1 b-7 c-1", "a b-0 b-1 b-7 c"),
        ("news-00000-of-00002 news-00001-of-00002", "news"),
        ("news-1-of-2 news-2-of-2", "news"),
        ("news_0_of_2 news_1_of_2", "news"),
        ("news-00000-of-00002-3f2a91bc news-00001-of-00002-77aa0e1d", "news"),
        ("0 1 2", "0 1 2"),
        ("-5 x-", "-5 x-"),
    ],
)
def test_numbers_are_shards_only_where_they_count_up_or_say_so(names, candidates, tmp_path):
    found = listed(make(tmp_path, *(f"{name}.jsonl" for name in names.split())))
    assert list(found) == candidates.split()
    assert sorted(chain(*found.values())) == sorted(f"{name}.jsonl" for name in names.split())


@pytest.mark.parametrize("inside", ["", "law/", "law/2023/"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("n-00000-of-00003 n-00002-of-00003", "n-00000-of-00003.txt is one of 3 shards, and number 1 is missing"),
        ("n-00001-of-00002", "n-00001-of-00002.txt is one of 2 shards, and number 0 is missing"),
        ("n-1-of-3 n-3-of-3", "number 2 is missing"),
        ("n-0-of-2 n-1-of-2 n-2-of-2", "of 2 shards"),
        ("n-0-of-1-aaaaaaaa n-0-of-1-bbbbbbbb", "of 1 shards, but there are 2; keep those of one writing"),
        ("n-0-of-2 n-0-of-3 n-1-of-3 n-2-of-3", "n-0-of-2.txt is one of 2 shards, and number 1 is missing"),
    ],
)
def test_a_missing_shard_is_named(inside, names, message, tmp_path):
    make(tmp_path, "general.txt", *(f"{inside}{name}.txt" for name in names.split()))
    with pytest.raises(Refusal, match=message):
        texts(tmp_path)


def test_random_numbers_are_joined_exactly_where_they_count_up(tmp_path, rng):
    for turn in range(40):
        numbers = sorted({int(n) for n in rng.integers(0, 5, rng.integers(1, 6))})
        folder = make(tmp_path / str(turn), *(f"c-{n}.txt" for n in numbers))
        joined = numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] < 2
        assert list(listed(folder)) == (["c"] if joined else [f"c-{n}" for n in numbers])


def test_the_layout_of_regmix(tmp_path):
    make(tmp_path, "train/arxiv-0.jsonl", "train/arxiv-1.jsonl", "train/pile_cc-1.jsonl", "valid/arxiv-0.jsonl")
    make(tmp_path, "README.md", "run.sh", "tools/run.py", ".cache/a.txt")
    assert list(texts(tmp_path)) == ["arxiv", "pile_cc"]
    for name in ("law.txt", "law/deep/a.parquet"):
        with pytest.raises(Refusal, match=r"law\S* lies beside .*train, which is taken for all there is; move it in"):
            texts(make(tmp_path, name))
        (tmp_path / name).unlink()


# --- endings


def test_endings_in_capitals_and_packed_ones_are_read(tmp_path):
    names = [f"{i}{ending}" for i, ending in enumerate(".TXT .JSONL .Json .ndjson .PARQUET .txt.gz .jsonl.GZ".split())]
    names += ["a.2023.jsonl.zst", "b.json.bz2", "c.txt.XZ", "d.snappy.parquet"]
    found = texts(make(tmp_path, *names))
    assert list(found) == ["0", "1", "2", "3", "4", "5", "6", "a.2023", "b", "c", "d.snappy"]
    kinds = ".txt .jsonl .json .ndjson .parquet .txt .jsonl .jsonl .json .txt .parquet".split()
    assert [kind(path) for paths in found.values() for path in paths] == kinds


@pytest.mark.parametrize(
    "name", ["a.csv", "a.parquet.gz", "a.jsonl.lz4", "a.zip", "a", "a.txt~", "law/a.md", "law/x.yml"]
)
def test_other_endings_are_refused_never_passed_over(name, tmp_path):
    make(tmp_path, "general.txt", "law/b.txt", name)
    with pytest.raises(
        Refusal, match=rf"cannot read .*/{name}: use \.txt, \.jsonl, \.parquet .* convert it or move it"
    ):
        texts(tmp_path)


@pytest.mark.parametrize(
    "pair", ["a.jsonl a.jsonl.gz", "a.txt a.parquet", "a.txt a.TXT", "law/a.jsonl law/a.jsonl.zst"]
)
def test_one_text_in_two_forms_is_refused(pair, tmp_path):
    make(tmp_path, "general.txt", *pair.split())
    with pytest.raises(Refusal, match=r"/a\.\w+.* and a\.\S+ look like one text in two forms; keep one"):
        texts(tmp_path)


@pytest.mark.parametrize(
    "names",
    ["news.txt news/a.txt", "news.txt news-0.txt", "News.txt news.jsonl", "STRASSE.txt straße.txt",
     "caf\u00e9.txt cafe\u0301.jsonl", "news-0-of-1.txt news.jsonl"],
)  # fmt: skip
def test_two_things_of_one_name_are_refused(names, tmp_path):
    make(tmp_path, "general.txt", *names.split())
    with pytest.raises(Refusal, match=r"are both of candidate .*; join them in one folder, or rename one"):
        texts(tmp_path)


@pytest.mark.parametrize("name", ["a\nb", " a", "a\t", "\udcff", "00000-of-00001"])
def test_names_that_no_table_can_hold_are_refused(name, tmp_path):
    make(tmp_path, "general.txt", f"{name}.txt")
    with pytest.raises(Refusal, match=r"gives the name .* to a candidate; rename it"):
        texts(tmp_path)


@pytest.mark.parametrize(
    "name", ["nan", "NA", "null", "no", "1e3", "00e1", "2023", "true", "-", "naïve, or not", "东京"]
)
def test_names_are_text(name, tmp_path):
    assert list(texts(make(tmp_path, f"{name}.txt"))) == [name]


# --- what lies beside text


def test_hidden_files_and_marks_are_passed_over_inside_candidates_and_beside(tmp_path):
    marks = ".DS_Store ._a.txt .a.jsonl.swp .git/config _SUCCESS ._SUCCESS.crc _metadata _common_metadata _committed_17"
    marks = [*marks.split(), "_temporary/0/part-0.parquet", "__MACOSX/._a.txt", "Thumbs.db", "_spark_metadata/0"]
    make(tmp_path, "general.txt", "law/a.txt", "README.md", "families.yml", "OTHER.YAML")
    make(tmp_path, *marks, *(f"law/{mark}" for mark in marks), *(f"law/deep/{mark}" for mark in marks))
    assert listed(tmp_path) == {"general": ["general.txt"], "law": ["law/a.txt"]}


def test_text_behind_an_underscore_is_text(tmp_path):
    make(tmp_path, "_news.jsonl", "_law/a.txt", "law/_b.txt")
    assert listed(tmp_path) == {"_law": ["_law/a.txt"], "_news": ["_news.jsonl"], "law": ["law/_b.txt"]}


@pytest.mark.parametrize("mark", ["_delta_log/00.json", ".hoodie/hoodie.properties"])
def test_tables_whose_files_hold_deleted_rows_are_refused(mark, tmp_path):
    make(tmp_path, "general.txt", "law/a.parquet", f"law/{mark}")
    with pytest.raises(Refusal, match=r"law is a (Delta|Hudi) table: .* export it as Parquet"):
        texts(tmp_path)


def test_folders_without_text_are_refused(tmp_path):
    with pytest.raises(Refusal, match=r"no folder .*nowhere"):
        texts(tmp_path / "nowhere")
    with pytest.raises(Refusal, match=r"no \.txt, \.jsonl, \.parquet file in"):
        texts(make(tmp_path, "README.md", ".hidden"))
    make(tmp_path, "law/.DS_Store")
    with pytest.raises(Refusal, match="candidate 'law' is empty: no file in"):
        texts(tmp_path)


def test_what_is_no_file_is_refused(tmp_path):
    make(tmp_path, "general.txt")
    os.mkfifo(tmp_path / "news.txt")
    with pytest.raises(Refusal, match=r"cannot read .*news\.txt"):
        texts(tmp_path)


# --- files that stand for others


@pytest.mark.parametrize("ending", [".txt", ".jsonl", ".json", ".parquet", ".jsonl.gz", ".txt.zst"])
@pytest.mark.parametrize(
    "pointer",
    ["version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "/annex/objects/SHA256E-s9--8f.x\n"],
)
def test_pointers_are_refused_in_every_form(ending, pointer, tmp_path):
    make(tmp_path, "general.txt", "law/a.txt")
    (tmp_path / "law" / f"b{ending}").write_text(pointer)
    with pytest.raises(Refusal, match=rf"b{ending} is a pointer to a file that was not fetched; run `git lfs pull`"):
        texts(tmp_path)


def test_a_document_about_pointers_is_a_document(tmp_path):
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\n" + "is how pointers begin\n" * 99)
    assert list(texts(tmp_path)) == ["a"]


@pytest.mark.parametrize("ending", [".parquet", ".jsonl.gz", ".txt.zst"])
def test_files_without_bytes_are_damaged_where_their_form_has_a_header(ending, tmp_path):
    make(tmp_path, "general.txt", "law/a.txt")
    (tmp_path / "law" / "b.txt").write_bytes(b"")
    assert len(texts(tmp_path)["law"]) == 2
    (tmp_path / "law" / f"c{ending}").write_bytes(b"")
    with pytest.raises(Refusal, match=rf"c{ending} is damaged, it has no bytes"):
        texts(tmp_path)


def test_links_are_followed_and_every_file_is_read_once(tmp_path):
    own, other = make(tmp_path / "own", "general.txt", "law/a.txt"), make(tmp_path / "other", "b.txt", "deep/c.txt")
    make(tmp_path / "blobs", "8f3a")
    (own / "law" / "more").symlink_to(other)
    (own / "law" / "again").symlink_to(other / "deep")
    (own / "law" / "d.txt").symlink_to(tmp_path / "blobs" / "8f3a")
    (own / "law" / "e.txt").symlink_to(own / "law" / "a.txt")
    os.link(own / "law" / "a.txt", own / "law" / "f.txt")
    (own / "news").symlink_to(make(tmp_path / "elsewhere", "n.txt"))
    (own / "web.txt").symlink_to(make(tmp_path / "far", "w.txt") / "w.txt")
    found = listed(own)
    assert list(found) == ["general", "law", "news", "web"]
    assert found["law"] == ["law/a.txt", "law/d.txt", "law/again/c.txt", "law/more/b.txt"]
    (tmp_path / "linked").symlink_to(own)
    assert {name: len(paths) for name, paths in texts(tmp_path / "linked").items()} == {
        name: len(paths) for name, paths in found.items()
    }


@pytest.mark.parametrize("target", [".", "..", "../..", "../../..", "../law", "../../elsewhere"])
def test_links_that_lead_back_are_refused(target, tmp_path):
    own = make(tmp_path / "own", "general.txt", "law/a.txt")
    make(tmp_path / "elsewhere", "b.txt")
    (tmp_path / "elsewhere" / "back").symlink_to(own / "law")
    (own / "law" / "more").symlink_to(target)
    with pytest.raises(Refusal, match=r"leads back to .*, which it lies in; take the link away"):
        texts(own)


@pytest.mark.parametrize("name", ["news.txt", "law/b.txt", "law/more", "news"])
def test_links_to_nowhere_are_refused(name, tmp_path):
    own = make(tmp_path / "own", "general.txt", "law/a.txt")
    (own / name).symlink_to(tmp_path / "gone")
    with pytest.raises(Refusal, match=rf"{name} is a link to nowhere \(.*gone\); mend it"):
        texts(own)
    (own / name).unlink()
    (own / name).symlink_to(own / name)
    with pytest.raises(Refusal, match=rf"{name} is a link to nowhere"):
        texts(own)


@pytest.mark.parametrize(("name", "target"), [("b.txt", "a.txt"), ("b", "law"), ("b/x.txt", "law/deep/x.txt")])
def test_a_file_of_two_candidates_is_refused(name, target, tmp_path):
    own = make(tmp_path / "own", "a.txt", "law/deep/x.txt")
    (own / name).parent.mkdir(exist_ok=True)
    (own / name).symlink_to(own / target)
    with pytest.raises(Refusal, match=r"are one file, in candidates '\w+' and '\w+'; keep one"):
        texts(own)


def test_the_order_is_that_of_the_names(tmp_path, monkeypatch):
    make(tmp_path, "d.txt", "b.txt", "c.txt", "a.txt", "e/b.txt", "e/a.txt")
    before, original = texts(tmp_path), Path.iterdir
    assert list(before) == list("abcde")
    monkeypatch.setattr(Path, "iterdir", lambda path: reversed(list(original(path))))
    assert texts(tmp_path) == before
