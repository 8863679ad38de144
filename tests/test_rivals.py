"""Rivals' tables, true to their shapes, are read unchanged to the same mixtures and scores, or asked back."""

import json

import numpy as np
import pandas as pd
import pytest

from demix_nb import reading, rivals
from demix_nb.__main__ import main
from demix_nb.rivals import Choice
from demix_nb.running.given import Given
from demix_nb.store import Refusal

NAMES = ["web", "arxiv", "code"]
RUNS = ["19g3guks", "d4nbvsr7", "ube633ci", "0byjk4kg", "x7"]
SHARES = pd.DataFrame(
    [[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.25, 0.75], [0.6, 0.4, 0.0], [0.125, 0.5, 0.375]], RUNS, NAMES
)
LOSSES = pd.DataFrame({"arxiv_loss": [2.5, 3.0, 2.0, 2.25, 2.125], "code_loss": [1.5, 2.0, 1.0, 1.75, 1.25]}, RUNS)


@pytest.fixture
def put(tmp_path):
    """Write a table as somebody has it; return its path."""

    def put(table, name, **how):
        table.to_csv(tmp_path / name, **how)
        return tmp_path / name

    return put


def same(brought, names=NAMES, losses=LOSSES):
    np.testing.assert_allclose(brought.mixtures[names], SHARES, atol=1e-9)
    np.testing.assert_allclose(brought.scores, losses, atol=1e-9)
    assert not brought.tasks["higher_is_better"].any()


def olmix(table, *, run="run", name=True, first=0, step=1):
    """A table with the columns that OLMix puts before its own."""
    words = {"name": [f"swarm-{place}" for place in range(len(table))]} if name else {}
    numbers = {"index": range(first, first + step * len(table), step)}
    return pd.DataFrame({run: table.index} | words | numbers).join(table.reset_index(drop=True))


@pytest.mark.parametrize(
    "how", [{}, {"run": "run_id"}, {"name": False}, {"name": False, "first": 1}, {"name": False, "first": 3, "step": 4}]
)
def test_olmix(put, how):
    ratios = put(olmix(SHARES, **how), "ratios.csv", index=False)
    metrics = put(olmix(LOSSES, **how), "metrics.csv", index=False)
    brought = rivals.read([metrics, ratios])
    same(brought)
    assert list(brought.mixtures.index) == RUNS
    assert brought.told == ["metrics.csv: OLMix's table: 5 rows of 2 columns of scores",
                            "ratios.csv: OLMix's table: 5 mixtures, 3 candidates; rows sum to 1"]  # fmt: skip
    assert brought.summary == "5 mixtures, 3 candidates, 2 losses"


def test_a_column_that_numbers_rows_is_no_candidate(put):
    """Of amounts a column `index` was a candidate with most of the data, and nobody was told."""
    amounts = (SHARES * 1000).astype(int).rename_axis("mixture").reset_index()
    amounts.insert(1, "index", range(len(SHARES)))
    np.testing.assert_allclose(reading.mixtures(put(amounts, "amounts.csv", index=False))[0][NAMES], SHARES)
    amounts["index"] = [7, 300, 21, 40, 5]
    with pytest.raises(Refusal, match="column 'index' may number the rows or hold amounts"):
        reading.mixtures(put(amounts, "amounts.csv", index=False))


def test_regmix(put):
    rounded = SHARES.round(3).add_prefix("train_the_pile_")
    rounded.iloc[0, 0] += 0.003
    mixtures = put(rounded.set_axis(range(1, 6)), "train_mixture.csv", index_label="index")
    losses = LOSSES.add_prefix("metric/the_pile_").add_suffix("_val_loss").set_axis(range(1, 6))
    brought = rivals.read([mixtures, put(losses, "train_pile_loss.csv", index_label="index")])
    assert (
        brought.told[0]
        == "train_mixture.csv: RegMix's table: 5 mixtures, 3 candidates; rows sum to 1–1.003: renormalised"
    )
    assert brought.mixtures.iloc[0].tolist() == pytest.approx(np.array([0.203, 0.3, 0.5]) / 1.003)
    np.testing.assert_allclose(brought.scores, LOSSES)


def observations(path, other=None):
    """mixprior's observations: maps of weights for each of two phases, and of losses."""
    second = SHARES if other is None else other
    pd.DataFrame({
        "observation_id": [f"swarm:{run}" for run in RUNS], "swarm_id": "swarm", "run_name": RUNS, "group": "design",
        "phase0_weights": SHARES.to_dict("records"), "phase1_weights": second.to_dict("records"),
        "grouped_bpb": LOSSES.to_dict("records"),
    }).to_parquet(path)  # fmt: skip
    return path


def test_mixprior(tmp_path):
    brought = rivals.read([observations(tmp_path / "one.parquet")])
    same(brought)
    assert list(brought.scores) == ["arxiv_loss bpb", "code_loss bpb"]
    two = observations(tmp_path / "two.parquet", SHARES[::-1].set_axis(RUNS))
    with pytest.raises(Refusal, match="two phases; say which by --phase 1, 2 or mean"):
        rivals.read([two])
    same(rivals.read([two], Choice(phase="1")))
    np.testing.assert_allclose(rivals.read([two], Choice(phase="2")).mixtures, SHARES[::-1])
    np.testing.assert_allclose(
        rivals.read([two], Choice(phase="mean")).mixtures, (SHARES.to_numpy() + SHARES[::-1]) / 2
    )
    with pytest.raises(Refusal, match="it is 1, 2 or mean"):
        rivals.read([two], Choice(phase="3"))


