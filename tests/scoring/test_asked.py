"""What is asked for of a task besides its name: metrics, filters, examples, windows; and only what is asked is done."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from fixtures_scoring import CONTEXT, sentence, small_texts, small_tokenizer, tiny

from demix_nb.scoring import Asked, Suite
from demix_nb.scoring.tasks import FEWSHOT_SEED, find
from demix_nb.store import Refusal

CHOICE = """
task: pets
tag: own
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
"""
COPY = """
task: copies
tag: own
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{word}}"
generation_kwargs: {until: ["q"], max_gen_toks: 4, do_sample: false}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: !function utils.length, aggregation: mean, higher_is_better: false}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - {name: nothing, filter: [{function: custom, filter_fn: !function utils.nothing}]}
"""
CODE = """
task: solves
unsafe_code: true
output_type: generate_until
doc_to_text: "{{text}}"
doc_to_target: "{{word}}"
generation_kwargs: {until: ["q"], max_gen_toks: 4}
repeats: 2
metric_list: [{metric: !function utils.pass_at_k, aggregation: mean, higher_is_better: true, k: [1, 2]}]
filter_list: [{name: create_test, filter: [{function: custom, filter_fn: !function utils.build}]}]
"""
OTHERS = {  # file → what it has beside the data
    "long": 'output_type: loglikelihood\ndoc_to_text: "{{long}}"\ndoc_to_target: " {{word}}"\n'
    "metric_list: [{metric: perplexity, aggregation: perplexity}, {metric: acc, aggregation: mean}]\n",
    "bare": 'output_type: generate_until\ndoc_to_text: "{{text}}"\ndoc_to_target: "{{word}}"\n'
    "generation_kwargs: {until: [q], max_gen_toks: 4}\nfewshot_split: none\n"
    "metric_list: [{metric: !function utils.length, aggregation: mean}]\n",
    "sure": 'output_type: loglikelihood\nnum_fewshot: 0\ndoc_to_text: "{{text}}"\ndoc_to_target: " {{word}}"\n'
    "metric_list: [{metric: perplexity, aggregation: perplexity}]\n",
    "sees": 'output_type: loglikelihood\ndoc_to_image: text\ndoc_to_text: "{{text}}"\ndoc_to_target: " {{word}}"\n',
}
UTILS = """
def length(references, predictions, **_):
    return float(len(predictions[0]))

def nothing(resps, docs):
    return ["" for _ in resps]

def pass_at_k(references, predictions, k):
    right = [text == references[0] for text in predictions[0]]
    return {f"pass@{each}": float(any(right[:each])) for each in k}

def build(resps, docs):
    return [[doc["text"] + text for text in some] for some, doc in zip(resps, docs)]
