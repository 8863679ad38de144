"""What a study file says of its tables reaches every column that it means."""

import pytest
import yaml

from demix_nb import given, studyfile

SCORES = "run,arc/acc,arc/acc_norm,gsm_acc,web_loss\na,0.1,0.2,0.3,4\nb,0.2,0.1,0.4,5\nc,0.3,0.3,0.5,6\n"


@pytest.fixture
def read(tmp_path):
    """Return the runs of a study whose tasks are these."""
    (tmp_path / "mixtures.csv").write_text("run,x,y\na,1,0\nb,0.5,0.5\nc,0,1\n")
    (tmp_path / "scores.csv").write_text(SCORES)

    def runs(*tasks):
        content = {"proxies": {"mixtures": "mixtures.csv", "scores": "scores.csv"}, "tasks": list(tasks)}
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
