"""What candidates, tasks and mixtures are called changes nothing: a story told with the names of our own columns is the
same story told with plain ones, name for name and number for number, on disk and in figures too.
"""

from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from demix_nb import fidelity, interactions, search, store
from demix_nb.figures import gallery
from demix_nb.interactions import linear_effects
from demix_nb.lab.corpora import check_candidates
from demix_nb.lab.families import assign_families
from demix_nb.papers import figures_study
from demix_nb.predictors import PREDICTORS
from demix_nb.predictors.judging import Judge
from demix_nb.predictors.measures import long
from demix_nb.region import Region
from demix_nb.schemas import BESIDE_FAMILIES, SCHEMAS
from demix_nb.scored import Scored
from demix_nb.store import Refusal

PLAIN = {
    "candidate": [f"c{number}" for number in range(6)],
    "task": [f"t{number}" for number in range(4)],
    "mixture": [f"m{number}" for number in range(30)],
}
CLASHES = [
    "rank round mixture task type candidate",
    "family share level index 0 strategy",
    "test predictor step value kind q",
    "first second effect predicted true name",
    "runs subset variable refused rho macro",
    "proxies believed score_a seed layer component",
    "nan None True 1e3 -1 level_0",
]
SMALL = {
    "demix": {"sizes": (12, 6), "pool": 60, "top_k": 8},
    "climb": {"sizes": (12, 6), "pool": 60, "top_n": 12},
    "regmix": {"n": 14, "pool": 60, "top_k": 8},
    "mergemix": {"n": 12, "pool": 60},
    "mergemix, top-down": {"n": 8, "pool": 40},
    "mergemix, bottom-up": {"n": 8, "pool": 40},
}
AIM = np.array([0.05, 0.3, 0.25, 0.1, 0.2, 0.1])


def named(clash: str) -> dict[str, str]:
    """Return plain name → name: candidates and tasks get the clashing ones, and mixtures begin with them."""
    words = clash.split()
    new = {"candidate": words, "task": words[::-1][:4], "mixture": words + [f"m{n}" for n in range(6, 30)]}
    return {plain: name for kind in PLAIN for plain, name in zip(PLAIN[kind], new[kind], strict=True)}


def losses(mixtures: pd.DataFrame, tasks: list[str]) -> pd.DataFrame:
    """Four tasks by the place of the candidates, never by their names."""
    shares = np.ascontiguousarray(mixtures.to_numpy(float))
    loss = -np.log(shares + 1e-3) @ AIM
    columns = [loss, loss**2, -shares @ np.arange(6), np.sqrt(shares).sum(axis=1)]
    return pd.DataFrame(dict(zip(tasks, columns, strict=True)), index=mixtures.index)


