"""The study file: names stay names, places are the file's own, what is written is what is read, faults have a place."""

import json

import jsonschema
import pytest
import yaml

from demix_nb import studyfile
from demix_nb.store import Refusal
from demix_nb.studyfile import StudyFile

WHOLE = """
candidates:
  web: {family: general, tokens: 1.2e12, component: ckpt/web}
  no: {family: math, tokens: 6_0, document_tokens: 900, component: /else/where}
  2023:
  nan: {tokens: 7}
base: ckpt/base
general: web
beta: 0.5
tasks:
  - heldout: {web: text/web.jsonl, no: text/no.jsonl}
  - arc_easy: {family: general, metric: acc_norm, num_fewshot: 5, limit: 1000}
  - gsm8k: {metric: [exact_match, acc], filter: flexible-extract, window: 2048, target: false}
  - nine
model: {dtype: bfloat16}
references: {mixtures: refs.csv, checkpoints: refs, replicates: {r1: refs2/r1}}
region: {upper: {web: 0.8}, max_epochs: 4}
run: {target_tokens: 1.0e12, baseline: natural}
""".replace("6_0", "60")


def read(folder, content: str) -> StudyFile:
    (folder / "study.yaml").write_text(content)
    return studyfile.read(folder / "study.yaml")


def test_what_it_says_is_typed_and_names_stay_names(tmp_path):
    file = read(tmp_path, WHOLE)
    assert list(file.candidates) == ["web", "no", "2023", "nan"]
    assert file.families == {"web": "general", "no": "math", "2023": "2023", "nan": "nan"}
    assert file.candidates["web"].tokens == 1.2e12 and file.candidates["nan"].tokens == 7
    assert file.folders["web"] == tmp_path / "ckpt/web" and str(file.folders["no"]) == "/else/where"
    asked = dict(file.asked)
    assert list(asked) == ["heldout", "arc_easy", "gsm8k", "nine"]
    assert asked["heldout"].text == {name: tmp_path / f"text/{name}.jsonl" for name in ("web", "no")}
    assert asked["arc_easy"].metric == ["acc_norm"] and asked["arc_easy"].num_fewshot == 5
    assert not asked["gsm8k"].target and asked["nine"] == studyfile.Task()
    assert file.references.replicates == {"r1": tmp_path / "refs2/r1"} and file.run.baseline == "natural"


@pytest.mark.parametrize("where", ["study.yaml", "run/study.yaml"])
def test_what_is_written_is_what_is_read(tmp_path, where):
    file = read(tmp_path, WHOLE)
    studyfile.write(file, tmp_path / where)
    assert studyfile.read(tmp_path / where) == file


def test_what_lies_beside_it_may_be_moved_with_it(tmp_path):
    (tmp_path / "first").mkdir()
    studyfile.write(read(tmp_path / "first", WHOLE), tmp_path / "first" / "study.yaml")
    (tmp_path / "first").rename(tmp_path / "second")
    moved = studyfile.read(tmp_path / "second" / "study.yaml")
    assert moved.base == tmp_path / "second/ckpt/base" and str(moved.folders["no"]) == "/else/where"


@pytest.mark.parametrize("empty", ["", "~", "null", '""'])
def test_what_is_left_empty_is_not_said(tmp_path, empty):
    told = f"candidates:\n  a: {empty}\n  b:\nbase: {empty}\nwindow: {empty}\nregion: {empty}\n"
    assert read(tmp_path, told) == read(tmp_path, "candidates: {a: {}, b: {}}\n")


def test_text_to_train_on_lies_beside_the_file(tmp_path):
    file = read(tmp_path, "training: {corpora: text, families: families.yml, hidden: 64}\n")
    assert file.to_train and not file.trained_here
    assert file.training == {"corpora": f"{tmp_path}/text", "families": f"{tmp_path}/families.yml", "hidden": "64"}
    assert read(tmp_path, "training: {corpora: builtin}\n").training == {"corpora": "builtin"}