"""
LENGTHS = (4, 9, 4, 9, 9, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tasks of one's own on six rows; those of `long` have questions longer than the context in three of them."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {
            "text": sentence(i, 4), "word": sentence(i, 1), "long": sentence(i, 60 if size > 4 else 5), "gold": i % 3,
            "choices": [sentence(i + k, 2 + k) for k in range(3)],
        }
        for i, size in enumerate(LENGTHS)
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "utils.py").write_text(UTILS)
    files = f"{{test: {folder}/rows.jsonl, train: {folder}/rows.jsonl}}"
    data = f"dataset_path: json\ndataset_kwargs: {{data_files: {files}}}\ntest_split: test\n"
    own = {"pets": CHOICE, "copies": COPY, "solves": CODE}
    for name, text in (own | {name: f"task: {name}\n{text}" for name, text in OTHERS.items()}).items():
        shown = "" if "fewshot_split" in text else "fewshot_split: train\n"
        (folder / f"{name}.yaml").write_text((text + data + shown).replace("fewshot_split: none\n", ""))
    return folder


@pytest.fixture(scope="module")
def build(folder):
    def built(*names, **how):
        return Suite.build(list(names), small_tokenizer(), **({"context": CONTEXT, "include_path": folder} | how))

    return built


@pytest.fixture
def allowed(monkeypatch):
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")


# --- rows -----------------------------------------------------------------------------------------------------------


def test_several_metrics_are_several_rows_that_score_as_each_alone(build, model):
    several = build(Asked("pets", metrics=("acc_norm", "acc", "exact_match")), "long")
    assert [*several.tasks.index] == ["pets/acc_norm", "pets/acc", "pets/exact_match", "long"]
    scores = several.measure(model)
    for metric in ("acc_norm", "acc", "exact_match"):
        alone = build(Asked("pets", metrics=(metric,)))
        assert scores[f"pets/{metric}"] == alone.measure(model)["pets"]
        assert several.keys[f"pets/{metric}"] == alone.keys["pets"], "the key is of the content, not of the name"
    assert set(several.tasks["unit"]) == {"acc", "perplexity"} and build("pets").tasks.loc["pets", "metric"] == "acc"
    assert several.mixable == ["pets/acc_norm", "pets/acc", "long"], "an exact match wants the likeliest text"
    assert several.tasks["chance"].round(3).tolist()[:2] == [0.333, 0.333] and np.isnan(several.tasks["chance"].iloc[2])


def test_the_table_says_what_was_asked_for(build):
    asked = [Asked("pets", family="code", target=False, window=40), Asked("copies", filter="nothing", limit=2), "long"]
    tasks = build(*asked).tasks
    facts = tasks[["family", "mode", "target", "window", "filter", "items", "cut", "suite"]]
    assert facts.loc["pets"].tolist() == ["code", "likelihood", False, 40, "", 6, 0, "pets"]
    assert facts.loc["copies"].tolist() == ["other", "generated", True, CONTEXT, "nothing", 2, 0, "copies"]
    assert facts.loc["long"].tolist() == ["other", "likelihood", True, CONTEXT, "", 6, 3, "long"]
    assert build("copies").tasks.loc["copies", "filter"] == "whole"
    assert (build(Asked("own", family="pets")).tasks["family"] == "pets").all()


def test_a_filter_decides_what_is_compared(build, model):
    """Oracle: a filter that leaves nothing leaves texts of no length."""
    lengths = [
        build(Asked("copies", metrics=("length",), filter=name)).measure(model)["copies"]
        for name in ("whole", "nothing")
    ]
    assert lengths[0] > 0 and lengths[1] == 0


def test_examples_are_drawn_as_lm_eval_draws_them(build, folder):
    """Oracle: a fresh task with the same setting, through lm-eval's own `build_all_requests`."""
    fresh = find(["pets"], include_path=folder)["pets"]["pets"]
    fresh.set_config("num_fewshot", 2)
    fresh.set_fewshot_seed(FEWSHOT_SEED)
    fresh.build_all_requests()
    suite = build(Asked("pets", num_fewshot=2), context=100)
    assert [each.args for each in suite.loaded["pets"].instances] == [each.args for each in fresh.instances]
    assert suite.keys["pets"] != build("pets", context=100).keys["pets"]


def test_windows_of_several_lengths_live_in_one_suite(build, model):
    together = build(Asked("long", window=24), "pets", Asked("copies", metrics=("length",), window=20))
    scores = together.measure(model)
    alone = {"long": build("long", context=24), "pets": build("pets")}
    alone["copies"] = build(Asked("copies", metrics=("length",)), context=20)
    for name, suite in alone.items():
        assert scores[name] == pytest.approx(suite.measure(model)[name], rel=1e-5)
        assert together.keys[name] == suite.keys[name]
    assert scores["long"] != pytest.approx(build("long").measure(model)["long"], rel=1e-3)


def test_a_direction_is_told_where_the_task_says_none(build):
    assert not build(Asked("bare", higher_is_better=False)).tasks.loc["bare", "higher_is_better"]
    with pytest.raises(Refusal, match="task 'bare' does not say whether more of 'length' is better"):
        build("bare")
    with pytest.raises(Refusal, match="task 'pets' says itself that higher_is_better is True for 'acc'; leave yours"):
        build(Asked("pets", higher_is_better=False))


