"""The component bank: the live model against `from_pretrained`, linear merging against float64, and every bad input."""

import json
import pickle
import shutil
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REPOSITORY
from families import ARCHITECTURES, SIZES, family, hashed_routing, own_tasks, save_model
from safetensors.torch import load_file, save_file
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from demix_nb import merging, proxies, scoring
from demix_nb.checkpoints import Checkpoint, folder_hash
from demix_nb.merging import METHODS, Bank, delta
from demix_nb.scoring import ScoreCache, Suite

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


@pytest.fixture
def copy(llama, tmp_path):
    """The Llama family in a folder of its own, to be spoilt: components, base, and a call that changes 'b'."""
    folders = {name: shutil.copytree(folder, tmp_path / name) for name, folder in llama[0].items()}

    def rewrite(change) -> None:
        tensors = load_file(folders["b"] / "model.safetensors")
        change(tensors)
        save_file(tensors, folders["b"] / "model.safetensors", {"format": "pt"})

    return folders, llama[1], rewrite


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS).logits


def expected_in_float64(folders, name) -> torch.Tensor:
    return sum(MIXTURE[key] * load_file(folders[key] / "model.safetensors")[name].double() for key in folders)


def seeded(method: str, seed: int = 0) -> dict:
    return {"rng": np.random.default_rng(seed)} if METHODS[method].random else {}


# --- what it computes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_one_hot_is_the_component(any_family, any_banks, residency):
    folders, bank = any_family[0], any_banks[residency]
    model = bank.model()
    for name, folder in folders.items():
        bank.write(model, {name: 1.0})
        assert logits(model).equal(logits(AutoModelForCausalLM.from_pretrained(folder)))
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


@pytest.mark.parametrize("method", METHODS)
def test_both_residencies_agree(llama, method):
    bank = Bank.load(*llama)
    stacked, streamed = (b.merge(MIXTURE, method, **seeded(method)) for b in (bank, Bank.load(*llama, "streamed")))
    assert all(stacked[name].equal(streamed[name]) for name in stacked)
    again = bank.merge(MIXTURE, method, **seeded(method))
    assert all(stacked[name].equal(again[name]) for name in stacked)
    if METHODS[method].random:
        other = bank.merge(MIXTURE, method, **seeded(method, 1))
        assert any(not stacked[name].equal(other[name]) for name in stacked)


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


def test_blocks_of_any_size_give_the_same_bits(any_family, monkeypatch):
    def everything(residency):
        bank = Bank.load(*any_family, residency)
        model = bank.model()
        for method in ("linear", "task_arithmetic", "ties", "dare_ties", "della_linear", "breadcrumbs_ties"):
            bank.write(model, MIXTURE, method, **seeded(method))
            yield from (tensor.clone() for tensor in model.parameters())
            yield from bank.merge(MIXTURE, method, **seeded(method)).values()
        bank.write(model, MIXTURE, "karcher")
        yield from (tensor.double() for tensor in model.parameters())
        yield torch.tensor(bank.drift().to_numpy())
        yield torch.tensor(bank.cosines().to_numpy())

    whole = list(everything("stacked"))
    for name, numbers in (("merging.BLOCK", 7), ("merging.READ_BLOCK", 40), ("methods.BLOCK", 33)):
        monkeypatch.setattr(f"demix_nb.{name}", numbers)
    for residency in RESIDENCIES:
        for expected, tensor in zip(whole, everything(residency), strict=True):
            slack = 0 if tensor.dtype == torch.float32 else 1e-6  # sums over a tensor, whose order may change
            torch.testing.assert_close(tensor, expected, rtol=slack, atol=slack)


@pytest.fixture(scope="module")
def wide_family(tmp_path_factory):
    """One tensor of 2²⁰ numbers and little else, in bfloat16, so that whatever is widened shows."""
    config = LlamaConfig(**SIZES | {"hidden_size": 128, "vocab_size": 1 << 13, "tie_word_embeddings": True})
    return family(tmp_path_factory.mktemp("wide"), config, dtype=torch.bfloat16)


