"""DoReMi, ODM and AC-ODM train on the recipe they claim, follow their rules, repeat bit for bit, resume for free."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from demix_nb.lab import actor, learnt, rules, train
from demix_nb.lab.batches import batches, text_of
from demix_nb.lab.jobs import Architecture, Job, Setting
from demix_nb.lab.learnt import train_doremi, train_odm
from demix_nb.mixtures import one_hot, recipe, uniform
from demix_nb.region import Region
from demix_nb.store import Refusal

NAMES = ["general", "math", "code"]


def series(*values):
    return pd.Series(values, index=NAMES, dtype=float)


TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


@pytest.fixture(scope="module")
def models(small_data, tmp_path_factory):
    """The folder of a base, a reference on equal shares and one that has seen only mathematics."""
    directory = tmp_path_factory.mktemp("models")
    job = Job("base", "base", {"general": 1.0}, 10_240, 5e-3, TINY, batch=256)
    train.train(job, directory / "base", small_data)
    for name, mixture in (("equal", uniform(small_data.candidates)), ("math", one_hot(small_data.candidates, "math"))):
        made = setting_of(directory).job(name, "reference", mixture)
        train.train(made, directory / name, small_data)
    return directory


def setting_of(models):
    return Setting(TINY, "general", 0.5, 5120, 5e-3, 256, "cosine", models / "base")


@pytest.fixture
def setting(models):
    return setting_of(models)


def weights(directory):
    return AutoModelForCausalLM.from_pretrained(directory).state_dict()


def seen(rule, job, data):
    """Every sequence that a rule would train on, sorted."""
    text = text_of(job, data)
    rows = [next(text[name]) for step in range(job.steps) for name in rule.candidates(step)]
    return np.array(sorted(map(tuple, rows)))


def test_doremi_reads_what_plain_training_on_equal_shares_reads(small_data, models, setting):
    job = setting.job("proxy", "doremi", uniform(small_data.candidates), seed=3)
    reference = AutoModelForCausalLM.from_pretrained(models / "equal")
    rule = rules.DoReMi(setting, job, small_data, reference)
    plain = np.concatenate([batch.numpy() for batch in batches(job, small_data)])
    assert np.array_equal(seen(rule, job, small_data), np.array(sorted(map(tuple, plain))))


def test_doremi_weighs_rows_by_the_recipe_of_its_mixture(small_data, models, setting):
    job = setting.job("proxy", "doremi", uniform(small_data.candidates))
    reference = AutoModelForCausalLM.from_pretrained(models / "equal")
    rule = rules.DoReMi(setting, job, small_data, reference)
    batch = next(batches(job, small_data))[:3]
    before = rules.next_token_losses(reference, batch).detach()
    rows = rule.weights(["code", "math", "code"], batch, before + torch.tensor([[0.5], [-9.0], [0.3]]))
    # code is 0.4 nats worse than the reference, mathematics better (which counts 0), general not in the batch
    alpha = rules.doremi_step(uniform(["general", "math", "code"]), pd.Series({"general": 0, "math": 0, "code": 0.4}))
    ratio = recipe(alpha, "general", 0.5) / recipe(uniform(["general", "math", "code"]), "general", 0.5)
    assert rows == pytest.approx(ratio[["code", "math", "code"]].to_numpy(), rel=1e-5)
    rule.weights(["math"], batch[:1], before[:1])
    again = rules.doremi_step(alpha, pd.Series({"general": 0, "math": 0, "code": 0.4}))  # code keeps its last excess
    assert rule.mixture.to_dict() == pytest.approx(((alpha + again) / 2).to_dict(), rel=1e-5)


def test_doremi_without_a_rate_is_plain_training(small_data, models, setting, tmp_path):
    found = train_doremi(setting, tmp_path / "still", small_data, models / "equal", rate=0.0)
    assert found["mixture"] == pytest.approx(uniform(small_data.candidates).to_dict())
    plain = train.train(
        setting.job("plain", "reference", uniform(small_data.candidates)), tmp_path / "plain", small_data
    )
    assert found["recipe"] == pytest.approx(plain["recipe"]) and found["tokens"] == plain["tokens"]
    assert found["loss"] == pytest.approx(plain["loss"], rel=0.02)


def test_doremi_favours_what_the_reference_knows_and_the_proxy_does_not(small_data, models, setting, tmp_path):
    found = train_doremi(setting, tmp_path / "proxy", small_data, models / "math")
    mixture = pd.Series(found["mixture"])
    assert mixture.sum() == pytest.approx(1) and mixture.idxmax() == "math"
    assert found["kind"] == "doremi" and len(found["path"]) == len(found["curve"])
    assert train.records_table([found]).loc["proxy", "tokens"] == 5120


def test_odm_draws_candidate_rows_only_from_its_policy(small_data, setting):
    job = setting.job("odm", "odm", uniform(small_data.candidates))
    rule = rules.ODM(setting, job, small_data)
    batch = next(batches(job, small_data))
    for step in range(3):
        candidates = rule.candidates(step)
        assert len(candidates) == 8 and candidates[:4] == ["general"] * 4
        losses = torch.full((8, 32), 2.0)
        losses[:4] = 50.0  # the general half is no draw of the bandit: it must not be rewarded for it
        assert (rule.weights(candidates, batch, losses) == 1).all()
    assert rule.counts.sum() == 12 and rule.mixture.sum() == pytest.approx(1)
    drawn = rule.rewards[rule.rewards > 0]
    assert len(drawn) and drawn.max() < 0.1 * 3 * 2.0 / 0.1


def test_odm_rewards_follow_the_losses(small_data, setting):
    job = setting.job("odm", "odm", uniform(small_data.candidates))
    rule = rules.ODM(setting, job, small_data)
    batch = next(batches(job, small_data))
    hard = {"general": 1.0, "math": 1.0, "code": 6.0}
    for step in range(60):
        candidates = rule.candidates(step)
        rule.weights(candidates, batch, torch.tensor([[hard[name]] * 32 for name in candidates]))
    assert rule.mixture.idxmax() == "code" and rule.policy["code"] > 0.4


@pytest.mark.parametrize("method", ["doremi", "odm", "ac_odm"])
def test_a_run_repeats_bit_for_bit_resumes_and_changes_with_its_seed(method, small_data, models, setting, tmp_path):
    def run(name, seed=0, within=setting):
        if method != "doremi":
            rule = {"odm": rules.ODM, "ac_odm": actor.ACODM}[method]
            return train_odm(within, tmp_path / name, small_data, seed=seed, rule=rule)
        return train_doremi(within, tmp_path / name, small_data, models / "equal", seed=seed)

    first, again, other = run("one"), run("two"), run("other", seed=1)
    assert first["mixture"] == again["mixture"] != other["mixture"] and first["key"] == again["key"] != other["key"]
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert all(torch.equal(one[name], two[name]) for name in one)
    stamp = (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns
    assert run("one")["mixture"] == first["mixture"]
    assert (tmp_path / "one" / "model.safetensors").stat().st_mtime_ns == stamp
    assert run("one", within=replace(setting, tokens=2560))["tokens"] == 2560


def test_what_cannot_be_learnt_is_refused(small_data, models, setting, tmp_path):
    with pytest.raises(Refusal, match=r"beta 0.0 leaves 'x' no row"):
        train_odm(replace(setting, beta=0.0), tmp_path / "x", small_data)
    with pytest.raises(Refusal, match=r"has no training\.json"):
        train_doremi(setting, tmp_path / "x", small_data, tmp_path)
    with pytest.raises(Refusal, match="loss of model 'x' became nan"):
        train_odm(replace(setting, learning_rate=1e30), tmp_path / "x", small_data)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "spent"),
    [("doremi", ["doremi-0.5-1", "doremi-reference-0.5-1"]), ("odm", ["odm-1"]), ("ac_odm", ["ac-odm-1"])],
)
def test_a_strategy_asks_nothing_and_returns_what_was_learnt_inside_the_region(
    name, spent, small_data, setting, tmp_path, rng
):
    (tmp_path / "corpora").symlink_to(small_data.directory)
    setting.write(tmp_path, small_data.families, small_data.table["tokens"])
    study = SimpleNamespace(folder=tmp_path, n_jobs=1, engine=None, progress=lambda records, **_: records)
    row = learnt.STRATEGIES[name]
    found = []
    for upper in (None, {"math": 0.1}):
        region = Region(small_data.candidates, upper=upper)
        turns = row.make(region, None, None, rng=rng, study=study, number=1)
        with pytest.raises(StopIteration) as end:
            next(turns)
        found.append(end.value.value)
        assert region.holds(found[-1].to_frame("winner").T).all()
    record = train.read_record(tmp_path / "models" / spent[0])
    assert found[0].to_dict() == pytest.approx(record["mixture"]) and record["seed"] == 1
    assert found[1]["math"] == pytest.approx(0.1)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == spent


# ---- update rules


def test_excess_clips_every_token_before_it_averages():
    losses = np.array([[3.0, 1.0], [2.0, 2.0], [5.0, 4.0]])
    reference = np.array([[2.0, 2.0], [2.5, 1.0], [1.0, 4.0]])
    # code: tokens (1, 0), (4, 0); math: (0, 1). Without clipping the first row of code would count 0
    found = rules.excess(losses, reference, ["code", "math", "code"])
    assert found.to_dict() == {"code": (0.5 + 2.0) / 2, "math": 0.5}


def test_doremi_steps_worked_by_hand():
    step = rules.doremi_step(series(0.5, 0.25, 0.25), series(0, math.log(2), math.log(4)), smoothing=0.1)
    # 0.5·1, 0.25·2, 0.25·4 = 0.5, 0.5, 1, sum 2
    assert step.to_list() == pytest.approx([0.9 * 0.25 + 0.1 / 3, 0.9 * 0.25 + 0.1 / 3, 0.9 * 0.5 + 0.1 / 3])
    half = rules.doremi_step(series(0.5, 0.25, 0.25), series(0, 0, math.log(4)), rate=0.5, smoothing=0.0)
    assert half.to_list() == pytest.approx([0.4, 0.2, 0.4])


def test_doremi_keeps_every_candidate_alive_and_survives_large_excess():
    mixture = series(1, 1, 1) / 3
    for _ in range(100):
        mixture = rules.doremi_step(mixture, series(0, 0, 1000))
    assert mixture.sum() == pytest.approx(1) and mixture.min() == pytest.approx(rules.SMOOTHING / 3)
    order = mixture[::-1]
    pd.testing.assert_series_equal(
        rules.doremi_step(order, series(0, 1, 2)), rules.doremi_step(mixture, series(0, 1, 2))[::-1]
    )


@pytest.mark.parametrize("wrong", [series(0, -0.1, 1), series(0, 1, 1).drop("code"), series(0, np.nan, 1)])
def test_excess_that_is_no_excess_is_refused(wrong):
    with pytest.raises(ValueError, match="not negative"):
        rules.doremi_step(series(0.5, 0.25, 0.25), wrong)


def test_exploration_falls_from_equal_shares():
    assert rules.exploration(0, 4) == rules.exploration(1, 4) == 0.25
    assert rules.exploration(100, 4) == pytest.approx(math.sqrt(math.log(4) / 400))
    assert rules.exploration(3, 1) == 0.0


def test_odm_policy_worked_by_hand():
    assert rules.odm_policy(series(0, 9, 3), 1).to_list() == pytest.approx([1 / 3] * 3)  # ε₁ = 1/K: nothing known yet
    rewards, step = series(0, 2, 4), 50
    floor, heat = (math.sqrt(math.log(3) / (3 * t)) for t in (50, 49))
    powers = [1, math.exp(2 * heat), math.exp(4 * heat)]
    expected = [(1 - 3 * floor) * power / sum(powers) + floor for power in powers]
    assert rules.odm_policy(rewards, step).to_list() == pytest.approx(expected)
    late = rules.odm_policy(series(0, 0, 1e6), 10**6)
    assert late.sum() == pytest.approx(1) and late["code"] > 0.99 and late["math"] > 0


def test_odm_rewards_worked_by_hand():
    rewards, policy = series(1, 2, 3), series(0.5, 0.25, 0.25)
    after = rules.odm_rewards(rewards, pd.Series({"math": 4.0}), policy)
    assert after.to_list() == pytest.approx([1, 0.9 * 2 + 0.1 * 16, 3]) and list(after.index) == NAMES
    both = rules.odm_rewards(rewards, pd.Series({"code": 1.0, "general": 2.0}), policy, decay=0.5)
    assert both.to_list() == pytest.approx([0.5 * 1 + 0.5 * 4, 2, 0.5 * 3 + 0.5 * 4])


def test_a_bandit_draws_most_what_pays_most_and_forgets_nothing(rng):
    pays, rewards, drawn = series(1.0, 1.0, 3.0), series(0, 0, 0), series(0, 0, 0)
    for step in range(1, 601):
        policy = rules.odm_policy(rewards, step)
        arm = rng.choice(NAMES, p=policy)
        drawn[arm] += 1
        rewards = rules.odm_rewards(rewards, pd.Series({arm: pays[arm]}), policy)
    # rewards are divided by p and ε falls: the policy leans towards the best arm, it never settles on it
    assert drawn["code"] > 1.1 * drawn.drop("code").max() and drawn.min() > 0.2 * drawn.sum()
