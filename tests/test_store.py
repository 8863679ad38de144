"""Tables are checked at the door, replaced whole or not at all, and hashed by content."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import store
from demix_nb.store import Refusal

SCORES = pd.DataFrame({"a": [0.1, 1 / 3]}, index=pd.Index(["m0", "m1"], name="mixture"))
TASKS = pd.DataFrame(
    {"family": ["math"], "unit": ["bpb"], "higher_is_better": [False], "items": [3], "chance": [np.nan]},
    index=pd.Index(["a"], name="task"),
)


def test_what_is_written_is_read(tmp_path):
    path = store.write(SCORES, tmp_path / "deep" / "scores.csv", "scores")
    pd.testing.assert_frame_equal(store.read(path, "scores"), SCORES, atol=1e-9)
    path = store.write(TASKS, tmp_path / "tasks.csv", "tasks")
    pd.testing.assert_frame_equal(store.read(path, "tasks"), TASKS)


def test_wrong_tables_are_refused_by_name(tmp_path):
    with pytest.raises(Refusal, match=r"tasks.csv: column 'unit' is missing"):
        store.write(TASKS.drop(columns="unit"), tmp_path / "tasks.csv", "tasks")
    with pytest.raises(Refusal, match=r"tasks.csv: column 'items' must be int"):
        store.write(TASKS.assign(items="many"), tmp_path / "tasks.csv", "tasks")
    with pytest.raises(Refusal, match="'m0' appears twice"):
        store.write(pd.concat([SCORES, SCORES]), tmp_path / "scores.csv", "scores")
    with pytest.raises(Refusal, match="column 'a' must hold numbers"):
        store.write(SCORES.astype(str), tmp_path / "scores.csv", "scores")
    with pytest.raises(Refusal, match="unknown column 'note'"):
        summary = pd.DataFrame({"value": ["1"], "note": [""]}, index=pd.Index(["a"], name="result"))
        store.write(summary, tmp_path / "summary.csv", "summary")
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_measures_names_a_proxy_more_than_once(tmp_path):
    index = pd.Index(["merged", "merged"], name="proxy")
    measures = pd.DataFrame({"measure": ["rho", "error"], "value": 0.5, "low": 0.4, "high": 0.6}, index)
    path = store.write(measures, tmp_path / "fidelity.csv", "fidelity")
    pd.testing.assert_frame_equal(store.read(path, "fidelity"), measures)


def test_unreadable_tables_say_what_to_do(tmp_path):
    with pytest.raises(Refusal, match=r"no table at .*demix-nb run"):
        store.read(tmp_path / "none.csv", "scores")
    (tmp_path / "cut.csv").write_bytes(b"")
    with pytest.raises(Refusal, match=r"cut.csv cannot be read"):
        store.read(tmp_path / "cut.csv", "scores")
    (tmp_path / "other.csv").write_text("name,a\nm0,1\n")
    with pytest.raises(Refusal, match="no column 'mixture' comes first"):
        store.read(tmp_path / "other.csv", "scores")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), store.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "model"
    with pytest.raises(KeyboardInterrupt), store.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("half")
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
    with store.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("all")
        assert not path.exists()
    assert list(path.parent.iterdir()) == [path] and (path / "weights").read_text() == "all"
    with pytest.raises(OSError, match="not empty"), store.atomic_folder(path) as temporary:
        (temporary / "weights").write_text("other")
    assert list(path.parent.iterdir()) == [path] and (path / "weights").read_text() == "all"


def test_a_target_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot write .*choose a folder"):
        store.write(SCORES, tmp_path / "file" / "scores.csv", "scores")


def test_hash_depends_on_content_only():
    assert store.content_hash({"a": 1, "b": 2}) == store.content_hash({"b": 2, "a": 1})
    array = np.arange(6)
    assert store.content_hash(array) == store.content_hash(np.arange(12)[:6])
    assert store.content_hash(array) != store.content_hash(array.reshape(2, 3))
    assert store.content_hash(array) != store.content_hash(array.astype(float))
    assert store.content_hash("ab", "c") != store.content_hash("a", "bc")


CACHES = {store.score_cache: (1 / 3, 1.5), store.log_cache: (np.array([-0.1, -1 / 3]), np.array([-2.0]))}
caches = pytest.mark.parametrize(("cache", "values"), CACHES.items(), ids=lambda each: getattr(each, "__name__", ""))


@caches
def test_what_was_measured_comes_back_exactly_row_by_row(cache, values, tmp_path):
    kept = cache(tmp_path / "deep")
    assert kept.get("k") == {}
    for row, value in zip("ab", values, strict=True):
        kept.put("k", {row: value})
    assert list(kept.get("k")) == ["a", "b"] and kept.get("other") == {}
    assert all(np.array_equal(kept.get("k")[row], value) for row, value in zip("ab", values, strict=True))
    assert list(kept.folder.iterdir()) == [kept.path("k")]


@caches
@pytest.mark.parametrize("damage", [lambda content: content[:20], lambda content: b"[]", lambda content: b""])
def test_a_damaged_cache_file_is_named(cache, values, damage, tmp_path):
    kept = cache(tmp_path)
    kept.put("k", {"a": values[0]})
    kept.path("k").write_bytes(damage(kept.path("k").read_bytes()))
    with pytest.raises(Refusal, match=rf"k\{kept.suffix} is damaged .*delete it and run again"):
        kept.get("k")


def test_a_changed_score_and_one_filed_under_another_key_are_damage(tmp_path):
    kept = store.score_cache(tmp_path)
    for name in ("changed", "moved"):
        kept.put(name, {"a": 1.5})
    text = kept.path("changed").read_text()
    kept.path("changed").write_text(text.replace("1.5", "1.6"))
    kept.path("moved").rename(kept.path("here"))
    for name in ("changed", "here"):
        with pytest.raises(Refusal, match=f"{name}.json is damaged .*checksum"):
            kept.get(name)


@caches
def test_an_interrupted_put_keeps_what_was_there(cache, values, tmp_path, monkeypatch):
    kept = cache(tmp_path)
    kept.put("k", {"a": values[0]})

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        kept.put("k", {"b": values[1]})
    assert list(kept.get("k")) == ["a"] and np.array_equal(kept.get("k")["a"], values[0])
    assert list(tmp_path.iterdir()) == [kept.path("k")]


@caches
def test_a_folder_that_cannot_be_written_is_refused(cache, values, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot write .*choose a folder"):
        cache(tmp_path / "file" / "deep").put("k", {"a": values[0]})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "replace", full)
    with pytest.raises(Refusal, match=r"cannot write .*No space left"):
        cache(tmp_path).put("k", {"a": values[0]})


def test_a_score_that_is_no_number_is_not_stored(tmp_path):
    with pytest.raises(Refusal, match="score under 'a' is not finite"):
        store.score_cache(tmp_path).put("k", {"a": np.nan})
    assert list(tmp_path.iterdir()) == []
