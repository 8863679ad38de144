"""Tables that went wrong for somebody: each does now what it must. The files lie beside the repository."""

import pandas as pd
import pytest
import yaml
from commands import ALONE, Command
from conftest import REPOSITORY

from demix_nb import interactions, reading, store
from demix_nb.predictors import PREDICTORS, check_enough
from demix_nb.region import Region
from demix_nb.running import runner
from demix_nb.store import Refusal

CANDIDATES = ["general", "math_word", "math_drill", "math_prose", "code_stdlib", "code_scientific", "code_cpp"]


@pytest.fixture
def case(shared):
    """Return the files of a case by its name: mixtures, scores and, where there are some, tasks."""

    def files(name):
        found = {path.stem: path for path in (shared / "cases" / name).iterdir()}
        return [found[stem] for stem in ("mixtures", "scores", "tasks") if stem in found]

    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("two-phases", "rows? .*sums? to 2, .*'phase_0' and 'phase_1' sum to 1 each"),
        ("seed-column", "with it to 1 … 3; is 'seed' a candidate"),
        ("task-misspelt", "'acc_cod' is a task without scores; did you mean 'acc_code'"),
    ],
)
def test_what_would_be_wrong_and_nobody_told_is_refused(case, name, message):
    with pytest.raises(Refusal, match=message):
        reading.scored(*case(name))


def test_a_direction_in_words_is_understood(case):
    read = reading.scored(*case("direction-yes"))
    assert read.tasks["higher_is_better"].all() and read.scores.loc[read.best].mean() > read.scores.mean(axis=None)


def test_names_of_runs_are_text(case):
    assert reading.scored(*case("run-names-exponent")).names[:3] == ["00e1", "00e2", "00e3"]


def test_any_separator_is_read_to_the_same_values(case):
    one, other = (reading.scored(*case(name)) for name in ("semicolons", "tabs"))
    pd.testing.assert_frame_equal(one.mixtures, other.mixtures)
    pd.testing.assert_frame_equal(one.scores, other.scores)


def test_what_all_runs_score_alike_is_named(case):
    rest, flat = reading.scored(*case("constant-metric")).varying()
    assert flat == ["humaneval_pass1"] and list(rest.scores) == ["web_loss", "code_loss"]


def test_effects_are_of_a_step_that_the_runs_reach(case):
    seen = reading.scored(*case("many-domains"))
    step = interactions.step_of(seen.mixtures)
    assert 0 < step < 0.1 and len(interactions.reached(seen.mixtures, step=step)) > 1


def test_too_few_runs_say_how_many_are_needed(case):
    with pytest.raises(Refusal, match="7 mixtures are too few to judge by, 10 are needed"):
        check_enough(reading.scored(*case("seven-runs")), list(PREDICTORS), held=1 / 3)


MIXTURES = {
    "no_name_column.csv": "the first column, 'general', holds shares",
    "key_twice.yaml": "'math_word' stands twice",
}


@pytest.mark.parametrize(("name", "message"), MIXTURES.items())
def test_a_mixture_file_without_names_or_with_one_twice_is_refused(shared, name, message):
    with pytest.raises(Refusal, match=message):
        reading.mixtures(shared / "cases" / "mixtures-file" / name, CANDIDATES)


def test_small_numbers_are_read_as_programs_write_them(shared):
    read, notes = reading.mixtures(shared / "cases" / "mixtures-file" / "exponent.yaml")
    assert read.iloc[0].to_dict() == {"general": 0.9, "math_word": 0.1} and notes == []


def test_the_epochs_of_the_general_candidate_count_what_dilutes():
    tokens = store.read(REPOSITORY / "data" / "results" / "laptop" / "corpora.csv", "corpora")["tokens"]
    limits = {"epochs": 1.0, "general": "general", "beta": 0.5}
    with pytest.raises(Refusal, match=r"diluting with 'general' alone repeats it 1\.7 times"):
        Region.of_data(tokens, target_tokens=2 * 1.7 * tokens["general"], **limits)
    target = 1.2 * tokens["general"]
    allowed = Region.of_data(tokens, target_tokens=target, **limits).upper["general"]
    assert 0.5 * target + 0.5 * allowed * target == pytest.approx(tokens["general"])


REFUSED = [
    ("05", {"max_epochs": "1"}, "target_tokens is 0; they limit data together"),
    ("05", {"recommend": "ensembl"}, "recommend is 'ensembl'; known: merged, mixed, table"),
    ("05", {"predictor": "lightgbm"}, "predictor is 'lightgbm'; did you mean lightgbm_"),
    ("01", {"batch": "0"}, "batch is 0"),
    ("01", {"base_tokens": "0"}, "base_tokens is 0"),
    ("01", {"hidden": "0"}, "hidden is 0"),
]


@pytest.mark.parametrize(("step", "given", "message"), REFUSED)
def test_options_are_refused_before_the_first_cell(step, given, message):
    with pytest.raises(Refusal, match=message):
        runner.plan([step], "smoke", given)


# --- the same through the notebooks


def of(files, folder):
    """A study file of these tables, as the command takes it."""
    given = dict(zip(("mixtures", "scores", "tasks"), map(str, files), strict=False))
    (folder / "study.yaml").write_text(yaml.safe_dump({"proxies": given}))
    return "--study", str(folder / "study.yaml")


@pytest.fixture
def both(case, tmp_path):
    """One pair of tables: ten mixtures with five seeds each, and beside their losses a constant metric."""
    shares, scores = (pd.read_csv(file) for file in case("replicates"))
    shares.to_csv(tmp_path / "mixtures.csv", index=False)
    scores.assign(humaneval_pass1=0.0).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path / "mixtures.csv", tmp_path / "scores.csv"


@pytest.mark.notebooks
def test_repeats_and_a_constant_metric_go_through_the_regression(both, tmp_path):
    printed = Command(tmp_path / "run", "04", *ALONE, *of(both, tmp_path)).finish()
    found = store.read(tmp_path / "run" / "summary" / "04_regression.csv", "summary")["value"]
    assert found["left out, nothing to learn"] == "humaneval_pass1" and "humaneval_pass1" in printed
    assert float(found["its mean ρ on held out"]) > 0.9 and found["runs fitted"] == "35"


@pytest.mark.notebooks
def test_shares_of_many_candidates_go_through_the_interactions(case, tmp_path):
    printed = Command(tmp_path / "run", "06", *ALONE, *of(case("many-domains"), tmp_path)).finish()
    found = store.read(tmp_path / "run" / "summary" / "06_domain_interactions.csv", "summary")["value"]
    assert 0 < float(found["step of share"]) < 0.1 and "step of share" in printed