def peak_bytes(work) -> int:
    """The most that torch and numpy held at once beyond what they held before, temporary values inside torch too."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    by_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return (
        int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())
        + by_numpy
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_streamed_merge_holds_one_tensor_more_than_there_are_components(wide_family, method, monkeypatch):
    """(K + 1) tensors in float32 beside the mapped files, and a few blocks, whose size is not the tensor's."""
    bank = Bank.load(*wide_family, "streamed")
    mapped = {(row.directory, name): row.read(name) for row in bank.rows for name in row.files}
    monkeypatch.setattr(Checkpoint, "read", lambda self, name, rows=None: mapped[self.directory, name])
    monkeypatch.setattr("demix_nb.methods.BLOCK", 1 << 16)
    model, tensor, blocks = bank.model(), 4 << 20, 2 << 20  # bytes
    peak = peak_bytes(lambda: bank.write(model, MIXTURE, method, **seeded(method)))
    assert tensor < peak <= (len(MIXTURE) + 1) * tensor + blocks


def test_a_bank_travels_to_workers(llama):
    bank = Bank.load(*llama)
    travelled = pickle.loads(pickle.dumps(bank))
    assert all(tensor.equal(bank.merge(MIXTURE)[name]) for name, tensor in travelled.merge(MIXTURE).items())
    assert travelled.key(MIXTURE) == bank.key(MIXTURE)


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
    monkeypatch.setattr(merging, "_free_memory", lambda device: 1000)
    assert Bank.load(llama[0]).stack is None


# --- measures and keys ------------------------------------------------------------------------------------------------


def test_delta_is_equation_4(any_family):
    folders, base = any_family
    a, b = (load_file(folder / "model.safetensors") for folder in (folders["a"], base))
    moved = sum((a[name].double() - b[name].double()).abs().sum() for name in a)
    size = sum(a[name].double().abs().sum() + b[name].double().abs().sum() for name in a)
    assert delta(folders["a"], base) == pytest.approx((moved / size).item())
    live = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (folders["a"], base)]
    assert delta(*live) == pytest.approx((moved / size).item())  # tied weights, twice in a live state, count once
    assert delta(base, base) == 0
    with pytest.raises(ValueError, match="state dicts differ in 'x'"):
        delta({"x": torch.ones(1)}, {})


def test_cosines_between_updates(tmp_path):
    folders, base = family(tmp_path, ARCHITECTURES["llama"]())
    bank = Bank.load(folders, base)
    half = save_merge(bank, {"a": 0.5, "b": 0.5}, tmp_path / "half")
    cosines = Bank.load(folders | {"half": half}, base).cosines()
    assert np.diag(cosines) == pytest.approx(1)
    assert abs(cosines.loc["a", "b"]) < 0.05  # independent noise
    assert cosines.loc["a", "half"] == pytest.approx(np.sqrt(0.5), abs=0.03)


def save_merge(bank, weights, folder):
    shutil.copytree(bank.directories["a"], folder)
    save_file(bank.merge(weights), folder / "model.safetensors", {"format": "pt"})
    return folder


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


# --- scores of a bank -------------------------------------------------------------------------------------------------


def test_mixtures_are_scored_on_any_task_of_lm_eval_each_once(llama, tmp_path, monkeypatch):
    """Tasks are built once and their texts tokenised once; component 'a' says what it says, as its proxy; no rerun."""
    bank, tokenizer = Bank.load(*llama), AutoTokenizer.from_pretrained(llama[0]["a"])
    alone = AutoModelForCausalLM.from_pretrained(llama[0]["a"])
    texts = [f"w{n} w{n + 7} w{n + 3}" for n in range(3, 9)]
    said = [alone(tokenizer(text, return_tensors="pt").input_ids).logits[0, -1].argmax() for text in texts]
    rows = [
        {"text": t, "word": tokenizer.decode(s, skip_special_tokens=True)} for t, s in zip(texts, said, strict=True)
    ]
    names = own_tasks(tmp_path / "tasks", rows)
    suite = Suite.build(names, tokenizer, context=16, include_path=tmp_path / "tasks")
    likelihood = Suite.build(["word_bits"], tokenizer, context=16, include_path=tmp_path / "tasks")
    expected = suite.score(alone)

    def never(*_args, **_how):
        raise AssertionError("done again")

    tokenised = []
    for name in ("encode", "__call__"):
        plain = getattr(type(tokenizer), name)
        monkeypatch.setattr(
            type(tokenizer),
            name,
            lambda self, text, *a, plain=plain, **o: tokenised.append(text) or plain(self, text, *a, **o),
        )
    monkeypatch.setattr("demix_nb.scoring.load_tasks", never)
    monkeypatch.setattr(scoring.LiveModel, "windows", never)
    table = pd.DataFrame([[1.0, 0, 0], [0.5, 0.5, 0], [0.2, 0.5, 0.3]], ["one", "two", "three"], list("abc"))
    source, cache = proxies.Merges(bank, table), ScoreCache(tmp_path / "cache")
    scores = proxies.score_table(source, suite, cache, n_jobs=1)
    assert scores.loc["one"].to_dict() == pytest.approx(expected.to_dict())
    assert scores.loc["one", "say_word"] == 1 and scores["word_bits"].nunique() == 3
    assert not {text for some in tokenised for text in ([some] if isinstance(some, str) else some)} & set(texts)
    alike = proxies.score_table(source, likelihood, cache, n_jobs=1)
    assert alike["word_bits"].tolist() == pytest.approx(scores["word_bits"].tolist())
    monkeypatch.setattr(Suite, "score", never)
    again = proxies.Merges(Bank.load(*llama), table.rename(index=str.upper))
    assert proxies.score_table(again, suite, cache, n_jobs=1).to_numpy().tolist() == scores.to_numpy().tolist()


