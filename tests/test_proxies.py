"""Proxies score like the models they stand for, and nothing is scored twice."""

import numpy as np
import pandas as pd
import pytest
import torch

from demix_nb import components, proxies
from demix_nb.components import Architecture, Job, Setting
from demix_nb.corpora import CorpusError
from demix_nb.mixtures import MixtureError, as_table, one_hot, sample_uniform, uniform
from demix_nb.scoring import ScoringError, Suite

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)


@pytest.fixture(scope="module")
def study(small_data, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    (run / "corpora").symlink_to(small_data.directory)
    base = Job("base", "base", {"general": 1.0}, tokens=5120, learning_rate=5e-3, architecture=TINY, batch=256)
    components.train(base, run / "models" / "base", small_data.directory)
    setting = Setting(TINY, "general", 0.5, 5120, 5e-3, 256, "cosine", run / "models" / "base", ("heldout",), 4)
    setting.write(run / "setting.json")
    jobs = [
        setting.job(f"component-{name}", "component", one_hot(small_data.domains, name)) for name in small_data.domains
    ]
    list(components.train_all(jobs, run / "models", small_data, n_jobs=1))
    return proxies.Study.open(run, n_jobs=1)


def test_one_hot_proxies_score_like_their_components(study):
    corners = as_table({name: one_hot(study.data.domains, name) for name in study.data.domains})
    merged = study.score(proxies.Merges(study.bank, corners))
    really = study.score(study.trained("component", study.data.domains))
    pd.testing.assert_frame_equal(merged, really, rtol=1e-6)
    assert all(merged[f"heldout_{name}"].idxmin() == name for name in ("math", "code"))


def test_workers_and_order_change_nothing(study, rng, tmp_path):
    sample = sample_uniform(study.data.domains, 8, rng=rng)
    one, two = (
        proxies.Study(tmp_path / str(n), study.data, study.setting, study.suite, n_jobs=n).score(
            proxies.Merges(study.bank, table)
        )
        for n, table in ((1, sample), (2, sample.iloc[::-1]))
    )
    pd.testing.assert_frame_equal(one, two.loc[one.index], rtol=1e-6)
    assert list(one.index) == list(sample.index)


def test_a_second_run_scores_nothing(study, rng, monkeypatch):
    source = proxies.Merges(study.bank, sample_uniform(study.data.domains, 3, rng=rng, prefix="again"))
    first = study.score(source)

    def never(self, model):
        raise AssertionError("scored again")

    monkeypatch.setattr(Suite, "score", never)
    pd.testing.assert_frame_equal(study.score(source), first)
    renamed = proxies.Merges(study.bank, source.mixtures.rename(index=lambda name: f"other-{name}"))
    assert (study.score(renamed).to_numpy() == first.to_numpy()).all()


def test_an_interrupted_run_keeps_what_it_scored(study, monkeypatch):
    unseen = sample_uniform(study.data.domains, 5, rng=np.random.default_rng(99))
    source = proxies.Merges(study.bank, unseen)
    honest, calls = Suite.score, []

    def cut(self, model):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(self, model)

    monkeypatch.setattr(Suite, "score", cut)
    with pytest.raises(KeyboardInterrupt):
        study.score(source)
    study.score(source)
    assert len(calls) == 3 + 3  # two were kept, three of five remained


def test_a_damaged_cache_file_is_named(study, tmp_path):
    lone = proxies.Study(tmp_path, study.data, study.setting, study.suite, n_jobs=1)
    source = proxies.Merges(study.bank, as_table({"u": uniform(study.data.domains)}))
    lone.score(source)
    (path,) = (tmp_path / "cache").iterdir()
    path.write_text(path.read_text().replace("heldout_code", "heldout_cod"))
    with pytest.raises(ScoringError, match=f"{path.name} is damaged.*delete it"):
        lone.score(source)


def test_bad_mixtures_and_empty_runs_are_refused(study, tmp_path):
    off = uniform(study.data.domains).to_frame("u").T * 2
    with pytest.raises(MixtureError, match="'u' sums to 2"):
        study.score(proxies.Merges(study.bank, off))
    with pytest.raises(CorpusError, match="no corpora under"):
        proxies.Study.open(tmp_path)


def test_every_kind_of_proxy_is_one_call(study, rng):
    mixtures = sample_uniform(study.data.domains, 2, rng=rng, prefix="kind")
    kinds = {
        "merged": proxies.Merged(study),
        "calibrated": proxies.Merged(study, "task_arithmetic", power=0.75, scale=1.2),
        "ensemble": study.ensemble(),
        "trained": proxies.Trained(study, "few", share=0.25),
    }
    tables = {name: kind(mixtures) for name, kind in kinds.items()}
    for table in tables.values():
        assert list(table.index) == list(mixtures.index) and list(table) == list(study.tasks.index)
    levels = {name: table.to_numpy().mean() for name, table in tables.items()}
    assert len(set(levels.values())) == len(kinds), "four kinds of proxy, four scores"
    assert (study.models / "few-kind0" / "training.json").is_file()


def test_calibrated_merges_scale_the_updates(study, rng):
    """Θ_base + c·Σ αᵢ^p τᵢ, number by number."""
    mixture = sample_uniform(study.data.domains, 1, rng=rng)
    source = proxies.Merges(study.bank, mixture, "task_arithmetic", power=0.5, scale=1.5)
    ((_, model),) = source.live(list(mixture.index))
    flat = {name: proxies.AutoModelForCausalLM.from_pretrained(path) for name, path in study.components.items()}
    base = proxies.AutoModelForCausalLM.from_pretrained(study.setting.base)
    for key, start in base.state_dict().items():
        updates = [mixture.iloc[0][name] ** 0.5 * (flat[name].state_dict()[key] - start) for name in flat]
        torch.testing.assert_close(model.state_dict()[key], start + 1.5 * sum(updates), rtol=1e-5, atol=1e-6)
    plain = proxies.Merges(study.bank, mixture, "task_arithmetic")
    assert len({source.key(mixture.index[0]), plain.key(mixture.index[0])}) == 2


def test_an_ensembles_components_are_run_once(study, monkeypatch):
    first = study.ensemble()

    def never(suite, model):
        raise AssertionError("run again")

    monkeypatch.setattr(proxies, "token_logs", never)
    assert (study.ensemble().logs == first.logs).all()
