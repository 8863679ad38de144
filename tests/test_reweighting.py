"""DoReMi and ODM train on the recipe they claim, follow their update rules, repeat bit for bit and resume for free."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from demix_nb import components, online, reweighting
from demix_nb.components import Architecture, Job, Setting, TrainingError
from demix_nb.mixtures import one_hot, recipe, uniform
from demix_nb.reweighting import train_doremi, train_odm

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


@pytest.fixture(scope="module")
def models(small_data, tmp_path_factory):
    """The folder of a base, a reference on equal shares and one that has seen only mathematics."""
    directory = tmp_path_factory.mktemp("models")
    job = Job("base", "base", {"general": 1.0}, 10_240, 5e-3, TINY, batch=256)
    components.train(job, directory / "base", small_data.directory)
    for name, mixture in (("equal", uniform(small_data.domains)), ("math", one_hot(small_data.domains, "math"))):
        made = setting_of(directory).job(name, "reference", mixture)
        components.train(made, directory / name, small_data.directory)
    return directory


def setting_of(models):
    return Setting(TINY, "general", 0.5, 5120, 5e-3, 256, "cosine", models / "base", ("heldout",), 4)


@pytest.fixture
def setting(models):
    return setting_of(models)


def weights(directory):
    return AutoModelForCausalLM.from_pretrained(directory).state_dict()


def seen(rule, job, data):
    """Every sequence that a rule would train on, sorted."""
    text = reweighting.text_of(job, data)
    rows = [next(text[name]) for step in range(reweighting.extent(job)[1]) for name in rule.domains(step)]
    return np.array(sorted(map(tuple, rows)))


def test_doremi_reads_what_plain_training_on_equal_shares_reads(small_data, models, setting):
    job = setting.job("proxy", "doremi", uniform(small_data.domains), seed=3)
    reference = AutoModelForCausalLM.from_pretrained(models / "equal")
    rule = reweighting.DoReMi(setting, job, small_data.domains, reference)
    plain = np.concatenate([batch.numpy() for batch in components.batches(job, small_data)])
    assert np.array_equal(seen(rule, job, small_data), np.array(sorted(map(tuple, plain))))


def test_doremi_weighs_rows_by_the_recipe_of_its_mixture(small_data, models, setting):
    job = setting.job("proxy", "doremi", uniform(small_data.domains))
    reference = AutoModelForCausalLM.from_pretrained(models / "equal")
    rule = reweighting.DoReMi(setting, job, small_data.domains, reference)
    batch = next(components.batches(job, small_data))[:3]
    before = reweighting.next_token_losses(reference, batch).detach()
    rows = rule.weights(["code", "math", "code"], batch, before + torch.tensor([[0.5], [-9.0], [0.3]]))
    # code is 0.4 nats worse than the reference, mathematics better (which counts 0), general not in the batch
    alpha = online.doremi_step(uniform(["general", "math", "code"]), pd.Series({"general": 0, "math": 0, "code": 0.4}))
    ratio = recipe(alpha, "general", 0.5) / recipe(uniform(["general", "math", "code"]), "general", 0.5)
    assert rows == pytest.approx(ratio[["code", "math", "code"]].to_numpy(), rel=1e-5)
    rule.weights(["math"], batch[:1], before[:1])
    again = online.doremi_step(alpha, pd.Series({"general": 0, "math": 0, "code": 0.4}))  # code keeps its last excess
    assert rule.mixture.to_dict() == pytest.approx(((alpha + again) / 2).to_dict(), rel=1e-5)


def test_doremi_without_a_rate_is_plain_training(small_data, models, setting, tmp_path):
    found = train_doremi(setting, tmp_path / "still", small_data.directory, models / "equal", rate=0.0)
    assert found["mixture"] == pytest.approx(uniform(small_data.domains).to_dict())
    plain = components.train(
        setting.job("plain", "reference", uniform(small_data.domains)), tmp_path / "plain", small_data.directory
    )
    assert found["recipe"] == pytest.approx(plain["recipe"]) and found["tokens"] == plain["tokens"]
    assert found["loss"] == pytest.approx(plain["loss"], rel=0.02)


def test_doremi_favours_what_the_reference_knows_and_the_proxy_does_not(small_data, models, setting, tmp_path):
    found = train_doremi(setting, tmp_path / "proxy", small_data.directory, models / "math")
    mixture = pd.Series(found["mixture"])
    assert mixture.sum() == pytest.approx(1) and mixture.idxmax() == "math"
    assert found["kind"] == "doremi" and len(found["path"]) == len(found["curve"])
    assert components.records_table([found]).loc["proxy", "tokens"] == 5120


def test_odm_draws_candidate_rows_only_from_its_policy(small_data, setting):
    job = setting.job("odm", "odm", uniform(small_data.domains))
    rule = reweighting.ODM(setting, job, small_data.domains)
    batch = next(components.batches(job, small_data))
    for step in range(3):
        domains = rule.domains(step)
        assert len(domains) == 8 and domains[:4] == ["general"] * 4
        losses = torch.full((8, 32), 2.0)
        losses[:4] = 50.0  # the general half is no draw of the bandit: it must not be rewarded for it
        assert (rule.weights(domains, batch, losses) == 1).all()
    assert rule.counts.sum() == 12 and rule.mixture.sum() == pytest.approx(1)
    drawn = rule.rewards[rule.rewards > 0]
    assert len(drawn) and drawn.max() < 0.1 * 3 * 2.0 / 0.1


def test_odm_rewards_follow_the_losses(small_data, setting):
    job = setting.job("odm", "odm", uniform(small_data.domains))
    rule = reweighting.ODM(setting, job, small_data.domains)
    batch = next(components.batches(job, small_data))
    hard = {"general": 1.0, "math": 1.0, "code": 6.0}
    for step in range(60):
        domains = rule.domains(step)
        rule.weights(domains, batch, torch.tensor([[hard[name]] * 32 for name in domains]))
    assert rule.mixture.idxmax() == "code" and rule.policy["code"] > 0.4


@pytest.mark.parametrize("method", ["doremi", "odm"])
def test_a_run_repeats_bit_for_bit_resumes_and_changes_with_its_seed(method, small_data, models, setting, tmp_path):
    def run(name, seed=0, within=setting):
        if method == "odm":
            return train_odm(within, tmp_path / name, small_data.directory, seed)
        return train_doremi(within, tmp_path / name, small_data.directory, models / "equal", seed)

    first, again, other = run("one"), run("two"), run("other", seed=1)
    assert first["mixture"] == again["mixture"] != other["mixture"] and first["key"] == again["key"] != other["key"]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    stamp = (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns
    assert run("one")["mixture"] == first["mixture"]
    assert (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns == stamp
    assert run("one", within=replace(setting, tokens=2560))["tokens"] == 2560


def test_what_cannot_be_learnt_is_refused(small_data, models, setting, tmp_path):
    with pytest.raises(TrainingError, match=r"beta 0.0 leaves 'x' no row"):
        train_odm(replace(setting, beta=0.0), tmp_path / "x", small_data.directory)
    with pytest.raises(TrainingError, match=r"has no training\.json"):
        train_doremi(setting, tmp_path / "x", small_data.directory, tmp_path)
    with pytest.raises(TrainingError, match="loss of model 'x' became nan"):
        train_odm(replace(setting, learning_rate=1e30), tmp_path / "x", small_data.directory)
    assert not (tmp_path / "x").exists()
