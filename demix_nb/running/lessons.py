"""Exercises that tell whether an answer is right: every answer is computed from the study that is open.

`check = exercises("03_proxy_fidelity", study)`, then `check(1, 0.24)` in a cell. A wrong answer is told where to look,
None what is right. One row of `EXERCISES` is an exercise; nothing that a run decides is written down.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd

from demix_nb.predictors import PREDICTORS
from demix_nb.store import Refusal
from demix_nb.study import Study

CLOSE = 0.02  # of a number: two digits are enough
SAME = 1e-4  # bits per byte that float32 leaves between two ways to one average


@dataclass(frozen=True)
class Exercise:
    """`answer(study)` is a number, a name or several names that are as right; `look`: where whoever is wrong may look.

    `because` says why it is right.
    """

    answer: Callable[[Study], object]
    look: str
    because: str


def exercises(step: str, study: Study) -> Callable[[int, object], None]:
    """Return `check(n, answer)` for the exercises of a notebook; raises Refusal for a notebook that has none."""
    if step not in EXERCISES:
        raise Refusal(f"there are no exercises of {step!r}; there are those of {', '.join(EXERCISES)}")

    def check(n: int, answer: object) -> None:
        """Say whether an answer is right, and why, or where to look; None is told the answer."""
        rows = EXERCISES[step]
        if n not in rows:
            raise Refusal(f"there is no exercise {n} here; there are {', '.join(map(str, rows))}")
        print(f"{n}: {told(rows[n], answer, study)}")

    return check


def told(row: Exercise, answer: object, study: Study) -> str:
    """Return what is to be said of an answer."""
    if answer is ...:
        return "your answer goes in the place of the dots."
    try:
        right = row.answer(study)
    except (KeyError, IndexError, ValueError):  # a Refusal is a ValueError: this study lacks a table or a candidate
        return "this study lacks what the question is about; the built-in one has it."
    if answer is None:
        return f"{shown(right)}. {row.because}"
    return f"right. {row.because}" if same(answer, right) else f"not {shown(answer)}. {row.look}"


def same(answer: object, right: object) -> bool:
    """Return whether an answer is the right one: a count, a number to two digits, a name, or one of several."""
    if isinstance(right, set):
        return answer in right
    if isinstance(right, Real) and isinstance(answer, Real):
        whole = right != 0 and float(right).is_integer()
        return bool(answer == right if whole else np.isclose(float(answer), float(right), rtol=CLOSE, atol=CLOSE / 10))
    return answer == right


def shown(value: object) -> str:
    """Return an answer as it is read."""
    if isinstance(value, set):
        return " or ".join(sorted(map(str, value)))
    return f"{value:.4g}" if isinstance(value, Real) else str(value)


# --- answers: each is one question to the study


def _half(study: Study, beta: float | None = None) -> pd.Series:
    """The recipe of half general, half the last candidate."""
    mixture = study.corners.loc[[study.general or study.candidates[0], study.candidates[-1]]].mean()
    return study.recipe(mixture, beta=beta)


def _alike(study: Study) -> set[str]:
    """The ways to merge that score as linear does."""
    scores = study["method_scores"]
    apart = (scores - scores.loc["linear"]).abs().max(axis=1).drop("linear")
    return set(apart.index[apart < SAME])


def _sag(study: Study) -> float:
    """By how much the middle of the way between two components is better than the mean of its ends, in bpb."""
    way, scores = study["path_mixtures"], study["path_merged_scores"]
    last = scores[f"heldout_{way.columns[way.iloc[-1].argmax()]}"]
    return float(last.iloc[[0, -1]].mean() - last.iloc[len(last) // 2])


def _moved(study: Study) -> pd.Series:
    """How far each component is from the base."""
    rows = [f"component-{name}" for name in study.candidates]
    return study["component_models"].loc[rows, "delta"].set_axis(study.candidates)


def _playground(study: Study):
    from demix_nb.panels import Playground

    return Playground(study)


def _ranked(study: Study) -> pd.Series:
    play = _playground(study)
    return play.places(play.named)["macro"]


def _regret(study: Study) -> float:
    """What the proxies' first choice among all references costs, in the first family's unit."""
    proxies, truth = study.scored(study.kinds[0], "reference").by_family(), study.references.by_family()
    first = truth.tasks.index[0]
    sign = -1 if truth.tasks.loc[first, "higher_is_better"] else 1
    lost = sign * truth.scores[first]
    return float(lost[(sign * proxies.scores[first]).idxmin()] - lost.min())


def _scatter(study: Study) -> float:
    """The spread of ρ between unrelated orders of as many mixtures as have a second seed."""
    if (n := len(study["replicate_scores"])) < 2:
        raise Refusal("nobody trained a second seed")
    return float((n - 1) ** -0.5)


def _budgets(study: Study) -> float:
    report = study["fidelity"]
    return float(report.loc[report.index == "trained", "budget"].min())


def _epochs(study: Study) -> pd.Series:
    recipe = study.recipe(study.corners.mean())
    return recipe / study.tokens


def _rounds(study: Study) -> set[int]:
    """The round of the best mixture that was scored; of several where they are as good."""
    table = study["search_rounds"]
    return set(table.loc[table["rank"] == table["rank"].min(), "round"].astype(int))


def _free(study: Study) -> str:
    return (study["tied"]["high"] - study["tied"]["low"]).idxmax()


def _alone(study: Study) -> str:
    """The family in which nothing but general text is best placed."""
    table = study["quality"]
    mine = table[table["strategy"] == "general only"]
    return mine[[name for name in study.ranked["family"].unique() if name in mine]].mean().idxmin()


def _linear(study: Study) -> pd.DataFrame:
    effects = study["effects"]
    return effects[effects["kind"] == "linear"]


def _bend(study: Study) -> float:
    path = study["pair_path"]
    ridge = path.loc[path["predictor"] == "ridge", "predicted"]
    return float(ridge.diff().diff().abs().max())


EXERCISES: dict[str, dict[int, Exercise]] = {
    "00_tour": {
        1: Exercise(
            lambda study: int((study["component_models"]["kind"] == "component").sum()),
            "Every component was trained for the full budget once; so is every mixture that is tried by training.",
            "As many as there are components, at the full budget.",
        ),
        2: Exercise(
            lambda study: set(_ranked(study).index[_ranked(study) == _ranked(study).min()]),
            "Look at `play.places(play.named)`: the macro rank, 1 = best.",
            "Compare it with the table of what trained best: the proxies' order is a guess at that one.",
        ),
    },
    "01_components": {
        1: Exercise(
            lambda study: float(_half(study).iloc[-1]),
            "A recipe is (1−β)·general + β·α: what does β leave of a half?",
            "β of the half: the rest of the recipe is general, whatever the mixture.",
        ),
        2: Exercise(
            lambda study: _moved(study).idxmin(),
            "Look at column `delta` of the models' table.",
            "Text that the base has read much of, and that is varied, teaches it least.",
        ),
        3: Exercise(
            lambda study: 1 - float(_half(study, beta=1.0).iloc[-1]),
            "With β = 1 nothing dilutes: the recipe is the mixture.",
            "The mixture's own half; a component of another candidate has no general text at all then, and forgets it.",
        ),
    },
    "02_merging": {
        1: Exercise(
            _alike,
            "Compare the rows of the rivals' table with that of linear.",
            "Weights that sum to 1 take the base out of base + Σ α (Θ − base): what is left is the average.",
        ),
        2: Exercise(
            _sag,
            "Take column `heldout_` of `end` in `merged.scores`: the mean of first and last row, less the middle one.",
            "A loss is curved where weights are not: half of an update brings more than half of what all of it brings.",
        ),
    },
    "03_proxy_fidelity": {
        1: Exercise(
            _regret,
            "Take the mixture that the proxy puts first, and subtract the best trained score from its trained one.",
            "That is the regret: what trusting the proxy's first choice costs, in the score's own unit.",
        ),
        2: Exercise(
            _scatter,
            "Unrelated orders of n mixtures have a ρ of 0, give or take 1/√(n − 1).",
            "Which is why a ρ from few mixtures needs an interval; twice as many shrink it by about √2.",
        ),
        3: Exercise(
            lambda study: len(study.candidates) / _budgets(study),
            "All components cost one full budget for each candidate; a trained proxy costs a share of one.",
            "From then on every further mixture makes trained proxies dearer, and costs the merged ones nothing.",
        ),
    },
    "04_regression": {
        1: Exercise(
            lambda study: PREDICTORS["lightgbm_demix"].needs(len(study.candidates)),
            "Two leaves with 20 runs each.",
            "With fewer, one of two leaves would have less than 20: LightGBM then returns the mean and says nothing.",
        ),
        2: Exercise(
            lambda study: float(np.sqrt(0.01) / (np.sqrt(0.51) - np.sqrt(0.5))),
            "Compare √0.01 − √0 with √0.51 − √0.50.",
            "The first percent teaches far more than the fifty-first, and on the scale of roots it is the longer step.",
        ),
    },
    "05_search": {
        1: Exercise(
            _rounds,
            "Look for the smallest `rank` and its `round`.",
            "The first round is blind; those after it sample where the predictor points.",
        ),
        2: Exercise(
            _free,
            'Subtract `low` from `high` in `study["tied"]`.',
            "There the scores hardly tell one share from another: price, rights or amounts may decide.",
        ),
    },
    "06_domain_interactions": {
        1: Exercise(
            lambda study: float(_linear(study).groupby("task")["effect"].sum().abs().max()),
            "Add the same number to all coefficients of a task: what changes for mixtures that sum to 1?",
            "Adding the same to all moves every prediction alike, which the penalty leaves to the constant.",
        ),
        2: Exercise(
            _bend,
            "What is the second difference of a plane?",
            "A plane has none, along an edge as anywhere.",
        ),
    },
    "07_mixture_quality": {
        1: Exercise(
            _alone,
            'Take the mean over seeds of the families\' columns in `ranks`, where `strategy` is "general only".',
            "What it reads is all of that family; the others pay, and the macro rank counts them as much.",
        ),
        2: Exercise(
            lambda study: float(study["quality"]["macro"].min()),
            "Take the least of column `macro` in `ranks`.",
            "1 would be the best in every family at once, and families compete for the same tokens.",
        ),
    },
    "08_playground": {
        1: Exercise(
            lambda study: float(_half(study)[study.general]),
            "Half of every recipe may be general before the mixture is asked: (1−β)·general + β·α.",
            "What dilutes, and β of the mixture's own half.",
        ),
        2: Exercise(
            lambda study: _epochs(study).idxmax(),
            "Move the budget with the preset `uniform`, and look at the column `epochs`.",
            "The one that has least text for its share of the recipe.",
        ),
    },
}  # fmt: skip