# --- bad input --------------------------------------------------------------------------------------------------------


def test_shape_mismatch(copy):
    folders, _, rewrite = copy
    rewrite(lambda tensors: tensors.update({"lm_head.weight": torch.zeros(65, 16)}))
    with pytest.raises(ValueError, match=r"'lm_head.weight': \(64, 16\) in 'a' vs \(65, 16\) in 'b'; train them from"):
        Bank.load(folders)


def test_missing_and_extra_tensor(copy):
    folders, _, rewrite = copy
    rewrite(lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(ValueError, match=r"'b' lacks tensor 'model.norm.weight'"):
        Bank.load(folders)
    with pytest.raises(ValueError, match=r"has no 'model.norm.weight' of shape \(16,\)"):
        Bank.load({"b": folders["b"]})  # alone: its own config tells
    rewrite(lambda tensors: tensors.update({"model.norm.weight": torch.ones(16), "stray": torch.ones(1)}))
    with pytest.raises(ValueError, match=r"'b' has an extra tensor 'stray'"):
        Bank.load(folders)
    with pytest.raises(ValueError, match=r"'stray', unknown to its architecture"):
        Bank.load({"b": folders["b"]})


@pytest.mark.parametrize("kept", [0, 5, 0.5])
def test_truncated_file(copy, kept):
    path = copy[0]["b"] / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(ValueError, match=r"model.safetensors is truncated or damaged .* again"):
        Bank.load(copy[0])


def test_missing_shard(tmp_path):
    folders, _ = family(tmp_path, ARCHITECTURES["llama"](), max_shard_size="8KB")
    next(folders["b"].glob("*00001-of*")).unlink()
    with pytest.raises(ValueError, match=r"lacks the shard model-00001-of-.*copy the checkpoint again"):
        Bank.load(folders)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_nan_is_refused_and_no_half_proxy_stays(copy, residency):
    folders, _, rewrite = copy
    model = Bank.load({"a": folders["a"], "c": folders["c"]}).model()
    rewrite(lambda tensors: tensors["model.norm.weight"].fill_(torch.nan))
    with pytest.raises(ValueError, match=r"b: 'model.norm.weight' holds NaN or infinity; train it again"):
        Bank.load(folders, residency=residency).write(model, MIXTURE)
    if residency == "streamed":
        assert all(tensor.isnan().all() for tensor in model.parameters())


def test_pickle_is_refused(copy):
    folders = copy[0]
    (folders["b"] / "model.safetensors").unlink()
    torch.save({}, folders["b"] / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickle \(pytorch_model.bin\); only safetensors are read: convert it by"):
        Bank.load(folders)


def test_different_tokenizers(copy):
    model = AutoModelForCausalLM.from_pretrained(copy[0]["b"])
    save_model(model, copy[0]["b"], words=60)
    with pytest.raises(ValueError, match="'a' and 'b' have different tokenizers"):
        Bank.load(copy[0])


def test_different_configurations(copy):
    path = copy[0]["b"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.1}))
    with pytest.raises(ValueError, match=r"'a' and 'b' disagree on config 'rms_norm_eps': 1e-06 vs 0\.1"):
        Bank.load(copy[0])


def test_quantised_checkpoint(copy):
    path = copy[0]["b"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {}}))
    with pytest.raises(ValueError, match="quantised; dequantise it"):
        Bank.load(copy[0])


