"""From a few scored mixtures to all of them: the predictors, and what becomes of their promises on unseen runs."""

from demix_nb.predictors.judging import Judge, check_enough
from demix_nb.predictors.measures import coverage, errors, lead, over_subsets, regret, unlearnt
from demix_nb.predictors.predictor import PREDICTORS, Predictor, out_of_fold

__all__ = [
    "PREDICTORS",
    "Judge",
    "Predictor",
    "check_enough",
    "coverage",
    "errors",
    "lead",
    "out_of_fold",
    "over_subsets",
    "regret",
    "unlearnt",
]
