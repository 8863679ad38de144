"""What a study knows of a mixture, and what is learnt from it: all that the panels of a `Playground` draw.

A study may lack models, held-out text, amounts or runs. What it lacks is one sentence here, which the page says in the
place of the picture; nothing is opened before it is asked for, and only `proxy` needs torch.
"""

from functools import cached_property

import numpy as np
import pandas as pd

from demix_nb.mixtures import as_table, uniform
from demix_nb.panels import desk
from demix_nb.panels.controls import LISTED
from demix_nb.panels.landscapes import heaviest
from demix_nb.panels.sliders import Sliders
from demix_nb.panels.wishes import Wishes
from demix_nb.predictors import PREDICTORS, calibrated
from demix_nb.region import Region
from demix_nb.scored import Scored, describe

PREDICTOR = PREDICTORS["gaussian_process"]  # its spread says where nobody has looked
UNOPENED = "This study has no checkpoints: a mixture cannot be merged here."
UNKEPT = "The models of this run are not here: a mixture cannot be merged; `demix-nb run` makes them."
UNREAD = "This study has no held-out text: what a merged mixture reads has no score."
UNWRITTEN = "Its tokenizer has no token that a text begins with: the merged mixture has nothing to write on from."
UNCHOSEN = "Models this small do not write, and the excerpts are too short for them to choose what follows."
UNWALKED = "No model between these two candidates has been scored in this study."
UNSEARCHED = "No search has been run in this study."


class Known:
    """What a finished run knows, and what is learnt from it for the panels; `seed` is that of what is fitted."""

    def __init__(self, study, *, seed: int = 0) -> None:
        self.study, self.seed = study, seed
        named = study["named_mixtures"]
        self.named = named[study.candidates] if len(named) else as_table({"uniform": uniform(study.candidates)})
        self.weights = self.named.mean()  # of the candidates, where only some can be listed

    # --- what is lacking, in one sentence; "" where it is there

    @property
    def unopened(self) -> str:
        """Why no mixture can be merged."""
        if not self.study.opens:
            return UNOPENED
        return "" if all(folder.is_dir() for folder in self.study.components.folders.values()) else UNKEPT

    @property
    def unread(self) -> str:
        """Why no merged mixture can be scored."""
        if self.unopened:
            return self.unopened
        held = self.study.heldout
        return "" if held and any(held.heldout.values()) else UNREAD

    @cached_property
    def unlearnt(self) -> str:
        """Why nothing can be predicted."""
        needed = PREDICTOR.needs(len(self.study.candidates))
        there = len(self.scored)
        return "" if there >= needed else f"Nothing is predicted from {there} scored mixtures: it takes {needed}."

    # --- what is known, and learnt

    @cached_property
    def scored(self) -> Scored:
        """What the search scored, task by task."""
        return self.study.scored("search")

    @cached_property
    def families(self) -> Scored:
        """The same with one task per family, its mean: what is ranked."""
        return self.scored.by_family()

    @cached_property
    def predictor(self):
        """A Gaussian process over the family scores, whose spread says where nobody has looked; calibrated."""
        return self._fitted(self.families)

    def _fitted(self, scored: Scored):
        process = PREDICTOR.new(rng=np.random.default_rng(self.seed)).fit(scored)
        return calibrated(process, scored, rng=np.random.default_rng([self.seed, 7]))[0]

    @cached_property
    def proxy(self):
        """The live proxy: the study's components in memory, merged for any mixture (`panels.live.Live`)."""
        from demix_nb.panels.live import Live

        return Live(self.study)

    def glance(self, mixtures: pd.DataFrame) -> Scored:
        """Return the live proxies' scores on excerpts, candidate by candidate; no rows where nothing can be scored."""
        if not self.unread:
            return self.proxy(mixtures)
        tasks = describe(self.study.candidates, unit="bpb", higher_is_better=False)
        return Scored.none(tasks.assign(family=pd.Series(self.study.families)))

    def whole(self, mixtures: pd.DataFrame) -> Scored:
        """Return the same on the study's own tasks, as a search scores them; no rows where a glance has none."""
        return self.glance(mixtures) if self.unread else self.study.proxy(self.study.kinds[0])(mixtures)

    @cached_property
    def region(self) -> Region:
        """The mixtures that the study allows; all of them where its tables are another one's."""
        own = self.study.given in (None, self.study.folder)
        return self.study.region if own else Region(self.study.candidates)

    @cached_property
    def tied(self) -> pd.DataFrame | None:
        """Candidate → low, high: the shares of the mixtures tied with the best; None where nobody knows them."""
        return self.study["tied"] if "tied" in self.study else None

    @cached_property
    def sliders(self) -> Sliders:
        """The sliders that `standing`, `desk` and `live` share: moved in one place, they move in all."""
        return Sliders(self.named, self._listed, self.region, self.tied)

    @cached_property
    def wishes(self) -> Wishes:
        """The sliders of predicted scores, which the mixture follows."""
        return Wishes(self.sliders, self.predictor, self.families, list(self.families.scores)[:LISTED])

    @property
    def _listed(self) -> list[str]:
        return heaviest(self.weights, LISTED)

    @property
    def budget(self) -> float | None:
        """Tokens of the run that a recipe is shown for at first: the study's, else all there are; None: unknown."""
        tokens = self.study.tokens
        there = 0 if tokens is None else tokens.sum()
        return self.study.budget or (float(there) if there > 0 else None)

    def recipe(self, mixture: pd.Series, budget: float | None = None) -> pd.DataFrame:
        """Return candidate → mixture, recipe, its tokens out of a `budget` of tokens, and how often each repeats.

        Without a budget there are no tokens, without known amounts of text no epochs.
        """
        return desk.recipe_table(mixture, self.study.recipe(mixture), self.study.tokens, budget)

    def save(self) -> str:
        """Write the mixture on the sliders and its recipe to the study's `desk.yaml`; return where that is."""
        mixture = pd.Series(self.sliders.mixture.value)
        return f"saved as {desk.save(self.study.folder / 'desk.yaml', mixture, self.study.recipe(mixture))}"

    def places(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the predicted rank of mixtures per family, their mean `macro`, and the `place` among the proxies."""
        return self.predictor.predict(mixtures).places(self.families)
