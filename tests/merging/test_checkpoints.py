"""Which file is read is which file `from_pretrained` reads; configurations count by what they mean, tokenizers by what
they do. Every kind of fault beside its siblings; those of `../shared/cases` too, where that folder lies beside us.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from fixtures_models import ENDS, SIZES, family
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from demix_nb.merging import Bank, examine, tokens
from demix_nb.merging.alike import INCIDENTAL
from demix_nb.store import Refusal

IDS = torch.arange(3, 23)[None]
SMALL = SIZES | {"num_hidden_layers": 1, "head_dim": 8}
INDEX = "model.safetensors.index.json"


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return family(tmp_path_factory.mktemp("llama"), LlamaConfig(**SMALL), names=("a", "b"))


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    return family(tmp_path_factory.mktemp("shards"), LlamaConfig(**SMALL), names=("a", "b"), max_shard_size="8KB")


@pytest.fixture
def folders(llama, tmp_path):
    return {name: shutil.copytree(folder, tmp_path / name) for name, folder in llama[0].items()}


@pytest.fixture
def shards(sharded, tmp_path):
    return {name: shutil.copytree(folder, tmp_path / "shards" / name) for name, folder in sharded[0].items()}


def refused(folders, match: str) -> None:
    """The bank and the doctor say the same sentence, and it is one line with a remedy."""
    with pytest.raises(Refusal, match=match) as raised:
        Bank.load(folders)
    told = str(raised.value)
    assert "\n" not in told and ";" in told
    assert [finding.sentence for finding in examine(folders) if not finding.passed] == [told]


def is_what_transformers_reads(folders) -> None:
    """One-hot merges are the components as `from_pretrained` opens them, and the doctor finds nothing."""
    bank = Bank.load(folders)
    model = bank.model()
    for name, folder in folders.items():
        bank.write(model, {name: 1.0})
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        assert all(tensor.equal(loaded.state_dict()[key]) for key, tensor in model.state_dict().items())
        with torch.no_grad():
            assert model(IDS).logits.equal(loaded(IDS).logits)
    assert all(finding.passed for finding in examine(folders))


def edit(path: Path, **changes) -> None:
    """Change entries of a JSON file; those that become ... are left out."""
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


# --- which file is read


def test_weights_that_lie_there_twice_are_refused_and_named(folders, shards):
    single, (shard, *_) = folders["b"] / "model.safetensors", sorted(shards["b"].glob("model-*"))
    shutil.copy(single, shards["b"] / "model.safetensors")
    refused(shards, r"two sets of weights, model\.safetensors and model\.safetensors\.index\.json; .*stale")
    (shards["b"] / INDEX).unlink()
    refused(shards, rf"two sets of weights, model\.safetensors and {shard.name}")
    shutil.copy(single, folders["b"] / "shard-00000-model-00001-of-00001.safetensors")  # of torch.distributed
    refused(folders, r"two sets of weights, model\.safetensors and shard-00000-model-00001-of-00001\.safetensors")


def test_shards_of_an_older_save_are_refused(shards):
    shutil.copy(next(shards["b"].glob("model-*")), shards["b"] / "model-00001-of-00009.safetensors")
    refused(shards, r"two sets of weights, model-00001-of-.* and model-00001-of-00009\.safetensors")


def test_shards_without_their_index_are_no_checkpoint(shards):
    (shards["b"] / INDEX).unlink()
    refused(shards, r"has no model\.safetensors \(but model-00001-of-")


def test_what_transformers_passes_over_is_passed_over(folders):
    """It prefers safetensors to pickles, and reads variants and other names only where it is asked to."""
    other = folders["a"] / "model.safetensors"
    for name in ("model.fp16.safetensors", "model.fp16-00001-of-00002.safetensors", "consolidated.safetensors"):
        shutil.copy(other, folders["b"] / name)
    torch.save(load_file(other), folders["b"] / "pytorch_model.bin")
    shutil.copytree(folders["a"], folders["b"] / "checkpoint-500")
    (folders["b"] / "model.safetensors.index.fp16.json").write_text("{}")
    is_what_transformers_reads(folders)


def test_links_to_files_elsewhere_are_followed(folders, tmp_path):
    """As in the cache of the Hub, where a folder holds links into one store."""
    (tmp_path / "blobs").mkdir()
    for path in [*folders["b"].iterdir()]:
        path.symlink_to(path.rename(tmp_path / "blobs" / path.name))
    is_what_transformers_reads(folders)


def test_an_index_says_what_its_shards_hold(shards):
    index, first = shards["b"] / INDEX, min(shards["b"].glob("model-*"))
    content, stored = json.loads(index.read_text()), load_file(first)
    name, last = min(stored), max(shards["b"].glob("model-*")).name
    for places, match in (
        (content["weight_map"] | {name: f"../a/{first.name}"}, r"places '.*' in '\.\./a/.*', no file of this folder"),
        (content["weight_map"] | {name: str(first)}, "no file of this folder"),
        (content["weight_map"] | {name: last}, rf"{last} lacks '{name}'|{first.name} also holds '{name}'"),
        (content["weight_map"] | {"new": last}, rf"{last} lacks 'new'"),
        ({n: f for n, f in content["weight_map"].items() if n != name}, rf"{first.name} also holds '{name}'"),
    ):
        index.write_text(json.dumps(content | {"weight_map": places}))
        refused(shards, match)
    index.write_text(json.dumps(content))
    is_what_transformers_reads(shards)
    save_file(stored | {"more": torch.ones(1)}, first, {"format": "pt"})
    refused(shards, "also holds 'more'")


@pytest.mark.parametrize("key", ["transformers_weights", "configuration_files", "fusion_config"])
def test_keys_that_make_transformers_read_more_are_refused(folders, key):
    if key != "configuration_files":  # of which transformers makes no sense
        edit(folders["b"] / "config.json", **{key: None})
        is_what_transformers_reads(folders)
    edit(folders["b"] / "config.json", **{key: "other.safetensors"})
    refused(folders, f"'{key}' in config.json makes transformers read more")


# --- adapters and quantised weights


@pytest.mark.parametrize(("kind", "told"), [("LORA", "LoRA"), ("IA3", "IA3"), ("ADALORA", "ADALORA")])
@pytest.mark.parametrize("place", ["", "adapter", "checkpoint-500"])
def test_an_adapter_is_never_dropped(folders, kind, told, place):
    lies = folders["b"] / place
    lies.mkdir(exist_ok=True)
    (lies / "adapter_config.json").write_text(json.dumps({"peft_type": kind, "base_model_name_or_path": "base"}))
    save_file({"x": torch.ones(1)}, lies / "adapter_model.safetensors")
    refused(folders, rf"holds a {told} \(PEFT\) adapter, .*adapter_config\.json, beside its weights; merge it into")
    for name in ("model.safetensors", "config.json"):
        (folders["b"] / name).unlink()
    refused(folders, rf"holds a {told} \(PEFT\) adapter, .*instead of weights; merge it into its base")


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_without_its_configuration(folders, name):
    (folders["b"] / name).write_bytes(b"x")
    refused(folders, r"holds a LoRA or other \(PEFT\) adapter")


def test_nothing_is_quantised_by_null(folders):
    edit(folders["b"] / "config.json", quantization_config=None)
    is_what_transformers_reads(folders)
    edit(folders["b"] / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    refused(folders, "is quantised; dequantise it")


def test_whole_numbers_are_no_weights(folders):
    for folder in folders.values():
        stored = load_file(folder / "model.safetensors")
        stored["lm_head.weight"] = stored["lm_head.weight"].to(torch.int8)
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
    refused(folders, "stores 'lm_head.weight' in whole numbers; dequantise it")


@pytest.mark.parametrize("written", ["dtype", "torch_dtype"])
def test_weights_that_transformers_would_round_are_refused(folders, written):
    for dtype in ("float32", "float64"):  # as it is, and wider: nothing is lost
        edit(folders["b"] / "config.json", dtype=..., torch_dtype=...)
        edit(folders["b"] / "config.json", **{written: dtype})
        assert Bank.load(folders)
    edit(folders["b"] / "config.json", **{written: "bfloat16"})
    refused(folders, r"stores '.*' as float32, which transformers would round to bfloat16")
    edit(folders["b"] / "config.json", **{written: "int8"})
    refused(folders, r"asks for dtype torch.int8")


# --- configurations by meaning

QWEN = Qwen2Config(**(SIZES | {"num_hidden_layers": 1}))
GPT = GPT2Config(**ENDS, n_positions=32, n_embd=16, n_layer=1, n_head=2)
SPELT = {  # architecture, and the other spelling of its configuration
    "rotary base of version 4": (
        LlamaConfig(**SMALL, rope_theta=5e5), {"rope_parameters": ..., "rope_theta": 500000, "rope_scaling": None}),
    "scaled rotary of version 4": (
        LlamaConfig(**SMALL, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}),
        {"rope_parameters": ..., "rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}}),
    "defaults left out": (LlamaConfig(**SMALL), dict.fromkeys(
        ["rope_parameters", "attention_bias", "mlp_bias", "hidden_act", "rms_norm_eps", "tie_word_embeddings"], ...)),
    "ends": (LlamaConfig(**SMALL), {"eos_token_id": [1, 2], "bos_token_id": ..., "pad_token_id": 0}),
    "provenance": (LlamaConfig(**SMALL), {"_name_or_path": "x/y", "architectures": None, "transformers_version": "4.1",
                                          "use_cache": False, "torch_dtype": "float32", "dtype": ...}),
    "training": (LlamaConfig(**SMALL), {"attention_dropout": 0.1, "initializer_range": 0.5}),
    "sampling of version 4": (LlamaConfig(**SMALL), {"temperature": 0.7, "max_length": 20, "do_sample": True}),
    "sizes by their common names": (GPT, {"n_embd": ..., "hidden_size": 16, "n_head": ..., "num_attention_heads": 2}),
    "dropouts of GPT-2": (GPT, {"resid_pdrop": 0.0, "summary_type": "last", "task_specific_params": {"x": {}}}),
    "a window that is not used": (
        QWEN, {"use_sliding_window": ..., "sliding_window": 4096, "max_window_layers": 21, "layer_types": ...}),
    "heads left out": (MistralConfig(**SMALL, sliding_window=None), {"rope_parameters": ..., "rope_theta": 1e4}),
}  # fmt: skip


@pytest.mark.parametrize("name", SPELT)
def test_configurations_that_mean_the_same(tmp_path, name):
    config, changes = SPELT[name]
    folders, base = family(tmp_path, config, names=("a", "b"))
    edit(folders["b"] / "config.json", **changes)
    is_what_transformers_reads(folders)
    is_what_transformers_reads({"b": folders["b"], "base": base, "a": folders["a"]})


@pytest.mark.parametrize(
    ("config", "key", "value", "named"),
    [
        (LlamaConfig(**SMALL), "rms_norm_eps", 1e-5, "'rms_norm_eps': 1e-06 vs 1e-05"),
        (
            LlamaConfig(**SMALL),
            "rope_parameters",
            {"rope_theta": 5e5, "rope_type": "default"},
            "parameters.rope_theta'",
        ),
        (
            LlamaConfig(**SMALL),
            "rope_scaling",
            {"type": "linear", "factor": 2.0},
            "'rope_parameters.factor': None vs 2",
        ),
        (LlamaConfig(**SMALL), "hidden_act", "gelu", "'hidden_act': 'silu' vs 'gelu'"),
        (LlamaConfig(**SMALL), "tie_word_embeddings", True, "'tie_word_embeddings': False vs True"),
        (LlamaConfig(**SMALL), "is_causal", False, "'is_causal': None vs False"),
        (LlamaConfig(**SMALL), "attn_implementation", "eager", "'attn_implementation'"),
        (GPT, "scale_attn_weights", False, "'scale_attn_weights': True vs False"),
        (GPT, "scale_attn_by_inverse_layer_idx", True, "'scale_attn_by_inverse_layer_idx'"),
        (GPT, "activation_function", "relu", "'activation_function': 'gelu_new' vs 'relu'"),
        (MistralConfig(**SMALL, sliding_window=16), "sliding_window", 4, "'sliding_window': 16 vs 4"),
        (QWEN, "layer_types", ["sliding_attention"], "'layer_types': "),
    ],
)
def test_configurations_that_compute_otherwise(tmp_path, config, key, value, named):
    folders, _ = family(tmp_path, config, names=("a", "b"))
    edit(folders["b"] / "config.json", **{key: value})
    refused(folders, f"'a' and 'b' disagree on config .*{named}")


def test_what_is_incidental_does_not_reach_the_logits(folders):
    """Every such key of this architecture is given another value; a forward pass is what tells."""
    config = json.loads((folders["b"] / "config.json").read_text())
    odd = {
        "initializer_range": 1.0,
        "attention_dropout": 0.9,
        "use_cache": False,
        "pad_token_id": 5,
        "dtype": "float32",
    }
    odd |= {"bos_token_id": 7, "eos_token_id": 8, "architectures": ["X"], "transformers_version": "9"}
    assert odd.keys() == (config.keys() | {"pad_token_id"}) & INCIDENTAL
    loaded = AutoModelForCausalLM.from_pretrained(folders["b"])
    edit(folders["b"] / "config.json", **odd)
    with torch.no_grad():
        assert loaded(IDS).logits.equal(AutoModelForCausalLM.from_pretrained(folders["b"])(IDS).logits)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("rms_norm_eps", "small", "cannot build its model"),
        ("hidden_act", "none", "cannot build its model"),
        ("num_attention_heads", 0, "cannot build its model"),
        ("pad_token_id", 900, "cannot build its model"),
        ("dtype", "float31", "cannot build its model"),
        ("model_type", "lama", "cannot build its model"),
        ("num_hidden_layers", 10**9, "asks for 1000000000 layers and 12 tensors are stored"),
    ],
)
@pytest.mark.parametrize("both", [True, False])
def test_nonsense_is_refused_before_anything_is_built(folders, key, value, told, both):
    """In one component or in both."""
    for name in "ab"[not both :]:
        edit(folders[name] / "config.json", **{key: value})
    refused(folders, rf"{told}.*;|disagree on config '{key}'")


@pytest.mark.parametrize("content", ["[]", "3", "", "{", '{"eos_token_id": "x" ', "\ufeff{}", '"text"'])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json"])
def test_json_that_is_none_is_refused(folders, name, content):
    for folder in folders.values():
        (folder / name).write_text(content)
    refused(folders, r"config\.json (is not readable|holds a)|cannot build its model")


# --- tokenizers by what they do

TEXT = ["low lower lowest newer newest wider new low wide", "the new low is wider than the newest lower"] * 20


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=60, special_tokens=["<s>", "</s>", "[UNK]"]))
    return tokenizer


def keep(tokenizer: Tokenizer, folder: Path) -> None:
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>").save_pretrained(folder)


@pytest.fixture
def spoken(folders):
    """Components with a BPE tokenizer, and a call that changes that of 'b' as an object or as JSON."""
    for folder in folders.values():
        keep(trained(), folder)

    def change(how, *, text=False):
        if text:
            content = json.loads((folders["b"] / "tokenizer.json").read_text())
            how(content)
            (folders["b"] / "tokenizer.json").write_text(json.dumps(content))
        else:
            how(tokenizer := trained())
            keep(tokenizer, folders["b"])

    return folders, change


def as_strings(content):
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]


def without_defaults(content):
    content["model"] = {key: value for key, value in content["model"].items() if value not in (None, False)}
    for key in ("truncation", "padding", "normalizer", "post_processor", "decoder"):
        content.pop(key)


def other_order(content):
    content["model"]["vocab"] = dict(sorted(content["model"]["vocab"].items()))


def empty_parts(content):
    content["normalizer"] = {"type": "Sequence", "normalizers": []}
    content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [content["pre_tokenizer"]]}
    content["post_processor"] = {"type": "TemplateProcessing", "special_tokens": {}, "single": [
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}]}  # fmt: skip


@pytest.mark.parametrize("how", [as_strings, without_defaults, other_order, empty_parts])
def test_tokenizers_that_do_the_same(spoken, how):
    folders, change = spoken
    change(how, text=True)
    assert tokens.digest(folders["a"]) != tokens.digest(folders["b"])
    is_what_transformers_reads(folders)


def test_a_tokenizer_of_two_files_is_that_of_one(folders):
    """As GPT-2 was published: words and merges apart, and a class that knows how text is cut."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=60, special_tokens=["</s>"]))
    for folder in folders.values():
        keep(tokenizer, folder)
    path = folders["b"] / "tokenizer.json"
    model = json.loads(path.read_text())["model"]
    path.unlink()
    (folders["b"] / "vocab.json").write_text(json.dumps(model["vocab"]))
    (folders["b"] / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, model["merges"])]))
    ends = dict.fromkeys(["bos_token", "eos_token", "unk_token"], "</s>")
    (folders["b"] / "tokenizer_config.json").write_text(json.dumps(ends | {"tokenizer_class": "GPT2Tokenizer"}))
    is_what_transformers_reads(folders)
    edit(folders["b"] / "tokenizer_config.json", add_prefix_space=True)
    refused(folders, "different tokenizers: .* becomes")


