"""Scores against brute force, against lm-eval's own Hugging Face model, and against a model whose bits are known."""

import math
import pickle
import socket
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from fixtures_scoring import CONTEXT, NAMES, small_suite, small_texts, tiny, written_tasks
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers.modeling_outputs import CausalLMOutput

from demix_nb.lab import benchmarks
from demix_nb.proxies import Checkpoints, Store
from demix_nb.scoring import Suite
from demix_nb.scoring import suite as suite_module
from demix_nb.scoring.tasks import find
from demix_nb.store import Refusal

pytestmark = pytest.mark.usefixtures("cache")

# --- oracles --------------------------------------------------------------------------------------------------------


def brute_force_bits(model, tokens: list[int], answers: int) -> float:
    """−Σ log₂ p of the last `answers` tokens, one sequence at a time, in float64."""
    with torch.no_grad():
        logits = model.double()(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    model.float()
    nats = sum(logits[i, tokens[i + 1]].item() for i in range(len(tokens) - 1 - answers, len(tokens) - 1))
    return -nats / math.log(2)


def test_bits_per_byte_is_the_gold_answer_alone_by_brute_force(suite, model, tokenizer):
    bits = total = 0
    for item in benchmarks.documents("gsm8k"):
        answer = tokenizer.encode(item["answer"])  # the boundary is between words, so both parts can be encoded alone
        tokens = (tokenizer.encode(item["question"]) + answer)[-CONTEXT - 1 :]
        bits, total = bits + brute_force_bits(model, tokens, len(answer)), total + len(item["answer"].encode())
    assert suite.measure(model)["gsm8k_bpb"] == pytest.approx(bits / total, rel=1e-5)


def test_scores_equal_lm_evals_own_model(suite, model, tokenizer):
    """Fresh tasks, lm-eval's requests, lm-eval's Hugging Face model: the same numbers on every kind of request."""
    fresh = {name: task for tasks in find(NAMES, small_texts()).values() for name, task in tasks.items()}
    oracle = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=3)
    expected = evaluate(oracle, {"tasks": fresh}, bootstrap_iters=0, log_samples=False)["results"]
    for task, score in suite.measure(model).items():
        metric = suite.tasks.loc[task, "metric"]
        assert score == pytest.approx(expected[task][f"{metric},none"], rel=1e-5), task


