"""What every row of METHODS keeps, whoever adds it: a new row is tested by being in the table."""

import tracemalloc

import numpy as np
import pytest
import torch
from fixtures_models import ARCHITECTURES, SIZES, family
from safetensors.torch import load_file
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM, LlamaConfig

from demix_nb.merging import METHODS, Bank, Method
from demix_nb.merging.folders import Checkpoint
from demix_nb.store import Refusal

MIXTURE = {"a": 0.2, "b": 0.5, "c": 0.3}
WEIGHTS = list(MIXTURE.values())
RANDOM = [name for name, row in METHODS.items() if row.random]
PLAIN = [name for name, row in METHODS.items() if not row.random]
UPDATES = [name for name, row in METHODS.items() if row.updates]
every = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module", params=["llama", "qwen3_moe"])
def folders(request, tmp_path_factory):
    return family(tmp_path_factory.mktemp(request.param), ARCHITECTURES[request.param]())


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return Bank.load(*family(tmp_path_factory.mktemp("llama"), ARCHITECTURES["llama"]()))


def example(shape=(16, 33)) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Three points around a base."""
    torch.manual_seed(0)
    base = torch.randn(shape)
    return [base + 0.1 * torch.randn(shape) for _ in WEIGHTS], base


def seeded(method: str, seed: int = 0) -> dict:
    return {"rng": np.random.default_rng(seed)} if METHODS[method].random else {}


def merged(method: str, points, weights, base, **how) -> torch.Tensor:
    return METHODS[method](points, weights, base, **seeded(method), **how)


def equal(these: dict, those: dict) -> bool:
    return these.keys() == those.keys() and all(these[name].equal(those[name]) for name in these)


# --- facts: each is true, and none is understated ---------------------------------------------------------------------


def test_labels_tell_rows_apart_and_papers_are_links():
    assert len({row.label for row in METHODS.values()}) == len(METHODS)
    assert all(row.label and row.paper.startswith("https://") for row in METHODS.values())


@every
def test_a_scale_is_kept_where_the_row_says_so(method):
    points, base = example()
    update = merged(method, points, WEIGHTS, base) - base
    doubled = merged(method, points, [2 * weight for weight in WEIGHTS], base) - base
    assert torch.allclose(doubled, 2 * update, rtol=1e-5, atol=1e-6) == METHODS[method].keeps_scale


@every
def test_numbers_are_merged_one_by_one_where_the_row_says_so(method):
    points, base = example()
    whole = merged(method, points, WEIGHTS, base)[:, :5]
    part = merged(method, [point[:, :5].contiguous() for point in points], WEIGHTS, base[:, :5].contiguous())
    assert whole.equal(part) == METHODS[method].elementwise


@every
def test_a_seed_decides_where_the_row_says_so(llama, method):
    first, second, again = (llama.merge(MIXTURE, method, rng=np.random.default_rng(seed)) for seed in (0, 1, 0))
    assert equal(first, again)
    assert equal(first, second) != METHODS[method].random
    keys = [llama.key(MIXTURE, method, rng=np.random.default_rng(seed)) for seed in (0, 1, 0)]
    assert keys[0] == keys[2] and (keys[0] == keys[1]) != METHODS[method].random


@pytest.mark.parametrize("method", RANDOM)
def test_without_a_seed_random_rows_are_refused(llama, method):
    for ask in (lambda: llama.write(llama.model(), MIXTURE, method), lambda: llama.key(MIXTURE, method)):
        with pytest.raises(Refusal, match=rf"{method} drops numbers at random; pass rng=np.random.default_rng\(seed\)"):
            ask()


def coin_(update: torch.Tensor, *, stake: float, rng: np.random.Generator) -> torch.Tensor:
    """Double each number or lose it; nobody's method, known to this test alone."""
    return update.mul_(torch.from_numpy(rng.random(tuple(update.shape)) < stake).to(update) / stake)


def test_a_second_random_way_to_thin_is_one_row(llama, monkeypatch):
    coin = Method("coin", "https://example.org", sparsify=coin_, options={"stake": 0.5}, random=True)
    monkeypatch.setitem(METHODS, "coin", coin)
    test_without_a_seed_random_rows_are_refused(llama, "coin")
    test_a_seed_decides_where_the_row_says_so(llama, "coin")
    test_arguments_stay_as_they_are("coin")
    assert equal(llama.merge(MIXTURE, "coin", **seeded("coin"), stake=1.0), llama.merge(MIXTURE, "task_arithmetic"))
    with pytest.raises(Refusal, match="coin takes no option 'density', only stake, scale"):
        llama.merge(MIXTURE, "coin", **seeded("coin"), density=0.5)


