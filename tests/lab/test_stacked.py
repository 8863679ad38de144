"""Models trained together are what each is when trained alone, within rounding; a cut one goes on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, job, weights
from transformers import AutoTokenizer

from demix_nb.lab import loop, resuming, stacked
from demix_nb.lab import train as doors
from demix_nb.lab.jobs import read_record
from demix_nb.lab.stacked import AT_ONCE, groups, train_stacked
from demix_nb.store import Refusal

RECIPES = [{"general": 1.0}, {"math": 1.0}, {"code": 0.5, "general": 0.5}, {"math": 0.25, "code": 0.75}]


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "base"
    doors.train(job(tokens=10_240), folder, small_data)
    return folder


def jobs_of(base, **how):
    """Four jobs from random weights and four from the base, each of another recipe and seed."""
    how = {"tokens": 10_240, "learning_rate": 1e-3} | how
    named = [("random", None), ("base", base)]
    return [
        job(f"{name}-{n}", recipe, seed=n, start=start, **how)
        for name, start in named
        for n, recipe in enumerate(RECIPES)
    ]


def curve(record):
    return np.array(record["curve"])[:, 1]


def test_every_model_of_a_stack_is_the_one_that_is_trained_alone(small_data, base, tmp_path):
    asked = jobs_of(base)
    together = train_stacked(asked, tmp_path / "together", small_data, device="cpu")
    alone = [doors.train(one, tmp_path / "alone" / one.name, small_data) for one in asked]
    assert [record["model"] for record in together] == [one.name for one in asked]
    for a, b in zip(together, alone, strict=True):
        assert len(curve(a)) == len(curve(b)) == 40 and np.abs(curve(a) - curve(b)).max() < 1e-4, a["model"]
        assert [point[0] for point in a["curve"]] == [point[0] for point in b["curve"]]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4) and a["delta"] == (
            b["delta"] and pytest.approx(b["delta"], rel=1e-3)
        )
        assert a["key"] != b["key"], "equal within rounding is not equal"
        same = set(a) - {"key", "curve", "loss", "delta", "seconds", "stacked"}
        assert {name: a[name] for name in same} == {name: b[name] for name in same} and a["stacked"] == 8
    others = [np.abs(curve(a) - curve(b)).max() for a in together for b in alone if a["model"] != b["model"]]
    assert min(others) > 0.01, "another's would be told from it"


def test_where_training_amplifies_rounding_a_stack_parts_no_further_than_a_model_from_itself(
    small_data, base, tmp_path
):
    asked = jobs_of(base, tokens=20_480, learning_rate=2e-3)[:4]
    together = train_stacked(asked, tmp_path / "together", small_data, device="cpu")
    alone, pieces = (
        [doors.train(one, tmp_path / str(rows) / one.name, small_data, rows_at_once=rows) for one in asked]
        for rows in (None, 3)
    )
    own, ours = (
        [np.abs(curve(a) - curve(b)).max() for a, b in zip(alone, other, strict=True)] for other in (pieces, together)
    )
    assert max(own) > 1e-4 and max(ours) < 10 * max(own)
    assert max(ours) < 0.1 * np.abs(curve(alone[0]) - curve(alone[1])).max()


def test_what_is_saved_is_an_ordinary_checkpoint(small_data, base, tmp_path):
    asked = jobs_of(base, tokens=2560)
    train_stacked(asked, tmp_path / "together", small_data, device="cpu")
    for one in asked:
        doors.train(one, tmp_path / "alone" / one.name, small_data)
        ours, theirs = tmp_path / "together" / one.name, tmp_path / "alone" / one.name
        assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
        assert (ours / "config.json").read_text() == (theirs / "config.json").read_text()
        a, b = weights(ours), weights(theirs)
        assert a.keys() == b.keys() and all(torch.allclose(a[name], b[name], atol=1e-4) for name in b)
        assert read_record(ours)["model"] == one.name
        assert AutoTokenizer.from_pretrained(ours).encode("the river") == small_data.tokenizer.encode("the river")
    assert {path.name for path in (tmp_path / "together").iterdir()} == {one.name for one in asked}


def test_what_is_there_is_not_trained_again(small_data, base, tmp_path, monkeypatch):
    asked = jobs_of(base, tokens=2560)
    first = train_stacked(asked[:3], tmp_path, small_data, device="cpu")
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    again = train_stacked(asked, tmp_path, small_data, device="cpu")
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert [one["curve"] for one in again[:3]] == [[list(p) for p in one["curve"]] for one in first]
    assert [one["stacked"] for one in again] == [3] * 3 + [5] * 5


def test_gradients_are_clipped_for_each_model_by_itself(rng):
    shapes, scales = [(3, 5, 4), (3, 7)], torch.tensor([0.01, 1.0, 100.0])
    made = [torch.tensor(rng.normal(size=shape)).float() for shape in shapes]
    made = [one * scales.view(-1, *[1] * (one.ndim - 1)) for one in made]
    expected = []
    for n in range(3):
        values = [torch.nn.Parameter(one[n].clone()) for one in made]
        for value in values:
            value.grad = value.detach().clone()
        torch.nn.utils.clip_grad_norm_(values, loop.CLIP)
        expected.append([value.grad for value in values])
    stacked.clip(made)
    assert all(torch.allclose(made[k][n], expected[n][k]) for n in range(3) for k in range(2))


def test_jobs_of_another_shape_length_or_rate_come_in_stacks_of_their_own(small_data, base, tmp_path):
    asked = [
        job("a"), job("b", seed=1), job("long", tokens=5120), job("fast", learning_rate=6e-3), job("c", seed=2),
        job("flat", schedule="constant"), job("wide", architecture=replace(TINY, hidden=48)), job("big", batch=512),
    ]  # fmt: skip
    found = [[one.name for one in group] for group in groups(asked)]
    assert found == [["a", "b", "c"], ["long"], ["fast"], ["flat"], ["wide"], ["big"]]
    records = train_stacked(asked, tmp_path, small_data, device="cpu")
    assert [record["model"] for record in records] == [one.name for one in asked]
    for one, record in zip(asked, records, strict=True):
        alone = doors.train(one, tmp_path / "alone" / one.name, small_data)
        assert np.abs(curve(record) - curve(alone)).max() < 1e-4, one.name


@pytest.mark.parametrize(
    "count, parts, sizes", [(5, 1, [5]), (5, 2, [3, 2]), (130, 1, [64, 64, 2]), (130, 4, [33] * 3 + [31])]
)
def test_stacks_are_dealt_to_the_devices_and_no_larger_than_is_of_use(count, parts, sizes):
    asked = [job(str(n), seed=n) for n in range(count)]
    found = groups(asked, parts)
    assert [len(group) for group in found] == sizes and max(sizes) <= AT_ONCE
    assert [one for group in found for one in group] == asked


@pytest.fixture
def narrow(monkeypatch):
    """A device with room for so many models: stacks that were tried."""
    tried, real = [], stacked.stacked

    def within(room):
        def make(models, device):
            tried.append(len(models))
            if len(models) > room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return real(models, device)

        monkeypatch.setattr(stacked, "stacked", make)
        return tried

    return within


def test_as_many_are_trained_at_once_as_fit(small_data, base, tmp_path, narrow):
    tried = narrow(3)
    records = train_stacked(jobs_of(base, tokens=2560)[:7], tmp_path, small_data, device="cpu")
    assert tried == [7, 3, 3, 1] and [record["stacked"] for record in records] == [3] * 6 + [1]


def test_a_model_that_does_not_fit_is_refused_with_the_remedy(small_data, base, tmp_path, narrow):
    narrow(0)
    with pytest.raises(Refusal, match="model 'random-0' does not fit into the memory of cpu; give rows_at_once"):
        train_stacked(jobs_of(base, tokens=2560), tmp_path, small_data, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_stops_with_its_models_name(small_data, base, tmp_path, monkeypatch):
    wild = [replace(one, learning_rate=1e30) for one in jobs_of(base, tokens=2560)]
    with pytest.raises(Refusal, match="model 'random-0' became nan at step"):
        train_stacked(wild, tmp_path, small_data, device="cpu")
    real = stacked.initial

    def odd(one, corpora):
        model = real(one, corpora)
        if one.name == "random-2":
            torch.nn.init.constant_(model.model.norm.weight, float("nan"))
        return model

    monkeypatch.setattr(stacked, "initial", odd)
    with pytest.raises(Refusal, match="model 'random-2' became nan at step 0"):
        train_stacked(jobs_of(base, tokens=2560), tmp_path, small_data, device="cpu")
    assert list(tmp_path.iterdir()) == []


def test_a_stack_that_was_cut_short_goes_on_where_it_was(small_data, base, tmp_path, monkeypatch):
    asked, rates = jobs_of(base, tokens=2560), []

    def rate(one, step, steps):
        rates.append(step)
        if len(rates) == 7:
            raise KeyboardInterrupt
        return loop.learning_rate(one, step, steps)

    monkeypatch.setattr(stacked, "learning_rate", rate)
    monkeypatch.setattr(resuming, "EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        train_stacked(asked, tmp_path / "cut", small_data, device="cpu")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [".random-0.part"]
    found = train_stacked(asked, tmp_path / "cut", small_data, device="cpu")
    assert rates == [*range(7), *range(6, 10)]
    whole = train_stacked(asked, tmp_path / "whole", small_data, device="cpu")
    assert [one["curve"] for one in found] == [one["curve"] for one in whole]
    for one in asked:
        a, b = ((tmp_path / name / one.name / "model.safetensors").read_bytes() for name in ("cut", "whole"))
        assert a == b
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {one.name for one in asked}


# ---- who is trained stacked


@pytest.fixture
def gpu(monkeypatch):
    """Pretend that training is on two GPUs; returns what is trained stacked there, as groups of names."""
    asked = []

    def together(jobs, directory, corpora, *, device):
        asked.append(([one.name for one in jobs], device))
        return [{"model": one.name} for one in jobs]

    monkeypatch.setattr(doors, "place", lambda: "cuda")
    monkeypatch.setattr(doors, "train_stacked", together)
    monkeypatch.setattr(doors.devices, "_gpus", lambda: ["cuda:0", "cuda:1"])
    monkeypatch.setattr(doors.devices, "of_worker", lambda device, workers: f"{device} of {workers}")
    monkeypatch.setattr(doors, "fan_out", lambda function, calls, **how: (function(*call) for call in calls))
    return asked


def test_on_gpus_all_that_is_missing_is_trained_stacked(small_data, base, tmp_path, gpu):
    asked = jobs_of(base)
    records = list(doors.train_all(asked, tmp_path, small_data))
    names = [one.name for one in asked]
    assert gpu == [(names[:4], "cuda of 2"), (names[4:], "cuda of 2")]
    assert [record["model"] for record in records] == names


def test_in_pieces_or_on_the_processor_nothing_is_stacked(small_data, base, tmp_path, gpu, monkeypatch):
    asked = jobs_of(base, tokens=512)[:2]
    list(doors.train_all(asked, tmp_path / "pieces", small_data, rows_at_once=4))
    monkeypatch.setattr(doors, "place", lambda: "cpu")
    list(doors.train_all(asked, tmp_path / "cpu", small_data))
    assert gpu == []
    assert read_record(tmp_path / "cpu" / "random-0")["key"] == asked[0].key(small_data)


def test_keys_name_what_a_model_is_trained_on_unless_it_is_the_processor(small_data):
    places = ["cpu", "cuda", "mps", stacked.where("cpu")]
    keys = [job().key(small_data, place) for place in places]
    assert len(set(keys)) == 4 and keys[0] == job().key(small_data)
    assert stacked.where("cuda:1") == stacked.where("cuda") == "cuda"