@pytest.mark.usefixtures("allowed")
def test_a_function_that_reports_under_other_names_is_found_before_anything_is_written(build, model):
    """As hub `humaneval`, which names `pass_at_k` and reports pass@1."""
    suite = build("solves", unsafe_code=True)
    assert suite.tasks.loc["solves", ["metric", "unit", "higher_is_better"]].tolist() == ["pass@1", "acc", True]
    asked = build(Asked("solves", metrics=("pass@1", "pass@2")), unsafe_code=True)
    assert [*asked.tasks.index] == ["solves/pass@1", "solves/pass@2"]
    assert asked.keys["solves/pass@1"] == suite.keys["solves"]
    assert asked.measure(model).to_dict() == {"solves/pass@1": 0, "solves/pass@2": 0}
    with pytest.raises(Refusal, match=r"task 'solves' has no metric 'pass@10'; it has pass@1, pass@2$"):
        build(Asked("solves", metrics=("pass@10",)), unsafe_code=True)


# --- only what is asked ---------------------------------------------------------------------------------------------


def test_only_rows_asked_for_are_measured_and_they_score_the_same(build, model, monkeypatch):
    suite = build(Asked("pets", metrics=("acc", "acc_norm")), "copies", "long")
    whole, asked = suite.measure(model), []
    for kind in ("loglikelihood", "generate_until"):
        honest = getattr(type(suite.live), kind)
        monkeypatch.setattr(
            type(suite.live), kind, lambda self, some, honest=honest: asked.extend(some) or honest(self, some)
        )
    part = suite.measure(model, ["long", "pets/acc"])
    assert [*part.index] == ["long", "pets/acc"] and {each.task_name for each in asked} == {"long", "pets"}
    assert part.to_dict() == pytest.approx(whole[["long", "pets/acc"]].to_dict(), rel=1e-5)
    plans = dict(suite.live.plans)
    suite.measure(model, ["long", "pets/acc"])
    assert all(suite.live.plans[name] is plan for name, plan in plans.items())
    assert suite.measure(model, []).empty
    with pytest.raises(Refusal, match="the suite has no row 'pets'; it has pets/acc, "):
        suite.measure(model, ["pets"])


def test_adding_a_task_leaves_the_keys_of_others(build):
    few, many = build("pets", "copies"), build("long", Asked("pets", family="code", target=False), "copies")
    assert {row: many.keys[row] for row in few.keys} == few.keys and few.key != many.key
    changed = {
        "limit": build(Asked("pets", limit=3)),
        "window": build(Asked("pets", window=40)),
        "metric": build(Asked("pets", metrics=("acc_norm",))),
    }
    keys = {few.keys["pets"], *(suite.keys["pets"] for suite in changed.values())}
    assert len(keys) == 4
    assert build(Asked("copies", filter="nothing")).keys["copies"] != few.keys["copies"]


def test_logs_of_a_row_do_not_depend_on_which_others_are_asked_for(build, model):
    suite = build(Asked("pets", metrics=("acc", "acc_norm")), "long", "heldout", heldout=small_texts())
    together = suite.logs(model, suite.mixable)
    assert [*together] == ["pets/acc", "pets/acc_norm", "long", "heldout_tales", "heldout_sums"]
    for row in suite.mixable[::-1]:
        alone = suite.logs(model, [row])
        assert [*alone] == [row] and len(alone[row]) == suite.counts[suite.of[row]].sum()
        np.testing.assert_allclose(alone[row], together[row], rtol=1e-4)
    assert (together["pets/acc"] == together["pets/acc_norm"]).all()
    sums = np.add.reduceat(together["long"], np.cumsum(suite.counts["long"]) - suite.counts["long"])
    suite.live.model = model
    found = suite.live.loglikelihood(suite.loaded["long"].instances)
    assert sums == pytest.approx([score for score, _ in found], rel=1e-5)


def test_logs_of_what_is_written_are_refused_and_a_model_of_other_tokens(build, tokenizer, model):
    suite = build("copies", "pets")
    with pytest.raises(Refusal, match="copies needs written, filtered or likeliest answers"):
        suite.logs(model, ["pets", "copies"])
    with pytest.raises(Refusal, match="the model embeds 300 tokens"):
        suite.logs(tiny(tokenizer, vocab_size=300), ["pets"])


