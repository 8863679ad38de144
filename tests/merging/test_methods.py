"""Merge methods against closed forms and against mergekit, the tool that people use."""

import math

import numpy as np
import pytest
import torch

from demix_nb.merging.methods import METHODS, linear
from demix_nb.merging.sparse import drop_, elect, magnitude, trim_
from demix_nb.merging.sphere import karcher, multislerp
from demix_nb.store import Refusal

SHAPES = [(33,), (16, 33), (4, 5, 6)]
WEIGHTS = [0.2, 0.5, 0.3]
MERGEKIT_NAME = {"della_ties": "della"}


def points_around(base: torch.Tensor, count: int = 3) -> list[torch.Tensor]:
    return [base + 0.1 * torch.randn(base.shape, dtype=base.dtype) for _ in range(count)]


def example(shape=(16, 33), dtype=torch.float32, seed=0) -> tuple[list[torch.Tensor], torch.Tensor]:
    torch.manual_seed(seed)
    base = torch.randn(shape, dtype=dtype)
    return points_around(base), base


@pytest.fixture
def mergekit():
    return pytest.importorskip("mergekit.merge_methods.api", reason="mergekit is not installed: pip install mergekit")


def by_mergekit(api, points, base, method, **parameters) -> torch.Tensor:
    return api.merge_tensors(
        [base, *points], MERGEKIT_NAME.get(method, method), parameters={"weight": WEIGHTS, **parameters}, base_index=0
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "breadcrumbs", "breadcrumbs_ties", "multislerp"])
def test_agrees_with_mergekit(mergekit, method, shape):
    points, base = example(shape)
    settings = dict(METHODS[method].options)
    expected = by_mergekit(mergekit, points, base, method, **settings)
    torch.testing.assert_close(METHODS[method](points, WEIGHTS, base), expected, rtol=0, atol=1e-5)


def test_linear_agrees_with_mergekit(mergekit):
    points, _ = example()
    expected = mergekit.merge_tensors(points, "linear", parameters={"weight": WEIGHTS})
    torch.testing.assert_close(linear(points, WEIGHTS), expected, rtol=0, atol=1e-6)


def test_karcher_agrees_with_mergekit(mergekit):
    from mergekit.merge_methods.karcher import karcher_merge_tensors

    points, base = example()
    updates = [point - base for point in points]
    expected = base + karcher_merge_tensors(updates, WEIGHTS, max_iter=1000, tol=1e-6)
    torch.testing.assert_close(METHODS["karcher"](points, WEIGHTS, base), expected, rtol=0, atol=1e-5)
    # as its users call it: equal weights, on the weights themselves
    equal = mergekit.merge_tensors(points, "karcher")
    torch.testing.assert_close(mean_of(karcher, points, [1 / 3] * 3), equal, rtol=0, atol=1e-5)


