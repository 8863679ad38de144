"""A candidate added, split or dropped costs its own component and scores: what is opened and measured is counted."""

import shutil
from collections import Counter

import fixtures_studies as studies
import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from demix_nb import door, reading
from demix_nb.running import holdings
from demix_nb.scoring import Suite
from demix_nb.sources import Checkpoint
from demix_nb.store import Refusal
from demix_nb.study import Study

NAMES = [name for name in studies.CANDIDATES if name != "papers"]  # the seventh comes later
GROUPS = {  # of references: who has a share in them
    "of all": NAMES,
    "without shell": [name for name in NAMES if name != "shell"],
    "without web": [name for name in NAMES if name != "web"],
}


@pytest.fixture(scope="module")
def team(tmp_path_factory):
    """A study of six candidates and nine references, measured; a seventh lies beside it."""
    folder = tmp_path_factory.mktemp("team")
    path = studies.checkpoints(folder, references="models")
    content = yaml.safe_load(path.read_text())
    content["candidates"] = {name: content["candidates"][name] for name in NAMES}
    content["tasks"] = [heldout(NAMES), *content["tasks"][1:]]
    rng = np.random.default_rng(4)
    table = pd.DataFrame(0.0, [f"r{n}" for n in range(9)], NAMES)
    for number, row in enumerate(table.index):
        group = list(GROUPS.values())[number % 3]
        table.loc[row, group] = rng.dirichlet(np.ones(len(group)))
    table.to_csv(folder / "refs.csv", index_label="mixture")
    drawn = [*sorted((folder / "refs").iterdir()), *sorted((folder / "refs_seed2").iterdir())]
    shutil.copytree(drawn[-1], folder / "ckpt" / "verse")
    (folder / "text" / "verse.jsonl").write_text('{"text": "w9 w8 w7 w50 w51 w3"}\n{"text": "w4 w4 w30 w31"}\n')
    for row, name in zip(table.index, range(9), strict=True):
        shutil.copytree(drawn[name], folder / "grown" / row)
    content["references"] = {"mixtures": "refs.csv", "checkpoints": "grown"}
    (folder / "team.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def heldout(names):
    return {"heldout": {name: f"text/{name}.jsonl" for name in names}}


@pytest.fixture
def grown(team, tmp_path, monkeypatch):
    """Open the study with other candidates, on the cache of the first one; everything measured is counted."""
    shutil.copytree(team, tmp_path / "team")
    content = yaml.safe_load((tmp_path / "team" / "team.yaml").read_text())
    counted = Counter()
    opened = Checkpoint.open

    def count(self, dtype, device):
        counted["opened", self.folder.name] += 1
        model = opened(self, dtype, device)
        model.called = self.folder.name
        return model

    def counting(verb):
        original = getattr(Suite, verb)

        def measure(self, model, rows=None):
            for row in rows:
                counted[verb, getattr(model, "called", "merge"), row] += 1
            return original(self, model, rows)

        return measure

    monkeypatch.setattr(Checkpoint, "open", count)
    for verb in ("measure", "logs"):
        monkeypatch.setattr(Suite, verb, counting(verb))

    def of(names, **sections):
        candidates = {name: content["candidates"].get(name, {"component": f"ckpt/{name}"}) for name in names}
        changes = {"candidates": candidates, "tasks": [heldout(names), *content["tasks"][1:]]} | sections
        path = tmp_path / "team" / "team.yaml"
        path.write_text(yaml.safe_dump(content | changes, sort_keys=False))
        file = door.open_study(path)
        door.install(file, door.run_folder(path, file))
        counted.clear()
        return Study.open(door.run_folder(path, file), n_jobs=1), counted

    study, _ = of(NAMES)
    everything(study)
    return of


def everything(study):
    """Measure what notebooks 02 to 05 do of models that are stored, and proxies of the references' mixtures."""
    design = study.design(99, rng=np.random.default_rng(0))
    study.measure(study.start)
    references = study.train(design, "reference")
    study.measure(references)
    study.proxy("mixed")(design)
    study.proxy("merged")(design)
    return references


def rows_of(counted, verb, model):
    return {key[2] for key, times in counted.items() if key[:2] == (verb, model) and times}


def test_what_was_measured_is_measured_once(grown):
    study, counted = grown(NAMES)
    everything(study)
    assert not counted


def test_an_added_candidate_costs_its_own_component_and_its_own_rows(grown):
    study, counted = grown([*NAMES, "papers"])
    references = everything(study)
    assert len(references) == 9 and (references.mixtures["papers"] == 0).all()
    assert references.notes == ("no column for 'papers': taken as 0",)
    rows, mixable = set(study.tasks.index), set(study.suite.mixable)
    for name in ["base", *NAMES, *references.folders]:
        assert rows_of(counted, "measure", name) == {"heldout_papers"}, name
    assert rows_of(counted, "measure", "papers") == rows
    assert rows_of(counted, "measure", "merge") == {"heldout_papers"}
    assert rows_of(counted, "logs", "papers") == mixable and "heldout_papers" in mixable
    for name in NAMES:
        assert rows_of(counted, "logs", name) == {"heldout_papers"}, name
    opened = {key[1]: times for key, times in counted.items() if key[0] == "opened"}
    assert opened == {"base": 1} | dict.fromkeys(study.candidates, 2) | dict.fromkeys(references.folders, 1)
    assert all(times == (9 if key[1] == "merge" else 1) for key, times in counted.items() if key[0] != "opened")


def test_a_dropped_candidate_costs_nothing_and_what_has_a_share_of_it_is_left_out_and_said(grown, team):
    left = [name for name in NAMES if name != "shell"]
    study, counted = grown(left)
    references = everything(study)
    assert not counted
    before = pd.read_csv(team / "refs.csv", index_col=0)
    kept = before[before["shell"] == 0]
    assert list(references.folders) == list(kept.index) and len(kept) == 3
    assert np.allclose(references.mixtures, kept[left], rtol=0, atol=1e-12)
    assert references.notes == ("'shell' is no candidate any more: 3 mixtures without it kept, 6 with it left out",)


def test_a_split_candidate_costs_its_parts(grown):
    split = ["papers", "verse"]
    names = [*(name for name in NAMES if name != "web"), *split]
    study, counted = grown(names)
    references = everything(study)
    assert len(references) == 3 and (references.mixtures[split] == 0).all(axis=None)
    assert [note.split(":")[0] for note in references.notes] == [
        "no column for 'papers'", "no column for 'verse'", "'web' is no candidate any more"]  # fmt: skip
    new = {f"heldout_{name}" for name in split}
    for name in ["base", *(name for name in names if name not in split), *references.folders]:
        assert rows_of(counted, "measure", name) == new, name


def test_notes_are_told_where_a_study_is_checked(grown, capsys):
    study, _ = grown([name for name in NAMES if name != "shell"])
    console = Console(width=200)
    for part in holdings.told(study.folder.parent / "team.yaml"):
        console.print(part)
    assert "'shell' is no candidate any more: 3 mixtures without it kept, 6 with it left out" in capsys.readouterr().out


def test_scores_of_a_dropped_candidate_s_task_are_passed_over_and_said(grown, team):
    """References known by their scores: those of what is still a task are taken, and every one that steers is there."""
    study, _ = grown(NAMES)
    place = study.folder.parent
    everything(study).mixtures.to_csv(place / "refs.csv", index_label="mixture")
    study.measure(study.brought["reference"]).scores.to_csv(place / "scores.csv", index_label="mixture")
    tables = {"references": {"mixtures": "refs.csv", "scores": "scores.csv"}}
    left = [name for name in NAMES if name != "shell"]
    fewer, counted = grown(left, **tables)
    taken = fewer.measure(fewer.brought["reference"])
    assert not counted and len(taken) == 3 and list(taken.scores) == list(fewer.tasks.index)
    assert fewer.brought["reference"].notes[-1].startswith("scores.csv: 'heldout_shell' is no task of the study")
    with pytest.raises(Refusal, match="no scores of 'heldout_papers', which steers"):
        grown([*NAMES, "papers"], **tables)


def test_mixtures_of_a_yaml_keep_every_digit_as_candidates_come(tmp_path, rng):
    """A proxy is kept under its shares, so a sum that is taken in another order would measure all of them again."""
    names = [f"c{number:02d}" for number in range(20)]
    drawn = pd.DataFrame(rng.dirichlet(np.ones(20), 40), [f"m{n}" for n in range(40)], names)
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(drawn.T.to_dict()))
    more = [*names[:3], "new", *names[3:]]
    before, after = (reading.mixtures(tmp_path / "m.yaml", some, grown=True)[0] for some in (names, more))
    assert np.array_equal(before, after[names])
