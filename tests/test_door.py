"""The door of a study: whatever cannot be used is refused in one sentence that names it, before anything is loaded."""

import re
import shutil
from pathlib import Path

import pytest
import yaml
from fixtures_models import ARCHITECTURES, SIZES, family
from transformers import AutoModelForCausalLM, LlamaConfig

from demix_nb import DATA, __main__, devices, door, engines, store
from demix_nb.merging.folders import Checkpoint
from demix_nb.running import runner
from demix_nb.running.given import Given
from demix_nb.store import Refusal

MIXTURES = "mixture,a,b\nr1,0.5,0.5\nr2,0.25,0.75\nr3,1,0\n"
SCORES = "mixture,x_loss,y_loss\nr1,1,2\nr2,3,4\nr3,5,6\n"
DROPPED = None  # of a change: the key is left out


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with two components and their base, one of another shape, one with more words, text and tables."""
    folder = tmp_path_factory.mktemp("door")
    family(folder / "ckpt", ARCHITECTURES["llama"](), names=("a", "b", "r1", "r2", "r3"))
    family(folder / "wide", LlamaConfig(**SIZES | {"hidden_size": 32}), names=())
    family(folder / "words", ARCHITECTURES["llama"](), names=("b",), words=60)
    shutil.copytree(folder / "ckpt" / "a", folder / "bare", ignore=shutil.ignore_patterns("config.json"))
    for name in ("r1", "r2", "r3"):
        (folder / "refs").mkdir(exist_ok=True)
        shutil.move(folder / "ckpt" / name, folder / "refs" / name)
    for name in ("a", "b"):
        (folder / "text").mkdir(exist_ok=True)
        (folder / "text" / f"{name}.txt").write_text("w1 w2 w3")
    (folder / "mixtures.csv").write_text(MIXTURES)
    (folder / "scores.csv").write_text(SCORES)
    return folder


@pytest.fixture
def unread(monkeypatch):
    """No weight may be read and no model opened."""

    def opened(*_, **__):
        raise AssertionError("something was loaded")

    monkeypatch.setattr(Checkpoint, "read", opened)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", opened)


def models(**changes):
    """A study of two components that is as it should be, but for the changes."""
    file = {
        "candidates": {"a": {"component": "ckpt/a"}, "b": {"component": "ckpt/b"}},
        "base": "ckpt/base",
        "tasks": [{"heldout": "text"}],
    }
    return {key: value for key, value in (file | changes).items() if value is not DROPPED}


def tables(**changes):
    """A study of tables that is as it should be, but for the changes."""
    return {"proxies": {"mixtures": "mixtures.csv", "scores": "scores.csv"}} | changes


def candidate(**said):
    return {"candidates": {"a": {"component": "ckpt/a"}, "b": {"component": "ckpt/b"} | said}}


def beside(made: Path, name: str, **files: str) -> Path:
    """Return a study file's path beside what was made, with files of its own."""
    for file, content in files.items():
        (made / f"{file}.csv").write_text(content)
    return made / f"{name}.yaml"


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def refused(made: Path, content: dict | str) -> str:
    """Return why a study file is refused; nothing may have been written meanwhile."""
    path = made / "asked.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False))
    before = written(made)
    with pytest.raises(Refusal) as caught:
        door.open_study(path)
    assert written(made) == before
    told = str(caught.value)
    assert "\n" not in told and told.startswith("asked.yaml") and len(told) < 600
    return told


