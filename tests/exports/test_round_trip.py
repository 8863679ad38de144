"""The round trip: recipes exported, components trained elsewhere by hand, named in a study file, and searched."""

import itertools
import json
import runpy

import fixtures_models as models
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from demix_nb import search
from demix_nb.__main__ import main
from demix_nb.predictors import PREDICTORS
from demix_nb.running.given import Given
from demix_nb.study import Study

WORDS = {"web": range(3, 23), "maths": range(23, 43), "code": range(43, 63)}
LENGTHS = {"web": 8, "maths": 24, "code": 48}  # tokens of a document: shares of documents are not those of tokens
SEQUENCE, BATCH, STEPS = 16, 16, 60


def texts(name, count, rng):
    """Documents in which each word is followed by the next of its candidate's: something to learn."""
    words = list(WORDS[name])
    starts = rng.integers(0, len(words), count)
    return [" ".join(f"w{words[(start + place) % len(words)]}" for place in range(LENGTHS[name])) for start in starts]


@pytest.fixture
def desk(tmp_path):
    """A team's desk: text of three candidates, a base, the file of paths, and a study file without components."""
    rng = np.random.default_rng(0)
    for folder, count in (("text", 400), ("heldout", 8)):
        (tmp_path / folder).mkdir()
        for name in WORDS:
            lines = [json.dumps({"text": text}) for text in texts(name, count, rng)]
            (tmp_path / folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    models.family(tmp_path / "start", models.ARCHITECTURES["qwen3"](), names=())
    places = {name: {"path": str(tmp_path / "text" / f"{name}.jsonl"), "document_tokens": length}
              for name, length in LENGTHS.items()}  # fmt: skip
    (tmp_path / "paths.yaml").write_text(yaml.safe_dump(places))
    content = {"candidates": {name: {} for name in WORDS}, "general": "web", "beta": 0.5}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def trained(base, documents):
    """A plain loop: words to tokens, packed, AdamW; returns the model and how many tokens of each candidate it read."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    epochs = itertools.repeat(documents)  # the data end when every source has been read through: begin again
    stream = (int(word[1:]) for epoch in epochs for document in epoch for word in document["text"].split())
    read = dict.fromkeys(WORDS, 0)
    for _ in range(STEPS):
        batch = torch.tensor([[next(stream) for _ in range(SEQUENCE)] for _ in range(BATCH)])
        for name, words in WORDS.items():
            read[name] += int(((batch >= words.start) & (batch < words.stop)).sum())
        model(input_ids=batch, labels=batch).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return model, read


@pytest.mark.slow
def test_a_recipe_goes_out_and_comes_back_as_a_component(desk, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(desk / "hf"))
    exported = ["export", str(desk / "study.yaml"), "--all", "--to", "hf", "--data", str(desk / "paths.yaml")]
    assert main([*exported, "-o", str(desk / "out")]) == 0
    for name in WORDS:
        documents = runpy.run_path(str(desk / "out" / f"component-{name}" / "mixture.py"))["train"](streaming=True)
        model, read = trained(desk / "start" / "base", documents)
        recipe = {one: 0.5 * (one == "web") + 0.5 * (one == name) for one in WORDS}
        shares = {one: count / sum(read.values()) for one, count in read.items()}
        assert shares == pytest.approx(recipe, abs=0.06), "the tokens that were read are the recipe's"
        models.save_model(model, desk / "components" / name)
    study = yaml.safe_load((desk / "study.yaml").read_text())
    study |= {"components": "components", "base": "start/base", "tasks": [{"heldout": "heldout"}], "window": 16}
    (desk / "study.yaml").write_text(yaml.safe_dump(study))
    scores, winner, seen = searched(desk / "study.yaml")
    assert scores["maths"].idxmin() == "maths" and scores["code"].idxmin() == "code", "each knows its own best"
    assert winner.mean() < seen.mean(axis=1).mean(), "what was found is better than what was drawn"


def searched(path):
    """Open the study, search it with merged proxies; return scores of its components, the winner, and all drawn."""
    given = Given.open(path)
    given.install(given.folder)
    study = Study.open(given.folder, n_jobs=1)
    proxy, tasks = study.proxy("merged"), study.suite.tasks
    model = PREDICTORS["ridge"].new(rng=np.random.default_rng(0))
    found = search.run("demix", proxy, study.region, model, tasks, rng=np.random.default_rng(0),
                       sizes=(12, 6), pool=500, top_k=16)  # fmt: skip
    assert study.region.holds(found.winner.to_frame("winner").T).all()
    named = pd.concat([study.corners, found.winner.to_frame("winner").T]).rename_axis("mixture")
    scores = proxy(named).scores.rename(columns=lambda task: task.removeprefix("heldout_"))
    return scores.loc[study.candidates], scores.loc["winner"], found.scored.scores
