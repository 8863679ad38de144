"""Mend a proxy with a few references: calibrate how it merges, or learn what it gets wrong.

Averaging K components shrinks every update: a component of weight α moves the model by α of its way, while training on
a share α of its data moves it further. So let the merge use c·αᵢ^p (not renormalised) and fit power and scale to a few
really trained references; once for all families, or once per family, each then scored on a merge of its own. `Fused`
goes on from any proxy: a ridge regression of the truth on mixture and proxy score predicts what the proxy misses.

Nothing here knows models: a merge is a function (mixtures, power, scale) → score table. Errors that are reported are
out of fold. Source: calibration is ours; fusing after MDE (arXiv 2502.15950), which regresses losses on both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from demix_nb.fidelity import MIN_REFERENCES, FidelityError
from demix_nb.ranking import family_scores

POWERS = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the weights; 1 is the plain merge
SCALES = (0.8, 1.0, 1.2, 1.5)  # of the update; 1 is the plain merge
FOLDS = 5
RIDGES = np.geomspace(1e-3, 1e3, 25)  # penalties tried, by leave-one-out error

Merge = Callable[[pd.DataFrame, float, float], pd.DataFrame]  # (mixtures, power, scale) → score table
Proxy = Callable[[pd.DataFrame], pd.DataFrame]  # mixture table → score table


@dataclass(frozen=True)
class Calibration:
    """Power and scale per family, what they were chosen from, and how well they do on references left out.

    `chosen`: index family, columns power, scale. `errors`: mean absolute error in the families' unit by (power, scale)
    over all references, one column per family. `out_of_fold`: family → the same error where each reference is judged by
    the choice that the others made.
    """

    chosen: pd.DataFrame
    errors: pd.DataFrame
    out_of_fold: pd.Series

    def apply(self, merge: Merge, tasks: pd.DataFrame) -> Proxy:
        """Return the calibrated proxy: every family's tasks come from a merge with that family's power and scale."""

        def proxy(mixtures: pd.DataFrame) -> pd.DataFrame:
            tables = {pair: merge(mixtures, *pair) for pair in set(self.chosen.itertuples(index=False, name=None))}
            pairs = {family: tuple(row) for family, row in self.chosen.iterrows()}
            return pd.DataFrame({task: tables[pairs[family]][task] for task, family in tasks["family"].items()})

        return proxy


def calibrate(
    merge: Merge,
    mixtures: pd.DataFrame,
    references: pd.DataFrame,
    tasks: pd.DataFrame,
    *,
    rng: np.random.Generator,
    per_family: bool = False,
    powers: Sequence[float] = POWERS,
    scales: Sequence[float] = SCALES,
) -> Calibration:
    """Choose power and scale by the mean absolute error of merged against reference family scores.

    mixtures: those of the references. Merges one proxy per reference and pair of values. Raises FidelityError for fewer
    than 4 references.
    """
    if len(mixtures) < MIN_REFERENCES:
        raise FidelityError(f"{len(mixtures)} references cannot calibrate a merge; give at least {MIN_REFERENCES}")
    truth = family_scores(references.loc[mixtures.index], tasks)
    gaps = {pair: (family_scores(merge(mixtures, *pair), tasks) - truth).abs() for pair in product(powers, scales)}
    errors = pd.DataFrame({pair: gap.mean() for pair, gap in gaps.items()}).T.rename_axis(["power", "scale"])
    folds = rng.permutation(np.arange(len(mixtures)) % min(FOLDS, len(mixtures)))
    judged = []
    for fold in np.unique(folds):
        kept = {pair: gap[folds != fold].mean() for pair, gap in gaps.items()}
        pairs = _best(pd.DataFrame(kept).T, per_family)
        judged.append(pd.DataFrame({family: gaps[pair][folds == fold][family] for family, pair in pairs.items()}))
    chosen = pd.DataFrame(_best(errors, per_family), index=["power", "scale"]).T.rename_axis("family")
    return Calibration(chosen, errors, pd.concat(judged).mean())


def _best(errors: pd.DataFrame, per_family: bool) -> dict[str, tuple[float, float]]:
    together = errors.mean(axis=1).idxmin()
    return {family: errors[family].idxmin() if per_family else together for family in errors}


@dataclass
class Fused:
    """A proxy corrected by ridge regressions, one per task, of what references had beyond it on mixture and score.

    With little to learn from, the penalty (leave-one-out) leaves the proxy as it is, up to its mean error.
    """

    proxy: Proxy

    def fit(self, mixtures: pd.DataFrame, references: pd.DataFrame) -> "Fused":
        """Learn from the references of these mixtures; raises FidelityError for fewer than 4."""
        if len(mixtures) < MIN_REFERENCES:
            raise FidelityError(f"{len(mixtures)} references cannot correct a proxy; give at least {MIN_REFERENCES}")
        guesses = self.proxy(mixtures)
        self.models = {}
        for task in guesses:
            missed = references.loc[mixtures.index, task] - guesses[task]
            ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES))
            self.models[task] = ridge.fit(_features(mixtures, guesses[task]), missed)
        return self

    def __call__(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the corrected score table."""
        guesses = self.proxy(mixtures)
        fixes = {task: self.models[task].predict(_features(mixtures, guesses[task])) for task in guesses}
        return guesses + pd.DataFrame(fixes, index=guesses.index)


def _features(mixtures: pd.DataFrame, guess: pd.Series) -> np.ndarray:
    return np.column_stack([mixtures, np.sqrt(mixtures), guess.loc[mixtures.index]])
