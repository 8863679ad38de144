"""What the study's figures show is what the tables say."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from matplotlib.colors import to_hex

from demix_nb.figures import gallery
from demix_nb.figures.colours import FAMILY_COLOURS
from demix_nb.papers import figures_study
from demix_nb.proxies import KINDS

pytestmark = pytest.mark.usefixtures("styled")

read = gallery.reader(REPOSITORY / "data" / "results" / "study")


def names(axes):
    return [tick.get_text() for tick in axes.get_yticklabels()]


def test_every_kind_but_the_ceiling_stands_at_both_values_with_its_cost():
    report = read("proxy_kinds").drop(index="ceiling")
    axes = gallery.draw("study_kinds", read).axes[0]
    rows = {measure: report[report["measure"] == measure] for measure in ("rho_macro", "rho_rank", "error")}
    places = np.concatenate([dots.get_offsets() for dots in axes.collections if len(dots.get_offsets())])
    for measure in ("rho_macro", "rho_rank"):
        assert set(rows[measure]["value"].round(9)) <= set(places[:, 0].round(9))
    assert len(names(axes)) == len(rows["error"]) and all("M tokens" in name for name in names(axes))
    assert names(axes)[0].startswith(KINDS[rows["rho_rank"]["value"].idxmax()].label), "best on top"
    written = {text.get_text() for text in axes.texts}
    assert {f"{value:.3f}" for value in rows["error"]["value"]} <= written
    assert any("second seed" in text for text in written), "the ceiling is labelled"


def test_the_best_strategy_stands_on_top():
    summary = read("strategy_summary")
    axes = gallery.draw("study_strategies", read).axes[0]
    level = summary[summary["measure"] == "level"]["value"]
    assert names(axes)[0] == level.idxmin() and axes.yaxis_inverted()
    assert "general only" not in names(axes)


def test_mixtures_are_written_as_points_above_uniform():
    axes = gallery.draw("study_mixtures", read).axes[0]
    rows = dict(
        zip(names(axes), np.reshape([text.get_text() for text in axes.texts], (len(names(axes)), -1)), strict=True)
    )
    assert set(rows["uniform"]) == {"+0"}
    assert rows["general only"].tolist() == ["+86"] + ["-14"] * 6
    assert to_hex(axes.get_xticklabels()[0].get_color()).upper() == FAMILY_COLOURS["general"]


def test_stages_add_up_to_one():
    above, _ = gallery.draw("demix_stages", read).axes
    for number in range(3):
        ends = [bar.get_x() + bar.get_width() for bar in above.patches if round(bar.get_y() + 0.4) == number]
        assert max(ends) == pytest.approx(1.0)


def test_the_landscapes_star_marks_the_lowest_bits():
    surface = read("landscape")
    figure = figures_study.landscape(surface, read("corpora"))
    axes = figure.axes[0]
    assert axes.get_title() == "general, merged"
    merged = surface[surface["type"] == "merged"]
    best = merged.iloc[merged["score_general"].to_numpy().argmin()]
    corners = [text for text in axes.texts if f"share_{text.get_text()}" in surface]
    assert len(corners) == 3
    nearest = min(corners, key=lambda text: np.hypot(*(np.array(text.get_position()[:2]) - star(axes))))
    assert nearest.get_text() == best[[f"share_{text.get_text()}" for text in corners]].idxmax().removeprefix("share_")
    assert sum("better" in own.get_xlabel() for own in figure.axes) == 3, "every bar says which way is better"


def star(axes):
    return np.asarray(axes.collections[-1].get_offsets()[0])


def test_consistency_compares_the_merge_with_what_was_trained():
    table = read("consistency")
    axes = gallery.draw("study_consistency", read).axes[0]
    assert {text.get_text() for text in axes.texts} == {
        f"{f}, {w}" for f in ("math", "code") for w in ("here", "printed")
    }
    first = table[table["share"] == table["share"].min()].set_index("type", append=True)["math"]
    ratio = first.xs("reference", level="type") / first.xs("merged", level="type")
    assert axes.lines[0].get_ydata()[0] == pytest.approx(ratio.mean())


def test_winners_of_few_and_many_candidates_stand_at_their_mean_places():
    models = read("partition_quality")
    axes = gallery.draw("study_partition", read).axes[0]
    means = models.groupby(["strategy", "candidates"])["place"].mean().sort_values()
    assert names(axes) == [f"{kind}, {candidates} candidates" for kind, candidates in means.index]
    assert [text.get_text() for text in axes.texts] == [f"mean {mean:.1f}" for mean in means]


def map_of(*regimes):
    """A map on which a merge gets worse with δ, and worse on the second base."""
    rows = []
    for regime in regimes:
        for base in (0, 1):
            for share, delta in ((0.25, 0.01), (1.0, 0.04)):
                facts = {"regime": regime, "base": base, "share": share, "delta": delta, "suite": "heldout"}
                for proxy, budget in (
                    ("merged", 1.0),
                    ("mixed", 1.0),
                    ("trained", 0.125),
                    ("trained", 0.25),
                    ("ceiling", 1),
                ):
                    for measure in ("rho_macro", "rho_rank", "error"):
                        value = 0.9 - 10 * delta - 0.1 * base if proxy == "merged" else 0.8 + 0.1 * (budget == 0.125)
                        rows.append(facts | {"proxy": proxy, "budget": budget, "measure": measure, "value": value})
                rows.append(facts | {"proxy": "bracket", "budget": 1.0, "measure": "spread", "value": 2.0})
    return pd.DataFrame(rows).set_index("regime")


def test_the_map_has_a_column_per_regime_and_a_mean_over_bases_per_size():
    figure = figures_study.regimes(map_of("small", "large"))
    assert [axes.get_title() for axes in figure.axes] == ["small", "large", "", "", "", ""]
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(lines) == ["merged (DeMix)", "mixed probabilities", "trained on few tokens", "second seed"]
    assert np.allclose(lines["merged (DeMix)"].get_xydata(), [[1, 0.75], [4, 0.45]])
    errors = figure.axes[4].lines[0].get_ydata()
    assert np.allclose(errors, [0.375, 0.225]), "in standard deviations of the references"
    assert np.allclose(lines["trained on few tokens"].get_ydata(), 0.8), "the dearest of them"
    assert figures_study.regimes(map_of("small").assign(suite="nine")) is None
