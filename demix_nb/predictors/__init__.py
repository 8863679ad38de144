"""From a few scored mixtures to all of them: the predictors, and what becomes of their promises on unseen runs."""

from demix_nb.predictors.calibration import calibrated, ranges
from demix_nb.predictors.judging import Judge, check_enough, luck
from demix_nb.predictors.measures import appraisal, coverage, errors, lead, over_subsets, regret, unlearnt
from demix_nb.predictors.predictor import PREDICTORS, Predictor, out_of_fold
from demix_nb.predictors.regressor import SURE

__all__ = [
    "PREDICTORS",
    "SURE",
    "Judge",
    "Predictor",
    "appraisal",
    "calibrated",
    "check_enough",
    "coverage",
    "errors",
    "lead",
    "luck",
    "out_of_fold",
    "over_subsets",
    "ranges",
    "regret",
    "unlearnt",
]
