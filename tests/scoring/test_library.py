"""Names become tasks: one's own, ours and lm-eval's side by side; what cannot be told apart is refused by name."""

import pytest
from fixtures_scoring import CONTEXT, small_texts, small_tokenizer
from test_beside import TASK, written

from demix_nb.scoring import TASKS, Suite, library
from demix_nb.scoring.library import load_tasks
from demix_nb.store import Refusal

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def tasks(tmp_path):
    """A folder with two tasks, `cats` and `dogs`, of the tag `pets`."""
    folder = written(tmp_path / "tasks", {}, {})
    for name in ("cats", "dogs"):
        (folder / f"{name}.yaml").write_text(task(name, folder))
    return folder


@pytest.fixture
def without_lm_eval(monkeypatch):
    """Fails where lm-eval's own folder of tasks is read."""

    def read():
        raise AssertionError("14,000 files were read")

    monkeypatch.setattr(library, "_lm_eval", read)


def task(name, folder, metric="acc", direction="true", more="tag: pets"):
    data = folder.parent / "words.jsonl"
    text = TASK.format(name=name, data=data, kind="loglikelihood", metric=metric, aggregation="mean", more=more)
    return text.replace(", higher_is_better: true", f", higher_is_better: {direction}" if direction else "")


def build(names, folder, **how):
    return Suite.build(names, small_tokenizer(), include_path=folder, **({"context": CONTEXT} | how)).tasks


@pytest.mark.usefixtures("without_lm_eval")
def test_ours_and_ones_own_side_by_side(tasks):
    found = build(["cats", "arc_easy_bpb", "pets", "heldout"], tasks, heldout=small_texts())
    assert [*found.index] == ["cats", "arc_easy_bpb", "dogs", "heldout_tales", "heldout_sums"]
    alone = build(["arc_easy_bpb"], TASKS)
    assert found.loc["arc_easy_bpb"].equals(alone.loc["arc_easy_bpb"])


@pytest.mark.usefixtures("without_lm_eval")
def test_ones_own_goes_before_ours_but_not_within_our_suites(tasks):
    (tasks / "mine.yaml").write_text(task("arc_easy_minpair", tasks, more="tag: nine"))
    assert build(["arc_easy_minpair"], tasks)["unit"].to_dict() == {"arc_easy_minpair": "acc"}
    assert [*load_tasks(["nine"], tasks)["nine"]] == ["arc_easy_minpair"]  # one's own tag, with what it holds
    (tasks / "mine.yaml").write_text(task("arc_easy_minpair", tasks))
    (tasks / "lm_evals.yaml").write_text(task("hellaswag", tasks))  # before lm-eval's, too, which is not read for it
    assert build(["hellaswag"], tasks)["items"].to_dict() == {"hellaswag": 2}
    ours = load_tasks(["extras_minpair", "arc_easy_minpair"], tasks)
    assert len(ours["extras_minpair"]) == 2
    assert library.source(ours["arc_easy_minpair"]["arc_easy_minpair"]) == str(tasks / "mine.yaml")


@pytest.mark.usefixtures("without_lm_eval")
def test_two_tasks_of_one_name_that_are_both_asked_for_are_refused(tasks):
    (tasks / "mine.yaml").write_text(task("lambada_minpair", tasks))
    with pytest.raises(Refusal, match=r"two different tasks are called 'lambada_minpair', of .*mine\.yaml and "):
        build(["lambada_minpair", "extras_minpair"], tasks)
    (tasks / "mine.yaml").write_text(task("heldout_sums", tasks))
    with pytest.raises(Refusal, match="heldout_sums is a task and the held-out text of a candidate"):
        build(["heldout_sums", "heldout"], tasks, heldout=small_texts())
    (tasks / "mine.yaml").unlink()
    assert [*build(["cats", "pets", "cats"], tasks).index] == ["cats", "dogs"]  # the same task twice is one


@pytest.mark.usefixtures("without_lm_eval")
def test_groups_tags_and_includes_of_ones_own(tasks):
    (tasks / "deep").mkdir()
    (tasks / "deep" / "birds.yaml").write_text("include: ../cats.yaml\ntask: birds\ntag: [fliers, more]\n")
    (tasks / "zoo.yaml").write_text("group: zoo\ntask: [cats, fliers, arc_easy_bpb, {group: inner, task: [dogs]}]\n")
    (tasks / "all.yaml").write_text("group: all\ntask: [zoo]\n")
    found = {name: sorted(held) for name, held in load_tasks(["fliers", "pets", "zoo"], tasks).items()}
    assert found == {
        "fliers": ["birds"],
        "pets": ["cats", "dogs"],
        "zoo": ["arc_easy_bpb", "birds", "cats", "dogs"],
    }