class Story:
    """What is computed of one planted problem, under the names of `names`: `tables` by name."""

    def __init__(self, names: dict[str, str], folder) -> None:
        self.folder, self.tables = folder, {}
        self.candidates, self.tasks, mixtures = ([names[name] for name in PLAIN[kind]] for kind in PLAIN)
        unit = {"family": ["a", "a", "b", "c"], "unit": "bpb", "higher_is_better": [False, False, False, True]}
        unit |= {"items": 1, "chance": np.nan, "suite": "s", "ratio": [3.0, 1.0, 4.0, 2.0], "in_rank": True}
        self.table = pd.DataFrame(unit, index=pd.Index(self.tasks, name="task"))
        self.region = Region(self.candidates, lower={self.candidates[1]: 0.05}, upper={self.candidates[0]: 0.6})
        drawn = self.region.draw(30, rng=self.rng()).set_axis(pd.Index(mixtures, name="mixture"))
        self.seen = self.proxy(drawn)
        self.prior = pd.Series([0.3, 0.2, 0.2, 0.1, 0.1, 0.1], index=self.candidates)

    @staticmethod
    def rng() -> np.random.Generator:
        return np.random.default_rng(3)

    def proxy(self, mixtures: pd.DataFrame) -> Scored:
        return Scored(mixtures, losses(mixtures, self.tasks), self.table)

    def keep(self, name: str, table: pd.DataFrame, schema: str | None = None) -> pd.DataFrame:
        """Write a table, and take what is read again for the table of this story."""
        schema = schema or store.schema_of(name)
        path = self.folder / f"{name}.csv"
        store.write(table.rename_axis(SCHEMAS[schema].index), path, schema)
        self.tables[name] = store.read(path, schema)
        return self.tables[name]

    def tell(self) -> "Story":
        self.keep("reference_mixtures", self.seen.mixtures, "mixtures")
        self.keep("reference_scores", self.seen.scores)
        self.keep("tasks", self.table)
        self.search()
        self.judge()
        self.interact()
        proxies = self.proxy(self.seen.mixtures)
        told = [("merged", 1.0, proxies, 5.0), ("ceiling", np.nan, proxies, np.nan)]
        report = fidelity.report(told, self.seen, rng=self.rng()).assign(suite="s")
        self.keep("fidelity", report)
        self.keep("ranks", self.seen.take(range(4)).places(self.seen.take(range(4, 30))))
        return self

    def search(self) -> None:
        groups = {"x": self.candidates[:2], "y": self.candidates[2:]}
        for strategy, options in SMALL.items():
            row = search.STRATEGIES[strategy]
            given = {"prior": self.prior, "groups": groups}
            options = options | {name: given[name] for name in row.needs}
            model = PREDICTORS["gaussian_process"].new(rng=self.rng())
            found = search.run(strategy, self.proxy, self.region, model, self.table, rng=self.rng(), **options)
            self.tables[f"winner, {strategy}"] = found.winner.to_frame("share")
            self.tables[f"predicted, {strategy}"] = found.predicted.to_frame("score")
            if strategy == "demix":
                self.keep("search_rounds", found.rank_table())
                self.keep("search_mixtures", found.scored.mixtures, "mixtures")
                self.keep("search_scores", found.scored.scores)
                named = pd.DataFrame([found.winner, self.prior], index=["demix, merged", "natural"])
                self.keep("named_mixtures", named, "mixtures")
                self.keep("named_scores", self.proxy(named).scores)

    def judge(self) -> None:
        train, test = self.seen.take(range(18)), self.seen.take(range(18, 30))
        judge = Judge(train, {"held out": test}, self.rng())
        learners = ["ridge", "gaussian_process"]
        self.keep("predictions", judge.predictions(learners))
        self.keep("coverage", judge.coverage(["gaussian_process"]))
        self.keep("learning_curve", judge.learning_curve(learners, sizes=[14, 18], subsets=3))
        for question in ("cross_validated", "held_out", "regret"):
            self.tables[question] = getattr(judge, question)(learners)

    def interact(self) -> None:
        how = {"permutations": 5, "rng": self.rng()}
        both = [interactions.linear(self.seen, **how), interactions.curved(self.seen, **how)]
        self.keep("effects", pd.concat(both))
        one = self.seen.only(self.tasks[:1])
        self.keep("pairs", interactions.paired(one, **how))
        self.keep("pair_path", interactions.edge(one, *self.candidates[1:3], rng=self.rng()))
        penalties = pd.Series(1.0, index=self.tasks)
        square = linear_effects(self.seen, penalties)
        self.keep("drift", square.T.set_axis(["l0", "l1", "l2", "l3"]))
        self.keep("cosines", pd.DataFrame(np.eye(6), self.candidates, self.candidates))
        rows = {"family": ["a", "a", "b", "c", "c", "d"], "train_tokens": range(1, 7), "tokens": 9, "heldout_tokens": 9}
        self.keep("corpora", pd.DataFrame(rows, index=self.candidates))
        curves = pd.DataFrame({"tokens": [1, 2] * 6, "loss": np.linspace(5, 1, 12)}, np.repeat(self.candidates, 2))
        self.keep("loss_curves", curves)
        corners = pd.DataFrame(np.eye(6), self.candidates, self.candidates)
        scores = losses(corners, self.tasks)
        self.keep("component_scores", pd.concat([scores.iloc[:1].set_axis(["base"]) + 0.1, scores]))
        self.keep("component_tasks", self.table)


@cache
def told(clash: str, folder) -> Story:
    names = named(clash) if clash else {name: name for kind in PLAIN.values() for name in kind}
    (folder / clash).mkdir(exist_ok=True)
    return Story(names, folder / clash).tell()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stories")


