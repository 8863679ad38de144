"""What is absent in a study is said in words; what is large is drawn."""

from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import REPOSITORY

from demix_nb.figures import gallery, marks, pipeline, regression
from demix_nb.proxies import KINDS
from demix_nb.schemas import SCHEMAS
from demix_nb.store import schema_of

pytestmark = pytest.mark.usefixtures("styled")

committed = gallery.reader(REPOSITORY / "data" / "results" / "laptop")


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def empty(table):
    """A table without rows, as one of this name may be."""
    schema = SCHEMAS[schema_of(table)]
    return pd.DataFrame(columns=list(schema.columns), index=pd.Index([], name=schema.index))


def without(*absent):
    whole = {"tied": committed("named_mixtures").T.assign(share=0.1, low=0.0, high=0.2)}
    return lambda table: empty(table) if table in absent else whole[table] if table in whole else committed(table)


def said(figure):
    """The sentence that a figure is; "" where there is anything else."""
    (axes, *others) = figure.axes
    drawn = others or axes.axison or axes.lines or axes.collections or axes.patches
    return "" if drawn else " ".join(" ".join(text.get_text() for text in axes.texts).split())


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_without_any_rows_a_figure_is_its_sentence(name):
    figure = gallery.draw(name, empty)
    assert said(figure) == gallery.FIGURES[name].absent and figure.get_figheight() < 1


