"""A training is followed by the tracker that its study file names, offline, and is the same model as without."""

import numpy as np
import pytest
from test_train import job, weights

from demix_nb.lab.jobs import Setting, read_record
from demix_nb.lab.tracking import TRACKERS
from demix_nb.lab.train import train
from demix_nb.ranges import TRACKERS as NAMES
from demix_nb.store import Refusal


def logged(folder):
    """Name of what was logged → steps and values, of a TensorBoard folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {
        name: np.array([(one.step, one.value) for one in events.Scalars(name)]) for name in events.Tags()["scalars"]
    }


def test_tensorboard_follows_the_loss_and_changes_nothing(small_data, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    plain, followed = (job(log_with=name) for name in ("", "tensorboard"))
    assert plain.key(small_data) == followed.key(small_data), "it is no part of what decides a model"
    train(plain, tmp_path / "plain" / "models" / "base", small_data)
    assert not (tmp_path / "plain" / "logs").exists(), "off by default"
    folder = tmp_path / "run" / "models" / "base"
    train(followed, folder, small_data)
    found = logged(tmp_path / "run" / "logs" / "base")
    curve = np.array(read_record(folder)["curve"])
    assert list(found["loss"][:, 0]) == list(range(1, followed.steps + 1))
    at = {round(tokens / followed.batch): loss for tokens, loss in curve}
    assert [value for step, value in found["loss"] if step in at] == pytest.approx(list(at.values()), rel=1e-5)
    assert found["learning_rate"][:, 1].max() == pytest.approx(followed.learning_rate)
    one, other = weights(tmp_path / "plain" / "models" / "base"), weights(folder)
    assert all(one[name].equal(other[name]) for name in one)


def test_every_tracker_has_a_row_and_is_one_that_accelerate_knows():
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    assert {*TRACKERS} == {*NAMES} <= {*LOGGER_TYPE_TO_CLASS}
    for name, row in TRACKERS.items():
        told = job("component-a")
        assert "component-a" in (row.project(told), *row.named(told).values()), f"{name} calls the run as the model"


@pytest.mark.parametrize(
    ("name", "message"), [("tensorbord", "did you mean tensorboard"), ("mlflow", "pip install mlflow")]
)
def test_what_cannot_follow_is_refused_before_training(name, message, monkeypatch):
    monkeypatch.setattr("demix_nb.ranges.importlib.util.find_spec", lambda _: None)
    with pytest.raises(Refusal, match=message):
        Setting({"hidden": 32}, "general", 0.5, 100, 1e-3, 64, "cosine", "base", log_with=name)


def test_the_study_file_keeps_it(tmp_path, monkeypatch):
    monkeypatch.setattr("demix_nb.ranges.importlib.util.find_spec", lambda _: True)
    setting = Setting({"hidden": 32}, "a", 0.5, 100, 1e-3, 64, "cosine", tmp_path / "base", log_with="wandb")
    setting.write(tmp_path, {"a": "a", "b": "b"}, {"a": 1.0, "b": 1.0}, tasks=["arc_easy_bpb"])
    assert Setting.read(tmp_path).log_with == "wandb" and "log_with: wandb" in (tmp_path / "study.yaml").read_text()
