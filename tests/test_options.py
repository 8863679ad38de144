"""Every parameter of every notebook has a type, its default passes, and what cannot be is refused by name."""

import subprocess
import sys

import pytest

from demix_nb import options
from demix_nb.running import runner
from demix_nb.store import Refusal

DECLARED = {(name, repr(default)): default for book in runner.STEPS.values() for name, default in book.declared.items()}


@pytest.mark.parametrize("name, shown", DECLARED)
def test_every_declared_parameter_has_a_type_that_its_default_passes(name, shown):
    assert name in options.TYPES, f"give {name} a row in demix_nb/ranges.py"
    default = DECLARED[name, shown]
    assert options.given(name, default, default) == default
    other = object()  # no default is let through unchecked here
    options.TypeAdapter(options.TYPES[name]).validate_python(default, strict=True)
    assert options.described(name, other), "its description is the remedy"


@pytest.mark.parametrize(
    "step, name, value, message",
    [
        ("01", "hidden", 0, "hidden is 0; it must be a whole number, at least 1"),
        ("01", "component_tokens", "-5", "component_tokens is -5; it must be a whole number, at least 1"),
        ("01", "beta", "1.5", "beta is 1.5; it must be a share, above 0 and at most 1"),
        ("01", "megabytes", "inf", "megabytes is inf; it must be a number above 0"),
        ("01", "workers", 0, "workers is 0"),
        ("01", "limit", -1, "limit is -1"),
        ("01", "schedule", "cosin", "schedule is 'cosin'; did you mean cosine"),
        ("01", "suites", ["heldout", "nin"], "did you mean nine"),
        ("01", "corpora", "nowhere", "corpora is 'nowhere'; it must be a folder .*, and there is none"),
        ("01", "hidden", 63, "hidden is 63, but head_dim is 32; give a multiple"),
        ("03", "n_references", "1", "n_references is 1; it must be a whole number, at least 4"),
        ("03", "n_replicates", 17, "n_replicates is 17, but n_references is 16; only references"),
        ("03", "trained_budgets", [0.5, 2], "trained_budgets is .*shares, above 0 and at most 1"),
        ("03", "rank_on", "heldot", r"rank_on is 'heldot', but suites is \['heldout', 'nine'\]; rank on a suite"),
        ("04", "learners", "[ridge, gausian_process]", "did you mean gaussian_process"),
        ("04", "mixtures_csv", "mine.csv", "mixtures_csv is 'mine.csv'; it must be a file, and there is none"),
        ("05", "rounds", [], "rounds is .*it must be a list of whole numbers above 0, not empty"),
        ("05", "predictor", "rige", "predictor is 'rige'; did you mean ridge"),
        ("05", "recommend", "mergd", "recommend is 'mergd'; did you mean merged"),
        ("05", "caps", {"code": 1.5}, "caps is .*largest shares, between 0 and 1"),
        ("05", "top_k", 30_000, "top_k is 30000, but pool is 20000"),
    ],
)
def test_what_cannot_be_is_refused_by_name_with_the_remedy(step, name, value, message):
    with pytest.raises(Refusal, match=message):
        runner.plan([step], "laptop", {name: value})


def test_what_can_be_passes():
    given = {"hidden": 96, "beta": 1, "rounds": "[8]", "caps": "{code_cpp: 0.1}", "suites": ["heldout", "gsm8k_bpb"]}
    steps = {step.name: step for step in runner.plan(["05"], "laptop", given | {"predictor": "ridge"})}
    assert steps["01_components"].parameters["beta"] == 1.0 and steps["01_components"].parameters["hidden"] == 96
    assert steps["05_search"].parameters["caps"] == {"code_cpp": 0.1}


def test_a_default_imports_no_model_library():
    code = (
        "import sys; from demix_nb.running import runner; runner.plan([], 'laptop', {});"
        "print(*{'torch', 'sklearn', 'papermill', 'nbformat', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
