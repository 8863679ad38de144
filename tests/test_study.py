"""A study opens what is asked for and nothing else; tables by name, models by role."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import REPOSITORY

from demix_nb import tied
from demix_nb.mixtures import as_table, natural, uniform
from demix_nb.predictors import PREDICTORS
from demix_nb.region import Region
from demix_nb.running.given import Given
from demix_nb.store import Refusal
from demix_nb.study import Study


def test_tables_are_read_and_written_by_name_and_checked(tmp_path):
    study = Study.open(tmp_path)
    table = pd.DataFrame({"a": [0.25, 1.0]}, index=pd.Index(["x", "y"], name="mixture"))
    study["some_mixtures"] = table
    pd.testing.assert_frame_equal(study["some_mixtures"], table)
    assert "some_mixtures" in study and "quality" not in study
    with pytest.raises(Refusal, match=r"no table at .*quality.csv; run the notebook"):
        study["quality"]
    with pytest.raises(Refusal, match=r"quality.csv: .*'mixture', expected 'model'"):
        study["quality"] = table
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["some_mixtures.csv"]


def test_tables_may_be_given_and_what_is_written_stays_apart(tmp_path):
    table = pd.DataFrame({"a": [0.25], "b": [0.75]}, index=pd.Index(["x"], name="mixture"))
    Study.open(tmp_path / "theirs")["named_mixtures"] = table
    study = Study.open(tmp_path / "mine", given=tmp_path / "theirs" / "tables")
    pd.testing.assert_frame_equal(study["named_mixtures"], table)
    study["named_mixtures"] = 0 * table + 0.5
    pd.testing.assert_frame_equal(study["named_mixtures"], table)
    assert (tmp_path / "mine" / "tables" / "named_mixtures.csv").is_file()


def committed(tmp_path, **tables) -> Study:
    """The laptop's committed tables, some of them changed."""
    folder = tmp_path / "tables"
    shutil.copytree(REPOSITORY / "data" / "results" / "laptop", folder)
    study = Study.open(tmp_path)
    for name, table in tables.items():
        study[name] = table
    return said(study)


