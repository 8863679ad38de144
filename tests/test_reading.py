"""Whatever file somebody brings is read to the same values, or refused in one sentence; nothing is guessed."""

import csv
import gzip
import io
import json

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from demix_nb import reading, scoresheets, store
from demix_nb.facts import Facts
from demix_nb.store import Refusal

NAMES = ["web", "code", "math"]
SHARES = pd.DataFrame(
    {"web": [0.2, 0.5, 0.25, 0.125], "code": [0.3, 0.25, 0.25, 0.875], "math": [0.5, 0.25, 0.5, 0.0]},
    [f"run{i}" for i in range(4)],
)
LOSSES = pd.DataFrame({"loss": [2.0, 1.5, 1.75, 1.25], "acc": [0.5, 0.25, 0.125, 0.75]}, SHARES.index)


def lines(table, mark=",", corner="run"):
    """Write a table of text, quoting what must be."""
    file = io.StringIO()
    csv.writer(file, delimiter=mark).writerows(
        [[corner, *table.columns], *([i, *row] for i, row in zip(table.index, table.to_numpy(), strict=True))]
    )
    return file.getvalue()


@pytest.fixture
def put(tmp_path):
    """Write a file and return its path."""

    def write(content, name="mixtures.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


# --- how a table may be written

WRITTEN = {
    "commas": ("a.csv", lines(SHARES)),
    "semicolons": ("a.csv", lines(SHARES, ";")),
    "tabs": ("a.tsv", lines(SHARES, "\t")),
    "decimal commas": ("a.csv", lines(SHARES, ";").replace(".", ",")),
    "decimal commas in tabs": ("a.TSV", lines(SHARES, "\t").replace(".", ",")),
    "a byte order mark": ("a.csv", b"\xef\xbb\xbf" + lines(SHARES).encode()),
    "UTF-16": ("a.csv", lines(SHARES, "\t").encode("utf-16")),
    "gzip": ("a.csv.gz", gzip.compress(lines(SHARES).encode())),
    "capitals": ("a.CSV", lines(SHARES)),
    "blanks": ("a.csv", lines(SHARES).replace(",", " , ")),
    "Windows lines": ("a.csv", lines(SHARES).replace("\r\n", "\n").replace("\n", "\r\n")),
    "blank lines": ("a.csv", "\n" + lines(SHARES).replace("\r\n", "\r\n\r\n")),
    "exponents": ("a.csv", lines(SHARES.map(lambda share: f"{share:.3E}"))),
    "no zero": ("a.csv", lines(SHARES).replace("0.", ".")),
    "percent signs": ("a.csv", lines(SHARES.map(lambda share: f"{100 * share:g} %"))),
    "percent": ("a.csv", lines(100 * SHARES)),
    "counts": ("a.csv", lines((8000 * SHARES).astype(int))),
    "amounts": ("a.csv", lines(1e9 * SHARES)),
    "YAML": ("a.yml", yaml.safe_dump(SHARES.T.to_dict())),
    "JSON": ("a.json", json.dumps(SHARES.T.to_dict())),
    "packed JSON": ("a.JSON.gz", gzip.compress(json.dumps(SHARES.T.to_dict()).encode())),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_any_way_to_write_a_table_is_read_to_the_same_values(put, way):
    name, content = WRITTEN[way]
    read, notes = reading.mixtures(put(content, name), NAMES)
    pd.testing.assert_frame_equal(read, SHARES.rename_axis("mixture"))
    assert len(notes) == (4 if way in ("percent", "counts", "amounts") else 0)


ODD = [
    "nan",
    "no",
    "true",
    "2023",
    "00e1",
    "null",
    "NA",
    "1e3",
    "~",
    "None",
    "rank",
    "mixture",
    "run",
    "ρ",
    "a b",
    "x,y",
    "é",
    "-",
    "+1",
]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "yaml", "json"])
def test_names_are_text_whatever_they_look_like(put, suffix):
    shares = pd.DataFrame(np.eye(len(ODD)) / 2 + 0.5 / len(ODD), ODD, ODD)
    text = {"csv": lines(shares), "tsv": lines(shares, "\t")}.get(suffix) or json.dumps(shares.T.to_dict())
    read, _ = reading.mixtures(put(text, f"a.{suffix}"))
    pd.testing.assert_frame_equal(read, shares, check_names=False)
    pd.testing.assert_frame_equal(reading.mixtures(put(text, f"a.{suffix}"), ODD)[0], shares, check_names=False)


