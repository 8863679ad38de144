"""A live proxy is the merge it claims to be, scored on excerpts, and what it writes depends on the mixture alone."""

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
import test_proxies
import torch
from transformers import AutoModelForCausalLM

from demix_nb.live import PROMPT, Live
from demix_nb.mixtures import one_hot, uniform

study = test_proxies.study  # three tiny components


@pytest.fixture(scope="module")
def live(study):
    return Live(study)


def test_a_corner_scores_like_its_component_on_the_same_excerpts(live, study):
    for name, folder in study.components.items():
        component = live.suite.score(AutoModelForCausalLM.from_pretrained(folder))
        ours = live.score(one_hot(live.bank.names, name))
        assert ours.to_list() == pytest.approx(component.to_list(), rel=1e-6)
        assert list(ours.index) == live.bank.names


def test_a_move_is_read_on_little_text(live, study):
    assert (
        live.suite.live.plans["loglikelihood_rolling"].tokens < study.suite.live.plans["loglikelihood_rolling"].tokens
    )
    assert all(len(tokens) == PROMPT for tokens in live.starts.values())


def test_the_same_mixture_writes_the_same_and_leaves_the_dice_alone(live):
    even, corner = uniform(live.bank.names), one_hot(live.bank.names, "code")
    before = torch.get_rng_state()
    first, other, again = (live.write_on(mixture, ["code", "math"], tokens=8) for mixture in (even, corner, even))
    pd.testing.assert_series_equal(first, again)
    assert (first != other).any() and (torch.get_rng_state() == before).all()
    assert (live.write_on(even, ["code", "math"], tokens=8, seed=1) != first).any()


def test_a_slider_and_a_cell_may_ask_at_the_same_time(live):
    corners = [one_hot(live.bank.names, name) for name in live.bank.names]
    alone = [(live.score(corner), live.write_on(corner, ["math"], tokens=4)) for corner in corners]
    with ThreadPoolExecutor(2 * len(corners)) as pool:
        scores = [pool.submit(live.score, corner) for corner in corners * 3]
        texts = [pool.submit(live.write_on, corner, ["math"], tokens=4) for corner in corners * 3]
    for (score, text), asked, written in zip(alone * 3, scores, texts, strict=True):
        pd.testing.assert_series_equal(asked.result(), score)
        pd.testing.assert_series_equal(written.result(), text)


def test_all_ways_from_one_domain_to_another_begin_and_end_alike(live):
    curves = live.path("math", "code", points=3)
    assert list(curves) == ["merged", "ensemble"], "no model was trained between them"
    merged, ensemble = curves.values()
    assert list(merged.index) == list(ensemble.index) == [0, 0.5, 1]
    assert merged.loc[[0, 1]].to_numpy() == pytest.approx(ensemble.loc[[0, 1]].to_numpy(), rel=1e-5)
    assert (merged.loc[0.5] != ensemble.loc[0.5]).all()
    assert live.mixed_pair == (live.bank.names[0], live.bank.names[-1])
