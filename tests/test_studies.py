"""The studies at profile `smoke`, and the papers beside them, on what the story has trained."""

import pandas as pd
import pytest
from commands import times

from demix_nb import store
from demix_nb.running import estimate, runner

pytestmark = pytest.mark.notebooks


def test_the_study_runs_and_the_papers_are_read_beside_it(story, study):
    run_dir, printed = study
    steps = runner.profiles()["study"]["steps"]
    told = [estimate.budgets(step) for step in runner.plan(steps, "smoke", {}, run_dir) if step.name in steps]
    before = len(times("models/*/training.json", story[0]))
    assert printed.count("up to date") == 2, "notebooks 01 and 03 were run before"
    assert len(times("models/*/training.json", run_dir)) - before == sum(map(len, told)), "as a dry run says"
    strategies = store.read(run_dir / "tables" / "strategies.csv", "quality")
    assert strategies.groupby("strategy").size().nunique() == 1 and strategies["strategy"].nunique() >= 15
    partition = store.read(run_dir / "tables" / "partition_quality.csv", "quality")
    assert set(partition["candidates"]) == {7, 15}
    for paper in ("demix", "mergemix"):
        claims = pd.read_csv(run_dir / "tables" / f"evidence_{paper}.csv")
        assert len(claims) >= 7 and claims[["printed", "ours"]].notna().all(axis=None)