@pytest.mark.parametrize(("name", "table"), [(n, t) for n, row in gallery.FIGURES.items() for t in row.tables])
def test_of_the_tables_that_a_figure_needs_each_may_be_without_rows(name, table):
    row = gallery.FIGURES[name]
    assert said(gallery.draw(name, without(table))) == ("" if table in row.spared else row.absent)


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_the_sentence_is_one_and_fits(name):
    sentence = gallery.FIGURES[name].absent
    assert sentence.endswith(".") and sentence.count(".") == 1 and sentence.startswith("No")
    figure = marks.words(sentence)
    figure.canvas.draw()
    box = figure.axes[0].texts[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height


def test_what_is_too_little_to_draw_is_said_too():
    tasks, scores = committed("tasks"), committed("component_scores")
    one = committed("path_mixtures").iloc[:1]
    assert pipeline.signal_to_noise(tasks.assign(ratio=np.nan)) is None
    assert pipeline.component_scores(scores.drop(index="base"), committed("component_tasks")) is None
    assert pipeline.component_scores(scores.loc[["base"]], committed("component_tasks")) is None
    assert pipeline.fidelity_cost(committed("fidelity"), tasks.assign(suite="another")) is None
    unmerged = {"fidelity": committed("fidelity").drop(index="merged")}
    figure = gallery.draw("fidelity_scatter", lambda table: unmerged[table] if table in unmerged else committed(table))
    assert said(figure) == gallery.FIGURES["fidelity_scatter"].absent
    assert regression.learning_curves(committed("learning_curve").assign(rho=np.nan)) is None
    assert regression.effects(committed("effects"), kind="another") is None
    rest = [committed(name) for name in ("path_merged_scores", "path_reference_scores", "corpora", "component_tasks")]
    assert pipeline.merge_path(one, rest[0].loc[one.index], *rest[1:]) is None


# --- studies unlike the built-in one


def test_the_scatter_is_of_any_kind_and_of_what_has_a_reference():
    read = {"mixed_scores": lambda table: table.iloc[::-1].iloc[2:]}
    figure = gallery.draw("fidelity_scatter", lambda t: read.get(t, lambda table: table)(committed(t)), kind="mixed")
    truth = committed("reference_scores").iloc[:-2]
    assert {len(axes.collections[0].get_offsets()) for axes in figure.axes} == {len(truth)}
    assert figure.axes[0].get_xlabel() == "mixed proxy, bits per byte"
    tasks = committed("tasks").query("in_rank and family == 'general'").index
    (axes,) = (axes for axes in figure.axes if axes.get_title().startswith("general"))
    np.testing.assert_allclose(axes.collections[0].get_offsets()[:, 1], truth[tasks].mean(axis=1))


def test_a_rank_of_several_suites_has_its_own_fidelity():
    tasks = committed("tasks").assign(in_rank=True)
    rows = committed("fidelity")
    both = pd.concat([rows, rows[rows["suite"] == "heldout"].assign(suite="ranked", value=0.5)])
    assert pipeline.on_ranked(both, tasks)["value"].eq(0.5).all()
    assert pipeline.on_ranked(both, committed("tasks"))["suite"].eq("nine").all()


def test_a_kind_without_a_cost_is_a_line_across_under_its_own_name():
    rows = committed("fidelity").query("suite == 'heldout'")
    table = rows.loc[["merged"]].rename(index={"merged": "a team's"}).assign(tokens=np.nan)
    for kept in (rows, rows.iloc[:0]):
        figure = pipeline.fidelity_cost(pd.concat([kept, table]))
        label = "a team's, its cost is not known"
        line = next(line for line in figure.axes[0].lines if line.get_label() == label)
        assert set(line.get_ydata()) == set(table.query("measure == 'rho_macro'")["value"])
        assert (KINDS["merged"].label in [text.get_text() for text in figure.legends[0].get_texts()]) == bool(len(kept))
    assert pipeline.kind_label("a team's") == "a team's" and pipeline.kind_label("trained", 0.5).endswith(" (0.5)")


def test_a_path_without_held_out_text_shows_the_families_tasks():
    merged, reference = (committed(f"path_{kind}_scores").filter(like="_bpb") for kind in ("merged", "reference"))
    mixtures, corpora, tasks = (committed(name) for name in ("path_mixtures", "corpora", "component_tasks"))
    (axes,) = pipeline.merge_path(mixtures, merged, reference, corpora, tasks).axes
    for line, family in zip(axes.lines, ("general", "code"), strict=True):
        own = tasks.query("suite == 'nine' and family == @family").index
        np.testing.assert_allclose(line.get_ydata(), merged[own].mean(axis=1))
        assert line.get_label() == f"{family}, merged"
    assert axes.get_ylabel() == "mean task of the family,\nbits per byte (lower is better)"
    only = tasks[tasks["family"] == "math"].index.intersection(merged.columns)
    assert pipeline.merge_path(mixtures, merged[only], reference, corpora, tasks) is None
    alone = pipeline.merge_path(mixtures, merged, reference.iloc[:0], corpora, tasks).axes[0]
    assert len(alone.lines) == 2 and not alone.collections


def test_a_search_without_a_verified_mixture_shows_its_rounds_alone():
    rounds = committed("search_rounds").assign(round=0)
    tables = [committed(name) for name in ("search_mixtures", "search_scores", "named_mixtures", "named_scores")]
    for named in (tables[3].iloc[:0], tables[3].iloc[1:]):
        (best,) = pipeline.search_rounds(rounds, *tables[:3], named, committed("tasks")).axes[0].lines
        assert list(best.get_xdata()) == [0] and list(best.get_ydata()) == [rounds["rank"].min()]


# --- forty candidates

K = 40
NAMES = [f"candidate_{i:02d}" for i in range(K)]
FAMILIES = [f"family {i % 9}" for i in range(K)]


def large():
    """Every table that a figure of the core is drawn from, for 40 candidates and a task of each."""
    rng, mixtures = np.random.default_rng(0), [f"m{i}" for i in range(12)]

    def numbers(index, columns, name="mixture"):
        return pd.DataFrame(1 + rng.random((len(index), len(columns))), pd.Index(index, name=name), columns)

    def rows(columns, *values):
        return pd.DataFrame(list(values), columns=columns).set_index(columns[0])

    shares = numbers(mixtures, NAMES).pipe(lambda table: table.div(table.sum(axis=1), axis=0))
    asked = [f"heldout_{name}" for name in NAMES]
    facts = {"family": FAMILIES, "unit": "bpb", "higher_is_better": False, "suite": "s", "in_rank": True}
    tasks = pd.DataFrame(facts | {"ratio": np.linspace(0.5, 9, K)}, pd.Index(asked, name="task"))
    way = pd.DataFrame(0.0, pd.Index(["0.00", "1.00"], name="mixture"), NAMES)
    way.loc["0.00", NAMES[0]] = way.loc["1.00", NAMES[-1]] = 1
    measures = ["rho_macro", *(f"rho_{family}" for family in dict.fromkeys(FAMILIES))]
    told = ["proxy", "measure", "value", "low", "high", "budget", "tokens", "suite"]
    cells = [(name, task, rng.normal(), rng.random(), kind) for name in NAMES for task in asked
             for kind in ("linear", "curved")]  # fmt: skip
    pairs = [(*pair, asked[0], rng.normal(), rng.random()) for pair in combinations(NAMES, 2)]
    guesses = [(f"m{i}", "ridge", "t", task, rng.random(), rng.random()) for task in asked for i in range(9)]
    return {
        "loss_curves": rows(["model", "tokens", "loss"], *((n, t, 1 / t) for n in NAMES for t in (1000, 2000))),
        "corpora": pd.DataFrame({"family": FAMILIES}, pd.Index(NAMES, name="candidate")),
        "component_scores": numbers(["base", *NAMES], asked), "component_tasks": tasks, "tasks": tasks,
        "drift": numbers([f"layer {i}" for i in range(32)], NAMES, "layer"),
        "cosines": numbers(NAMES, NAMES, "component"),
        "path_mixtures": way, "path_merged_scores": numbers(way.index, asked),
        "path_reference_scores": numbers(way.index, asked),
        "reference_mixtures": shares, "merged_scores": numbers(mixtures, asked),
        "reference_scores": numbers(mixtures, asked),
        "fidelity": rows(told, *((kind, m, 0.5, 0.4, 0.6, 1.0, 1e6, "s") for kind in KINDS for m in measures)),
        "learning_curve": rows(["predictor", "runs", "test", "rho", "low", "high"], ("ridge", 16, "t", 0.5, 0.4, 0.6)),
        "predictions": rows(["mixture", "predictor", "test", "task", "predicted", "true"], *guesses),
        "coverage": rows(["predictor", "level", "covered"], ("ridge", 0.5, 0.4), ("ridge", 0.9, 0.8)),
        "search_rounds": pd.DataFrame({"round": 1, "rank": np.arange(1.0, 13)}, shares.index),
        "search_mixtures": shares, "search_scores": numbers(mixtures, asked),
        "tied": rows(["candidate", "share", "low", "high"], *((name, 0.02, 0.0, 0.1) for name in NAMES)),
        "named_mixtures": shares.iloc[:3], "named_scores": numbers(mixtures[:3], asked),
        "effects": rows(["candidate", "task", "effect", "q", "kind"], *cells),
        "pairs": rows(["first", "second", "task", "effect", "q"], *pairs),
        "pair_path": rows(["first", "second", "predictor", "task", "share", "predicted"],
                          *((NAMES[0], NAMES[1], "ridge", asked[0], share, share) for share in (0.0, 1.0))),
        "quality": rows(["model", "strategy", "seed", "place"], *((f"{n}-0", n, 0, i) for i, n in enumerate(NAMES))),
    }  # fmt: skip


@pytest.fixture(scope="module")
def forty():
    return large()


@pytest.mark.parametrize("name", gallery.FIGURES)
def test_forty_candidates_are_drawn(name, forty, tmp_path):
    figure = gallery.draw(name, forty.__getitem__, tmp_path)
    assert said(figure) == "" and figure.get_figwidth() == marks.WIDTH
    written = [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text().strip()]
    assert min(text.get_fontsize() for text in written) >= marks.TINY


def test_numbers_are_written_where_they_fit_into_their_cells(forty):
    def numbers(columns):
        return len(pipeline.drift(forty["drift"].iloc[:, :columns]).axes[0].texts)

    assert numbers(marks.WRITABLE) == 32 * marks.WRITABLE and numbers(marks.WRITABLE + 1) == 0


def test_a_map_without_a_number_is_a_map():
    assert regression.effects(committed("effects").assign(effect=np.nan), kind="linear").axes


def test_the_legend_of_forty_losses_is_whole(forty):
    figure = gallery.draw("loss_curves", forty.__getitem__)
    figure.canvas.draw()
    box = figure.legends[0].get_window_extent()
    assert len(figure.legends[0].get_texts()) == K and box.y0 >= 0 and box.y1 <= figure.bbox.height
