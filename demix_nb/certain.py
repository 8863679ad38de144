"""What a study says of its own answer: by how much it is ahead, what is as good, what binds it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from demix_nb.facts import Facts
from demix_nb.intervals import with_interval
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

if TYPE_CHECKING:
    from demix_nb.tied import Tied


FIRST = 5  # largest shares that a sentence names


@dataclass(frozen=True)
class Sure:
    """What is as good as an answer, and what binds it: the set (None: not known), its table of ranges with the answer's
    share (`tied`), `prices`, and `why` something is not told.
    """

    found: "Tied | None"
    tied: pd.DataFrame
    prices: pd.DataFrame
    why: str

    def choose(self, rule: str, answer: pd.Series, baseline: pd.Series) -> pd.Series:
        """Return the mixture of the tied set that a rule of `tied.RULES` takes; the search's own answer for "".

        Raises Refusal for a rule where no set is known.
        """
        if not rule:
            return answer
        if self.found is None:
            raise Refusal(f"there is no tied set to take {rule!r} of: {self.why}; leave tied_rule empty")
        return self.found.choose(rule, baseline)

    def ties(self, asked: pd.DataFrame, taken: str = "") -> pd.DataFrame:
        """Return which mixtures that the set was told of are in it: mixture → kind, tied; no rows where none is known.

        `asked`: kind and mixture → shares; `taken`: what `choose` took of the set since.
        """
        if self.found is None:
            asked = asked.iloc[:0]
        inside = np.zeros((0, 0)) if self.found is None else self.found.mixtures[list(asked)].to_numpy()
        tied = [name == ("named", taken) or bool(np.isclose(inside, row, atol=1e-9).all(axis=1).any())
                for name, row in zip(asked.index, asked.to_numpy(), strict=True)]  # fmt: skip
        return (
            pd.DataFrame({"tied": tied}, asked.index, dtype=bool).rename_axis(["kind", "mixture"]).reset_index("kind")
        )


@dataclass(frozen=True)
class Certain(Facts):
    """A study's facts, and how sure its answer is."""

    def goal(self, predictor):
        """Return what best means in this study (`goals`), for a search with this predictor.

        Raises Refusal where guardrails have no baseline, are on what is not ranked, or the predictor has no spread.
        """
        from demix_nb import goals

        rails = self._rails(predictor)
        return goals.guarded(goals.goal(self.file.objective), rails.guardrails, predictor, rails.baseline)

    def _rails(self, predictor):
        from demix_nb import goals

        rails = [goals.Guardrail(name, one.margin, one.probability) for name, one in self.file.guardrails.items()]
        known = {*self.ranked.index, *self.ranked["family"]}
        if unknown := [one.of for one in rails if one.of not in known]:
            raise Refusal(f"guardrail on {unknown[0]!r}, which does not steer; there are {', '.join(sorted(known))}")
        if rails and not predictor.row.spread:
            raise Refusal(f"guardrails need to know how sure a prediction is, and {predictor.row.label} does not say")
        said = "baseline" if "baseline" in self.plain.index else self.file.run.baseline
        return goals.Rails(rails, predictor, self.plain.loc[said] if said in self.plain.index else None)

    def steady(self, found: Scored, tasks: list[str]):
        """Return the objective as a number of each mixture by itself (of the rank, the level), the smaller the better.

        In standard deviations of the references, or of what was `found` where those are too few.
        """
        from demix_nb import goals, headroom

        return goals.steady(self.file.objective)(headroom.scale(self.references.only(tasks), found.only(tasks)))

    def headroom(self, predictor, found: Scored, named: pd.DataFrame, best: str, *, rng) -> dict[str, Any]:
        """Return by how many seed noises `best` is predicted ahead of the baseline, told in words; None: not known.

        `named`: the mixtures it is among, see `headroom.of_predictions`; `found`: all that was scored.
        """
        from demix_nb import headroom

        tasks = list(predictor.tasks.index)
        known, again = (one.only(tasks) for one in (self.references, self.scored("replicate", "reference")))
        by = self.steady(found, tasks)
        baseline, ahead = headroom.of_predictions(predictor, by, known, again, named, best, rng=rng)
        return {"told": headroom.worth(ahead), "baseline": baseline} | {
            fact: None if np.isnan(value) else float(value) for fact, value in ahead.round(4).items()
        }

    def calibrated(self, predictor, found: Scored, *, rng) -> tuple[Any, pd.DataFrame]:
        """Return a predictor with intervals that hold what they promise, and what they reach (`predictors.calibrated`).

        `found`: what it was fitted to.
        """
        from demix_nb.predictors import calibrated

        return calibrated(predictor, found.only(list(predictor.tasks.index)), rng=rng)

    def certain(
        self,
        predictor,
        region: Region,
        found: Scored,
        answer: pd.Series,
        noise: float | None,
        *,
        also: pd.DataFrame | None = None,
        rng,
    ) -> "Sure":
        """Return how far the answer's shares may be moved, and what each bound that it meets costs (`Sure`).

        `also`: mixtures that the set shall be asked of (`Sure.ties`), whatever they are called. Both are of the
        objective, of the rank of the level, and of mixtures that keep the guardrails; without rows, and with the
        reason, where nobody knows a seed's `noise` or the predictor how sure it is, and where an objective values a
        mixture by others.
        """
        from demix_nb import goals, prices, tied

        if not predictor.row.spread:
            return Sure(None, tied.none(), prices.none(), f"{predictor.row.label} does not say how sure it is")
        if not noise:
            return Sure(None, tied.none(), prices.none(), "what a second seed changes is not known")
        by, known = self.steady(found, list(predictor.tasks.index)), found.only(list(predictor.tasks.index))
        if not goals.by_itself(by, known):
            why = f"objective {self.file.objective!r} values a mixture by the others it stands with"
            return Sure(None, tied.none(), prices.none(), why)
        rails = self._rails(predictor) if self.file.guardrails else None
        keep = None if rails is None else rails.keep
        asked = pd.concat([answer.to_frame("answer").T, also])
        asked = asked.set_axis([f"a{number}" for number in range(len(asked))])[region.candidates]
        asked = asked[region.holds(asked)]
        ties = tied.tied(predictor, region, by, noise, rng=rng, also=asked, keep=keep)
        here, priced = prices.prices(predictor, region, by, answer, rng=rng, rails=rails)
        kept = rails is None or rails.keep(here.to_frame("it").T, within=prices.BINDS).item()
        why = "" if kept else "the answer does not keep the guardrails, nor does what lies downhill of it"
        return Sure(ties, ties.ranges.assign(share=answer), priced, why)

    def apart(self, proxies: Mapping[str, Any], mixtures: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
        """Return how far merges are to be believed without references (`mending.apart`), on the tasks that are ranked.

        `proxies`: kind → proxy. Empty where merged and mixed ones are not both there.
        """
        from demix_nb import mending

        if not {"merged", "mixed"} <= set(proxies):
            return pd.DataFrame()
        ranked = tasks.index[tasks["in_rank"]]
        return mending.apart(*(proxies[kind](mixtures).only(ranked) for kind in ("merged", "mixed")))

    def expected(self, predictor, mixture: pd.Series) -> pd.DataFrame:
        """Return what a mixture is predicted to score, family by family, between which ends (`calibration.ranges`)."""
        from demix_nb.predictors import ranges

        return ranges(predictor, mixture)

    def sentence(self, answer: Mapping[str, Any]) -> str:
        """Return what `mixture.yaml` answers in one sentence: shares, gain, scores, and what is behind them."""
        ties, shares = answer["tied"], pd.Series(answer["mixture"]).sort_values(ascending=False)
        first = [f"{name} {share:.0%}" + (" ({:.0%} to {:.0%} as good)".format(*ties[name]) if name in ties else "")
                 for name, share in shares.iloc[:FIRST].items()]  # fmt: skip
        rest = [f"{len(shares) - FIRST} others {shares.iloc[FIRST:].sum():.0%}"] if len(shares) > FIRST else []
        ends, units = answer["interval"], answer["units"]
        scores = [f"{family} {with_interval(value, *ends[family], digits=3)} {units[family]}"
                  for family, value in answer["predicted"].items() if family in ends]  # fmt: skip
        sure = f"{', '.join(scores)} (90 %)" if scores else "nobody knows how surely what"
        gain, baseline = answer["headroom"]["told"], answer["headroom"]["baseline"]
        kind = answer["found_by"].split(", ")[-1]
        who = "a run" if kind == "table" else f"its {kind} proxy"
        return (
            f"Train on {', '.join([*first, *rest])}; against {baseline} {gain}; "
            f"{who} is predicted to score {sure}; evidence: {answer['evidence']}."
        )

    def pack(self, proxies: Iterable) -> None:
        """Keep what the exact scores of a mixed proxy take, for the report's desk, where they fit (`packed.keep`)."""
        from demix_nb import packed

        packed.keep(proxies, self.folder / packed.PACKED)

    def won(self, trained: Scored, runs: pd.DataFrame, best: str, *, base: int, rng) -> pd.DataFrame:
        """Return by how many seed noises the really trained `best` is ahead of each plain mixture, seed by seed.

        `runs`: model → strategy, seed; `base`: what all began with, the index. See `headroom.of_trained`.
        """
        from demix_nb import headroom

        trained, again = trained.only(self.ranked.index), self.scored("replicate", "reference")
        table = headroom.of_trained(trained, runs, best, self.plain.index, self.references, again, rng=rng)
        return table.set_axis(pd.Index([base] * len(table), name="base"))
