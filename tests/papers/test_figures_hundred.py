"""What the figures of many candidates and of luck show is what the tables say."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.papers import figures_hundred

pytestmark = pytest.mark.usefixtures("styled")


def orders():
    rows = [
        (name, which, tokens, base, value + base / 10)
        for which in ("of the candidates", "of the parts")
        for name, tokens, value in (("mixed, whole", 2.6e6, 0.5), ("mixed, parts", 2.5e6, 0.6),
                                    ("runs, ridge", 0.6e6, 0.1), ("runs, ridge", 2.5e6, 0.3))
        for base in (0, 1)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["proxy", "references", "tokens", "base", "value"]).set_index("proxy")
    return table.assign(measure="rho_macro")


def winners():
    return pd.DataFrame({"strategy": ["runs", "parts"] * 2, "level": [0.4, -1.0, 0.6, -2.0], "base": [0, 0, 1, 1]})


def test_ways_stand_at_their_means_over_bases_and_the_best_winner_on_top():
    figure = figures_hundred.hundred(orders(), winners())
    first, second, below = figure.axes
    assert [axes.get_title() for axes in (first, second)] == ["references of the candidates", "references of the parts"]
    heights = [line.get_ydata().round(9).tolist() for line in first.lines]
    assert heights == [[0.55], [0.65], [0.15, 0.35]], "runs are a line over tokens, components a mark"
    assert [tick.get_text() for tick in below.get_yticklabels()] == ["parts", "runs"]
    assert below.collections[-1].get_offsets()[:, 0].tolist() == [-1.5, 0.5]


def test_the_band_of_luck_is_a_training_runs_noise():
    rows = [(size, base, seed, -1 - size / 100 + seed / 10) for size in (28, 56) for base in (0, 1) for seed in (0, 1)]
    table = pd.DataFrame(rows, columns=["proxies", "base", "seed", "real"])
    figure = figures_hundred.noise(table.assign(kind="mixed", away=0.2, width=0.4, noise=0.3))
    left, right = figure.axes
    means = table.groupby("proxies")["real"].mean()
    assert np.allclose(left.lines[0].get_ydata(), means)
    band = left.collections[-1].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(means.min() - 0.3) and band.max() == pytest.approx(means.max() + 0.3)
    assert [set(line.get_ydata()) for line in right.lines] == [{0.2}, {0.4}]


def test_growth_ends_with_the_whole():
    steps = {"search": 1, "whole search": 3}
    rows = [(step, k, k / 10 * share, 100 + k) for step, share in steps.items() for k in (10, 300)]
    table = pd.DataFrame(rows, columns=["step", "candidates", "cpu", "mb"]).set_index("step")
    left, right = figures_hundred.growth(table).axes
    assert [line.get_ydata().tolist() for line in left.lines] == [[1.0, 30.0], [3.0, 90.0]]
    assert right.lines[0].get_ydata().tolist() == [110, 400]
