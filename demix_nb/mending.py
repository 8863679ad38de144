"""Mend a proxy with a few references: choose how it merges, or learn what it gets wrong.

Averaging K components shrinks every update: a component of weight α moves the model by α of its way, while training on
a share α of its data moves it further. So let the merge use c·αᵢ^p (not renormalised) and fit power and scale to a few
really trained references; once for all families, or once per family, each then scored on a merge of its own. `Fused`
goes on from any proxy: a ridge regression of the truth on mixture and proxy score predicts what the proxy misses.

Nothing here knows models: a merge is a function (mixtures, power, scale) → `Scored`, a proxy's tasks say which `kind`
served each. Errors that are reported are out of fold. Source: mending a merge is ours; fusing after MDE (arXiv
2502.15950), which regresses losses on both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from demix_nb.fidelity import MIN_REFERENCES
from demix_nb.intervals import spearman
from demix_nb.scored import Scored
from demix_nb.store import Refusal

POWERS = (0.5, 0.625, 0.75, 0.875, 1.0)  # of the weights; 1 is the plain merge
SCALES = (0.8, 1.0, 1.2, 1.5)  # of the update; 1 is the plain merge
FOLDS = 5
MIXED_ERRS = 0.5  # spreads between mixtures that mixed proxies err by at most, over all committed runs (tested)
RIDGES = np.geomspace(1e-3, 1e3, 25)  # penalties tried, by leave-one-out error

Merge = Callable[[pd.DataFrame, float, float], Scored]  # (mixtures, power, scale) → their scores
Proxy = Callable[[pd.DataFrame], Scored]


@dataclass(frozen=True)
class Mending:
    """Power and scale per family, what they were chosen from, and how well they do on references left out.

    `chosen`: index family, columns power, scale. `errors`: mean absolute error in the families' unit by (power, scale)
    over all references, one column per family. `out_of_fold`: family → the same error where each reference is judged by
    the choice that the others made.
    """

    chosen: pd.DataFrame
    errors: pd.DataFrame
    out_of_fold: pd.Series

    def apply(self, merge: Merge, kind: str = "mended") -> "Mended":
        """Return the mended proxy: every family's tasks come from a merge with that family's power and scale.

        `kind`: what it is called where the tasks' table says which kind of proxy served each.
        """
        return Mended(merge, self, kind)


@dataclass(frozen=True)
class Mended:
    """Merges with the powers and scales of a `mending`; it scores the tasks of the families it was fitted for."""

    merge: Merge
    mending: Mending
    kind: str

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        pairs = {family: tuple(row) for family, row in self.mending.chosen.iterrows()}
        scored = {pair: self.merge(mixtures, *pair) for pair in sorted(set(pairs.values()))}
        some = next(iter(scored.values()))
        tasks = some.tasks[some.tasks["family"].isin(list(pairs))]
        columns = {task: scored[pairs[family]].scores[task] for task, family in tasks["family"].items()}
        return Scored(some.mixtures, pd.DataFrame(columns), tasks.assign(kind=self.kind))


def mend(
    merge: Merge,
    references: Scored,
    *,
    rng: np.random.Generator,
    per_family: bool = False,
    powers: Sequence[float] = POWERS,
    scales: Sequence[float] = SCALES,
) -> Mending:
    """Choose power and scale by the mean absolute error of merged against reference family scores.

    Merges one proxy per reference and pair of values; the references' tasks count. Raises Refusal for fewer than 4
    references, and for a task that a merge does not score.
    """
    _enough(references, "mend a merge")
    gaps = {pair: _gap(merge(references.mixtures, *pair), references) for pair in product(powers, scales)}
    errors = pd.DataFrame({pair: gap.mean() for pair, gap in gaps.items()}).T.rename_axis(["power", "scale"])
    folds = rng.permutation(np.arange(len(references)) % min(FOLDS, len(references)))
    judged = []
    for fold in np.unique(folds):
        kept = {pair: gap[folds != fold].mean() for pair, gap in gaps.items()}
        pairs = _best(pd.DataFrame(kept).T, per_family)
        judged.append(pd.DataFrame({family: gaps[pair][folds == fold][family] for family, pair in pairs.items()}))
    chosen = pd.DataFrame(_best(errors, per_family), index=["power", "scale"]).T.rename_axis("family")
    return Mending(chosen, errors, pd.concat(judged).mean())


def _gap(merged: Scored, references: Scored) -> pd.DataFrame:
    """Return by how much each family of each reference is missed, mixture × family."""
    merged = replace(merged, tasks=references.tasks).of(references.names)
    return (merged.families - references.families).abs()


def _best(errors: pd.DataFrame, per_family: bool) -> dict[str, tuple[float, float]]:
    together = errors.mean(axis=1).idxmin()
    return {family: errors[family].idxmin() if per_family else together for family in errors}


def _enough(references: Scored, what: str) -> None:
    if len(references) < MIN_REFERENCES:
        raise Refusal(f"{len(references)} references cannot {what}; give at least {MIN_REFERENCES}")


@dataclass
class Fused:
    """A proxy corrected by ridge regressions, one per task, of what references had beyond it on mixture and score.

    With little to learn from, the penalty (leave-one-out) leaves the proxy as it is, up to its mean error.
    """

    proxy: Proxy

    def fit(self, references: Scored) -> "Fused":
        """Learn what the proxy misses of the references, on their tasks; raises Refusal for fewer than 4."""
        # here: whoever opens a study to look at its tables waits for what that needs alone
        from sklearn.linear_model import RidgeCV
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        _enough(references, "correct a proxy")
        self.tasks, self.candidates = references.tasks, references.candidates
        guesses = replace(self.proxy(references.mixtures), tasks=self.tasks).scores
        self.models = {}
        for task in guesses:
            ridge = make_pipeline(StandardScaler(), RidgeCV(RIDGES))
            missed = references.scores[task] - guesses[task]
            self.models[task] = ridge.fit(_features(references.mixtures, guesses[task]), missed)
        return self

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        """Return the corrected scores on the references' tasks; each is of the proxy's `kind`, fused."""
        mixtures = mixtures[self.candidates]
        guessed = self.proxy(mixtures)
        guesses = replace(guessed, tasks=self.tasks).scores
        fixes = {
            task: self.models[task].predict(_features(mixtures, guesses[task])) if len(mixtures) else []
            for task in guesses
        }
        kinds = "fused " + guessed.tasks.loc[list(guesses), "kind"]
        return Scored(mixtures, guesses + pd.DataFrame(fixes, index=guesses.index), self.tasks.assign(kind=kinds))


def _features(mixtures: pd.DataFrame, guess: pd.Series) -> np.ndarray:
    return np.column_stack([mixtures, np.sqrt(mixtures), guess.loc[mixtures.index]])


@dataclass
class Blended:
    """Between a merged and a mixed proxy: one share of the merged for all tasks, that which missed references least."""

    merged: Proxy
    mixed: Proxy

    def fit(self, references: Scored) -> "Blended":
        """Learn the share by least squares, tasks in their standard deviations over the references; needs 4."""
        _enough(references, "blend two proxies")
        self.tasks = references.tasks
        one, other = (replace(proxy(references.mixtures), tasks=self.tasks).scores for proxy in self._both)
        scale = references.scores.std().clip(lower=1e-12)
        apart, missed = ((table / scale).to_numpy() for table in (one - other, references.scores - other))
        self.share = float(np.clip((apart * missed).sum() / max((apart**2).sum(), 1e-12), 0, 1))
        return self

    @property
    def _both(self) -> tuple[Proxy, Proxy]:
        return self.merged, self.mixed

    def __call__(self, mixtures: pd.DataFrame) -> Scored:
        """Return the blended scores on the references' tasks."""
        one, other = (replace(proxy(mixtures), tasks=self.tasks) for proxy in self._both)
        scores = self.share * one.scores + (1 - self.share) * other.scores
        return Scored(one.mixtures, scores, self.tasks.assign(kind="blended"))


