"""Packed probabilities score mixtures as mixed proxies do, but for a stated rounding; what does not fit is not kept."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from demix_nb import packed
from demix_nb.packed import Packed

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def answers(rng):
    """Log-probabilities as small models' are: of a common difficulty, each component better at some of it."""
    logs = {}
    for row, tokens in (("short", 500), ("long", 3000)):
        alike = -rng.exponential(3, (tokens, 1))
        logs[row] = np.minimum(alike + rng.normal(0, 0.8, (tokens, len(NAMES))), -1e-3)
    return SimpleNamespace(names=NAMES, logs=logs, sizes={"short": 1100, "long": 6400})


@pytest.fixture
def mixtures(rng):
    shares = np.r_[rng.dirichlet(np.full(5, 0.5), 200), np.eye(5)]
    return pd.DataFrame(shares, [f"m{i}" for i in range(205)], NAMES)


def exact(answers, mixtures):
    bits = {row: -np.log(np.exp(logs) @ mixtures.to_numpy().T).sum(axis=0) / (answers.sizes[row] * math.log(2))
            for row, logs in answers.logs.items()}  # fmt: skip
    return pd.DataFrame(bits, mixtures.index)


def test_scores_are_those_of_mixing_to_a_thousandth_of_a_bit(answers, mixtures):
    found, wanted = Packed.of(answers).scores(mixtures), exact(answers, mixtures)
    assert np.abs(found - wanted).max(axis=None) < 1e-3 < 100 * 1e-3 < (wanted.max() - wanted.min()).min()


def test_what_is_written_is_read_and_is_a_byte_per_number_at_most(answers, mixtures, tmp_path):
    one = Packed.of(answers)
    read = Packed.read(one.write(tmp_path / "answers.npz"))
    pd.testing.assert_frame_equal(read.scores(mixtures), one.scores(mixtures))
    assert one.levels.shape == (5, 3500) and one.levels.max() == packed.STEPS and len(one.text) < 5 * 3500 * 4 / 3


def test_components_that_are_one_pack_too(answers, mixtures):
    answers.logs = {row: np.repeat(logs[:, :1], 5, axis=1) for row, logs in answers.logs.items()}
    assert np.abs(Packed.of(answers).scores(mixtures) - exact(answers, mixtures)).max(axis=None) < 1e-9


def test_only_what_is_all_mixed_and_fits_is_kept(answers, tmp_path, monkeypatch):
    path, whole = tmp_path / "answers.npz", SimpleNamespace(answers=answers, merged=None)

    def kept(*proxies):
        packed.keep(proxies, path)
        return path.is_file()

    assert kept(SimpleNamespace(), whole) and not kept(SimpleNamespace(answers=answers, merged=SimpleNamespace()))
    assert kept(whole) and not kept(), "what an earlier search packed is gone"
    accuracy = SimpleNamespace(**vars(answers) | {"sizes": {"long": 6400}})
    assert not kept(SimpleNamespace(answers=accuracy, merged=None)), "a score that is not in bits per byte"
    monkeypatch.setattr(packed, "MOST", 1000)
    assert not kept(whole)
