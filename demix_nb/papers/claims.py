"""What a paper claims, what is found here, and whether the two agree: the last table of every paper's notebook.

A claim stands beside the printed number and ours, with a verdict that its notebook computes and, where the two cannot
be compared outright, a reason. The table is kept among the run's, so that a verdict can be quoted and compared.
"""

import numpy as np
import pandas as pd

from demix_nb.intervals import with_interval
from demix_nb.store import Refusal
from demix_nb.study import Study

INTERVAL = ["value", "low", "high"]


class Claims:
    """Claims in the order in which they were added; each text once."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, object]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, text: str, printed: str, ours: str, agrees: bool | np.bool_, why: str = "") -> None:
        """Add a claim: what the paper prints, what is found here, whether they agree, and a caveat if there is one.

        Raises Refusal for a claim that was added before.
        """
        if text in self._rows:
            raise Refusal(f"the claim {text!r} stands there already; give it once")
        self._rows[text] = {"printed": printed, "ours": ours, "agrees": bool(agrees), "why": why}

    @property
    def table(self) -> pd.DataFrame:
        """Index claim, columns printed, ours, agrees, why."""
        columns = ["printed", "ours", "agrees", "why"]
        return pd.DataFrame.from_dict(self._rows, orient="index", columns=columns).rename_axis("claim")

    @property
    def agreed(self) -> str:
        """How many agree, as in "9 of 14"."""
        return f"{sum(bool(row['agrees']) for row in self._rows.values())} of {len(self)}"

    def write(self, study: Study, name: str) -> pd.DataFrame:
        """Write the table among the study's under `name`, whole or not at all, and return it."""
        study[name] = self.table
        return self.table


def told(row: pd.Series, digits: int = 2) -> str:
    """Return a measured value with its 95 % interval, from a row with value, low and high; alone if it has none."""
    value, low, high = row[INTERVAL]
    return with_interval(value, low, high, digits=digits) if np.isfinite(low) else f"{value:.{digits}f}"
