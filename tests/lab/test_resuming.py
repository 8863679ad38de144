"""A model whose training was killed, however often, is bit for bit the one that was left alone; the odd is redone."""

import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from test_train import job

from demix_nb.lab import loop, resuming
from demix_nb.lab import train as doors
from demix_nb.lab.jobs import read_record
from demix_nb.lab.train import train
from demix_nb.running import stopping
from demix_nb.store import Refusal

PLAN = {"tokens": 5120, "recipe": {"general": 0.5, "math": 0.5}, "seed": 3}  # 20 steps
CHILD = """
import pickle, sys, time
from pathlib import Path
from demix_nb.lab import corpora, loop, resuming, train
scene, step, folder, text, job = pickle.loads(bytes.fromhex(sys.argv[1]))
resuming.EVERY = 0.0
calls, reached = [], folder.parent / "reached"
def stand():
    reached.write_text("")
    time.sleep(600)
def slow(model, batch, losses=loop.next_token_losses):
    calls.append(1)
    if scene == "step" and len(calls) == step:
        stand()
    return losses(model, batch)
def half(content, path, save=resuming.torch.save):
    if scene == "write" and len(calls) == step:
        Path(path).write_bytes(b"half")
        stand()
    save(content, path)
train.mean_loss = lambda model, batch, rows, losses: loop.mean_loss(model, batch, rows, slow)
resuming.torch.save = half
train.train(job, folder, corpora.load(text))
"""


def killed(scene, step, folder, text, job):
    """Train in a process that is killed by SIGKILL in its `step`th step, or when it writes what it has after it."""
    reached = folder.parent / "reached"
    reached.unlink(missing_ok=True)
    told = pickle.dumps((scene, step, folder, text, job)).hex()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", CHILD, told], env=environment, stderr=subprocess.PIPE, text=True)
    while not reached.exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    child.stderr.close()
    reached.unlink()


def content(folder):
    """The bytes of the weights, and the record without its seconds."""
    return (folder / "model.safetensors").read_bytes(), read_record(folder) | {"seconds": None}


@pytest.fixture
def counted(monkeypatch):
    """A list that gets an entry with every step."""
    steps, rate = [], loop.learning_rate
    monkeypatch.setattr(loop, "learning_rate", lambda *given: steps.append(given[1]) or rate(*given))
    return steps


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "base"
    train(job(tokens=2560), folder, small_data)
    return folder


@pytest.mark.parametrize("scene", ["step", "write"])
def test_a_killed_model_goes_on_where_it_was_and_ends_the_same_bit_for_bit(scene, small_data, base, tmp_path, counted):
    asked = job("m", start=base, **PLAN)
    folder = tmp_path / "killed" / "m"
    folder.parent.mkdir()
    since = time.time()
    killed(scene, 6, folder, small_data.directory, asked)
    killed(scene, 7, folder, small_data.directory, asked)  # having begun with step 5: twelve in all
    stopping.clear(folder.parent, since)
    assert list(folder.parent.iterdir()) == [resuming.path_of(folder)], (
        "what was half written is gone, what was whole is there"
    )
    train(asked, folder, small_data)
    done = 5 + 6
    assert counted == list(range(done, 20))
    train(asked, tmp_path / "alone" / "m", small_data)
    assert counted == [*range(done, 20), *range(20)]
    assert content(folder) == content(tmp_path / "alone" / "m")
    assert list(folder.parent.iterdir()) == [folder]
    assert read_record(folder)["delta"] > 0 and len(read_record(folder)["curve"]) == 20


# ---- interrupted in this process, by a loss that raises


@pytest.fixture
def cut(small_data, base, tmp_path, monkeypatch):
    """Train a job until its nth step, keeping every step, and return its folder."""

    def until(step, asked, **how):
        def losses(model, batch, real=loop.next_token_losses, seen=[]):  # noqa: B006
            seen.append(1)
            if len(seen) == step:
                raise KeyboardInterrupt
            return real(model, batch)

        with monkeypatch.context() as patch:
            patch.setattr(resuming, "EVERY", 0.0)
            patch.setattr(doors, "mean_loss", lambda model, batch, rows, _: loop.mean_loss(model, batch, rows, losses))
            with pytest.raises(KeyboardInterrupt):
                train(asked, tmp_path / "m", small_data, **how)
        return tmp_path / "m"

    return until


def test_seconds_of_all_parts_add_up(small_data, base, cut, monkeypatch):
    folder = cut(6, job("m", **PLAN))
    part = resuming.path_of(folder)
    kept = torch.load(part)
    assert kept["steps"] == 5 and 0 < kept["seconds"] < 60
    torch.save(kept | {"seconds": 1000.0}, part)
    record = train(job("m", **PLAN), folder, small_data)
    assert 1000 < record["seconds"] < 1060


