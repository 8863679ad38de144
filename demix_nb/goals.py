"""What "best" means, and what must not get worse: objectives and guardrails of a search.

DeMix minimises the macro rank. A team may want the level (the families' mean in standard deviations), the worst family,
families by weight, or something of its own; and it has scores that must not fall below what it has today. An objective
is a number per mixture, the smaller the better; a guardrail is a chance, under the predictor's spread, that a family or
a task keeps a distance from the baseline. A mixture that does not keep it is last, whatever it would gain.

Sources: DeMix (arXiv 2602.00747) 2.4; utilities: MergeMix (2601.17858); chance constraints: Charnes & Cooper (1959).
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from demix_nb.decide import Objective, ranked
from demix_nb.scored import Scored
from demix_nb.sections import RANK
from demix_nb.store import Refusal

Goal = Callable[[Scored], Objective]  # what was scored so far → the objective
NAMED = {  # of the families' scores in standard deviations above what was scored, higher is better: mixture × family
    "level": lambda families: families.mean(axis=1),
    "worst family": lambda families: families.min(axis=1),
}
ALONE, AGREE = 4, 1e-6  # mixtures that are valued each by itself; how near that is to their values together


def goal(said: str | Mapping[str, float] = RANK) -> Goal:
    """Return what a study file's `objective` says.

    `rank` (DeMix's macro rank), `level`, `worst family`, a weight for each family, or `module:function`, which gets the
    families' scores in standard deviations, higher is better, and returns a number per mixture, higher is better.
    Raises Refusal for what is none of these, and when it is used for a family that is not scored, or an answer that is
    not one finite number per mixture.
    """
    if said == RANK:
        return ranked
    if isinstance(said, Mapping):
        if not said or not all(np.isfinite(value) and value >= 0 for value in said.values()) or not sum(said.values()):
            raise Refusal(f"objective {dict(said)} weighs no family; give weights of 0 or more, one above 0")
        return _standardised(lambda families: _weighted(families, said), "weights")
    if said in NAMED:
        return _standardised(NAMED[said], said)
    return _standardised(_own(said), said)


def steady(said: str | Mapping[str, float] = RANK) -> Goal:
    """Return what a study file's `objective` says, as a number of each mixture by itself; of the rank, the level.

    A rank among what was scored stands still beyond the best of it, where an optimum lies: the level does not.
    """
    return goal("level" if said == RANK else said)


def by_itself(by: Objective, some: Scored) -> bool:
    """Whether an objective values mixtures one by one as it does together; ties and prices can be told of no other."""
    some = some.take(np.arange(min(ALONE, len(some))))
    try:
        alone = [by(some.take([row])).item() for row in range(len(some))]
    except Refusal:
        return False
    return np.allclose(alone, by(some), rtol=0, atol=AGREE * (1 + np.abs(alone).max()))


def _standardised(utility: Callable[[pd.DataFrame], pd.Series], name: str) -> Goal:
    def of(seen: Scored) -> Objective:
        def by(scored: Scored) -> pd.Series:
            families = scored.standardised(seen.only(list(scored.tasks.index)))
            values = np.asarray(utility(families), float)
            if values.shape != (len(families),) or not np.isfinite(values).all():
                told = f"{values.size} numbers" if values.shape != (len(families),) else "what is no finite number"
                raise Refusal(f"objective {name!r} gave {told} for {len(families)} mixtures; let it give one for each")
            return pd.Series(-values, families.index)

        return by

    return of


def _weighted(families: pd.DataFrame, weights: Mapping[str, float]) -> pd.Series:
    if unknown := [name for name in weights if name not in families]:
        raise Refusal(f"objective weighs {unknown[0]!r}, which is no family that is scored: {', '.join(families)}")
    return families[list(weights)] @ pd.Series(weights)


def _own(said: str) -> Callable[[pd.DataFrame], pd.Series]:
    module, _, name = said.partition(":")
    if not name:
        known = ", ".join([RANK, *NAMED])
        raise Refusal(f"objective {said!r} is unknown; write {known}, a weight for each family, or module:function")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise Refusal(f"objective {said!r} cannot be had ({error}); let Python find the module") from error


@dataclass(frozen=True)
class Guardrail:
    """A family or task that keeps within `margin` of the baseline, in its unit, with a probability."""

    of: str
    margin: float
    probability: float = 0.9

    def kept(self, predictor, mixtures: pd.DataFrame, baseline: pd.Series) -> pd.Series:
        """Return the chance that each mixture keeps it; raises Refusal where nobody scores it or knows how sure it is.

        Tasks of a family are taken to err together, which is the careful side.
        """
        gap, doubt = self._gap(predictor, mixtures, baseline)
        return pd.Series(ndtr(gap / doubt), mixtures.index)

    def room(self, predictor, mixtures: pd.DataFrame, baseline: pd.Series) -> pd.Series:
        """Return by how much, in its unit, the margin could be narrower and each mixture keep it; below 0: it doesn't.

        Raises Refusal as `kept`.
        """
        gap, doubt = self._gap(predictor, mixtures, baseline)
        return pd.Series(gap - ndtri(self.probability) * doubt, mixtures.index)

    def _gap(self, predictor, mixtures: pd.DataFrame, baseline: pd.Series) -> tuple[np.ndarray, np.ndarray]:
        """How much better than the baseline less the margin mixtures are predicted, and how sure that is."""
        both = pd.concat([baseline.to_frame("baseline").T[list(mixtures)], mixtures.add_prefix("m ", axis=0)])
        predicted, spread = predictor.predict(both), predictor.spread(both)
        tasks = predicted.tasks
        own = list(tasks.index[(tasks["family"] == self.of) | (tasks.index == self.of)])
        if not own:
            known = ", ".join(dict.fromkeys([*tasks["family"], *tasks.index]))
            raise Refusal(f"guardrail on {self.of!r}, which is not scored; there are {known}")
        sign = tasks.loc[own, "higher_is_better"].map({True: 1.0, False: -1.0})
        score, doubt = (predicted.scores[own] * sign).mean(axis=1), spread[own].mean(axis=1)
        gap = score.iloc[1:] - score.iloc[0] + self.margin
        return gap.to_numpy(), np.maximum(doubt.iloc[1:].to_numpy(), 1e-12)


@dataclass(frozen=True)
class Rails:
    """Guardrails against one baseline, under one predictor."""

    guardrails: Sequence[Guardrail]
    predictor: Any
    baseline: pd.Series | None

    def keep(self, mixtures: pd.DataFrame, within: float = 0.0) -> pd.Series:
        """Return mixture → whether it keeps every guardrail, `within` so much; raises Refusal as `Guardrail.kept`."""
        return (self.room(mixtures) >= -within).all(axis=1)

    def room(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return by how much each guardrail is kept, mixture × guardrail, in their units (`Guardrail.room`)."""
        found = {one.of: one.room(self.predictor, mixtures, self.baseline) for one in self.guardrails}
        return pd.DataFrame(found, mixtures.index)

    def loosened(self, of: str, by: float) -> "Rails":
        """Return the same with one guardrail's margin wider by so much of its unit."""
        wider = [replace(one, margin=one.margin + by * (one.of == of)) for one in self.guardrails]
        return replace(self, guardrails=wider)


def guarded(goal: Goal, guardrails: Sequence[Guardrail], predictor, baseline: pd.Series | None) -> Goal:
    """Return the goal under which a mixture that does not keep every guardrail comes last.

    Raises Refusal for guardrails without a baseline, and when it is used where no mixture keeps them.
    """
    if not guardrails:
        return goal
    if baseline is None:
        raise Refusal("guardrails are held against a baseline; name one (run.baseline)")

    def of(seen: Scored) -> Objective:
        inner = goal(seen)

        def by(scored: Scored) -> pd.Series:
            values, keeps = inner(scored), pd.Series(True, scored.mixtures.index)
            for one in guardrails:
                chance = one.kept(predictor, scored.mixtures, baseline)
                keeps &= chance >= one.probability
                if not keeps.any():
                    raise Refusal(
                        f"none of {len(keeps)} mixtures keeps {one.of!r} within {one.margin:g} of the baseline with "
                        f"probability {one.probability:g}; the likeliest does with {chance.max():.2f}: widen the margin"
                    )
            return values.where(keeps, np.inf)

        return by

    return of
