"""How far proxies mislead about a candidate that must be repeated, read off the way from all others to it.

A path gives a scarce candidate a growing share x, the others the rest in equal shares. Its truth is what really trained
models score, on the scarce candidate's own text and on the others' (`own`, `rest`, bits per byte): too small a share
learns too little, too large a one learns by heart. A proxy misleads by the share that it takes for the best. An epoch
feature tells a predictor of short runs how often each has read its text, so that it can say what a longer run does.

Source: Repetition Mismatch (arXiv 2606.07597), whose error is that of the best share; Scaling Laws for Mixture
Pretraining Under Data Constraints (2605.12715); what a repeated token is worth: Muennighoff et al. (2305.16264).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from demix_nb.intervals import spearman

TEXTS = ("own", "rest")  # columns of a path: bits per byte of the scarce candidate's text, and of the others'
FINE = np.linspace(0, 1, 1001)  # shares among which the best is looked for
WORTH = 15.4  # epochs by which repeating a text has lost most of its worth: R*_D of Muennighoff et al., 3.1
PENALTIES = np.logspace(-6, 2, 17)


def path(scarce: str, candidates: Sequence[str], shares: Sequence[float]) -> pd.DataFrame:
    """Return the mixtures that give `scarce` the shares, and all others what is left, equally."""
    others = [name for name in candidates if name != scarce]
    rows = {f"x{share:g}": {scarce: share} | dict.fromkeys(others, (1 - share) / len(others)) for share in shares}
    return pd.DataFrame(rows).T[list(candidates)].rename_axis("mixture")


def texts(scores: pd.DataFrame, scarce: str, shares: Sequence[float]) -> pd.DataFrame:
    """Return `own` and `rest` (TEXTS) by share, from held-out scores, mixture × task, in the order of the shares."""
    task = f"heldout_{scarce}"
    found = {"own": scores[task], "rest": scores.drop(columns=task).mean(axis=1)}
    return pd.DataFrame(found).set_axis(pd.Index(shares, name="share"))


def curve(levels: pd.Series) -> Float[np.ndarray, " fine"]:
    """Return a cubic in √share through levels by share, at the shares FINE; of four points or fewer, through all."""
    bend = np.polyfit(np.sqrt(levels.index.to_numpy(float)), levels.to_numpy(), min(3, len(levels) - 1))
    return np.polyval(bend, np.sqrt(FINE))


def misled(found: pd.DataFrame, truth: pd.DataFrame) -> dict[str, float]:
    """Return how far what was `found` along a path misleads about the `truth` (both by share, columns TEXTS).

    Of the scarce candidate's own text: `best` and `true`, the share that is taken for the best, and the best; `off`,
    their distance; `regret`, what the former loses, bits per byte; `rho`, how the shares are ordered. The same of the
    mean of both texts in `off both` and `regret both`.
    """
    pairs = {"": [table["own"] for table in (found, truth)]}
    pairs[" both"] = [table[list(TEXTS)].mean(axis=1) for table in (found, truth)]
    told = {"rho": spearman(*(levels.to_numpy() for levels in pairs[""]))}
    for which, levels in pairs.items():
        theirs, ours = map(curve, levels)
        best, true = FINE[theirs.argmin()], FINE[ours.argmin()]
        told |= {f"off{which}": abs(best - true), f"regret{which}": ours[theirs.argmin()] - ours.min()}
        told |= {"best": best, "true": true} if not which else {}
    return {name: float(value) for name, value in told.items()}


def epochs(share: float | np.ndarray, tokens: float | np.ndarray, there: float) -> float | np.ndarray:
    """Return how often `there` tokens are read in a run of `tokens`, of which they have the share."""
    return share * tokens / there


def fresh(often: np.ndarray) -> np.ndarray:
    """Return what `often` epochs are worth in epochs of new text: 1 + R(1 − exp(−(e−1)/R)) from one epoch on."""
    return np.where(often <= 1, often, 1 + WORTH * (1 - np.exp(-(often - 1) / WORTH)))


def extrapolated(runs: pd.DataFrame, target: float, *, there: float, beta: float, with_epochs: bool) -> pd.DataFrame:
    """Return what short runs say of a run of `target` tokens at their shares: by share, columns TEXTS.

    `runs`: share, tokens, own, rest. A quadratic ridge on √share and log tokens, `with_epochs` also on the logarithm of
    what was read of the scarce text, repeated tokens counted at their worth (`fresh`), and of how often.
    """
    shares = np.unique(runs["share"])
    asked = pd.DataFrame({"share": shares, "tokens": float(target)})

    def features(table: pd.DataFrame) -> Float[np.ndarray, "run feature"]:
        share, tokens = (table[name].to_numpy(float) for name in ("share", "tokens"))
        often = epochs(beta * share, tokens, there)
        more = [np.log1p(fresh(often)), np.log1p(often)] if with_epochs else []
        return np.column_stack([np.sqrt(share), np.log(tokens), *more])

    bends = PolynomialFeatures(2, include_bias=False)
    model = make_pipeline(StandardScaler(), bends, StandardScaler(), RidgeCV(PENALTIES))
    found = {text: model.fit(features(runs), runs[text]).predict(features(asked)) for text in TEXTS}
    return pd.DataFrame(found, index=pd.Index(shares, name="share"))
