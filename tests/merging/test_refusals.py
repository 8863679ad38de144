"""Whatever cannot be merged is refused in one sentence that names the offender and the remedy."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from commands import REPOSITORY
from fixtures_models import ARCHITECTURES, family, save_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from demix_nb.merging import Bank, examine
from demix_nb.merging.doctor import cosines, drift
from demix_nb.store import Refusal

MIXTURE = {"a": 0.2, "b": 0.5, "c": 0.3}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return family(tmp_path_factory.mktemp("llama"), ARCHITECTURES["llama"]())


@pytest.fixture
def copy(llama, tmp_path):
    """The Llama family in a folder of its own, to be spoilt: components, base, and a call that changes 'b'."""
    folders = {name: shutil.copytree(folder, tmp_path / name) for name, folder in llama[0].items()}
    return folders, llama[1], lambda change: rewrite(folders["b"], change)


def rewrite(folder, change) -> None:
    """Save a folder's tensors again, changed in place."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def test_shape_mismatch(copy):
    folders, _, rewrite = copy
    rewrite(lambda tensors: tensors.update({"lm_head.weight": torch.zeros(65, 16)}))
    with pytest.raises(Refusal, match=r"'lm_head.weight': \(64, 16\) in 'a' vs \(65, 16\) in 'b'; train them from"):
        Bank.load(folders)


def test_missing_and_extra_tensor(copy):
    folders, _, rewrite = copy
    rewrite(lambda tensors: tensors.pop("model.norm.weight"))
    with pytest.raises(Refusal, match=r"'b' lacks tensor 'model.norm.weight'"):
        Bank.load(folders)
    with pytest.raises(Refusal, match=r"has no 'model.norm.weight' of shape \(16,\)"):
        Bank.load({"b": folders["b"]})  # alone: its own config tells
    rewrite(lambda tensors: tensors.update({"model.norm.weight": torch.ones(16), "stray": torch.ones(1)}))
    with pytest.raises(Refusal, match=r"'b' has an extra tensor 'stray'"):
        Bank.load(folders)
    with pytest.raises(Refusal, match=r"'stray', unknown to its architecture"):
        Bank.load({"b": folders["b"]})


@pytest.mark.parametrize("kept", [0, 5, 0.5])
def test_truncated_file(copy, kept):
    path = copy[0]["b"] / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(Refusal, match=r"model.safetensors is truncated or damaged .* again"):
        Bank.load(copy[0])


def test_missing_shard(tmp_path):
    folders, _ = family(tmp_path, ARCHITECTURES["llama"](), max_shard_size="8KB")
    next(folders["b"].glob("*00001-of*")).unlink()
    with pytest.raises(Refusal, match=r"lacks the shard model-00001-of-.*copy the checkpoint again"):
        Bank.load(folders)


def test_index_that_names_no_file(copy):
    (copy[0]["b"] / "model.safetensors").rename(copy[0]["b"] / "model-00001-of-00001.safetensors")
    for nothing in ("{}", '{"weight_map": {}, "metadata": {}}', '{"weight_map": {"x": 1}, "metadata": {}}', "[]"):
        (copy[0]["b"] / "model.safetensors.index.json").write_text(nothing)
        with pytest.raises(
            Refusal, match=r"model.safetensors.index.json (lacks|places|holds) .*save the checkpoint again"
        ):
            Bank.load(copy[0])


@pytest.mark.parametrize("residency", ["stacked", "streamed"])
def test_nan_is_refused_and_no_half_proxy_stays(copy, residency):
    folders, _, rewrite = copy
    model = Bank.load({"a": folders["a"], "c": folders["c"]}).model()
    rewrite(lambda tensors: tensors["model.norm.weight"].fill_(torch.nan))
    with pytest.raises(Refusal, match=r"b: 'model.norm.weight' holds NaN or infinity; train it again"):
        Bank.load(folders, residency=residency).write(model, MIXTURE)
    if residency == "streamed":
        assert all(tensor.isnan().all() for tensor in model.parameters())


def test_pickle_is_refused(copy):
    folders = copy[0]
    (folders["b"] / "model.safetensors").unlink()
    torch.save({}, folders["b"] / "pytorch_model.bin")
    with pytest.raises(Refusal, match=r"pickle \(pytorch_model.bin\); only safetensors are read: convert it by"):
        Bank.load(folders)


