"""Requests become forward passes: at answer positions only, each window once, and no number is another."""

import pytest
import torch
from fixtures_scoring import CONTEXT, sentence, written_tasks
from lm_eval.models.huggingface import HFLM
from transformers import AutoConfig, AutoModelForCausalLM

from demix_nb.scoring import Suite, reader
from demix_nb.scoring.reader import LiveModel, Plan
from demix_nb.scoring.tasks import FEWSHOT_SEED, load_tasks
from demix_nb.store import Refusal


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2", "gemma2"])
def test_the_head_at_answer_positions_changes_nothing(kind, tokenizer):
    """Gemma 2 caps its logits after the head; GPT-2 has dropout and absolute positions."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": len(tokenizer)}
    more = {} if kind == "gpt2" else {"intermediate_size": 48, "head_dim": 16, "num_key_value_heads": 2}
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **shape, **more)).eval()
    [batch] = reader.pack([((5, 6, 7, 8, 9), 2), ((3, 2, 1), 1)], 100)
    found, greedy = reader._answers(model, batch)
    with torch.no_grad():
        logits = model(batch.ids).logits.log_softmax(-1)[batch.row, batch.column]
    assert torch.allclose(found, logits.gather(-1, batch.target[:, None])[:, 0], atol=1e-5)
    assert torch.equal(greedy, logits.argmax(-1) == batch.target)
    assert model(batch.ids).logits.shape == (2, 4, len(tokenizer))  # the hook is gone


def test_batches_do_not_change_scores_and_shared_answers_run_once(suite, model):
    instances = [i for task in suite.loaded.values() for i in task.instances if i.request_type == "loglikelihood"]
    arguments = [instance.args for instance in instances]
    windows = [suite.live.windows("loglikelihood", each) for each in arguments]
    small, large = (Plan(arguments, windows, size).run(model)[0] for size in (1, 10_000))
    assert small == pytest.approx(large, rel=1e-5)
    assert suite.live.plan("loglikelihood", instances).size < len(arguments)


def test_a_generation_task_of_ones_own_equals_lm_evals_own_model(tokenizer, model, tmp_path):
    folder = written_tasks(tmp_path)
    suite = Suite.build(["copy_words"], tokenizer, context=CONTEXT, include_path=folder)
    oracle = HFLM(pretrained=model, tokenizer=tokenizer, max_length=CONTEXT, batch_size=1)
    instances = suite.loaded["copy_words"].instances
    fresh = load_tasks(["copy_words"], folder)["copy_words"]["copy_words"]
    fresh.set_fewshot_seed(FEWSHOT_SEED)
    fresh.build_all_requests()
    assert [instance.args for instance in instances] == [instance.args for instance in fresh.instances]
    suite.live.model = model
    assert suite.live.generate_until(instances) == oracle.generate_until(instances, disable_tqdm=True)
    assert 0 <= suite.measure(model)["copy_words"] <= 1


def test_an_answer_longer_than_the_context_is_refused(tokenizer):
    with pytest.raises(Refusal, match="has 42 tokens, context is 8; raise `context`"):
        LiveModel(tokenizer, 8).windows("loglikelihood", ("Question:", " " + sentence(0, 12) + "!" * 29))
