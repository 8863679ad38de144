"""What a search costs: the papers' columns, arithmetic that adds up, the cheapest kind that reached what is wanted."""

import numpy as np
import pandas as pd
import pytest
import yaml

from demix_nb import DATA, plan
from demix_nb.__main__ import main
from demix_nb.plan import GPUS, Machine, Sizes
from demix_nb.running import planning
from demix_nb.store import Refusal

PAPER = {"candidates": 7, "parameters": 1.7e9, "component_tokens": 30e9, "reference_tokens": 50e9}


@pytest.mark.parametrize("table", ["demix_table2_table7_proxy_accuracy", "demix_table3_mixture_quality"])
def test_the_papers_costs_come_out(table):
    rows = pd.read_csv(DATA / "published" / f"{table}.csv").dropna(subset=["total_budget_b"])
    counts = "components_or_proxies" if "components_or_proxies" in rows else "proxies"
    compared = 0
    for _, row in rows.iterrows():
        demix = row["method"] == "demix"
        merged = {
            "candidates": int(row.get("partition", 7)),
            "searched": 96 if counts != "proxies" else int(row[counts]),
        }
        trained = {"searched": int(row[counts]), "evaluation": 0}  # of trained proxies the paper counts training alone
        sizes = Sizes(**PAPER | {"component_tokens": row["budget_per_model_b"] * 1e9} | (merged if demix else trained))
        found = sizes.of("merged" if demix else "trained")
        assert (found["tokens"] + found["measured"]) / 1e9 == pytest.approx(row["total_budget_b"], rel=0.02), row
        compared += 1
    assert compared >= 8


def test_operations_hours_energy_and_disk_follow_from_tokens():
    sizes, machine = Sizes(**PAPER, searched=100, references=10, replicates=2), Machine("a100", 0.5)
    found = plan.table(sizes, machine)
    assert found.loc["merged", "flops"] == pytest.approx(1.7e9 * (6 * 210e9 + 2 * 100 * 0.013e9))
    assert found.loc["mixed", "measured"] == pytest.approx(7 * 0.013e9)
    assert found.loc["trained", "tokens"] == pytest.approx(100 * 30e9)
    assert found.loc["fused mixed", "tokens"] == pytest.approx(210e9 + 16 * 50e9)
    assert found.loc["references", "tokens"] == pytest.approx(12 * 50e9)
    row = found.loc["merged"]
    assert row["gpu_hours"] == pytest.approx(row["flops"] / 156e12 / 3600)
    assert row["kwh"] == pytest.approx(0.4 * row["gpu_hours"]) and row["disk"] == 7 * 1.7e9 * 2
    half = plan.table(Sizes(**PAPER, budget=0.5), Machine()).loc["trained"]
    assert half["tokens"] == pytest.approx(112 * 15e9)


REGIMES = pd.DataFrame(
    [("narrow", 0, 1.0, 0.03, "heldout", kind, budget, measure, value + 0.1 * base)
     for base in (0, 1) for kind, budget, value in (("merged", 1.0, 0.4), ("mixed", 1.0, 0.7), ("trained", 0.25, 0.6),
                                                    ("trained", 0.125, 0.1))
     for measure in ("rho_macro", "rho_rank", "error")],
    columns=["regime", "base", "share", "delta", "suite", "proxy", "budget", "measure", "value"],
)  # fmt: skip
REGIMES["base"] = [0] * 12 + [1] * 12
REGIMES = pd.concat([REGIMES, REGIMES.assign(share=0.5, value=0.99)]).set_index("regime")


def test_what_regimes_reached_are_means_over_bases_at_the_full_budget():
    found = plan.fidelity(REGIMES)
    assert found["rho_macro"].to_dict() == pytest.approx(
        {("narrow", "merged"): 0.45, ("narrow", "mixed"): 0.75, ("narrow", "trained"): 0.65}
    )
    assert (found["bases"] == 2).all() and np.allclose(found["delta"], 0.03)


def test_the_cheapest_kind_that_reached_what_is_wanted():
    costs, known = plan.table(Sizes(**PAPER), Machine()), plan.fidelity(REGIMES)
    for wanted, kind in ((0.3, "mixed"), (0.7, "mixed"), (0.9, "")):
        assert plan.cheapest(costs, known, wanted).to_dict() == {"narrow": kind}
    dear = costs.assign(gpu_hours=[9.0, 20.0, 30.0, 5.0, 0.0])
    assert plan.cheapest(dear, known, 0.6).to_dict() == {"narrow": "trained"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"parameters": 0}, "parameters is 0; give a number above 0"),
        ({"searched": -3}, "searched is -3; give a number above 0"),
        ({"references": -1}, "references is -1; give 0 or more"),
        ({"component_tokens": np.nan}, "component_tokens is nan; give a number above 0"),
    ],
)
def test_numbers_without_sense_are_refused(said, message):
    with pytest.raises(Refusal, match=message):
        Sizes(**PAPER | said)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"gpu": "h1000"}, f"no GPU 'h1000' here; take one of {', '.join(GPUS)}"),
        ({"utilisation": 0.0}, "utilisation is 0.0; it is the share of the peak"),
        ({"utilisation": 1.5}, "utilisation is 1.5; it is the share"),
    ],
)
def test_machines_that_are_none_are_refused(said, message):
    with pytest.raises(Refusal, match=message):
        Machine(**said)


def test_a_study_file_tells_what_it_knows(tmp_path):
    content = {"candidates": {"a": {}, "b": {}, "c": {}}, "training": {"trainer": "x", "tokens": 5e6}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    found = planning.sizes(tmp_path / "study.yaml", {"parameters": 1e6, "searched": None})
    assert (found.candidates, found.component_tokens, found.reference_tokens, found.searched) == (3, 5e6, 5e6, 112)
    with pytest.raises(Refusal, match="nobody said parameters; give --parameters"):
        planning.sizes(tmp_path / "study.yaml", {})


def test_the_command_prints_a_row_per_kind_and_trains_nothing(capsys):
    said = ("--candidates", "7", "--parameters", "1.7e9", "--component-tokens", "30e9", "--wanted", "0.5")
    assert main(["plan", *said]) == 0
    shown = capsys.readouterr().out
    for words in ("merged (DeMix)", "mixed probabilities", "trained on few tokens", "references, replicates", "at 40%"):
        assert words in shown
    assert main(["plan", "--candidates", "7"]) == 2
    assert "nobody said parameters; give --parameters" in capsys.readouterr().err