@pytest.mark.usefixtures("without_lm_eval")
@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("deep/again.yaml", "include: ../cats.yaml\n", r"'cats' stands twice, in .*cats\.yaml and in .*again\.yaml"),
        ("again.yaml", "group: cats\ntask: [dogs]\n", r"'cats' stands twice, in .*again\.yaml and in .*cats\.yaml"),
        ("pets.yaml", "include: cats.yaml\ntask: pets\n", r"'pets' is a tag in .*\.yaml and a task in .*pets\.yaml"),
        ("broken.yaml", "task: [a\n", r"cannot read the task file .*broken\.yaml \(ParserError"),
        ("tag.yaml", "task: a\ndoc_to_text: !python utils.f\n", r"cannot read the task file .*tag\.yaml"),
        (
            "absent.yaml",
            "include: nowhere.yaml\ntask: a\n",
            r"cannot read the .*absent\.yaml .*nowhere\.yaml",
        ),
        ("round.yaml", "include: round.yaml\ntask: a\n", r"cannot read the task file .*round\.yaml .*cycle"),
        ("year.yaml", "include: cats.yaml\ntask: 2023\n", r"year\.yaml names a task or tag 2023, which is no text"),
        ("no.yaml", "include: cats.yaml\ntask: no\n", r"no\.yaml names a task or tag False, which is no text"),
        (
            "tag.yaml",
            "include: cats.yaml\ntask: a\ntag: [b, 1e3, 5]\n",
            r"tag\.yaml names a task or tag 5, which",
        ),
        ("up.yaml", "include: cats.yaml\ntask: a\ntask: b\n", r"'task' stands twice in .*up\.yaml, and YAML takes the"),
        (
            "way.yaml",
            "include: cats.yaml\ntask: a\nmetric_list: [{metric: acc, higher_is_better: true, higher_is_better: no}]\n",
            r"'higher_is_better' stands twice in .*way\.yaml",
        ),
        ("include.yaml", "include: 5\ntask: a\n", r"cannot read the task file .*include\.yaml \(TypeError"),
        ("text.yaml", "include: cats.yaml\ntask: heldout\n", r"text\.yaml has a task 'heldout', the name of held-out"),
    ],
)
def test_files_of_ones_own_folder_are_read_strictly(file, text, said, tasks):
    """Also where they are not asked for: a tag or a group would go without them."""
    (tasks / file).parent.mkdir(exist_ok=True)
    (tasks / file).write_text(text)
    with pytest.raises(Refusal, match=said):
        load_tasks(["dogs"], tasks)


@pytest.mark.usefixtures("without_lm_eval")
def test_what_is_no_task_is_passed_over(tasks):
    (tasks / ".ipynb_checkpoints").mkdir()
    (tasks / ".ipynb_checkpoints" / "cats.yaml").write_text((tasks / "cats.yaml").read_text())
    (tasks / "settings.yaml").write_text("output_type: loglikelihood\n")
    (tasks / "list.yaml").write_text("- 1\n- 2\n")
    (tasks / "empty.yaml").write_text("")
    assert [*load_tasks(["pets"], tasks)["pets"]] == ["cats", "dogs"]


@pytest.mark.usefixtures("without_lm_eval")
def test_a_group_without_tasks_and_a_task_without_data_are_refused(tasks):
    (tasks / "old.yaml").write_text("group: old\ntask: mice\n")  # as lm-eval 0.4.2 had it
    with pytest.raises(Refusal, match=r"'old' of .*old\.yaml stands for no task"):
        load_tasks(["dogs", "old"], tasks)
    (tasks / "old.yaml").write_text(task("mice", tasks).replace("words.jsonl", "nowhere.jsonl"))
    with pytest.raises(Refusal, match="cannot get the data of task 'mice'"):
        load_tasks(["mice"], tasks)
    (tasks / "old.yaml").write_text(task("mice", tasks).replace("{{text}}", "{{absent.more}}"))
    with pytest.raises(Refusal, match=r"cannot load task 'mice' of .*old\.yaml \(UndefinedError"):
        load_tasks(["mice"], tasks)


