"""Ranks follow direction and names, never column order; what does not match is named at the door."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from demix_nb import reading, scoresheets, store
from demix_nb.scored import Scored, dealt, describe, parted
from demix_nb.store import Refusal

TASKS = pd.DataFrame(
    {
        "family": ["general", "general", "math"],
        "unit": ["bpb", "bpb", "acc"],
        "higher_is_better": [False, False, True],
        "items": [10, 10, 10],
        "chance": [np.nan, np.nan, 0.25],
    },
    index=pd.Index(["arc", "piqa", "gsm"], name="task"),
)
SCORES = pd.DataFrame(
    {"arc": [1.0, 2.0, 3.0], "piqa": [1.0, 1.0, 1.0], "gsm": [0.9, 0.8, 0.1]}, index=["best", "mid", "worst"]
)


def scored(scores: pd.DataFrame, tasks: pd.DataFrame = TASKS, seed: int = 0) -> Scored:
    """These scores, of mixtures of two candidates."""
    share = np.random.default_rng(seed).random(len(scores))
    mixtures = pd.DataFrame({"web": share, "math": 1 - share}, index=scores.index.rename("mixture"))
    return Scored(mixtures, scores, tasks)


@pytest.fixture
def many(rng) -> Scored:
    names = [f"m{i}" for i in range(9)]
    return scored(pd.DataFrame(rng.normal(size=(9, 3)), names, columns=list(TASKS.index)))


# --- families, ranks, levels


def test_macro_rank_by_hand():
    given = scored(SCORES)
    assert given.families["general"].tolist() == [1.0, 1.5, 2.0]
    assert given.ranks.tolist() == [1, 2, 3] and given.best == "best"
    assert scored(SCORES.assign(gsm=[0.1, 0.8, 0.9])).ranks.tolist() == [2, 2, 2]
    tied = scored(SCORES.assign(gsm=[0.9, 0.9, 0.1])).family_ranks
    assert tied["math"].tolist() == [1.5, 1.5, 3] and tied["general"].tolist() == [1, 2, 3]


def test_column_order_and_strangers_change_nothing(many):
    shuffled = replace(many, scores=many.scores.iloc[:, ::-1].assign(other=0.0))
    pd.testing.assert_series_equal(shuffled.ranks, many.ranks)
    assert list(shuffled.scores) == list(TASKS.index)


def test_a_task_without_scores_is_refused_by_name(many):
    assert list(many.only(["gsm", "arc"]).scores) == ["gsm", "arc"]
    with pytest.raises(Refusal, match="no task 'gms' among the scores; there are arc, piqa, gsm"):
        many.only(["gms"])


def test_row_order_of_scores_changes_nothing(many):
    pd.testing.assert_frame_equal(replace(many, scores=many.scores.iloc[::-1]).scores, many.scores)


def test_ranking_is_invariant_to_monotone_family_scores(many):
    one = many.only(["arc", "gsm"])
    pd.testing.assert_series_equal(replace(one, scores=np.exp(one.scores)).ranks, one.ranks)


def test_turning_score_and_direction_around_turns_nothing(many):
    turned = replace(many, scores=-many.scores, tasks=TASKS.assign(higher_is_better=~TASKS["higher_is_better"]))
    pd.testing.assert_series_equal(turned.ranks, many.ranks)
    pd.testing.assert_series_equal(turned.level(turned), many.level(many))


def test_units_are_not_averaged():
    with pytest.raises(Refusal, match="family 'general' mixes acc, bpb"):
        scored(SCORES, TASKS.assign(family="general")).families  # noqa: B018
    with pytest.raises(Refusal, match="mixes tasks where high is better and where low"):
        scored(SCORES, TASKS.assign(family="general", unit="bpb")).families  # noqa: B018


def test_level_is_in_deviations_of_the_set_and_low_is_good(many):
    own = many.level(many)
    assert own.mean() == pytest.approx(0) and own.idxmin() == many.standardised(many).mean(axis=1).idxmax()
    step = many.families.std()
    better = many.scores.sub([step["general"], step["general"], -step["math"]])  # one deviation better everywhere
    np.testing.assert_allclose(replace(many, scores=better).level(many), own - 1)
    np.testing.assert_allclose(replace(many, scores=better).standardised(many), many.standardised(many) + 1)


def test_places_count_better_references():
    known, new = scored(SCORES).of(["best", "worst"]), scored(SCORES.rename(index={"mid": "new"})).of(["new"])
    assert new.places(known).loc["new", ["macro", "place"]].tolist() == [2, 2]
    assert scored(SCORES).of(["best"]).places(scored(SCORES).of(["mid", "worst"])).loc["best", "macro"] == 1
    both = scored(SCORES).places(known)  # names that references have too
    assert both.loc["mid"].tolist() == new.places(known).loc["new"].tolist()


def test_by_family_ranks_and_levels_alike(many):
    families = many.by_family()
    pd.testing.assert_series_equal(families.ranks, many.ranks)
    pd.testing.assert_series_equal(families.level(families), many.level(many))
    assert list(families.tasks.index) == ["general", "math"] and families.units["math"] == "acc"
    assert families.directions.to_dict() == {"general": False, "math": True}


# --- the door


TWICE = pd.concat([SCORES, SCORES.loc[["mid"]]])
DOOR = {
    "task without scores": (lambda t: t.drop(columns="gsm"), "task 'gsm' is missing"),
    "hole": (lambda t: t.assign(arc=[1, np.nan, 2]), "mixture 'mid' has no score for 'arc'"),
    "mixture without scores": (lambda t: t.drop(index="mid"), "'mid' lacks its one row"),
    "scores without mixture": (lambda t: t.rename(index={"mid": "odd"}), "'mid' lacks its one row"),
    "scored twice": (lambda t: TWICE, "'mid' lacks its one row"),
    "one task, two columns": (lambda t: pd.concat([t, t[["arc"]]], axis=1), "task 'arc' comes twice"),
}


@pytest.mark.parametrize(("change", "message"), DOOR.values(), ids=DOOR)
def test_what_does_not_match_is_named(change, message):
    with pytest.raises(Refusal, match=message):
        replace(scored(SCORES), scores=change(SCORES))


def test_names_come_once():
    with pytest.raises(Refusal, match="mixture 'mid' comes twice"):
        scored(TWICE)
    with pytest.raises(Refusal, match="task 'arc' comes twice"):
        scored(SCORES, pd.concat([TASKS, TASKS.loc[["arc"]]]))
    with pytest.raises(Refusal, match="mixture 'mid' comes twice"):
        scored(SCORES) + scored(SCORES).of(["mid"])


# --- parts


def test_adding_is_stacking_and_nothing_is_neutral(many):
    head, tail = many.take(range(4)), many.take(range(4, 9))
    for whole in (head + tail, Scored.none(TASKS) + many, many + Scored.none(TASKS)):
        pd.testing.assert_frame_equal(whole.scores, many.scores)
        pd.testing.assert_frame_equal(whole.mixtures, many.mixtures)
    wider = replace(
        tail, scores=tail.scores.assign(new=1.0), tasks=describe([*TASKS.index, "new"], unit="", higher_is_better=True)
    )
    pd.testing.assert_frame_equal((head + wider).tasks, TASKS)
    assert len(Scored.none(TASKS)) == 0 and (replace(head, notes=("a",)) + replace(tail, notes=("b",))).notes == (
        "a",
        "b",
    )


def test_parts_keep_rows_together(many, rng):
    some = many.sample(4, rng=rng)
    assert len(some) == 4 and some.candidates == many.candidates
    pd.testing.assert_frame_equal(some.scores, many.scores.loc[some.names])
    pd.testing.assert_frame_equal(some.mixtures, many.mixtures.loc[some.names])
    rest, held = many.split(1 / 3, rng=rng)
    assert (len(rest), len(held)) == (6, 3) and set(rest.names) | set(held.names) == set(many.names)
    assert many.of(["m3", "m1"]).names == many.take([3, 1]).names == ["m3", "m1"]
    assert list(many.only(["gsm"]).scores) == list(many.only(["gsm"]).tasks.index) == ["gsm"]


def test_parts_that_cannot_be_are_refused(many, rng):
    with pytest.raises(Refusal, match="leaves nothing"):
        many.split(0.01, rng=rng)
    with pytest.raises(Refusal, match="leaves nothing"):
        many.split(1.0, rng=rng)
    with pytest.raises(Refusal, match="cannot draw 10 mixtures out of 9"):
        many.sample(10, rng=rng)


def test_a_mixture_is_known_by_its_shares_whatever_its_name(many):
    others = scored(many.scores, seed=1)
    assert not others.shared_with(many).any()
    same = others.mixtures.copy()
    same.loc["m5"] = many.mixtures.loc["m2"] + [4e-8, -4e-8]  # as a CSV of seven digits rounds it
    assert replace(others, mixtures=same[["math", "web"]]).shared_with(many).tolist() == [n == "m5" for n in many.names]


def test_dealt_scores_are_the_same_rows_elsewhere(many, rng):
    other = dealt(many, rng=rng)
    pd.testing.assert_frame_equal(other.mixtures, many.mixtures)
    rows = {tuple(row) for row in many.scores.to_numpy()}
    assert {tuple(row) for row in other.scores.to_numpy()} == rows and not other.scores.equals(many.scores)


# --- mixtures that were scored several times


@pytest.fixture
def repeated(rng) -> Scored:
    """Twelve mixtures, five seeds each, in any order; the mixture's own score is its share, the noise 0.01."""
    share = np.repeat(np.linspace(0.05, 0.95, 12), 5)
    shares = pd.DataFrame({"web": share, "math": 1 - share}, [f"m{i // 5}-s{i % 5}" for i in range(60)])
    scores = pd.DataFrame({task: share + rng.normal(0, 0.01, 60) for task in TASKS.index}, shares.index)
    order = rng.permutation(60)
    return Scored(shares.iloc[order], scores.iloc[order], TASKS)


