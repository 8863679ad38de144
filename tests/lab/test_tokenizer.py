"""A tokenizer that is kept: a candidate that comes or goes costs its own component, and nothing else."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from fixtures_texts import docs, jsonl, put
from tokenizers import Tokenizer, models

from demix_nb import lab
from demix_nb.lab import corpora as making
from demix_nb.lab import tokenizer as tokens
from demix_nb.lab.batches import streams
from demix_nb.mixtures import one_hot
from demix_nb.scoring import Suite
from demix_nb.store import Refusal
from demix_nb.study import Study

NAMES = ["general", "math", "poems"]
HOW = {"megabytes": 0.1, "vocab_size": 300, "heldout_kb": 4, "seed": 0}


def texts(folder, names):
    for name in names:
        seed = 1000 * (1 + sum(name.encode()))
        put(folder / f"{name}.jsonl", jsonl([f"{name} {text}" for text in docs(seed, 300)]))
    return folder


def train(run, folder, **how):
    """What notebook 01 does: corpora, base, components, their scores; returns the study."""
    data = making.build(run / "corpora", sources=folder, **HOW | how)
    study = Study.open(run, n_jobs=1)
    study["corpora"] = data.table
    setting = lab.Setting(
        {"hidden": 32, "layers": 1, "head_dim": 16, "context": 32}, general="general", beta=0.5, tokens=2560,
        learning_rate=5e-3, batch=256, schedule="cosine", base=run / "models" / "base",
    )  # fmt: skip
    tasks = lab.tasks(data.candidates, ["heldout"], steer="heldout", limit=4)
    setting.write(run, data.families, data.table["tokens"], tasks=tasks)
    lab.train_base(run, setting, tokens=2560, learning_rate=5e-3)
    study.train(study.corners, "component")
    return study


def trained(run):
    return {path.parent.name: path.stat().st_mtime_ns for path in (run / "models").glob("*/training.json")}


@pytest.fixture
def measured(monkeypatch):
    """Every row that a suite measured of a model, in order."""
    rows = []
    original = Suite.measure
    monkeypatch.setattr(Suite, "measure", lambda self, model, asked: rows.extend(asked) or original(self, model, asked))
    return rows


def changed(before, after):
    return {name for name, stamp in after.items() if before.get(name) != stamp}


@pytest.mark.parametrize("added", ["code", "zoo"])
def test_one_more_candidate_costs_its_own_component_and_one_less_nothing(added, tmp_path, measured):
    run, folder = tmp_path / "run", texts(tmp_path / "texts", NAMES)
    study = train(run, folder)
    study.measure(study.start)
    pair = pd.DataFrame({"half": {"general": 0.5, "math": 0.0, "poems": 0.5}}).T.rename_axis("mixture")
    study.train(pair, "reference")
    before, kept = trained(run), {"tokenizer": run / "corpora" / "tokenizer"}
    written = (kept["tokenizer"] / tokens.FILE).stat().st_mtime_ns
    assert len(before) == 5
    measured.clear()

    study = train(run, texts(folder, [*NAMES, added]), **kept)
    study.train(pair.assign(**{added: 0.0}), "reference")
    assert changed(before, trained(run)) == {f"component-{added}"}
    assert (kept["tokenizer"] / tokens.FILE).stat().st_mtime_ns == written
    study.measure(study.start)
    rows = [f"heldout_{name}" for name in study.candidates]
    assert sorted(measured) == sorted([*rows, *4 * [f"heldout_{added}"]]), "four old models, one row; one new one, all"

    before = trained(run)
    measured.clear()
    (folder / "poems.jsonl").unlink()
    study = train(run, folder, **kept)
    study.measure(study.start)
    assert trained(run) == before and measured == [] and "poems" not in study.candidates


def test_another_tokenizer_or_other_text_trains_what_reads_it(tmp_path):
    run, folder = tmp_path / "run", texts(tmp_path / "texts", NAMES)
    train(run, folder)
    before, kept = trained(run), {"tokenizer": run / "corpora" / "tokenizer"}
    with open(folder / "math.jsonl", "ab") as file:
        file.write(jsonl([f"math {text}" for text in docs(7, 20)]))
    train(run, folder, **kept)
    assert changed(before, trained(run)) == {"component-math"}
    before = trained(run)
    texts(folder, [*NAMES, "zoo"])
    train(run, folder)
    assert changed(before, trained(run)) == {"base", *(f"component-{name}" for name in [*NAMES, "zoo"])}


def test_a_candidate_that_goes_moves_no_other_one_s_stream(small_data):
    job = lab.Setting(
        {"hidden": 32, "layers": 1, "head_dim": 16, "context": 32}, "general", 0.5, 2560, 5e-3, 256, "cosine", "base"
    ).job("any", "any", one_hot(small_data.candidates, "math"), seed=3)  # fmt: skip
    drawn = {name: rng.integers(1 << 62) for name, rng in streams(job, small_data).items()}
    assert list(drawn) == [*small_data.candidates, making.SHUFFLING] and len(set(drawn.values())) == len(drawn)
    fewer = replace(small_data, families={"math": "math", "general": "general"})
    ours, less = streams(job, small_data), streams(job, fewer)
    assert all(ours[name].integers(1 << 62) == rng.integers(1 << 62) for name, rng in less.items())


def test_what_cannot_be_kept_is_refused_before_any_text_is_read(tmp_path):
    folder, run = texts(tmp_path / "texts", NAMES), tmp_path / "run"
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    Tokenizer(models.WordLevel({f"w{number}": number for number in range(300)}, "w0")).save(str(foreign / tokens.FILE))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / tokens.FILE).write_text(json.dumps({"version": "1.0"}))
    refused = {
        "nowhere": r"nowhere.*cannot be opened .*corpora/tokenizer of a run",
        "damaged": r"damaged.*cannot be opened",
        "foreign": r"no token <\|endoftext\|>, which closes documents",
    }
    for name, why in refused.items():
        with pytest.raises(Refusal, match=why):
            making.build(run, sources=folder, tokenizer=tmp_path / name, **HOW)
    with pytest.raises(Refusal, match="has 300 tokens, but vocab_size is 400; say vocab_size=300"):
        making.build(run, sources=folder, tokenizer=foreign, **HOW | {"vocab_size": 400})
    assert not run.exists()
