"""The first page says one thing: what was really trained decides the verdict, and no sentence is against another."""

import re

import numpy as np
import pandas as pd
import pytest
import yaml
from fixtures_reports import finished, pages_alone

from demix_nb.running import report
from demix_nb.running.report_answer import Answer


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("answer") / "run")


@pytest.fixture(scope="module")
def index(run_dir):
    return report.write("laptop", run_dir)[0].read_text()


def told(run_dir, **changes):
    """The answer of a run with another table of who won."""
    folder = run_dir.parent / f"changed-{len([*run_dir.parent.iterdir()])}"
    (folder / "tables").mkdir(parents=True)
    for path in [*run_dir.glob("*.yaml"), *run_dir.glob("tables/*.csv")]:
        (folder / path.relative_to(run_dir)).write_bytes(path.read_bytes())
    won = pd.read_csv(folder / "tables" / "won.csv", index_col=0).assign(**changes)
    won.to_csv(folder / "tables" / "won.csv")
    return Answer.read(folder)


def test_the_sentence_says_shares_outcome_belief_and_what_is_open(run_dir):
    sentence = Answer.read(run_dir).sentence.replace("\N{NO-BREAK SPACE}", " ")
    mixture = yaml.safe_load((run_dir / "mixture.yaml").read_text())["mixture"]
    named = re.findall(r"(\d+) % (?!in)(\w+)", sentence.split(";")[0])
    largest = sorted(mixture.items(), key=lambda item: -item[1])[: len(named)]
    assert [(f"{100 * share:.0f}", name) for name, share in largest] == named and len(named) == 5
    assert "in 8 others" in sentence and "not shown: that" in sentence


@pytest.mark.parametrize(("gap", "said", "unsaid"), [
    (0.0, "level with uniform", "beat"), (3.0, "it beat uniform by", "any better"), (-3.0, "lost to uniform", "beat"),
])  # fmt: skip
def test_what_was_trained_decides_whether_it_won(run_dir, gap, said, unsaid):
    sentence = told(run_dir, winner_level=-gap, baseline_level=0.0, headroom=gap / 0.16).sentence
    assert said in sentence and unsaid not in sentence
    assert "something to find" not in sentence, "what was predicted is no outcome"
    seeds = {0.0: "2 seeds", 3.0: "in 2 of 2 seeds", -3.0: "in 0 of 2 seeds"}
    assert seeds[gap] in sentence and ("that it is any better than uniform" in sentence) == (gap <= 0)


def test_the_number_is_the_mean_over_seeds_and_surer_than_one(run_dir):
    answer = Answer.read(run_dir)
    assert answer.ahead["headroom"] == pytest.approx(answer.wins["headroom"].mean())
    one, two = (told(run_dir, winner_level=0.0, baseline_level=0.0) for _ in range(2))  # level: noise is all there is
    path = one.study.tables / "won.csv"
    won = pd.read_csv(path, index_col=0)
    won[won["seed"] == won["seed"].min()].to_csv(path)
    widths = [found.ahead["high"] - found.ahead["low"] for found in (one, two)]
    assert len(one.wins) == 1 and len(two.wins) == 2 and widths[1] == pytest.approx(widths[0] / np.sqrt(2), rel=0.1)


def test_a_run_without_trained_winners_says_so(run_dir):
    nobody = told(run_dir, baseline="none")
    assert "no model was trained on it: it is predicted something to find" in nobody.sentence
    assert "that it beats uniform" in nobody.sentence and next(nobody.numbers)[0] == "not known"


def test_a_run_without_an_answer_has_a_first_page(tmp_path):
    text = report.write("small", pages_alone(tmp_path))[0].read_text()
    assert "has not run yet" in text and "Try another mixture" not in text


def test_bars_are_of_the_answer_and_the_baseline_on_one_scale(run_dir, index):
    answer = Answer.read(run_dir)
    widths = [float(width) for width in re.findall(r'class="answer" width="([\d.]+)%', index)]
    plain = [float(width) for width in re.findall(r'class="baseline" width="([\d.]+)%', index)]
    assert np.corrcoef(widths, answer.mixture)[0, 1] > 0.9999 and len(widths) == 13
    assert np.array(plain) / widths == pytest.approx(1 / 13 / answer.mixture.to_numpy(), rel=0.06)
    assert max(widths) <= 100 and index.count('class="tied"') == 13


@pytest.mark.parametrize(("told", "said"), [
    ({}, "this run has no bounds"),
    ({"bounds": {"upper": {"code_cpp": 0.1}}}, "meets none of its bounds"),
    ({"bounds": {"upper": {"code_cpp": 0.1}}, "tied": {}, "unpriced": "nobody trained twice"}, "known: nobody trained"),
    ({"bounds": {"upper": {"code_cpp": 0.1}}, "unpriced": "no guardrail is kept"}, "known: no guardrail"),
    ({"bounds": {"upper": {"code_cpp": 0.1}}, "prices": {"upper code_cpp": {"gain": 0.02, "low": 0.01, "high": 0.03}}},
     "upper code_cpp: 0.020 [0.010, 0.030]"),
    ({"prices": {"guardrail math": {"gain": 0.02, "low": 0.0, "high": 0.03}}}, "guardrail math: 0.020 [0.000, 0.030]"),
])  # fmt: skip
def test_what_binds_is_told_or_why_nobody_knows(tmp_path, told, said):
    assert said in Answer.read(finished(tmp_path / "run", **told)).binding


def test_what_notebooks_noted_is_folded(index):
    before, _, after = index.partition("How it was found")
    assert "its place" not in before and re.search(r"<details><summary>what it noted.*its place", after, re.S)


def test_a_study_of_tables_has_an_answer_and_a_desk_without_what_it_lacks(tmp_path):
    folder = finished(tmp_path / "run", found_by="demix, table", tied={}, trust="not known")
    names = list(yaml.safe_load((folder / "mixture.yaml").read_text())["mixture"])
    runs = {"mixtures": "tables/search_mixtures.csv", "scores": "tables/search_scores.csv"}
    study = {"candidates": {name: {"family": name.split("_")[0]} for name in names}, "proxies": runs}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for table in ("won", "fidelity"):
        (folder / "tables" / f"{table}.csv").unlink()
    corpora = pd.read_csv(folder / "tables" / "corpora.csv", index_col=0)
    corpora.assign(tokens=np.nan).to_csv(folder / "tables" / "corpora.csv")
    index, desk, *_ = (path.read_text() for path in report.write("run", folder))
    assert "no model was trained on it" in index and "held against no really trained model" in index
    assert "not known" in index and "as good, %" not in index and '"budget":null' in desk and '"general":null' in desk