def test_rows_of_one_mixture_are_found_whatever_they_are_called(repeated, many):
    assert repeated.repeated and not many.repeated and not Scored.none(TASKS).repeated
    of = [name.partition("-")[0] for name in repeated.names]
    assert pd.Series(repeated.groups).groupby(of).nunique().eq(1).all() and len(set(repeated.groups)) == 12


def test_a_mixture_is_ranked_once_by_its_mean(repeated):
    once = repeated.averaged()
    assert len(once) == 12 and once.averaged() is once
    of = pd.Index([name.partition("-")[0] for name in repeated.names])
    means = repeated.scores.groupby(of).mean()
    pd.testing.assert_frame_equal(once.scores.rename(lambda name: name.partition("-")[0]), means.loc[of.unique()])
    assert repeated.family_ranks.groupby(of).nunique().eq(1).all(axis=None)
    assert sorted(set(repeated.family_ranks["general"])) == list(range(1, 13))
    assert repeated.family_ranks.loc[once.names].equals(once.family_ranks)
    np.testing.assert_allclose(repeated.averaged().level(repeated).mean(), 0, atol=1e-12)
    assert once.take([0]).places(repeated)["place"].max() <= 13, "five seeds of a rival are one rival"


def test_a_family_called_as_a_column_of_ours_has_no_place(many):
    other = replace(many, tasks=many.tasks.assign(family="macro", unit="bpb", higher_is_better=False))
    with pytest.raises(Refusal, match="a family is called 'macro'"):
        other.places(other)


