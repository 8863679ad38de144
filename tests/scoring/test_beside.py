"""Code beside task files runs in any process: whatever it imports, wherever it lies, as it was when it was read."""

import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
from fixtures_scoring import small_tokenizer, tiny
from transformers import AutoTokenizer

from demix_nb.parallel import fan_out
from demix_nb.scoring import Suite
from demix_nb.sources import Checkpoints, Store
from demix_nb.store import Refusal

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {kind}
doc_to_text: "{{{{text}}}}"
doc_to_target: " {{{{word}}}}"
metric_list: [{{metric: {metric}, aggregation: {aggregation}, higher_is_better: true}}]
metadata: {{version: 1}}
{more}
"""
RESULTS = "process_results: !function utils.results"
BUILT = "import threading\nLOCK = threading.Lock()  # which no pickle holds\n"  # at the top of a module
GENERATION = "generation_kwargs: {until: [q], max_gen_toks: 2}"
CODE = {  # file → its text
    "one/utils.py": f"{BUILT}from utils2 import g\ndef results(doc, answers):\n    return {{'value': g(doc)}}\n",
    "one/utils2.py": "def g(doc):\n    return 1.0\n",
    "two/utils.py": f"{BUILT}from utils2 import g\ndef results(doc, answers):\n    return {{'value': g(doc)}}\n",
    "two/utils2.py": "from utils3 import two\ndef g(doc):\n    return two()\n",
    "two/utils3.py": "def two():\n    return 2.0\n",
    "v3.0 of mine/lm_eval/tasks/three/utils.py": "from .more import three as results\n",
    "v3.0 of mine/lm_eval/tasks/three/more.py": "def three(doc, answers):\n    return {'value': 3.0}\n",
    "four/utils.py": "def results(doc, answers):\n    from helpers.late import four\n    return {'value': four()}\n",
    "four/helpers/late.py": "def four():\n    return 4.0\n",
    "five/utils.py": "import functools\n@functools.lru_cache\ndef cached(n):\n    return 5.0 + n\n"
    "def results(doc, answers):\n    return {'value': 5.0}\ndef last(values):\n    return cached(0)\n",
    "six/utils.py": "def results(doc, answers):\n    return {'value': 6.0}\n",
    "seven/utils.py": "def same(references, predictions, **_):\n    return 7.0\n"
    "def question(doc):\n    return doc['text'] + '?'\n"
    "def first(resps, docs):\n    return [each[0] for each in resps]\n",
    "eight/words.py": "from lm_eval.api.task import ConfigurableTask\nfrom scores import eight\n"
    "class Words(ConfigurableTask):\n    def process_results(self, doc, results):\n        return {'acc': eight}\n"
    "    def __init__(self, config=None):\n        config = dict(config)\n        config.pop('class')\n"
    "        super().__init__(config=config)\n",
    "eight/scores.py": "eight = 8.0\n",
    "nine/metrics.py": "from numbers_of_mine import *\n",
    "nine/numbers_of_mine.py": "def nine(doc, answers):\n    return {'value': 9.0}\n",
}
FILES = {  # task file → what is written into it
    "one/a.yaml": ("one", "loglikelihood", "value", "mean", RESULTS),
    "two/a.yaml": ("two", "loglikelihood", "value", "mean", RESULTS),
    "v3.0 of mine/lm_eval/tasks/three/a.yaml": ("three", "loglikelihood", "value", "mean", RESULTS),
    "four/a.yaml": ("four", "loglikelihood", "value", "mean", RESULTS),
    "five/a.yaml": ("five", "loglikelihood", "value", "!function utils.last", RESULTS),
    "seven/a.yaml": (
        "seven", "generate_until", "!function utils.same", "mean",
        f"doc_to_text: !function utils.question\n{GENERATION}\n"
        "filter_list: [{name: own, filter: [{function: custom, filter_fn: !function utils.first}]}]",
    ),
    "eight/a.yaml": ("eight", "loglikelihood", "acc", "mean", "class: !function words.Words"),
    "nine/a.yaml": ("nine", "loglikelihood", "value", "mean", "process_results: !function metrics.nine"),
}  # fmt: skip
CODE["ten/words.py"] = """
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task

