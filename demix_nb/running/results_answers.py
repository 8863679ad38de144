"""In RESULTS.md: is true what notebook 05 tells of an answer, from `answers.csv`."""

import pandas as pd

from demix_nb.intervals import with_interval
from demix_nb.running.results_map import markdown

MEASURES = {  # what is said in the table, and with how many digits
    "tied": ("the tied set holds the optimum", 3),
    "size": ("mixtures of it, of 501", 0),
    "covered": ("fresh runs in calibrated 90 % intervals", 3),
    "covered before": ("fresh runs in uncalibrated ones", 3),
    "price": ("a price's interval holds the gain, per point", 2),
    "billion": ("the same, per billion tokens", 2),
    "stopped": ("rounds that the rule stops after the oracle", 1),
    "within a round": ("stops within a round of the oracle", 2),
    "left": ("left to gain where it stops, seed noises", 2),
}


def told(row: pd.Series, digits: int = 2) -> str:
    """Return a mean with its interval."""
    return with_interval(*row[["value", "low", "high"]], digits=digits)


def planted(table: pd.DataFrame) -> str:
    """Return what holds of the planted problem, by region."""
    own = table[table["runs"].isna()]
    regions, rows = list(own.index.unique()), []
    for measure in own["measure"].unique():
        (text, digits), mine = MEASURES[measure], own[own["measure"] == measure]
        cells = [told(mine.loc[region], digits) if region in mine.index else "–" for region in regions]
        least, most = mine["seeds"].min(), mine["seeds"].max()
        rows.append([text, f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}", *cells])
    return markdown(["what", "cases", *regions], rows)


def asked(table: pd.DataFrame) -> str:
    """Return the regret after so many runs, those asked for beside random ones."""
    own = table[table["runs"].notna()]
    ways = sorted(own["measure"].unique(), key=lambda way: (way == "random", way))
    rows = []
    for (region, runs), mine in own.groupby([own.index, "runs"], sort=False):
        known = mine.set_index("measure")
        rows.append([region, f"{runs:.0f}", *(told(known.loc[way]) if way in known.index else "–" for way in ways)])
    return markdown(["region or runs", "runs", *ways], rows)


def sections(table: pd.DataFrame) -> list[str]:
    """Return both tables, as Markdown."""
    return [
        "## Is the answer right?",
        "A planted problem of known optimum and noise, 40 noisy runs in each of three regions, seeds that no rule was "
        "chosen on; what notebook 05 tells, held against what is so. Brackets are 95 % (Wilson's of shares, else "
        "bootstrapped over seeds). `python -m tests.benchmarks.answers --regmix FOLDER --out data/results`",
        planted(table),
        "Regret of the mixture predicted best after so many runs: on the planted problem in seed noises, of RegMix's "
        "public runs in standard deviations (runs of 1M asked for; chosen are mixtures of 1B, or of 1M):",
        asked(table),
    ]
