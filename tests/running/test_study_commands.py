"""`demix-nb study`: what a study holds and what notebooks will show; a first file by looking, nothing guessed."""

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from fixtures_models import ARCHITECTURES, family
from transformers import AutoModelForCausalLM

from demix_nb import __main__, door, studyfile
from demix_nb.running import holdings, runner
from demix_nb.running.holdings import STEPS, Holdings

MIXTURES = "mixture,law,news\nr1,0.5,0.5\nr2,0.25,0.75\nr3,1,0\nr4,0,1\n"
SCORES = "mixture,x_loss,y_loss\nr1,1,2\nr2,3,4\nr3,5,6\nr4,7,8\n"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A base, two components, four references and a replicate, all of one architecture."""
    folder = tmp_path_factory.mktemp("checkpoints")
    names = ("law", "news", "r1", "r2", "r3", "r4", "again")
    family(folder, ARCHITECTURES["llama"](), names=names)
    for name in names[2:6]:
        (folder / "refs").mkdir(exist_ok=True)
        shutil.move(folder / name, folder / "refs" / name)
    (folder / "refs_seed2").mkdir()
    shutil.move(folder / "again", folder / "refs_seed2" / "r1")
    return folder


@pytest.fixture
def ours(checkpoints, tmp_path):
    """A copy of these with held-out text and a table of the references' mixtures."""
    shutil.copytree(checkpoints, tmp_path / "team")
    (tmp_path / "team" / "text").mkdir()
    for name in ("law", "news"):
        (tmp_path / "team" / "text" / f"{name}.txt").write_text("w1 w2 w3")
    (tmp_path / "team" / "refs.csv").write_text(MIXTURES)
    return tmp_path / "team"


