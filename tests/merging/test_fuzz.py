"""Two hundred broken checkpoints: each is merged as `from_pretrained` opens it, bit for bit, or refused.

A family of two small components is copied and one thing in it is broken: a byte flipped, a file missing or there twice,
a tensor renamed, an entry of a configuration changed, a shard of the other component. Nothing here knows which of them
must be refused; the oracle is transformers.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures_models import ENDS, SIZES, family
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig, PreTrainedModel
from transformers.utils import logging

from demix_nb.merging import Bank, save
from demix_nb.store import Refusal

CASES = 200
IDS = torch.arange(3, 23)[None]
TEXTS = [f"W{n} w{n}, w{n + 1}.\uff57{n + 2}w{n + 3}" for n in range(3, 60)]  # a full-width w, as NFKC would take it
WEIGHTS, CONFIG, TOKENIZER = "*.safetensors", "config.json", "tokenizer*.json"
VALUES = (None, 0, 1, 2, -1, 3.5, True, False, "", "gelu", "float16", [], [1, 2], {}, {"x": 1}, 10**7, 1e-3)
NEW = ("sliding_window", "attn_implementation", "torch_dtype", "rope_scaling", "quantization_config", "is_causal")
NEW += ("transformers_weights", "num_hidden_layers", "layer_types", "per_layer_config", "fusion_config", "note")


def rewrite(path: Path, change) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def one_of(rng, folder: Path, *patterns: str) -> Path:
    paths = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return paths[rng.integers(len(paths))]


def flip(rng, path: Path, start: int, end: int) -> None:
    """Change one bit of a file somewhere from `start` to `end`."""
    content = bytearray(path.read_bytes())
    content[rng.integers(start, min(end, len(content)))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


def header_byte(rng, a, b):
    path = one_of(rng, b, WEIGHTS)
    flip(rng, path, 0, 8 + int.from_bytes(path.read_bytes()[:8], "little"))


def data_byte(rng, a, b):
    path = one_of(rng, b, WEIGHTS)
    flip(rng, path, 8 + int.from_bytes(path.read_bytes()[:8], "little"), 1 << 40)


def text_byte(rng, a, b):
    flip(rng, one_of(rng, b, CONFIG, TOKENIZER, "generation_config.json", "*.index.json"), 0, 1 << 40)


def missing(rng, a, b):
    one_of(rng, b, "*").unlink()


def truncated(rng, a, b):
    path = one_of(rng, b, "*")
    path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])


def renamed_tensor(rng, a, b):
    path = one_of(rng, b, WEIGHTS)
    tensors = load_file(path)
    name = rng.choice(sorted(tensors))
    tensors[rng.choice([name.replace("0", "1"), f"model.{name}", name.removeprefix("model."), "x"])] = tensors.pop(name)
    save_file(tensors, path, {"format": "pt"})


def two_of_a_kind(rng, a, b):
    """A single file beside an index, a stray shard, a pickle, a variant, an adapter."""
    other, name = one_of(rng, a, WEIGHTS), rng.choice(
        ["model.safetensors", "model-00001-of-00003.safetensors", "model.fp16.safetensors", "consolidated.safetensors",
         "adapter_model.safetensors", "shard-00000-model-00001-of-00001.safetensors"]
    )  # fmt: skip
    shutil.copy(other, b / str(name))
    if rng.integers(2):
        torch.save(load_file(other), b / "pytorch_model.bin")
    if rng.integers(2):
        index = {"metadata": {}, "weight_map": dict.fromkeys(load_file(other), other.name)}
        (b / "model.safetensors.index.json").write_text(json.dumps(index))
    if not rng.integers(3):
        (b / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(a)}))


def config_key(rng, a, b):
    """An entry changed, left out or added, in one component or in both."""
    content = json.loads((b / CONFIG).read_text())
    key = str(rng.choice([*content, *NEW]))
    value = VALUES[rng.integers(len(VALUES))]
    for folder in (a, b)[rng.integers(2) :]:
        if rng.integers(4):
            rewrite(folder / CONFIG, lambda keys: keys.update({key: value}))
        else:
            rewrite(folder / CONFIG, lambda keys: keys.pop(key, None))


def swapped(rng, a, b):
    """A file of one component lies in the other."""
    path = one_of(rng, b, "*")
    shutil.copy(path, a / path.name)


def cast(rng, a, b):
    """A tensor, or all of them, in another dtype than the rest."""
    path = one_of(rng, b, WEIGHTS)
    tensors = load_file(path)
    chosen = sorted(tensors) if rng.integers(2) else [rng.choice(sorted(tensors))]
    dtype = (torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.int8)[rng.integers(5)]
    save_file({n: t.to(dtype) if n in chosen else t for n, t in tensors.items()}, path, {"format": "pt"})


def tokenizer_part(rng, a, b):
    """Two words exchanged, another way to cut text or to prepare it, a word more, a token put before every text."""
    begin = {"type": "TemplateProcessing", "special_tokens": {"w3": {"id": "w3", "ids": [3], "tokens": ["w3"]}}}
    begin |= {side: [{"SpecialToken": {"id": "w3", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}] for side in
              ("single", "pair")}  # fmt: skip
    parts = [{"pre_tokenizer": {"type": "WhitespaceSplit"}}, {"pre_tokenizer": None}, {"normalizer": {"type": "NFKC"}}]
    parts += [{"normalizer": {"type": "Lowercase"}}, {"post_processor": begin}, {"decoder": None}, {}]
    chosen, words = parts[rng.integers(len(parts))], rng.integers(3, 64, 2)

    def change(content):
        content.update(chosen)
        vocabulary = content["model"]["vocab"]
        if not chosen:
            one, other = f"w{words[0]}", f"w{words[1]}"
            vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
        if rng.integers(3) == 0:
            vocabulary[f"w{64 + rng.integers(3)}"] = 64

    rewrite(b / "tokenizer.json", change)


BREAK = (header_byte, data_byte, text_byte, missing, truncated, renamed_tensor, two_of_a_kind, config_key, swapped)
BREAK += (cast, tokenizer_part)
CONFIGS = {
    "llama": (LlamaConfig(**(SIZES | {"num_hidden_layers": 1}), head_dim=8), {}),
    "tied": (LlamaConfig(**(SIZES | {"num_hidden_layers": 1}), head_dim=8, tie_word_embeddings=True), {}),
    "shards": (LlamaConfig(**SIZES, head_dim=8), {"max_shard_size": "8KB"}),
    "gpt2": (GPT2Config(**ENDS, n_positions=32, n_embd=16, n_layer=1, n_head=2), {}),
    "half": (LlamaConfig(**(SIZES | {"num_hidden_layers": 1}), head_dim=8), {"dtype": torch.bfloat16}),
}


@pytest.fixture(scope="module")
def families(tmp_path_factory):
    """Folders of components 'a' and 'b' of every architecture; one thread, so that models of a few numbers are fast."""
    folder, threads = tmp_path_factory.mktemp("good"), torch.get_num_threads()
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    made = {name: family(folder / name, config, names=("a", "b"), **how)[0] for name, (config, how) in CONFIGS.items()}
    yield [list(folders.values()) for folders in made.values()]
    torch.set_num_threads(threads)
    logging.set_verbosity_warning()


def says(model: PreTrainedModel) -> torch.Tensor | type:
    """Logits with a mark for NaN; the kind of error where a configuration lets nothing be computed."""
    try:
        with torch.no_grad():
            return model(IDS, return_dict=True).logits.nan_to_num(7)
    except Exception as error:
        return type(error)


def equal(one: PreTrainedModel, other: PreTrainedModel) -> bool:
    """Whether two models hold the same numbers under the same names, none of them NaN, and say the same."""
    ours, theirs = one.state_dict(), other.state_dict()
    same = ours.keys() == theirs.keys() and all(tensor.equal(theirs[name]) for name, tensor in ours.items())
    a, b = says(one), says(other)
    return same and (a.equal(b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a is b)


def outcome(folders: dict[str, Path], residency: str) -> str:
    """'merged' or the refusal's sentence. Raises AssertionError where a one-hot merge is not its component."""
    try:
        bank = Bank.load(folders, residency=residency)
        for name, folder in folders.items():
            loaded = AutoModelForCausalLM.from_pretrained(folder)
            model = bank.model(loaded.dtype)
            bank.write(model, {name: 1.0})
            assert equal(model, loaded), f"{name} is another model"
            saved = save(bank, {name: 1.0}, folder.with_name(f"saved {name}"))
            assert equal(AutoModelForCausalLM.from_pretrained(saved), loaded), f"{name} is saved as another model"
    except Refusal as refusal:
        assert "\n" not in str(refusal) and ";" in str(refusal), f"no sentence with a remedy: {refusal}"
        return str(refusal)
    files = [[path.read_bytes() for path in sorted(folder.glob(TOKENIZER))] for folder in folders.values()]
    if files[0] != files[1]:
        one, other = (AutoTokenizer.from_pretrained(folder) for folder in folders.values())
        assert one(TEXTS).input_ids == other(TEXTS).input_ids, "text becomes other ids"
    return "merged"


