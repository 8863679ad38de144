"""A schedule's rates and checkpoints; a model whose checkpoints are averaged is their mean, killed or stacked too."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_stacked import RECIPES
from test_train import job, weights

from demix_nb.lab import loop, resuming
from demix_nb.lab import train as doors
from demix_nb.lab.jobs import averaged, read_record
from demix_nb.lab.schedules import SCHEDULES
from demix_nb.lab.stacked import train_stacked
from demix_nb.lab.train import train

PLAN = {"tokens": 5120, "recipe": {"general": 0.5, "math": 0.5}, "seed": 3}  # 20 steps


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "base"
    train(job(tokens=2560), folder, small_data)
    return folder


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_rate_starts_at_the_peak_and_never_rises(name):
    rates = [loop.learning_rate(job(schedule=name), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(5e-3, rel=1e-3) and min(rates) > 0
    assert np.all(np.diff(rates[:3]) > 0) and np.all(np.diff(rates[3:]) <= 0)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 20, 97, 1000])
def test_checkpoints_are_the_last_at_even_intervals(name, steps):
    row = SCHEDULES[name]
    due = sorted(row.due(steps))
    if row.checkpoints == 1:
        assert due == []
    else:
        assert due[-1] == steps and due[0] >= 1 and len(due) <= row.checkpoints
        assert steps - due[0] == pytest.approx((row.checkpoints - 1) * row.every * steps, abs=0.5)
        assert np.ptp(np.diff(due)) <= 1 if len(due) > 1 else steps == 1
        assert len(due) == row.checkpoints or row.every * steps < 1


@pytest.fixture
def trail(monkeypatch):
    """The weights after every step of what is trained."""
    found, real = [], resuming.Part.keep

    def keep(self, model, optimizer, steps, curve, average=None):
        found.append({name: value.detach().clone() for name, value in model.named_parameters()})
        real(self, model, optimizer, steps, curve, average)

    monkeypatch.setattr(resuming.Part, "keep", keep)
    return found


def test_an_averaged_model_is_the_mean_of_its_checkpoints_and_a_constant_one_the_last(
    small_data, base, tmp_path, trail
):
    for name in ("averaged", "constant"):
        train(job("m", start=base, schedule=name, **PLAN), tmp_path / name, small_data)
    first, second = trail[:20], trail[20:]
    assert all(torch.equal(a[name], b[name]) for a, b in zip(first, second, strict=True) for name in a)
    means, last = weights(tmp_path / "averaged"), weights(tmp_path / "constant")
    due = SCHEDULES["averaged"].due(20)
    for name in first[0]:
        mean = torch.stack([first[step - 1][name] for step in due]).mean(dim=0)
        assert torch.allclose(means[name], mean, atol=1e-6) and torch.equal(last[name], first[-1][name])
        assert not torch.allclose(means[name], last[name], atol=1e-5), "an average that is the last tests nothing"
    records = [read_record(tmp_path / name) for name in ("averaged", "constant")]
    assert records[0]["curve"] == records[1]["curve"] and records[0]["delta"] < records[1]["delta"]


@pytest.mark.parametrize("cut", [5, 14, 16, 20])  # before the first checkpoint, between two, in the last step
def test_a_kill_between_two_checkpoints_loses_nothing(cut, small_data, base, tmp_path, monkeypatch):
    asked, steps, rate = job("m", start=base, schedule="averaged", **PLAN), [], loop.learning_rate

    def stopping(one, step, count):
        steps.append(step)
        if len(steps) == cut:
            raise KeyboardInterrupt
        return rate(one, step, count)

    monkeypatch.setattr(resuming, "EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "learning_rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(asked, tmp_path / "cut", small_data)
    train(asked, tmp_path / "cut", small_data)
    train(asked, tmp_path / "whole", small_data)
    assert len(steps) == cut
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("cut", "whole"))
    assert a == b and read_record(tmp_path / "cut")["curve"] == read_record(tmp_path / "whole")["curve"]


def test_a_stack_averages_each_model_as_it_is_averaged_alone(small_data, base, tmp_path, monkeypatch):
    asked = [
        job(f"m{n}", recipe, seed=n, start=base, schedule="averaged", tokens=5120, learning_rate=1e-3)
        for n, recipe in enumerate(RECIPES)
    ]
    monkeypatch.setattr(resuming, "EVERY", 0.0)
    rate = loop.learning_rate

    def stopping(one, step, count):
        if step == 17:  # between two checkpoints, so that the stack's mean is kept and taken up
            raise KeyboardInterrupt
        return rate(one, step, count)

    with monkeypatch.context() as patch:
        patch.setattr("demix_nb.lab.stacked.learning_rate", stopping)
        with pytest.raises(KeyboardInterrupt):
            train_stacked(asked, tmp_path / "stack", small_data, device="cpu")
    train_stacked(asked, tmp_path / "stack", small_data, device="cpu")
    for one in asked:
        doors.train(one, tmp_path / "alone" / one.name, small_data)
        a, b = weights(tmp_path / "stack" / one.name), weights(tmp_path / "alone" / one.name)
        assert all(torch.allclose(a[name], b[name], atol=1e-4) for name in b)
        assert read_record(tmp_path / "stack" / one.name)["delta"] == pytest.approx(
            read_record(tmp_path / "alone" / one.name)["delta"], rel=1e-3
        )


def test_keys_tell_schedules_apart_and_those_that_average_nothing_are_what_they_were(small_data, monkeypatch):
    keys = {name: job(schedule=name).key(small_data) for name in SCHEDULES}
    assert len(set(keys.values())) == len(SCHEDULES)
    assert [name for name in SCHEDULES if averaged(name)] == ["averaged"]
    monkeypatch.setitem(SCHEDULES, "averaged", replace(SCHEDULES["averaged"], every=0.01))
    assert job(schedule="averaged").key(small_data) != keys["averaged"]
