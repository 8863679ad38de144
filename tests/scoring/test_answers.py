"""Mixed answers against brute-force mixing of whole distributions and their own components; their gradient."""

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_scoring import CONTEXT, tiny
from torch import nn
from transformers.modeling_outputs import CausalLMOutput

from demix_nb.mixtures import as_table, one_hot
from demix_nb.region import Region
from demix_nb.scoring import Mixed, Suite
from demix_nb.store import Refusal

COMPONENTS = ["general", "math", "code"]


@pytest.fixture(scope="module")
def models(tokenizer):
    return {name: tiny(tokenizer, seed) for seed, name in enumerate(COMPONENTS)}


@pytest.fixture(scope="module")
def mixed(models, suite):
    logs = [suite.logs(model, suite.mixable) for model in models.values()]
    return Mixed(suite, COMPONENTS, {row: np.column_stack([each[row] for each in logs]) for row in suite.mixable})


class MixedModel(nn.Module):
    """The oracle: a model whose next-token distribution is the weighted mean of its components'."""

    def __init__(self, models, shares):
        super().__init__()
        self.models, self.shares = nn.ModuleList(models), shares

    def get_input_embeddings(self):
        return self.models[0].get_input_embeddings()

    def forward(self, input_ids, use_cache):
        parts = [model.double()(input_ids=input_ids).logits.softmax(-1) for model in self.models]
        logits = sum(share * part for share, part in zip(self.shares, parts, strict=True)).log()
        for model in self.models:
            model.float()
        return CausalLMOutput(logits=logits)


def test_mixtures_score_as_brute_force_mixing_of_probabilities(mixed, models, suite, rng):
    mixtures = Region(COMPONENTS).draw(3, rng=rng)
    scores = mixed.scores(mixtures)
    for name, row in mixtures.iterrows():
        expected = suite.measure(MixedModel(models.values(), row.to_numpy()))
        pd.testing.assert_series_equal(scores.loc[name], expected, check_names=False, rtol=1e-5)
    assert set(suite.tasks["metric"]) > {"bits_per_byte"}, "choices must be among what is compared"


def test_one_component_alone_scores_exactly_as_itself(mixed, models, suite):
    corners = as_table({name: one_hot(COMPONENTS, name) for name in COMPONENTS})
    scores = mixed.scores(corners)
    for name, model in models.items():
        for row, logs in mixed.logs.items():
            assert (logs[:, COMPONENTS.index(name)] == mixed._mixed(row, corners.loc[[name]].to_numpy())[:, 0]).all()
        np.testing.assert_allclose(scores.loc[name], suite.measure(model), rtol=1e-13)


def test_gradients_agree_with_finite_differences(mixed, rng):
    mixture = Region(COMPONENTS).draw(1, rng=rng).iloc[0]
    value, slope = mixed.gradient(mixture)
    np.testing.assert_allclose(value, mixed.scores(mixture.to_frame("x").T).loc["x", value.index], rtol=1e-12)
    for name in COMPONENTS:
        step = 1e-6 * pd.Series({other: float(other == name) for other in COMPONENTS})
        up, down = (mixed.gradient(mixture + sign * step)[0] for sign in (1, -1))
        np.testing.assert_allclose((up - down) / 2e-6, slope[name], rtol=1e-5)


def test_bits_are_convex_in_the_mixture(mixed, rng):
    ends = Region(COMPONENTS).draw(20, rng=rng)
    middle = (ends.iloc[:10].reset_index(drop=True) + ends.iloc[10:].reset_index(drop=True)) / 2
    bits = mixed.suite.tasks.index[mixed.suite.tasks["unit"] == "bpb"]
    both = (mixed.scores(ends.iloc[:10])[bits].to_numpy() + mixed.scores(ends.iloc[10:])[bits].to_numpy()) / 2
    assert (mixed.scores(middle.rename_axis("mixture").rename(index=str))[bits].to_numpy() <= both + 1e-12).all()


def test_many_mixtures_are_the_same_as_few(mixed, rng):
    mixtures = Region(COMPONENTS).draw(150, rng=rng)
    together = mixed.scores(mixtures)
    apart = pd.concat([mixed.scores(mixtures.iloc[i : i + 1]) for i in range(0, 150, 30)])
    pd.testing.assert_frame_equal(together.loc[apart.index], apart, rtol=1e-12)


def test_a_token_unlikely_under_all_is_not_lost(suite):
    logs = {row: np.full((suite.counts[row].sum(), 2), -900.0) for row in suite.mixable}  # exp(−900) is 0 in float64
    scores = Mixed(suite, ["a", "b"], logs).scores(as_table({"half": pd.Series({"a": 0.5, "b": 0.5})}))
    assert np.isfinite(scores.to_numpy()).all()


def test_a_mixture_of_strangers_is_refused(mixed):
    with pytest.raises(Refusal, match="poetry"):
        mixed.scores(as_table({"x": pd.Series({"general": 0.5, "poetry": 0.5})}))


def test_tasks_without_likelihoods_are_refused_by_name(tokenizer, tmp_path):
    (tmp_path / "items.json").write_text('[{"question": "the red fox", "answer": " sees"}]')
    common = (
        f"dataset_path: json\ndataset_kwargs: {{data_files: {{test: {tmp_path}/items.json}}}}\ntest_split: test\n"
        "doc_to_text: question\ndoc_to_target: answer\n"
    )
    short = "generation_kwargs: {until: [q], max_gen_toks: 4}\n"
    (tmp_path / "writes.yaml").write_text(f"task: writes\noutput_type: generate_until\n{common}{short}")
    (tmp_path / "likeliest.yaml").write_text(
        f"task: likeliest\noutput_type: loglikelihood\n{common}metric_list: [{{metric: acc}}]\n"
    )
    for name in ("writes", "likeliest"):
        other = Suite.build([name], tokenizer, context=CONTEXT, include_path=tmp_path)
        with pytest.raises(Refusal, match=f"{name} needs .* use merged proxies"):
            Mixed(other, ["a"], {name: np.zeros((4, 1))})


def test_a_broken_component_is_refused(tokenizer, suite):
    broken = tiny(tokenizer)
    with torch.no_grad():
        broken.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(Refusal, match="not finite"):
        suite.logs(broken, suite.mixable)
