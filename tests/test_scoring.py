"""Scores against brute force, against lm-eval's own Hugging Face model, and against a model whose bits are known."""

import json
import math
import pickle
import socket

import pandas as pd
import pytest
import torch
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from scored import CONTEXT, NAMES, cached, sentence, small_corpora, small_tokenizer, tiny
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_outputs import CausalLMOutput

from demix_nb import benchmarks, scoring
from demix_nb.scoring import LiveModel, Plan, ScoreCache, ScoringError, Suite, load_tasks, score_key


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with cached(tmp_path_factory.mktemp("cache")) as folder:
        yield folder


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    return small_corpora(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(scope="module")
def model(tokenizer):
    return tiny(tokenizer)


@pytest.fixture(scope="module")
def suite(tokenizer, corpora, cache):
    return Suite.build(NAMES, tokenizer, corpora=corpora, context=CONTEXT)


# --- oracles --------------------------------------------------------------------------------------------------------


def brute_force_bits(model, tokens: list[int], answers: int) -> float:
    """−Σ log₂ p of the last `answers` tokens, one sequence at a time, in float64."""
    with torch.no_grad():
        logits = model.double()(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
    model.float()
    return -sum(logits[i, tokens[i + 1]].item() for i in range(len(tokens) - 1 - answers, len(tokens) - 1)) / math.log(
        2
    )


def test_bits_per_byte_is_the_gold_answer_alone_by_brute_force(suite, model, tokenizer):
    bits = total = 0
    for item in benchmarks.documents("gsm8k"):
        answer = tokenizer.encode(item["answer"])  # the boundary is between words, so both parts can be encoded alone
        tokens = (tokenizer.encode(item["question"]) + answer)[-CONTEXT - 1 :]
        bits, total = bits + brute_force_bits(model, tokens, len(answer)), total + len(item["answer"].encode())
    assert suite.score(model)["gsm8k_bpb"] == pytest.approx(bits / total, rel=1e-5)


def test_scores_equal_lm_evals_own_model(suite, model, tokenizer, corpora):
    """Fresh tasks, lm-eval's requests, lm-eval's Hugging Face model: the same numbers on every kind of request."""
    by_suite = load_tasks([name for name in NAMES if name != "heldout"]).values()
    fresh = {name: task for tasks in by_suite for name, task in tasks.items()} | scoring.heldout_tasks(corpora)
    oracle = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=3)
    expected = evaluate(oracle, {"tasks": fresh}, bootstrap_iters=0, log_samples=False)["results"]
    for task, score in suite.score(model).items():
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


def test_a_uniform_model_scores_log2_of_the_vocabulary_per_token(suite, tokenizer, corpora):
    scores = suite.score(Bigrams(torch.zeros(len(tokenizer), len(tokenizer))))
    tokens = sum(len(tokenizer.encode(text)) for text in corpora.heldout["tales"])
    size = sum(len(text.encode()) for text in corpora.heldout["tales"])
    assert scores["heldout_tales"] == pytest.approx(math.log2(len(tokenizer)) * tokens / size, rel=1e-6)


def test_minimal_pairs_tell_a_model_that_knows_the_answers_from_one_that_does_not(tokenizer, cache):
    pairs = Suite.build(["gsm8k_minpair", "humaneval_minpair"], tokenizer, context=200)
    table = torch.zeros(len(tokenizer), len(tokenizer))
    for name in ("gsm8k", "humaneval"):
        for item in benchmarks.documents(name):
            tokens = tokenizer.encode(item["answer"])
            table.index_put_((torch.tensor(tokens[:-1]), torch.tensor(tokens[1:])), torch.tensor(1.0), accumulate=True)
    knowing = pairs.score(Bigrams(table.add(0.01).log()))
    assert (knowing > 0.85).all()
    guesses = pd.DataFrame([pairs.score(tiny(tokenizer, seed, max_position_embeddings=256)) for seed in range(6)])
    assert abs(guesses.mean().mean() - 0.25) < 0.15
    assert (pairs.tasks["chance"] == 0.25).all()


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2", "gemma2"])
def test_the_head_at_answer_positions_changes_nothing(kind, tokenizer):
    """Gemma 2 caps its logits after the head; GPT-2 has dropout and absolute positions."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tokenizer)}
    more = {} if kind == "gpt2" else {"intermediate_size": 48, "head_dim": 16, "num_key_value_heads": 2}
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **more)).eval()
    [batch] = scoring.pack([((5, 6, 7, 8, 9), 2), ((3, 2, 1), 1)], 100)
    found, greedy = scoring._answers(model, batch)
    with torch.no_grad():
        logits = model(batch.ids).logits.log_softmax(-1)[batch.row, batch.column]
    assert torch.allclose(found, logits.gather(-1, batch.target[:, None])[:, 0], atol=1e-5)
    assert torch.equal(greedy, logits.argmax(-1) == batch.target)
    assert model(batch.ids).logits.shape == (2, 4, len(tokenizer))  # the hook is gone


# --- the suite ------------------------------------------------------------------------------------------------------


def test_task_table(suite):
    tasks = suite.tasks
    assert list(tasks.columns[:7]) == ["family", "unit", "higher_is_better", "items", "chance", "version", "left_out"]
    assert tasks.loc["arc_easy_acc", ["unit", "higher_is_better", "items"]].tolist() == ["acc", True, 12]
    assert tasks.loc["arc_easy_acc", "chance"] == pytest.approx(1 / 3)
    assert tasks.loc["winogrande_acc", "chance"] == 0.5
    assert tasks.loc["heldout_sums", ["family", "unit", "higher_is_better", "items"]].tolist() == [
        "math",
        "bpb",
        False,
        2,
    ]
    assert math.isnan(tasks.loc["gsm8k_bpb", "chance"])


def test_items_whose_answer_is_longer_than_the_context_are_left_out_and_counted(tokenizer):
    tasks = Suite.build(["humaneval_bpb"], tokenizer, context=CONTEXT).tasks
    assert tasks.loc["humaneval_bpb", ["items", "left_out"]].tolist() == [9, 3]
    with pytest.raises(ScoringError, match="humaneval_bpb: every answer is longer than 2 tokens; raise `context`"):
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


def test_all_items_in_any_order_score_the_same(tokenizer, model):
    scores = [Suite.build(["gsm8k_bpb"], tokenizer, context=CONTEXT, limit=n).score(model) for n in (None, 15)]
    assert scores[0]["gsm8k_bpb"] == pytest.approx(scores[1]["gsm8k_bpb"], rel=1e-6)


def test_batches_do_not_change_scores_and_shared_answers_run_once(suite, model):
    instances = [i for task in suite.loaded.values() for i in task.instances if i.request_type == "loglikelihood"]
    arguments = [instance.args for instance in instances]
    windows = [suite.live.windows("loglikelihood", each) for each in arguments]
    small, large = (Plan(arguments, windows, size).run(model)[0] for size in (1, 10_000))
    assert small == pytest.approx(large, rel=1e-5)
    assert suite.live.plans["loglikelihood"].size < len(arguments)


def test_scoring_twice_and_other_models_between_gives_the_same_numbers(suite, model, tokenizer):
    first = suite.score(model)
    assert not suite.score(tiny(tokenizer, seed=3)).equals(first)
    pd.testing.assert_series_equal(suite.score(model), first)


def test_a_pickled_suite_scores_the_same(suite, model):
    pd.testing.assert_series_equal(pickle.loads(pickle.dumps(suite)).score(model), suite.score(model))


def test_scoring_leaves_the_model_as_it_was(suite, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    suite.score(model)
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()
    assert suite.live.model is None


def test_nothing_is_printed_and_no_network_is_needed(tokenizer, model, monkeypatch, capfd):
    def refuse(*_args, **_more):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    Suite.build(["arc_easy_bpb", "arc_easy_acc"], tokenizer, context=CONTEXT).score(model)
    assert capfd.readouterr() == ("", "")


# --- any lm-eval task -----------------------------------------------------------------------------------------------

GENERATION = """
task: copy_words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}, train: {data}}}}}
output_type: generate_until
test_split: test
fewshot_split: train
num_fewshot: 1
doc_to_text: "{{{{text}}}}"
doc_to_target: "{{{{word}}}}"
generation_kwargs: {{until: ["q"], max_gen_toks: 6, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 2}}
"""


@pytest.fixture
def own_tasks(tmp_path, monkeypatch):
    data = tmp_path / "words.jsonl"
    data.write_text("".join(json.dumps({"text": sentence(i, 4), "word": sentence(i, 1)}) + "\n" for i in range(4)))
    (tmp_path / "copy.yaml").write_text(GENERATION.format(data=data))
    (tmp_path / "unsafe.yaml").write_text(
        GENERATION.format(data=data).replace("copy_words", "runs") + "unsafe_code: true"
    )
    return tmp_path


def test_a_generation_task_of_ones_own_equals_lm_evals_own_model(own_tasks, tokenizer, model):
    suite = Suite.build(
        ["copy_words"], tokenizer, context=CONTEXT, include_path=own_tasks, families={"copy_words": "math"}
    )
    task = suite.tasks.loc["copy_words"]
    assert task[["family", "unit", "items", "version"]].tolist() == ["math", "exact_match", 4, "2"]
    oracle = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=1)
    instances = suite.loaded["copy_words"].instances
    fresh = load_tasks(["copy_words"], own_tasks)["copy_words"]["copy_words"]
    fresh.set_fewshot_seed(scoring.FEWSHOT_SEED)
    fresh.build_all_requests()
    assert [instance.args for instance in instances] == [instance.args for instance in fresh.instances]
    suite.live.model = model
    assert suite.live.generate_until(instances) == oracle.generate_until(instances, disable_tqdm=True)
    assert 0 <= suite.score(model)["copy_words"] <= 1


def test_tasks_that_run_code_stay_off_unless_allowed(own_tasks, tokenizer):
    with pytest.raises(ScoringError, match="runs runs code that the model wrote; allow it by unsafe_code=True"):
        Suite.build(["runs"], tokenizer, context=CONTEXT, include_path=own_tasks)
    assert "runs" in Suite.build(["runs"], tokenizer, context=CONTEXT, include_path=own_tasks, unsafe_code=True).loaded


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_unknown_name_lists_near_names(tokenizer):
    with pytest.raises(ScoringError, match="no task 'arc_easy_bbp'; near names: arc_easy_bpb"):
        Suite.build(["arc_easy_bbp"], tokenizer)


def test_missing_inputs_are_named(tokenizer, tmp_path):
    with pytest.raises(ScoringError, match="'heldout' needs corpora"):
        Suite.build(["heldout"], tokenizer)
    with pytest.raises(ScoringError, match="no task named"):
        Suite.build([], tokenizer)
    with pytest.raises(ScoringError, match="no folder of tasks at"):
        Suite.build(["nine"], tokenizer, include_path=tmp_path / "nowhere")


@pytest.mark.parametrize("rows", [300, 640])
def test_another_vocabulary_is_refused(rows, suite, tokenizer):
    with pytest.raises(ScoringError, match=f"the model embeds {rows} tokens, the suite's tokenizer has 320"):
        suite.score(tiny(tokenizer, vocab_size=rows))


def test_a_context_longer_than_the_models_is_refused(suite, tokenizer):
    with pytest.raises(ScoringError, match="context is 48 tokens, the model's 32"):
        suite.score(tiny(tokenizer, max_position_embeddings=32))


def test_an_answer_longer_than_the_context_is_refused(tokenizer):
    with pytest.raises(ScoringError, match="has 42 tokens, context is 8; raise `context`"):
        LiveModel(tokenizer, 8).windows("loglikelihood", ("Question:", " " + sentence(0, 12) + "!" * 29))


def test_a_nan_score_names_the_task(tokenizer):
    suite, broken = Suite.build(["gsm8k_bpb"], tokenizer, context=CONTEXT), tiny(tokenizer)
    broken.model.norm.weight.data[:] = math.nan
    with pytest.raises(ScoringError, match="task 'gsm8k_bpb' scored nan"):
        suite.score(broken)


def test_a_task_missing_from_a_result_is_named():
    with pytest.raises(ScoringError, match="no 'acc' for task 'piqa_acc'"):
        scoring._result({"piqa_acc": {"f1,none": 0.5}}, "piqa_acc", "acc")


# --- the cache ------------------------------------------------------------------------------------------------------


def test_cached_scores_come_back_exactly(suite, model, tmp_path):
    cache, key = ScoreCache(tmp_path / "scores"), score_key("model", suite.key)
    assert cache.get(key) is None
    scores = suite.score(model)
    cache.put(key, scores)
    pd.testing.assert_series_equal(cache.get(key), scores, check_exact=True)
    assert [path.name for path in (tmp_path / "scores").iterdir()] == [f"{key}.json"]
    assert score_key("other", suite.key) != key != score_key("model", suite.key, "linear")


@pytest.mark.parametrize("damage", [lambda text: text[:20], lambda text: text.replace("1.5", "1.6"), lambda _: "[]"])
def test_a_damaged_cache_file_is_named(damage, tmp_path):
    cache = ScoreCache(tmp_path)
    cache.put("k", pd.Series({"a": 1.5}))
    cache.path("k").write_text(damage(cache.path("k").read_text()))
    with pytest.raises(ScoringError, match=r"k\.json is damaged .*delete it and run again"):
        cache.get("k")


def test_scores_that_cannot_be_stored(tmp_path):
    with pytest.raises(ScoringError, match="score of 'a' is not finite"):
        ScoreCache(tmp_path).put("k", pd.Series({"a": math.nan}))
    (tmp_path / "file").write_text("")
    with pytest.raises(ScoringError, match="cannot write"):
        ScoreCache(tmp_path / "file" / "scores").put("k", pd.Series({"a": 1.0}))
