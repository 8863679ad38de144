"""What is read off the study of how models are made: over bases, beside another way, and what equal loss costs.

Tables in, small tables out. A base is one more training with another seed of what all else begins from.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from demix_nb.intervals import student
from demix_nb.store import Refusal

WINDOW = 5  # points of a loss curve whose mean is looked at, as a record's loss is


def over_bases(table: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Return the mean `value` over the bases of a long table and its 95 % interval; index `by`: value, low, high.

    Student's t, as bases are few; of fewer than three, the mean alone.
    """
    rows = {key: student(mine) for key, mine in table.reset_index().groupby(list(by), sort=False)["value"]}
    found = pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows), columns=["value", "low", "high"])
    return found.rename_axis(list(by))


def less(levels: pd.DataFrame, than: str) -> pd.DataFrame:
    """Return each way's `value` less that of the way `than`, of the same base and family, and as family `mean` of all.

    `levels`: index way; base, family, value.
    """
    wide = levels.set_index(["base", "family"], append=True)["value"].unstack("family")
    apart = wide - wide.xs(than).reindex(wide.index.get_level_values("base")).to_numpy()
    return apart.assign(mean=apart.mean(axis=1)).stack().rename("value").reset_index(["base", "family"])


def tokens_to_equal(curves: pd.DataFrame, way: str, than: str) -> pd.DataFrame:
    """Return how many tokens a `way` of training needs for the loss that another, `than`, ends at; index base.

    Columns: `loss` that is asked for, `tokens` of the way, `other` tokens, and `times` fewer; NaN where it is never
    reached. Losses are means of WINDOW points of the `curves` (columns way, base, tokens, loss), so that one lucky
    batch reaches nothing. Raises Refusal for a way that has no curve.
    """
    rows = {}
    for base, mine in curves.groupby("base"):
        if lost := {way, than} - set(mine["way"]):
            raise Refusal(f"no curve of {sorted(lost)[0]!r} on base {base}; there are {', '.join(set(mine['way']))}")
        own, other = (mine[mine["way"] == name].set_index("tokens")["loss"] for name in (way, than))
        loss, smooth = other.iloc[-WINDOW:].mean(), own.rolling(WINDOW).mean()
        tokens = float(smooth.index[(smooth <= loss).to_numpy()].min()) if (smooth <= loss).any() else np.nan
        rows[base] = {"loss": loss, "tokens": tokens, "other": other.index[-1], "times": other.index[-1] / tokens}
    return pd.DataFrame(rows).T.rename_axis("base")
