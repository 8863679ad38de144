"""What every table on disk must hold: a row per kind of table, and the kind of each table by its name.

`store` checks tables against these rows on read and write; `data/README.md` explains every column.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Schema:
    """What a table must hold: the index's name and column → kind.

    `open`: it has further columns, one per candidate, task or family. `unique`: no index value comes twice.
    `numeric`: every column holds numbers, the further ones too.
    """

    index: str
    columns: Mapping[str, str]
    open: bool = True
    unique: bool = True
    numeric: bool = False


TASK = {"family": "str", "unit": "str", "higher_is_better": "bool", "items": "int", "chance": "float"}
PREDICTED = {"predictor": "str", "task": "str", "predicted": "float"}
INTERVAL = {"rho": "float", "low": "float", "high": "float"}
REPEATED = {"base": "int", "epochs": "float", "budget": "float", "repetition": "str"}
SCHEMAS = {
    "corpora": Schema("candidate", {"family": "str", "tokens": "float"}),
    "tasks": Schema("task", TASK),
    "models": Schema("model", {"kind": "str", "seed": "int", "tokens": "int", "seconds": "float", "loss": "float"}),
    "mixtures": Schema("mixture", {}, numeric=True),
    "scores": Schema("mixture", {}, numeric=True),
    "fidelity": Schema("proxy", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "differences": Schema("pair", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "mending": Schema("proxy", {"family": "str", "power": "float", "scale": "float"}, unique=False),
    "trust": Schema("proxy", {"verdict": "str", "because": "str"}, unique=False),
    "costs": Schema(
        "proxy",
        {"measure": "str", "beyond": "str"}
        | dict.fromkeys(("share", "tokens", "trained_tokens", "ratio", "low", "high"), "float"),
        unique=False,
    ),
    "consistency": Schema("mixture", {"type": "str", "share": "float", "delta": "float"}, unique=False),
    "measures": Schema("strategy", {"measure": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "landscape": Schema("mixture", {"type": "str"}, unique=False),
    "counts": Schema("mixture", {"proxies": "int", "kind": "str", "believed": "float", "level": "float"}),
    "robustness": Schema(
        "text",
        {"cleaner": "str", "drop": "float", "base": "int", "share": "float", "own": "float", "rest": "float"},
        unique=False,
    ),
    "cleaners": Schema(
        "cleaner",
        {"text": "str", "base": "int", "drop": "float"}
        | dict.fromkeys(("documents", "bad", "dropped", "found"), "int"),
        unique=False,
    ),
    "repetition": Schema("proxy", REPEATED | {"measure": "str", "value": "float"}, unique=False),
    "repetition_scores": Schema(
        "mixture", REPEATED | {"proxy": "str", "share": "float", "own": "float", "rest": "float"}, unique=False
    ),
    "noise": Schema("mixture", {"proxies": "int", "kind": "str", "seed": "int", "real": "float"}, unique=False),
    "ratios": Schema("family", {}, numeric=True),
    "quality": Schema("model", {"strategy": "str", "seed": "int", "macro": "float", "place": "float"}),
    "verdict": Schema("base", {"seed": "int", "baseline": "str", "headroom": "float"}, unique=False),
    "bases": Schema("base", {"proxy": "str", "budget": "float", "measure": "str", "value": "float"}, unique=False),
    "winners": Schema("model", {"base": "int", "strategy": "str", "seed": "int", "level": "float"}, unique=False),
    "tied": Schema("candidate", {"share": "float", "low": "float", "high": "float"}),
    "ties": Schema("mixture", {"kind": "str", "tied": "bool"}, unique=False),
    "prices": Schema("bound", {"gain": "float", "low": "float", "high": "float"}),
    "calibration": Schema("task", {"nominal": "float", "covered": "float", "low": "float", "high": "float"}),
    "regimes": Schema(
        "regime",
        {"base": "int", "share": "float", "delta": "float", "proxy": "str", "measure": "str", "value": "float"},
        unique=False,
    ),
    "exports": Schema("format", {"mixture": "str", "phase": "int", "read": "str", "candidate": "str"}, unique=False),
    "run": Schema("step", {"seconds": "float", "machine": "str"}),
    "summary": Schema("result", {"value": "str"}, open=False),
    "rounds": Schema("mixture", {"round": "int", "rank": "float"}, numeric=True),
    # what figures are drawn from, beside the above
    "curves": Schema("model", {"tokens": "int", "loss": "float"}, unique=False),
    "layers": Schema("layer", {}, numeric=True),
    "cosines": Schema("component", {}, numeric=True),
    "appraised": Schema(
        "table", {"test": "str", "design": "str", "runs": "int", "predictor": "str", "rho": "float"}, unique=False
    ),
    "answers": Schema(
        "region", {"measure": "str", "value": "float", "low": "float", "high": "float", "seeds": "int"}, unique=False
    ),
    "two": Schema(
        "base", {"looks": "str", "kind": "str", "runs": "int", "rho": "float", "order": "float"}, unique=False
    ),
    "growth": Schema("step", {"candidates": "int", "seconds": "float", "cpu": "float", "mb": "float"}, unique=False),
    "asked": Schema("table", {"how": "str", "runs": "int", "regret": "float"}, unique=False),
    "levels": Schema("way", {"base": "int", "family": "str", "value": "float"}, open=False, unique=False),
    "learning": Schema("predictor", {"runs": "int", "test": "str"} | INTERVAL, unique=False),
    "predictions": Schema("mixture", PREDICTED | {"test": "str", "true": "float"}, unique=False),
    "coverage": Schema("predictor", {"level": "float", "covered": "float"}, unique=False),
    "effects": Schema("candidate", {"task": "str", "effect": "float", "q": "float", "kind": "str"}, unique=False),
    "pairs": Schema("first", {"second": "str", "task": "str", "effect": "float", "q": "float"}, unique=False),
    "path": Schema("first", PREDICTED | {"second": "str", "share": "float"}, unique=False),
    "invariance": Schema("predictor", {"test": "str", "printed": "float"} | INTERVAL, unique=False),
    "found": Schema("domain", {"mixture": "str", "share": "float", "printed": "bool"}, unique=False),
    "top": Schema("domain", {"fitted": "str", "value": "float", "low": "float", "high": "float"}, unique=False),
    "correlations": Schema("domain", {}, numeric=True),
    "claims": Schema("claim", {"printed": "str", "ours": "str", "agrees": "bool", "why": "str"}, open=False),
}

BESIDE_FAMILIES = frozenset(  # what stands in a table, or in a measure's name, where a family's name may stand too
    "macro rank place level strategy seed candidates type schedule share delta left right".split()
)

TABLES = {  # name of a table → what it must hold; a name that is not here is a table of numbers per mixture ("scores")
    "corpora": "corpora",
    "fine_corpora": "corpora",
    "part_corpora": "corpora",
    "tasks": "tasks",
    "component_tasks": "tasks",
    "component_models": "models",
    "reference_models": "models",
    "final_models": "models",
    "larger_models": "models",
    "fidelity": "fidelity",
    "proxy_kinds": "fidelity",
    "merge_methods": "fidelity",
    "component_budgets": "fidelity",
    "training_settings": "fidelity",
    "partition_fidelity": "fidelity",
    "parts_fidelity": "fidelity",
    "hundred": "fidelity",
    "larger_fidelity": "fidelity",
    "averaging": "fidelity",
    "growing": "fidelity",
    "growing_curves": "curves",
    "averaging_levels": "levels",
    "growing_levels": "levels",
    "family_signal_to_noise": "ratios",
    "trust": "trust",
    "search_rounds": "rounds",
    "quality": "quality",
    "won": "verdict",
    "verdict": "verdict",
    "bases": "bases",
    "whose": "winners",
    "regimes": "regimes",
    "exports": "exports",
    "asked_mixtures": "mixtures",
    "tied": "tied",
    "ties": "ties",
    "prices": "prices",
    "calibration": "calibration",
    "strategies": "quality",
    "larger_strategies": "quality",
    "partition_quality": "quality",
    "parts_quality": "winners",
    "hundred_quality": "winners",
    "strategy_summary": "measures",
    "proxy_differences": "differences",
    "mending": "mending",
    "tokens_to_reach": "costs",
    "consistency": "consistency",
    "dual_capability": "consistency",
    "landscape": "landscape",
    "proxy_counts": "counts",
    "noise": "noise",
    "robustness": "robustness",
    "cleaners": "cleaners",
    "repetition": "repetition",
    "repetition_scores": "repetition_scores",
    "run": "run",
    "loss_curves": "curves",
    "drift": "layers",
    "cosines": "cosines",
    "learning_curve": "learning",
    "regmix_learning_curve": "learning",
    "predictors_on_tables": "appraised",
    "asked_on_tables": "asked",
    "answers": "answers",
    "two_phases": "two",
    "growth": "growth",
    "predictions": "predictions",
    "regmix_predictions": "predictions",
    "coverage": "coverage",
    "regmix_coverage": "coverage",
    "effects": "effects",
    "regmix_effects": "effects",
    "pairs": "pairs",
    "regmix_pairs": "pairs",
    "pair_path": "path",
    "regmix_table2": "invariance",
    "regmix_found": "found",
    "regmix_top": "top",
    "regmix_downstream": "correlations",
    "evidence_demix": "claims",
    "evidence_mergemix": "claims",
}
