"""A study of a real model that nobody here trained: three components of it, through notebooks 02 to 08."""

import json

import pytest
import torch
import yaml
from commands import ALONE, Command
from fixtures_wheels import prepared
from test_own_studies import is_quiet
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import store

pytestmark = [pytest.mark.notebooks, pytest.mark.slow]
TEXTS = {
    "prose": "The river ran slowly past the old town, where people met on market days to talk about the harvest. ",
    "maths": "Let x be a number such that 3x + 7 = 22. Then 3x = 15, and so x = 5. Therefore the answer is 5. ",
    "python": "def add(a, b):\n    return a + b\n\nfor i in range(10):\n    print(add(i, 2 * i))\n",
}
HELDOUT = {
    "prose": "A narrow road led from the village to the sea, and the fishermen walked down it in the dark.",
    "maths": "Let n be even. Then n = 2k for some k, so n^2 = 4k^2, which is divisible by 4.",
    "python": "def total(items):\n    return sum(item.price for item in items)\n",
}
FEW = ("rounds=[12]", "methods=[linear, task_arithmetic]", "path_points=3")


def continued(base, text, folder):
    """Write the base after four steps on a text, as whoever has it would."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    read = tokenizer(text, return_tensors="pt").input_ids[:, :128]
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5)  # four times that throws it back: no warm-up
    for _ in range(4):
        model(input_ids=read, labels=read).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def study(tmp_path):
    """A study file of three components, each four steps from the real base, with its own tokenizer."""
    base = prepared()
    (tmp_path / "text").mkdir()
    for name, text in TEXTS.items():
        continued(base, text * 14, tmp_path / "ckpt" / name)
        (tmp_path / "text" / f"{name}.jsonl").write_text(json.dumps({"text": HELDOUT[name]}))
    content = {
        "candidates": {name: {"component": f"ckpt/{name}"} for name in TEXTS}, "base": str(base),
        "tasks": [{"heldout": "text"}], "window": 64, "model": {"dtype": "bfloat16"},
    }  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "study.yaml"


def test_a_real_model_goes_through_all_notebooks(study, tmp_path):
    given = [part for option in FEW for part in ("-p", option)]
    printed = Command(tmp_path / "run", "--study", str(study), *ALONE, *given).finish()
    assert "134,515,008" in (tmp_path / "run" / "notebooks" / "02_merging.ipynb").read_text()
    assert "[7/7] 08_playground" in printed
    is_quiet(tmp_path / "run")
    path = store.read(tmp_path / "run" / "tables" / "path_merged_scores.csv", "scores")
    assert path["heldout_prose"].between(0.5, 2.5).all(), "a real model of English, in bits per byte"
    assert path.iloc[0]["heldout_prose"] < path.iloc[-1]["heldout_prose"]
    answer = yaml.safe_load((tmp_path / "run" / "mixture.yaml").read_text())
    assert answer["evidence"] == "none" and set(answer["mixture"]) == set(TEXTS)
