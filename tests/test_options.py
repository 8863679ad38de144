"""Every parameter of every notebook has a type, its default passes, and what cannot be is refused by name."""

import subprocess
import sys

import numpy as np
import pytest
from planted import NAMES, TASKS, Known

from demix_nb import options
from demix_nb.region import Region
from demix_nb.running import runner
from demix_nb.search import run
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
        ("01", "steer", "heldot", r"steer is 'heldot', but suites is \['heldout', 'nine'\]; let a suite steer"),
        ("04", "learners", "[ridge, gausian_process]", "did you mean gaussian_process"),
        ("02", "mixtures_file", "mine.csv", "mixtures_file is 'mine.csv'; it must be a file, and there is none"),
        ("05", "rounds", [], "rounds is .*it must be a list of whole numbers above 0, not empty"),
        ("05", "predictor", "rige", "predictor is 'rige'; did you mean ridge"),
        ("05", "rule", "robst", "rule is 'robst'; did you mean robust"),
        ("03", "max_luck", 0.0, "max_luck is 0.0; it must be a share, above 0 and at most 1"),
        ("05", "recommend", "mergd", "recommend is 'mergd'; did you mean merged"),
        ("05", "caps", {"code": 1.5}, "caps is .*largest shares, between 0 and 1"),
        ("05", "top_k", 30_000, "top_k is 30000, but pool is 20000"),
        ("05", "max_epochs", 1.0, "max_epochs is 1.0, but target_tokens is 0; they limit data together"),
        ("05", "target_tokens", 10**6, "max_epochs is 0.0, but target_tokens is 1000000; they limit data together"),
        ("05", "caps", "{code_cp: 0.1}", "caps names 'code_cp', which is no candidate; did you mean code_cpp"),
        ("05", "caps", "{no: 0.1}", "caps names 'no', which is no candidate"),
        ("05", "caps", "{code_cpp: 0.1, code_cpp: 0.2}", "caps: 'code_cpp' stands twice"),
        ("01", "general", "genral", "general names 'genral', which is no candidate; did you mean general"),
        ("04", "targets", [], "targets is .*names of tasks or families"),
        ("01", "hidden", "1_0", "parameter hidden wants int, e.g. 64; got '1_0'"),
        ("01", "hidden", "6.4", "parameter hidden wants int"),
        ("04", "strict", "maybe", "parameter strict wants bool"),
    ],
)
def test_what_cannot_be_is_refused_by_name_with_the_remedy(step, name, value, message):
    with pytest.raises(Refusal, match=message):
        runner.plan([step], "laptop", {name: value})


def test_a_careful_rule_needs_a_predictor_that_says_how_sure_it_is():
    with pytest.raises(Refusal, match="rule is 'robust', but predictor is 'ridge'; a careful rule needs"):
        runner.plan(["05"], "laptop", {"rule": "robust", "predictor": "ridge"})
    runner.plan(["05"], "laptop", {"rule": "robust", "predictor": "gaussian_process"})


def test_what_can_be_passes():
    given = {
        "hidden": 96,
        "beta": 1,
        "rounds": "[8]",
        "caps": "{code_cpp: 0.1}",
        "suites": ["heldout", "gsm8k_bpb"],
        "steer": "heldout",
    }
    steps = {step.name: step for step in runner.plan(["05"], "laptop", given | {"predictor": "ridge"})}
    assert steps["01_components"].parameters["beta"] == 1.0 and steps["01_components"].parameters["hidden"] == 96
    assert steps["05_search"].parameters["caps"] == {"code_cpp": 0.1}


def test_names_on_the_command_line_are_text():
    read = {"targets": "[no, 2023, nan, 1e3]", "strict": "Yes", "curve_sizes": "[12, 24]", "seed": "1e1"}
    step = runner.plan(["04"], "laptop", read)[-1]
    found = {name: step.parameters[name] for name in read}
    assert found == {"targets": ["no", "2023", "nan", "1e3"], "strict": True, "curve_sizes": [12, 24], "seed": 10}


def test_candidates_of_ones_own_are_known_before_the_first_cell(tmp_path):
    for name in ("no", "2023", "nan"):
        (tmp_path / f"{name}.txt").write_text("text")
    given = {"corpora": str(tmp_path), "general": "no"}
    steps = runner.plan(["05"], "laptop", given | {"caps": "{2023: 0.5, nan: 1e-1}"})
    assert steps[-1].parameters["caps"] == {"2023": 0.5, "nan": 0.1} and steps[0].parameters["general"] == "no"
    with pytest.raises(Refusal, match="general names 'general', which is no candidate; known: 2023, nan, no"):
        runner.plan(["05"], "laptop", {"corpora": str(tmp_path)})


CALLS = {
    "sizes": (lambda known: known(sizes=[]), r"sizes is \[\]; it must be a list of whole numbers above 0, not empty"),
    "a size of none": (lambda known: known(sizes=(8, 0)), r"sizes is \(8, 0\)"),
    "pool": (lambda known: known(pool=0), "pool is 0; it must be a whole number, at least 1"),
    "top_k": (lambda known: known(pool=5, top_k=6), "top_k is 6, but pool is 5"),
}


@pytest.mark.parametrize(("call", "message"), CALLS.values(), ids=CALLS)
def test_calls_from_python_are_held_to_the_same(call, message):
    def known(**options):
        run("demix", Known().predict, Region(NAMES), Known(), TASKS, rng=np.random.default_rng(0), **options)

    with pytest.raises(Refusal, match=message):
        call(known)


def test_numbers_of_numpy_and_tuples_are_what_they_hold():
    options.check(rounds=(np.int64(4), np.int64(2)), pool=np.int64(9), beta=np.float64(0.5))
    with pytest.raises(Refusal, match=r"beta is .*1.5"):
        options.check(beta=np.float64(1.5))


def test_a_default_imports_no_model_library():
    code = (
        "import sys; from demix_nb.running import runner; runner.plan([], 'laptop', {});"
        "print(*{'torch', 'sklearn', 'papermill', 'nbformat', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
