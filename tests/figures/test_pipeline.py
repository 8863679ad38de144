"""What the pipeline's figures show is what the tables say."""

import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY
from matplotlib.colors import to_hex

from demix_nb.figures import colours, gallery, pipeline
from demix_nb.figures.colours import FAMILY_COLOURS
from demix_nb.proxies import KINDS
from demix_nb.scored import Scored

pytestmark = pytest.mark.usefixtures("styled")

read = gallery.reader(REPOSITORY / "data" / "results" / "laptop")
ODD = {"Œuvres": "Lettres", "reviews_of_everything_2019": "consumer goods & services", "p": "Q"}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_the_scatter_has_a_point_per_reference_and_a_panel_per_family():
    ranked = read("tasks").query("in_rank")
    truth = Scored(read("reference_mixtures"), read("reference_scores"), ranked).families
    figure = gallery.draw("fidelity_scatter", read)
    for axes, family in zip(figure.axes, truth, strict=True):
        np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], truth[family])
        assert axes.get_title().startswith(f"{family}: ρ = 0.")


def test_kinds_are_told_by_marker_and_stand_at_their_cost():
    figure = gallery.draw("fidelity_cost", read)
    assert legend(figure) == [
        "second seed of the references",
        *(KINDS[k].label for k in ("merged", "mixed", "trained")),
    ]
    drawn = {line.get_label(): line for line in figure.axes[0].lines if line.get_marker() not in ("None", "")}
    assert {line.get_marker() for line in drawn.values()} == {"o", "^", "X"}
    assert len({line.get_color() for line in drawn.values()}) == 1, "a hue would mean a family"
    rows = read("fidelity").query("suite == 'nine' and measure == 'rho_macro'")
    trained = drawn[KINDS["trained"].label]
    np.testing.assert_allclose(trained.get_ydata(), rows.loc["trained"].sort_values("tokens")["value"])


def test_what_a_component_gains_has_the_tasks_direction():
    tasks = pd.DataFrame(
        {"unit": "bpb", "higher_is_better": [False, True]}, index=pd.Index(["heldout_a", "b_bpb"], name="task")
    )
    scores = pd.DataFrame([[3.0, 3.0], [2.0, 2.0]], ["base", "c"], list(tasks.index))
    axes = pipeline.component_scores(scores, tasks).axes[0]
    assert [text.get_text() for text in axes.texts] == ["1.00", "-1.00"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["heldout_a", "b"]


def test_the_path_leads_from_the_first_candidate_to_the_last():
    axes = gallery.draw("merge_path", read).axes[0]
    merged = read("path_merged_scores")
    start, end = axes.lines
    np.testing.assert_allclose(start.get_ydata(), merged["heldout_general"])
    np.testing.assert_allclose(end.get_ydata(), merged["heldout_code_cpp"])
    assert "code_cpp" in axes.get_xlabel() and start.get_color() == FAMILY_COLOURS["general"]


def test_families_have_one_colour_everywhere():
    table = read("tasks")[["ratio", "family"]].dropna().sort_values("ratio")
    axes = gallery.draw("signal_to_noise", read).axes[0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches] == [FAMILY_COLOURS[f] for f in table["family"]]


def curves(families):
    points = [(name, tokens, 5.0 - tokens / 1e4) for name in families for tokens in (1000, 2000)]
    return pd.DataFrame(points, columns=["model", "tokens", "loss"]).set_index("model")


@pytest.mark.parametrize("families", [read("corpora")["family"].to_dict(), ODD, dict.fromkeys("abcdefgh", "one")])
def test_a_candidate_has_its_familys_colour_and_a_line_of_its_own(families):
    corpora = pd.DataFrame({"family": families})
    figure = pipeline.loss_curves(curves(families), corpora)
    hue, lines = colours.families(families.values()), figure.axes[0].lines
    assert {line.get_label(): line.get_color() for line in lines} == {n: hue[f] for n, f in families.items()}
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == len(families)
    assert legend(figure) == list(families)


@pytest.mark.parametrize("families", [read("corpora")["family"].to_dict(), ODD])
def test_the_legend_names_every_candidate_and_no_two_shades_are_one(families):
    mixtures = pd.DataFrame(1 / len(families), ["uniform"], list(families))
    figure = pipeline.mixtures(mixtures, pd.DataFrame({"family": families}))
    assert legend(figure) == list(families)
    assert len({bar.get_facecolor() for bar in figure.axes[0].patches}) == len(families)


def search(winner):
    tasks = pd.DataFrame({"family": ["f"], "unit": "bpb", "higher_is_better": False, "in_rank": True}, ["t"])
    shares = pd.DataFrame({"a": np.linspace(0, 1, 9), "b": np.linspace(1, 0, 9)}, [f"m{i}" for i in range(9)])
    scores = pd.DataFrame({"t": np.arange(9.0)}, shares.index)
    named = pd.DataFrame({"a": [0.33], "b": [0.67]}, ["found"])
    rounds = shares.assign(round=[1] * 5 + [2] * 4, rank=np.arange(1.0, 10))
    return rounds, shares, scores, named, pd.DataFrame({"t": [winner]}, ["found"]), tasks


@pytest.mark.parametrize(("winner", "rank"), [(-1.0, 1), (3.5, 5)])
def test_the_proposed_mixture_stands_at_its_rank_among_all_scored(winner, rank):
    axes = pipeline.search_rounds(*search(winner)).axes[0]
    best, proposed = axes.lines
    assert set(proposed.get_ydata()) == {rank} and list(best.get_ydata()) == [1, 1]
    assert axes.yaxis_inverted()


def test_the_mean_place_is_labelled_and_the_best_on_top():
    models = read("quality")
    means = models.groupby("strategy", sort=False)["place"].mean().sort_values(kind="stable")
    axes = gallery.draw("quality", read).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == list(means.index)
    assert [text.get_text() for text in axes.texts] == [f"mean {mean:.1f}" for mean in means]
    assert axes.yaxis_inverted() and axes.get_legend() is None, "nothing beside the data that could be read as data"


def test_a_study_without_second_seeds_has_no_band():
    figure = pipeline.fidelity_cost(read("fidelity").drop(index=pipeline.CEILING), read("tasks"))
    assert legend(figure) == [KINDS[kind].label for kind in ("merged", "mixed", "trained")]
