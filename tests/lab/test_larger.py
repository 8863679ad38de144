"""A grown model has the smaller one's logits, whatever its heads; its copies differ, learn, and are refused by name."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_train import TINY, job
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from demix_nb.lab import larger
from demix_nb.lab import train as doors
from demix_nb.lab.jobs import Setting, like_base, read_record
from demix_nb.lab.larger import cancelling, grow, grown
from demix_nb.store import Refusal

SIZES = {"vocab_size": 97, "head_dim": 8, "max_position_embeddings": 64, "initializer_range": 0.3}
KINDS = {"qwen3": (Qwen3Config, Qwen3ForCausalLM), "llama": (LlamaConfig, LlamaForCausalLM)}
SHAPES = {  # hidden, inner, heads, heads of keys, layers: before and after
    "twice as wide": ((16, 24, 2, 1, 2), (32, 48, 4, 2, 2)),
    "the same keys for more heads": ((16, 24, 2, 1, 2), (32, 48, 4, 1, 2)),
    "grouped, three times": ((24, 24, 6, 3, 1), (72, 72, 18, 9, 1)),
    "a key for each head": ((16, 24, 2, 2, 1), (32, 72, 4, 4, 1)),
    "deeper": ((16, 24, 2, 1, 2), (16, 24, 2, 1, 6)),
    "wider and deeper": ((16, 24, 4, 2, 2), (64, 96, 16, 4, 4)),
}


def shape(kind, tied, hidden, inner, heads, keys, layers, **other):
    sizes = {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers}
    sizes |= {"num_attention_heads": heads, "num_key_value_heads": keys, "tie_word_embeddings": tied}
    return KINDS[kind][0](**SIZES | sizes | other)


def made(kind, config):
    """A model in which every weight counts, those of norms too."""
    torch.manual_seed(0)
    model = KINDS[kind][1](config).double().eval()
    for name, value in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.uniform_(value, 0.5, 1.5)
    return model


def logits(model, n=40):
    ids = torch.from_numpy(np.random.default_rng(1).integers(97, size=(3, n)))
    with torch.no_grad():
        return model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("noise", [0.0, larger.NOISE])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_logits_are_the_same(name, kind, tied, noise, rng):
    before, after = (shape(kind, tied, *sizes) for sizes in SHAPES[name])
    small = made(kind, before)
    large = grown(small, after, noise=noise, rng=rng)
    assert large.num_parameters() > small.num_parameters()
    assert logits(small).abs().mean() > 0.1 and torch.allclose(logits(small), logits(large), atol=1e-5)
    wider = dict(large.named_parameters())["model.layers.0.mlp.down_proj.weight"]
    first, second = wider[: before.hidden_size], wider[-before.hidden_size :]
    assert torch.equal(first, second) == (noise == 0 or name == "deeper"), "noise tells copies apart"


def test_biases_grow_too(rng):
    before, after = (shape("llama", False, *s, attention_bias=True, mlp_bias=True) for s in SHAPES["twice as wide"])
    small = made("llama", before)
    assert torch.allclose(logits(small), logits(grown(small, after, rng=rng)), atol=1e-5)


def test_a_widened_head_would_turn_otherwise(rng):
    """Why heads are repeated: the same numbers, in heads of twice the dimensions, see other positions."""
    before = shape("llama", False, 16, 24, 2, 2, 1)
    with pytest.raises(Refusal, match="head_dim differs, so that no logits are the same; grow hidden, heads"):
        grown(made("llama", before), shape("llama", False, 32, 48, 2, 2, 1, head_dim=16), rng=rng)
    frequencies = [made("llama", shape("llama", False, 16, 24, 2, 2, 1, head_dim=d)).model.rotary_emb.inv_freq
                   for d in (8, 16)]  # fmt: skip
    assert not torch.allclose(frequencies[0], frequencies[1][:4])


def test_noise_cancels_and_has_the_spread_that_was_drawn(rng):
    drawn = torch.from_numpy(rng.standard_normal((500, 12)))
    for origin in (torch.arange(4).repeat(3), torch.arange(6).repeat_interleave(2)):
        noise = cancelling(drawn, origin)
        sums = torch.zeros(500, len(origin.bincount()), dtype=drawn.dtype).index_add_(1, origin, noise)
        assert sums.abs().max() < 1e-12 and noise.std() == pytest.approx(1, abs=0.05)
    assert cancelling(drawn, torch.arange(12)).abs().max() < 1e-12, "what is there once is left as it is"


@pytest.mark.parametrize(
    ("after", "other", "told"),
    [
        ((24, 48, 4, 2, 2), {}, "hidden_size cannot grow from 16 to 24; give a multiple"),
        ((32, 48, 3, 1, 2), {}, "num_attention_heads cannot grow from 2 to 3; give a multiple"),
        ((32, 48, 4, 2, 3), {}, "num_hidden_layers cannot grow from 2 to 3; give a multiple"),
        ((32, 48, 4, 2, 2), {"tie_word_embeddings": False}, "tie_word_embeddings differs"),
        ((32, 48, 4, 2, 2), {"vocab_size": 100}, "vocab_size differs"),
    ],
)
def test_what_cannot_grow_is_refused_by_name(after, other, told, rng):
    small = made("qwen3", shape("qwen3", True, *SHAPES["twice as wide"][0]))
    config = shape("qwen3", True, *after)
    for name, value in other.items():
        setattr(config, name, value)
    with pytest.raises(Refusal, match=told):
        grown(small, config, rng=rng)


# ---- folders


@pytest.fixture(scope="module")
def base(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("start") / "base"
    doors.train(job(tokens=10_240), folder, small_data)
    return folder


WIDER = replace(TINY, hidden=64, layers=2)


def test_a_grown_checkpoint_is_an_ordinary_one_made_once_and_training_goes_on_from_it(small_data, base, tmp_path):
    row = grow(base, tmp_path / "grown", WIDER)
    stamp = (tmp_path / "grown" / "model.safetensors").stat().st_mtime_ns
    assert grow(base, tmp_path / "grown", WIDER).equals(row)
    assert (tmp_path / "grown" / "model.safetensors").stat().st_mtime_ns == stamp
    small, large = (AutoModelForCausalLM.from_pretrained(path).eval() for path in (base, tmp_path / "grown"))
    assert torch.allclose(logits(small, 30), logits(large, 30), atol=1e-5)
    assert row.loc["grown", "parameters"] == large.num_parameters() and row.loc["grown", "tokens"] == 10_240
    asked = job("more", start=tmp_path / "grown", architecture=WIDER, seed=1)
    fresh = job("fresh", architecture=WIDER, seed=1)
    more, fresh = (doors.train(one, tmp_path / one.name, small_data) for one in (asked, fresh))
    assert more["loss"] < fresh["loss"] - 0.5 and more["delta"] > 0
    grow(base, tmp_path / "grown", WIDER, seed=1)
    assert asked.key(small_data) != more["key"], "grown anew, and so is what begins there"


def test_copies_part_when_they_are_trained_only_with_noise(small_data, base, tmp_path):
    apart = {}
    for noise in (0.0, larger.NOISE):
        grow(base, tmp_path / f"grown-{noise:g}", WIDER, noise=noise)
        asked = job("m", start=tmp_path / f"grown-{noise:g}", architecture=WIDER)
        doors.train(asked, tmp_path / f"m-{noise:g}", small_data)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / f"m-{noise:g}")
        first, second = model.model.embed_tokens.weight.detach().chunk(2, dim=1)
        apart[noise] = float((first - second).abs().max())
    assert apart[0.0] < 1e-6 < 1e-4 < apart[larger.NOISE]


def test_a_base_is_made_once_more_as_it_was(small_data, base, tmp_path):
    setting = Setting(TINY, "general", 0.5, 2560, 5e-3, 256, "cosine", base)
    doors.train(like_base(setting, "again", seed=0), tmp_path / "again", small_data)
    doors.train(like_base(setting, "other", seed=1), tmp_path / "other", small_data)
    keys = [read_record(folder)["key"] for folder in (base, tmp_path / "again", tmp_path / "other")]
    assert keys[0] == keys[1] != keys[2]
