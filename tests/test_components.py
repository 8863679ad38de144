"""Training meets its recipe, repeats bit for bit, resumes for free, and stops with a name."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import components
from demix_nb.components import Architecture, Job, Setting, TrainingError
from demix_nb.mixtures import one_hot, uniform

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


def job(name="base", recipe=None, **options):
    options = {"tokens": 2560, "learning_rate": 5e-3, "architecture": TINY, "batch": 256} | options
    return Job(name, "base", recipe or {"general": 1.0}, **options)


def weights(directory):
    return AutoModelForCausalLM.from_pretrained(directory).state_dict()


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "base"
    components.train(job(tokens=10_240), directory, small_data.directory)
    return directory


@pytest.fixture
def setting(base):
    return Setting(TINY, "general", 0.5, 2560, 5e-3, 256, "cosine", base, ("heldout",), 4)


def test_apportioning_meets_the_recipe_exactly(rng):
    for shares in rng.dirichlet(np.ones(5), size=50):
        recipe = dict(zip("abcde", shares, strict=True))
        counts = components.apportion(recipe, 97)
        assert sum(counts.values()) == 97
        assert all(abs(counts.get(name, 0) - share * 97) < 1 for name, share in recipe.items())
    with pytest.raises(TrainingError, match="not a set of shares"):
        components.apportion({"a": 0.5, "b": 0.6}, 10)


def test_sequences_cover_every_block_before_any_comes_again(rng):
    tokens = np.arange(101, dtype=np.uint16)
    starts = components.sequences_of(tokens, 25, 10, rng=rng)[:, 0]
    assert sorted(starts[:10]) == sorted(starts[10:20]) == list(range(0, 100, 10))
    with pytest.raises(TrainingError, match="fewer than one sequence"):
        components.sequences_of(tokens[:5], 1, 10, rng=rng)


def test_batches_hold_the_recipe(small_data):
    asked = job(recipe={"general": 0.75, "math": 0.25})
    batches = list(components.batches(asked, small_data))
    assert len(batches) == 10 and all(batch.shape == (8, 33) for batch in batches)
    text = [small_data.tokenizer.decode(row) for batch in batches for row in batch]
    assert sum("root" in t or "equal" in t or "minus" in t for t in text) == pytest.approx(20, abs=1)


def test_cosine_ends_at_a_fifth_and_constant_stays():
    rates = [components.learning_rate(job(), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(5e-3, rel=1e-3) and rates[-1] == pytest.approx(1e-3, rel=0.01)
    assert np.argmax(rates) <= 3 and np.all(np.diff(rates[3:]) < 0)
    assert components.learning_rate(job(schedule="constant"), 99, 100) == 5e-3


def test_the_same_job_gives_the_same_weights_and_another_seed_does_not(small_data, base, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        components.train(job(name, start=base, seed=seed), tmp_path / name, small_data.directory)
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not equal(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_training_learns_and_the_record_tells(small_data, base):
    record = components.read_record(base)
    curve = np.array(record["curve"])
    assert curve[0, 1] == pytest.approx(np.log(len(small_data.tokenizer)), rel=0.1)
    assert record["loss"] < 0.8 * curve[0, 1] and record["tokens"] == 10_240 and record["delta"] is None
    assert AutoTokenizer.from_pretrained(base).encode("the river") == small_data.tokenizer.encode("the river")


def test_one_worker_and_two_agree_and_a_second_run_trains_nothing(small_data, setting, tmp_path):
    jobs = [setting.job(name, "component", one_hot(small_data.domains, name)) for name in ("math", "code")]
    for workers in (1, 2):
        list(components.train_all(jobs, tmp_path / str(workers), small_data, n_jobs=workers))
    assert all(equal(weights(tmp_path / "1" / j.name), weights(tmp_path / "2" / j.name)) for j in jobs)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    records = list(components.train_all(jobs, tmp_path / "1", small_data, n_jobs=2))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert {record["model"] for record in records} == {"math", "code"}
    assert all(0 < record["delta"] < 0.5 for record in records)


def test_a_changed_job_is_trained_again(small_data, setting, tmp_path):
    mixture = uniform(small_data.domains)
    first = components.train(setting.job("m", "reference", mixture), tmp_path / "m", small_data.directory)
    again = components.train(setting.job("m", "reference", mixture, share=0.5), tmp_path / "m", small_data.directory)
    assert again["key"] != first["key"] and again["tokens"] == first["tokens"] / 2


def test_mixture_becomes_recipe(setting, small_data):
    made = setting.job("m", "reference", one_hot(small_data.domains, "math"))
    assert made.recipe == {"general": 0.5, "math": 0.5, "code": 0.0} and made.mixture["math"] == 1


def test_setting_is_read_as_written(setting, tmp_path):
    setting.write(tmp_path / "setting.json")
    assert Setting.read(tmp_path / "setting.json") == setting
    inside = replace(setting, base=tmp_path / "run" / "models" / "base")
    (tmp_path / "run").mkdir()
    inside.write(tmp_path / "run" / "setting.json")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert Setting.read(moved / "setting.json").base == moved / "models" / "base"
    with pytest.raises(TrainingError, match="run notebook 01 first"):
        Setting.read(tmp_path / "none.json")


def test_a_loss_that_is_no_number_stops_with_the_models_name(small_data, tmp_path):
    with pytest.raises(TrainingError, match="model 'wild' became nan at step"):
        components.train(job("wild", learning_rate=1e30), tmp_path / "wild", small_data.directory)
    assert not (tmp_path / "wild").exists() and list(tmp_path.iterdir()) == []


def test_bad_folders_are_named(small_data, base, tmp_path):
    with pytest.raises(TrainingError, match=r"has no training\.json"):
        components.read_record(tmp_path)
    (tmp_path / "training.json").write_text('{"key": ')
    with pytest.raises(TrainingError, match="is damaged; delete the folder"):
        components.read_record(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"cannot write .*choose a folder"):
        components.train(job(tokens=256), tmp_path / "file" / "model", small_data.directory)
    twice = [job("a"), job("a")]
    with pytest.raises(TrainingError, match="two jobs are called 'a'"):
        list(components.train_all(twice, tmp_path, small_data))


def test_a_save_that_fails_leaves_the_older_model(small_data, base, tmp_path, monkeypatch):
    components.train(job("m", tokens=256), tmp_path / "m", small_data.directory)
    before = weights(tmp_path / "m")

    def full(*_args, **_how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", full)
    with pytest.raises(TrainingError, match=r"cannot write .*m: No space left on device; choose a folder"):
        components.train(job("m", tokens=512), tmp_path / "m", small_data.directory)
    assert equal(weights(tmp_path / "m"), before) and list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_the_record_is_json_without_surprises(base):
    assert json.loads((base / "training.json").read_text())["recipe"] == {"general": 1.0}
