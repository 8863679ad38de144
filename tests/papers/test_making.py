"""What is read off the study of making: means over bases, distances of ways, tokens to equal loss, all as planted."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from scipy import stats

from demix_nb.papers import figures_making, told
from demix_nb.papers.making import WINDOW, less, over_bases, tokens_to_equal
from demix_nb.store import Refusal


def planted(rng, ways=("own base", "grown base"), bases=3):
    rows = [(way, base, family, rng.normal()) for way in ways for base in range(bases) for family in ("math", "code")]
    return pd.DataFrame(rows, columns=["way", "base", "family", "value"]).set_index("way")


def test_means_over_bases_have_students_interval(rng):
    table = planted(rng)
    found = over_bases(table, ["way", "family"])
    for key, row in found.iterrows():
        values = table[table["family"] == key[1]].loc[key[0], "value"]
        assert row["value"] == pytest.approx(values.mean())
        low, high = stats.t.interval(0.95, 2, loc=values.mean(), scale=stats.sem(values))
        assert row[["low", "high"]].tolist() == pytest.approx([low, high])
    few = over_bases(planted(rng, bases=2), ["family"])
    assert list(few.index.get_level_values("family")) == ["math", "code"]
    two = over_bases(planted(rng, ways=["a"], bases=2), ["family"])
    assert two["low"].isna().all() and told(two.iloc[0], 3) == f"{two['value'].iloc[0]:.3f}", "of two, the mean alone"


def test_a_way_is_held_against_another_of_its_base_whatever_the_order(rng):
    table = planted(rng)
    found = less(table.sample(frac=1.0, random_state=1), "own base").set_index(["base", "family"], append=True)["value"]
    for (way, base, family), value in found.items():
        if family == "mean":
            assert value == pytest.approx(found.loc[way, base].drop("mean").mean())
        else:
            of = table[(table["base"] == base) & (table["family"] == family)]["value"]
            assert value == pytest.approx(of[way] - of["own base"])
    assert found.loc["own base"].abs().max() == 0 and found.loc["grown base"].abs().min() > 0


def falling(way, base, start, tokens, points=40):
    seen = np.linspace(tokens / points, tokens, points)
    return pd.DataFrame({"tokens": seen, "loss": start - seen / 100, "way": way, "base": base})


def test_tokens_to_equal_loss_are_those_after_which_the_mean_is_as_low():
    curves = pd.concat([falling("own base", 0, 10.0, 400), falling("grown base", 0, 8.0, 400)])
    found = tokens_to_equal(curves, "grown base", "own base").loc[0]
    assert found["loss"] == pytest.approx(10 - np.linspace(360, 400, WINDOW).mean() / 100)
    assert found["tokens"] == pytest.approx(200) and found["times"] == pytest.approx(2) and found["other"] == 400
    never = tokens_to_equal(pd.concat([falling("own base", 0, 10.0, 400), falling("grown base", 0, 20.0, 400)]),
                            "grown base", "own base")  # fmt: skip
    assert never["tokens"].isna().all() and never["times"].isna().all()
    lucky = curves.reset_index(drop=True)
    lucky.loc[45, "loss"] = -5.0
    assert tokens_to_equal(lucky, "grown base", "own base").loc[0, "tokens"] > 50 or WINDOW == 1
    with pytest.raises(Refusal, match="no curve of 'grown base' on base 0; there are own base"):
        tokens_to_equal(falling("own base", 0, 10.0, 400), "grown base", "own base")


@pytest.mark.usefixtures("styled")
def test_figures_show_every_base_and_the_mean_of_the_planted(rng):
    rows = [("merged", measure, schedule, judged, base, rng.random())
            for measure in figures_making.SHOWN for schedule in ("cosine", "averaged")
            for judged in figures_making.JUDGES for base in range(3)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["proxy", "measure", "schedule", "judged", "base", "value"]).set_index("proxy")
    axes = figures_making.averaging(table).axes[0]
    drawn = np.concatenate([dots.get_offsets()[:, 0] for dots in axes.collections if isinstance(dots, PathCollection)])
    mine = table[table["measure"] == "rho_macro"]
    means = mine.groupby(["schedule", "judged"])["value"].mean()
    assert set(np.round([*mine["value"], *means], 9)) == set(np.round(drawn, 9))
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["cosine", "averaged"]
