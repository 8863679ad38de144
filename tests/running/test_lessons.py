"""Exercises know the answers of the study that is open, and tell whoever is wrong where to look."""

import nbformat
import pandas as pd
import pytest
from commands import REPOSITORY

from demix_nb.running import lessons, runner
from demix_nb.running.lessons import EXERCISES, exercises
from demix_nb.store import Refusal
from demix_nb.study import Study

RESULTS = REPOSITORY / "data" / "results" / "laptop"
ALL = [(step, n) for step, rows in EXERCISES.items() for n in rows]


@pytest.fixture(scope="module")
def study():
    return Study.open(RESULTS, given=RESULTS)


def said(capsys, check, n, answer):
    check(n, answer)
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(("step", "n"), ALL)
def test_every_exercise_knows_its_answer_and_no_other(step, n, study, capsys):
    row, check = EXERCISES[step][n], exercises(step, study)
    right = row.answer(study)
    every = sorted(right) if isinstance(right, set) else [right]
    for one in every:
        assert said(capsys, check, n, one) == f"{n}: right. {row.because}"
    wrong = f"not {every[-1]}" if isinstance(every[-1], str) else every[-1] + 1
    assert said(capsys, check, n, wrong) == f"{n}: not {lessons.shown(wrong)}. {row.look}"
    assert said(capsys, check, n, ...).endswith("in the place of the dots.")
    assert said(capsys, check, n, None) == f"{n}: {lessons.shown(right)}. {row.because}"


def test_answers_are_what_the_tables_say(study):
    def answer(step, n):
        return EXERCISES[step][n].answer(study)

    models = study["component_models"].query("kind == 'component'")
    assert answer("00_tour", 1) == len(models) == len(study.candidates)
    assert models["delta"].idxmin() == f"component-{answer('01_components', 2)}"
    assert [answer("01_components", n) for n in (1, 3)] == pytest.approx([0.25, 0.5])
    assert answer("08_playground", 1) == pytest.approx(0.75)
    tokens = pd.read_csv(RESULTS / "corpora.csv", index_col=0)["tokens"]
    recipe = pd.Series(0.5 / len(tokens), tokens.index)
    recipe["general"] += 0.5
    assert answer("08_playground", 2) == (recipe / tokens).idxmax()
    merged, truth = (pd.read_csv(RESULTS / f"{kind}_scores.csv", index_col=0) for kind in ("merged", "reference"))
    family = study.ranked["family"].iloc[0]
    own = study.ranked.index[study.ranked["family"] == family]
    merged, truth = merged[own].mean(axis=1), truth[own].mean(axis=1)
    assert answer("03_proxy_fidelity", 1) == pytest.approx(truth[merged.idxmin()] - truth.min())
    assert answer("03_proxy_fidelity", 3) == pytest.approx(len(study.candidates) / 0.125)
    methods = pd.read_csv(RESULTS / "method_scores.csv", index_col=0)
    assert answer("02_merging", 1) == {"task_arithmetic"} and methods.loc["ties"].ne(methods.loc["linear"]).all()
    way = pd.read_csv(RESULTS / "path_merged_scores.csv", index_col=0)["heldout_code_cpp"]
    assert answer("02_merging", 2) == pytest.approx((way[0.0] + way[1.0]) / 2 - way[0.5]) and way[0.5] < way[0.0]
    assert answer("04_regression", 1) == 40
    rounds = pd.read_csv(RESULTS / "search_rounds.csv", index_col=0)
    assert answer("05_search", 1) == set(rounds["round"][rounds["rank"] == rounds["rank"].min()])
    free = pd.read_csv(RESULTS / "tied.csv", index_col=0)
    assert ((free["high"] - free["low"]).rank(ascending=False)[answer("05_search", 2)]) == 1
    alone = pd.read_csv(RESULTS / "quality.csv", index_col=0).groupby("strategy").mean().loc["general only"]
    assert answer("07_mixture_quality", 1) == alone[["general", "math", "code"]].astype(float).idxmin()
    assert answer("07_mixture_quality", 2) == pd.read_csv(RESULTS / "quality.csv")["macro"].min()
    assert answer("06_domain_interactions", 1) < 1e-6 and answer("06_domain_interactions", 2) < 1e-6


@pytest.mark.parametrize(("step", "n"), [one for one in ALL if one[0] != "04_regression"])
def test_a_study_without_the_tables_says_so(step, n, tmp_path, capsys):
    assert said(capsys, exercises(step, Study.open(tmp_path)), n, 1).endswith("the built-in one has it.")


def test_what_is_no_exercise_is_refused(study):
    with pytest.raises(Refusal, match="no exercises of '09'"):
        exercises("09", study)
    with pytest.raises(Refusal, match="no exercise 7 here; there are 1, 2"):
        exercises("00_tour", study)(7, 1)


def test_numbers_are_right_to_two_digits_and_names_as_they_are():
    assert (
        lessons.same(0.33, 1 / 3) and lessons.same(13, 13.0) and not lessons.same(105, 104.0) and lessons.same(0, 1e-12)
    )
    assert not lessons.same(0.3, 1 / 3) and not lessons.same("a", 1.0) and not lessons.same(1.0, "a")
    assert lessons.same("a", {"a", "b"}) and not lessons.same("c", {"a", "b"})


@pytest.mark.parametrize("step", EXERCISES)
def test_each_exercise_is_asked_in_its_notebook_and_no_other_is(step):
    cells = nbformat.read(runner.STEPS[step].path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert f'exercises("{step}", study)' in code
    assert [line for line in code.splitlines() if "check(" in line] == [f"check({n}, ...)" for n in EXERCISES[step]]
