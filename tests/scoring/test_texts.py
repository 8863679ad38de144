"""A beginning is given once and an end never, whatever a tokenizer puts around a text; lm-eval's numbers on request."""

import math
from types import SimpleNamespace

import pytest
import torch
from fixtures_scoring import tiny
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from demix_nb.scoring import Suite
from demix_nb.scoring.reader import LiveModel
from demix_nb.scoring.texts import AsLmEval, Once
from demix_nb.scoring.theirs import ROWS
from demix_nb.store import Refusal

SPECIAL = ["<s>", "</s>", "[UNK]", "<mask>"]
WORDS = "river stone market letter garden winter engine signal".split()
KINDS = {  # what the tokenizer puts before a text, behind it, its bos, its eos
    "nothing": ((), (), "<s>", "</s>"),
    "nothing, no bos": ((), (), None, "</s>"),
    "bos": (("<s>",), (), "<s>", "</s>"),
    "bos and eos": (("<s>",), ("</s>",), "<s>", "</s>"),
    "eos": ((), ("</s>",), "<s>", "</s>"),
    "eos alone": ((), ("</s>",), None, "</s>"),
    "bos that is the eos": (("</s>",), (), "</s>", "</s>"),
    "both of them one": (("</s>",), ("</s>",), "</s>", "</s>"),
    "two before": (("<mask>", "<s>"), (), "<s>", "</s>"),
    "another than bos": (("<mask>",), ("</s>",), "<s>", "</s>"),
}
DOCUMENTS = ["river stone market letter garden", "winter", " ".join(WORDS * 3), "<s> river stone", "</s> river stone"]
PAIRS = [("river stone", " market"), ("river stone ", "market letter"), ("", "garden winter"), ("<s> river", " stone")]


def made(kind: str) -> PreTrainedTokenizerFast:
    """A tokenizer of words; that of pairs is another template, which nobody may ask for."""
    before, behind, bos, eos = KINDS[kind]
    tokens = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(tokens, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(SPECIAL)
    if before or behind:
        known = [(token, tokens[token]) for token in {*before, *behind}]
        pair = f"$A {(before or behind)[0]} $B"
        single = " ".join([*before, "$A", *behind])
        tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=known)
    given = {"bos_token": bos, "eos_token": eos, "unk_token": "[UNK]", "pad_token": "[UNK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{name: token for name, token in given.items() if token}
    )


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def model():
    return tiny(made("nothing"))


def numbers(*tokens: str) -> list[int]:
    return [[*SPECIAL, *WORDS].index(token) for token in tokens]


def started(kind: str) -> list[int]:
    before, _, bos, eos = KINDS[kind]
    return numbers(*(before or [bos or eos]))


def nats(model, tokens: list[int], size: int) -> float:
    """The log-probability of the last `size` tokens, position by position, in float64."""
    with torch.no_grad():
        logits = model.double()(torch.tensor([tokens])).logits[0].log_softmax(-1)
    model.float()
    return sum(logits[i - 1, tokens[i]].item() for i in range(len(tokens) - size, len(tokens)))


def asked(kind: str, arguments: list[tuple]) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def live(tokenizer, model, context: int = 48, **how) -> LiveModel:
    made = LiveModel(tokenizer, context, **how)
    made.model = model
    return made


def test_a_document_is_predicted_from_one_beginning_and_has_no_end(kind, model):
    """Oracle: the text's words by hand, one sequence at a time."""
    found = live(made(kind), model).loglikelihood_rolling(asked("loglikelihood_rolling", [(d,) for d in DOCUMENTS]))
    for text, score in zip(DOCUMENTS, found, strict=True):
        start, words = started(kind), numbers(*text.split())
        words = words[len(start) :] if words[: len(start)] == start else words
        assert score == pytest.approx(nats(model, start + words, len(words)), rel=1e-5), text


def test_an_answer_is_predicted_from_its_question_which_has_no_end(kind, model):
    found = live(made(kind), model).loglikelihood(asked("loglikelihood", PAIRS))
    before = numbers(*KINDS[kind][0])
    for (context, answer), (score, _) in zip(PAIRS, found, strict=True):
        start = before if context else started(kind)
        words = numbers(*(context + answer).split())
        tokens = words if words[: len(start)] == start else start + words
        assert score == pytest.approx(nats(model, tokens, len(answer.split())), rel=1e-5), (context, answer)


def test_a_longer_document_has_every_token_once_and_one_beginning(kind):
    """Windows of 8 tokens: answers put together are the document."""
    text = " ".join(WORDS * 3)
    windows = LiveModel(made(kind), 8).windows("loglikelihood_rolling", (text,))
    assert [token for tokens, size in windows for token in tokens[-size:]] == numbers(*text.split())
    assert all(len(tokens) <= 9 for tokens, _ in windows)
    assert list(windows[0][0][: len(started(kind))]) == started(kind)
    assert not {*numbers(*SPECIAL)} & {token for tokens, _ in windows[1:] for token in tokens}


