"""Models are opened in one dtype on one device; no model, row or part of a killed run is measured twice."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_models import ENDS, family
from fixtures_proxies import ROWS, Words
from transformers import DeepseekV3Config

from demix_nb import sources
from demix_nb.merging import Bank
from demix_nb.region import Region
from demix_nb.sources import Checkpoint, Checkpoints, Merges, Store
from demix_nb.store import Refusal, folder_hash

NAMES = ["a", "b", "c"]
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU on this machine")
CORNERS = pd.DataFrame(np.eye(3), NAMES, NAMES)


@pytest.fixture
def mixtures(rng):
    return Region(NAMES).draw(4, rng=rng, prefix="p")


def named(suite, *rows):
    """The same suite with these rows only, and nothing asked of it yet."""
    return Words({row: suite.rows[row] for row in rows})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=GPU)])
def test_a_corner_is_its_component_in_every_dtype_on_every_device(folders, bank, tmp_path, dtype, device):
    suite, store = Words(), Store(tmp_path, n_jobs=1, dtype=dtype, device=device)
    merged, stored = store.scores(Merges(bank, CORNERS), suite), store.scores(Checkpoints(folders[0]), suite)
    pd.testing.assert_frame_equal(merged, stored, check_exact=True)
    store.logs(Checkpoints(folders[0]), suite, suite.mixable)
    assert {asked[2] for asked in suite.asked} == {f"torch.{dtype}"}
    assert {asked[3].split(":")[0] for asked in suite.asked} == {device}


@GPU
@pytest.mark.parametrize("method", ["linear", "ties", "dare_linear", "della_linear"])
def test_a_gpu_scores_merges_as_the_processor_does(bank, mixtures, tmp_path, method):
    suite = Words(written=())
    here, there = (
        Store(tmp_path, 1, device=device).scores(Merges(bank, mixtures, method), suite) for device in ("cpu", "cuda")
    )
    pd.testing.assert_frame_equal(here, there, rtol=1e-4)


def test_what_transformers_keeps_wider_is_opened_as_merged(tmp_path):
    """DeepSeek-V3 routes by a bias that stays float32 on loading; a merge has one dtype throughout."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "q_lora_rank": 8, "kv_lora_rank": 8}
    heads |= {"qk_rope_head_dim": 8, "v_head_dim": 8, "qk_nope_head_dim": 8, "hidden_size": 16, "num_hidden_layers": 2}
    experts = {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    }
    config = DeepseekV3Config(**ENDS, **heads, **experts, intermediate_size=24, moe_intermediate_size=8)
    found, _ = family(tmp_path, config)
    source = Merges(Bank.load(found), CORNERS)
    for (_, merged), (_, opened) in zip(
        source.open(NAMES, "bfloat16", "cpu"), Checkpoints(found).open(NAMES, "bfloat16", "cpu"), strict=True
    ):
        ours, theirs = merged.state_dict(), opened.state_dict()
        assert ours.keys() == theirs.keys() and all(ours[key].equal(theirs[key]) for key in ours)
        assert {tensor.dtype for tensor in theirs.values()} == {torch.bfloat16}


def test_dtype_and_class_of_device_belong_to_the_key(folders, tmp_path):
    source = Checkpoints(folders[0])
    how = [("float32", "cpu"), ("bfloat16", "cpu"), ("float32", "cuda"), ("float32", "mps")]
    keys = [Store(tmp_path, dtype=dtype, device=device).key(source, "a") for dtype, device in how]
    assert len(set(keys)) == len(how) and source.key("a") == folder_hash(folders[0]["a"])
    assert Store(tmp_path, device="cuda:1").key(source, "a") == keys[2], "which of the GPUs it was decides nothing"
    suite, stored = named(Words(), "counts"), [Store(tmp_path, n_jobs=1, dtype=dtype) for dtype, _ in how[:2]]
    wide, narrow = (store.scores(source, suite) for store in stored)
    assert len(suite.asked) == 6 and not (wide == narrow).any(axis=None)


def test_a_row_that_is_added_is_measured_alone(folders, tmp_path):
    store, source, suite = Store(tmp_path, n_jobs=1), Checkpoints(folders[0]), Words()
    few = store.scores(source, named(suite, "counts", "writes"))
    every = store.scores(source, suite)
    assert [asked[1] for asked in suite.asked] == [["turns"]] * 3
    assert list(every) == list(ROWS) and every[list(few)].equals(few)
    pd.testing.assert_frame_equal(every, Store(tmp_path / "new", n_jobs=1).scores(source, suite), check_exact=True)


def test_a_row_that_changed_is_measured_again_and_one_renamed_is_not(folders, tmp_path):
    store, source = Store(tmp_path, n_jobs=1), Checkpoints(folders[0])
    first = store.scores(source, Words({"one": [5, 9, 13], "two": [3, 4, 5]}, ()))
    suite = Words({"uno": [5, 9, 13], "two": [3, 4, 6]}, ())
    second = store.scores(source, suite)
    assert [asked[1] for asked in suite.asked] == [["two"]] * 3
    assert second["uno"].equals(first["one"].rename("uno")) and not (second["two"] == first["two"]).any()