def test_the_noise_is_that_of_one_score(repeated, many):
    assert repeated.noise.to_dict() == pytest.approx(dict.fromkeys(TASKS.index, 0.01), rel=0.35)
    groups = [repeated.scores[repeated.groups == number] for number in range(12)]
    pooled = np.sqrt(sum((group.var(ddof=1) * (len(group) - 1)) for group in groups) / 48)
    pd.testing.assert_series_equal(repeated.noise, pooled)
    with pytest.raises(Refusal, match="none of 9 mixtures was scored twice"):
        _ = many.noise


def test_no_split_parts_the_rows_of_a_mixture(repeated):
    for seed in range(20):
        rest, held = repeated.split(1 / 3, rng=np.random.default_rng(seed))
        assert len(held) == 20 and len(rest) == 40 and not held.shared_with(rest).any()
    (one, _), (other, _) = (repeated.split(0.5, rng=np.random.default_rng(seed)) for seed in (0, 1))
    assert one.names != other.names


def test_what_all_mixtures_score_alike_is_named(many):
    flat = replace(many, scores=many.scores.assign(arc=0.1 + 0.2 + 1e-13 * np.arange(9)))
    rest, names = flat.varying()
    assert names == ["arc"] and list(rest.scores) == ["piqa", "gsm"] == list(rest.tasks.index)
    assert many.varying() == (many, [])
    with pytest.raises(Refusal, match="all 9 mixtures score alike, 'arc' and all other tasks"):
        flat.only(["arc"]).varying()
    with pytest.raises(Refusal, match="'math' is the same in all 9 mixtures and has no scale"):
        many.level(replace(many, scores=many.scores.assign(gsm=0.0)))


# --- files


def test_what_is_written_is_read_back(many, tmp_path):
    many.write(tmp_path, "own")
    store.write(TASKS, tmp_path / "tasks.csv", "tasks")
    again = reading.scored(tmp_path / "own_mixtures.csv", tmp_path / "own_scores.csv", tmp_path / "tasks.csv")
    pd.testing.assert_frame_equal(again.scores, many.scores, check_names=False)
    pd.testing.assert_frame_equal(again.mixtures, many.mixtures, check_names=False)
    pd.testing.assert_series_equal(again.ranks, many.ranks, check_names=False)