def test_a_pickled_suite_keeps_rows_windows_and_keys(build, model):
    suite = build(Asked("pets", metrics=("acc", "acc_norm"), window=40), Asked("copies", filter="nothing"))
    copy = pickle.loads(pickle.dumps(suite))
    assert copy.keys == suite.keys and copy.measure(model).equals(suite.measure(model))


# --- doors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked("pets", metrics=("f1",)), r"task 'pets' has no metric 'f1'; it has acc, acc_norm, exact_match$"),
        (Asked("own", metrics=("acc",)), r"task 'copies' has no metric 'acc'; it has exact_match, length$"),
        (Asked("copies", filter="loose"), r"task 'copies' has no filter 'loose'; it has whole, nothing$"),
        (Asked("own", filter="nothing"), r"task 'pets' has no filter 'nothing'; it has none$"),
        (Asked("bare", num_fewshot=1, higher_is_better=True), "bare has no examples but the items that it asks about"),
        (Asked("sure", num_fewshot=1), r"sure wants no examples \(its file has num_fewshot: 0\); leave num_fewshot"),
        (Asked("heldout", num_fewshot=1), "heldout_tales is text without questions and takes no examples"),
        (Asked("copies", window=5), r"copies: 6 of 6 prompts do not fit .* up to \d+ tokens .* is 5; raise window"),
        (Asked("copies", num_fewshot=5, window=20), r"copies: 6 of 6 prompts do not fit .* is 20; raise window"),
        ("sees", "sees shows images or plays sounds"),
        ("solves", "solves runs code that the model wrote; allow it by unsafe_code=True and HF_ALLOW_CODE_EVAL=1"),
    ],
)
def test_what_a_task_cannot_give_is_refused_by_name(asked, said, build):
    with pytest.raises(Refusal, match=said) as refused:
        build("long", asked, heldout=small_texts())
    assert "\n" not in str(refused.value)


def test_a_prompt_fits_where_its_answer_does_to_the_token(build):
    longest = max(len(small_tokenizer().encode(sentence(i, 4))) for i in range(6))
    assert build(Asked("copies", window=longest + 4)).tasks.loc["copies", "items"] == 6
    with pytest.raises(Refusal, match=f"takes up to {longest + 4} tokens where the window is {longest + 3}"):
        build(Asked("copies", window=longest + 3))


def test_a_task_asked_for_in_two_ways_is_refused(build):
    with pytest.raises(
        Refusal, match="task 'pets' is asked for in two ways, by 'own' and by 'pets'; ask for it in one"
    ):
        build("own", Asked("pets", limit=3))
    assert [*build("own", "pets").tasks.index] == [*build("pets", "own").tasks.index[::-1]]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"limit": 0}, "pets: limit is 0; "),
        ({"window": 1}, "pets: window is 1; "),
        ({"num_fewshot": -1}, "pets: num_fewshot is -1; it must be 0 or more"),
    ],
)
def test_a_number_that_cannot_be_is_refused_with_its_task(how, said):
    with pytest.raises(Refusal, match=said):
        Asked("pets", **how)


def test_code_that_asks_for_permission_when_it_is_imported_is_refused_in_one_line(folder, tmp_path):
    """As hub `humaneval`, whose module tries `code_eval`."""
    said = 'raise ValueError("a long\\nwarning: set HF_ALLOW_CODE_EVAL=1")\n'
    (tmp_path / "utils.py").write_text(said)
    (tmp_path / "solves.yaml").write_text((folder / "solves.yaml").read_text())
    with pytest.raises(Refusal, match=r"^solves runs code that the model wrote; allow it by .*=1$"):
        Suite.build(["solves"], small_tokenizer(), include_path=tmp_path, unsafe_code=True)


def test_asking_needs_neither_torch_nor_lm_eval():
    code = "import sys; from demix_nb.scoring import Asked; print({'torch', 'lm_eval'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
