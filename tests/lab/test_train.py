"""Training meets its recipe, repeats bit for bit, resumes for free, and refuses at the door, by name."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import lab
from demix_nb.lab import loop, variants
from demix_nb.lab import train as components
from demix_nb.lab.batches import batches, sequences_of
from demix_nb.lab.jobs import Architecture, Job, Setting
from demix_nb.mixtures import as_table, natural, one_hot, uniform
from demix_nb.store import Refusal

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


def job(name="base", recipe=None, **options):
    options = {"tokens": 2560, "learning_rate": 5e-3, "architecture": TINY, "batch": 256} | options
    return Job(name, "base", recipe or {"general": 1.0}, **options)


def weights(directory):
    return AutoModelForCausalLM.from_pretrained(directory).state_dict()


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


FAMILIES = {"general": "general", "math": "math", "code": "code"}
TOKENS = dict.fromkeys(FAMILIES, 1e6)


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    directory = tmp_path_factory.mktemp("models") / "base"
    components.train(job(tokens=10_240), directory, small_data)
    return directory


@pytest.fixture
def setting(base):
    return Setting(TINY, "general", 0.5, 2560, 5e-3, 256, "cosine", base)


def test_sequences_cover_every_block_before_any_comes_again(rng):
    tokens = np.arange(101, dtype=np.uint16)
    starts = sequences_of(tokens, 25, 10, rng=rng)[:, 0]
    assert sorted(starts[:10]) == sorted(starts[10:20]) == list(range(0, 100, 10))
    with pytest.raises(Refusal, match="fewer than one sequence"):
        sequences_of(tokens[:5], 1, 10, rng=rng)


def test_batches_hold_the_recipe(small_data):
    asked = job(recipe={"general": 0.75, "math": 0.25})
    found = list(batches(asked, small_data))
    assert len(found) == 10 and all(batch.shape == (8, 33) for batch in found)
    text = [small_data.tokenizer.decode(row) for batch in found for row in batch]
    assert sum("root" in t or "equal" in t or "minus" in t for t in text) == pytest.approx(20, abs=1)


def test_cosine_ends_at_a_fifth_and_constant_stays():
    rates = [loop.learning_rate(job(), step, 100) for step in range(100)]
    assert max(rates) == pytest.approx(5e-3, rel=1e-3) and rates[-1] == pytest.approx(1e-3, rel=0.01)
    assert np.argmax(rates) <= 3 and np.all(np.diff(rates[3:]) < 0)
    assert loop.learning_rate(job(schedule="constant"), 99, 100) == 5e-3


def test_the_same_job_gives_the_same_weights_and_another_seed_does_not(small_data, base, tmp_path):
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        components.train(job(name, start=base, seed=seed), tmp_path / name, small_data)
    assert equal(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert not equal(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_training_learns_and_the_record_tells(small_data, base):
    record = components.read_record(base)
    curve = np.array(record["curve"])
    assert curve[0, 1] == pytest.approx(np.log(len(small_data.tokenizer)), rel=0.1)
    assert record["loss"] < 0.8 * curve[0, 1] and record["tokens"] == 10_240 and record["delta"] is None
    assert AutoTokenizer.from_pretrained(base).encode("the river") == small_data.tokenizer.encode("the river")


def test_one_worker_and_two_agree_and_a_second_run_trains_nothing(small_data, setting, tmp_path):
    jobs = [setting.job(name, "component", one_hot(small_data.candidates, name)) for name in ("math", "code")]
    for workers in (1, 2):
        list(components.train_all(jobs, tmp_path / str(workers), small_data, n_jobs=workers))
    assert all(equal(weights(tmp_path / "1" / j.name), weights(tmp_path / "2" / j.name)) for j in jobs)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    records = list(components.train_all(jobs, tmp_path / "1", small_data, n_jobs=2))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == before
    assert {record["model"] for record in records} == {"math", "code"}
    assert all(0 < record["delta"] < 0.5 for record in records)


def test_a_changed_job_is_trained_again(small_data, setting, tmp_path):
    mixture = uniform(small_data.candidates)
    first = components.train(setting.job("m", "reference", mixture), tmp_path / "m", small_data)
    again = components.train(setting.job("m", "reference", mixture, budget=0.5), tmp_path / "m", small_data)
    assert again["key"] != first["key"] and again["tokens"] == first["tokens"] / 2


def test_mixture_becomes_recipe(setting, small_data):
    made = setting.job("m", "reference", one_hot(small_data.candidates, "math"))
    assert made.recipe == {"general": 0.5, "math": 0.5, "code": 0.0} and made.mixture["math"] == 1


def test_setting_is_read_as_written(setting, tmp_path):
    written = setting.write(tmp_path, FAMILIES, TOKENS)
    assert Setting.read(tmp_path) == Setting.of(written) == setting
    assert written.families == FAMILIES and written.trained_here and written.window == setting.architecture.context
    inside = replace(setting, base=tmp_path / "run" / "models" / "base")
    inside.write(tmp_path / "run", FAMILIES, TOKENS)
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    assert Setting.read(moved).base == moved / "models" / "base"
    with pytest.raises(Refusal, match="run notebook 01 first"):
        Setting.read(tmp_path / "none")


def test_a_loss_that_is_no_number_stops_with_the_models_name(small_data, tmp_path):
    with pytest.raises(Refusal, match="model 'wild' became nan at step"):
        components.train(job("wild", learning_rate=1e30), tmp_path / "wild", small_data)
    assert not (tmp_path / "wild").exists() and list(tmp_path.iterdir()) == []


def test_bad_folders_are_named(small_data, base, tmp_path):
    with pytest.raises(Refusal, match=r"has no training\.json"):
        components.read_record(tmp_path)
    (tmp_path / "training.json").write_text('{"key": ')
    with pytest.raises(Refusal, match="is damaged; delete the folder"):
        components.read_record(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot write .*choose a folder"):
        components.train(job(tokens=256), tmp_path / "file" / "model", small_data)
    twice = [job("a"), job("a")]
    with pytest.raises(Refusal, match="two jobs are called 'a'"):
        list(components.train_all(twice, tmp_path, small_data))


def test_a_save_that_fails_leaves_the_older_model(small_data, base, tmp_path, monkeypatch):
    components.train(job("m", tokens=256), tmp_path / "m", small_data)
    before = weights(tmp_path / "m")

    def full(*_args, **_how):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformers.PreTrainedTokenizerBase.save_pretrained", full)
    with pytest.raises(Refusal, match=r"cannot write .*m: No space left on device; choose a folder"):
        components.train(job("m", tokens=512), tmp_path / "m", small_data)
    assert equal(weights(tmp_path / "m"), before) and list(tmp_path.iterdir()) == [tmp_path / "m"]


def test_the_record_is_json_without_surprises(base):
    assert json.loads((base / "training.json").read_text())["recipe"] == {"general": 1.0}


# ---- the door of a study


@pytest.fixture
def study(small_data, setting, tmp_path):
    """A run with corpora, a setting and a base, and what a study shares with its trainer."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "corpora").symlink_to(small_data.directory)
    setting.write(tmp_path / "run", FAMILIES, TOKENS)
    shown = []

    def progress(records, *, total, desc):
        shown.append((desc, total))
        return records

    return SimpleNamespace(folder=tmp_path / "run", n_jobs=1, engine=None, progress=progress, shown=shown)


