"""Headroom: by how many seed noises a mixture is ahead of the one that would be used without a search.

A second seed of the same mixture moves a model; where the best mixture is not further ahead than that, there is nothing
to find. What all mixtures share moves none past another, so a run's noise is the standard deviation of the gaps between
two seeds over √2. Before anything is trained a gain is the predictor's word, as uncertain as it was wrong about really
trained mixtures (`of_predictions`); afterwards it is the difference of two noisy runs (`of_trained`). It is counted in
the objective where that values each mixture by itself, and for the rank in levels: the families' mean in standard
deviations of the references, lower is better.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from demix_nb.decide import Objective
from demix_nb.intervals import interval, with_interval
from demix_nb.runs import flat
from demix_nb.scored import Scored

WORTH = 2.0  # seed noises that the best must be ahead of the baseline, or there is nothing to find
FEW, DRAWS = 3, 2000  # least mixtures that tell a spread; draws of an interval
WON = "seed baseline headroom low high winner_level baseline_level noise".split()  # columns of `of_trained`


def headroom(
    gain: float, errors: Float[ndarray, " reference"], gaps: Float[ndarray, " replicate"], *, rng: np.random.Generator
) -> pd.Series:
    """Return how many seed noises a gain of level is: headroom, low, high (95 %), noise, gain.

    `gain`: the baseline's level less that of the best. `errors`: how far off levels like either of them were. `gaps`:
    what a second seed of a mixture changes. The interval is over both, resampled, and normal errors. NaN: not known, of
    fewer than 3 mixtures that were trained, or trained twice.
    """
    noise = _deviation(gaps) / np.sqrt(2) if len(gaps) >= FEW else np.nan
    low = high = np.nan
    if len(gaps) >= FEW and len(errors) >= FEW:
        spread, noises = (_deviation(one[rng.integers(0, len(one), (DRAWS, len(one)))]) for one in (errors, gaps))
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = interval((gain + np.sqrt(2) * spread * rng.normal(size=DRAWS)) / (noises / np.sqrt(2)))
    return pd.Series({"headroom": gain / noise, "low": low, "high": high, "noise": noise, "gain": gain})


def scale(known: Scored, found: Scored) -> Scored:
    """Return the mixtures in whose standard deviations levels are told: references, or what was scored where those are
    too few or all alike.
    """
    return known if len(known) >= FEW and not flat(known.averaged().families) else found


def of_predictions(
    predictor, by: Objective, known: Scored, again: Scored, named: pd.DataFrame, best: str, *, rng: np.random.Generator
) -> tuple[str, pd.Series]:
    """Return the baseline, and by how much `best` is predicted ahead of it.

    `by`: an objective that values each mixture by itself, such as a level; `named`: the mixtures `best` is among; the
    baseline is the one called so, else the best of uniform and natural. `known`, `again`: references and their second
    seeds.
    """

    def valued(scored: Scored) -> pd.Series:
        return by(scored) if len(scored) else pd.Series(dtype=float)

    values, true = valued(predictor.predict(named)), valued(known)
    errors = valued(predictor.predict(known.mixtures)) - true if len(known) else true
    plain = values[["baseline"] if "baseline" in values else values.index.intersection(["uniform", "natural"])]
    gaps = valued(again) - true[again.names]
    return plain.idxmin(), headroom(float(plain.min() - values[best]), errors.to_numpy(), gaps.to_numpy(), rng=rng)


def of_trained(
    trained: Scored,
    runs: pd.DataFrame,
    best: str,
    plain: Sequence[str],
    known: Scored,
    again: Scored,
    *,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return `won` of really trained models; `runs`: model → strategy, seed; `known`, `again` as `of_predictions`.

    No rows where nothing was trained, or too little twice.
    """
    if not len(trained) or len(again) < FEW:
        return pd.DataFrame(columns=WON)
    gaps = again.level(known) - known.level(known)[again.names]
    return won(runs.assign(level=trained.level(known)), best, plain, gaps.to_numpy(), rng=rng)


def won(
    levels: pd.DataFrame,
    best: str,
    plain: Sequence[str],
    gaps: Float[ndarray, " replicate"],
    *,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Return by how many seed noises really trained models of `best` are ahead of the `plain` ones: columns of WON.

    `levels`: a row per model, columns strategy, seed, level. Both of a pair are as noisy as a run is, which the
    interval counts; `gaps` as `headroom` has them.
    """
    rows = []
    for seed, row in levels.pivot(index="seed", columns="strategy", values="level").iterrows():
        for name in (name for name in plain if name in row.index and name != best):
            ahead = headroom(float(row[name] - row[best]), gaps / np.sqrt(2), gaps, rng=rng)
            rows.append([int(seed), name, *ahead[["headroom", "low", "high"]], row[best], row[name], ahead["noise"]])
    return pd.DataFrame(rows, columns=WON)


def worth(found: pd.Series) -> str:
    """Return in words whether a search pays, of what `headroom` found."""
    if np.isnan(found["headroom"]):
        return f"{found['gain']:.2f} of the objective ahead of the baseline; what a second seed changes is not known"
    known = with_interval(*found[["headroom", "low", "high"]], digits=1)
    told = (f"{found['headroom']:.1f}" if np.isnan(found["low"]) else known) + " seed noises ahead of the baseline"
    if found["headroom"] < WORTH:
        return f"nothing to find: {told}, under {WORTH:g}" + (", perhaps more" if found["high"] >= WORTH else "")
    return f"something to find: {told}" + ("" if found["low"] >= WORTH else f", perhaps under {WORTH:g}")


def held(ties: pd.DataFrame, trained: Scored, runs: pd.DataFrame, references: Scored) -> str:
    """Return whether the tied set holds the really trained best of all that was trained, in words.

    `ties`: mixture → kind (named, reference) and whether it is `tied` (`Sure.ties`); `runs`: model → strategy, the name
    of its mixture. Best is the least level among the references, a mixture's the mean of its runs; not known of fewer
    than 3 references, or where all are alike.
    """
    told = references if scale(references, references.take([])) is references else []
    missing = {"set is known": ties, "model was trained here": trained, "references tell a level": told}
    if none := [what for what, there in missing.items() if not len(there)]:
        return f"not known: no {none[0]}"
    own = trained.level(references).groupby(runs["strategy"]).mean()
    levels = pd.concat({"named": own, "reference": references.level(references)}).dropna()
    kind, best = levels.idxmin()
    inside = ties.loc[ties["kind"] == kind, "tied"][best]
    who = best if kind == "named" else f"reference {best}"
    return f"{'yes' if inside else 'NO'}: of {len(levels)} it is {who}, at level {levels.min():.2f}"


def _deviation(values: Float[ndarray, "..."]) -> Float[ndarray, "..."] | float:
    return values.std(axis=-1, ddof=1)
