"""The doctor passes siblings and names what is wrong with everybody else."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_models import ARCHITECTURES, family, save_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from demix_nb.__main__ import main
from demix_nb.merging import Bank, delta, examine
from demix_nb.merging.doctor import BARRIER_LIMIT, PAIRED, Checkup, _judge_barrier, checkup, cosines, drift, layer_of
from demix_nb.store import Refusal
from demix_nb.store import check as check_table

TEXTS = ["w5 w6 w7 w8 w9 w10 w11 w12", "w20 w21 w22 w23"]
CHECKS = ["checkpoints", "architecture", "tensors", "tokenizer", "dtype", "finite", "model"]


@pytest.fixture(scope="module")
def siblings(tmp_path_factory):
    return family(tmp_path_factory.mktemp("siblings"), ARCHITECTURES["gpt2"](), drift=0.001)


@pytest.fixture
def copy(siblings, tmp_path):
    return {name: shutil.copytree(folder, tmp_path / name) for name, folder in siblings[0].items()}


def failed(*args, **how):
    """All findings but the last pass; the last, which is returned, fails with one sentence that names a remedy."""
    *passed, last = examine(*args, **how)
    assert all(finding.passed for finding in passed)
    assert not last.passed
    assert ";" in last.sentence and "\n" not in last.sentence
    return last


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_siblings_pass_every_check(tmp_path, architecture):
    folders, base = family(tmp_path, ARCHITECTURES[architecture](), drift=0.001)
    findings = {finding.check: finding for finding in examine(folders, base, TEXTS)}
    assert list(findings) == [*CHECKS, "drift", "cosines", "loss barrier"]
    assert all(finding.passed for finding in findings.values())
    assert {"layer 0", "layer 1"} <= set(findings["drift"].table.index)
    assert list(findings["drift"].table.columns) == ["a", "b", "c"]
    assert findings["loss barrier"].table.shape == (3, 5)
    assert Checkup([*findings.values()])["drift"] is findings["drift"].table
    assert Checkup([*findings.values()])["cosines"].index.name == "component"
    told = Checkup([*findings.values()]).summary
    assert list(told.index) == list(findings) and told["passed"].all() and list(told) == ["passed", "sentence"]


def test_the_command_line_prints_every_check_and_its_exit_status_tells(siblings, copy, tmp_path, capsys):
    (tmp_path / "text").write_text("\n".join(TEXTS))
    folders = [str(folder) for folder in siblings[0].values()]
    assert main(["doctor", *folders, "--base", str(siblings[1]), "--text", str(tmp_path / "text")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"ok   {name}" for name in (*CHECKS, "drift", "cosines", "loss barrier")
    ]
    (copy["b"] / "model.safetensors").unlink()
    assert main(["doctor", *map(str, copy.values())]) == 2
    assert "FAIL checkpoints" in capsys.readouterr().out


def test_without_base_and_texts_only_the_structure_is_checked(siblings):
    found = list(examine(list(siblings[0].values())))
    assert [finding.check for finding in found] == CHECKS
    for check, schema in (("drift", "layers"), ("cosines", "cosines")):
        assert check_table(Checkup(found)[check], schema, check).empty


def test_of_no_components_there_is_nothing_to_find():
    nothing = checkup({}, None, TEXTS)
    assert not nothing.findings and nothing.summary.empty and nothing.summary.index.name == "check"
    assert nothing["loss barrier"].empty and not nothing.failed


def test_of_many_components_only_the_pairs_of_the_first_are_measured(tmp_path):
    """One more than have every pair measured: as many barriers as there are others, and the sentence says so."""
    folders, _ = family(tmp_path, ARCHITECTURES["gpt2"](), names=[f"c{i}" for i in range(PAIRED + 1)], drift=0.001)
    few, many = (list(examine(list(folders.values())[:n], texts=TEXTS))[-1] for n in (3, PAIRED + 1))
    assert list(few.table.index) == ["c0 → c1", "c0 → c2", "c1 → c2"] and "between two components: " in few.sentence
    assert list(many.table.index) == [f"c0 → c{i}" for i in range(1, PAIRED + 1)]
    pd.testing.assert_frame_equal(many.table.iloc[:2], few.table.iloc[:2])
    assert f"between 'c0' and another (of {PAIRED + 1} components no other pairs" in many.sentence


def test_drift_per_layer_adds_up_by_its_definition(siblings):
    folders, base = siblings
    drift = next(finding for finding in examine(folders, base) if finding.check == "drift").table
    a, start = (load_file(folder / "model.safetensors") for folder in (folders["a"], base))
    mine = [name for name in a if layer_of(name) == "layer 1"]
    moved = sum((a[name] - start[name]).abs().sum() for name in mine)
    size = sum(a[name].abs().sum() + start[name].abs().sum() for name in mine)
    assert drift.loc["layer 1", "a"] == pytest.approx((moved / size).item(), rel=1e-5)
    assert layer_of("transformer.wte.weight") == "transformer.wte.weight"


@pytest.mark.parametrize("residency", ["stacked", "streamed"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_delta_is_equation_4(tmp_path, architecture, residency, monkeypatch):
    monkeypatch.setattr("demix_nb.merging.doctor.READ_BLOCK", 40)
    folders, base = family(tmp_path, ARCHITECTURES[architecture]())
    a, start = (load_file(folder / "model.safetensors") for folder in (folders["a"], base))
    moved = sum((a[name].double() - start[name].double()).abs().sum() for name in a)
    size = sum(a[name].double().abs().sum() + start[name].double().abs().sum() for name in a)
    assert delta(a, start) == pytest.approx((moved / size).item())
    live = [AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (folders["a"], base)]
    assert delta(*live) == pytest.approx((moved / size).item())  # tied weights, twice in a live state, count once
    assert delta(start, start) == 0
    total = drift(Bank.load(folders, base, residency)).loc["a"].sum()
    assert total["moved"] / total["size"] == pytest.approx((moved / size).item())


def test_delta_is_of_models_of_one_kind():
    with pytest.raises(Refusal, match="state dicts differ in 'x'"):
        delta({"x": torch.ones(1)}, {})


def test_cosines_between_updates(siblings, tmp_path, monkeypatch):
    folders, base = siblings
    half = shutil.copytree(folders["a"], tmp_path / "half")
    save_file(Bank.load(folders).merge({"a": 0.5, "b": 0.5}), half / "model.safetensors", {"format": "pt"})
    bank = Bank.load(folders | {"half": half}, base)
    table = cosines(bank)
    assert np.diag(table) == pytest.approx(1)
    assert abs(table.loc["a", "b"]) < 0.05  # independent noise
    assert table.loc["a", "half"] == pytest.approx(np.sqrt(0.5), abs=0.03)
    monkeypatch.setattr("demix_nb.merging.doctor.READ_BLOCK", 40)
    assert np.allclose(table, cosines(bank), rtol=0, atol=1e-9)


def change(folder, tensor, value) -> None:
    stored = load_file(folder / "model.safetensors")
    stored[tensor] = value(stored[tensor]).contiguous()
    save_file(stored, folder / "model.safetensors", {"format": "pt"})


def test_each_fault_is_named(copy):
    change(copy["b"], "transformer.ln_f.bias", lambda tensor: tensor.fill_(torch.inf))
    assert failed(copy).sentence.startswith("'b': 'transformer.ln_f.bias' holds NaN or infinity")
    change(copy["b"], "transformer.ln_f.bias", lambda tensor: torch.zeros(17))
    assert failed(copy).check == "tensors"
    save_model(AutoModelForCausalLM.from_pretrained(copy["a"]), copy["b"], words=50)
    assert failed(copy).check == "tokenizer"
    config = json.loads((copy["b"] / "config.json").read_text())
    (copy["b"] / "config.json").write_text(json.dumps(config | {"n_head": 4}))
    assert failed(copy).check == "architecture"
    (copy["b"] / "config.json").unlink()
    assert failed(copy).check == "checkpoints"


def test_incomplete_models_are_named(copy):
    for folder in copy.values():
        stored = load_file(folder / "model.safetensors")
        del stored["transformer.ln_f.bias"]
        save_file(stored, folder / "model.safetensors", {"format": "pt"})
    assert "has no 'transformer.ln_f.bias'" in failed(copy).sentence


def test_integer_weights_are_named(copy):
    for folder in copy.values():
        stored = load_file(folder / "model.safetensors")
        save_file({n: t.to(torch.int8) for n, t in stored.items()}, folder / "model.safetensors", {"format": "pt"})
    assert failed(copy).check == "dtype"


def findings_by_check(*args):
    return {finding.check: finding for finding in examine(*args)}


def test_a_component_that_is_its_base(copy, siblings):
    assert "'base' equals the base" in findings_by_check(copy | {"base": siblings[1]}, siblings[1])["drift"].sentence


def one_line_with_a_remedy(finding) -> str:
    assert not finding.passed and ";" in finding.sentence and "\n" not in finding.sentence
    return finding.sentence


@pytest.mark.parametrize("count", [1, 2])
def test_cosines_without_a_number_fail(copy, siblings, count):
    """A component that is its base has no direction, be it alone or beside others."""
    given = {"still": siblings[1], **copy} if count == 2 else {"still": siblings[1]}
    assert "'still' has no direction" in one_line_with_a_remedy(findings_by_check(given, siblings[1])["cosines"])


def test_a_drift_without_a_number_fails(siblings, tmp_path):
    """Weights that are all zero: 0 / 0."""
    for name in ("a", "base"):
        folder = shutil.copytree(siblings[1], tmp_path / name)
        zero = {key: torch.zeros_like(value) for key, value in load_file(folder / "model.safetensors").items()}
        save_file(zero, folder / "model.safetensors", {"format": "pt"})
    findings = findings_by_check([tmp_path / "a"], tmp_path / "base")
    assert "how far 'a' is from its base cannot be said (δ is nan)" in one_line_with_a_remedy(findings["drift"])
    assert not findings["cosines"].passed


def test_a_drift_beyond_any_scale_fails(siblings, tmp_path):
    folder = shutil.copytree(siblings[0]["a"], tmp_path / "a")
    wide = {key: value.double() for key, value in load_file(folder / "model.safetensors").items()}
    save_file({key: torch.full_like(value, 1e308) for key, value in wide.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float64"}))
    assert not any(findings_by_check([folder], siblings[1])[check].passed for check in ("drift", "cosines"))


@pytest.mark.parametrize("loss", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_barrier_without_a_number_fails(loss, place):
    losses = pd.DataFrame([[3.0] * 5, [3.0] * 5], ["a → b", "a → c"], [0.0, 0.25, 0.5, 0.75, 1.0])
    losses.loc["a → c", place] = loss
    assert "a → c: the loss on the way is no number" in one_line_with_a_remedy(_judge_barrier(losses))


def test_strangers_have_drifted(siblings, tmp_path):
    others, _ = family(tmp_path, ARCHITECTURES["gpt2"](), drift=1.0, seed=1)
    findings = findings_by_check({"a": siblings[0]["a"], "other": others["b"]}, siblings[1])
    assert "'other' has left its base" in findings["drift"].sentence


def test_the_same_update_twice(copy, siblings):
    shutil.copy(copy["a"] / "model.safetensors", copy["c"])
    finding = findings_by_check(copy, siblings[1])["cosines"]
    assert finding.sentence == "the updates of 'a' and 'c' are the same; drop one of the two"


def test_a_barrier_is_a_rise_above_the_chord():
    t = [0.0, 0.25, 0.5, 0.75, 1.0]
    losses = pd.DataFrame([[4.0, 3.5, 3.0, 2.5, 2.0], [3.0, 2.5, 2.0, 2.5, 3.0]], ["a → b", "a → c"], t)
    assert _judge_barrier(losses).passed
    losses.loc["a → b", 0.5] *= 1 + 1.1 * BARRIER_LIMIT
    finding = _judge_barrier(losses)
    assert not finding.passed
    assert finding.sentence.startswith(f"a → b: the loss rises {1.1 * BARRIER_LIMIT:.0%} in between")


def test_models_from_different_seeds_have_a_barrier(tmp_path):
    """Two models trained on the same text from different random weights; siblings of one base have none."""
    ids = torch.arange(3, 35).repeat(4, 1)
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(ARCHITECTURES["qwen3"]())
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
        for _ in range(60):
            model(ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        save_model(model, tmp_path / f"seed {seed}")
    text = [" ".join(f"w{number}" for number in range(3, 35))]
    finding = failed([tmp_path / "seed 0", tmp_path / "seed 1"], texts=text)
    assert finding.check == "loss barrier"


def test_texts_and_tokenizer_are_needed_for_the_barrier(copy):
    assert "no text is longer than one token" in failed(copy, texts=["w1"]).sentence
    for folder in copy.values():
        for path in folder.glob("tokenizer*"):
            path.unlink()
    assert "stores no tokenizer" in failed(copy, texts=TEXTS).sentence
