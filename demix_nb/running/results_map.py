"""The map in RESULTS.md: which proxy when, over regimes, sizes of an update and bases, from `regimes.csv`."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from demix_nb.fidelity import CEILING
from demix_nb.figures.pipeline import kind_label
from demix_nb.intervals import student, with_interval


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def over_bases(values: pd.Series, digits: int) -> str:
    """Return a mean with its 95 % interval over bases (Student's t: bases are few); of fewer than three, it alone."""
    middle, low, high = student(values)
    return f"{middle:.{digits}f}" if np.isnan(low) else with_interval(middle, low, high, digits=digits)


def regimes(table: pd.DataFrame, suite: str = "heldout") -> str:
    """Return the map: fidelity by regime, size of the update and kind of proxy, with intervals over three bases."""
    rows = []
    own = table[table["suite"] == suite]
    for (regime, _), mine in own.groupby([own.index, "share"], sort=False):
        spread = mine.query("proxy == 'bracket' and measure == 'spread'").set_index("base")["value"]
        for (kind, budget), part in mine.groupby(["proxy", mine["budget"].fillna(0.0)], sort=False):
            if kind != "bracket":
                known = part.pivot(index="base", columns="measure", values="value")
                name = "a second seed (ceiling)" if kind == CEILING else kind_label(kind, budget)
                told = [over_bases(known[measure], 2) for measure in ("rho_macro", "rho_rank")]
                told += [over_bases(known["error"] / spread, 2), over_bases(known["regret"], 1)]
                rows.append([regime, f"{100 * mine['delta'].mean():.2f} %", str(len(known)), name, *told])
    head = ["regime", "δ", "bases", "kind of proxy", "macro ρ", "ρ of the rank", "error, sd", "regret, ranks"]
    return markdown(head, rows)


def brackets(table: pd.DataFrame) -> str:
    """Return what merged and mixed proxies say together, by regime, size and suite, means over bases."""
    own = table[table["proxy"] == "bracket"]
    rows = []
    for (regime, _, suite), mine in own.groupby([own.index, "share", "suite"], sort=False):
        known = mine.groupby("measure")["value"].mean()
        shares = [f"{known[name]:.0%}" for name in ("mixed below", "merged above", "enclosed")]
        sizes = [f"{known[name] / known['spread']:.2f}" for name in ("distance", "error merged", "error mixed")]
        rows.append([regime, f"{100 * mine['delta'].mean():.2f} %", suite, *shares, *sizes, f"{known['told']:.2f}"])
    head = ["regime", "δ", "scored on", "mixed below", "merged above", "both", "distance, sd", "error merged, sd",
            "error mixed, sd", "ρ of distance and merged error"]  # fmt: skip
    return markdown(head, rows)


def powers(table: pd.DataFrame, suite: str = "heldout") -> str:
    """Return with which power of δ a merge's error, and its distance from the mixed proxy, grow: means over bases."""
    own = table[(table["proxy"] == "bracket") & (table["suite"] == suite)]
    means = own.groupby([own.index, "share", "measure"], sort=False)[["delta", "value"]].mean()
    rows = []
    for regime in own.index.unique():
        told = [np.polyfit(*np.log(means.loc[regime].xs(name, level="measure")).to_numpy().T, 1)[0]
                for name in ("error merged", "distance")]  # fmt: skip
        rows.append([str(regime), *(f"{power:.1f}" for power in told)])
    return markdown(["regime", "power of δ, error of the merge", "power of δ, distance of the two"], rows)


def unreferenced(table: pd.DataFrame) -> str:
    """Return what `mending.apart` says of a regime's merges if all it knows of mixing comes from the other regimes."""
    own = table[table["proxy"] == "bracket"]
    cells = own.pivot_table(index=["regime", "base", "share", "suite"], columns="measure", values="value", sort=False)
    sizes = cells.div(cells["spread"], axis=0)
    regime, rows = sizes.index.get_level_values("regime"), []
    for name in regime.unique():
        mine, others = sizes[regime == name], sizes[regime != name]
        allowed, gap = others["error mixed"].max(), mine["error merged"] - mine["distance"]
        told = [f"{values.min():.2f} to {values.max():.2f}" for values in (mine["distance"], mine["error merged"])]
        inside = (gap.abs() <= allowed).sum()
        rows.append([name, f"{allowed:.2f}", *told, f"{inside} of {len(mine)}"])
    head = ["regime left out", "mixed errs elsewhere by at most, sd", "distance, sd", "error merged, sd", "enclosed"]
    return markdown(head, rows)


def sections(table: pd.DataFrame) -> list[str]:
    """Return the map over all regimes, as Markdown."""
    return [
        "## Which proxy when",
        "Regimes of base and size, each at three sizes δ of the components' updates (DeMix eq. 4); held-out text; "
        "errors in standard deviations of the references. `python -m tests.benchmarks.regimes --out data/results`, "
        "`demix-nb run --profile real`",
        "![The map](figures/regimes.png)",
        regimes(table),
        "How often the mixed proxy lies below the truth, the merged one above it, and both:",
        brackets(table),
        "With which power of δ they grow, between the three sizes (theory: the second, where updates are small):",
        powers(table),
        "Without any reference (`mending.apart`): a merge errs by its distance from the mixed proxy, give or take what "
        "mixing erred by in the *other* regimes:",
        unreferenced(table),
    ]
