"""Scores in any program's file are the same scores; what could be read in two ways is asked back, by name."""

import io
import json

import pandas as pd
import pytest

from demix_nb import reading, scoresheets, tasksheets
from demix_nb.store import Refusal

SHARES = pd.DataFrame({"web": [0.25, 0.5, 1.0], "code": [0.75, 0.5, 0.0]}, pd.Index(list("abc"), name="mixture"))
SCORES = pd.DataFrame({"web_loss": [2.0, 1.5, 1.75], "gsm_acc": [0.5, 0.25, 0.125]}, SHARES.index)


@pytest.fixture
def mixtures(tmp_path):
    SHARES.to_csv(tmp_path / "mixtures.csv")
    return tmp_path / "mixtures.csv"


@pytest.fixture
def put(tmp_path):
    def write(content, name="scores.csv"):
        (tmp_path / name).write_text(content)
        return tmp_path / name

    return write


def long(table=SCORES, columns=("run", "task", "value")):
    return table.rename_axis(columns="item").stack().rename("value").reset_index().set_axis(list(columns), axis=1)


def exported():
    """SCORES as Weights & Biases exports runs: what it knows of them, settings and other numbers stand beside."""
    beside = {"State": "finished", "Runtime": 100, "lr": [0.1, 0.2, 0.3], "optimizer": "adamw", "_step": 500}
    return SCORES.assign(**beside).rename_axis("Name").to_csv()


WRITTEN = {
    "wide": SCORES.to_csv(),
    "long": long().to_csv(index=False),
    "long, other words": long(columns=("model", "Metric", "Score")).sample(frac=1, random_state=0).to_csv(index=False),
    "long, numbered": long().to_csv(),
    "export": exported(),
    "export, by program": pd.read_csv(io.StringIO(exported())).rename(columns={"Name": "name"}).to_csv(),
    "OLMix": SCORES.reset_index(names="run").assign(name="swarm", index=[5, 6, 7]).to_csv(),
    "a row again": SCORES.to_csv() + "b,1.50,.25\n",
    "a line again": long().to_csv(index=False) + "b,gsm_acc,0.250\n",
}


@pytest.mark.parametrize("way", WRITTEN)
def test_any_file_of_scores_is_read_to_the_same_values(mixtures, put, way):
    read = reading.scored(mixtures, put(WRITTEN[way]), asked=["web_loss", "gsm_acc"])
    pd.testing.assert_frame_equal(read.scores, SCORES, check_names=False)
    assert read.tasks["higher_is_better"].to_dict() == {"web_loss": False, "gsm_acc": True}
    assert len(read.notes) == way.endswith("again")


def test_what_is_not_asked_for_is_left_out_unread(mixtures, put):
    holes = SCORES.assign(gsm_acc="n/a").to_csv()
    assert list(reading.scored(mixtures, put(holes), asked=["web_loss"]).scores) == ["web_loss"]
    tasks = put("task,family,unit,higher_is_better\nweb_loss,web,nats,no\n", "tasks.csv")
    assert reading.scored(mixtures, put(holes), tasks, asked=["web_loss"]).tasks["family"].tolist() == ["web"]
    assert reading.scored(mixtures, put(exported()), tasks).tasks["family"].tolist() == ["web"]  # settings are left out
    with pytest.raises(Refusal, match=r"tasks.csv: no row for task 'gsm_acc'"):
        reading.scored(mixtures, put(holes), tasks, asked=["gsm_acc"])


WRONG = {
    "unknown task": (SCORES.to_csv(), ["web_los"], "no scores of task 'web_los'; did you mean 'web_loss'"),
    "missing mixture": (SCORES[:2].to_csv(), None, "1 rows have no partner among the mixtures or scores, first 'c'"),
    "not a number": (SCORES.assign(gsm_acc="nan").to_csv(), None, "row 'a', column 'gsm_acc' holds 'nan'"),
    "missing cell": (long()[:-1].to_csv(index=False), None, "row 'c', column 'gsm_acc' holds nothing"),
    "row again": (SCORES.to_csv() + "b,1.5,0.3", None, "row 'b' comes twice, with 0.25 and 0.3 in 'gsm_acc'"),
    "line again": (long().to_csv(index=False) + "b,gsm_acc,", None, "row 'b' comes twice, with 0.25 and nothing in"),
    "no direction": (SCORES.add_suffix("_x").to_csv(), None, "'web_loss_x' does not tell whether higher is better"),
    "settings": (exported(), None, "name the tasks that count, .*: lr, web_loss, gsm_acc"),
    "YAML": ("a: 1", None, "is no table of scores"),
}