def test_the_part_of_another_model_is_removed_and_not_gone_on_with(small_data, base, cut, tmp_path, counted):
    folder = cut(6, job("m", **PLAN))
    other = job("m", **PLAN | {"seed": 4})
    counted.clear()
    train(other, folder, small_data)
    assert counted == list(range(20)) and list(tmp_path.iterdir()) == [folder]
    train(other, tmp_path / "alone", small_data)
    assert content(folder)[0] == content(tmp_path / "alone")[0]


def damages(whole, rng):
    """A file that was cut short anywhere, that has a wrong byte anywhere, and others that are no part at all."""
    yield from (whole[:size] for size in (0, 1, 100, len(whole) // 2, len(whole) - 1))
    for place in rng.integers(len(whole), size=400):
        yield whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :]
    yield from (b"\0" * len(whole), b"something else")


def test_a_damaged_part_is_removed_or_was_whole_where_it_matters(small_data, base, cut, rng):
    """A wrong byte lies where something is kept, and is found, or between two things, and changes nothing."""
    folder, key = cut(6, job("m", **PLAN)), job("m", **PLAN).key(small_data)
    part = resuming.path_of(folder)
    whole, kept, found = part.read_bytes(), torch.load(part), []
    for damaged in damages(whole, rng):
        part.write_bytes(damaged)
        read = resuming.Part(folder, key)._read()
        assert bool(read) == part.exists()
        found.append(not read)
        if read:
            assert read["curve"] == kept["curve"] and read["steps"] == 5
            assert all(torch.equal(read["weights"][name], value) for name, value in kept["weights"].items())
            states = (read["optimizer"]["state"], kept["optimizer"]["state"])
            assert all(torch.equal(states[0][n][name], states[1][n][name]) for n in states[1] for name in states[1][n])
    assert np.mean(found) > 0.5 and all(found[:5]) and all(found[-2:])
    part.write_bytes(whole[:-100])
    train(job("m", **PLAN), folder, small_data)
    train(job("m", **PLAN), folder.parent / "alone", small_data)
    assert content(folder)[0] == content(folder.parent / "alone")[0] and not part.exists()


def test_pieces_may_be_of_another_size_after_an_interruption(small_data, base, cut, counted):
    folder = cut(12, job("m", **PLAN), rows_at_once=None)
    counted.clear()
    record = train(job("m", **PLAN), folder, small_data, rows_at_once=3)
    alone = train(job("m", **PLAN), folder.parent / "alone", small_data)
    assert counted[0] == 11 and record["key"] == alone["key"]
    assert np.allclose(*(np.array(one["curve"])[:, 1] for one in (record, alone)), atol=1e-5)


def test_nothing_is_kept_of_what_takes_less_than_a_minute(small_data, tmp_path, monkeypatch):
    monkeypatch.setattr(resuming.torch, "save", None)
    train(job("m", **PLAN), tmp_path / "m", small_data)
    assert list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_what_takes_long_to_keep_is_kept_seldom(tmp_path, monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(resuming.time, "perf_counter", lambda: now[0])

    def save(_content, _path):
        saved.append(now[0])
        now[0] += 5.0

    monkeypatch.setattr(resuming.torch, "save", save)
    model = torch.nn.Linear(1, 1)
    part = resuming.Part(tmp_path / "m", "key")
    while now[0] < 3000:
        now[0] += 1.0
        part.keep(model, torch.optim.AdamW(model.parameters()), 1, [])
    assert saved[0] == 60 and np.diff(saved).min() >= 300, "a sixtieth of the time at most"


def test_a_part_for_which_there_is_no_room_is_refused_by_name(small_data, tmp_path, monkeypatch):
    def full(_content, _path):
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed\n at ...")

    monkeypatch.setattr(resuming, "EVERY", 0.0)
    monkeypatch.setattr(resuming.torch, "save", full)
    with pytest.raises(Refusal, match=r"cannot write .*\.m\.part: .*file write failed; choose a folder .*with room$"):
        train(job("m", **PLAN), tmp_path / "m", small_data)
    assert list(tmp_path.iterdir()) == []


def test_clearing_up_after_a_kill_leaves_every_part(tmp_path):
    for name in ("m", "reference-0.5-12345678", "a.b.abcdefgh"):
        part = resuming.path_of(tmp_path / name)
        part.write_text("")
        (tmp_path / f".{part.name}.abcd1234").write_text("what `store.atomic` was writing")
    stopping.clear(tmp_path, 0.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".a.b.abcdefgh.part",
        ".m.part",
        ".reference-0.5-12345678.part",
    ]