def test_any_pair_of_csv_files_is_read_by_name(tmp_path):
    shares, scores = tmp_path / "mixtures.csv", tmp_path / "scores.csv"
    pd.DataFrame({"a": [3, 1], "b": [1, 1]}, ["x", "y"]).to_csv(shares)
    pd.DataFrame({"loss": [2.0, 1.0]}, ["y", "x"]).to_csv(scores)
    given = reading.scored(shares, scores)
    assert given.mixtures.loc["x", "a"] == 0.75 and given.scores.loc["x", "loss"] == 1.0 and given.best == "x"
    assert not given.tasks.loc["loss", "higher_is_better"] and len(given.notes) == 2
    assert reading.scored(shares, scores, higher_is_better=True).best == "y"


FILES = {
    "no partner": ("x,1\nz,2", r"scores.csv: 2 rows have no partner among the mixtures or scores, first 'y'"),
    "twice": ("x,1\ny,2\ny,3", r"scores.csv: row 'y' comes twice, with 2 and 3 in 'loss'; keep one"),
    "text": ("x,1\ny,oops", r"scores.csv: row 'y', column 'loss' holds 'oops'"),
    "hole": ("x,1\ny,", r"scores.csv: row 'y', column 'loss' holds nothing"),
    "infinite": ("x,inf\ny,1", r"scores.csv: row 'x', column 'loss' holds 'inf'"),
}


@pytest.mark.parametrize(("rows", "message"), FILES.values(), ids=FILES)
def test_a_broken_file_is_named(tmp_path, rows, message):
    (tmp_path / "mixtures.csv").write_text("mixture,a,b\nx,0.5,0.5\ny,1,0\n")
    (tmp_path / "scores.csv").write_text(f"mixture,loss\n{rows}\n")
    with pytest.raises(Refusal, match=message):
        reading.scored(tmp_path / "mixtures.csv", tmp_path / "scores.csv")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(Refusal, match=r"no score file at .*other\.csv"):
        scoresheets.scores(tmp_path / "other.csv")


def test_pairing_follows_the_mixtures():
    shares = pd.DataFrame({"a": 1.0}, ["x", "y"])
    losses = pd.DataFrame({"loss": [1.0, 2.0]}, ["y", "x"])
    assert scoresheets.paired(shares, losses, "t")["loss"].tolist() == [2.0, 1.0]


# --- nothing scored


@pytest.mark.parametrize("candidates", [[], ["web", "math"]], ids=["none", "two"])
def test_nothing_is_scored_like_anything_else(many, candidates, tmp_path):
    nothing = Scored.none(TASKS, candidates)
    assert list(nothing.families) == list(nothing.family_ranks) == ["general", "math"]
    assert nothing.ranks.dtype == nothing.level(many).dtype == float and len(nothing.ranks) == 0
    for part in (nothing.averaged(), nothing.of([]), nothing.take([]), nothing.only(["gsm"]), nothing.by_family()):
        assert len(part) == 0 and not part.repeated
    assert list(nothing.by_family().tasks.index) == ["general", "math"]
    assert list(nothing.places(many)) == list(many.places(nothing)) == ["general", "math", "macro", "place"]
    assert many.places(nothing)["place"].eq(1).all(), "the first where there is nobody else"
    assert (nothing + many).scores.equals(many.scores) and (many + nothing).mixtures.equals(many.mixtures)
    nothing.write(tmp_path, "no")
    kept = store.read(tmp_path / "no_mixtures.csv", "mixtures")
    again = Scored(kept, store.read(tmp_path / "no_scores.csv", "scores"), TASKS)
    assert list(again.mixtures) == candidates and again.families.equals(nothing.families)


def test_what_nothing_cannot_tell_is_refused(many, rng):
    nothing = Scored.none(TASKS, many.candidates)
    asked = {
        "score some": lambda: nothing.best,
        "nothing is to learn": nothing.varying,
        "noise is not known": lambda: nothing.noise,
        "has no scale": lambda: many.level(nothing),
        "leaves nothing on one side": lambda: nothing.split(0.5, rng=rng),
    }
    for told, ask in asked.items():
        with pytest.raises(Refusal, match=told):
            ask()


def test_a_family_in_two_units_is_two_where_both_steer():
    tasks = pd.DataFrame({"family": ["g", "g", "m", "m"], "unit": ["bpb", "acc", "bpb", "acc"],
                          "target": [True, True, True, False]}, index=list("abcd"))  # fmt: skip
    assert parted(tasks)["family"].tolist() == ["g, bpb", "g, acc", "m", "m"]
    assert parted(tasks.drop(columns="target"))["family"].tolist() == ["g, bpb", "g, acc", "m, bpb", "m, acc"]
    assert parted(TASKS).equals(TASKS)
