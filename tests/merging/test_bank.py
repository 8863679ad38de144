"""The component bank: live models against `from_pretrained`, merges against float64 and mergekit, keys, memory."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_models import ARCHITECTURES, family, hashed_routing, save_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from demix_nb.merging import METHODS, Bank
from demix_nb.merging import bank as banks
from demix_nb.store import folder_hash

MIXTURE = {"a": 0.2, "b": 0.5, "c": 0.3}
IDS = torch.arange(3, 23)[None]
RESIDENCIES = ["stacked", "streamed"]


@pytest.fixture(scope="session", params=ARCHITECTURES)
def any_family(request, tmp_path_factory):
    return family(tmp_path_factory.mktemp(request.param), ARCHITECTURES[request.param]())


@pytest.fixture(scope="session")
def any_banks(any_family) -> dict[str, Bank]:
    return {residency: Bank.load(*any_family, residency) for residency in RESIDENCIES}


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    return family(tmp_path_factory.mktemp("llama"), ARCHITECTURES["llama"]())


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def expected_in_float64(folders, name) -> torch.Tensor:
    return sum(MIXTURE[key] * load_file(folders[key] / "model.safetensors")[name].double() for key in folders)


def seeded(method: str, seed: int = 0) -> dict:
    return {"rng": np.random.default_rng(seed)} if METHODS[method].random else {}


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_one_hot_is_the_component(any_family, any_banks, residency):
    folders, bank = any_family[0], any_banks[residency]
    model = bank.model()
    for name, folder in folders.items():
        bank.write(model, {name: 1.0})
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        assert logits(model).equal(logits(loaded))
        ours, theirs = model.state_dict(), loaded.state_dict()
        assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in theirs)
        merged, stored = bank.merge({name: 1}), load_file(folder / "model.safetensors")
        assert merged.keys() == stored.keys()
        assert all(merged[key].equal(stored[key]) for key in stored)


@pytest.mark.parametrize(
    ("architecture", "dtype"),
    [*((name, torch.bfloat16) for name in ARCHITECTURES), ("gpt2", torch.float16), ("gpt2", torch.float64)],
)
def test_one_hot_keeps_dtype_and_bits(tmp_path, architecture, dtype):
    folders, base = family(tmp_path, ARCHITECTURES[architecture](), dtype=dtype)
    stored = load_file(folders["b"] / "model.safetensors")
    stored[min(stored)].view(-1)[0] = -0.0  # a sum would turn it into +0
    save_file(stored, folders["b"] / "model.safetensors", {"format": "pt"})
    bits = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float64: torch.int64}[dtype]
    for residency in RESIDENCIES:
        bank = Bank.load(folders, base, residency)
        for method in ("linear", "task_arithmetic", "multislerp", "karcher"):
            merged = bank.merge({"b": 1.0}, method)
            assert all(merged[key].dtype == dtype for key in stored)
            assert all(merged[key].view(bits).equal(stored[key].view(bits)) for key in stored)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_linear_is_exact_to_rounding(any_family, any_banks, residency):
    for name, tensor in any_banks[residency].merge(MIXTURE).items():
        expected = expected_in_float64(any_family[0], name)
        ulp = np.spacing(np.abs(expected.numpy()).astype(np.float32))
        assert (np.abs(tensor.double().numpy() - expected.numpy()) <= 3 * ulp.max()).all()


def test_bfloat16_is_summed_in_float32(tmp_path):
    folders, _ = family(tmp_path, ARCHITECTURES["llama"](), dtype=torch.bfloat16)
    bank = Bank.load(folders)
    model = bank.model()
    bank.write(model, MIXTURE)
    for name, tensor in model.state_dict().items():
        assert (tensor.double() - expected_in_float64(folders, name)).abs().max() < 1e-7  # bfloat16 would give 1e-4
        rounded = expected_in_float64(folders, name).to(torch.bfloat16)
        torch.testing.assert_close(bank.merge(MIXTURE)[name], rounded, rtol=1 / 128, atol=0)  # one ulp where a draw


def test_live_model_and_stored_tensors_agree(any_banks, tmp_path):
    for residency, bank in any_banks.items():
        model = bank.model()
        bank.write(model, MIXTURE, "ties")
        model.save_pretrained(tmp_path / residency)  # transformers' own way from live weights to stored ones
        merged, stored = bank.merge(MIXTURE, "ties"), load_file(tmp_path / residency / "model.safetensors")
        assert merged.keys() == stored.keys()
        assert all(merged[name].equal(stored[name]) for name in stored)


@pytest.mark.parametrize(
    "method", ["linear", "task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "multislerp"]
)
def test_checkpoints_merge_as_by_mergekit(any_family, any_banks, method):
    api = pytest.importorskip("mergekit.merge_methods.api", reason="mergekit is not installed: pip install mergekit")
    folders, base = any_family
    states = {name: load_file(folder / "model.safetensors") for name, folder in (folders | {"base": base}).items()}
    states = {"base": states.pop("base"), **states} if METHODS[method].updates else {n: states[n] for n in folders}
    parameters = {"weight": MIXTURE, **METHODS[method].options}
    on = {"base": "base"} if METHODS[method].updates else {}
    expected = api.merge_state_dicts(states, method, parameters=parameters, **on)
    for name, tensor in any_banks["stacked"].merge(MIXTURE, method).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-5)


def test_order_names_and_absent_components_do_not_matter(llama):
    folders, base = llama
    bank, turned = Bank.load(folders, base), Bank.load(dict(reversed(folders.items())), base)
    a, b = bank.merge({"a": 0.5, "c": 0.5}), turned.merge({"c": 0.5, "b": 0.0, "a": 0.5})
    assert all(a[name].equal(b[name]) for name in a)


def test_task_arithmetic_takes_weights_of_any_sum(llama):
    folders, base = llama
    bank, start = Bank.load(folders, base), load_file(base / "model.safetensors")
    calibrated = {name: weight**0.75 for name, weight in MIXTURE.items()}
    merged = bank.merge(calibrated, "task_arithmetic", normalize=False)
    doubled = bank.merge(calibrated, "task_arithmetic", normalize=False, scale=2.0)
    for name, tensor in merged.items():
        tau = {key: load_file(folder / "model.safetensors")[name] - start[name] for key, folder in folders.items()}
        update = sum(calibrated[key] * tau[key] for key in tau)
        torch.testing.assert_close(tensor, start[name] + update, rtol=0, atol=1e-6)
        torch.testing.assert_close(doubled[name], start[name] + 2 * update, rtol=0, atol=1e-6)


def test_writing_touches_no_memory_but_the_models_own(llama):
    bank = Bank.load(llama[0])
    model = bank.model()
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert all(tensor.isnan().all() for tensor in model.parameters())  # nothing merged yet, and nobody can think so
    bank.write(model, MIXTURE)
    first = logits(model)
    bank.write(model, {"a": 1.0})
    bank.write(model, pd.Series(MIXTURE))
    assert logits(model).equal(first)
    assert places == {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    assert len({tensor.untyped_storage().data_ptr() for tensor in model.parameters()}) == 1


def test_many_mixtures_in_one_matrix_product(llama):
    bank = Bank.load(llama[0], llama[1], "stacked")
    mixtures = pd.DataFrame(np.random.default_rng(0).dirichlet(np.ones(3), 5), columns=["c", "a", "b"])
    vectors, model, other = bank.vectors(mixtures), bank.model(), bank.model()
    for vector, (_, mixture) in zip(vectors, mixtures.iterrows(), strict=True):
        bank.put(model, vector)
        bank.write(other, mixture)
        torch.testing.assert_close(logits(model), logits(other), rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="residency='stacked'"):
        Bank.load(llama[0], residency="streamed").vectors(mixtures)


def test_integers_are_taken_over_and_must_agree(tmp_path):
    folders, base = family(tmp_path, hashed_routing())
    bank = Bank.load(folders, base)
    assert bank.integers
    model = bank.model()
    bank.write(model, {"b": 1.0})
    assert logits(model).equal(logits(AutoModelForCausalLM.from_pretrained(folders["b"])))
    stored = load_file(folders["b"] / "model.safetensors")
    stored[next(iter(bank.integers))][0] += 1
    save_file(stored, folders["b"] / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"b: integer tensor .* differs"):
        Bank.load(folders, base)


def test_sharded_components_and_mixed_dtypes(tmp_path, llama):
    folders, base = family(tmp_path, ARCHITECTURES["llama"](), max_shard_size="8KB")
    assert len(list(folders["a"].glob("*.safetensors"))) > 1
    whole = Bank.load(llama[0], llama[1]).merge(MIXTURE)
    sharded = Bank.load(folders, base).merge(MIXTURE)
    assert all(whole[name].equal(sharded[name]) for name in whole)
    model = AutoModelForCausalLM.from_pretrained(folders["b"]).to(torch.bfloat16)
    mixed = folders | {"b": save_model(model, tmp_path / "half")}
    merged = Bank.load(mixed).merge(MIXTURE)
    assert all(tensor.dtype == torch.float32 for tensor in merged.values())
    assert all(tensor.dtype == torch.bfloat16 for tensor in Bank.load(mixed).merge({"b": 1.0}).values())


def test_small_banks_are_stacked_and_large_ones_streamed(llama, monkeypatch):
    assert Bank.load(llama[0]).stack is not None
    monkeypatch.setattr(banks, "_free_memory", lambda device: 1000)
    assert Bank.load(llama[0]).stack is None


def test_key_follows_content(llama, tmp_path):
    folders, base = llama
    bank = Bank.load(folders, base)
    key = bank.key(MIXTURE)
    moved = {f"other {name}": shutil.copytree(folder, tmp_path / f"{name}2") for name, folder in folders.items()}
    assert Bank.load(moved).key({f"other {name}": weight for name, weight in MIXTURE.items()}) == key
    others = [
        bank.key({"a": 0.2, "b": 0.3, "c": 0.5}),
        bank.key(MIXTURE, "ties"),
        bank.key(MIXTURE, "ties", {"density": 0.5}),
        bank.key(MIXTURE, "dare_ties", rng=np.random.default_rng(0)),
        bank.key(MIXTURE, "dare_ties", rng=np.random.default_rng(1)),
    ]
    assert len({key, *others}) == 6
    assert bank.key(MIXTURE, "ties") == bank.key(MIXTURE, "ties", {"density": 0.9})
    key_of_a = folder_hash(moved["other a"])
    (moved["other a"] / "tokenizer.model").write_bytes(b"another way to read text")
    assert folder_hash(moved["other a"]) != key_of_a
    weights = moved["other a"] / "model.safetensors"
    stored = load_file(weights)
    stored["lm_head.weight"][0, 0] += 1
    save_file(stored, weights, {"format": "pt"})
    assert Bank.load(moved).key({f"other {name}": weight for name, weight in MIXTURE.items()}) != key