# --- relations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("residency", ["stacked", "streamed"])
@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.sparsify is None])
def test_a_corner_is_its_component_bit_for_bit(folders, method, residency):
    bank = Bank.load(*folders, residency)
    model = bank.model()
    for name, folder in folders[0].items():
        bank.write(model, {name: 1.0}, method)
        component = AutoModelForCausalLM.from_pretrained(folder).state_dict()
        assert equal(dict(model.state_dict()), dict(component))
        assert equal(bank.merge({name: 1.0}, method), load_file(folder / "model.safetensors"))


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.sparsify])
def test_a_corner_is_its_thinned_update(method):
    points, base = example()
    row = METHODS[method]
    thinned = row.sparsify(points[0] - base, **row.options, **seeded(method))
    assert (thinned == 0).any()
    torch.testing.assert_close(merged(method, points[:1], [1.0], base), base + thinned, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", PLAIN)
def test_order_does_not_matter(method):
    """Random masks are drawn in order; after the mask, those rows combine as these do."""
    points, base = example()
    there, back = (merged(method, points[::step], WEIGHTS[::step], base) for step in (1, -1))
    torch.testing.assert_close(there, back, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", PLAIN)
def test_equal_components_merge_to_what_one_merges_to_alone(method):
    points, base = example()
    alone, together = merged(method, points[:1], [1.0], base), merged(method, points[:1] * 3, WEIGHTS, base)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("method", PLAIN)
def test_no_merge_is_farther_from_the_base_than_its_components(method):
    """No number of it, or, where directions are averaged, not all of it together."""
    points, base = example()
    updates, result = torch.stack(points) - base, merged(method, points, WEIGHTS, base) - base
    by_number = (result.abs() <= updates.abs().amax(0) + 1e-6).all()
    assert by_number or result.norm() <= updates.flatten(1).norm(dim=1).max()


@pytest.mark.parametrize("method", UPDATES)
def test_components_that_did_not_move_merge_to_the_base(method):
    _, base = example()
    assert merged(method, [base, base, base], WEIGHTS, base).equal(base)


@pytest.mark.parametrize("method", UPDATES)
def test_scale_stretches_the_update(method):
    points, base = example()
    once, twice = (merged(method, points, WEIGHTS, base, scale=scale) - base for scale in (1.0, 2.0))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-5, atol=1e-6)


@every
def test_arguments_stay_as_they_are(method):
    points, base = example()
    before = [point.clone() for point in [*points, base]]
    merged(method, points, WEIGHTS, base)
    assert all(a.equal(b) for a, b in zip(before, [*points, base], strict=True))


@pytest.mark.parametrize("method", PLAIN)
def test_a_bank_merges_tensor_by_tensor_as_the_row_does(llama, method):
    stored = [load_file(folder / "model.safetensors") for folder in [*llama.directories.values(), llama.base]]
    for name, tensor in llama.merge(MIXTURE, method).items():
        *points, base = (state[name] for state in stored)
        assert tensor.equal(merged(method, points, WEIGHTS, base))


# --- blocks and memory ------------------------------------------------------------------------------------------------


@every
def test_blocks_of_any_size_give_the_same_bits_from_memory_and_from_disk(folders, method, monkeypatch):
    def everything(residency):
        bank = Bank.load(*folders, residency)
        model = bank.model()
        bank.write(model, MIXTURE, method, **seeded(method))
        yield from (tensor.clone() for tensor in model.parameters())
        yield from bank.merge(MIXTURE, method, **seeded(method)).values()

    whole = list(everything("stacked"))
    sizes = {"bank.BLOCK": 7, "bank.READ_BLOCK": 40, "sparse.BLOCK": 33, "sparse.DIGIT": 8, "sphere.BLOCK": 33}
    for name, numbers in sizes.items():
        monkeypatch.setattr(f"demix_nb.merging.{name}", numbers)
    slack = 1e-6 if METHODS[method].reweigh else 0  # by dot products, whose sums change with the order
    for residency in ("stacked", "streamed"):
        for expected, tensor in zip(whole, everything(residency), strict=True):
            torch.testing.assert_close(tensor, expected, rtol=slack, atol=slack)


@pytest.fixture(scope="module")
def wide_family(tmp_path_factory):
    """One tensor of 2²⁰ numbers and little else, in bfloat16, so that whatever is widened shows."""
    config = LlamaConfig(**SIZES | {"hidden_size": 128, "vocab_size": 1 << 13, "tie_word_embeddings": True})
    return family(tmp_path_factory.mktemp("wide"), config, dtype=torch.bfloat16)


def peak_bytes(work) -> int:
    """The most that torch and numpy held at once beyond what they held before, temporary values inside torch too."""
    tracemalloc.start()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    by_numpy = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    return (
        int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())
        + by_numpy
    )


@every
def test_a_streamed_merge_holds_one_tensor_more_than_there_are_components(wide_family, method, monkeypatch):
    """(K + 1) tensors in float32 beside the mapped files, and a few blocks, whose size is not the tensor's."""
    bank = Bank.load(*wide_family, "streamed")
    mapped = {(row.directory, name): row.read(name) for row in bank.rows for name in row.files}
    monkeypatch.setattr(Checkpoint, "read", lambda self, name, rows=None: mapped[self.directory, name])
    for module in ("sparse", "sphere"):
        monkeypatch.setattr(f"demix_nb.merging.{module}.BLOCK", 1 << 16)
    model, tensor, blocks = bank.model(), 4 << 20, 2 << 20  # bytes
    peak = peak_bytes(lambda: bank.write(model, MIXTURE, method, **seeded(method)))
    assert tensor < peak <= (len(MIXTURE) + 1) * tensor + blocks
