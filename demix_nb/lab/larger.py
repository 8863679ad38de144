"""A larger model that begins as a smaller one: every unit is there several times, and the logits are the same.

Where each unit is there n times, a matrix that reads it is repeated and divided by n, one that writes it is repeated
(HyperCloning). Rotary positions turn the dimensions of a head by angles that depend on how many there are: so heads are
repeated, none is widened, and each copy reads copies of the keys that its original reads. A root mean square does not
change. An output tied to the embedding reads n times as much: the last norm is divided by n. Copies that are equal stay
so: noise that cancels between the copies which are read tells them apart. A further layer is a copy of the one below
that writes nothing at first (LLaMA Pro).

Sources: HyperCloning (arXiv 2409.12903) 3; LLaMA Pro (2401.02415) 3.1 for depth, which the former leaves alone.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig, PreTrainedModel

from demix_nb.lab.jobs import RECORD, Architecture, read_record
from demix_nb.lab.loop import save
from demix_nb.lab.train import records_table
from demix_nb.store import Refusal, content_hash

NOISE = 10 ** (-10 / 20)  # of a weight's root mean square: 10 dB below it, HyperCloning 3
AXES = {  # a weight's name → what its first and its second axis are
    "embed_tokens": ("", "hidden"),
    "lm_head": ("", "hidden"),
    "q_proj": ("heads", "hidden"),
    "k_proj": ("keys", "hidden"),
    "v_proj": ("keys", "hidden"),
    "o_proj": ("hidden", "heads"),
    "gate_proj": ("inner", "hidden"),
    "up_proj": ("inner", "hidden"),
    "down_proj": ("hidden", "inner"),
    "input_layernorm": ("hidden",),
    "post_attention_layernorm": ("hidden",),
    "norm": ("hidden",),
    "q_norm": ("",),  # of each head
    "k_norm": ("",),
}
LOOKED_UP = ("embed_tokens",)  # by token: nothing is summed over its second axis
WRITES = ("o_proj", "down_proj")  # what a layer adds to the hidden state
SAME = ("model_type", "vocab_size", "head_dim", "rope_parameters", "rms_norm_eps", "tie_word_embeddings")
Origins = Mapping[str, Int64[torch.Tensor, " unit"]]  # axis → of which unit each unit of the larger model is a copy


def grown(
    model: PreTrainedModel, config: PretrainedConfig, *, noise: float = NOISE, rng: np.random.Generator
) -> PreTrainedModel:
    """Return a model of the shape `config` whose logits are those of `model`, of the kind of Llama, Qwen3 or Mistral.

    `noise`: its root mean square over a weight's, 0: none; it changes no logit. Raises Refusal where a size is no
    multiple of the smaller model's, where anything of SAME differs, and for a weight that is none of AXES.
    """
    small = model.config
    origins = {
        "": torch.arange(0),
        "hidden": _tiled("hidden_size", small, config),
        "inner": _tiled("intermediate_size", small, config),
        "heads": _heads("num_attention_heads", small, config),
        "keys": _heads("num_key_value_heads", small, config),
    }
    if other := [name for name in SAME if getattr(small, name, None) != getattr(config, name, None)]:
        raise Refusal(f"{other[0]} differs, so that no logits are the same; grow hidden, heads and layers alone")
    times, weights = _times("num_hidden_layers", small, config), dict(model.named_parameters())
    larger = type(model)(config).to(model.dtype)
    with torch.no_grad():
        for name, value in larger.named_parameters():
            path, kind = name.split("."), name.split(".")[-2]
            if kind not in AXES:
                raise Refusal(f"{name} is no weight that is known here; grow a model like Llama, Qwen3 or Mistral")
            layer = next((part for part in path if part.isdigit()), "0")
            path = [str(int(part) // times) if part.isdigit() else part for part in path]
            value.copy_(_copied(weights[".".join(path)], kind, origins, noise, rng))
            if kind in WRITES and int(layer) % times:
                value.zero_()
        if config.tie_word_embeddings:
            larger.model.norm.weight /= len(origins["hidden"]) // small.hidden_size
    return larger.eval()


def _copied(
    weight: Float[torch.Tensor, "..."], kind: str, origins: Origins, noise: float, rng: np.random.Generator
) -> Float[torch.Tensor, "..."]:
    """Return the larger model's weight, or bias, which has a weight's first axis."""
    for axis, name in enumerate(AXES[kind][: weight.ndim]):
        if name:
            weight = weight.index_select(axis, origins[name])
    if weight.ndim < 2 or kind in LOOKED_UP:
        return weight
    origin = origins[AXES[kind][1]]
    weight = weight / origin.bincount()[origin]
    drawn = torch.from_numpy(rng.standard_normal(weight.shape)).to(weight)
    return weight + noise * weight.square().mean().sqrt() * cancelling(drawn, origin)


def cancelling(
    drawn: Float[torch.Tensor, "out read"], origin: Int64[torch.Tensor, " read"]
) -> Float[torch.Tensor, "out read"]:
    """Return noise whose sum over all copies of a unit is 0, of the spread that was drawn; 0 where nothing is copied.

    `origin`: of which unit each is a copy.
    """
    copies = origin.bincount()
    means = drawn.new_zeros(len(drawn), len(copies)).index_add_(1, origin, drawn) / copies
    left = drawn - means[:, origin]
    return left * (copies / (copies - 1).clamp(min=1)).sqrt()[origin]


def _times(name: str, small: PretrainedConfig, config: PretrainedConfig) -> int:
    """Return how many times larger a size becomes; raises Refusal where that is no whole number."""
    before, after = getattr(small, name), getattr(config, name)
    if after % before:
        raise Refusal(f"{name} cannot grow from {before} to {after}; give a multiple")
    return after // before


def _tiled(name: str, small: PretrainedConfig, config: PretrainedConfig) -> Int64[torch.Tensor, " unit"]:
    return torch.arange(getattr(small, name)).repeat(_times(name, small, config))


def _heads(name: str, small: PretrainedConfig, config: PretrainedConfig) -> Int64[torch.Tensor, " unit"]:
    """Copies of a head stand side by side: those that share keys are copies of heads that do."""
    heads = torch.arange(getattr(small, name)).repeat_interleave(_times(name, small, config))
    return (heads[:, None] * small.head_dim + torch.arange(small.head_dim)).flatten()


def grow(
    start: str | Path, folder: str | Path, shape: Architecture, *, noise: float = NOISE, seed: int = 0
) -> pd.DataFrame:
    """Make `folder` the checkpoint `start` in a larger shape, unless it is; return its row of `models`.

    What was read and how is the smaller one's, so is the loss. Raises Refusal for a folder without a record, and as
    `grown`.
    """
    folder, told = Path(folder), read_record(start)
    key = content_hash("grown", told["key"], asdict(shape), noise, seed)
    if (folder / RECORD).is_file() and read_record(folder)["key"] == key:
        return records_table([read_record(folder)])
    model = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    config = shape.config(model.config.vocab_size, model.config.eos_token_id)
    larger = grown(model, config, noise=noise, rng=np.random.default_rng(seed))
    told |= {"key": key, "model": folder.name, "parameters": larger.num_parameters(), "seconds": 0.0}
    save(larger, AutoTokenizer.from_pretrained(start), told, folder)
    return records_table([told])
