"""In RESULTS.md: a hundred candidates, how much of a winner is luck, and how a search grows, over bases."""

from collections.abc import Callable

import pandas as pd

from demix_nb.running.results_map import markdown, over_bases


def whose(strategies: pd.DataFrame) -> str:
    """Return every strategy's trained winners as means over bases, a base by the mean of its seeds, the best first.

    `ahead of uniform`: the difference of the two levels base by base, so that what a base does to both cancels.
    """
    means = strategies.groupby(["base", "strategy"])[["macro", "place", "level"]].mean()
    ahead = means["level"].xs("uniform", level="strategy").sub(means["level"])  # aligned by base
    rows = []
    for name in means["level"].groupby("strategy").mean().sort_values().index:
        own = means.xs(name, level="strategy")
        cells = [over_bases(own[column], digits) for column, digits in (("macro", 1), ("place", 1), ("level", 2))]
        rows.append([name, *cells, "–" if name == "uniform" else over_bases(ahead.xs(name, level="strategy"), 2)])
    return markdown(["strategy", "macro rank", "place", "level", "ahead of uniform"], rows)


def fidelity(table: pd.DataFrame) -> str:
    """Return how well each way to spend tokens orders trained mixtures, means over bases."""
    rows = []
    for (which, name, tokens), mine in table.groupby(
        ["references", table.index, table["tokens"].fillna(0.0)], sort=False
    ):
        known = mine.groupby("measure")["value"]
        told = [over_bases(known.get_group(measure), 2) for measure in ("rho_macro", "rho_rank", "error")]
        rows.append([which, name, f"{tokens / 1e6:.2f}M" if tokens else "–", str(mine["base"].nunique()), *told])
    head = ["references", "proxies", "tokens", "bases", "macro ρ", "ρ of the rank", "error, bpb"]
    return markdown(head, rows)


def winners(table: pd.DataFrame) -> str:
    """Return how good each way's really trained winner is, means over bases, the best level first."""
    rows, order = [], table.groupby("strategy")["level"].mean().sort_values().index
    for name in order:
        mine = table[table["strategy"] == name]
        told = [over_bases(mine[measure], digits) for measure, digits in (("level", 2), ("place", 1), ("away", 2))]
        spent = [f"{mine['tokens'].mean() / 1e6:.2f}M", f"{mine['asked'].mean():.0f}"]
        rows.append([name, *spent, str(mine["base"].nunique()), *told])
    return markdown(["winner", "tokens", "proxies", "bases", "level", "place", "differs from `parts` in"], rows)


def noise(table: pd.DataFrame) -> str:
    """Return what another seed of a search changes, by number of mixed proxies: means over bases."""
    rows = []
    for size, mine in table[table["kind"] == "mixed"].groupby("proxies"):
        by = mine.groupby("base")
        facts: list[tuple[pd.Series, int]] = [
            (by["real"].mean(), 2),
            (by["real"].std() / by["noise"].first(), 2),
            (by["away"].mean(), 2),
            (by["width"].mean(), 2),
            (by["place"].mean(), 1),
        ]
        told = [over_bases(values, digits) for values, digits in facts]
        rows.append([str(size), str(mine["base"].nunique()), str(mine["seed"].nunique()), *told])
    head = ["proxies", "bases", "searches", "level of the winner", "its spread, of a training run's noise",
            "differs from the mean winner in", "width of the tied set", "place"]  # fmt: skip
    return markdown(head, rows)


def growth(table: pd.DataFrame) -> str:
    """Return seconds of the processor and the most memory of a whole search, by step and number of candidates."""
    sizes = sorted(set(table["candidates"]))
    rows = []
    for step, mine in table.groupby(level=0, sort=False):
        known = mine.set_index("candidates")
        cells = {k: f"{row['cpu']:.1f} s, {row['mb']:.0f} MB" for k, row in known.iterrows()}
        rows.append([step, *(cells.get(k, "–") for k in sizes)])
    return markdown(["step", *(f"{k} candidates" for k in sizes)], rows)


Read = Callable[[str], pd.DataFrame]


def sections(study: Read) -> list[str]:
    """Return the three sections, from the study's committed tables."""
    return [
        "## A hundred candidates",
        "The laptop's thirteen candidates divided by topic into a hundred parts, and about equal tokens spent in three "
        "ways: a component for each whole candidate, a component for each part, short runs on mixtures of parts. "
        "Levels are in standard deviations of the thirteen candidates' references. "
        "`python -m tests.benchmarks.bases --study study_hundred study_noise --out data/results/study`",
        fidelity(study("hundred")),
        "Winners of each way, really trained:",
        winners(study("hundred_quality")),
        "## How much of a winner is luck",
        "Searches on mixed proxies of the thirteen candidates with seeds of their own; levels by the fused mixed "
        "proxy, which the references corrected. Same command.",
        noise(study("noise")),
        "## Seconds and memory of a search",
        "A whole search without training, CPU seconds and the most memory in use. "
        "`python tests/benchmarks/growth.py search --out data/results/study`",
        growth(study("growth")),
    ]