def another(part, value):
    return lambda tokenizer: setattr(tokenizer, part, value)


def begins(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])


def swapped(first, second):
    def change(content):
        merges = content["model"]["merges"]
        merges[first], merges[second] = merges[second], merges[first]

    return change


def renumbered(content):
    words = content["model"]["vocab"]
    words["low"], words["new"] = words["new"], words["low"]


@pytest.mark.parametrize(
    ("how", "text", "told"),
    [
        (another("pre_tokenizer", pre_tokenizers.Split("o", "isolated")), False, "becomes"),
        (another("pre_tokenizer", pre_tokenizers.Digits()), False, "becomes"),
        (another("normalizer", normalizers.Lowercase()), False, "becomes"),
        (another("normalizer", normalizers.NFKC()), False, "becomes"),
        (another("normalizer", normalizers.StripAccents()), False, "becomes"),
        (another("normalizer", normalizers.Prepend("l")), False, "becomes"),
        (begins, False, "'' becomes .* in one and"),
        (swapped(0, 3), True, "their merges"),
        (renumbered, True, "the token '(low|new)' is"),
        (lambda tokenizer: tokenizer.add_special_tokens(["<pad>"]), False, "the token '<pad>' is absent in one and"),
        (lambda tokenizer: tokenizer.add_tokens([AddedToken("low", lstrip=True)]), False, "becomes"),
    ],
)
def test_tokenizers_that_do_something_else(spoken, how, text, told):
    folders, change = spoken
    change(how, text=text)
    refused(folders, f"'a' and 'b' have different tokenizers: .*{told}.*; train the components with one tokenizer")