def test_different_tokenizers(copy):
    model = AutoModelForCausalLM.from_pretrained(copy[0]["b"])
    save_model(model, copy[0]["b"], words=60)
    with pytest.raises(Refusal, match="'a' and 'b' have different tokenizers"):
        Bank.load(copy[0])


def test_different_configurations(copy):
    path = copy[0]["b"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rms_norm_eps": 0.1}))
    with pytest.raises(Refusal, match=r"'a' and 'b' disagree on config 'rms_norm_eps': 1e-06 vs 0\.1"):
        Bank.load(copy[0])


def test_quantised_checkpoint(copy):
    path = copy[0]["b"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": {}}))
    with pytest.raises(Refusal, match="quantised; dequantise it"):
        Bank.load(copy[0])


def test_folder_that_is_no_checkpoint(copy, tmp_path):
    with pytest.raises(Refusal, match=r"nowhere is no checkpoint: it has no config.json"):
        Bank.load({"a": tmp_path / "nowhere"})
    (copy[0]["b"] / "model.safetensors").unlink()
    with pytest.raises(Refusal, match=r"b is no checkpoint: it has no model.safetensors"):
        Bank.load(copy[0])
    (copy[0]["b"] / "config.json").write_text("{")
    with pytest.raises(Refusal, match=r"config.json is not readable JSON"):
        Bank.load(copy[0])
    with pytest.raises(Refusal, match="no components given"):
        Bank.load({})


def test_component_named_twice(llama, tmp_path):
    folders, _ = llama
    with pytest.raises(Refusal, match="components 'a' and 'again' are the same folder"):
        Bank.load({"a": folders["a"], "again": folders["a"]})
    twin = shutil.copytree(folders["b"], tmp_path / "a")
    with pytest.raises(Refusal, match="component 'a' is named twice"):
        Bank.load([folders["a"], twin])
    with pytest.raises(Refusal, match="named twice in the weights"):
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
    with pytest.raises(Refusal, match=r"c: 'lm_head.weight' is tied to 'transformer.wte.weight' but differs"):
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
        ({"a": 2.0}, "della_ties", {"rng": np.random.default_rng(0), "normalize": False}, "needs one that keeps scale"),
        ({"a": 2.0}, "ties", {"normalize": False}, "normalize=False needs one that keeps scale"),
        (MIXTURE, "ties", {"density": 0.0}, r"density 0.0 must lie in"),
    ],
)
def test_bad_weights_and_options(llama, weights, method, how, message):
    bank = Bank.load(*llama)
    with pytest.raises(Refusal, match=message):
        bank.merge(weights, method, **how)


def test_updates_need_a_base(llama):
    for measure in (drift, cosines):
        with pytest.raises(Refusal, match=r"measured from the base; load the bank with base=folder"):
            measure(Bank.load(llama[0]))
    with pytest.raises(Refusal, match=r"ties works on updates from the base"):
        Bank.load(llama[0]).key(MIXTURE, "ties")
    with pytest.raises(Refusal, match=r"ties works on updates from the base, and none was given; name the base"):
        Bank.load(llama[0]).merge(MIXTURE, "ties")


def test_foreign_and_moved_models_are_refused(llama):
    bank = Bank.load(llama[0])
    for model in (AutoModelForCausalLM.from_pretrained(llama[0]["a"]), bank.model().double()):
        with pytest.raises(Refusal, match=r"not made by this bank's model\(\), or was moved"):
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
    with pytest.raises(Refusal, match=r"cannot build its model \(.*; bring a causal language model"):
        Bank.load(folders)
    assert [finding.check for finding in examine(folders) if not finding.passed] == ["model"]
    assert not ran.exists()
    ours = [*REPOSITORY.glob("demix_nb/**/*.py"), *REPOSITORY.glob("notebooks/**/*.ipynb")]
    assert ours and not [path.name for path in ours if "trust_remote_code=True" in path.read_text(encoding="utf-8")]


def test_unknown_residency(llama):
    with pytest.raises(Refusal, match="residency 'disk' is unknown; choose auto, stacked or streamed"):
        Bank.load(llama[0], residency="disk")