@pytest.mark.parametrize("spelt", ["mixture/{}", "data.weights.{}", "{}_share"])
def test_weights_and_biases(put, spelt):
    export = pd.DataFrame({"Name": RUNS, "State": "finished", "Runtime": 812, "lr": 3e-4}).join(
        SHARES.rename(columns=spelt.format).join(LOSSES.add_prefix("eval/")).reset_index(drop=True))  # fmt: skip
    path = put(export, "wandb_export.csv", index=False)
    with pytest.raises(Refusal, match="say which by --task, of lr, eval/arxiv_loss"):
        rivals.read([path])
    brought = rivals.read([path], Choice(tasks=list(LOSSES.add_prefix("eval/"))))
    same(brought)
    assert brought.told[0].split(": ")[1] == "an export of Weights & Biases"


def test_two_groups_of_shares_are_asked_back(put):
    both = SHARES.add_prefix("phase_0/").join(SHARES[::-1].set_axis(RUNS).add_prefix("phase_1/")).join(LOSSES)
    path = put(both, "both.csv", index_label="run")
    with pytest.raises(
        Refusal, match="'phase_0' and of 'phase_1' sum to 1 each; say which are the mixture's by --shares"
    ):
        rivals.read([path])


def test_lm_eval_and_demix_s_json(tmp_path):
    """Shares and amounts mixed, as DeMix released them; results of lm-eval in a folder for each run."""
    entries = {run: dict(row * (1000 if place < 2 else 1)) for place, (run, row) in enumerate(SHARES.iterrows())}
    (tmp_path / "sampled_mixture.json").write_text(json.dumps(entries))
    for run, row in LOSSES.iterrows():
        measured = {task: {"alias": task, "bits_per_byte,none": loss, "bits_per_byte_stderr,none": "N/A"}
                    for task, loss in row.items()}  # fmt: skip
        written = {"results": measured, "higher_is_better": {key: {"bits_per_byte": False} for key in row.index}}
        (tmp_path / "results" / run).mkdir(parents=True)
        (tmp_path / "results" / run / "results_2026-01-01.json").write_text(json.dumps(written))
    brought = rivals.read([tmp_path / "sampled_mixture.json", tmp_path / "results"])
    same(brought)
    first, second = brought.told
    assert first == "sampled_mixture.json: a mapping: 5 mixtures, 3 candidates; rows sum to 1–1000: renormalised"
    assert second == "results: lm-eval's results: 5 rows of 2 columns of scores"


def test_the_command_writes_a_study_that_can_be_opened(put, tmp_path, capsys):
    files = [str(put(SHARES, "ratios.csv", index_label="run")), str(put(LOSSES, "metrics.csv", index_label="run"))]
    assert main(["read", *files, "-o", str(tmp_path / "study")]) == 0
    assert f"wrote {tmp_path / 'study' / 'study.yaml'}: 5 mixtures, 3 candidates, 2 losses" in capsys.readouterr().out
    runs = Given.open(tmp_path / "study" / "study.yaml").runs
    np.testing.assert_allclose(runs.mixtures, SHARES)
    np.testing.assert_allclose(runs.scores, LOSSES)
    assert main(["read", *files, "-o", str(tmp_path / "study")]) == 2
    assert "holds something" in capsys.readouterr().err
    assert main(["read", files[0], "-o", str(tmp_path / "alone")]) == 0, "mixtures alone are a beginning"
    assert "there is nothing to learn from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("mixtures", "scores", "choice", "message"),
    [
        (
            SHARES,
            LOSSES.rename(columns={"code_loss": "code"}),
            Choice(),
            "'code' does not tell .* --higher-is-better or",
        ),
        (SHARES, LOSSES, Choice(tasks=["code"]), "no file has scores of 'code'"),
        (SHARES, LOSSES[1:], Choice(), "1 rows have no partner"),
        (SHARES, SHARES, Choice(), "mixtures may be in mixtures.csv and scores.csv; say which .* --mixtures"),
        (LOSSES, LOSSES, Choice(), "mixtures may be in none of the files"),
    ],
)
def test_what_is_ambiguous_is_asked_back(put, mixtures, scores, choice, message):
    files = [put(mixtures, "mixtures.csv", index_label="run"), put(scores, "scores.csv", index_label="run")]
    with pytest.raises(Refusal, match=message):
        rivals.read(files, choice)


def test_options_decide(put):
    amounts = (SHARES * 1000).astype(int)
    files = [put(amounts, "amounts.csv", index_label="run"), put(LOSSES, "scores.csv", index_label="run")]
    same(rivals.read(files, Choice(mixtures=files[0])))
    plain = put(LOSSES.set_axis(["arxiv", "code"], axis=1), "plain.csv", index_label="run")
    brought = rivals.read([files[0], plain], Choice(mixtures=files[0], higher_is_better=True))
    assert (
        brought.tasks["higher_is_better"].all()
        and brought.summary == "5 mixtures, 3 candidates, 2 tasks, of which 0 losses"
    )


def test_the_public_tables_are_read_as_they_are(shared):
    files = [shared / "regmix" / name for name in ("train_mixture_1m.csv", "train_pile_loss_1m.csv")]
    brought = rivals.read(files)
    assert brought.summary == "512 mixtures, 17 candidates, 13 losses"
    assert brought.told[0].endswith("512 mixtures, 17 candidates; rows sum to 0.996–1.003: renormalised")
