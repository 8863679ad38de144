"""How models are made, in RESULTS.md: checkpoints averaged instead of annealed, large models grown from small ones."""

from collections.abc import Callable

import pandas as pd

from demix_nb.running.results_map import markdown, over_bases

Read = Callable[[str], pd.DataFrame]  # name of a committed table → table
MEASURES = {"rho_macro": 2, "rho_rank": 2, "error": 3}  # measure → digits


def averaging(table: pd.DataFrame) -> str:
    """Return the fidelity of merged and mixed proxies by the components' schedule and the references', over bases."""
    rows = []
    for (kind, judged, schedule), mine in table.groupby([table.index, "judged", "schedule"], sort=False):
        known = mine.groupby("measure")["value"]
        cells = [over_bases(known.get_group(name), digits) for name, digits in MEASURES.items()]
        delta = f"{100 * mine['delta'].mean():.1f} %"
        rows.append([str(kind), str(schedule), str(judged), delta, *cells])
    rows.sort(key=lambda row: (row[0], row[2]))
    return markdown(["proxy", "components", "references", "δ", "macro ρ", "ρ of the macro rank", "error"], rows)


def levels(table: pd.DataFrame) -> str:
    """Return what really trained models of each way score, bits per byte, over bases; a family each and their mean."""
    families = list(pd.unique(table["family"]))
    rows = []
    for way, mine in table.groupby(level=0, sort=False):
        by = mine.set_index(["base", "family"])["value"].unstack()[families]
        rows.append([str(way), *(over_bases(by[name], 3) for name in families), over_bases(by.mean(axis=1), 3)])
    return markdown(["models", *families, "mean"], rows)


def growing(table: pd.DataFrame) -> str:
    """Return how far orders of mixtures agree between sizes and ways of beginning, and what they cost, over bases."""
    rows = []
    for (proxy, references), mine in table.groupby([table.index, "references"], sort=False):
        known = mine.groupby("measure")["value"]
        cells = [over_bases(known.get_group(name), digits) for name, digits in MEASURES.items()]
        rows.append([str(proxy), str(references), *cells, f"{mine['tokens'].mean() / 1e6:.2f} M"])
    head = ["order of", "against large models from", "macro ρ", "ρ of the macro rank", "error", "large tokens"]
    return markdown(head, rows)


def phases(table: pd.DataFrame) -> str:
    """Return what proxies make of runs in two phases, means over bases.

    ρ of what changes where the phases change places is of all families and pairs of a base together.
    """
    rows = []
    for (looks, kind), mine in table[table["looks"] != "reference"].groupby(["looks", "kind"], sort=False):
        turned = "cannot tell" if mine["order"].isna().all() else over_bases(mine["order"], 2)
        rows.append([looks, kind, over_bases(mine["rho"], 2), over_bases(mine["error"], 3), turned])
    return markdown(["looks at", "kind", "ρ, mean of the families", "error", "ρ where phases change places"], rows)


def sections(study: Read) -> list[str]:
    """Return what the study of how models are made found, as Markdown."""
    table = study("averaging")
    return [
        "## Averaged instead of annealed, grown instead of begun",
        f"Profile `study`, {table['base'].nunique()} bases with seeds of their own, eight mixtures each; means with "
        "95 % intervals over bases (Student's t); held-out text. Merged and mixed proxies from components of a falling "
        "rate (cosine), a constant one, and a constant one whose last ten checkpoints are averaged; references of a "
        "falling rate (annealed) or made as the components are (alike). `demix-nb run study_making --profile study`",
        averaging(table),
        "![Schedules](figures/averaging.png)",
        "Large references: from a large base of random weights (own), from the small base grown, and grown from the "
        "small model of each mixture for half of the tokens; the small ones' order and theirs:",
        growing(study("growing")),
        "What all of these models score, bits per byte:",
        levels(pd.concat([study("averaging_levels"), study("growing_levels")])),
        "![Growing](figures/growing.png)",
    ]
