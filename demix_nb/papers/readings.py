"""What the papers' notebooks read off the study's tables: how far merging and training agree, and what falls short.

Tables in, small tables out. A type is `merged` (averaged weights), `mixed` (mixed probabilities) or `reference` (really
trained on the mixture); scores are families' means in bits per byte, lower is better.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from demix_nb.intervals import spearman
from demix_nb.store import Refusal

TABLE12 = "consistency_"  # before a family's name in the columns of DeMix's Table 12


def merged_over_trained(scores: pd.DataFrame) -> pd.DataFrame:
    """Return merged / trained score by the size δ of the updates (rows, ascending) and family; 1 = as good.

    `scores`: a column per family, type, share, delta. Bits per byte are better when lower, so the ratio is inverted:
    below 1 the merge is worse, as in DeMix's Table 12.
    """
    families = [name for name in ("code", "math") if name in scores]
    by = scores.set_index(["share", "delta", "type"], append=True)[families]
    ratio = by.xs("reference", level="type") / by.xs("merged", level="type")
    return ratio.groupby("delta").mean()


def printed_merged_over_trained(table12: pd.DataFrame) -> pd.DataFrame:
    """Return DeMix's Table 12 in the form of `merged_over_trained`; its δ is printed in percent."""
    once = table12.drop_duplicates("budget_b")
    ratio = once.set_index(once["delta_percent"] / 100)[[f"{TABLE12}code", f"{TABLE12}math"]]
    return ratio.rename(columns=lambda name: name.removeprefix(TABLE12)).rename_axis("delta")


def order_kept(curves: pd.DataFrame, families: Sequence[str]) -> pd.DataFrame:
    """Return Spearman's ρ between proxies and trained models along a path: (schedule, proxy) × family.

    `curves`: a column per family, schedule, type, share.
    """
    wide = curves.set_index(["schedule", "share", "type"])[list(families)].unstack("type")
    rows = {
        (schedule, proxy): {
            family: spearman(*(mine[family, kind].to_numpy() for kind in (proxy, "reference"))) for family in families
        }
        for schedule, mine in wide.groupby(level="schedule", sort=False)
        for proxy in ("merged", "mixed")
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["schedule", "proxy"])


def behind(scores: pd.DataFrame, families: Sequence[str], by: str) -> pd.DataFrame:
    """Return how far merging is behind training: index `by` (a column), columns gap (bits per byte) and delta.

    Means over mixtures and families; smallest δ first.
    """
    keys = [by, "delta", "type"]
    mean = scores.set_index(keys, append=True)[list(families)].mean(axis=1).unstack("type")
    gap = (mean["merged"] - mean["reference"]).groupby([by, "delta"]).mean()
    return gap.rename("gap").reset_index("delta").sort_values("delta")[["gap", "delta"]]


def exponent(gaps: pd.DataFrame) -> float:
    """Return p of gap ∝ δ^p by least squares on the logarithms; 2 for a term of second order.

    Raises Refusal with fewer than two sizes of the updates, where no line can be fitted.
    """
    if gaps["delta"].nunique() < 2:
        raise Refusal("an exponent needs gaps at two sizes of the updates; train components with two budgets")
    return float(np.polyfit(np.log(gaps["delta"]), np.log(gaps["gap"].clip(lower=1e-9)), 1)[0])