def test_lm_evals_numbers_on_request(kind, model):
    """Oracle: lm-eval's own Hugging Face model, on every sort of request."""
    tokenizer = made(kind)
    theirs = HFLM(model, tokenizer=tokenizer, max_length=48, batch_size=ROWS)  # its first prompt speaks for a batch
    ours = live(tokenizer, model, as_lm_eval=True)
    documents = asked("loglikelihood_rolling", [(text,) for text in DOCUMENTS])
    expected = theirs.loglikelihood_rolling(documents, disable_tqdm=True)
    assert ours.loglikelihood_rolling(documents) == pytest.approx(expected, rel=1e-5)
    answers = [score for score, _ in ours.loglikelihood(asked("loglikelihood", PAIRS))]
    expected = theirs.loglikelihood(asked("loglikelihood", PAIRS), disable_tqdm=True)
    assert answers == pytest.approx([score for score, _ in expected], rel=1e-5)
    prompts = asked("generate_until", [(text, {"until": ["q"], "max_gen_toks": 5}) for text in DOCUMENTS])
    assert ours.generate_until(prompts) == theirs.generate_until(prompts, disable_tqdm=True)


def test_written_answers_follow_a_prompt_that_begins_once_and_does_not_end(kind, model):
    """Oracle: the likeliest next word, one at a time, from the prompt's words by hand."""
    tokenizer = made(kind)
    prompts = [("river stone", {"until": ["q"], "max_gen_toks": 3}), ("<s> river", {"until": ["q"], "max_gen_toks": 3})]
    found = live(tokenizer, model).generate_until(asked("generate_until", prompts))
    for (text, _), written in zip(prompts, found, strict=True):
        before, tokens = numbers(*KINDS[kind][0]), numbers(*text.split())
        tokens = tokens if tokens[: len(before)] == before else before + tokens
        for _ in range(3):
            with torch.no_grad():
                tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        said = tokenizer.decode(tokens[-3:], skip_special_tokens=True)
        assert said.startswith(written.strip()) and (written or not said)


def test_nothing_changes_where_a_tokenizer_puts_nothing_around(tokenizer):
    """The tokenizer of our own models: windows are lm-eval's, and so are keys of what was scored before."""
    ours, theirs = LiveModel(tokenizer, 24), LiveModel(tokenizer, 24, as_lm_eval=True)
    text = "the red fox sees twelve small birds " * 9
    for kind, arguments in {"loglikelihood_rolling": (text,), "loglikelihood": (text, " and counts")}.items():
        assert ours.windows(kind, arguments) == theirs.windows(kind, arguments)
    assert ours.texts.facts == theirs.texts.facts == []
    heldout = SimpleNamespace(families={"a": "general"}, heldout={"a": [text]})
    keys = {Suite.build(["heldout"], tokenizer, heldout=heldout, as_lm_eval=way).key for way in (False, True)}
    assert len(keys) == 1


def test_the_key_changes_where_tokens_do():
    heldout = SimpleNamespace(families={"a": "general"}, heldout={"a": DOCUMENTS})
    for kind in ("bos", "bos and eos", "eos"):
        how = {"heldout": heldout, "context": 16}
        keys = {Suite.build(["heldout"], made(kind), as_lm_eval=way, **how).key for way in (False, True)}
        assert len(keys) == 2, kind


def test_what_stands_around_is_found_by_encoding_and_refused_where_it_cannot_be():
    for kind, (before, behind, *_) in KINDS.items():
        assert Once(made(kind)).around == (numbers(*before), numbers(*behind))
        assert AsLmEval(made(kind)).around == Once(made(kind)).around
    shifting = made("bos")
    shifting.encode = lambda text, add_special_tokens=True: [len(text)] if add_special_tokens else [1, 2]
    with pytest.raises(Refusal, match="what the tokenizer puts around a text cannot be told"):
        _ = Once(shifting).around


def test_texts_without_tokens_and_contexts_without_room_are_refused():
    with pytest.raises(Refusal, match=r"the document ' ' has 0 tokens, .* leave it out"):
        LiveModel(made("bos"), 8).windows("loglikelihood_rolling", (" ",))
    with pytest.raises(Refusal, match="2 stand before it, context is 1; raise `context`"):
        LiveModel(made("two before"), 1).windows("loglikelihood_rolling", ("river",))
    bare = PreTrainedTokenizerFast(tokenizer_object=made("nothing").backend_tokenizer)
    with pytest.raises(Refusal, match="neither a bos nor an eos"):
        LiveModel(bare, 8).windows("loglikelihood_rolling", ("river",))
    without = PreTrainedTokenizerFast(tokenizer_object=made("another than bos").backend_tokenizer)
    assert LiveModel(without, 8).windows("loglikelihood_rolling", ("river",)) == [((3, 4), 1)]


def test_the_case_of_bos_given_twice(shared):
    folder = shared / "cases" / "bos-twice" / "news"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    text = "river stone market letter garden"
    windows = LiveModel(tokenizer, 32).windows("loglikelihood_rolling", ("river stone market",))
    assert windows == [((0, 3, 4, 5), 3)]
    heldout = SimpleNamespace(families={"text": "text"}, heldout={"text": [text]})
    build = {"heldout": heldout, "context": 32}
    found = [Suite.build(["heldout"], tokenizer, as_lm_eval=way, **build).measure(model) for way in (False, True)]
    assert [score["heldout_text"] for score in found] == pytest.approx([0.699, 0.837], abs=0.0006)
    [theirs] = HFLM(model, tokenizer=tokenizer, max_length=32).loglikelihood_rolling(
        asked("loglikelihood_rolling", [(text,)]), disable_tqdm=True
    )
    assert found[1]["heldout_text"] == pytest.approx(-theirs / math.log(2) / len(text), rel=1e-6)