class Words(Task):
    VERSION, OUTPUT_TYPE = 3, "loglikelihood"
    has_training_docs = has_validation_docs = lambda self: False
    has_test_docs = lambda self: True
    download = lambda self, *_args, **_how: None
    test_docs = lambda self: [{"text": "the red", "word": " fox"}, {"text": "twelve", "word": " birds"}]
    doc_to_text = lambda self, doc: doc["text"]
    doc_to_target = lambda self, doc: doc["word"]
    process_results = lambda self, doc, results: {"value": 10.0}
    aggregation = lambda self: {"value": mean}
    higher_is_better = lambda self: {"value": True}

    def construct_requests(self, doc, ctx, metadata, **_how):
        return Instance("loglikelihood", doc, (ctx, doc["word"]), 0, metadata=metadata)
"""
CODE["eleven/utils.py"] = "def at_k(references, predictions, **_):\n    return {'at@1': 11.0, 'at@2': 0.0}\n"
FILES["eleven/a.yaml"] = ("eleven", "generate_until", "!function utils.at_k", "mean", GENERATION)
EXPECTED = {
    name: number for number, name in enumerate("one two three four five six seven eight nine ten eleven".split(), 1)
}


def written(folder: Path, files: dict = FILES, code: dict = CODE) -> Path:
    """A folder of tasks with code beside them, each task in a folder of its own."""
    folder.mkdir(exist_ok=True)
    data = folder.parent / "words.jsonl"
    data.write_text("".join(json.dumps({"text": text, "word": "fox"}) + "\n" for text in ("the red", "twelve small")))
    for name, text in code.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    for name, parts in files.items():
        given = dict(zip(("name", "kind", "metric", "aggregation", "more"), parts, strict=True))
        text = TASK.format(data=data, **given)
        if "doc_to_text: !" in text:
            text = text.replace('doc_to_text: "{{text}}"\n', "")
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All tasks; `six` is a file that includes another, of a folder that is not among those of the tasks."""
    place = tmp_path_factory.mktemp("own") / "tasks"
    written(place)
    base = (place / "one" / "a.yaml").read_text().replace("task: one", "").replace(RESULTS, "")
    (place.parent / "six").mkdir()
    (place / "six" / "utils.py").rename(place.parent / "six" / "utils.py")
    (place.parent / "six" / "base.yaml").write_text(base + RESULTS)
    (place / "ten" / "a.yaml").write_text("task: ten\nclass: !function words.Words\n")
    (place / "six" / "a.yaml").write_text("include: ../../six/base.yaml\ntask: six\n")
    return place


@pytest.fixture(scope="module")
def suite(folder):
    """Built from a relative path, in a folder that is left afterwards."""
    before = Path.cwd()
    os.chdir(folder.parent)
    try:
        return Suite.build([*EXPECTED], small_tokenizer(), include_path="tasks", context=48)
    finally:
        os.chdir(before)


def test_every_sort_of_own_code_runs_in_two_workers_that_stand_elsewhere(suite, tmp_path, monkeypatch):
    """Oracle: what each function returns, by hand; workers start in another folder than the suite was built in."""
    monkeypatch.chdir(tmp_path)
    models = [tiny(small_tokenizer(), seed) for seed in range(3)]
    assert suite.measure(models[0]).to_dict() == EXPECTED
    for scores in fan_out(Suite.measure, [(suite, model) for model in models], n_jobs=2):
        assert scores.to_dict() == EXPECTED