@pytest.mark.parametrize("verb", ["scores", "logs"])
def test_a_component_that_is_added_is_read_alone(folders, tmp_path, verb):
    store, suite, rows = Store(tmp_path, n_jobs=1), Words(), ["counts", "turns"]
    few, every = (Checkpoints({name: folders[0][name] for name in names}) for names in ("ab", "cab"))
    before = getattr(store, verb)(few, suite, rows)
    suite.asked.clear()
    after = getattr(store, verb)(every, suite, rows)
    assert len(suite.asked) == 1
    columns = slice(1, None)
    for row in rows:
        assert np.array_equal(np.atleast_2d(after[row])[:, columns], np.atleast_2d(before[row]))


def test_a_model_is_opened_once_for_all_its_rows(folders, tmp_path, monkeypatch):
    opened, plain = [], Checkpoint.open
    monkeypatch.setattr(Checkpoint, "open", lambda self, *how: opened.append(self.folder.name) or plain(self, *how))
    Store(tmp_path, n_jobs=1).scores(Checkpoints(folders[0]), Words())
    Store(tmp_path, n_jobs=1).scores(Checkpoints(folders[0]), Words())
    assert opened == NAMES


def test_an_interrupted_run_keeps_what_it_measured(bank, mixtures, tmp_path, monkeypatch):
    honest, calls = Words.measure, []

    def cut(self, model, rows):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(self, model, rows)

    monkeypatch.setattr(Words, "measure", cut)
    store = Store(tmp_path, n_jobs=1)
    with pytest.raises(KeyboardInterrupt):
        store.scores(Merges(bank, mixtures), Words())
    store.scores(Merges(bank, mixtures), Words())
    assert len(calls) == 3 + 2, "two were kept, two of four remained"


def test_workers_and_order_change_nothing(bank, mixtures, tmp_path):
    """One worker and two agree bit for bit: models below ten million numbers have one thread in either case."""
    one = Store(tmp_path / "1", n_jobs=1).scores(Merges(bank, mixtures), Words())
    two = Store(tmp_path / "2", n_jobs=2).scores(Merges(bank, mixtures.iloc[::-1]), Words())
    assert list(two.index) == list(mixtures.index[::-1])
    pd.testing.assert_frame_equal(one, two.loc[one.index], check_exact=True)


@pytest.mark.parametrize(("size", "heavy"), [(9_999_999, False), (10_000_000, True)])
def test_models_travel_one_by_one_and_large_ones_share_the_cores(folders, tmp_path, monkeypatch, size, heavy):
    given = []

    def fan_out(work, calls, **how):
        given.append(([name for name, _, _ in calls], how["heavy"]))
        return [work(*call) for call in calls]

    monkeypatch.setattr(sources, "fan_out", fan_out)
    monkeypatch.setattr(Checkpoints, "size", size)
    source = Checkpoints({f"copy {number}": folders[0]["a"] for number in range(7)})
    Store(tmp_path).scores(source, named(Words(), "counts"))
    assert given == [(source.names, heavy)]


@pytest.mark.parametrize("kind", ["merges", "checkpoints"])
def test_what_travels_is_small_and_opens_to_the_same_model(bank, folders, mixtures, kind):
    source = Merges(bank, mixtures) if kind == "merges" else Checkpoints(folders[0])
    for name, model in source.open(source.names, "float32", "cpu"):
        content = pickle.dumps(source.part(name, travels=True))
        other = pickle.loads(content).open("float32", "cpu")
        assert len(content) < 1_000
        assert all(tensor.equal(other.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_a_source_knows_the_size_of_its_models(folders, bank, mixtures):
    assert Merges(bank, mixtures).size == bank.size
    assert bank.size <= Checkpoints(folders[0]).size <= 1.3 * bank.size, "and the header of its file"


def test_mended_merges_scale_the_updates(folders, bank, mixtures):
    """Θ_base + c·Σ αᵢ^p τᵢ, number by number."""
    (name, *_), start = (
        mixtures.index,
        dict(next(Checkpoints({"base": folders[1]}).open(["base"], "float32", "cpu"))[1].state_dict()),
    )
    source = Merges(bank, mixtures, "task_arithmetic", power=0.5, scale=1.5)
    ((_, model),) = source.open([name], "float32", "cpu")
    flat = {key: one.state_dict() for key, one in Checkpoints(folders[0]).open(NAMES, "float32", "cpu")}
    for key, base in start.items():
        updates = [mixtures.loc[name, each] ** 0.5 * (flat[each][key] - base) for each in NAMES]
        torch.testing.assert_close(model.state_dict()[key], base + 1.5 * sum(updates), rtol=1e-5, atol=1e-6)
    assert source.key(name) != Merges(bank, mixtures, "task_arithmetic").key(name)


def test_what_a_suite_refuses_names_the_model(folders, tmp_path, monkeypatch):
    def refuse(self, model, rows):
        raise Refusal("the weights are not finite")

    monkeypatch.setattr(Words, "measure", refuse)
    with pytest.raises(Refusal, match="a: the weights are not finite"):
        Store(tmp_path, n_jobs=1).scores(Checkpoints(folders[0]), Words())


def test_a_damaged_cache_file_is_named(folders, tmp_path):
    store, source = Store(tmp_path, n_jobs=1), Checkpoints({"a": folders[0]["a"]})
    store.scores(source, Words())
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text().replace("scores", "score"))
    with pytest.raises(Refusal, match=rf"{path.name} is damaged.*delete it"):
        store.scores(source, Words())
