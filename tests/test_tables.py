"""Tables are checked at the door, replaced whole or not at all, and hashed by content."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import tables
from demix_nb.tables import TableError

SCORES = pd.DataFrame({"a": [0.1, 1 / 3]}, index=pd.Index(["m0", "m1"], name="mixture"))
TASKS = pd.DataFrame(
    {"family": ["math"], "unit": ["bpb"], "higher_is_better": [False], "items": [3], "chance": [np.nan]},
    index=pd.Index(["a"], name="task"),
)


def test_what_is_written_is_read(tmp_path):
    path = tables.write(SCORES, tmp_path / "deep" / "scores.csv", "scores")
    pd.testing.assert_frame_equal(tables.read(path, "scores"), SCORES, atol=1e-9)
    path = tables.write(TASKS, tmp_path / "tasks.csv", "tasks")
    pd.testing.assert_frame_equal(tables.read(path, "tasks"), TASKS)


def test_wrong_tables_are_refused_by_name(tmp_path):
    with pytest.raises(TableError, match=r"tasks.csv: column 'unit' is missing"):
        tables.write(TASKS.drop(columns="unit"), tmp_path / "tasks.csv", "tasks")
    with pytest.raises(TableError, match=r"tasks.csv: column 'items' must be int"):
        tables.write(TASKS.assign(items="many"), tmp_path / "tasks.csv", "tasks")
    with pytest.raises(TableError, match="'m0' appears twice"):
        tables.write(pd.concat([SCORES, SCORES]), tmp_path / "scores.csv", "scores")
    with pytest.raises(TableError, match="column 'a' must hold numbers"):
        tables.write(SCORES.astype(str), tmp_path / "scores.csv", "scores")
    with pytest.raises(TableError, match="unknown column 'note'"):
        summary = pd.DataFrame({"value": ["1"], "note": [""]}, index=pd.Index(["a"], name="result"))
        tables.write(summary, tmp_path / "summary.csv", "summary")
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_measures_names_a_proxy_more_than_once(tmp_path):
    index = pd.Index(["merged", "merged"], name="proxy")
    measures = pd.DataFrame({"measure": ["rho", "error"], "value": 0.5, "low": 0.4, "high": 0.6}, index)
    path = tables.write(measures, tmp_path / "fidelity.csv", "fidelity")
    pd.testing.assert_frame_equal(tables.read(path, "fidelity"), measures)


def test_unreadable_tables_say_what_to_do(tmp_path):
    with pytest.raises(TableError, match=r"no table at .*demix-nb run"):
        tables.read(tmp_path / "none.csv", "scores")
    (tmp_path / "cut.csv").write_bytes(b"")
    with pytest.raises(TableError, match=r"cut.csv cannot be read"):
        tables.read(tmp_path / "cut.csv", "scores")
    (tmp_path / "other.csv").write_text("name,a\nm0,1\n")
    with pytest.raises(TableError, match="no column 'mixture'"):
        tables.read(tmp_path / "other.csv", "scores")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), tables.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "model"
    with pytest.raises(KeyboardInterrupt), tables.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with tables.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("all")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and (path / "weights").read_text() == "all"
    with pytest.raises(OSError, match="not empty"), tables.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("other")
    assert list(path.parent.iterdir()) == [path] and (path / "weights").read_text() == "all"


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TableError, match=r"cannot write .*choose a folder"):
        tables.write(SCORES, tmp_path / "file" / "scores.csv", "scores")


def test_hash_depends_on_content_only():
    assert tables.content_hash({"a": 1, "b": 2}) == tables.content_hash({"b": 2, "a": 1})
    array = np.arange(6)
    assert tables.content_hash(array) == tables.content_hash(np.arange(12)[:6])
    assert tables.content_hash(array) != tables.content_hash(array.reshape(2, 3))
    assert tables.content_hash(array) != tables.content_hash(array.astype(float))
    assert tables.content_hash("ab", "c") != tables.content_hash("a", "bc")