def test_folder_that_is_no_checkpoint(copy, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere is no checkpoint: it has no config.json"):
        Bank.load({"a": tmp_path / "nowhere"})
    (copy[0]["b"] / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"b is no checkpoint: it has no model.safetensors"):
        Bank.load(copy[0])
    (copy[0]["b"] / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is not readable JSON"):
        Bank.load(copy[0])
    with pytest.raises(ValueError, match="no components given"):
        Bank.load({})


def test_component_named_twice(llama, tmp_path):
    folders, _ = llama
    with pytest.raises(ValueError, match="components 'a' and 'again' are the same folder"):
        Bank.load({"a": folders["a"], "again": folders["a"]})
    twin = shutil.copytree(folders["b"], tmp_path / "a")
    with pytest.raises(ValueError, match="component 'a' is named twice"):
        Bank.load([folders["a"], twin])
    with pytest.raises(ValueError, match="named twice in the weights"):
        Bank.load(folders).merge(pd.Series([0.5, 0.5], index=["a", "a"]))


def test_tied_weights_stored_twice_must_agree(tmp_path):
    folders, _ = family(tmp_path, ARCHITECTURES["gpt2"]())
    for folder in folders.values():
        stored = load_file(folder / "model.safetensors")
        stored["lm_head.weight"] = stored["transformer.wte.weight"].clone()
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
    bank = Bank.load(folders)
    assert "lm_head.weight" not in bank.merge(MIXTURE)  # one place, one tensor
    stored["lm_head.weight"][0, 0] += 1
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"c: 'lm_head.weight' is tied to 'transformer.wte.weight' but differs"):
        Bank.load(folders)


@pytest.mark.parametrize(
    ("weights", "method", "how", "message"),
    [
        ({"a": 0.5, "b": 0.4}, "linear", {}, "weights sum to 0.9, not 1; divide them by their sum"),
        ({}, "linear", {}, "weights sum to 0, not 1"),
        ({"a": 1.5, "b": -0.5}, "linear", {}, "the weight of 'b' is -0.5; weights are finite and not negative"),
        ({"a": float("nan"), "b": 1.0}, "linear", {}, "the weight of 'a' is nan"),
        ({"a": 0.5, "x": 0.5}, "linear", {}, r"'x' is no component of this bank \(a, b, c\)"),
        (MIXTURE, "slurp", {}, "merge method 'slurp' is unknown; choose from linear, task"),
        (MIXTURE, "ties", {"densty": 0.5}, "ties takes no option 'densty', only density, scale"),
        (MIXTURE, "linear", {"scale": 2.0}, "linear takes no option 'scale'"),
        (MIXTURE, "dare_linear", {}, r"drops numbers at random; pass rng=np.random.default_rng"),
        ({"a": 2.0}, "linear", {"normalize": False}, "normalize=False needs one that keeps scale"),
        ({"a": 2.0}, "ties", {"normalize": False}, "normalize=False needs one that keeps scale"),
        (MIXTURE, "ties", {"density": 0.0}, r"density 0.0 must lie in"),
    ],
)
def test_bad_weights_and_options(llama, weights, method, how, message):
    bank = Bank.load(*llama)
    with pytest.raises(ValueError, match=message):
        bank.merge(weights, method, **how)


def test_updates_need_a_base(llama):
    with pytest.raises(ValueError, match=r"ties works on updates from the base; load the bank with base=folder"):
        Bank.load(llama[0]).merge(MIXTURE, "ties")


def test_foreign_and_moved_models_are_refused(llama):
    bank = Bank.load(llama[0])
    for model in (AutoModelForCausalLM.from_pretrained(llama[0]["a"]), bank.model().double()):
        with pytest.raises(ValueError, match=r"not made by this bank's model\(\), or was moved"):
            bank.write(model, MIXTURE)


def test_remote_code_never_runs(copy, tmp_path):
    folders, ran = copy[0], tmp_path / "ran"
    for folder in folders.values():
        (folder / "evil.py").write_text(f"open({str(ran)!r}, 'w')\nclass Config: pass\n")
        path = folder / "config.json"
        foreign = {
            "model_type": "evil",
            "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"},
        }
        path.write_text(json.dumps(json.loads(path.read_text()) | foreign))
    with pytest.raises(ValueError, match="trust_remote_code"):
        Bank.load(folders)
    assert not ran.exists()
    ours = [*REPOSITORY.glob("demix_nb/*.py"), *REPOSITORY.glob("notebooks/*.ipynb")]
    assert ours and not [path.name for path in ours if "trust_remote_code=True" in path.read_text(encoding="utf-8")]


def test_unknown_residency(llama):
    with pytest.raises(ValueError, match="residency 'disk' is unknown; choose auto, stacked or streamed"):
        Bank.load(llama[0], residency="disk")
    assert isinstance(Bank.load(llama[0]).config, LlamaConfig)
