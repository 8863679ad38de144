"""What panels are drawn from in tests: the committed tables of profile laptop, and a study of many odd names."""

import numpy as np
import pandas as pd
import pytest
from commands import REPOSITORY

from demix_nb.mixtures import recipe
from demix_nb.panels import Playground
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.study import Study

RESULTS = REPOSITORY / "data" / "results" / "laptop"


@pytest.fixture(scope="session")
def play():
    """The playground of the committed tables: everything but the models."""
    return Playground(Study.open(RESULTS, given=RESULTS))


@pytest.fixture(scope="session")
def scored(play):
    return play.families


@pytest.fixture(scope="session")
def predictor(play):
    return play.predictor


@pytest.fixture(scope="session")
def corners(play):
    return play._corners(play._first)


class Crowd:
    """A study of `n` candidates in nine families of odd names, its scores planted: each candidate helps its family.

    It has no models; `given` is what else differs.
    """

    general, beta, budget, window, opens, heldout, folder, given = None, 1.0, 3e8, 64, False, None, None, None

    def __init__(self, n: int = 100, seed: int = 3, **given: object) -> None:
        rng = np.random.default_rng(seed)
        kinds = ["law & order", "Ünïcode", "math", "a/b", "10-K filings", "x" * 30, "code", "news", "<talk>"][:n]
        self.families = {f"candidate {i:02d} of {n}": kinds[i % len(kinds)] for i in range(n)}
        self.candidates = list(self.families)
        shares = pd.DataFrame(rng.dirichlet(np.full(n, 0.3), 30), columns=self.candidates).rename_axis("mixture")
        self.shares = shares.set_axis([f"m{i}" for i in shares.index])
        part = self.shares.T.groupby(pd.Series(self.families)).sum().T[kinds]
        self.scores = 3 - part.add_prefix("say ") ** 0.5 + rng.normal(0, 0.01, part.shape)
        facts = {"family": kinds, "unit": "bpb", "higher_is_better": False}
        self.ranked = pd.DataFrame(facts, index=pd.Index(list(self.scores), name="task"))
        self.tokens = pd.Series(np.geomspace(1e4, 1e7, n).round(), self.candidates)
        rounds = pd.DataFrame({"round": [1] * 16 + [2] * 14, "rank": 1.0}, self.shares.index)
        self.tables = {"named_mixtures": self.shares.iloc[:4], "search_rounds": rounds}
        self.region = Region(self.candidates)
        vars(self).update(given)

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables.get(name, pd.DataFrame(index=pd.Index([], name="mixture")))

    def __contains__(self, name: str) -> bool:
        return name in self.tables

    def recipe(self, mixture: pd.Series) -> pd.Series:
        return recipe(mixture, self.general, self.beta) if self.general else mixture

    def scored(self, name: str) -> Scored:
        assert name == "search"
        return Scored(self.shares, self.scores, self.ranked)


@pytest.fixture(scope="session")
def crowd():
    """The playground of a hundred candidates in nine families."""
    return Playground(Crowd())


@pytest.fixture
def bare():
    """The playground of a study of tables: scored runs and nothing else, no amounts, budget, text, models or search."""
    study = Crowd(12, tokens=None, budget=None)
    rounds = pd.DataFrame({"round": 0, "rank": 1.0}, study.shares.index)
    study.tables = {"search_rounds": rounds}
    return Playground(study)
