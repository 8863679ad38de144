"""Ask, train, tell, ask again: over processes and weeks, nothing is lost, doubled or taken for something else."""

import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb.__main__ import main
from demix_nb.running import rounds
from demix_nb.running.given import Given
from demix_nb.store import Refusal

NAMES = ["web", "maths", "python"]
BEST = np.array([0.3, 0.5, 0.2])


def scores_of(mixtures, rng, noise=0.01):
    """Two losses with their optimum near BEST."""
    away = ((np.sqrt(mixtures[NAMES]) - np.sqrt(BEST)) ** 2).sum(axis=1)
    both = pd.DataFrame({"maths_loss": 2 + away, "code_loss": 3 + 2 * away}, index=mixtures.index)
    return (both + noise * rng.standard_normal(both.shape)).rename_axis("mixture")


@pytest.fixture
def study(tmp_path, rng):
    """A study of six runs, of which the last is the first again."""
    mixtures = pd.DataFrame(rng.dirichlet(np.ones(3), 6), [f"run-{i}" for i in range(6)], NAMES).rename_axis("mixture")
    mixtures.iloc[5] = mixtures.iloc[0]
    mixtures.to_csv(tmp_path / "mixtures.csv")
    scores_of(mixtures, rng).to_csv(tmp_path / "scores.csv")
    content = {"candidates": {name: {} for name in NAMES}, "region": {"upper": {"web": 0.6}},
               "proxies": {"mixtures": "mixtures.csv", "scores": "scores.csv"}}  # fmt: skip
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return tmp_path / "study.yaml"


def trained(study, asked, rng, name="new.csv"):
    scores_of(asked, rng).to_csv(study.parent / name)
    return study.parent / name


def test_asking_and_telling_go_on_where_they_were(study, rng):
    first = rounds.ask(study, 4)
    assert np.isinf(first.gain) and "as far apart as may be" in first.told and first.waiting == 0
    assert list(first.mixtures.index) == [f"next-00{i}" for i in range(4)]
    assert (first.mixtures["web"] <= 0.6 + 1e-9).all(), "inside the region"
    again = rounds.ask(study, 3)
    assert again.waiting == 4 and "4 asked for before have no scores yet" in again.told
    gaps = np.abs(again.mixtures.to_numpy()[:, None] - first.mixtures.to_numpy()).sum(axis=-1)
    assert (gaps > 0.02).all(), "what is waiting is not asked for again"
    assert rounds.tell(study, trained(study, first.mixtures, rng)) == ["4 of 4 mixtures are new; 10 runs are known"]
    assert rounds.tell(study, trained(study, again.mixtures, rng)) == ["3 of 3 mixtures are new; 13 runs are known"]
    told = rounds.ask(study, 4)
    assert np.isfinite(told.gain) and told.waiting == 0 and told.noise > 0 and "a seed changes" in told.told
    assert len(rounds.opened(study).runs) == 13


def test_what_is_asked_for_comes_near_the_optimum(study, rng):
    for _ in range(6):
        asked = rounds.ask(study, 4)
        rounds.tell(study, trained(study, asked.mixtures, rng))
    away = ((np.sqrt(asked.mixtures) - np.sqrt(BEST)) ** 2).sum(axis=1)
    assert away.mean() < 0.1


def test_notebooks_learn_from_what_was_told(study, rng):
    before = Given.open(study).fingerprint
    asked = rounds.ask(study, 4)
    assert Given.open(study).fingerprint == before, "asking changes nothing"
    rounds.tell(study, trained(study, asked.mixtures, rng))
    assert Given.open(study).fingerprint != before, "steps that ran before are not up to date"
    assert set(asked.mixtures.index) <= set(rounds.opened(study).runs.names)


def test_a_mixture_nobody_asked_for_is_taken_and_said(study, rng):
    own = pd.DataFrame([[0.2, 0.5, 0.3]], pd.Index(["ours"], name="mixture"), NAMES)
    own.to_csv(study.parent / "own.csv")
    told = rounds.tell(study, trained(study, own, rng), study.parent / "own.csv")
    assert told == ["1 of 1 mixtures are new; 7 runs are known", "'ours' was never asked for, and is taken"]


def test_the_same_scores_may_come_twice_other_ones_not(study, rng):
    asked = rounds.ask(study, 2)
    path = trained(study, asked.mixtures, rng)
    rounds.tell(study, path)
    assert rounds.tell(study, path)[0] == "0 of 2 mixtures are new; 8 runs are known"
    with pytest.raises(Refusal, match=r"new\.csv: 'next-000' has other scores already; call a second seed by another"):
        rounds.tell(study, trained(study, asked.mixtures, rng))
    assert len(rounds.opened(study).runs) == 8


def test_what_cannot_be_told_is_refused_and_changes_nothing(study, rng):
    asked = rounds.ask(study, 2)
    with pytest.raises(Refusal, match=r"'next-0000' was never asked for; did you mean next-000\? .*--mixtures"):
        rounds.tell(study, trained(study, asked.mixtures.rename({"next-000": "next-0000"}), rng))
    scores_of(asked.mixtures, rng).drop(columns="code_loss").to_csv(study.parent / "few.csv")
    with pytest.raises(
        Refusal, match=r"few\.csv: no scores of 'code_loss'; the study's tasks are maths_loss, code_loss"
    ):
        rounds.tell(study, study.parent / "few.csv")
    bad = scores_of(asked.mixtures, rng).astype(object)
    bad.iloc[1, 0] = "crashed"
    bad.to_csv(study.parent / "bad.csv")
    with pytest.raises(Refusal, match="crashed"):
        rounds.tell(study, study.parent / "bad.csv")
    assert len(rounds.opened(study).runs) == 6


def test_the_commands_print_and_write(study, rng, capsys):
    assert main(["next", str(study), "-n", "2"]) == 0
    shown = capsys.readouterr().out
    assert "next-001" in shown and "written to" in shown
    asked = pd.read_csv(study.parent / "run" / "tables" / "asked_mixtures.csv", index_col=0)
    assert main(["tell", str(study), str(trained(study, asked, rng))]) == 0
    assert "2 of 2 mixtures are new; 8 runs are known" in capsys.readouterr().out


def test_a_study_whose_models_are_trained_here_is_sent_to_notebook_05(tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"training": {"corpora": "seven"}}))
    with pytest.raises(Refusal, match=r"study\.yaml is no study of tables: .*notebook 05 writes what to train next"):
        rounds.ask(tmp_path / "study.yaml", 4)
