"""The rows of the papers' and studies' figures, beside those of the core (`demix_nb.figures.gallery`)."""

from demix_nb.figures import pipeline, regression
from demix_nb.figures.gallery import Row
from demix_nb.papers import figures_hundred, figures_making, figures_regmix, figures_study, figures_text

STUDY = {"notebook": "paper_demix", "profile": "study"}
MERGEMIX = {"notebook": "paper_mergemix", "profile": "study"}
REGMIX = {"notebook": "paper_regmix"}
HUNDRED = {"notebook": "study_hundred", "profile": "study"}
RUNS = ("regmix_train_mixtures", "regmix_train_scores")
PREDICTED = ("regmix_predictions",)  # beside them stand the losses that the paper's runs really had

FIGURES = {
    "regmix_table2": Row(figures_regmix.rank_invariance, ("regmix_table2",), **REGMIX),
    "regmix_figure9": Row(
        regression.predicted_against_true, PREDICTED, options={"unit": "nats per token"}, outside=PREDICTED, **REGMIX
    ),
    "regmix_figure4": Row(figures_regmix.learning_curves, ("regmix_learning_curve", "regmix_table2"), **REGMIX),
    "regmix_choice": Row(figures_regmix.choice_of_64, PREDICTED, outside=PREDICTED, **REGMIX),
    "regmix_table7": Row(figures_regmix.found_mixtures, ("regmix_found",), **REGMIX),
    "regmix_figure14": Row(figures_regmix.top_distributions, ("regmix_top",), **REGMIX),
    "regmix_figure5a": Row(figures_regmix.downstream, ("regmix_downstream",), **REGMIX),
    "regmix_figure8": Row(figures_regmix.own_weight, RUNS, outside=RUNS, **REGMIX),
    "regmix_figure7": Row(
        regression.effects, ("regmix_effects",),
        options={"kind": "linear", "title": "Figure 7: ridge on 512 runs of 1M parameters"}, **REGMIX,
    ),
    "regmix_curved_effects": Row(
        regression.effects, ("regmix_effects",),
        options={"kind": "curved", "title": "Gaussian process, around the average mixture"}, **REGMIX,
    ),
    "regmix_pairs": Row(regression.pairs, ("regmix_pairs",), **REGMIX),
    "regmix_coverage": Row(regression.coverage, ("regmix_coverage",), **REGMIX),
    "predictors_on_tables": Row(
        regression.on_tables, ("predictors_on_tables", "asked_on_tables"), profile="tables", **REGMIX
    ),
    "study_fidelity_cost": Row(pipeline.fidelity_cost, ("proxy_kinds",), **STUDY),
    "study_kinds": Row(figures_study.kinds, ("proxy_kinds",), **STUDY),
    "study_budgets": Row(figures_study.budgets, ("component_budgets",), **STUDY),
    "study_consistency": Row(
        figures_study.consistency, ("consistency",), printed=("demix_table12_merge_vs_mix",), **STUDY
    ),
    "study_strategies": Row(figures_study.strategies, ("strategy_summary",), **STUDY),
    "study_quality": Row(pipeline.quality, ("strategies", "reference_mixtures"), **STUDY),
    "study_mixtures": Row(figures_study.mixtures, ("winner_mixtures", "strategies", "corpora"), **STUDY),
    "study_proxy_counts": Row(figures_study.proxy_counts, ("proxy_counts",), **STUDY),
    "study_partition": Row(figures_study.partition, ("partition_quality", "reference_mixtures"), **STUDY),
    "study_hundred": Row(figures_hundred.hundred, ("hundred", "hundred_quality"), **HUNDRED),
    "study_growth": Row(figures_hundred.growth, ("growth",), **HUNDRED),
    "study_noise": Row(figures_hundred.noise, ("noise",), notebook="study_noise", profile="study"),
    "regimes": Row(
        figures_study.regimes, ("regimes",), notebook="regimes", profile="",
        absent="No references in this study: nothing to compare proxies with.",
    ),
    "repetition": Row(figures_text.repetition, ("repetition",), notebook="study_repetition", profile="study"),
    "cleaning": Row(figures_text.cleaning, ("robustness", "cleaners"), notebook="study_cleaning", profile="study"),
    "demix_stages": Row(figures_study.stages, (), printed=("demix_table10_corpora_stages",), **STUDY),
    "dual_capability": Row(figures_study.dual_capability, ("dual_capability", "corpora"), **MERGEMIX),
    "averaging": Row(figures_making.averaging, ("averaging",), **MERGEMIX),
    "growing": Row(figures_making.growing, ("growing", "growing_curves"), **MERGEMIX),
    "landscape": Row(figures_study.landscape, ("landscape", "corpora"), **MERGEMIX),
}  # fmt: skip