FAULTS = {
    "tokeniser: x": r"study\.yaml: unknown key 'tokeniser'; did you mean 'tokenizer'\? known: candidates, components",
    "candidates: {a: {famly: x}}": r"unknown key 'famly' in candidates\.a; did you mean 'family'\?",
    "references: {mixture: x}": r"unknown key 'mixture' in references; did you mean 'mixtures'\?",
    "references: {scores: x}": r"references\.mixtures is missing",
    "region: {lower: {a: -1}}": r"region\.lower\.a is '-1'; it must be a share",
    "beta: half": r"beta is 'half'; it must be a number",
    "candidates: {a: {tokens: 0}}": r"candidates\.a\.tokens is '0'; it must be above 0",
    "candidates: {a: {tokens: inf}}": r"candidates\.a\.tokens is 'inf'; it must be a finite number",
    "candidates: [a, b]": r"candidates is a list; it must be a mapping",
    "window: 1": r"window is '1'; it must be at least 2",
    "window: 20.5": r"window is '20\.5'; it must be a whole number",
    "engine: dusk": r"engine is 'dusk'; did you mean 'dask'\? choose processes, dask, slurm",
    "engine: dask": r"engine.dask names no cluster; write its address, as tcp://host:8786, or `local`",
    "engine: {dask: nowhere}": r"engine.dask is 'nowhere'; write an address with its protocol",
    "engine: {slurm: {cores: 8}}": r"engine.slurm has no n_workers; say how many",
    "engine: {pbs: fast}": r"engine.pbs says nothing; write its words",
    "engine: {dask: local, slurm: {}}": r"engine is .*choose processes, dask",
    "tasks: nine": r"tasks is 'nine'; it must be a list",
    "tasks: [{arc_easy: {limt: 3}}]": r"unknown key 'limt' in tasks\.arc_easy; did you mean 'limit'\?",
    "tasks: [{arc_easy: {limit: 0}}]": r"tasks\.arc_easy\.limit is '0'; it must be at least 1",
    "tasks: [{a: {}, b: {}}]": r"an entry of tasks names 'a' and 'b'; begin each with a dash",
    "tasks: [heldout]": r"heldout without text",
    "tasks: [{nine: {text: x}}]": r"tasks\.nine has text, which only heldout has",
    "model: {device: [cpu]}": r"model\.device is a list; it must be text",
}


@pytest.mark.parametrize(("content", "why"), FAULTS.items(), ids=FAULTS)
def test_a_fault_is_told_by_its_place(tmp_path, content, why):
    with pytest.raises(Refusal, match=why) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_tag_is_refused_and_never_followed(tmp_path):
    with pytest.raises(Refusal, match=r"line 2 has the YAML tag .*os\.system.*plain values"):
        read(tmp_path, f"beta: 1\nbase: !!python/object/apply:os.system ['touch {tmp_path}/ran']\n")
    assert not (tmp_path / "ran").exists()


# --- for editors


def typed(value):
    """A file's content as an editor sees it: YAML's own types."""
    return yaml.safe_load(value)


GOOD = {"all of it": WHOLE.replace("no:", '"no":').replace("2023:", '"2023": {}').replace("nan:", '"nan":')}
GOOD |= {
    "a folder": "tasks: [{heldout: text}]",
    "tables": "proxies: {mixtures: a, scores: b}",
    "training": "training: {corpora: x}",
}
BAD = ["tokeniser: x", "beta: 1.5", "candidates: {a: {famly: x}}", "references: {scores: x}", "tasks: nine",
       "tasks: [{nine: {limt: 3}}]", "region: {lower: {a: 2}}", "window: 1", "engine: dusk"]  # fmt: skip


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_the_schema_lets_in_what_is_read(tmp_path, content):
    jsonschema.validate(typed(content.replace("1.2e12", "1.2e+12").replace("1.0e12", "1.0e+12")), studyfile.schema())
    read(tmp_path, content)


@pytest.mark.parametrize("content", BAD)
def test_the_schema_refuses_what_is_refused(tmp_path, content):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(typed(content), studyfile.schema())
    with pytest.raises(Refusal):
        read(tmp_path, content)


def test_the_schema_describes_every_key():
    told = json.loads(studyfile.as_json())
    jsonschema.Draft202012Validator.check_schema(told)
    assert list(told["properties"]) == list(StudyFile.model_fields)