def said(study: Study, **section) -> Study:
    """The same with a study file that says no more than this."""
    content = {"candidates": {name: {} for name in study.candidates}} | section
    (study.folder / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return Study.open(study.folder)


def plain(study: Study) -> pd.DataFrame:
    mixtures = {"uniform": uniform(study.candidates), "natural": natural(study.tokens)}
    return as_table(mixtures)


def test_headroom_is_counted_in_what_a_second_seed_changes(tmp_path):
    """The oracle is the formula, from the same predictions."""
    study = committed(tmp_path)
    known = study.references
    predictor = PREDICTORS["ridge"].new(rng=np.random.default_rng(0)).fit(study.scored("merged", "reference"))
    named = pd.concat([known.mixtures.iloc[:2].set_axis(["winner", "other"]), plain(study)])
    found = study.headroom(predictor, known, named, "winner", rng=np.random.default_rng(1))
    levels = predictor.predict(named).level(known)
    again = study.scored("replicate", "reference").level(known)
    noise = (again - known.level(known)[again.index]).std() / 2**0.5
    rival = levels[["uniform", "natural"]].min()
    assert found["baseline"] in ("uniform", "natural") and found["noise"] == pytest.approx(noise, abs=1e-4)
    assert found["headroom"] == pytest.approx((rival - levels["winner"]) / noise, abs=1e-3)
    assert found["low"] < found["headroom"] < found["high"] and f"{found['headroom']:.1f} [" in found["told"]
    own = pd.concat([named, named.loc[["other"]].set_axis(["baseline"])])
    told = study.headroom(predictor, known, own, "winner", rng=np.random.default_rng(1))
    assert told["baseline"] == "baseline"
    assert told["gain"] == pytest.approx(levels["other"] - levels["winner"], abs=1e-4)


def test_headroom_without_references_or_second_seeds_is_told_in_standard_deviations(tmp_path):
    whole = committed(tmp_path / "whole")
    proxies = whole.scored("merged", "reference")
    predictor = PREDICTORS["ridge"].new(rng=np.random.default_rng(0)).fit(proxies)
    none = whole["reference_scores"].iloc[:0]
    bare = committed(tmp_path / "bare", reference_scores=none, replicate_scores=none)
    for study, among in ((bare, proxies), (committed(tmp_path / "one", replicate_scores=none), whole.references)):
        named = pd.concat([proxies.mixtures.iloc[:1].set_axis(["winner"]), plain(study)])
        found = study.headroom(predictor, proxies, named, "winner", rng=np.random.default_rng(1))
        levels = predictor.predict(named).level(among)
        assert found["gain"] == pytest.approx(levels[["uniform", "natural"]].min() - levels["winner"], abs=1e-4)
        assert found["headroom"] is found["low"] is found["high"] is found["noise"] is None
        assert "what a second seed changes is not known" in found["told"]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """The laptop's committed study, its merged proxies, a region that binds, and a predictor that knows its spread."""
    study = committed(tmp_path_factory.mktemp("laptop"))
    proxies = study.scored("merged", "reference")
    sure = PREDICTORS["gaussian_process"].new(rng=np.random.default_rng(0)).fit(proxies)
    return study, proxies, Region(study.candidates, upper={"math_word": 0.05, "code_stdlib": 0.05}), sure


def by_others(families):
    return families["math"].rank()


def by_math(families):
    return 10 * families["math"]


def test_ties_and_prices_are_of_the_objective(fitted):
    """The rank is told by the level; a utility that is ten times another has its set and ten times its prices."""
    study, proxies, region, sure = fitted

    def certain(noise=0.5, **section):
        given = (region, proxies, uniform(study.candidates), noise)
        return said(study, **section).certain(sure, *given, rng=np.random.default_rng(1))

    rank, level = certain(), certain(objective="level")
    assert len(rank.tied) and len(rank.prices) and rank.why == ""
    answer = uniform(study.candidates)
    assert rank.choose("", answer, answer) is answer
    for rule in tied.RULES:
        chosen = rank.choose(rule, answer, answer)
        assert chosen.ge(rank.tied["low"] - 1e-9).all() and chosen.le(rank.tied["high"] + 1e-9).all()
    assert rank.choose("nearest", answer, answer).equals(rank.found.choose("nearest", answer))
    pd.testing.assert_frame_equal(rank.tied, level.tied)
    pd.testing.assert_frame_equal(rank.prices, level.prices)
    assert len(certain(objective="worst family").tied)
    math, tenfold = certain(objective={"math": 1.0}), certain(objective="test_study:by_math", noise=5.0)
    pd.testing.assert_frame_equal(math.tied, tenfold.tied)
    assert not math.tied.equals(level.tied)
    np.testing.assert_allclose(10 * math.prices["gain"], tenfold.prices["gain"], rtol=0.02)


def test_a_set_is_asked_of_mixtures_that_may_be_called_alike_or_break_a_bound(fitted):
    study, proxies, region, sure = fitted
    allowed = region.draw(2, rng=np.random.default_rng(4))
    known = pd.concat({"named": study.plain, "reference": allowed.set_axis(["uniform", "natural"])})
    given = (sure, region, proxies, uniform(study.candidates), 50.0)  # a noise at which all is as good
    told = study.certain(*given, also=known, rng=np.random.default_rng(1))
    ties = told.ties(known)
    assert ties.query("kind == 'reference'")["tied"].all()
    assert list(ties.query("kind == 'named'")["tied"]) == list(region.holds(study.plain)), "what breaks a bound is not"
    outside = study.plain.index[~region.holds(study.plain)][0]
    assert told.ties(known, taken=outside).query("kind == 'named'").loc[outside, "tied"]
    none = study.certain(sure, region, proxies, given[3], None, also=known, rng=np.random.default_rng(1))
    assert not len(none.ties(known)) and list(none.ties(known)) == ["kind", "tied"]


def test_what_cannot_be_told_says_why(fitted):
    study, proxies, region, sure = fitted
    unsure = PREDICTORS["ridge"].new(rng=np.random.default_rng(0)).fit(proxies)
    reasons = {
        "ridge does not say how sure it is": (unsure, 0.5, {}),
        "what a second seed changes is not known": (sure, None, {}),
        "values a mixture by the others it stands with": (sure, 0.5, {"objective": "test_study:by_others"}),
    }
    for reason, (predictor, noise, section) in reasons.items():
        told = said(study, **section).certain(
            predictor, region, proxies, uniform(study.candidates), noise, rng=np.random.default_rng(1)
        )
        assert reason in told.why and not len(told.tied) and not len(told.prices)
        assert told.choose("", uniform(study.candidates), uniform(study.candidates)).equals(uniform(study.candidates))
        with pytest.raises(Refusal, match=f"no tied set to take 'best' of: .*{reason}"):
            told.choose("best", uniform(study.candidates), uniform(study.candidates))


def test_under_a_guardrail_only_what_keeps_it_is_tied_and_it_has_a_price(fitted):
    """The best of code alone forget mathematics: a guardrail keeps them out, and says what it costs."""
    study, proxies, region, sure = fitted
    section = {"objective": {"code": 1.0}, "run": {"baseline": uniform(study.candidates).to_dict()}}

    def certain(margin):
        own, rng = said(study, guardrails={"math": margin}, **section), np.random.default_rng(1)
        return own._rails(sure), own.certain(sure, region, proxies, uniform(study.candidates), 0.05, rng=rng)

    (_, loose), (rails, tight) = certain(9.0), certain(0.05)
    assert rails.keep(tight.found.mixtures).all() and not rails.keep(loose.found.mixtures).all()
    assert len(loose.prices) and "guardrail math" not in loose.prices.index and loose.why == tight.why == ""
    assert tight.prices.loc["guardrail math", "gain"] > 0
    with pytest.raises(Refusal, match="none of 20000 mixtures of the region keeps the guardrails; widen their margins"):
        certain(-9.0)


def test_the_answer_is_one_sentence_with_units_and_intervals(fitted):
    study = fitted[0]
    shares = dict(zip("abcdefg", [0.4, 0.2, 0.1, 0.1, 0.1, 0.06, 0.04], strict=True))
    answer = {
        "mixture": shares, "tied": {"a": [0.25, 0.5]}, "predicted": {"math": 3.1}, "interval": {"math": [3.0, 3.2]},
        "units": {"math": "bpb"}, "evidence": "references", "found_by": "demix, mixed",
        "headroom": {"told": "something to find: 3.0 [2.1, 4.0] seed noises ahead of it", "baseline": "uniform"},
    }  # fmt: skip
    assert study.sentence(answer) == (
        "Train on a 40% (25% to 50% as good), b 20%, c 10%, d 10%, e 10%, 2 others 10%; against uniform "
        "something to find: 3.0 [2.1, 4.0] seed noises ahead of it; its mixed proxy is predicted to score "
        "math 3.100 [3.000, 3.200] bpb (90 %); evidence: references."
    )
    assert "; a run is predicted" in study.sentence(answer | {"found_by": "demix, table"})


def test_headroom_is_counted_in_the_objective(fitted):
    study, proxies, _, sure = fitted
    named = pd.concat([study.references.mixtures.iloc[:1].set_axis(["winner"]), plain(study)])
    one, ten = (
        said(study, objective=objective).headroom(sure, proxies, named, "winner", rng=np.random.default_rng(1))
        for objective in ({"math": 1.0}, "test_study:by_math")
    )
    assert ten["gain"] == pytest.approx(10 * one["gain"], rel=1e-3) and ten["noise"] == pytest.approx(
        10 * one["noise"], rel=1e-3
    )
    assert ten["headroom"] == pytest.approx(one["headroom"], rel=1e-3)


def test_opening_imports_no_torch_and_a_folder_without_a_study_says_what_to_run(tmp_path):
    code = f"""if True:
        import sys
        from demix_nb.study import Study
        study = Study.open({str(tmp_path)!r})
        print(*{{"torch", "transformers", "lm_eval", "sklearn", "seaborn"}} & set(sys.modules))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    study = Study.open(tmp_path)
    for ask in (lambda: study.file, lambda: study.candidates, lambda: study.bank):
        with pytest.raises(Refusal, match="demix-nb run"):
            ask()


def test_models_are_trained_once_under_their_role_and_budget(small_study):
    design = small_study.region.draw(2, rng=np.random.default_rng(8), prefix="s")
    models = small_study.train(design, "short", budget=0.25)
    assert [path.name for path in models.folders.values()] == ["short-0.25-s0", "short-0.25-s1"]
    assert (models.records["kind"] == "short").all() and set(models.records["tokens"]) == {1280}
    before = {path: (path / "training.json").stat().st_mtime_ns for path in models.folders.values()}
    again = small_study.train(design, "short", budget=0.25)
    assert {path: (path / "training.json").stat().st_mtime_ns for path in again.folders.values()} == before
    both = models + small_study.train(design.rename(index=str.upper), "short", budget=0.25)
    assert list(both.folders) == ["s0", "s1", "S0", "S1"] and len(both.records) == 4


def brought(small_study, folder, **more):
    """The models of the small study as somebody else's: a study file, checked at the door, in a run's folder."""
    folder.mkdir(parents=True)
    text = {name: f"{name}.jsonl" for name in small_study.candidates}
    for name, documents in small_study.heldout.heldout.items():
        (folder / text[name]).write_text("\n".join(json.dumps({"text": document}) for document in documents))
    content = {
        "candidates": {name: {"component": str(path)} for name, path in small_study.components.folders.items()},
        "base": str(small_study.file.base), "window": 32, "tasks": [{"heldout": text}],
    }  # fmt: skip
    (folder / "study.yaml").write_text(yaml.safe_dump(content | more, sort_keys=False))
    opened = Given.open(folder / "study.yaml")
    opened.install(opened.folder)
    return Study.open(opened.folder, n_jobs=1)


def test_what_is_trained_elsewhere_is_not_trained_here(small_study, tmp_path):
    study = brought(small_study, tmp_path / "team")
    assert study.folder == tmp_path / "team" / "run" and not study.trains and study.opens
    models = study.train(study.corners, "reference")
    assert len(models) == 0 and not models.folders and list(models.records) == list(small_study.start.records)
    assert len(study.design(16, rng=np.random.default_rng(0))) == 0
    measured = study.measure(models)
    assert len(measured) == 0 and list(measured.scores) == list(study.tasks.index)


def test_checkpoints_of_others_are_a_study(small_study, tmp_path):
    study = brought(small_study, tmp_path / "team")
    assert study.candidates == small_study.candidates and study.general is None and study.beta == 1
    ours, theirs = small_study.proxy("merged")(study.corners), study.proxy("merged")(study.corners)
    pd.testing.assert_frame_equal(theirs.scores, ours.scores[list(theirs.scores)], rtol=1e-6)
    really = study.measure(study.components).scores
    for kind in study.kinds:
        pd.testing.assert_frame_equal(study.proxy(kind)(study.corners).scores, really, rtol=1e-5)
    assert theirs.scores["heldout_math"].idxmin() == ours.scores["heldout_math"].idxmin() == "math"
    assert study.recipe(study.corners.loc["math"])["math"] == 1


def test_references_are_models_or_scores_or_not_there(small_study, tmp_path):
    design = small_study.corners.set_axis(["x", "y", "z"])
    trained = small_study.train(design, "reference")
    (tmp_path / "refs.csv").parent.mkdir(exist_ok=True)
    design.to_csv(tmp_path / "refs.csv", index_label="mixture")
    places = {name: str(path) for name, path in trained.folders.items()}
    as_models = {"mixtures": str(tmp_path / "refs.csv"), "checkpoints": places}
    study = brought(small_study, tmp_path / "models", references=as_models)
    drawn = study.design(9, rng=np.random.default_rng(0))
    pd.testing.assert_frame_equal(drawn, design.rename_axis("mixture"), check_names=False)
    measured = study.measure(study.train(drawn, "reference"))
    measured.scores.to_csv(tmp_path / "scores.csv", index_label="mixture")
    as_scores = {"mixtures": str(tmp_path / "refs.csv"), "scores": str(tmp_path / "scores.csv")}
    again = brought(small_study, tmp_path / "scores", references=as_scores)
    taken = again.measure(again.train(drawn, "reference"))
    pd.testing.assert_frame_equal(taken.scores, measured.scores, check_names=False)
    assert len(again.brought["replicate"]) == 0


def test_natural_shares_are_those_of_the_text_given(small_study):
    table = small_study["corpora"]
    assert (table["tokens"] > table["train_tokens"]).all()
    assert np.allclose(small_study.plain.loc["natural"], table["tokens"] / table["tokens"].sum())


def test_bounds_of_data_bind_the_recipe(small_study):
    tokens, general = small_study.tokens, small_study.general
    target = 1.2 * float(tokens.sum())
    region = small_study.bounded({}, max_epochs=2.0, target_tokens=target)
    drawn = region.draw(50, rng=np.random.default_rng(0))
    recipes = drawn.apply(small_study.recipe, axis=1)
    assert (recipes * target <= 2.0 * tokens * (1 + 1e-6)).all(axis=None)
    assert region.upper[general] < region.upper.drop(general).max()
    with pytest.raises(Refusal, match="give both or neither"):
        small_study.bounded({}, max_epochs=2.0)


def test_unknown_kinds_are_named(small_study):
    with pytest.raises(Refusal, match="no kind of proxy 'ensemble'; there are merged"):
        small_study.proxy("ensemble")


def test_the_answer_is_whole(small_study):
    path = small_study.answer({"mixture": {"a": 0.5, "ü": 0.5}})
    assert yaml.safe_load(path.read_text()) == {"mixture": {"a": 0.5, "ü": 0.5}}
    assert [file.name for file in small_study.folder.glob("*mixture*")] == ["mixture.yaml"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read"),
        ("[]", "must map keys to values; it holds a list"),
        ("genral: a", "key 'genral'"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, told):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(Refusal, match=rf"study\.yaml.*{told}"):
        _ = Study.open(tmp_path).file


def test_a_study_trained_here_opens_on_the_processor_wherever_it_is(small_study, monkeypatch):
    monkeypatch.setattr("demix_nb.devices._gpus", lambda: ["cuda:0"])
    opened = Study.open(small_study.folder, n_jobs=2)
    assert (opened.store.device, opened.store.n_jobs) == ("cpu", 2)