def out_of_fold(fit: Callable[[Scored], Proxy], references: Scored, *, rng: np.random.Generator) -> Scored:
    """Return the references' mixtures as a proxy scores them that was fitted to the others, FOLDS at a time.

    `fit(references)` returns the proxy. Raises Refusal where a fold leaves fewer than 4 to learn from.
    """
    folds = rng.permutation(np.arange(len(references)) % FOLDS)
    parts = []
    for fold in range(min(FOLDS, len(references))):
        held, rest = (references.take(np.flatnonzero(where)) for where in (folds == fold, folds != fold))
        parts.append(fit(rest)(held.mixtures))
    found = parts[0]
    for part in parts[1:]:
        found += part
    return found.of(references.names)


def bracket(merged: Scored, mixed: Scored, references: Scored) -> pd.Series:
    """Return whether two proxies enclose the truth, cell by cell (mixture × task; lower is better), on shared tasks.

    `mixed below`, `merged above`, `enclosed`: shares of cells; `distance` of the two, `error` of each and `spread` of
    the references (their standard deviation over mixtures): means over cells, in the scores' unit; `told`: Spearman's ρ
    over mixtures between distance and the merged one's error. To second order in the updates τᵢ, of mean τ*, the two
    differ by 0.5·Σ αᵢ (τᵢ − τ*)ᵀ (∇²p / p) (τᵢ − τ*) nats a token.
    """
    one, other, truth = (replace(found, tasks=references.tasks).of(references.names).scores
                         for found in (merged, mixed, references))  # fmt: skip
    low, high = other < truth, truth < one
    gaps = {"distance": one - other, "error merged": one - truth, "error mixed": other - truth}
    told = {name: float(cells.to_numpy().mean())
            for name, cells in {"mixed below": low, "merged above": high, "enclosed": low & high}.items()}  # fmt: skip
    told |= {name: float(gap.abs().to_numpy().mean()) for name, gap in gaps.items()}
    by_mixture = [gaps[name].abs().mean(axis=1).to_numpy() for name in ("distance", "error merged")]
    return pd.Series(told | {"spread": float(truth.std().mean()), "told": float(spearman(*by_mixture))})


def apart(merged: Scored, mixed: Scored) -> pd.DataFrame:
    """Return how far the merge is to be believed where nothing was trained: how far it is from the mixed proxy.

    Per family, means over shared tasks and mixtures: `distance`, |merged − mixed|, and `spread`, the standard deviation
    of mixed scores between mixtures, in the tasks' unit; `ratio` of the two. By the triangle the merge errs by `ratio`
    spreads, give or take what the mixed proxy errs by, at most MIXED_ERRS in all that was measured: `low`, `high`.
    `verdict` says what follows.
    """
    one, other = (replace(found, tasks=mixed.tasks).of(mixed.names).scores for found in (merged, mixed))
    cells = pd.DataFrame({"distance": (one - other).abs().mean(), "spread": other.std()})
    told = cells.groupby(mixed.tasks["family"], sort=False).mean()
    told["ratio"] = told["distance"] / told["spread"]
    told["low"], told["high"] = (told["ratio"] - MIXED_ERRS).clip(lower=0), told["ratio"] + MIXED_ERRS
    told["verdict"] = np.where(told["low"] == 0, "take either", "mix, or train references")
    return told
