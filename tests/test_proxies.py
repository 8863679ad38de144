"""Every kind of proxy scores like the models it stands for, and nothing is measured twice."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from demix_nb import proxies
from demix_nb.mixtures import as_table, uniform
from demix_nb.proxies import KINDS, Checkpoints, Merges, Store
from demix_nb.scoring import Suite
from demix_nb.store import Refusal

COMPONENTS_ONLY = [name for name, kind in KINDS.items() if not kind.trains]
PLAIN = [name for name in COMPONENTS_ONLY if not KINDS[name].references]


def never(*_):
    raise AssertionError("measured again")


@pytest.fixture(scope="module")
def tuning(small_study):
    """Five references to mend proxies with."""
    design = small_study.region.draw(5, rng=np.random.default_rng(11), prefix="t")
    return small_study.measure(small_study.train(design, "tuning"))


def made(study, kind, tuning):
    return study.proxy(kind, **({"references": tuning} if KINDS[kind].references else {}))


# --- the protocol, over every row -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_scores_every_mixture_on_every_task_and_repeats_itself(small_study, tuning, kind):
    mixtures = small_study.region.draw(3, rng=np.random.default_rng(3), prefix="p")
    proxy = made(small_study, kind, tuning)
    once, again = proxy(mixtures), proxy(mixtures.iloc[::-1])
    assert once.names == list(mixtures.index) and list(once.scores) == list(small_study.tasks.index)
    assert np.isfinite(once.scores).all(axis=None)
    pd.testing.assert_frame_equal(once.scores, again.scores.loc[once.names], rtol=1e-9)


@pytest.mark.parametrize("kind", PLAIN)
def test_at_a_corner_a_kind_is_the_component(small_study, kind):
    really = small_study.measure(small_study.components).scores
    pd.testing.assert_frame_equal(small_study.proxy(kind)(small_study.corners).scores, really, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_refuses_mixtures_that_are_none(small_study, tuning, kind):
    off = uniform(small_study.candidates).to_frame("u").T * 2
    with pytest.raises(Refusal, match="'u' sums to 2"):
        made(small_study, kind, tuning)(off)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_says_what_its_kind_can_do(small_study, tuning, kind):
    row, proxy = KINDS[kind], made(small_study, kind, tuning)
    assert hasattr(proxy, "gradient") == row.gradient
    assert row.label and row.marker and row.paper.startswith("https://")
    assert len({other.marker for other in KINDS.values()}) == len(KINDS)
    if row.references:
        with pytest.raises(TypeError, match="references"):
            small_study.proxy(kind)


def test_costs_are_those_of_the_paper():
    billions = {"candidates": 7, "tokens": 30.0, "searched": 112}
    assert KINDS["merged"].cost(**billions) == 210
    assert KINDS["trained"].cost(**(billions | {"tokens": 50.0}), budget=0.04) == pytest.approx(224)
    assert KINDS["mended"].cost(**billions, references=24) == 210 + 24 * 30
    assert KINDS["mixed"].cost(**billions, references=24) == 210, "it needs no references"


# --- merges ---------------------------------------------------------------------------------------------------------


def test_mended_merges_scale_the_updates(small_study, rng):
    """Θ_base + c·Σ αᵢ^p τᵢ, number by number."""
    mixture = small_study.region.draw(1, rng=rng)
    source = Merges(small_study.bank, mixture, "task_arithmetic", power=0.5, scale=1.5)
    ((_, model),) = source.open(list(mixture.index))
    flat = {name: AutoModelForCausalLM.from_pretrained(path) for name, path in small_study.components.folders.items()}
    base = AutoModelForCausalLM.from_pretrained(small_study.setting["base"])
    for key, start in base.state_dict().items():
        updates = [mixture.iloc[0][name] ** 0.5 * (flat[name].state_dict()[key] - start) for name in flat]
        torch.testing.assert_close(model.state_dict()[key], start + 1.5 * sum(updates), rtol=1e-5, atol=1e-6)
    plain = Merges(small_study.bank, mixture, "task_arithmetic")
    assert source.key(mixture.index[0]) != plain.key(mixture.index[0])


def test_workers_and_order_change_nothing(small_study, rng, tmp_path):
    sample = small_study.region.draw(8, rng=rng)
    one, two = (
        Store(tmp_path / str(n), n_jobs=n).scores(Merges(small_study.bank, table), small_study.suite)
        for n, table in ((1, sample), (2, sample.iloc[::-1]))
    )
    pd.testing.assert_frame_equal(one, two.loc[one.index], rtol=1e-6)
    assert list(one.index) == list(sample.index)


# --- nothing twice --------------------------------------------------------------------------------------------------


def test_a_second_run_measures_nothing(small_study, rng, monkeypatch):
    mixtures = small_study.region.draw(3, rng=rng, prefix="again")
    first = small_study.proxy("merged")(mixtures)
    monkeypatch.setattr(Suite, "measure", never)
    pd.testing.assert_frame_equal(small_study.proxy("merged")(mixtures).scores, first.scores)
    renamed = small_study.proxy("merged")(mixtures.rename(index=lambda name: f"other-{name}"))
    assert (renamed.scores.to_numpy() == first.scores.to_numpy()).all()


def test_an_interrupted_run_keeps_what_it_measured(small_study, monkeypatch):
    unseen = small_study.region.draw(5, rng=np.random.default_rng(99))
    honest, calls = Suite.measure, []

    def cut(self, model):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(self, model)

    monkeypatch.setattr(Suite, "measure", cut)
    with pytest.raises(KeyboardInterrupt):
        small_study.proxy("merged")(unseen)
    small_study.proxy("merged")(unseen)
    assert len(calls) == 3 + 3  # two were kept, three of five remained


def test_components_answer_once(small_study, monkeypatch):
    first = small_study.proxy("mixed")(small_study.corners)
    monkeypatch.setattr("demix_nb.scoring.answers.token_logs", never)
    pd.testing.assert_frame_equal(small_study.proxy("mixed")(small_study.corners).scores, first.scores)


def test_a_damaged_cache_file_is_named(small_study, tmp_path):
    store, even = Store(tmp_path, n_jobs=1), as_table({"u": uniform(small_study.candidates)})
    store.scores(Merges(small_study.bank, even), small_study.suite)
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text().replace("heldout_code", "heldout_cod"))
    with pytest.raises(Refusal, match=f"{path.name} is damaged.*delete it"):
        store.scores(Merges(small_study.bank, even), small_study.suite)


def test_chunks_hold_names_and_all_come_back(small_study, monkeypatch, tmp_path):
    monkeypatch.setattr(proxies, "CHUNK", 2)
    folders = small_study.components.folders
    scores = Store(tmp_path, n_jobs=1).scores(Checkpoints(folders), small_study.suite)
    pd.testing.assert_frame_equal(scores, small_study.measure(small_study.components).scores, rtol=1e-6)