@pytest.mark.parametrize(("content", "asked", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_scores_is_refused_by_name(mixtures, put, content, asked, message):
    with pytest.raises(Refusal, match=message):
        reading.scored(mixtures, put(content, "scores.yaml" if message == "is no table of scores" else "scores.csv"),
                       asked=asked)  # fmt: skip


def test_an_export_whose_numbers_all_tell_what_they_are_needs_no_list(mixtures, put):
    plain = pd.read_csv(put(exported()), index_col=0).drop(columns="lr").to_csv()
    pd.testing.assert_frame_equal(reading.scored(mixtures, put(plain)).scores, SCORES, check_names=False)


# --- directions

KNOWN = {
    False: ["eval/code/bpb", "metric/the_pile_arxiv_val_loss", "Valid-PPL", "word_perplexity", "bits_per_byte", "nll"],
    True: ["gsm8k:em", "humaneval_pass1", "mbpp/pass@10", "arc_acc_norm", "Accuracy", "squad.f1", "exact_match"],
    None: ["arc_challenge:rc::olmes", "glossy", "lambada", "acc_code", "spass"],
}


@pytest.mark.parametrize(("higher", "names"), KNOWN.items())
def test_the_last_word_of_a_name_tells_its_direction(higher, names):
    assert {tasksheets.direction(name) for name in names} == {higher}


def test_a_direction_told_comes_before_one_read(mixtures, put):
    scores = put(SCORES.assign(odd=1.0).to_csv())
    assert reading.scored(mixtures, scores, higher_is_better=True).tasks["higher_is_better"].all()
    read = reading.scored(mixtures, scores, higher_is_better={"odd": False, "web_loss": True})
    assert read.tasks["higher_is_better"].to_dict() == {"web_loss": True, "gsm_acc": True, "odd": False}
    with pytest.raises(Refusal, match="higher_is_better names 'od', which has no scores; did you mean 'odd'"):
        reading.scored(mixtures, scores, higher_is_better={"od": False})


# --- lm-eval


def results(tasks, model, **more):
    """A file of results as lm-eval writes it: `tasks`: task → metric,filter → value."""
    told = {
        task: {"alias": task, "sample_len": 9, "acc_stderr,none": "N/A", **values} for task, values in tasks.items()
    }
    return json.dumps({"results": told, "model_name": model} | more)


def written(folder, name, content):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content)


ONE = {mixture: {"web": {"bpb,none": row["web_loss"]}, "gsm": {"acc,none": row["gsm_acc"]}}
       for mixture, row in SCORES.iterrows()}  # fmt: skip
LAYOUTS = {  # run → the file and its model, as people's scripts and lm-eval leave them
    "a folder per run": "out/{0}/results_2025-01-02T03-04-05.json ckpt/step9",
    "a folder per run and model": "out/{0}/ckpt__step9/results_2025.json ckpt/step9",
    "a folder per model": "out/ckpt__{0}/results_2025.json ckpt/{0}",
    "a model inside a run": "out/x/results_{0}.json ckpt/{0}/step9",
    "a file per run": "out/results_{0}.json ckpt",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_results_of_lm_eval_are_read_by_run(mixtures, tmp_path, layout):
    for mixture, tasks in ONE.items():
        name, model = layout.format(mixture).split()
        written(tmp_path, name, results(tasks, model))
    read = reading.scored(mixtures, tmp_path / "out")
    pd.testing.assert_frame_equal(read.scores, SCORES.set_axis(["web", "gsm"], axis=1), check_names=False)
    assert read.tasks["higher_is_better"].to_dict() == {"web": False, "gsm": True}  # the metrics tell


def test_a_file_of_results_is_a_run(tmp_path, mixtures):
    written(tmp_path, "a/results_1.json", results(ONE["a"], "x"))
    sheet = scoresheets.read(tmp_path / "a" / "results_1.json", ["a"])
    assert sheet.scores(["gsm"])[0].loc["a", "gsm"] == 0.5
    with pytest.raises(Refusal, match="2 rows have no partner"):
        reading.scored(mixtures, tmp_path / "a" / "results_1.json")


def test_what_lm_eval_says_of_directions_comes_before_names(mixtures, tmp_path):
    for mixture, row in SCORES.iterrows():
        told = {"higher_is_better": {"web": {"odd": False}, "gsm": {"acc": None}}}
        tasks = {"web": {"odd,none": row["web_loss"]}, "gsm": {"acc,none": 0.5}}
        written(tmp_path, f"out/{mixture}/results.json", results(tasks, "m", **told))
    assert reading.scored(mixtures, tmp_path / "out").tasks["higher_is_better"].to_dict() == {"web": False, "gsm": True}


def test_several_metrics_filters_and_groups_are_asked_back(mixtures, tmp_path):
    values = {"arc": {"acc,none": 0.1, "acc_norm,none": 0.2}, "web": {"bpb,none": 1.0},
              "gsm": {"exact_match,strict": 0.3, "exact_match,flexible": 0.4}}  # fmt: skip
    for mixture in SHARES.index:
        written(tmp_path, f"out/{mixture}/results.json", results(values, "m"))
    with pytest.raises(
        Refusal, match=r"name the tasks that count.*: arc/acc, arc/acc_norm, web, gsm/exact_match,strict"
    ):
        reading.scored(mixtures, tmp_path / "out")
    read = reading.scored(mixtures, tmp_path / "out", asked=["arc/acc_norm", "gsm/exact_match,flexible", "web"])
    assert read.scores.loc["b"].tolist() == [0.2, 0.4, 1.0]
    assert read.tasks["higher_is_better"].tolist() == [True, True, False]
    with pytest.raises(Refusal, match="no scores of task 'arc'; did you mean 'arc/acc'"):
        reading.scored(mixtures, tmp_path / "out", asked=["arc"])
    mmlu = {name: {"acc,none": 0.5} for name in ("mmlu", "mmlu_law")}
    for mixture in SHARES.index:
        told = results(mmlu, "m", group_subtasks={"mmlu": ["mmlu_law"], "mmlu_law": []})
        written(tmp_path, f"out/{mixture}/results.json", told)
    with pytest.raises(Refusal, match=r"name the tasks that count.*: mmlu, mmlu_law"):
        reading.scored(mixtures, tmp_path / "out")
    assert list(reading.scored(mixtures, tmp_path / "out", asked=["mmlu"]).scores) == ["mmlu"]


def test_runs_of_lm_eval_in_several_files_must_agree(mixtures, tmp_path):
    for mixture, tasks in ONE.items():
        for number, task in enumerate([*tasks, "web"]):
            written(tmp_path, f"out/{mixture}/results_{number}.json", results({task: tasks[task]}, "m"))
    read = reading.scored(mixtures, tmp_path / "out")
    assert read.scores["gsm"].tolist() == SCORES["gsm_acc"].tolist()
    written(tmp_path, "out/b/results_2.json", results({"web": {"bpb,none": 1.25}}, "m"))
    with pytest.raises(Refusal, match=r"out: row 'b' comes twice, with 1.5 and 1.25 in 'web'"):
        reading.scored(mixtures, tmp_path / "out")


WRONG_RESULTS = {
    "two names": (results({}, "b"), "results.json may be of the mixtures 'a' and 'b'"),
    "no results": ("{}", "holds no `results`"),
    "a list": ("[]", "holds no `results`"),
    "no JSON": ("{", "cannot be read"),
    "not measured": (results({"web": {"bpb,none": float("nan")}}, "m"), "row 'a', column 'web' holds 'NaN'"),
}


@pytest.mark.parametrize(("content", "message"), WRONG_RESULTS.values(), ids=WRONG_RESULTS)
def test_results_that_are_none_are_refused(mixtures, tmp_path, content, message):
    for mixture in SHARES.index:
        written(tmp_path, f"out/{mixture}/results.json", content)
    with pytest.raises(Refusal, match=message):
        reading.scored(mixtures, tmp_path / "out")


def test_a_folder_without_results_is_refused(mixtures, tmp_path):
    with pytest.raises(Refusal, match=r"holds no results\*.json"):
        reading.scored(mixtures, tmp_path)


def test_results_by_the_installed_lm_eval_are_read(mixtures, tmp_path):
    """The very writer of lm-eval, with the folders and names it chooses."""
    tracker = pytest.importorskip("lm_eval.loggers").EvaluationTracker
    for mixture, tasks in ONE.items():
        writer = tracker(output_path=str(tmp_path / "out"))
        writer.general_config_tracker.log_experiment_args("hf", f"pretrained=ckpt/{mixture}", "", "", False)
        writer.save_results_aggregated({"results": tasks, "higher_is_better": {"web": {"bpb": False}}})
    read = reading.scored(mixtures, tmp_path / "out")
    pd.testing.assert_frame_equal(read.scores, SCORES.set_axis(["web", "gsm"], axis=1), check_names=False)
