"""A dtype or device that is none, or is not there, is refused before a model is opened; workers never share a GPU."""

import json
import time

import pytest
import torch

from demix_nb import devices
from demix_nb.parallel import fan_out
from demix_nb.store import Refusal


@pytest.fixture
def gpus(monkeypatch):
    """Set how many GPUs there are."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def saved(folder, **config):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("config", [{"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}, {}])
def test_auto_is_what_the_first_folder_was_saved_in(tmp_path, config):
    first, second = saved(tmp_path / "first", **config), saved(tmp_path / "second", dtype="float16")
    assert devices.resolve("auto", "cpu", [first, second]) == ("bfloat16" if config else "float32", "cpu")
    assert devices.resolve("float16", "cpu", [first]) == ("float16", "cpu")
    assert devices.resolve("auto", "cpu", []) == ("float32", "cpu")


def test_a_dtype_that_is_none_is_refused(tmp_path):
    with pytest.raises(Refusal, match="'bf16' is unknown; choose float32, bfloat16, float16 or auto"):
        devices.resolve("bf16", "cpu", [])
    with pytest.raises(Refusal, match=r"wide was saved in float64.*name float32"):
        devices.resolve("auto", "cpu", [saved(tmp_path / "wide", dtype="float64")])
    with pytest.raises(Refusal, match=r"none.*config.json cannot be read; name a folder"):
        devices.resolve("auto", "cpu", [tmp_path / "none"])


@pytest.mark.parametrize(
    ("count", "asked", "device"),
    [(0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1")],
)
def test_a_device_is_found(gpus, count, asked, device):
    gpus(count)
    assert devices.resolve("float32", asked, []) == ("float32", device)


@pytest.mark.parametrize(
    ("count", "asked", "told"),
    [
        (0, "cuda", "'cuda' is not there; this machine has cpu:"),
        (2, "cuda:2", "'cuda:2' is not there; this machine has cpu, cuda:0, cuda:1"),
        (2, "mps", "'mps' is not there"),
        (2, "gpu", "'gpu' is unknown; choose auto, cpu, cuda"),
    ],
)
def test_a_device_that_is_not_there_is_refused(gpus, count, asked, told):
    gpus(count)
    with pytest.raises(Refusal, match=told):
        devices.resolve("float32", asked, [])


def test_workers_are_as_many_as_gpus_at_most(gpus):
    gpus(3)
    assert [devices.workers(0, device) for device in ("cpu", "cuda", "cuda:1", "mps")] == [2, 3, 1, 1]
    assert [devices.workers(asked, "cuda") for asked in (1, 3)] == [1, 3] and devices.workers(9, "cpu") == 9
    for device, told in {"cuda": "4 workers do not fit on cuda, which is 3", "cuda:1": "4 workers.*ask for 1"}.items():
        with pytest.raises(Refusal, match=told):
            devices.workers(4, device)


def test_the_numbers_of_a_checkpoint_are_told_without_reading_it(tmp_path):
    folder = saved(tmp_path / "model", dtype="bfloat16")
    (folder / "model.safetensors").write_bytes(b"0" * 2000)
    assert devices.numbers(folder) == 1000


def taken(barrier):
    """This process's seat, told when every other one has its own too."""
    number, _ = devices.seat(2)
    (barrier / str(number)).touch()
    deadline = time.monotonic() + 60
    while len(list(barrier.iterdir())) < 2:
        assert time.monotonic() < deadline, "both calls went to one worker"
    return number, devices.seat(2)[0]


def test_each_worker_has_a_gpu_of_its_own_and_keeps_it(gpus, tmp_path):
    seats = list(fan_out(taken, [(tmp_path,), (tmp_path,)], n_jobs=2))
    assert sorted(seats) == [(0, 0), (1, 1)]
    gpus(2)
    assert devices.of_worker("cuda", 2) == f"cuda:{devices.seat(2)[0]}"
    alone = {"cuda": 1, "cuda:1": 2, "cpu": 2}
    assert [devices.of_worker(device, workers) for device, workers in alone.items()] == list(alone)


def test_devices_of_other_machines_are_their_own_business(tmp_path, monkeypatch):
    first = saved(tmp_path / "a", dtype="bfloat16")
    monkeypatch.setattr(devices, "_gpus", lambda: [])
    assert devices.elsewhere("auto", "auto", [first], gpus=True) == ("bfloat16", "cuda")
    assert devices.elsewhere("float32", "auto", [first], gpus=False) == ("float32", "cpu")
    assert devices.elsewhere("float32", "cuda", [first], gpus=False) == ("float32", "cuda"), "no GPU is here, but there"
    for device in ("cuda:1", "mps", "tpu"):
        with pytest.raises(Refusal, match=rf"device '{device}' is one machine's own word"):
            devices.elsewhere("float32", device, [first], gpus=True)
    with pytest.raises(Refusal, match=r"has no GPU for `device: cuda`"):
        devices.of_worker("cuda", 1)
