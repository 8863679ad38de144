"""Saved proxies load as any checkpoint does, and a save that fails leaves nothing behind."""

import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fixtures_models import ARCHITECTURES, family
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import reading
from demix_nb.merging import METHODS, Bank, save, saving
from demix_nb.store import Refusal

MIXTURE = {"a": 0.2, "b": 0.5, "c": 0.3}
IDS = torch.arange(3, 23)[None]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def any_bank(request, tmp_path_factory):
    return Bank.load(*family(tmp_path_factory.mktemp(request.param), ARCHITECTURES[request.param]()))


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return Bank.load(*family(tmp_path_factory.mktemp("llama"), ARCHITECTURES["llama"]()), "streamed")


@pytest.fixture
def target(tmp_path):
    """A folder to save to; whatever happens, nothing else may be left beside it."""
    yield tmp_path / "proxies" / "proxy"
    assert {path.name for path in tmp_path.rglob("*") if path.name.startswith(".")} == set()


def test_saved_proxies_load_as_any_checkpoint(any_bank, target):
    assert save(any_bank, MIXTURE, target, shard_bytes=9000) == target
    assert len(list(target.glob("model-*-of-*.safetensors"))) > 1
    live = any_bank.model()
    any_bank.write(live, MIXTURE)
    loaded, report = AutoModelForCausalLM.from_pretrained(target, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    with torch.no_grad():
        assert loaded(IDS).logits.equal(live(IDS).logits)
    assert loaded.generation_config.eos_token_id == 2
    assert AutoTokenizer.from_pretrained(target)("w7 w9").input_ids == [7, 9]


def test_a_saved_proxy_is_a_component_again(bank, target):
    saved = Bank.load({"proxy": save(bank, MIXTURE, target)}, bank.base)
    merged, again = bank.merge(MIXTURE), saved.merge({"proxy": 1.0})
    assert all(merged[name].equal(again[name]) for name in merged)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_streamed_to_disk_is_what_is_merged(bank, target, method, monkeypatch):
    monkeypatch.setattr(saving, "READ_BLOCK", 40)
    seeds = [np.random.default_rng(0) if METHODS[method].random else None for _ in range(2)]
    saved = load_file(save(bank, MIXTURE, target, method, rng=seeds[0]) / "model.safetensors")
    merged = bank.merge(MIXTURE, method, rng=seeds[1])
    assert saved.keys() == merged.keys() and all(saved[name].equal(merged[name]) for name in saved)


def test_dtypes_are_kept(tmp_path, target):
    folders, _ = family(tmp_path / "half", ARCHITECTURES["qwen3"](), dtype=torch.bfloat16)
    single, _ = family(tmp_path / "single", ARCHITECTURES["qwen3"]())
    mixed = Bank.load(folders | {"c": single["c"]})
    save(mixed, {"a": 0.5, "b": 0.5}, target)
    assert AutoModelForCausalLM.from_pretrained(target).dtype == torch.bfloat16
    wide = save(mixed, MIXTURE, target.with_name("wide"))
    assert AutoModelForCausalLM.from_pretrained(wide).dtype == torch.float32
    one = save(mixed, {"b": 1.0}, target.with_name("one"))
    stored = load_file(folders["b"] / "model.safetensors")
    assert all(tensor.equal(stored[name]) for name, tensor in load_file(one / "model.safetensors").items())


def test_card_names_components_weights_and_method(bank, target):
    save(bank, {"a": 0.25, "c": 0.75}, target, "dare_ties", rng=np.random.default_rng(1), density=0.8)
    card = (target / "README.md").read_text(encoding="utf-8")
    for expected in (
        "| a | 0.25 |  | `",
        "| c | 0.75 |  | `",
        "dare_ties](https://arxiv.org/abs/2311.03099)",
        "density = 0.8",
    ):
        assert expected in card
    assert "| b |" not in card
    assert str(np.random.default_rng(1).bit_generator.state) in card  # the masks can be drawn again


def test_the_hub_understands_the_card(tmp_path, target):
    folders, base = family(tmp_path / "licensed", ARCHITECTURES["llama"]())
    for name in "ab":
        (folders[name] / "README.md").write_text(f"---\nlicense: apache-2.0\nbase_model: x/{name}\n---\n# {name}\n")
    bank = Bank.load(folders, base)
    data = ModelCard.load(save(bank, MIXTURE, target) / "README.md").data
    assert data.base_model == ["a", "b", "c"] and data.base_model_relation == "merge"
    assert data.library_name == "transformers" and data.license == "apache-2.0" and "merge" in data.tags
    (folders["c"] / "README.md").write_text("---\nlicense: mit\n---\n")
    two = save(bank, MIXTURE, target.with_name("two")) / "README.md"
    assert ModelCard.load(two).data.license is None and "| 0.3 | mit |" in two.read_text(), "two licences are none"
    alone = save(bank, {"c": 1.0}, target.with_name("alone")) / "README.md"
    assert ModelCard.load(alone).data.license == "mit", "of those that take part"
    (folders["c"] / "README.md").write_text("---\nlicense: [\n---\n")
    with pytest.raises(Refusal, match=r"the metadata of .* cannot be read"):
        save(bank, MIXTURE, target.with_name("broken"))


@pytest.mark.slow
def test_mergekit_makes_the_same_weights_of_the_file_beside(bank, target):
    saved = save(bank, MIXTURE, target)
    program = [
        Path(sys.executable).with_name("mergekit-yaml"),
        saved / "mergekit_config.yml",
        target.with_name("theirs"),
    ]
    subprocess.run(program, check=True, capture_output=True)
    theirs, ours = (load_file(next(folder.glob("model*.safetensors"))) for folder in (program[-1], saved))
    assert theirs.keys() == ours.keys()
    assert all((theirs[name] - ours[name]).abs().max() <= 1e-6 for name in ours)
    read, _ = reading.mixtures(saved / "mergekit_config.yml", list("abc"), folders=bank.directories)
    assert read.iloc[0].to_dict() == pytest.approx(MIXTURE), "and it is a mixture again"
    assert not (save(bank, MIXTURE, target.with_name("t"), "ties") / "mergekit_config.yml").exists()


def test_a_filled_folder_is_not_overwritten(bank, target):
    save(bank, MIXTURE, target)
    before = (target / "model.safetensors").read_bytes()
    with pytest.raises(Refusal, match="already holds something; choose a new folder or remove it"):
        save(bank, {"a": 1.0}, target)
    assert (target / "model.safetensors").read_bytes() == before


def test_too_little_room_is_seen_before_writing(bank, target, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(Refusal, match=r"cannot save to .* are needed and 0.00 GB are free.*free some space or choose"):
        save(bank, MIXTURE, target)
    assert not target.exists()


def test_a_disk_that_fills_up(bank, target, monkeypatch):
    def full(path, stored, parts):
        next(parts)
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_safetensors", full)
    with pytest.raises(Refusal, match=r"cannot save to .*No space left on device.*choose another folder"):
        save(bank, MIXTURE, target)
    assert not target.exists()


def test_a_read_only_place(bank, target, monkeypatch):
    original = Path.mkdir

    def refused(self, *args, **how):
        if self.name.startswith(".proxy"):  # administrators may write to any real folder, so it is simulated
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *args, **how)

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(Refusal, match=r"cannot save to .*Permission denied.*choose another folder"):
        save(bank, MIXTURE, target)
    assert not target.exists()


def test_a_place_that_is_a_file(bank, target):
    target.parent.write_text("a file where a folder should be")
    with pytest.raises(Refusal, match=r"cannot save to .*choose another folder"):
        save(bank, MIXTURE, target)


@pytest.mark.parametrize("written", [0, 1, 5])
def test_interrupt_leaves_nothing(bank, target, monkeypatch, written):
    original, calls = type(bank).read, []

    def interrupted(self, row, piece):
        calls.append(piece.name)
        if len(calls) > 3 * written:
            raise KeyboardInterrupt
        return original(self, row, piece)

    monkeypatch.setattr(type(bank), "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(bank, MIXTURE, target)
    assert not target.exists()


def test_a_component_found_broken_half_way_leaves_nothing(tmp_path, target):
    folders, _ = family(tmp_path / "spoilt", ARCHITECTURES["llama"]())
    stored = load_file(folders["b"] / "model.safetensors")
    stored[max(stored)].view(-1)[-1] = torch.nan
    save_file(stored, folders["b"] / "model.safetensors", {"format": "pt"})
    with pytest.raises(Refusal, match=r"holds NaN or infinity; train it again"):
        save(Bank.load(folders, residency="streamed"), MIXTURE, target)
    assert not target.exists()


def test_bad_requests_write_nothing(bank, target):
    for weights, method in (({"a": 0.9}, "linear"), (MIXTURE, "slurp"), (MIXTURE, "dare_linear")):
        with pytest.raises(Refusal, match=r"sum to 0\.9|'slurp' is unknown|pass rng"):
            save(bank, weights, target, method)
    assert not target.parent.exists()
