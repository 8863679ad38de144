"""Every kind of proxy scores like the models it stands for, each task by the kind that can."""

import numpy as np
import pandas as pd
import pytest
from fixtures_proxies import MixedWords, Words

from demix_nb.merging import Bank, saving
from demix_nb.mixtures import uniform
from demix_nb.proxies import KINDS, Table
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.sources import Checkpoints, Merges, Store
from demix_nb.store import Refusal

NAMES = ["a", "b", "c"]
CORNERS = pd.DataFrame(np.eye(3), pd.Index(NAMES, name="mixture"), NAMES)
ON_COMPONENTS = [name for name, kind in KINDS.items() if kind.needs_components]
PLAIN = [name for name in ON_COMPONENTS if not KINDS[name].references]


def never(*_):
    raise AssertionError("it was opened, or merged")


@pytest.fixture(autouse=True)
def mixed_words(monkeypatch):
    """Mix the probabilities of the small suite's answers."""
    monkeypatch.setattr("demix_nb.scoring.Mixed", MixedWords)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("cache"), n_jobs=1)


@pytest.fixture
def mixtures(rng):
    return Region(NAMES).draw(3, rng=rng, prefix="p")


@pytest.fixture
def made(bank, store, mixtures, tmp_path):
    """Make a kind from three components, with what it takes: references, training, runs of the three mixtures."""

    def train(design):
        kept = {name: tmp_path / name for name in design.index}
        return {
            name: path if path.exists() else saving.save(bank, design.loc[name], path, "ties")
            for name, path in kept.items()
        }

    def references():
        some = Region(NAMES).draw(5, rng=np.random.default_rng(11), prefix="t")
        scores = store.scores(Merges(bank, some, "ties"), Words())
        return Scored(some, scores, Words().tasks)

    def make(kind, suite=None, bank=bank):
        row, suite = KINDS[kind], suite or Words()
        how = {"references": references()} if row.references else {"train": train} if row.trains else {}
        if not (row.needs_components or row.trains):
            runs = pd.concat([mixtures, CORNERS])
            how = {"scored": Scored(runs, store.scores(Merges(bank, runs, "ties"), suite), suite.tasks)}
        return row.make(bank if row.needs_components else None, suite, store, **how)

    return make


# --- the protocol, over every row -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_scores_every_mixture_on_every_task_and_repeats_itself(made, mixtures, kind):
    proxy = made(kind)
    once = proxy(mixtures)
    assert once.names == list(mixtures.index) and list(once.scores) == list(once.tasks.index) == list(
        Words().tasks.index
    )
    assert np.isfinite(once.scores).all(axis=None)
    again = proxy(mixtures[NAMES[::-1]].iloc[::-1])
    pd.testing.assert_frame_equal(once.scores, again.scores.loc[once.names], rtol=1e-9)


@pytest.mark.parametrize("kind", [*ON_COMPONENTS, "table"])
def test_of_no_mixtures_a_kind_returns_a_table_without_rows(made, mixtures, kind):
    found = made(kind)(mixtures.iloc[:0])
    assert len(found) == 0 and list(found.scores) == list(Words().tasks.index)


