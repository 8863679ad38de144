"""What a process keeps open is made once, and goes where memory runs low; a late folder is waited for."""

import os
import threading
import time
from types import SimpleNamespace

import pytest

from demix_nb import resident
from demix_nb.resident import Memory, Resident, shelved, version_of, wait_for, wait_for_version
from demix_nb.store import Refusal


def test_a_thing_is_made_once_per_key():
    made, held = [], Resident(lambda: False)
    assert [held.get(key, lambda: made.append(1) or len(made)) for key in "abab"] == [1, 2, 1, 2]


def test_what_was_used_longest_ago_goes_where_memory_runs_low():
    low, held = [False], Resident(lambda: low[0] and len(held.held) > 1)
    for key in "abca":
        held.get(key, object)
    low[0] = True
    held.get("d", object)
    assert list(held.held) == ["a", "d"], "b and c went, a was used since"
    held.low = lambda: True
    held.get("e", object)
    assert list(held.held) == ["e"], "what is asked for is made whatever room there is"


def test_what_is_shelved_is_written_once_opened_once_and_the_oldest_goes(tmp_path, monkeypatch):
    first = shelved({"rows": [1, 2]}, tmp_path)
    written = first.path.stat().st_mtime_ns
    assert shelved({"rows": [1, 2]}, tmp_path) == first and first.path.stat().st_mtime_ns == written
    assert first.open() == {"rows": [1, 2]} and first.open() is first.open()
    monkeypatch.setattr(resident, "SHELF", 2)
    for number in range(3):
        time.sleep(0.02)
        last = shelved({"rows": [number]}, tmp_path)
    assert len(list(tmp_path.glob("*"))) == 2 and last.path.is_file() and not first.path.is_file()


def test_memory_is_low_on_a_full_machine_and_beside_the_limit_of_a_worker(monkeypatch):
    machine = SimpleNamespace(available=60.0, total=100.0)
    monkeypatch.setattr(resident.psutil, "virtual_memory", lambda: machine)
    memory = Memory()
    assert not memory()
    memory.limit = 1e15
    assert not memory()
    memory.limit = 1.0
    assert memory(), "of its own limit this process has taken more than all"
    memory.limit, machine.available = None, 10.0
    assert memory()


def test_a_file_that_comes_late_is_waited_for(tmp_path):
    late = threading.Timer(0.3, (tmp_path / "late").touch)
    late.start()
    wait_for((tmp_path / "late").is_file, "does not see it", patience=10)
    began = time.monotonic()
    with pytest.raises(Refusal, match="does not see never"):
        wait_for((tmp_path / "never").is_file, "does not see never", patience=0.2)
    assert time.monotonic() - began >= 0.2


def test_a_checkpoint_that_is_still_the_old_one_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "PATIENCE", 10)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"new weights")
    new, written = version_of([folder]), (folder / "model.safetensors").stat().st_mtime
    (folder / "model.safetensors").write_bytes(b"old")

    def arrive():  # what a shared folder shows late was written when it was written
        (folder / "late").write_bytes(b"new weights")
        os.utime(folder / "late", (written, written))
        (folder / "late").rename(folder / "model.safetensors")

    threading.Timer(0.3, arrive).start()
    wait_for_version([folder], new)
    assert version_of([folder]) == new
