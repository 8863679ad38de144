"""A dry run tells the truth: what the notebooks say they train is what a finished run has trained."""

import json
from collections import Counter

import pytest

from demix_nb import DATA, store
from demix_nb.door import to_train
from demix_nb.running import estimate, runner
from demix_nb.running.given import Given


def budgets(step, profile="smoke", **overrides):
    return estimate.budgets(runner.plan([step], profile, overrides)[-1])


@pytest.mark.parametrize("step", runner.STEPS)
@pytest.mark.parametrize("profile", runner.profiles())
def test_every_notebook_can_be_counted(step, profile):
    assert all(tokens > 0 for tokens in budgets(step, profile))


def test_models_follow_the_parameters():
    assert len(budgets("01")) == 8 and budgets("01")[0] == 120_000
    assert Counter(budgets("03", n_references=5, n_replicates=4, trained_budgets=[0.25, 0.5])) == {
        40_000: 9, 10_000: 5, 20_000: 5,
    }  # fmt: skip
    assert budgets("05") == ()


def test_own_text_counts_its_candidates(tmp_path):
    (tmp_path / "code").mkdir()
    for name in ("news-00.jsonl", "news-01.jsonl", "law.txt", "code/a.txt", "README.md", "families.yml", ".hidden"):
        (tmp_path / name).write_text("")
    assert len(to_train(str(tmp_path))) == 3
    assert len(budgets("01", corpora=str(tmp_path), general="news")) == 4


def test_models_of_a_study_file_are_not_counted(tmp_path):
    (tmp_path / "m.csv").write_text("mixture,a,b\nr1,0.5,0.5\nr2,0.25,0.75\nr3,1,0\n")
    (tmp_path / "s.csv").write_text("mixture,x_loss\nr1,1\nr2,3\nr3,5\n")
    (tmp_path / "study.yaml").write_text("proxies: {mixtures: m.csv, scores: s.csv}\n")
    steps = runner.plan(["03", "07"], "smoke", {}, given=Given.open(tmp_path / "study.yaml"))
    assert {estimate.budgets(step) for step in steps} == {()} != {budgets("03")}


@pytest.mark.notebooks
def test_what_is_told_is_what_a_finished_run_has_trained(story):
    records = [json.loads(path.read_text()) for path in story[0].glob("models/*/training.json")]
    steps = runner.plan([], "smoke", {}, story[0])
    told = [tokens for step in steps for tokens in estimate.budgets(step)]
    assert len(told) == len(records)
    assert sum(told) == pytest.approx(sum(record["tokens"] for record in records), rel=0.02), "whole batches apart"
    fresh = [estimate.Cost(step, False, estimate.budgets(step), None) for step in steps]
    used = sum(path.stat().st_size for path in story[0].glob("models/*/*"))
    assert sum(cost.disk for cost in fresh) == pytest.approx(used, rel=0.3)


def test_seconds_follow_training_tokens_and_this_machine():
    step = runner.plan(["07"], "laptop", {})[-1]
    pace = estimate.pace()
    assert pace > 1000
    as_committed = estimate.seconds(step, "laptop", pace)
    took, tour = (estimate.committed(name, "laptop")[1] for name in ("07_mixture_quality", "00_tour"))
    assert as_committed == pytest.approx(took)
    assert estimate.seconds(step, "laptop", pace / 2) == pytest.approx(2 * took)
    fewer = runner.plan(["07"], "laptop", {"n_seeds": 1})[-1]
    assert estimate.seconds(fewer, "laptop", pace) == pytest.approx(tour + (took - tour) / 2)
    small = runner.plan(["07"], "smoke", {})[-1]
    fifth = estimate.work(small) / estimate.work(step)
    assert fifth < 0.25 and estimate.seconds(small, "smoke", pace) == pytest.approx(tour + (took - tour) * fifth)


def trained(profile):
    models = store.read(DATA / "results" / profile / "component_models.csv", "models").query("kind == 'component'")
    return float((models["tokens"] / models["seconds"]).median())


def test_a_large_model_takes_what_a_large_model_took():
    """Small models say nothing of a large one's tokens a second, and the probe is a small model's."""
    step = runner.plan(["01"], "real", {})[-1]
    took = estimate.committed("01_components", "real")[1]
    assert estimate.seconds(step, "real", estimate.pace()) == pytest.approx(took) and took > 600
    small, large = runner.plan(["01"], "laptop", {})[-1], step
    each = [estimate.work(one) / sum(estimate.budgets(one)) for one in (small, large)]
    assert each[0] == pytest.approx(1, rel=0.01), "the default model is the probe's"
    assert trained("laptop") / trained("real") == pytest.approx(each[1], rel=0.3)
    wide = runner.plan(["01"], "laptop", {"hidden": 256, "layers": 4})[-1]
    assert estimate.seconds(wide, "laptop", 1000) > 2 * estimate.seconds(small, "laptop", 1000)


def test_no_step_takes_less_than_its_training():
    """A committed run that was resumed says of a step what its last piece took."""
    for profile, name in (("study", "03"), ("real", "03"), ("laptop", "01")):
        step = runner.plan([name], profile, {})[-1]
        assert estimate.seconds(step, profile, 1e4) * 2e4 >= estimate.work(step)
    assert estimate.seconds(runner.plan(["03"], "study", {})[-1], "study", 1e4) > 3600, "576 models"


def test_committed_runs_are_of_one_machine():
    """The probe is held against the laptop's run; another machine's would want a pace of its own."""
    tables = [store.read(path, "run") for path in (DATA / "results").glob("*/run.csv")]
    assert len(tables) >= 3 and len({machine for table in tables for machine in table["machine"]}) == 1


def test_the_probe_is_short_and_finds_a_speed():
    assert estimate.probe(0.1) > 0 and estimate.PROBED <= 5


def test_the_table_sums_what_is_left_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(estimate, "PROBED", 0.05)
    found = estimate.costs(runner.plan(["03"], "smoke", {}, tmp_path), "smoke")
    assert [cost.step.name for cost in found] == ["01_components", "03_proxy_fidelity"]
    from rich.console import Console

    with (console := Console(width=100)).capture() as shown:
        console.print(estimate.table([*found[:1], estimate.Cost(found[1].step, True, (), 0.0)]))
    lines = [line.split() for line in shown.get().splitlines()]
    assert lines[1][:3] == ["01_components", "8", "400,000"] and lines[2] == ["03_proxy_fidelity", "up", "to", "date"]
    assert lines[3][:3] == ["all", "8", "400,000"]