def shared_masks(monkeypatch, seed: int) -> None:
    """Let mergekit draw its masks from our generator."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(
        "mergekit.sparsify.torch.bernoulli",
        lambda chance: (torch.from_numpy(rng.random(tuple(chance.shape), dtype=np.float32)) < chance).to(chance.dtype),
    )


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "della_linear", "della_ties"])
def test_random_methods_agree_with_mergekit_under_a_shared_mask(mergekit, monkeypatch, method):
    """Our one difference is the rescaling (by the chance to be kept, not to the old L1 norm), so it is undone here."""
    from mergekit.merge_methods import generalized_task_arithmetic as inside

    points, base = example()
    settings = dict(METHODS[method].options)
    calls, rng = [], np.random.default_rng(5)
    original = inside.sparsify

    def rescaled_as_published(delta, **given):
        calls.append(original(delta, **(given | {"rescale_norm": None})))
        ours = drop_(delta.clone(), **settings, rng=rng)
        torch.testing.assert_close((ours != 0).float() * delta, calls[-1])  # the same numbers survive
        return ours

    shared_masks(monkeypatch, 5)
    monkeypatch.setattr(inside, "sparsify", rescaled_as_published)
    expected = by_mergekit(mergekit, points, base, method, **settings)
    assert len(calls) == len(points)
    result = METHODS[method](points, WEIGHTS, base, rng=np.random.default_rng(5))
    torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", ["dare_linear", "della_linear"])
def test_random_methods_agree_with_mergekit_in_distribution(mergekit, method):
    points, base = example((40, 50))
    draws, settings = 200, dict(METHODS[method].options)
    ours = torch.stack([METHODS[method](points, WEIGHTS, base, rng=np.random.default_rng(s)) for s in range(draws)])
    torch.manual_seed(0)
    theirs = torch.stack([by_mergekit(mergekit, points, base, method, **settings) for _ in range(draws)])
    noise = (ours.var(0) / draws + theirs.var(0) / draws).sqrt().clamp_min(1e-7)
    gap = (ours.mean(0) - theirs.mean(0)) / noise
    assert gap.pow(2).mean() < 1.2  # 1 if the means are equal, of a chi-square over 2000 numbers
    assert ours.var(0).sum() / theirs.var(0).sum() == pytest.approx(1, abs=0.03)


def test_drop_keeps_the_mean():
    update = torch.linspace(-1, 1, 200)
    for settings in ({"density": 0.5}, {"density": 0.5, "epsilon": 0.2}):
        mean = sum(drop_(update.clone(), **settings, rng=np.random.default_rng(seed)) for seed in range(2000)) / 2000
        torch.testing.assert_close(mean, update, rtol=0, atol=0.12)  # five standard errors


def test_della_keeps_large_numbers_more_often():
    update = torch.linspace(0.1, 1, 1000)
    kept = sum(
        (drop_(update.clone(), density=0.5, epsilon=0.4, rng=np.random.default_rng(s)) != 0).float() for s in range(200)
    )
    chance = kept / 200
    assert chance[:100].mean() == pytest.approx(0.14, abs=0.02)
    assert chance[-100:].mean() == pytest.approx(0.86, abs=0.02)


def test_drop_refuses_chances_outside_the_unit_interval():
    with pytest.raises(Refusal, match="choose a smaller epsilon"):
        drop_(torch.ones(4), density=0.9, epsilon=0.2, rng=np.random.default_rng(0))


def test_trim_by_hand():
    update = torch.tensor([[0.1, -5.0, 0.2], [3.0, -0.3, 0.0]])
    assert trim_(update.clone(), density=0.5).tolist() == [[0, -5, 0], [3, torch.tensor(-0.3).item(), 0]]
    assert trim_(update.clone(), density=0.5, gamma=0.17).tolist()[0][1] == 0  # the largest is an outlier
    assert trim_(update.clone(), density=1.0).equal(update)


def test_trim_keeps_all_equal_magnitudes():
    update = torch.tensor([1.0, -1.0, 1.0, 0.5])
    assert trim_(update.clone(), density=0.25).tolist() == [1, -1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_magnitudes_counted_by_digits_are_those_of_a_sort(monkeypatch, dtype):
    torch.manual_seed(0)
    update = torch.cat([torch.randn(500, dtype=dtype) * 10.0 ** torch.randint(-30, 30, (500,)), torch.zeros(7)])
    update[:40] = update[40:80]  # equal magnitudes
    expected = update.abs().sort().values
    monkeypatch.setattr("demix_nb.merging.sparse.BLOCK", 64)
    for rank in (1, 7, 8, 100, 333, 507):
        assert magnitude(update, rank).equal(expected[rank - 1])


def test_elect_by_hand():
    updates = [torch.tensor([1.0, 1.0, 0.0]), torch.tensor([-3.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])]
    weights = [0.25, 0.25, 0.5]  # mass at the first number: 0.25 − 0.75 + 0.5 = 0, and a draw is positive
    assert elect(updates, weights).tolist() == [0.75, 0.75, 0]
    assert elect(updates, weights, average=True).tolist() == [1, 1.5, 0]


def test_ties_without_conflict_or_trimming_is_task_arithmetic():
    _, base = example()
    points = [base + torch.rand_like(base) + 0.1 for _ in range(3)]
    torch.testing.assert_close(
        METHODS["ties"](points, WEIGHTS, base, density=1.0), METHODS["task_arithmetic"](points, WEIGHTS, base)
    )


def mean_of(mean, points, weights) -> torch.Tensor:
    """The point that a mean's coefficients stand for."""
    return linear(points, mean(points, weights))


def test_multislerp_is_the_published_walk_on_the_sphere():
    """The walk of mergekit's blog, word for word in float64: its tangent step is zero, as the docstring claims."""
    points, _ = example(dtype=torch.float64)
    flat, weights = torch.stack(points).flatten(1), torch.tensor(WEIGHTS, dtype=torch.float64)
    lengths = flat.norm(dim=1, keepdim=True)
    unit = flat / lengths
    mean = weights @ unit
    mean = mean / mean.norm()
    tangent = weights @ (unit - (unit @ mean)[:, None] * mean)
    assert tangent.norm() < 1e-12
    step = tangent.norm() + 1e-300
    expected = (mean * step.cos() + tangent * step.sin() / step) * (weights @ lengths[:, 0])
    torch.testing.assert_close(mean_of(multislerp, points, WEIGHTS).flatten(), expected)


def test_karcher_has_no_pull_left():
    """The mean is where the weighted logarithms cancel."""
    points, _ = example(dtype=torch.float64)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    unit = torch.stack(points).flatten(1)
    lengths, unit = unit.norm(dim=1), unit / unit.norm(dim=1, keepdim=True)
    result = mean_of(karcher, points, WEIGHTS).flatten()
    assert result.norm().item() == pytest.approx((weights @ lengths).item())
    mean = result / result.norm()
    angle = (unit @ mean).arccos()
    logs = (angle / angle.sin())[:, None] * (unit - (unit @ mean)[:, None] * mean)
    assert (weights @ logs).norm() < 1e-8


def test_karcher_of_two_is_slerp():
    u, v = torch.tensor([2.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 2.0], dtype=torch.float64)
    angle = 0.25 * math.pi / 2
    assert mean_of(karcher, [u, v], [0.75, 0.25]).tolist() == pytest.approx([2 * math.cos(angle), 2 * math.sin(angle)])


@pytest.mark.parametrize("mean", [multislerp, karcher])
def test_no_direction_between_opposites(mean):
    with pytest.raises(Refusal, match=r"cancel.*use linear"):
        mean([torch.ones(3), -torch.ones(3)], [0.5, 0.5])


@pytest.mark.parametrize("mean", [multislerp, karcher])
def test_the_mean_of_zeros_is_zero(mean):
    assert mean_of(mean, [torch.zeros(3), torch.zeros(3)], [0.5, 0.5]).tolist() == [0, 0, 0]
    assert mean_of(mean, [torch.zeros(2), torch.tensor([3.0, 4.0])], [0.5, 0.5]).tolist() == pytest.approx([1.5, 2.0])