def renamed(table: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return a table with plain names replaced wherever they stand: rows, columns, cells."""
    return table.rename(index=names).rename(columns=names).map(lambda cell: names.get(cell, cell))


@pytest.mark.parametrize("clash", CLASHES)
def test_a_story_is_the_same_under_any_names(clash, folder):
    names, plain, other = named(clash), told("", folder), told(clash, folder)
    assert plain.tables.keys() == other.tables.keys() and len(plain.tables) > 25
    for name, table in plain.tables.items():
        pd.testing.assert_frame_equal(renamed(table, names), other.tables[name], check_dtype=False, obj=name)


FIGURES = [
    *("loss_curves", "component_scores", "drift", "cosines", "signal_to_noise", "learning_curves", "residuals"),
    *("predicted_against_true", "coverage", "search_rounds", "mixtures", "interactions_linear"),
    *("interactions_curved", "interactions_pairs", "interactions_path"),
]


def drawn(figure) -> tuple[list[np.ndarray], list[str]]:
    """Return the places of all that is drawn, and the ticks' and legends' names."""
    places, told = [], []
    for axes in figure.axes:
        places += [line.get_xydata() for line in axes.lines]
        places += [np.asarray(one.get_offsets()) for one in axes.collections]
        places += [np.array([bar.get_x(), bar.get_y(), bar.get_width()]) for bar in axes.patches]
        told += [tick.get_text() for tick in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    told += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    pyplot.close(figure)
    return places, told


@pytest.mark.usefixtures("styled")
@pytest.mark.parametrize("clash", CLASHES)
def test_figures_are_the_same_under_any_names(clash, folder):
    names, plain, other = named(clash), told("", folder), told(clash, folder)
    for name in FIGURES:
        places, texts = drawn(gallery.draw(name, plain.tables.__getitem__))
        again, others = drawn(gallery.draw(name, other.tables.__getitem__))
        assert [names.get(text, text) for text in texts] == others, name
        for one, two in zip(places, again, strict=True):
            np.testing.assert_allclose(one, two, err_msg=name)


@pytest.mark.usefixtures("styled")
def test_the_studies_shares_are_the_same_under_any_names(folder):
    clash = CLASHES[1]
    heats = []
    for story in (told("", folder), told(clash, folder)):
        models = pd.DataFrame({"strategy": ["demix", "natural"]}, index=["demix, merged", "natural"])
        heats.append(drawn(figures_study.mixtures(story.tables["named_mixtures"], models, story.tables["corpora"])))
    assert [named(clash).get(text, text) for text in heats[0][1]] == heats[1][1]


def test_a_long_table_has_a_row_per_cell():
    table = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]], ["a", "b"], ["task", "effect"])
    melted = table.set_axis(["x", "y"], axis=1).melt(ignore_index=False, var_name="task", value_name="effect")
    expected = melted.replace({"task": {"x": "task", "y": "effect"}})
    pd.testing.assert_frame_equal(long(table, "effect"), expected)


def test_pairs_tell_joined_names_apart():
    names = ["a", "b", "a+b", "b+a"]
    rng = np.random.default_rng(0)
    mixtures = Region(names).draw(20, rng=rng)
    scores = pd.DataFrame({"t": (mixtures["a"] * mixtures["b"]).to_numpy()}, index=mixtures.index)
    tasks = pd.DataFrame({"family": "f", "unit": "u", "higher_is_better": True}, index=pd.Index(["t"], name="task"))
    found = interactions.paired(Scored(mixtures, scores, tasks), permutations=2, rng=rng)
    assert len(found) == 6 and found["effect"].notna().all()


def test_a_family_never_stands_where_a_column_of_ours_does(tmp_path):
    candidates = ["general", "math_word", "rank", "macro", "seed", "seed_", "other"]
    families = assign_families(candidates)
    assert families["math_word"] == "math" and families["other"] == "other" and families["seed_"] == "seed_"
    assert len(set(families.values())) == len(candidates) and not BESIDE_FAMILIES & set(families.values())
    file = tmp_path / "families.yaml"
    file.write_text("".join(f"{name}: place\n" for name in candidates))
    with pytest.raises(Refusal, match="calls a family 'place'"):
        assign_families(candidates, file)
    story = Story({name: name for kind in PLAIN.values() for name in kind}, tmp_path)
    for taken in ("rank", "macro"):
        tasks = story.table.assign(family=taken, higher_is_better=False)
        seen = Scored(story.seen.mixtures, story.seen.scores, tasks)
        with pytest.raises(Refusal, match=f"a family is called '{taken}'"):
            fidelity.compare(seen, seen, rng=story.rng())


def test_every_column_that_stands_beside_families_is_known():
    """Whoever adds a fact to a table that has a column per family adds it to the list."""
    from conftest import REPOSITORY

    results = REPOSITORY / "data" / "results"
    for path in results.rglob("*.csv"):
        if store.schema_of(path.stem) in ("quality", "consistency"):
            families = set(store.read(results / path.parent.name / "tasks.csv", "tasks")["family"])
            facts = set(store.read(path, store.schema_of(path.stem))) - families
            assert facts and facts <= BESIDE_FAMILIES, path


def test_the_base_is_no_candidate():
    with pytest.raises(Refusal, match="called 'base'"):
        check_candidates(["general", "base"], "general")


def test_committed_rounds_are_read_as_they_were_written():
    from conftest import REPOSITORY

    rounds = store.read(REPOSITORY / "data" / "results" / "laptop" / "search_rounds.csv", "rounds")
    assert {"round", "rank"} <= set(rounds)
