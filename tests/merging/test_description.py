"""A bank travels in few words, is opened once by whoever gets them, and merges to the same numbers."""

import pickle
import shutil

import pytest
import torch

from demix_nb import resident
from demix_nb.merging import Bank
from demix_nb.merging.description import Description, live
from demix_nb.resident import Resident
from demix_nb.store import Refusal

MIXTURE = {"a": 0.2, "b": 0.3, "c": 0.5}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """A process that has opened nothing yet."""
    held = Resident(lambda: False)
    monkeypatch.setattr("demix_nb.merging.description.RESIDENT", held)
    monkeypatch.setattr(resident, "PATIENCE", 0.3)
    return held


@pytest.mark.parametrize("based", [True, False])
def test_what_travels_merges_to_the_same_numbers(folders, based):
    bank = Bank.load(folders[0], folders[1] if based else None)
    described = pickle.loads(pickle.dumps(Description.of(bank)))
    assert described.names == bank.names
    (here, model), (there, other) = (live(one, torch.float32, "cpu") for one in (bank, described))
    assert here is bank and there is not bank and (there.base is None) != based
    for one, to in ((here, model), (there, other)):
        one.write(to, MIXTURE)
    assert all(tensor.equal(other.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert there.key(MIXTURE) == bank.key(MIXTURE)


def test_it_is_opened_once_with_one_live_model(folders, fresh, monkeypatch):
    described, opened, plain = Description.of(Bank.load(*folders)), [], Bank.load
    monkeypatch.setattr(Bank, "load", lambda *given, **how: opened.append(1) or plain(*given, **how))
    first, again = (live(pickle.loads(pickle.dumps(described)), torch.float32, "cpu") for _ in range(2))
    assert len(opened) == 1 and first[0] is again[0] and first[1] is again[1]
    assert live(described, torch.bfloat16, "cpu")[1] is not first[1] and len(opened) == 1


def test_a_hundred_components_are_described_in_a_few_kilobytes(folders, tmp_path):
    components, base = folders
    for number in range(100):
        shutil.copytree(components["abc"[number % 3]], tmp_path / f"component-candidate_{number:03}")
    many = {f"candidate_{number:03}": tmp_path / f"component-candidate_{number:03}" for number in range(100)}
    assert len(pickle.dumps(Description.of(Bank.load(many, base)))) < 8_000


def test_folders_that_changed_meanwhile_are_refused(folders, tmp_path):
    folders = {name: shutil.copytree(folder, tmp_path / name) for name, folder in folders[0].items()}
    described = Description.of(Bank.load(folders))
    assert described.open("cpu").names == list(folders)
    resident_again = Description.of(Bank.load(folders))
    (folders["b"] / "model.safetensors").write_bytes((folders["b"] / "model.safetensors").read_bytes() + b" ")
    with pytest.raises(Refusal, match=r"does not see what the driver sees at .*same path"):
        resident_again._load("cpu")