GOOD = {
    "models": models(),
    "models, no base": models(base=DROPPED),
    "models, references": models(
        references={"mixtures": "mixtures.csv", "checkpoints": "refs", "replicates": {"r1": "refs/r2"}}
    ),
    "models, scores of references": models(references={"mixtures": "mixtures.csv", "scores": "heldout.csv"}),
    "tables": tables(),
    "tables, references": tables(references={"mixtures": "mixtures.csv", "scores": "scores.csv"}),
    "to be trained": {"training": {"corpora": "text"}, "general": "a", "beta": 0.5},
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_what_is_as_it_should_be_is_let_in(made, content, unread):
    beside(made, "", heldout="mixture,heldout_a,heldout_b\nr1,1,2\nr2,3,4\nr3,5,6\n")
    (made / "good.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    before = written(made)
    assert list(Given.open(made / "good.yaml").candidates) == ["a", "b"]
    assert written(made) == before


REFUSED = {
    "unknown key": (models(tokeniser="ckpt/base"), r"'tokeniser'.*did you mean 'tokenizer'\?"),
    "unknown key of a candidate": (models(**candidate(famly="x")), r"'famly' in candidates\.b.*'family'"),
    "unknown key of a task": (models(tasks=[{"nine": {"limt": 3}}]), r"'limt' in tasks\.nine.*'limit'"),
    "component without config": (models(**candidate(component="bare")), r"bare.*no config\.json"),
    "component that is nowhere": (models(**candidate(component="nix")), r"nothing at .*nix"),
    "no component": (models(candidates={"a": {"component": "ckpt/a"}, "b": {}}), r"'b' has no component"),
    "one component twice": (models(**candidate(component="ckpt/a")), r"'a' and 'b' are the same folder"),
    "two tokenizers": (models(**candidate(component="words/b")), r"'b' have different tokenizers"),
    "base of another shape": (models(base="wide/base"), r"'\(base\)' disagree on config"),
    "reference of another shape": (
        models(references={"mixtures": "mixtures.csv",
                           "checkpoints": {"r1": "wide/base", "r2": "refs/r2", "r3": "refs/r3"}}),
        r"'reference r1' disagree on config"),
    "tokenizer that is none": (models(tokenizer="text"), r"tokenizer.*text stores none"),
    "β above 1": (models(general="a", beta=1.5), r"beta is '1\.5'; it must be a share"),
    "β below 0": (models(general="a", beta=-0.5), r"beta is '-0\.5'; it must be a share"),
    "β of 0": (models(general="a", beta=0), r"beta is 0"),
    "β alone": (models(beta=0.5), r"beta is 0\.5 without `general`"),
    "general no candidate": (models(general="aa", beta=0.5), r"general names 'aa'.*did you mean 'a'\?"),
    "bound of no candidate": (models(region={"upper": {"c": 0.1}}), r"region\.upper names 'c'"),
    "bound that is no share": (models(region={"upper": {"a": 2}}), r"region\.upper\.a is '2'"),
    "bounds that leave nothing": (
        models(region={"upper": {"a": 0.1, "b": 0.2}}),
        r"upper a 0\.1, upper b 0\.2; loosen one: upper a to 0\.8"),
    "no objective": (models(objective="ranks"), "objective 'ranks' is unknown; write rank, level"),
    "objective that is nowhere": (models(objective="nowhere:utility"), "cannot be had"),
    "negative weight": (models(objective={"a": -1}), r"objective"),
    "guardrails without baseline": (models(guardrails={"a": 0.1}), "held against a baseline; name one"),
    "guardrail that is sure": (models(guardrails={"a": {"probability": 1}}), r"guardrails\.a"),
    "epochs without tokens": (models(region={"max_epochs": 4}, run={"target_tokens": 1e9}), r"'a'.*`tokens`"),
    "baseline off the simplex": (models(run={"baseline": {"a": 0.5, "b": 0.6}}), r"run\.baseline.*1\.1"),
    "natural without tokens": (models(run={"baseline": "natural"}), r"'a' has no `tokens`"),
    "device that is not there": (models(model={"device": "cuda:7"}), r"'cuda:7' is not there"),
    "device misspelt": (models(model={"device": "gpu"}), r"device 'gpu' is unknown; choose auto, cpu"),
    "dtype misspelt": (models(model={"dtype": "bf16"}), r"dtype 'bf16' is unknown; choose float32, bfloat16"),
    "window too long": (models(window=10**6), r"window is 1000000 tokens, the models see"),
    "task that is none": (models(tasks=["arc_easy_bbp"]), r"no task 'arc_easy_bbp'; near names: .*arc_easy_bpb"),
    "task twice": (models(tasks=["nine", {"nine": {"limit": 3}}]), r"'nine' twice"),
    "no task": (models(tasks=DROPPED), r"names no task"),
    "no candidate's text": (models(tasks=[{"heldout": {"a": "text/a.txt", "c": "text/b.txt"}}]), r"'c'"),
    "family without target": (
        models(candidates={"a": {"component": "ckpt/a", "family": "math"}, "b": {"component": "ckpt/b"}},
               tasks=[{"heldout": {"text": "text", "target": False}}, {"nine": {"family": "code"}}]),
        r"family 'math' has no task that steers"),
    "reference off the simplex": (
        models(references={"mixtures": "off.csv", "checkpoints": "refs"}), r"off\.csv.*'r2' sums to 0\.9"),
    "reference without model": (
        models(references={"mixtures": "four.csv", "checkpoints": "refs"}), r"'r4' has no model or scores in .*refs"),
    "reference of another candidate": (
        models(references={"mixtures": "other.csv", "checkpoints": "refs"}), r"other\.csv.*'c'"),
    "reference scores of no task": (
        models(references={"mixtures": "mixtures.csv", "scores": "scores.csv"}), r"scores\.csv.*'x_loss' is no task"),
    "reference without the scores that steer": (
        models(references={"mixtures": "mixtures.csv", "scores": "half.csv"}), r"half\.csv.*'heldout_b'"),
    "reference scores without a member of a tag": (
        models(tasks=["nine"], references={"mixtures": "mixtures.csv", "scores": "nine.csv"}),
        r"nine\.csv.*no scores of 'gsm8k_bpb', which steers"),
    "reference scores by metric": (
        models(tasks=[{"arc_easy_acc": {"metric": ["acc", "acc_norm"]}}],
               references={"mixtures": "mixtures.csv", "scores": "nine.csv"}),
        r"'arc_easy_bpb' is no task of the study.*arc_easy_acc/acc, arc_easy_acc/acc_norm"),
    "reference scores that are none": (
        models(references={"mixtures": "mixtures.csv", "scores": "nan_scores.csv"}), r"nan_scores\.csv.*'r2'.*'nan'"),
    "unknown task of runs": (tables(tasks=["x_los"]), r"'x_los'; did you mean 'x_loss'\?"),
    "runs without a candidate": (
        tables(candidates={"a": {}, "b": {}, "c": {}}, proxies={"mixtures": "amounts.csv", "scores": "scores.csv"}),
        r"amounts\.csv.*candidate 'c'"),
    "runs of a candidate that is none": (tables(candidates={"a": {}, "c": {}}), r"mixtures\.csv.*'b'"),
    "runs without a score": (tables(proxies={"mixtures": "four.csv", "scores": "scores.csv"}), r"scores\.csv.*'r4'"),
    "runs with NaN": (tables(proxies={"mixtures": "mixtures.csv", "scores": "nan.csv"}), r"nan\.csv.*'r2'.*'y_loss'"),
    "rows that disagree": (tables(proxies={"mixtures": "mixtures.csv", "scores": "twice.csv"}), r"twice\.csv.*'r2'"),
    "direction unknown": (
        tables(proxies={"mixtures": "mixtures.csv", "scores": "odd.csv"}), r"'oddity'.*higher_is_better"),
    "direction misspelt": (
        tables(proxies={"mixtures": "mixtures.csv", "scores": "odd.csv", "higher_is_better": "up"}),
        r"proxies\.higher_is_better is 'up'; it must be true or false"),
    "models and tables": (models(**tables()), r"components and proxies"),
    "nothing": ({"window": 32}, r"names no candidate"),
    "training beside a base": ({"base": "base", "training": {"corpora": "text"}}, r"`base` is not given; drop it"),
    "training beside references": (
        {"training": {"corpora": "text"}, "references": {"mixtures": "mixtures.csv", "scores": "scores.csv"}},
        r"`references` is not given; drop it"),
    "direction told twice": (
        tables(proxies={"mixtures": "mixtures.csv", "scores": "scores.csv", "tasks": "odd.csv",
                        "higher_is_better": True}), r"higher_is_better stands beside proxies\.tasks"),
    "references as models and as scores": (
        models(references={"mixtures": "mixtures.csv", "checkpoints": "refs", "scores": "scores.csv"}),
        r"checkpoints and scores; give one"),
    "replicates of tables as models": (
        tables(references={"mixtures": "mixtures.csv", "scores": "scores.csv", "replicates": {"r1": "refs/r1"}}),
        r"replicates are checkpoints, but there are no components"),
    "training of nothing": ({"training": {"corpora": "nix"}}, r"nix"),
    "no mapping": ("- a\n- b\n", r"must map.*it holds a list"),
    "empty": ("", r"holds nothing"),
    "no YAML": ("a: [b", r"cannot be read"),
    "key twice": ("window: 32\nwindow: 64\n", r"'window' stands twice"),
    "a Python tag": ("base: !!python/object/apply:os.system ['touch ran']\n", r"line 1 has the YAML tag .*os\.system"),
}  # fmt: skip

TABLES = {
    "off": "mixture,a,b\nr1,0.5,0.5\nr2,0.25,0.65\nr3,1,0\n",
    "amounts": "mixture,a,b\nr1,10,50\nr2,25,75\nr3,20,10\n",
    "four": f"{MIXTURES}r4,0,1\n",
    "other": "mixture,a,c\nr1,0.5,0.5\nr2,0.25,0.75\nr3,1,0\n",
    "half": "mixture,heldout_a\nr1,1\nr2,3\nr3,5\n",
    "nan": SCORES.replace("3,4", "3,nan"),
    "nan_scores": "mixture,heldout_a,heldout_b\nr1,1,2\nr2,3,nan\nr3,5,6\n",
    "nine": "mixture,arc_easy_bpb\nr1,1\nr2,3\nr3,5\n",
    "twice": f"{SCORES}r2,3,5\n",
    "odd": "mixture,oddity\nr1,1\nr2,2\nr3,3\n",
}


@pytest.mark.parametrize(("content", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_by_name(made, content, why, unread, monkeypatch):
    monkeypatch.chdir(made)
    beside(made, "", **TABLES)
    told = refused(made, content)
    assert re.search(why, told), told
    assert not (made / "ran").exists()


def test_training_is_told_what_notebook_one_takes(made):
    (made / "train.yaml").write_text("training: {corpora: text, hiden: 64}\ngeneral: a\nbeta: 0.5\n")
    with pytest.raises(Refusal, match=r"train\.yaml: training has 'hiden'.*'?hidden"):
        runner.plan([], "smoke", {}, None, Given.open(made / "train.yaml"))
    (made / "train.yaml").write_text("training: {corpora: builtin, hidden: 64}\n")
    opened = Given.open(made / "train.yaml")
    committed = store.read(DATA / "results" / "laptop" / "corpora.csv", "corpora")
    assert opened.candidates == list(committed.index)
    steps = {step.name: step for step in runner.plan([], "smoke", {}, None, opened)}
    assert steps["01_components"].parameters["hidden"] == 64


def test_no_more_workers_than_gpus(made, monkeypatch):
    monkeypatch.setattr(devices, "_gpus", lambda: ["cuda:0", "cuda:1"])
    (made / "gpus.yaml").write_text(yaml.safe_dump(models(model={"device": "cuda"})))
    opened = Given.open(made / "gpus.yaml")
    assert opened.check({"workers": 3}, asked=False) == {"workers": 2}
    with pytest.raises(Refusal, match=r"3 workers do not fit on cuda.*2 GPU"):
        runner.plan(["05"], "smoke", {"workers": "3"}, None, opened)


def test_an_engine_is_asked_before_anything_is_loaded(made, monkeypatch):
    (made / "queue.yaml").write_text(yaml.safe_dump(models(engine={"slurm": {"n_workers": 4, "qeue": "long"}})))
    with pytest.raises(Refusal, match=r"queue.yaml: engine.slurm has no 'qeue'; did you mean 'queue'\?"):
        Given.open(made / "queue.yaml")
    (made / "gpus.yaml").write_text(
        yaml.safe_dump(models(engine={"slurm": {"n_workers": 4}}, model={"device": "cuda"}))
    )
    assert Given.open(made / "gpus.yaml").check({"workers": 2}, asked=True) == {}, "its workers are the queue's"
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        Refusal, match=r"gpus.yaml: engine.slurm needs dask_jobqueue.*pip install 'demix_nb\[cluster\]'"
    ):
        Given.open(made / "gpus.yaml")


def test_a_folder_that_cannot_be_written_to(made, monkeypatch, capfd):
    original = Path.mkdir

    def refused(self, *args, **how):
        if self.name == "locked":  # administrators may write to any real folder, so it is simulated
            raise PermissionError(13, "Permission denied", str(self))
        return original(self, *args, **how)

    monkeypatch.setattr(Path, "mkdir", refused)
    (made / "locked.yaml").write_text(yaml.safe_dump(models()))
    assert door.run_folder(made / "locked.yaml", Given.open(made / "locked.yaml").file) == made / "locked"
    assert __main__.main(["run", "02", "--study", str(made / "locked.yaml"), "--profile", "smoke"]) == 2
    told = capfd.readouterr().err
    assert re.fullmatch(r"demix-nb: cannot write to .*locked: Permission denied; give another folder .*\n", told)
    assert not (made / "locked").exists()


def test_the_run_s_folder_holds_the_study_and_its_candidates(made):
    (made / "kept.yaml").write_text(yaml.safe_dump(tables()))
    file = door.open_study(made / "kept.yaml")
    door.install(file, made / "kept")
    assert door.open_study(made / "kept" / "study.yaml") == file
    table = store.read(made / "kept" / "tables" / "corpora.csv", "corpora")
    assert table["family"].to_dict() == {"a": "a", "b": "b"} and table["tokens"].isna().all()