@pytest.mark.parametrize("kind", PLAIN)
def test_at_a_corner_a_kind_is_the_component(made, folders, store, kind):
    really = store.scores(Checkpoints(folders[0]), Words())
    pd.testing.assert_frame_equal(made(kind)(CORNERS).scores, really, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_refuses_mixtures_that_are_none(made, kind):
    off = uniform(NAMES).to_frame("u").T * 2
    with pytest.raises(Refusal, match="'u' sums to 2"):
        made(kind)(off)


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_says_what_its_kind_can_do(made, bank, store, kind):
    row, proxy = KINDS[kind], made(kind)
    assert hasattr(proxy, "gradient") == row.gradient
    assert row.label and row.marker and row.paper.startswith("https://")
    assert len({other.marker for other in KINDS.values()}) == len(KINDS)
    if row.references:
        with pytest.raises(TypeError, match="references"):
            row.make(bank, Words(), store)


@pytest.mark.parametrize("kind", ON_COMPONENTS)
def test_without_a_base_a_kind_works_or_is_refused_as_its_row_says(made, folders, mixtures, kind):
    alone = Bank.load(folders[0])
    if KINDS[kind].needs_base:
        with pytest.raises(Refusal, match=r"works on updates from the base, and none was given; name the base"):
            made(kind, bank=alone)
    else:
        pd.testing.assert_frame_equal(made(kind, bank=alone)(mixtures).scores, made(kind)(mixtures).scores)


def test_a_merge_on_updates_is_refused_without_a_base_before_a_model_is_opened(folders, store, mixtures, monkeypatch):
    monkeypatch.setattr(Merges, "open", never)
    proxy = KINDS["merged"].make(Bank.load(folders[0]), Words(), store, method="ties")
    with pytest.raises(Refusal, match="ties works on updates from the base, and none was given"):
        proxy(mixtures)


def test_costs_are_those_of_the_paper():
    billions = {"candidates": 7, "tokens": 30.0, "searched": 112}
    assert KINDS["merged"].cost(**billions) == 210
    assert KINDS["trained"].cost(**(billions | {"tokens": 50.0}), budget=0.04) == pytest.approx(224)
    assert KINDS["mended"].cost(**billions, references=24) == 210 + 24 * 30
    assert KINDS["mixed"].cost(**billions, references=24) == 210, "it needs no references"
    assert KINDS["table"].cost(**billions, references=24) == 0, "it was paid before"


# --- each task by the kind that can ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_tasks_say_which_kind_served_them(made, mixtures, kind):
    served = made(kind)(mixtures).tasks["kind"]
    told = kind.replace("mixed", "merged")
    assert served.to_dict() == {"counts": kind, "turns": kind, "writes": told}
    assert set(served) <= set(KINDS)


def test_what_must_be_written_is_measured_on_merges_and_the_rest_by_mixing(made, bank, store, mixtures):
    suite = Words({"writes": [7, 8, 9], "counts": [5, 9, 13]})
    both = made("mixed", suite)(mixtures)
    merged, mixed = made("merged", suite)(mixtures), made("mixed", Words({"counts": [5, 9, 13]}))(mixtures)
    assert list(both.scores) == ["writes", "counts"], "in the suite's order"
    assert both.scores["writes"].equals(merged.scores["writes"])
    assert both.scores["counts"].equals(mixed.scores["counts"])
    assert not np.isclose(both.scores["counts"], merged.scores["counts"], rtol=1e-6).any()


def test_mixing_merges_nothing_where_nothing_is_written(bank, mixtures, tmp_path, monkeypatch):
    suite, store = Words(written=()), Store(tmp_path, n_jobs=1)
    proxy = KINDS["mixed"].make(bank, suite, store)
    monkeypatch.setattr(Merges, "key", never)
    assert set(proxy(mixtures).tasks["kind"]) == {"mixed"}
    assert [(verb, rows) for verb, rows, *_ in suite.asked] == [("logs", list(suite.rows))] * 3


def test_components_answer_once_and_only_added_tasks_are_read(bank, mixtures, tmp_path):
    store, more = Store(tmp_path, n_jobs=1), Words()
    few = KINDS["mixed"].make(bank, Words({"counts": more.rows["counts"]}), store)(mixtures)
    every = KINDS["mixed"].make(bank, more, store)(mixtures)
    assert [rows for verb, rows, *_ in more.asked] == [["turns"]] * 3 + [["writes"]] * len(mixtures)
    assert every.scores["counts"].equals(few.scores["counts"])


def test_a_second_run_measures_nothing_under_any_name(bank, store, mixtures):
    first, suite = KINDS["merged"].make(bank, Words(), store)(mixtures), Words()
    again = KINDS["merged"].make(bank, suite, store)(mixtures.rename(index=lambda name: f"other-{name}"))
    assert suite.asked == [] and (again.scores.to_numpy() == first.scores.to_numpy()).all()


# --- runs that somebody has -----------------------------------------------------------------------------------------


def runs(mixtures):
    tasks = Words({"counts": [1]}).tasks
    return Scored(mixtures, pd.DataFrame({"counts": np.arange(len(mixtures)) / 8}, mixtures.index), tasks)


def test_a_table_answers_for_the_shares_it_has_to_six_digits_under_any_name(rng):
    some = Region(NAMES).draw(6, rng=rng)
    proxy = Table(runs(some))
    asked = some.iloc[[4, 1]].set_axis(["x", "y"]) + 1e-8
    new = Region(NAMES).draw(2, rng=rng, prefix="new")
    found = proxy(pd.concat([new.iloc[:1], asked, new.iloc[1:]])[NAMES[::-1]])
    assert found.scores["counts"].to_dict() == {"x": 4 / 8, "y": 1 / 8}
    assert found.mixtures.index.tolist() == ["x", "y"] and found.candidates == NAMES
    nothing = proxy(new)
    assert len(nothing) == 0 and list(nothing.scores) == ["counts"]


def test_a_run_made_twice_is_answered_by_its_mean(rng):
    some = Region(NAMES).draw(2, rng=rng)
    twice = pd.concat([some, some.iloc[:1].set_axis(["again"])])
    assert Table(runs(twice))(some).scores["counts"].tolist() == [(0 + 2 / 8) / 2, 1 / 8]