def test_a_tokenizer_is_missing_or_damaged(spoken):
    folders, change = spoken
    change(lambda content: content.update(model={"type": "BPE"}), text=True)
    refused(folders, "transformers cannot open its tokenizer .*; copy or save")
    for path in folders["b"].glob("tokenizer*"):
        path.unlink()
    refused(folders, "different tokenizers: .* stores none")


def test_a_token_without_a_row_is_a_note(folders):
    """A pad token added without resizing: no row, so no merge depends on it; but whoever looks is told."""
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folders["b"])
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folders["b"])
    is_what_transformers_reads(folders)
    note = {finding.check: finding.sentence for finding in examine(folders)}["tokenizer"]
    assert note.startswith("the same tokenizer in all; 'b' has no row for 1 of its tokens ('<pad>' (64))")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<pad> $A", special_tokens=[("<pad>", 64)]
    )
    for folder in folders.values():
        tokenizer.save_pretrained(folder)
    told = [finding for finding in examine(folders) if not finding.passed]
    assert [finding.check for finding in told] == ["tokenizer"] and "gives every text an id" in told[0].sentence


def test_a_tokenizer_is_tried_once_by_its_content(spoken, monkeypatch):
    folders, change = spoken
    Bank.load(folders)
    monkeypatch.setattr(tokens.AutoTokenizer, "from_pretrained", lambda *_args, **_how: pytest.fail("opened"))
    Bank.load(folders)  # the same bytes: none is opened
    monkeypatch.undo()
    change(as_strings, text=True)
    Bank.load(folders)
    monkeypatch.setattr(tokens, "_compare", lambda *_: pytest.fail("tried again"))
    Bank.load({name: shutil.copytree(folder, folder.with_name(f"{name}2")) for name, folder in folders.items()})


def test_bytes_of_text_are_all_tried():
    seen = {byte for text in tokens._characters() for byte in text.encode()}
    assert seen == set(range(256)) - {0xC0, 0xC1, *range(0xF5, 0x100)}  # those occur in no UTF-8


# --- the rows of ../shared/cases


@pytest.mark.parametrize(
    ("case", "base"),
    [*((case, base) for case in ("good-components", "config-two-versions") for base in (False, True)),
     ("merges-format", False)],
)  # fmt: skip
def test_cases_that_are_well(shared, case, base):
    folder = shared / "cases" / case
    found = list(examine([folder / "news", folder / "law"], folder / "base" if base else None))
    assert found and all(finding.passed for finding in found)


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("stale-index", r"law holds two sets of weights, model\.safetensors and model\.safetensors\.index\.json; "),
        ("adapter-beside-weights", r"holds a LoRA \(PEFT\) adapter, .* beside its weights; merge it into"),
        ("adapter-only", r"holds a LoRA \(PEFT\) adapter, .* instead of weights; merge it into its base .* save"),
    ],
)
def test_cases_that_are_refused(shared, case, told):
    refused([shared / "cases" / case / "news", shared / "cases" / case / "law"], told)