def test_the_case_of_words_same_with_its_direction_and_any_number_of_workers(shared, tmp_path, monkeypatch, cache):
    """Through the store that measures, a model a call; `arc_easy_bpb` of ours beside it."""
    monkeypatch.chdir(shared.parent / "shared")  # the case's data are named from a folder beside
    tasks = shutil.copytree(shared / "cases" / "lm-eval", tmp_path / "tasks")
    recipe = (tasks / "words_same.yaml").read_text()
    (tasks / "words_same.yaml").write_text(
        recipe.replace("  aggregation:", "  higher_is_better: true\n    aggregation:")
    )
    folders = {name: shared / "cases" / "good-components" / name for name in ("base", "law", "news")}
    tokenizer = AutoTokenizer.from_pretrained(folders["news"])
    names = ["words_same", "words_acc", "arc_easy_bpb"]
    suite = Suite.build(names, tokenizer, include_path=tasks, context=32)
    found = [
        Store(tmp_path / f"cache{workers}", n_jobs=workers).scores(Checkpoints(folders), suite) for workers in (1, 2)
    ]
    assert found[0].equals(found[1]) and [*found[0].columns] == names and found[0]["arc_easy_bpb"].nunique() == 3


def test_a_plain_pickle_holds_names_and_no_code(suite):
    held = pickle.dumps(suite)
    assert pickle.loads(held).measure(tiny(small_tokenizer())).to_dict() == EXPECTED
    assert b"which no pickle holds" not in held


def test_folders_do_not_see_each_other_and_leave_no_trace(suite, folder):
    assert not {"utils", "utils2", "utils3", "more", "helpers", "scores"} & sys.modules.keys()
    assert not [*folder.rglob("__pycache__")]


def test_what_the_code_says_is_part_of_the_key_and_where_it_lies_is_not(suite, tmp_path):
    names, how = ["one", "two"], {"tokenizer": small_tokenizer(), "context": 48}
    tasks = written(tmp_path / "tasks")
    key = Suite.build(names, include_path=tasks, **how).key
    (tmp_path / "deeper").mkdir()
    assert Suite.build(names, include_path=written(tmp_path / "deeper" / "other"), **how).key == key
    (tasks / "two" / "utils3.py").write_text("def two():\n    return 3.0\n")
    changed = Suite.build(names, include_path=tasks, **how)
    assert changed.key != key
    assert changed.measure(tiny(small_tokenizer())).to_dict() == {"one": 1, "two": 3}
    recipe = (tasks / "one" / "a.yaml").read_text()
    (tasks / "one" / "a.yaml").write_text(recipe.replace('" {{word}}"', '" {{text}}"'))
    assert Suite.build(names, include_path=tasks, **how).key != changed.key


def test_code_that_changed_since_is_refused_where_it_is_opened_again(tmp_path):
    tasks = written(tmp_path / "tasks")
    held = pickle.dumps(Suite.build(["one"], small_tokenizer(), include_path=tasks, context=48))
    (tasks / "one" / "utils2.py").write_text("def g(doc):\n    return 11.0\n")
    for name in [name for name in sys.modules if "one@" in name]:
        del sys.modules[name]  # as in another process
    with pytest.raises(Refusal, match=r"the code beside the tasks in .*one is not what the suite was built with"):
        pickle.loads(held)


@pytest.mark.parametrize(
    ("code", "said"),
    {
        "import nowhere_at_all\n": "No module named 'nowhere_at_all'",
        "def other(doc, answers):\n    return {}\n": "has no function 'results'",
        "def results(doc, answers)\n": "expected ':'",
        "def results(doc, answers):\n    return doc['absent']\n": "makes no score of an answer",
        "def results(doc, answers):\n    return {'other': 1.0}\n": "lists 'value' first but reports other",
    }.items(),
)
def test_code_that_does_not_work_is_refused_with_its_task(code, said, tmp_path):
    tasks = written(tmp_path / "tasks")
    (tasks / "one" / "utils.py").write_text(code)
    with pytest.raises(Refusal, match="one") as refused:
        Suite.build(["one"], small_tokenizer(), include_path=tasks, context=48)
    assert said in str(refused.value)
