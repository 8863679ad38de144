"""RESULTS.md says what the committed tables say, and nothing that they do not."""

import pandas as pd
from conftest import REPOSITORY

from demix_nb.figures.gallery import reader
from demix_nb.running import results

RESULTS = REPOSITORY / "data" / "results"


def test_the_committed_page_is_current(tmp_path):
    written = results.write(RESULTS, tmp_path / "RESULTS.md").read_text("utf-8")
    assert (REPOSITORY / "RESULTS.md").read_text("utf-8") == written, "run `demix-nb figures`"


def test_a_changed_table_changes_the_page():
    laptop, study = reader(RESULTS / "laptop"), reader(RESULTS / "study")

    def other(name: str) -> pd.DataFrame:
        return study(name).assign(value=0.123) if name == "proxy_kinds" else study(name)

    assert "0.12 [" in results.page(laptop, other) and results.page(laptop, other) != results.page(laptop, study)


def test_every_kind_and_every_strategy_has_its_row():
    study = reader(RESULTS / "study")
    kinds = results.kinds(study("proxy_kinds"), study("trust")).splitlines()
    pairs = study("proxy_kinds").reset_index()[["proxy", "budget"]].drop_duplicates()
    assert len(kinds) == 2 + len(pairs) and sum("| – |" in line for line in kinds) == 1, "the ceiling alone has no cost"
    strategies = results.strategies(study("strategy_summary")).splitlines()[2:]
    levels = [float(line.split("|")[4].split("[")[0]) for line in strategies]
    assert len(levels) == study("strategy_summary").index.nunique() and levels == sorted(levels)