def broken(families, seed: int, folder: Path) -> tuple[str, dict[str, Path]]:
    """A family with one fault in it: what was done, and the folders."""
    rng = np.random.default_rng(seed)
    good = families[seed % len(families)]
    folders = {name: shutil.copytree(path, folder / name) for name, path in zip("ab", good, strict=True)}
    fault = BREAK[seed // len(families) % len(BREAK)]
    fault(rng, folders["a"], folders["b"])
    return fault.__name__, folders


def test_what_is_not_broken_is_merged(families):
    for a, b in families:
        assert outcome({"a": a, "b": b}, "auto") == "merged"


@pytest.mark.slow
def test_broken_checkpoints_are_merged_as_they_are_opened_or_refused(families, tmp_path):
    outcomes, wrong = {}, {}
    for seed in range(CASES):
        fault, folders = broken(families, seed, tmp_path / str(seed))
        try:
            outcomes[seed] = fault, outcome(folders, ("stacked", "streamed")[seed % 2])
        except Exception as error:
            wrong[seed] = fault, f"{type(error).__name__}: {error}"
    assert not wrong
    merged = [fault for fault, told in outcomes.values() if told == "merged"]
    assert len(merged) >= 20 and len(outcomes) - len(merged) >= 80  # neither all refused nor all let through
