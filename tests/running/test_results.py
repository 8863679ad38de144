"""RESULTS.md says what the committed tables say, and nothing that they do not."""

import pandas as pd
from conftest import REPOSITORY

from demix_nb.figures.gallery import reader
from demix_nb.running import results, results_answers, results_hundred, results_map

RESULTS = REPOSITORY / "data" / "results"


def test_the_committed_page_is_current(tmp_path):
    written = results.write(RESULTS, tmp_path / "RESULTS.md").read_text("utf-8")
    assert (REPOSITORY / "RESULTS.md").read_text("utf-8") == written, "run `demix-nb figures`"


def test_a_changed_table_changes_the_page():
    laptop, study, *others = (reader(RESULTS / name) for name in ("laptop", "study", "tables", "real", ""))

    def other(name: str) -> pd.DataFrame:
        return study(name).assign(value=0.123) if name == "proxy_kinds" else study(name)

    changed = results.page(laptop, other, *others)
    assert "0.12 [" in changed and changed != results.page(laptop, study, *others)


def test_the_map_has_a_row_per_regime_size_and_kind_and_errors_in_standard_deviations():
    table = reader(RESULTS)("regimes")
    rows = [line for line in results_map.regimes(table).splitlines()[2:] if line.strip()]
    own = table[(table["suite"] == "heldout") & (table["proxy"] != "bracket")].reset_index().fillna({"budget": 0.0})
    assert len(rows) == len(own.groupby(["regime", "share", "proxy", "budget"]))
    regime = table.index[0]
    cells = table[(table.index == regime) & (table["share"] == 1) & (table["suite"] == "heldout")]
    means = cells.groupby(["proxy", "measure"])["value"].mean()
    wanted = f"{means['merged', 'error'] / means['bracket', 'spread']:.2f}"
    assert any(regime in row and "merged (DeMix)" in row and f"| {wanted} |" in row for row in rows)
    assert results_map.brackets(table).count("\n") == 1 + len(table[table["proxy"] == "bracket"].reset_index().groupby(
        ["regime", "share", "suite"]))  # fmt: skip


def test_predictors_are_told_after_as_many_runs_as_were_asked_or_as_there_are():
    table = reader(RESULTS / "tables")("predictors_on_tables")
    head, _, *rows = results.predictors(table).splitlines()
    sizes = [int(cell.split(", ")[1].split()[0]) for cell in head.split("|")[2:-1]]
    assert sizes == [table.loc[[name]].query("runs <= 64")["runs"].max() for name in pd.unique(table.index)]
    row = next(row for row in rows if row.startswith("| stack |")).split("|")[2:-1]
    own = table.query("predictor == 'stack' and design == 'random'")
    for size, name, cell in zip(sizes, pd.unique(table.index), row, strict=True):
        known = own[(own.index == name) & (own["test"] == name) & (own["runs"] == size)].iloc[0]
        assert cell.strip() == f"{known['rho']:.2f} / {known['regret single']:.2f}"


def test_the_default_stands_beside_the_best_of_the_others():
    table = reader(RESULTS / "tables")("predictors_on_tables")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in results.beside(table).splitlines()[2:]]
    assert len({tuple(row[:2]) for row in rows}) == len(rows) >= 11
    for name, runs, *told in rows:
        own = table[(table.index == name) & (table["test"] == name) & (table["design"] == "random")]
        own = own[own["runs"] == int(runs)].set_index("predictor")
        for mine, best, measure, better in ((*told[:2], "rho", max), (*told[2:], "regret single", min)):
            others = own[measure].drop("stack")
            assert mine == f"{own.loc['stack', measure]:.2f}" and best.startswith(f"{better(others):.2f} (")


def test_a_base_counts_once_and_its_interval_is_student_s():
    verdict = pd.DataFrame(
        {"baseline": "uniform", "headroom": [1.0, 5.0, 4.0, 6.0, 2.0, 6.0]},
        index=pd.Index([0, 0, 1, 1, 2, 2], name="base"),
    )
    row = results.won(verdict).splitlines()[-1]
    half = 4.303 * 1.0 / 3**0.5  # t of 2 degrees of freedom; the bases' means are 3, 5 and 4
    assert row == f"| uniform | 4.0 [{4 - half:.1f}, {4 + half:.1f}] | 1.0 | 5 of 6 |"
    twice = pd.concat([verdict, verdict.set_index(verdict.index + results.TWO_THREADS)])
    assert results.won(twice).splitlines()[-1] == row.replace("5 of 6", "10 of 12"), "other rounding is no other base"
    bases = pd.DataFrame({"proxy": "merged", "budget": 1.0, "measure": "rho_macro", "value": [0.7, 0.8, 0.9]})
    both = pd.concat([bases, bases.assign(measure="rho_rank"), bases.assign(measure="error")])
    assert "| merged (DeMix) | 0.80 [0.55, 1.05] |" in results.by_base(both)
    assert results.over_bases(pd.Series([1.0, 2.0]), 1) == "1.5"


def test_a_strategy_is_ahead_of_uniform_base_by_base():
    wide = {"uniform": [0.0, 1.0, 5.0], "better": [-1.0, 0.0, 4.0]}  # bases differ more than strategies
    rows = [(base, name, seed, 3.0, 2.0, level + 0.2 * seed)
            for name, levels in wide.items() for base, level in enumerate(levels) for seed in (-1, 0, 1)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["base", "strategy", "seed", "macro", "place", "level"]).set_index("base")
    best, uniform = results_hundred.whose(table).splitlines()[2:]
    assert best.startswith("| better | 3.0") and best.endswith("| 1.00 [1.00, 1.00] |") and uniform.endswith("| – |")
    assert "| 2.00 [-4.57, 8.57] |" in uniform  # t of 2 degrees of freedom: 2 ± 4.303 · 2.646 / √3


def test_an_answer_is_told_by_region_and_by_runs():
    rows = [("free", "tied", None, 0.95, 200), ("free", "size", None, 301.4, 200), ("caps", "tied", None, 0.9, 200),
            ("free", "asked", 24, 1.5, 40), ("free", "random", 24, 2.5, 40), ("big", "random", 32, 0.5, 6)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["region", "measure", "runs", "value", "seeds"]).set_index("region")
    table = table.assign(low=table["value"] - 0.25, high=table["value"] + 0.25)
    planted = results_answers.planted(table).splitlines()
    assert planted[0] == "| what | cases | free | caps |"
    assert "| 200 | 0.950 [0.700, 1.200] | 0.900 [0.650, 1.150] |" in planted[2]
    assert planted[3].endswith("| 301 [301, 302] | – |") and len(planted) == 4, "what was not measured has no row"
    asked = results_answers.asked(table).splitlines()
    assert (
        asked[0].endswith("| asked | random |") and asked[2] == "| free | 24 | 1.50 [1.25, 1.75] | 2.50 [2.25, 2.75] |"
    )
    assert asked[3] == "| big | 32 | – | 0.50 [0.25, 0.75] |"


def test_every_kind_and_every_strategy_has_its_row():
    study = reader(RESULTS / "study")
    kinds = results.kinds(study("proxy_kinds"), study("trust")).splitlines()
    pairs = study("proxy_kinds").reset_index()[["proxy", "budget"]].drop_duplicates()
    assert len(kinds) == 2 + len(pairs) and sum("| – |" in line for line in kinds) == 1, "the ceiling alone has no cost"
    strategies = results.strategies(study("strategy_summary")).splitlines()[2:]
    levels = [float(line.split("|")[4].split("[")[0]) for line in strategies]
    assert len(levels) == study("strategy_summary").index.nunique() and levels == sorted(levels)