@pytest.fixture
def design(small_data):
    return as_table({name: one_hot(small_data.candidates, name) for name in ("math", "code")})


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_a_design_is_trained_under_its_role_and_found_again(study, design, setting):
    folders, records = components.train_design(study, design, "component", seed=3)
    models = study.folder / "models"
    assert folders == {name: models / f"component-{name}" for name in design.index}
    assert list(records.index) == ["component-code", "component-math"] and study.shown == [("component", 2)]
    assert (records["kind"] == "component").all() and (records["seed"] == 3).all() and (records["delta"] > 0).all()
    before = stamps(models)
    again, same = components.train_design(study, design, "component", seed=3)
    assert stamps(models) == before and again == folders and same.equals(records)
    reference, _ = components.train_design(study, design.iloc[:1], "reference", seed=3)
    assert equal(weights(reference["math"]), weights(folders["math"]))
    assert components.read_record(reference["math"])["key"] == records.loc["component-math", "key"]
    plain = setting.job("any", "other", design.loc["math"], seed=3)
    assert plain.key(lab.corpora.load(study.folder / "corpora")) == records.loc["component-math", "key"]


def test_every_model_may_have_a_seed_of_its_own(study, design):
    folders, records = components.train_design(study, design, "own", seed=pd.Series({"code": 4, "math": 3}))
    assert records["seed"].to_dict() == {"own-code": 4, "own-math": 3}
    alike, _ = components.train_design(study, design.loc[["code"]], "alike", seed=4)
    assert equal(weights(folders["code"]), weights(alike["code"]))