def test_tables_of_ours_keep_odd_names(tmp_path):
    shares = pd.DataFrame(np.eye(len(ODD)), pd.Index(ODD, name="mixture"), ODD)
    store.write(shares, tmp_path / "odd.csv", "mixtures")
    pd.testing.assert_frame_equal(store.read(tmp_path / "odd.csv", "mixtures"), shares, check_dtype=False)
    facts = {"family": ODD, "unit": "bpb", "higher_is_better": False, "items": 1, "chance": np.nan}
    tasks = pd.DataFrame(facts, pd.Index(ODD, name="task"))
    store.write(tasks, tmp_path / "tasks.csv", "tasks")
    pd.testing.assert_frame_equal(store.read(tmp_path / "tasks.csv", "tasks"), tasks)


# --- what cannot be a table of mixtures


def with_column(name, values, table=SHARES):
    return lines(table.assign(**{name: values}))


TWICE = lines(SHARES).replace("math", "web")
CORNERS = pd.DataFrame(np.eye(3, dtype=int), list("xyz"), NAMES)
LATER = SHARES.iloc[::-1].set_axis(SHARES.index)
PERCENT = SHARES.map("{:.0%}".format)
BROKEN = {
    "seed": (with_column("seed", range(4)), "is 'seed' a candidate"),
    "constant seed": (with_column("seed", 7), "without 'seed' every row sums to the same, with it to 8"),
    "total": (with_column("total", 1), "is 'total' a candidate"),
    "step": (with_column("step", [1000, 2000, 3000, 4000]), "is 'step' a candidate"),
    "seed and step": (lines(SHARES.assign(seed=range(4), step=[100, 200, 300, 400])), "'seed' and 'step'"),
    "seed beside percent": (with_column("seed", range(4), 100 * SHARES), "is 'seed' a candidate"),
    "seed beside corners": (lines(CORNERS.assign(seed=[5, 6, 7])), "is 'seed' a candidate"),
    "seed beside counts of one total": (with_column("seed", range(4), (8000 * SHARES).astype(int)), "is 'seed' a cand"),
    "total of counts": (with_column("tokens", 8000, (8000 * SHARES).astype(int)), "is 'tokens' a candidate"),
    "learning rate": (with_column("lr", [0.3, 0.1, 0.03, 0.2]), "is 'lr' a candidate"),
    "two phases": (lines(SHARES.add_prefix("phase_0_").join(LATER.add_prefix("phase_1_"))), "'phase_0' and 'phase_1'"),
    "two phases, other names": (lines(SHARES.add_prefix("warm/").join(LATER.add_prefix("main/"))), "'warm' and 'main'"),
    "a share is missing": (lines(SHARES.drop(columns="math")), "not to 1 and not like percent or counts"),
    "mixed scales": (lines(SHARES.mul([1, 100, 1, 100], axis=0)), "sums to 100"),
    "column twice": (TWICE, "column 'web' comes twice"),
    "row twice": (lines(SHARES.set_axis(["a", "b", "a", "c"])), "row 'a' comes twice"),
    "no row names": (lines(SHARES).replace("run0", ""), "row 1 has no name"),
    "unnamed column": (lines(SHARES).replace("math", ""), "column 4 has no name"),
    "unnamed last column": (lines(SHARES).replace("\r\n", ",\r\n"), "column 5 has no name"),
    "no column of names": (lines(SHARES.set_index("web"), corner="web"), "the first column, 'web', holds shares"),
    "no column of names, percent signs": (lines(PERCENT.set_index("web"), corner="web"), "first column"),
    "a cell too many": (lines(SHARES).replace("run2", "run2,9"), "line 4 has 5 cells, the first has 4"),
    "a cell too few": (lines(SHARES).replace("run2,", ""), "line 4 has 3 cells"),
    "hole": (lines(SHARES).replace("0.875", ""), "row 'run3', column 'code' holds nothing"),
    "text": (lines(SHARES).replace("0.875", "much"), "column 'code' holds 'much'"),
    "not a number": (lines(SHARES).replace("0.875", "nan"), "column 'code' holds 'nan'"),
    "infinite": (lines(SHARES).replace("0.875", "inf"), "column 'code' holds 'inf'"),
    "too large": (lines(SHARES).replace("0.875", "1e999"), "column 'code' holds '1e999', no finite number"),
    "underscores": (lines(SHARES).replace("0.875", "1_000"), "holds '1_000'"),
    "negative": (lines(SHARES).replace("0.875", "-0.875"), "weight -0.875 for 'code'"),
    "all zero": (lines(SHARES.mul([1, 0, 1, 1], axis=0)), "'run1' is all zero"),
    "percent here and there": (lines(SHARES).replace("0.875", "87.5 %"), "column 'code' has percent and plain numbers"),
    "empty": ("", "is empty"),
    "names alone": ("run,web,code\n", "is empty below"),
    "one column": ("run\na\nb\n", "has one column"),
    "quotation marks": ('run,web\n"a,1\n', "check its quotation marks"),
    "two ways to part it": ("run;x,web\na;b,1\n", "can be parted by commas and by semicolons"),
    "pickle": (b"\x80\x04\x95\xff\xfe", "is no UTF-8 text"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "Git LFS pointer"),
    "truncated archive": (gzip.compress(lines(SHARES).encode())[:-9], "damaged archive"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_table_of_mixtures_is_refused_by_name(put, content, message):
    path = put(content)
    with pytest.raises(Refusal, match=message) as refused:
        reading.mixtures(path)
    assert "mixtures.csv" in str(refused.value) and "\n" not in str(refused.value)


ENTRIES = {
    "key twice": ("mine: {web: 0.4, code: 0.2, web: 0.4}", "'web' stands twice"),
    "entry twice": ("mine: {web: 1}\nmine: {code: 1}", "'mine' stands twice"),
    "phases": ("mine: {p0_web: 0.5, p0_code: 0.5, p1_web: 0.2, p1_code: 0.8}", "'p0' and 'p1' sum to 1 each"),
    "seed": ("mine: {web: 0.5, code: 0.5, seed: 3}", "'mine' sums to 4"),
    "part": ("mine: {web: 0.5, code: 0.25}", "'mine' sums to 0.75"),
    "list": ("- {web: 1}", "it holds a list"),
    "truth": ("mine: {web: true}", "weight 'true' for 'web'"),
    "nothing": ("mine: {web: }", "weight '' for 'web'"),
    "no YAML": ("mine: {web: 1", "cannot be read"),
    "two documents": ("a: {web: 1}\n---\nb: {web: 1}", "cannot be read"),
    "itself": ("mine: &x {web: *x}", "cannot be read"),
    "key that is a list": ("? [web]\n: 1", "is no name"),
    "merge key": ("mine: {<<: {web: 1}, code: 1}", "weight {'web': '1'} for '<<'"),
}


@pytest.mark.parametrize(("content", "message"), ENTRIES.values(), ids=ENTRIES)
def test_what_is_no_mapping_of_mixtures_is_refused_by_name(put, content, message):
    with pytest.raises(Refusal, match=message):
        reading.mixtures(put(content, "mixtures.yaml"))


def test_a_file_of_another_kind_is_refused(put):
    with pytest.raises(Refusal, match=r"ends in .xlsx; give one of .csv"):
        reading.mixtures(put(b"PK", "mixtures.xlsx"))


def test_a_column_of_names_may_be_numbers_that_count(put):
    """RegMix's tables number their runs, pandas numbers rows."""
    read, _ = reading.mixtures(put(lines(SHARES.set_axis(list("1234")), corner="index")), NAMES)
    assert read.index.tolist() == ["1", "2", "3", "4"]


def test_a_mixture_file_may_leave_out_what_weighs_nothing(put):
    read, _ = reading.mixtures(put("a: {web: 1}\nb: {math: 9e-1, code: 1.0E-1}", "mine.yaml"), NAMES)
    assert read.to_numpy().tolist() == [[1, 0, 0], [0, 0.1, 0.9]]
    free, _ = reading.mixtures(put("a: {web: 1}\nb: {math: 90 %, code: 10%}", "mine.yaml"))
    assert free.loc["b"].to_dict() == {"web": 0, "math": 0.9, "code": 0.1}


# --- what we and others write


def test_an_answer_of_ours_is_read_wherever_a_mixture_is_asked_for(put):
    facts = Facts(put("", "here").parent)
    shares = {"web": 0.25, "code": 0.75, "math": 0.0}
    answer = {"found_by": "demix, mixed", "mixture": shares, "recipe": shares, "beta": 0.5, "caps": {"web": 0.3}}
    for content in (yaml.safe_dump(answer), yaml.safe_dump({"mixture": shares}), "mixture: {code: 3, web: 1}"):
        read, _ = reading.mixtures(put(content, "mixture.yaml"), NAMES)
        assert read.loc["mixture"].to_dict() == shares
    read, notes = reading.mixtures(facts.answer(answer), NAMES)
    assert read.loc["mixture"].to_dict() == shares and notes == []


def test_tables_of_ours_are_read_as_mixtures(tmp_path):
    path = store.write(SHARES.rename_axis("mixture"), tmp_path / "own_mixtures.csv", "mixtures")
    read, notes = reading.mixtures(path, NAMES)
    pd.testing.assert_frame_equal(read, SHARES.rename_axis("mixture"))
    assert notes == []


MERGE = """
merge_method: linear
models:
  - {model: out/web, parameters: {weight: 0.6}}
  - {model: org/code, parameters: {weight: 0.3}}
dtype: bfloat16
"""


def test_a_linear_merge_of_mergekit_is_a_mixture(put, tmp_path):
    read, _ = reading.mixtures(put(MERGE, "merge.yaml"), NAMES)  # mergekit divides by the sum
    assert read.loc["merge"].to_dict() == pytest.approx({"web": 2 / 3, "code": 1 / 3, "math": 0})
    folders = {"math": tmp_path / "out" / "web", "code": tmp_path / "code", "web": tmp_path / "web"}
    read, _ = reading.mixtures(put(MERGE, "merge.yaml"), NAMES, folders=folders)
    assert read.loc["merge"].to_dict() == pytest.approx({"web": 0, "code": 1 / 3, "math": 2 / 3})
    common = MERGE.replace("parameters: {weight: 0.3}", "parameters: {}") + "parameters: {weight: 0.2}"
    assert reading.mixtures(put(common, "merge.yaml"), NAMES)[0].loc["merge", "code"] == pytest.approx(0.25)


WRONG_MERGES = {
    "method": (MERGE.replace("linear", "ties"), "merge_method 'ties' makes no weighted mean"),
    "slices": (MERGE + "slices: []", "`slices` merge layer by layer"),
    "layers": (MERGE.replace("0.3", "[0, 0.3, 1]"), "model 'org/code' has a weight per layer"),
    "no weight": (MERGE.replace("{weight: 0.3}", "{}"), "model 'org/code' has weight None"),
    "candidate": (MERGE.replace("org/code", "org/cod"), "unknown candidate 'cod'; did you mean 'code'"),
    "twice": (MERGE.replace("org/code", "org/web"), "two models are candidate 'web'"),
    "not normalised": (MERGE + "parameters: {normalize: false}", "sums to 0.9"),
    "no models": ("merge_method: linear", "`models` is no list"),
    "no model": (MERGE.replace("model: org/code, ", ""), "a model is None"),
    "nothing": (MERGE.replace("0.3", "0").replace("0.6", "0"), "the weights sum to 0"),
}


@pytest.mark.parametrize(("content", "message"), WRONG_MERGES.values(), ids=WRONG_MERGES)
def test_a_merge_that_is_no_mixture_is_refused(put, content, message):
    with pytest.raises(Refusal, match=message):
        reading.mixtures(put(content, "merge.yaml"), NAMES)


def long(table, columns, mark=","):
    cells = table.rename_axis(index="run", columns="item").stack().rename("value").reset_index()
    return cells.set_axis(columns, axis=1).to_csv(index=False, sep=mark)


def test_shares_a_line_are_read_as_those_in_rows(put):
    read, _ = reading.mixtures(put(long(SHARES, ["run", "domain", "share"])), NAMES)
    pd.testing.assert_frame_equal(read, SHARES.rename_axis("mixture"))
    some = "\n".join(line for line in long(SHARES, ["run", "domain", "share"]).splitlines() if not line.endswith("0.0"))
    pd.testing.assert_frame_equal(reading.mixtures(put(some), NAMES)[0], SHARES.rename_axis("mixture"))
    with pytest.raises(Refusal, match="row 'run3', column 'code' holds nothing"):
        reading.mixtures(put(some.replace("run3,code,0.875", "run3,code,")), NAMES)
    with pytest.raises(Refusal, match=r"row 'run0' comes twice, with 0\.2 and 0\.3 in 'web'"):
        reading.mixtures(put(some.replace("run0,code", "run0,web")), NAMES)


def of_olmix(table):
    """The table as OLMix writes it: numbered rows, the run's id, its name and its number."""
    names = [f"swarm-{i:04d}" for i in range(len(table))]
    told = pd.DataFrame({"run": table.index, "name": names, "index": range(len(table))})
    return pd.concat([told, table.reset_index(drop=True)], axis=1).to_csv()


@pytest.mark.parametrize("name", ["dclm", "reuse5", "superswarm"])
def test_tables_of_olmix_are_read_as_it_writes_them(put, shared, name):
    folder = shared / "tables" / f"olmix_{name}_30m"
    plain = [
        pd.read_csv(folder / f"{kind}.csv", index_col=0, dtype={"mixture": str}) for kind in ("mixtures", "scores")
    ]
    ratios, metrics = put(of_olmix(plain[0]), "ratios.csv"), put(of_olmix(plain[1]), "metrics.csv")
    read = reading.scored(ratios, metrics, higher_is_better=False)
    given = reading.scored(folder / "mixtures.csv", folder / "scores.csv", higher_is_better=False)
    pd.testing.assert_frame_equal(read.mixtures, given.mixtures)
    pd.testing.assert_frame_equal(read.scores, given.scores)
    assert len(read) == len(plain[0]) and read.scores.shape[1] == 110
    with pytest.raises(Refusal, match="'arc_challenge:rc::olmes' does not tell whether higher is better"):
        reading.scored(ratios, metrics)


# --- candidates that came, or went


def test_a_candidate_without_a_column_is_0_where_rows_are_shares_without_it(put):
    read, notes = reading.mixtures(put(lines(SHARES)), [*NAMES, "law"])
    assert (read["law"] == 0).all() and notes == ["no column for 'law': taken as 0"]
    for table in (8000 * SHARES, 0.9 * SHARES):
        with pytest.raises(Refusal, match=r"no column for candidate 'law'|sums to 0\.9"):
            reading.mixtures(put(lines(table)), [*NAMES, "law"])


def test_mixtures_without_a_dropped_candidate_are_kept(put):
    left = ["web", "code"]
    shares = SHARES.assign(code=[0.3, 0.25, 0.75, 0.875], math=[0.5, 0.25, 0, 0])
    with pytest.raises(Refusal, match="unknown candidate 'math'"):
        reading.mixtures(put(lines(shares)), left)
    read, notes = reading.mixtures(put(lines(shares)), left, grown=True)
    pd.testing.assert_frame_equal(read, shares.loc[["run2", "run3"], left].rename_axis("mixture"))
    assert notes == ["'math' is no candidate any more: 2 mixtures without it kept, 2 with it left out"]
    seen = reading.scored(put(lines(shares)), put(lines(LOSSES), "scores.csv"), candidates=left)
    assert seen.names == ["run2", "run3"] and seen.notes == tuple(notes)
    entries = yaml.safe_dump(shares.T.to_dict())
    pd.testing.assert_frame_equal(reading.mixtures(put(entries, "a.yaml"), left, grown=True)[0], read)
    with pytest.raises(Refusal, match="every mixture gives a share to 'math'"):
        reading.mixtures(put(lines(shares[:2])), left, grown=True)
    with pytest.raises(Refusal, match="unknown candidate 'math'; did you mean 'maths'"):
        reading.mixtures(put(lines(shares)), [*left, "maths"], grown=True)
    split, notes = reading.mixtures(put(lines(shares)), [*left, "proofs", "sums"], grown=True)
    pd.testing.assert_frame_equal(split[left], read)
    assert (split[["proofs", "sums"]] == 0).all(axis=None)
    assert [note.split(":")[0] for note in notes] == [
        "no column for 'proofs'", "no column for 'sums'", "'math' is no candidate any more"]  # fmt: skip
    with pytest.raises(Refusal, match=r"candidate 'math'; .*is 'proofs' new, give it a column of zeros"):
        reading.mixtures(put(lines(shares)), [*left, "proofs"], grown=True)
    again, _ = reading.mixtures(put(lines(shares.assign(proofs=0.0))), [*left, "proofs"], grown=True)
    pd.testing.assert_frame_equal(again[left], read)
    with pytest.raises(Refusal, match="is 'seed' a candidate"):
        reading.mixtures(put(lines(shares.assign(seed=range(4)))), NAMES, grown=True)


# --- tasks

HEAD, TARGETS = "task,family,unit,higher_is_better", "\nloss,a,b,no,{}\nacc,a,b,no,no\n"
TASKS = f"{HEAD}\nloss,web,nats,no\nacc,code,acc,Yes\n"
WRONG_TASKS = {
    "misspelt": (TASKS.replace("acc,code", "acc_,code"), "'acc_' is a task without scores; did you mean 'acc'"),
    "left out": (TASKS.replace("acc,code,acc,Yes\n", ""), "'acc' is a scores without a task"),
    "direction unknown": (TASKS.replace("Yes", "up"), "task 'acc', column 'higher_is_better' holds 'up'"),
    "direction missing": (TASKS.replace("Yes", ""), "task 'acc', column 'higher_is_better' holds nothing"),
    "no unit": (TASKS.replace("acc,Yes", ",Yes"), "task 'acc' has no unit"),
    "no family": (TASKS.replace("acc,code", "acc,"), "task 'acc' has no family"),
    "column misspelt": (TASKS.replace("higher_is_better", "higher_is_beter"), "no column 'higher_is_better'"),
    "column unknown": (HEAD + ",targt" + TARGETS.format("yes"), "did you mean 'target'"),
    "target unknown": (HEAD + ",target" + TARGETS.format("maybe"), "'target' holds 'maybe'"),
    "no target": (HEAD + ",target" + TARGETS.format("no"), "no task is a target"),
    "twice": (TASKS + "acc,code,acc,Yes\n", "row 'acc' comes twice"),
    "items": (HEAD + ",items" + TARGETS.format("many"), "'items' holds 'many'"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), WRONG_TASKS.values(), ids=WRONG_TASKS)
def test_a_task_table_is_checked_cell_by_cell(put, content, message):
    files = put(lines(SHARES)), put(lines(LOSSES), "scores.csv"), put(content, "tasks.csv")
    with pytest.raises(Refusal, match=message):
        reading.scored(*files)


def test_directions_are_understood_in_words(put):
    read = reading.scored(put(lines(SHARES)), put(lines(LOSSES), "scores.csv"), put(TASKS, "tasks.csv"))
    assert read.tasks["higher_is_better"].to_dict() == {"loss": False, "acc": True}
    assert read.family_ranks["web"].tolist() == [4, 2, 3, 1] and read.family_ranks["code"].tolist() == [2, 3, 4, 1]
    some = TASKS.replace("better\n", "better,target\n").replace("no\n", "no,yes\n").replace("Yes\n", "Yes,no\n")
    read = reading.scored(put(lines(SHARES)), put(lines(LOSSES), "scores.csv"), put(some, "tasks.csv"))
    assert list(read.scores) == ["loss"]


# --- random tables

FORMATS = ("{}", "{:.12f}", "{:.12e}", "{:.12E}")
odd_names = st.sampled_from(ODD) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
)


@st.composite
def tables(draw):
    """A mixture table, how it is written, and what is wrong with it (None: nothing)."""
    names = [
        draw(st.lists(odd_names.map(str.strip).filter(bool), min_size=least, max_size=6, unique=True))
        for least in (2, 1)
    ]
    parts = draw(
        st.lists(
            st.lists(st.integers(0, 1000), min_size=len(names[0]), max_size=len(names[0])).filter(any),
            min_size=len(names[1]),
            max_size=len(names[1]),
        )
    )
    counts = pd.DataFrame(parts, names[1], names[0])
    scale = draw(st.sampled_from(["counts", "shares", "percent", "signs"]))
    fault = draw(st.sampled_from([None, None, "row twice", "column twice", "hole", "text", "negative"]))
    return (
        counts,
        scale,
        fault,
        draw(st.sampled_from(FORMATS)),
        draw(st.sampled_from(",;\t")),
        draw(st.booleans()),
        draw(st.randoms(use_true_random=False)),
    )


def spelt(counts, scale, form):
    shares = counts.div(counts.sum(axis=1), axis=0)
    if scale == "counts":
        return counts.map("{:d}".format), shares
    factor = {"shares": 1, "percent": 100, "signs": 100}[scale]
    return (shares * factor).map(lambda value: form.format(value) + ("%" if scale == "signs" else "")), shares


def spoil(cells, fault, draw):
    row, column = draw.randrange(len(cells)), draw.randrange(len(cells.columns))
    cells = cells.copy()
    if fault == "row twice":
        return pd.concat([cells, cells.iloc[[row]]])
    if fault == "column twice":
        return pd.concat([cells, cells.iloc[:, [column]]], axis=1)
    cells.iat[row, column] = {"hole": "", "text": "oops", "negative": "-3"}[fault]
    return cells


MAY = (
    "can be parted by",
    "a candidate?",
    "holds shares where",
    "check its quotation marks",
    "control character",
    "name the tasks that count",
)  # two ways to read it


def put_somewhere(cells, mark, packed, folder):
    path = folder / ("random.csv.gz" if packed else "random.csv")
    content = lines(cells, mark).encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    return path


def check_sentence(refusal, fault, cells):
    assert "\n" not in str(refusal) or any("\n" in name for name in [*cells, *cells.index])
    assert fault or any(reason in str(refusal) for reason in MAY), refusal


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables())
def test_a_random_table_is_read_to_its_values_or_refused_in_one_sentence(tmp_path_factory, made):
    counts, scale, fault, form, mark, packed, draw = made
    cells, shares = spelt(counts, scale, form)
    cells = spoil(cells, fault, draw) if fault else cells
    path = put_somewhere(cells, mark, packed, tmp_path_factory.getbasetemp())
    try:
        read, _ = reading.mixtures(path)
    except Refusal as refusal:
        event("refused")
        check_sentence(refusal, fault, cells)
        return
    event("read")
    assert fault is None
    pd.testing.assert_frame_equal(read, shares, check_names=False, atol=1e-9, rtol=0)
    ours = store.write(read, path.with_name("ours.csv"), "mixtures")
    again = store.read(ours, "mixtures")
    pd.testing.assert_frame_equal(again, read, atol=1e-9, rtol=0, check_dtype=False)


@pytest.mark.slow
@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(tables(), st.sampled_from([1.0, -1.0, 1e-12, 1e12]))
def test_random_scores_are_read_to_their_values_or_refused_in_one_sentence(tmp_path_factory, made, factor):
    counts, scale, fault, form, mark, packed, draw = made
    fault = None if fault == "negative" else fault  # a score may be
    cells, _ = spelt(counts, scale, form)
    cells = cells if scale == "signs" else cells.map(lambda cell: repr(float(cell) * factor))
    cells = spoil(cells, fault, draw) if fault else cells
    fault = None if fault == "row twice" else fault  # repeats that agree are one
    path = put_somewhere(cells, mark, packed, tmp_path_factory.getbasetemp())
    try:
        read = scoresheets.scores(path)
    except Refusal as refusal:
        check_sentence(refusal, fault, cells)
        return
    assert fault is None
    true = cells.map(lambda cell: float(cell.rstrip("%")) / 100 if scale == "signs" else float(cell))
    true = true[~true.index.duplicated()]
    pd.testing.assert_frame_equal(read, true, check_names=False, rtol=1e-15, atol=0)