def tables(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in ({"mixtures": MIXTURES, "scores": SCORES} | files).items():
        (folder / f"{name}.csv").write_text(content)
    return folder


def study(capfd, *arguments: object) -> tuple[int, str]:
    """Return the status of `demix-nb study …` and what it printed."""
    status = __main__.main(["study", *map(str, arguments)])
    shown = capfd.readouterr()
    return status, shown.out + shown.err


def refused(capfd, *arguments: object) -> str:
    status, told = study(capfd, *arguments)
    assert status == 2 and told.startswith("demix-nb: ") and told.count("\n") == 1, told
    return told


def test_the_schema_is_printed(capfd):
    status, told = study(capfd, "--schema")
    assert status == 0 and json.loads(told) == studyfile.schema()
    assert "check" in study(capfd)[1] and "init" in study(capfd)[1]


# --- what a study holds


def test_all_of_a_study_is_told_in_eighty_columns(ours, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert study(capfd, "init", ours)[0] == 0
    content = yaml.safe_load((ours / "study.yaml").read_text())
    content["candidates"]["law"] |= {"family": "legal", "tokens": 5000}
    content |= {"general": "news", "beta": 0.5, "region": {"upper": {"law": 0.25}}, "window": 16}
    content["tasks"].append({"arc_easy_bpb": {"family": "legal", "limit": 7, "target": False}})
    (ours / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    status, told = study(capfd, "check", ours / "study.yaml")
    assert status == 0 and max(map(len, told.splitlines())) <= 80
    size = AutoModelForCausalLM.from_pretrained(ours / "law").num_parameters()
    lines = [" ".join(line.split()) for line in told.splitlines()]
    for wanted in ("law legal 5,000 law", f"components 2 × llama, {size:,} parameters, float32", "tokenizer base",
                   "references 4 as models, 1 with a second seed", "region law ≤ 0.25", "results in run",
                   "recipes 0.5 of the candidates, the rest news", "heldout a target text of 2 candidates",
                   "arc_easy_bpb reported family legal, limit 7", "lacks tokens of every candidate"):  # fmt: skip
        assert any(line.startswith(wanted) for line in lines), (wanted, told)
    assert re.search(r"models +opened in float32 on \w+, 16 tokens at once", told)


def test_a_study_of_tables_is_told(tmp_path, capfd):
    folder = tables(tmp_path / "runs")
    (folder / "families.yml").write_text("law: legal\n")
    assert study(capfd, "init", folder)[0] == 0
    assert studyfile.read(folder / "study.yaml").families == {"law": "legal", "news": "news"}
    status, told = study(capfd, "check", folder / "study.yaml")
    assert status == 0 and re.search(r"x_loss +a target +lower is better", told)
    assert "4 scored mixtures" in told and "nothing to merge" in told and "component " not in told


def test_check_refuses_as_the_run_would(tmp_path, capfd):
    (tmp_path / "text").mkdir()
    for name in ("law", "news"):
        (tmp_path / "text" / f"{name}.txt").write_text("some words")
    (tmp_path / "a.yaml").write_text("training: {corpora: text, hiden: 3}\n")
    assert "'hiden'" in refused(capfd, "check", tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("training: {corpora: text, hidden: 0}\ngeneral: law\nbeta: 1\n")
    assert "hidden" in refused(capfd, "check", tmp_path / "a.yaml")
    assert "no study file" in refused(capfd, "check", tmp_path / "b.yaml")


def test_every_notebook_after_the_first_has_its_row():
    assert list(STEPS) == [name for name in runner.STORY if name[:2] not in ("00", "01")]


SHOWN = {  # what there is, step, what is said of it
    "nothing to validate, no references; notebook 05 proposes": ("03_proxy_fidelity", {"components": 2}),
    "too few references for a verdict, 3 of 4": ("03_proxy_fidelity", {"components": 2, "references": 3}),
    "9 references; no second seed": ("03_proxy_fidelity", {"components": 2, "references": 9}),
    "9 references; noise of 4 second": ("03_proxy_fidelity", {"components": 2, "references": 9, "replicates": 4}),
    "references are trained": ("03_proxy_fidelity", {"components": 2, "trained": True}),
    "linear merges alone: no base": ("02_merging", {"components": 2}),
    "cosines; no loss barrier": ("02_merging", {"components": 2, "base": True}),
    "512 runs, judged on a third held out": ("04_regression", {"runs": 512}),
    "judged on the references": ("04_regression", {"components": 2, "references": 4}),
    "evidence: none; no natural": ("05_search", {"components": 2, "references": 3}),
    "evidence: references": ("05_search", {"components": 2, "references": 4, "tokens": True}),
    "train it, and name it among": ("07_mixture_quality", {"components": 2}),
    "no live model": ("08_playground", {"runs": 512}),
}


@pytest.mark.parametrize(("said", "case"), SHOWN.items(), ids=SHOWN)
def test_what_a_notebook_will_show_follows_from_what_there_is(said, case):
    step, there = case
    assert said in STEPS[step](Holdings(**there))


# --- a first file


def test_a_team_s_folder_becomes_a_study(ours, capfd):
    status, told = study(capfd, "init", ours)
    file = door.open_study(ours / "study.yaml")
    assert status == 0 and "2 components, base, text, mixtures" in told and "demix-nb study check" in told
    assert file.folders == {"law": ours / "law", "news": ours / "news"} and file.base == ours / "base"
    assert dict(file.asked)["heldout"].text == ours / "text"
    assert file.references.checkpoints == ours / "refs" and file.references.replicates == ours / "refs_seed2"
    held = holdings.Given.open(ours / "study.yaml")
    assert Holdings.of(held) == Holdings(2, False, True, 2, 0, 4, 1, False, "plain mixtures")
    comments = [line for line in (ours / "study.yaml").read_text().splitlines() if line.startswith("# ")]
    assert [line[2:].partition(":")[0] for line in comments] == ["tokens", "family", "run"]


def test_a_file_that_is_there_stays(ours, capfd):
    (ours / "study.yaml").write_text("mine")
    assert "is there already" in refused(capfd, "init", ours)
    assert (ours / "study.yaml").read_text() == "mine"
    assert study(capfd, "init", ours, "-o", ours.parent / "other.yaml")[0] == 0
    assert door.open_study(ours.parent / "other.yaml").folders["law"] == ours / "law"


def test_references_may_be_scores(ours, capfd):
    shutil.rmtree(ours / "refs")
    (ours / "scores.csv").write_text("mixture,heldout_law,heldout_news\nr1,1,2\nr2,3,4\nr3,5,6\nr4,7,8\n")
    assert study(capfd, "init", ours)[0] == 0
    file = door.open_study(ours / "study.yaml")
    assert (file.references.mixtures, file.references.scores) == (ours / "refs.csv", ours / "scores.csv")
    assert file.proxies is None


def test_references_without_their_mixtures_are_asked_for(ours, capfd):
    (ours / "refs.csv").unlink()
    status, told = study(capfd, "init", ours)
    assert status == 0 and "references: refs holds checkpoints; give the table of their mixtures" in told.replace(
        f"{ours}/", ""
    )
    assert door.open_study(ours / "study.yaml").references is None


def test_names_before_a_candidate_s_are_left_out(checkpoints, tmp_path, capfd):
    for name in ("base", "law", "news"):
        shutil.copytree(checkpoints / name, tmp_path / "models" / (name if name == "base" else f"component-{name}"))
    assert study(capfd, "init", tmp_path)[0] == 0
    file = studyfile.read(tmp_path / "study.yaml")
    assert file.folders["law"] == tmp_path / "models/component-law" and file.base == tmp_path / "models/base"


def test_a_base_is_known_by_its_place_or_its_name(checkpoints, tmp_path, capfd):
    for place, kept in (("apart", "start/init"), ("beside", "parts/init")):
        root = tmp_path / place
        shutil.copytree(checkpoints / "base", root / kept)
        for name in ("law", "news"):
            shutil.copytree(checkpoints / name, root / "parts" / f"on-{name}")
        assert study(capfd, "init", root)[0] == 0
        file = studyfile.read(root / "study.yaml")
        assert file.base == root / kept and list(file.candidates) == ["on-law", "on-news"]


def test_two_families_of_components_are_asked_back(checkpoints, tmp_path, capfd):
    for size in ("small", "large"):
        for name in ("law", "news"):
            shutil.copytree(checkpoints / name, tmp_path / size / name)
    told = refused(capfd, "init", tmp_path)
    assert "small" in told and "large" in told and "--components" in told
    assert not (tmp_path / "study.yaml").exists()
    base = tmp_path / "small" / "law"
    assert study(capfd, "init", tmp_path, "--components", tmp_path / "large", "--base", base)[0] == 0
    file = studyfile.read(tmp_path / "study.yaml")
    assert set(file.folders.values()) == {tmp_path / "large/law", tmp_path / "large/news"} and file.base == base


def test_half_checkpoints_and_adapters_are_named(ours, capfd):
    shutil.copytree(ours / "law", ours / "half", ignore=shutil.ignore_patterns("*.safetensors"))
    (ours / "lora").mkdir()
    (ours / "lora" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    status, told = study(capfd, "init", ours)
    assert status == 0 and re.search(r"left out: .*half is no checkpoint.*\nleft out: .*lora holds a LoRA", told)
    assert list(studyfile.read(ours / "study.yaml").candidates) == ["law", "news"]


def test_text_alone_is_to_be_trained_on(tmp_path, capfd):
    for name in ("no", "2023", "general"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "a.jsonl").write_text('{"text": "words"}\n')
    (tmp_path / "data" / "families.yml").write_text("no: math\n2023: math\ngeneral: general\n")
    assert study(capfd, "init", tmp_path)[0] == 0
    file = door.open_study(tmp_path / "study.yaml")
    assert file.training == {"corpora": f"{tmp_path}/data", "families": f"{tmp_path}/data/families.yml"}
    assert "will show" in study(capfd, "check", tmp_path / "study.yaml")[1]


def test_a_direction_that_names_do_not_tell_is_asked_for(tmp_path, capfd):
    folder = tables(tmp_path / "runs", scores=SCORES.replace("x_loss", "oddity"))
    status, told = study(capfd, "init", folder)
    assert status == 0 and "higher_is_better: true or false, of 'oddity'" in told
    assert "'oddity'" in refused(capfd, "check", folder / "study.yaml")
    (folder / "study.yaml").unlink()
    assert study(capfd, "init", folder, "--higher-is-better")[0] == 0
    assert door.open_study(folder / "study.yaml").proxies.higher_is_better is True


def test_results_of_another_study_are_passed_over(tmp_path, capfd):
    folder = tables(tmp_path / "runs")
    tables(folder / "run", later=SCORES)
    (folder / "run" / "study.yaml").write_text("proxies: {mixtures: mixtures.csv, scores: scores.csv}\n")
    assert study(capfd, "init", folder)[0] == 0
    assert studyfile.read(folder / "study.yaml").proxies.scores == folder / "scores.csv"


def test_several_pairs_of_tables_are_asked_back(tmp_path, capfd):
    folder = tables(tmp_path / "runs", later=SCORES.replace("1,2", "2,1"))
    told = refused(capfd, "init", folder)
    assert "mixtures.csv with later.csv" in told and "--scores" in told
    assert study(capfd, "init", folder, "--scores", folder / "later.csv")[0] == 0
    assert door.open_study(folder / "study.yaml").proxies.scores == folder / "later.csv"


@pytest.mark.parametrize("asked", [["{tmp}/nix"], ["{tmp}"], ["{tmp}", "--text", "{tmp}/nix"]])
def test_where_nothing_is_nothing_is_written(tmp_path, capfd, asked):
    refused(capfd, "init", *(part.format(tmp=tmp_path) for part in asked))
    assert list(tmp_path.iterdir()) == []


def test_public_data_and_cases(shared, tmp_path, capfd):
    told = refused(capfd, "init", shared / "regmix", "-o", tmp_path / "r.yaml")
    assert "train_mixture_1m.csv with train_pile_loss_1m.csv" in told and "--mixtures" in told
    pair = ["--mixtures", shared / "regmix/train_mixture_1m.csv", "--scores", shared / "regmix/train_pile_loss_1m.csv"]
    assert study(capfd, "init", shared / "regmix", "-o", tmp_path / "r.yaml", *pair)[0] == 0
    assert len(door.open_study(tmp_path / "r.yaml").candidates) == 17
    good = shared / "cases/good-components"
    assert study(capfd, "init", good, "-o", tmp_path / "c.yaml")[0] == 0
    file = studyfile.read(tmp_path / "c.yaml")
    assert list(file.candidates) == ["law", "news"] and file.base == (good / "base").resolve()
    assert (
        study(capfd, "init", shared / "tables/olmix_dclm_30m", "-o", tmp_path / "o.yaml", "--lower-is-better")[0] == 0
    )
    assert len(door.open_study(tmp_path / "o.yaml").candidates) > 20
    assert "LoRA" in refused(capfd, "init", shared / "cases/adapter-only", "-o", tmp_path / "a.yaml")
