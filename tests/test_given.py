"""What a study file says of its tables reaches every column that it means."""

import pytest
import yaml
from test_scoresheets import LAYOUTS, ONE, results, written

from demix_nb import allowed, given, studyfile
from demix_nb.store import Refusal

SCORES = "run,arc/acc,arc/acc_norm,gsm_acc,web_loss\na,0.1,0.2,0.3,4\nb,0.2,0.1,0.4,5\nc,0.3,0.3,0.5,6\n"


@pytest.fixture
def read(tmp_path):
    """Return the runs of a study whose tasks are these."""
    (tmp_path / "mixtures.csv").write_text("run,x,y\na,1,0\nb,0.5,0.5\nc,0,1\n")
    (tmp_path / "scores.csv").write_text(SCORES)

    def runs(*asked, **more):
        places = {"mixtures": "mixtures.csv", "scores": "scores.csv"} | more
        content = {"proxies": places, "tasks": list(asked)}
        (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
        return given.runs(studyfile.read(tmp_path / "study.yaml"))

    return runs


def test_all_metrics_of_a_task_are_told_what_is_said_of_it(read):
    said = {"metric": ["acc", "acc_norm"], "family": "school", "target": False, "unit": "acc"}
    tasks = read({"arc": said}, {"gsm_acc": {"unit": "acc"}}, "web_loss").tasks
    assert list(tasks.index) == ["arc/acc", "arc/acc_norm", "gsm_acc", "web_loss"]
    assert tasks["target"].tolist() == [False, False, True, True]
    assert tasks["family"].tolist() == ["school", "school", "gsm_acc", "web_loss"]
    assert tasks["unit"].tolist() == ["acc", "acc", "acc", "score"]


def test_one_metric_may_be_the_column_of_its_task_or_stand_behind_it(read):
    both = read({"arc": {"metric": "acc_norm"}}, {"gsm_acc": {"metric": "acc"}})
    assert list(both.scores) == ["arc/acc_norm", "gsm_acc"] and both.scores.loc["a"].tolist() == [0.2, 0.3]
    assert both.tasks["target"].all() and len(read().tasks) == 4


def test_what_the_task_table_says_is_no_target_may_be_named(read, tmp_path):
    rows = "gsm_acc,g,acc,yes,no\nweb_loss,w,nats,no,yes\narc/acc,a,acc,yes,yes\narc/acc_norm,a,acc,yes,yes\n"
    (tmp_path / "tasks.csv").write_text(f"task,family,unit,higher_is_better,target\n{rows}")
    found = read("gsm_acc", "web_loss", tasks="tasks.csv")
    assert list(found.tasks.index) == ["web_loss"] and found.tasks.loc["web_loss", "unit"] == "nats"


def test_a_direction_of_all_is_for_those_of_which_nobody_tells_one(read, tmp_path):
    (tmp_path / "scores.csv").write_text("run,oddity,web_loss,oddness\na,1,4,2\nb,2,5,1\nc,3,6,3\n")
    found = read(higher_is_better=True).tasks["higher_is_better"].to_dict()
    assert found == {"oddity": True, "web_loss": False, "oddness": True}
    one = read({"oddness": {"higher_is_better": False}}, "oddity", "web_loss", higher_is_better=True)
    assert one.tasks["higher_is_better"].to_dict() == {"oddness": False, "oddity": True, "web_loss": False}


def test_a_merge_of_components_is_a_baseline_by_their_folders(tmp_path):
    merge = "merge_method: linear\nmodels:\n- {model: ckpt/step-a, parameters: {weight: 0.3}}\n"
    merge += "- {model: ckpt/step-b, parameters: {weight: 0.7}}\n"
    (tmp_path / "merge.yaml").write_text(merge)
    parts = {name: {"component": f"ckpt/step-{name}"} for name in "ab"}
    content = {"candidates": parts, "tasks": ["nine"], "run": {"baseline": "merge.yaml"}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content))
    assert allowed.baseline(studyfile.read(tmp_path / "study.yaml")).to_dict() == {"a": 0.3, "b": 0.7}
    (tmp_path / "merge.yaml").write_text(merge.replace("{weight: 0.3}", "3"))
    with pytest.raises(Refusal, match=r"merge\.yaml: `parameters` is '3'; write"):
        allowed.baseline(studyfile.read(tmp_path / "study.yaml"))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_results_of_lm_eval_are_runs_by_the_mixtures_names_those_left_out_too(tmp_path, layout):
    (tmp_path / "mixtures.csv").write_text("run,x,y,gone\na,1,0,0\nb,0.5,0,0.5\nc,0,1,0\n")
    for mixture, tasks in ONE.items():
        name, model = layout.format(mixture).split()
        written(tmp_path, name, results(tasks, model))
    places = {"mixtures": "mixtures.csv", "scores": "out"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"candidates": {"x": {}, "y": {}}, "proxies": places}))
    found = given.runs(studyfile.read(tmp_path / "study.yaml"), ["x", "y"])
    assert found.names == ["a", "c"]
    assert found.scores["web"].to_dict() == {"a": ONE["a"]["web"]["bpb,none"], "c": ONE["c"]["web"]["bpb,none"]}
