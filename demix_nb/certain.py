"""What a study says of its own answer: by how much it is ahead, what is as good, what binds it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from demix_nb.facts import Facts
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal


@dataclass(frozen=True)
class Certain(Facts):
    """A study's facts, and how sure its answer is."""

    def goal(self, predictor):
        """Return what best means in this study (`goals`), for a search with this predictor.

        Raises Refusal where guardrails have no baseline, are on what is not ranked, or the predictor has no spread.
        """
        from demix_nb import goals

        rails = [goals.Guardrail(name, one.margin, one.probability) for name, one in self.file.guardrails.items()]
        known = {*self.ranked.index, *self.ranked["family"]}
        if unknown := [one.of for one in rails if one.of not in known]:
            raise Refusal(f"guardrail on {unknown[0]!r}, which does not steer; there are {', '.join(sorted(known))}")
        if rails and not predictor.row.spread:
            raise Refusal(f"guardrails need to know how sure a prediction is, and {predictor.row.label} does not say")
        said = "baseline" if "baseline" in self.plain.index else self.file.run.baseline
        baseline = self.plain.loc[said] if said in self.plain.index else None
        return goals.guarded(goals.goal(self.file.objective), rails, predictor, baseline)

    def headroom(self, predictor, found: Scored, named: pd.DataFrame, best: str, *, rng) -> dict[str, Any]:
        """Return by how many seed noises `best` is predicted ahead of the baseline, told in words; None: not known.

        `named`: the mixtures it is among, see `headroom.of_predictions`; `found`: all that was scored.
        """
        from demix_nb import headroom

        three = (self.references, self.scored("replicate", "reference"), found)
        known, again, found = (one.only(list(predictor.tasks.index)) for one in three)
        baseline, ahead = headroom.of_predictions(predictor, found, known, again, named, best, rng=rng)
        return {"told": headroom.worth(ahead), "baseline": baseline} | {
            fact: None if np.isnan(value) else float(value) for fact, value in ahead.round(4).items()
        }

    def certain(
        self, predictor, region: Region, found: Scored, answer: pd.Series, noise: float | None, *, rng
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return how far the answer's shares may be moved, and what each bound that it meets costs.

        Tables `tied` (candidate: share, low, high) and `prices` (bound: gain of level a point, low, high), see the
        modules of these names; without rows where nobody knows a seed's `noise`, or the predictor how sure it is. Both
        are of the level: where the study's objective is another, or guardrails bind it, they would tell of something
        else, and have no rows either.
        """
        from demix_nb import decide, goals, headroom, prices, tied

        known = self.references.only(list(predictor.tasks.index))
        level = decide.level(headroom.scale(known, found.only(list(predictor.tasks.index))))
        of_levels = self.file.objective in goals.LEVELLED and not self.file.guardrails
        if not (predictor.row.spread and noise and of_levels):
            return tied.none(), prices.none()
        ties = tied.tied(predictor, region, level, noise, rng=rng, also=answer.to_frame("answer").T)
        _, priced = prices.prices(predictor, region, level, answer, rng=rng)
        return ties.ranges.assign(share=answer), priced

    def won(self, trained: Scored, runs: pd.DataFrame, best: str, *, base: int, rng) -> pd.DataFrame:
        """Return by how many seed noises the really trained `best` is ahead of each plain mixture, seed by seed.

        `runs`: model → strategy, seed; `base`: what all began with, the index. See `headroom.of_trained`.
        """
        from demix_nb import headroom

        trained, again = trained.only(self.ranked.index), self.scored("replicate", "reference")
        table = headroom.of_trained(trained, runs, best, self.plain.index, self.references, again, rng=rng)
        return table.set_axis(pd.Index([base] * len(table), name="base"))
