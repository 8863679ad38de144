"""What RESULTS.md says of text that is repeated or spoilt: proxies of a scarce candidate, and what cleaners change."""

from collections.abc import Callable

import pandas as pd

from demix_nb.running.results_map import markdown, over_bases

Read = Callable[[str], pd.DataFrame]  # name of a committed table → table
KEYS = ["text", "cleaner", "drop"]
MEASURED = {"share": 3, "own": 3, "rest": 3}  # column of `robustness` → digits


def repetition(table: pd.DataFrame) -> str:
    """Return how far every proxy misses the best share of a scarce candidate: means over bases, by scarcity."""
    own = table[(table["measure"] == "off") & ((table["budget"] < 1) | (table.index != "trained"))]
    scarcities, rows = sorted(set(own["epochs"])), []
    spans = {True: "the run's", False: "short"}
    for (kind, how, whole), mine in own.groupby([own.index, "repetition", own["budget"] >= 1], sort=False):
        by = mine.groupby(["epochs", "base"])["value"].mean()
        cells = [over_bases(by[often], 2) for often in scarcities]
        rows.append([str(kind), str(how), spans[bool(whole)], *cells, over_bases(by.groupby("base").mean(), 2)])
    heads = [f"read {often:g} times" for often in scarcities]
    return markdown(["proxy", "repetition", "tokens", *heads, "all"], rows)


def cleaning(robustness: pd.DataFrame, counts: pd.DataFrame) -> str:
    """Return what spoilt text and its cleaners change beside the sound text of the same base, and what they dropped."""
    values = robustness.reset_index().set_index([*KEYS, "base"])[list(MEASURED)]
    [clean] = counts.groupby("text")["bad"].sum().loc[lambda bad: bad == 0].index  # nobody spoilt this one
    sound = values.xs((clean, "none", 0.0), level=KEYS)
    less = values - sound.reindex(values.index.get_level_values("base")).to_numpy()
    less = less[~less.index.droplevel(["drop", "base"]).isin([(clean, "none")])]
    sums = counts.reset_index().groupby(KEYS)[["documents", "bad", "dropped", "found"]].sum()
    rows = []
    for key, mine in less.groupby(KEYS, sort=False):
        cells = [over_bases(mine[name], digits) for name, digits in MEASURED.items()]
        gone = ["–", "–"]
        if key in sums.index:
            row = sums.loc[key]
            gone = [f"{row['dropped'] / row['documents']:.1%}"]
            gone += [f"{row['found'] / row['dropped']:.0%}" if row["dropped"] else "–"]
        rows.append([key[0], key[1] + (f", {key[2]:.0%}" if key[2] else ""), *gone, *cells])
    heads = ["text", "cleaner", "dropped", "of it bad"]
    return markdown([*heads, "share in the winner", "bpb, its text", "bpb, others' text"], rows)


def sections(study: Read) -> list[str]:
    """Return both studies' sections."""
    robustness, report = study("robustness"), study("repetition")
    return [
        "## A candidate that must be repeated",
        f"Profile `study`, {report['base'].nunique()} bases with seeds of their own. How far the share that a proxy "
        "takes for the best is from the best one, judged by the scarce candidate's own text, all of which the run's "
        "component reads so many times. *Matched*: short models have so little text of it that they repeat it as the "
        "run does; *ended*: the run's component stops after four epochs; *extrapolated*: a ridge on all short runs, "
        "told how often each repeats (*epoch feature*) or not. "
        "`demix-nb run study_repetition study_cleaning --profile study`",
        repetition(report),
        "![Repetition](figures/repetition.png)",
        "## Spoilt text, cleaned",
        f"The same bases; text of `{robustness['candidate'].iloc[0]}`, spoilt, and cleaned by each cleaner at its "
        "paper's share or as much as is bad: differences from its sound text, in the winner by the mixed proxy and in "
        "bits per byte of references that hold it.",
        cleaning(robustness, study("cleaners")),
        "![Cleaning](figures/cleaning.png)",
    ]