def test_a_renamed_folder_is_told_by_its_new_name(study, design):
    folders, _ = components.train_design(study, design, "component")
    before = (folders["math"]).rename(study.folder / "models" / "other-math")
    stamp = stamps(before)
    _, records = components.train_design(study, design.loc[["math"]], "other")
    assert records.index.tolist() == ["other-math"] and records["kind"].tolist() == ["other"]
    assert stamps(before) == stamp


def test_a_part_of_the_budget_has_folders_of_its_own(study, design):
    folders, records = components.train_design(study, design, "trained", budget=0.5)
    assert [folder.name for folder in folders.values()] == ["trained-0.5-math", "trained-0.5-code"]
    assert (records["tokens"] == 1280).all() and (records["kind"] == "trained").all()


def test_changes_hold_for_one_design(study, design, small_data, tmp_path):
    one = design.loc[["math"]]
    undiluted, _ = components.train_design(study, one, "beta", beta=1.0)
    assert components.read_record(undiluted["math"])["recipe"] == {"general": 0.0, "math": 1.0, "code": 0.0}
    _, fast = components.train_design(study, one, "fast", learning_rate=7e-3, schedule="constant")
    assert fast["learning_rate"].tolist() == [7e-3]
    text = {"math": small_data.train["code"]}
    other = variants.rewritten(small_data, tmp_path / "other", text)
    by_folder, _ = components.train_design(study, one, "moved", corpora=tmp_path / "other")
    by_object, _ = components.train_design(study, one, "given", corpora=other)
    assert equal(weights(by_folder["math"]), weights(by_object["math"]))
    plain, _ = components.train_design(study, one, "plain")
    assert components.read_record(plain["math"])["recipe"]["math"] == 0.5
    assert not equal(weights(plain["math"]), weights(by_object["math"]))
    later, records = components.train_design(study, one, "later", base=plain["math"])
    assert 0 < records["delta"].iloc[0] < 0.5 and not equal(weights(later["math"]), weights(plain["math"]))


def test_a_base_reads_everything_as_there_is_of_it(study, setting, small_data):
    base = replace(setting, base=study.folder / "models" / "broad")
    lab.train_base(study.folder, base, tokens=2560, learning_rate=5e-3, everything=0.5, seed=2)
    recipe, shares = components.read_record(base.base)["recipe"], natural(small_data.table["tokens"])
    assert recipe == pytest.approx((0.5 * shares + 0.5 * (shares.index == "general")).to_dict())
    with pytest.raises(Refusal, match="no text of candidate 'web'"):
        lab.train_base(study.folder, replace(base, general="web"), tokens=2560, learning_rate=5e-3)


def test_a_larger_base_brings_its_architecture(study, design, setting, small_data, tmp_path):
    larger = replace(setting, architecture={"hidden": 48, "layers": 2, "head_dim": 16, "context": 32})
    larger = replace(larger, base=tmp_path / "larger")
    record = lab.train_base(study.folder, larger, tokens=512, learning_rate=5e-3)
    assert record.loc["larger", "kind"] == "base" and np.isnan(record.loc["larger", "delta"])
    folders, records = components.train_design(study, design.loc[["math"]], "larger", base=larger.base)
    assert records["parameters"].tolist() == record["parameters"].tolist()
    assert Architecture.of(folders["math"]) == larger.architecture
    with pytest.raises(Refusal, match=r"base is Architecture\(hidden=32.*, not Architecture\(hidden=48.*give a base"):
        components.train_design(study, design, "wrong", architecture=larger.architecture)


