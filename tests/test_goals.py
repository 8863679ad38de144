"""What best means and what must not get worse: each goal finds its own optimum, guardrails hold, nonsense is told."""

import numpy as np
import pandas as pd
import pytest

from demix_nb import search
from demix_nb.goals import Guardrail, goal, guarded
from demix_nb.predictors import PREDICTORS
from demix_nb.region import Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal

NAMES = ["general", "math", "code"]
TASKS = pd.DataFrame(
    {"family": NAMES, "unit": "bpb", "higher_is_better": False, "items": 1, "chance": np.nan},
    index=pd.Index([f"{name}_task" for name in NAMES], name="task"),
)
BASELINE = pd.Series([0.6, 0.2, 0.2], NAMES)


def scored(mixtures, noise=0.0, rng=None):
    """Every family falls with the root of its own share, and code's moves most."""
    scores = 3 - np.sqrt(mixtures[NAMES].to_numpy()) * [1.0, 1.0, 4.0]
    scores = scores if rng is None else scores + noise * rng.standard_normal(scores.shape)
    return Scored(mixtures, pd.DataFrame(scores, mixtures.index, list(TASKS.index)), TASKS)


def found(said, guardrails=(), seed=0, **more):
    rng = np.random.default_rng(seed)
    predictor = PREDICTORS["gaussian_process"].new(rng=rng)
    aim = guarded(goal(said), guardrails, predictor, more.pop("baseline", BASELINE))
    sizes = {"sizes": (24, 8), "pool": 1500, "top_k": 8, "goal": aim}
    return search.run(
        "demix", lambda mixtures: scored(mixtures, 0.01, rng), Region(NAMES), predictor, TASKS, rng=rng, **sizes
    )


def only_math(families):
    return families["math"]


def test_every_goal_finds_its_own_mixture():
    assert found({"math": 1.0}).winner["math"] > 0.85
    assert found({"math": 1.0, "code": 1.0}).winner["general"] < 0.1
    assert found("test_goals:only_math").winner["math"] > 0.85
    worst, level = found("worst family").winner, found("level").winner
    families = scored(pd.DataFrame([worst, level], ["worst", "level"])).standardised(scored(Region(NAMES).draw(
        200, rng=np.random.default_rng(1))))  # fmt: skip
    assert families.loc["worst"].min() >= families.loc["level"].min() - 0.05
    assert families.loc["level"].mean() >= families.loc["worst"].mean() - 0.05


def test_the_rank_is_what_a_search_takes_by_itself():
    rng = np.random.default_rng(0)
    predictor = PREDICTORS["gaussian_process"].new(rng=rng)
    plain = search.run("demix", lambda mixtures: scored(mixtures, 0.01, rng), Region(NAMES), predictor, TASKS, rng=rng,
                       sizes=(24, 8), pool=1500, top_k=8)  # fmt: skip
    assert plain.winner.equals(found("rank").winner)


def test_a_guardrail_is_kept_where_the_goal_would_break_it():
    floor = scored(BASELINE.to_frame("b").T).scores.loc["b", "general_task"]
    free = scored(found({"math": 1.0}).winner.to_frame("m").T).scores.loc["m", "general_task"]
    rail = Guardrail("general", 0.05, 0.9)
    kept = scored(found({"math": 1.0}, [rail]).winner.to_frame("m").T).scores.loc["m"]
    assert free > floor + 0.4 and kept["general_task"] <= floor + 0.05 + 0.03
    assert kept["math_task"] < scored(BASELINE.to_frame("b").T).scores.loc["b", "math_task"] - 0.1, "and it still gains"


def test_a_guardrail_is_a_chance_under_the_spread(rng):
    predictor = PREDICTORS["gaussian_process"].new(rng=rng).fit(scored(Region(NAMES).draw(40, rng=rng), 0.05, rng))
    pool = Region(NAMES).draw(300, rng=rng)
    wide, narrow = (Guardrail("code", margin).kept(predictor, pool, BASELINE) for margin in (0.5, 0.0))
    assert (wide >= narrow).all() and wide.between(0, 1).all()
    truth = scored(pool).scores["code_task"] <= scored(BASELINE.to_frame("b").T).scores.loc["b", "code_task"]
    assert truth[narrow >= 0.9].mean() > 0.85 and truth[narrow <= 0.1].mean() < 0.15
    by_task = Guardrail("code_task", 0.0).kept(predictor, pool, BASELINE)
    pd.testing.assert_series_equal(by_task, narrow)


def nothing(families):
    return np.nan * families["math"]


def short(families):
    return families["math"].iloc[:3]


SENSELESS = {
    "no objective": ("ranks", "objective 'ranks' is unknown; write rank, level, worst family, a weight"),
    "no module": ("nowhere:utility", r"objective 'nowhere:utility' cannot be had \(No module named 'nowhere'\)"),
    "no function": ("test_goals:utility", "objective 'test_goals:utility' cannot be had"),
    "no family": ({"maths": 1.0}, "objective weighs 'maths', which is no family that is scored: general, math, code"),
    "no weight": ({"math": 0.0}, "weighs no family; give weights of 0 or more"),
    "negative": ({"math": 1.0, "code": -1.0}, "weighs no family; give weights of 0 or more"),
    "not a number": ("test_goals:nothing", "gave what is no finite number for 1500 mixtures; let it give one for each"),
    "too few": ("test_goals:short", "gave 3 numbers for 1500 mixtures; let it give one for each"),
}


@pytest.mark.parametrize(("said", "message"), SENSELESS.values(), ids=SENSELESS)
def test_objectives_without_sense_are_told(said, message):
    with pytest.raises(Refusal, match=message):
        found(said)


def test_guardrails_without_sense_are_told():
    with pytest.raises(
        Refusal, match="guardrail on 'maths', which is not scored; there are general, math, code, general_t"
    ):
        found("rank", [Guardrail("maths", 0.0)])
    with pytest.raises(Refusal, match="guardrails are held against a baseline; name one"):
        found("rank", [Guardrail("math", 0.0)], baseline=None)
    with pytest.raises(
        Refusal, match=r"none of 1500 mixtures keeps 'code' within -9 of the baseline with probability 0\.9"
    ):
        found("rank", [Guardrail("code", -9.0)])