class Bigrams(torch.nn.Module):
    """A model that predicts from the last token alone, by a table of logits; it has no output embedding module."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = torch.nn.Embedding.from_pretrained(table)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False):
        return CausalLMOutput(logits=self.table(input_ids))


def test_a_uniform_model_scores_log2_of_the_vocabulary_per_token(suite, tokenizer):
    scores = suite.measure(Bigrams(torch.zeros(len(tokenizer), len(tokenizer))))
    tales = small_texts().heldout["tales"]
    tokens, size = sum(len(tokenizer.encode(text)) for text in tales), sum(len(text.encode()) for text in tales)
    assert scores["heldout_tales"] == pytest.approx(math.log2(len(tokenizer)) * tokens / size, rel=1e-6)


def test_minimal_pairs_tell_a_model_that_knows_the_answers_from_one_that_does_not(tokenizer):
    pairs = Suite.build(["gsm8k_minpair", "humaneval_minpair"], tokenizer, context=200)
    table = torch.zeros(len(tokenizer), len(tokenizer))
    for name in ("gsm8k", "humaneval"):
        for item in benchmarks.documents(name):
            tokens = tokenizer.encode(item["answer"])
            table.index_put_((torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])), torch.tensor(1.0), accumulate=True)
    knowing = pairs.measure(Bigrams(table.add(0.01).log()))
    assert (knowing > 0.85).all()
    guesses = pd.DataFrame([pairs.measure(tiny(tokenizer, seed, max_position_embeddings=256)) for seed in range(6)])
    assert abs(guesses.mean().mean() - 0.25) < 0.15
    assert (pairs.tasks["chance"] == 0.25).all()


# --- the suite ------------------------------------------------------------------------------------------------------


def test_all_items_in_any_order_score_the_same(tokenizer, model):
    scores = [Suite.build(["gsm8k_bpb"], tokenizer, context=CONTEXT, limit=n).measure(model) for n in (None, 15)]
    assert scores[0]["gsm8k_bpb"] == pytest.approx(scores[1]["gsm8k_bpb"], rel=1e-6)


def test_a_suite_serves_model_after_model_bit_for_bit_also_after_one_that_failed(suite, model, tokenizer):
    first, plans = suite.measure(model), dict(suite.live.plans)
    assert not suite.measure(tiny(tokenizer, seed=3)).equals(first)
    broken = tiny(tokenizer)
    broken.model.norm.weight.data[:] = math.nan
    with pytest.raises(Refusal, match="scored nan"):
        suite.measure(broken)
    pd.testing.assert_series_equal(suite.measure(model), first, check_exact=True)
    assert all(suite.live.plans[kind] is plan for kind, plan in plans.items()), "tokens and batches are made once"


def test_a_pickled_suite_measures_the_same(suite, model):
    copy = pickle.loads(pickle.dumps(suite))
    pd.testing.assert_series_equal(copy.measure(model), suite.measure(model), check_exact=True)
    assert copy.key == suite.key


def test_suites_over_the_same_tasks_have_one_key(suite, tokenizer, tmp_path, monkeypatch):
    """Whatever folder their data lay in, whatever name the tasks were asked for by."""
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "1")
    assert small_suite(tmp_path).key == suite.key
    assert small_suite(tmp_path, NAMES[1:]).key != suite.key
    how = {"context": CONTEXT, "include_path": written_tasks(tmp_path), "unsafe_code": True}
    by_tag, by_name = (Suite.build(names, tokenizer, **how) for names in (["both"], ["copy_words", "runs"]))
    assert by_tag.key == by_name.key and list(by_tag.tasks.index) == ["copy_words", "runs"]


def test_measuring_enters_two_files_of_ours(tokenizer, model):
    """What a search does hundreds of times is read in one go."""
    alone, entered = Suite.build(["heldout"], tokenizer, heldout=small_texts(), context=CONTEXT), set()

    def watch(frame, *_event):
        entered.add(Path(frame.f_code.co_filename))

    sys.setprofile(watch)
    try:
        alone.measure(model)
    finally:
        sys.setprofile(None)
    package = Path(suite_module.__file__).parents[1]
    ours = {str(path.relative_to(package)) for path in entered if package in path.parents}
    assert ours == {"scoring/suite.py", "scoring/reader.py"}


def test_measuring_leaves_the_model_as_it_was(suite, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    suite.measure(model)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    assert suite.live.model is None


def test_nothing_is_printed_and_no_network_is_needed(tokenizer, model, monkeypatch, capfd):
    def refuse(*_args, **_more):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    Suite.build(["arc_easy_bpb", "arc_easy_acc"], tokenizer, context=CONTEXT).measure(model)
    assert capfd.readouterr() == ("", "")


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [300, 640])
def test_another_vocabulary_is_refused(rows, suite, tokenizer):
    with pytest.raises(Refusal, match=f"the model embeds {rows} tokens, the suite's tokenizer has 320"):
        suite.measure(tiny(tokenizer, vocab_size=rows))


def test_a_context_longer_than_the_models_is_refused(suite, tokenizer):
    with pytest.raises(Refusal, match="context is 48 tokens, the model's 32"):
        suite.measure(tiny(tokenizer, max_position_embeddings=32))


def test_a_nan_score_names_the_task(tokenizer):
    suite, broken = Suite.build(["gsm8k_bpb"], tokenizer, context=CONTEXT), tiny(tokenizer)
    broken.model.norm.weight.data[:] = math.nan
    with pytest.raises(Refusal, match="task 'gsm8k_bpb' scored nan"):
        suite.measure(broken)


@pytest.mark.parametrize(("value", "said"), {"float('nan')": "scored nan", "'7'": "scored '7', which is no"}.items())
def test_a_score_that_is_no_number_names_the_model_and_the_task(value, said, tokenizer, model, tmp_path):
    """By the task's own function, of which lm-eval takes anything; with the model that met it."""
    last = f"def last(values):\n    return {value}\ndef same(references, predictions, **_):\n    return 1.0\n"
    folder = written_tasks(tmp_path)
    (folder / "utils.py").write_text(last)
    recipe = (folder / "copy_words.yaml").read_text()
    listed = "metric: !function utils.same, aggregation: !function utils.last"
    (folder / "copy_words.yaml").write_text(recipe.replace("metric: exact_match, aggregation: mean", listed))
    suite = Suite.build(["copy_words"], tokenizer, context=CONTEXT, include_path=folder)
    model.save_pretrained(tmp_path / "news")
    source, store = Checkpoints({"news": tmp_path / "news"}), Store(tmp_path / "cache", n_jobs=1)
    with pytest.raises(Refusal, match=f"news: task 'copy_words' {said}"):
        store.scores(source, suite)


def test_a_written_answer_that_leaves_no_room_for_a_prompt_is_refused(tokenizer, tmp_path):
    folder = written_tasks(tmp_path)
    for longest in ("max_gen_toks: 48", "max_new_tokens: 60", "temperature: 0"):  # without, lm-eval writes 256
        recipe = written_tasks(tmp_path) / "copy_words.yaml"
        recipe.write_text(recipe.read_text().replace("max_gen_toks: 6", longest))
        with pytest.raises(Refusal, match=r"copy_words: 4 of 4 prompts do not fit .* window is 48; raise window"):
            Suite.build(["copy_words"], tokenizer, context=CONTEXT, include_path=folder)


def test_a_task_missing_from_a_result_is_named():
    with pytest.raises(Refusal, match="no 'acc' for task 'piqa_acc'"):
        suite_module._result({"f1,none": 0.5}, "piqa_acc", "acc", "")