def test_changed_text_reaches_a_worker_that_has_seen_the_old(study, design, small_data, tmp_path):
    found = []
    for name in ("code", "general"):
        other = variants.rewritten(small_data, tmp_path / "other", {"math": small_data.train[name]})
        folders, _ = components.train_design(study, design.loc[["math"]], name, corpora=other)
        found.append(weights(folders["math"]))
    assert not equal(*found)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"beta": 1.5}, "beta is 1.5; it is the share of the candidates"),
        ({"beta": float("nan")}, "beta is nan"),
        ({"budget": 0.0}, "budget is 0.0; it must be a number above 0"),
        ({"budget": -1.0}, "budget is -1.0"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be a number above 0"),
        ({"schedule": "linear"}, "schedule is 'linear'; known: averaged, constant, cosine"),
        ({"tokens": 5}, "cannot train with another 'tokens'; what may be changed is beta, .*corpora"),
        ({"base": "nowhere"}, "nowhere holds no model"),
        ({"corpora": "nowhere"}, "no corpora under nowhere"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(study, design, changes, message):
    with pytest.raises(Refusal, match=message):
        components.train_design(study, design, "component", **changes)
    assert not (study.folder / "models").exists()


def test_unknown_candidates_and_names_are_refused_before_training(study, design, small_data):
    with pytest.raises(Refusal, match="unknown candidate 'poetry'"):
        components.train_design(study, design.rename(columns={"math": "poetry"}), "component")
    with pytest.raises(Refusal, match="cannot be called 'component-a/b'"):
        components.train_design(study, design.rename(index={"math": "a/b"}), "component")
    with pytest.raises(Refusal, match="no text of candidate 'poetry'"):
        list(components.train_all([job(recipe={"poetry": 1.0})], study.folder / "models", small_data))
    assert not (study.folder / "models").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Architecture(hidden=0), "hidden is 0; it must be a whole number, at least 1"),
        (lambda: Architecture(head_dim=15), "head_dim is 15; it must be an even whole number"),
        (lambda: job(tokens=0), "tokens is 0"),
        (lambda: job(recipe={"a": 0.5, "b": 0.6}), "is not a set of shares"),
        (lambda: job(recipe={"a": float("nan")}), "is not a set of shares"),
        (lambda: Setting(TINY, "general", 0.5, -5, 5e-3, 256, "cosine", "base"), "tokens is -5"),
        (lambda: Setting(TINY, "general", 0.5, 5, 5e-3, -1, "cosine", "base"), "batch is -1"),
    ],
)
def test_ranges_are_checked_when_a_thing_is_made(make, message):
    with pytest.raises(Refusal, match=message):
        make()


def test_the_base_is_trained_once_and_its_curve_is_a_table(study, setting, small_data):
    base = replace(setting, base=study.folder / "models" / "base")
    record = lab.train_base(study.folder, base, tokens=2560, learning_rate=5e-3, seed=2)
    assert record.loc["base", "key"] == job(seed=2).key(small_data) and record.loc["base", "tokens"] == 2560
    before = stamps(study.folder)
    assert lab.train_base(study.folder, base, tokens=2560, learning_rate=5e-3, seed=2).equals(record)
    assert stamps(study.folder) == before
    curve = lab.curves({"it": base.base})
    assert curve.index.unique().tolist() == ["it"] and curve["tokens"].tolist() == [256 * n for n in range(1, 11)]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]


def test_the_setting_names_its_trainer_and_the_face_opens(setting, tmp_path):
    assert setting.write(tmp_path, FAMILIES, TOKENS).training["trainer"] == components.__name__
    assert all(callable(getattr(lab, name)) for name in lab.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        lab.nothing  # noqa: B018
    (tmp_path / "study.yaml").write_text("beta: 0.5\n")
    with pytest.raises(Refusal, match=r"study\.yaml, training, is damaged .*; run notebook 01 again"):
        Setting.read(tmp_path)
    for line in ("beta", "base"):
        setting.write(tmp_path, FAMILIES, TOKENS)
        written = (tmp_path / "study.yaml").read_text().splitlines()
        (tmp_path / "study.yaml").write_text("\n".join(one for one in written if one.partition(":")[0] != line))
        with pytest.raises(Refusal, match="is damaged"):
            Setting.read(tmp_path)