@pytest.mark.usefixtures("without_lm_eval")
def test_a_task_file_with_bytes_changed_is_read_or_refused_in_one_line(tasks, rng):
    """Sixty of them: bytes flipped, taken out and put in."""
    recipe, read, refused = (tasks / "cats.yaml").read_bytes(), 0, 0
    for _ in range(60):
        text = bytearray(recipe)
        place, size = rng.integers(len(text)), rng.integers(1, 9)
        text[place : place + size] = [b"", bytes(rng.integers(256, size=2, dtype="uint8")), b": ", b"\n- 5"][
            rng.integers(4)
        ]
        (tasks / "cats.yaml").write_bytes(text)
        try:
            build(["pets"], tasks)
            read += 1
        except Refusal as error:
            assert "\n" not in str(error)
            refused += 1
    assert read > 0 and refused > 20


@pytest.mark.slow
def test_names_of_all_three_are_near_names_and_groups_reach_lm_evals(tasks):
    near = {"catz": "cats", "arc_easy_bbp": "arc_easy_bpb", "hellaswagg": "hellaswag", "petz": "pets"}
    for name, meant in near.items():
        with pytest.raises(Refusal, match=f"no task '{name}'; near names: .*{meant}"):
            load_tasks(["cats", name], tasks)
    (tasks / "zoo.yaml").write_text("group: zoo\ntask: [cats, arithmetic_1dc]\n")
    manager = library._manager("zoo", library._survey(tasks), str(tasks))
    assert {"arithmetic_1dc", "cats"} <= manager.task_index.keys()


# --- which metric ranks, and which way up -----------------------------------------------------------------------------


@pytest.mark.usefixtures("without_lm_eval")
@pytest.mark.parametrize(
    ("direction", "said"),
    [
        ('"yes"', "has higher_is_better: 'yes' for 'value'; write true or false"),
        ("1", "has higher_is_better: 1 for 'value'"),
        ('"false"', "has higher_is_better: 'false' for 'value'"),
        ("down", "has higher_is_better: 'down' for 'value'"),
        ("null", "does not say whether more of 'value' is better"),
        (None, "does not say whether more of 'value' is better"),
    ],
)
def test_a_direction_is_true_or_false_and_never_guessed(direction, said, tasks):
    (tasks / "utils.py").write_text("def results(doc, answers):\n    return {'value': 1.0, 'acc': 0.5}\n")
    own = "process_results: !function utils.results"
    (tasks / "mice.yaml").write_text(task("mice", tasks, "value", direction, own))
    with pytest.raises(Refusal, match=f"task 'mice' {said}"):
        build(["mice"], tasks)
    for direction, up in {"true": True, "no": False}.items():  # as YAML 1.1 reads them
        (tasks / "mice.yaml").write_text(task("mice", tasks, "value", direction, own))
        assert bool(build(["mice"], tasks).loc["mice", "higher_is_better"]) is up


@pytest.mark.usefixtures("without_lm_eval")
def test_a_metric_of_lm_evals_is_not_turned_upside_down(tasks):
    for metric, direction in {"acc": "false", "perplexity": "true"}.items():
        (tasks / "mice.yaml").write_text(task("mice", tasks, metric, direction))
        with pytest.raises(Refusal, match=f"task 'mice' says that .* of '{metric}' is better, of lm-eval's .* is"):
            build(["mice"], tasks)
    (tasks / "mice.yaml").write_text(task("mice", tasks, "perplexity", None))
    assert not build(["mice"], tasks).loc["mice", "higher_is_better"]  # lm-eval knows it


@pytest.mark.usefixtures("without_lm_eval")
def test_of_several_metrics_the_first_ranks_and_must_be_reported(tasks):
    recipe = task("mice", tasks)
    listed = (
        "[{metric: perplexity, aggregation: perplexity, higher_is_better: false}, {metric: acc, aggregation: mean}]"
    )
    (tasks / "mice.yaml").write_text(recipe.replace(recipe.split("metric_list: ")[1].split("\n")[0], listed))
    assert build(["mice"], tasks).loc["mice", ["metric", "higher_is_better"]].tolist() == ["perplexity", False]
    (tasks / "mice.yaml").write_text(task("mice", tasks, "exact_match"))  # not of likelihoods
    with pytest.raises(Refusal, match="task 'mice' lists 'exact_match' first but reports nothing"):
        build(["mice"], tasks)


def test_the_case_of_the_misspelt_direction(shared):
    folder = shared / "cases" / "lm-eval"
    with pytest.raises(Refusal, match="task 'words_same' does not say whether more of 'same' is better"):
        build(["words_same"], folder, context=32)
    assert [*build(["words_acc", "arc_easy_bpb"], folder).index] == ["words_acc", "arc_easy_bpb"]
