"""Names become tasks whose documents, requests and facts are settled once."""

import math
from types import SimpleNamespace

import pytest
from fixtures_scoring import CONTEXT, NAMES, small_texts, written_tasks

from demix_nb.scoring import Asked, Suite
from demix_nb.store import Refusal

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def own_tasks(tmp_path):
    return written_tasks(tmp_path)


def test_task_table(suite):
    tasks = suite.tasks
    assert list(tasks.columns[:7]) == ["family", "unit", "higher_is_better", "items", "chance", "version", "left_out"]
    assert tasks.loc["arc_easy_acc", ["unit", "higher_is_better", "items"]].tolist() == ["acc", True, 12]
    assert tasks.loc["arc_easy_acc", "chance"] == pytest.approx(1 / 3)
    assert tasks.loc["winogrande_acc", "chance"] == 0.5
    sums = tasks.loc["heldout_sums", ["family", "unit", "higher_is_better", "items"]]
    assert sums.tolist() == ["math", "bpb", False, 2]
    assert math.isnan(tasks.loc["gsm8k_bpb", "chance"])


def test_items_whose_answer_is_longer_than_the_context_are_left_out_and_counted(tokenizer):
    tasks = Suite.build(["humaneval_bpb"], tokenizer, context=CONTEXT).tasks
    assert tasks.loc["humaneval_bpb", ["items", "left_out"]].tolist() == [9, 3]
    with pytest.raises(Refusal, match="humaneval_bpb: every answer is longer than 2 tokens; raise `context`"):
        Suite.build(["humaneval_bpb"], tokenizer, context=2)


def test_subsets_are_seeded_and_the_key_tells_them_apart(tokenizer):
    def build(**changes):
        return Suite.build(["gsm8k_bpb"], tokenizer, **({"context": CONTEXT, "limit": 5, "seed": 0} | changes))

    suites = {"same": build(), "seed": build(seed=1), "limit": build(limit=6), "context": build(context=CONTEXT - 20)}
    assert suites["same"].key == build().key
    assert len({suite.key for suite in suites.values()}) == 4
    assert suites["same"].tasks.loc["gsm8k_bpb", "items"] == 5
    chosen = {instance.args for instance in suites["same"].loaded["gsm8k_bpb"].instances}
    assert chosen < {instance.args for instance in suites["limit"].loaded["gsm8k_bpb"].instances}


@pytest.mark.parametrize(("unsafe_code", "allowed"), [(False, "1"), (True, None), (True, "0"), (True, "1")])
def test_tasks_that_run_code_stay_off_unless_allowed_twice(unsafe_code, allowed, own_tasks, tokenizer, monkeypatch):
    monkeypatch.delenv("HF_ALLOW_CODE_EVAL", raising=False)
    if allowed:
        monkeypatch.setenv("HF_ALLOW_CODE_EVAL", allowed)
    how = {"context": CONTEXT, "include_path": own_tasks, "unsafe_code": unsafe_code}
    if unsafe_code and allowed == "1":
        assert "runs" in Suite.build(["runs"], tokenizer, **how).loaded
    else:
        with pytest.raises(Refusal, match=r"runs runs code .*; allow it by unsafe_code=True and HF_ALLOW_CODE_EVAL=1"):
            Suite.build(["runs"], tokenizer, **how)


@pytest.mark.slow
def test_an_unknown_name_lists_near_names(tokenizer):
    with pytest.raises(Refusal, match="no task 'arc_easy_bbp'; near names: arc_easy_bpb"):
        Suite.build(["arc_easy_bbp"], tokenizer)


def test_missing_inputs_are_named(tokenizer, tmp_path):
    with pytest.raises(Refusal, match="'heldout' needs documents; give heldout="):
        Suite.build(["heldout"], tokenizer)
    for names in ([], ["heldout"]):
        with pytest.raises(Refusal, match="no task named"):
            Suite.build(names, tokenizer, heldout=SimpleNamespace(families={}, heldout={}))
    with pytest.raises(Refusal, match="no folder of tasks at"):
        Suite.build(["nine"], tokenizer, include_path=tmp_path / "nowhere")


def test_the_names_by_which_tasks_were_asked_for_are_kept(suite):
    assert set(suite.tasks["suite"]) == set(NAMES)


def test_families_given_go_before_what_a_task_says(own_tasks, tokenizer):
    how = {"context": CONTEXT, "include_path": own_tasks, "heldout": small_texts()}
    names = ["copy_words", Asked("arc_easy_bpb", family="math"), "heldout"]
    tasks = Suite.build(names, tokenizer, **how).tasks
    families = {"copy_words": "other", "arc_easy_bpb": "math", "heldout_tales": "general", "heldout_sums": "math"}
    assert tasks["family"].to_dict() == families
    assert tasks.loc["copy_words", ["unit", "items", "version"]].tolist() == ["acc", 4, "2"]


def test_held_out_text_is_used_whole_because_of_what_it_is_not_what_it_is_called(own_tasks, tokenizer):
    recipe = (own_tasks / "copy_words.yaml").read_text()
    (own_tasks / "other.yaml").write_text(recipe.replace("copy_words", "heldout_words"))
    (own_tasks / "all.yaml").write_text(recipe.replace("copy_words", "every_word").replace("2}", "2, whole: true}"))
    how = {"context": CONTEXT, "include_path": own_tasks, "heldout": small_texts(), "limit": 1}
    items = Suite.build(["heldout_words", "every_word", "heldout"], tokenizer, **how).tasks["items"]
    assert items.to_dict() == {"heldout_words": 1, "every_word": 4, "heldout_tales": 4, "heldout_sums": 2}
