"""Every format reads back what it wrote, in what its weights mean; what a trainer cannot say is refused at the door."""

import numpy as np
import pandas as pd
import pytest

from demix_nb.exports import FORMATS, MEANINGS, Order, Phase, Source, export, files_of
from demix_nb.store import Refusal

NAMES = ["web", "law and order", "Mathe", "no", "2023"]
SPARSE = [0.4996, 0.5, 0.0004, 0.0, 0.0]


def sources(names=NAMES, tokens=1e9):
    lengths = 80.0 * 2.0 ** np.arange(len(names))
    return {name: Source(f"/data/source-{place}/a.jsonl", tokens, length)
            for place, (name, length) in enumerate(zip(names, lengths, strict=True))}  # fmt: skip


def order(*shares, parts=None, **changes):
    """An order of mixtures over NAMES, a phase each."""
    parts = parts or [1 / len(shares)] * len(shares)
    phases = tuple(Phase(pd.Series(one, NAMES), part) for one, part in zip(shares, parts, strict=True))
    return Order(phases, **({"sources": sources(), "tokens": 8 * 10**9, "sequence": 1024, "batch": 512} | changes))


@pytest.fixture(params=FORMATS.values(), ids=FORMATS)
def row(request):
    return request.param


def test_every_format_reads_back_what_it_wrote(row, rng):
    drawn = rng.dirichlet(np.ones(len(NAMES)), 5)
    for shares in [*(draw for draw in drawn if draw.min() > 1e-3), SPARSE]:
        asked = order(shares)
        [found] = row.shares(files_of(row, asked), asked)
        wanted = asked.phases[0].shares
        assert list(found.index) == list(wanted.index) and (wanted > 0).all(), "in order, without zeros"
        assert (found - wanted).abs().max() < row.near
        assert (found / wanted - 1).abs().max() < 0.01, "the smallest share, too"


def test_every_format_says_all_its_facts(row):
    assert row.name == row.name.lower() and row.weight in MEANINGS and 0 < row.near <= 1e-3
    assert all((row.label, row.zeros, row.exhausted, row.grammar, row.use))
    page = files_of(row, order(SPARSE))["EXPORT.md"]
    assert row.meaning.told in page and row.exhausted in page and (row.real or "grammar alone") in page
    assert "| Mathe | 0.0004 |" in page and "| web | 0.4996 |" in page


def test_phases_are_written_or_refused(row):
    asked = order(SPARSE, SPARSE[::-1], parts=[0.75, 0.25])
    if not row.phases:
        with pytest.raises(Refusal, match="has no phases, and the mixture has 2"):
            files_of(row, asked)
        return
    found = row.shares(files_of(row, asked), asked)
    for phase, told in zip(asked.phases, found, strict=True):
        assert (told - phase.shares).abs().max() < row.near
    if row.name == "levanter":
        text = files_of(row, asked)["data.yaml"]
        assert "# phases begin where a block does, at steps [0, 11456]; asked: [0, 11444]" in text
    with pytest.raises(Refusal, match="--tokens of the run and --batch"):
        files_of(row, order(SPARSE, SPARSE[::-1], batch=None))


def test_what_chance_does_to_shares_is_said(row):
    page = files_of(row, order(SPARSE, tokens=4 * 10**8))["EXPORT.md"]
    if row.chance:
        draws = 4e8 / (1024 if row.weight == "token share" else np.mean([80.0, 160.0, 320.0]))
        assert f"a share of a half is off by about {0.5 / draws**0.5:.1g}" in page
    else:
        assert "at random" not in page


def test_a_candidate_of_no_share_needs_no_path(row):
    some = {name: source for name, source in sources().items() if name != "2023"}
    assert "source-4" not in "".join(files_of(row, order(SPARSE, sources=some)).values())


def test_document_shares_are_token_shares_by_length():
    asked = order([0.5, 0.5, 0, 0, 0])
    documents = asked.documents(asked.phases[0])
    assert documents.to_dict() == pytest.approx({"web": 2 / 3, "law and order": 1 / 3})
    assert documents.mul(asked.lengths(asked.phases[0])).pipe(lambda a: a / a.sum()).tolist() == pytest.approx(
        [0.5] * 2
    )


def test_the_budget_is_met_in_whole_sequences_and_epochs_are_counted():
    asked = order(SPARSE, tokens=1024 * 10_001)
    [counts] = asked.sequences
    assert sum(counts.values()) == 10_001 and counts["Mathe"] == 4
    assert asked.epochs["law and order"] == pytest.approx(0.5 * 1024 * 10_001 / 1e9)
    often = order([0.9, 0.1, 0, 0, 0])
    assert often.epochs["web"] == pytest.approx(7.2)
    assert order([0.9, 0.1, 0, 0, 0], tokens=None).epochs.isna().all()


def test_levanter_gets_a_block_that_holds_the_smallest_share():
    text = files_of(FORMATS["levanter"], order(SPARSE))["data.yaml"]
    assert "mixture_block_size: 32768" in text, "of 2,048 sequences 0.0004 is none"
    text = files_of(FORMATS["levanter"], order([0.25] * 4 + [0]))["data.yaml"]
    assert "mixture_block_size: 2048" in text
    with pytest.raises(Refusal, match="holds none of 'Mathe'"):
        files_of(FORMATS["levanter"], order([0.5, 0.499999, 0.000001, 0, 0]))


def test_megatron_s_splits_are_written_where_all_have_them():
    held = {name: Source(f"/d/{name.split()[0]}", valid=f"/v/{name.split()[0]}", test="/t/x") for name in NAMES}
    files = files_of(FORMATS["megatron"], order(SPARSE, sources=held))
    assert '"valid"' in files["per_split.json"] and FORMATS["megatron"].read(files)[0]["/d/web"] == 0.4996
    some = held | {"web": Source("/d/web")}
    with pytest.raises(Refusal, match="'web' has no valid path and others have"):
        files_of(FORMATS["megatron"], order(SPARSE, sources=some))
    blank = sources() | {"web": Source("/d/my web")}
    with pytest.raises(Refusal, match="parts its arguments at blanks"):
        files_of(FORMATS["megatron"], order(SPARSE, sources=blank))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sources": {}}, "no path for candidate 'web'"),
        ({"sources": {name: Source("/d/same") for name in NAMES}}, "/d/same is the path of 'web' and of 'law and"),
        ({"tokens": 10_000}, r"give 'Mathe' \(share 0.0004\) no sequence of 1024; train for 2.6e\+06"),
        ({"parts": [0.5, 0.4]}, "the phases take 0.5, 0.4 of the run"),
        ({"parts": [1.0, 0.0]}, "the phases take 1, 0 of the run"),
    ],
)
def test_bad_orders_are_refused(change, message):
    shares = [SPARSE] * len(change.get("parts", [1]))
    with pytest.raises(Refusal, match=message):
        order(*shares, **change)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("hf", {"document_tokens": None}, "'web' does not say how long"),
        ("axolotl", {"tokens": None}, "how many tokens 'web' has is not known"),
    ],
)
def test_facts_that_a_format_needs_are_asked_for(name, change, message):
    some = {each: Source(**(vars(source) | change)) for each, source in sources().items()}
    with pytest.raises(Refusal, match=message):
        files_of(FORMATS[name], order(SPARSE, sources=some))


def test_names_and_roots_that_a_format_cannot_hold_are_refused():
    with pytest.raises(Refusal, match="parts names at commas"):
        shares = pd.Series({"a,b": 0.5, "c": 0.5})
        asked = Order((Phase(shares),), sources(["a,b", "c"]))
        files_of(FORMATS["llamafactory"], asked)
    with pytest.raises(Refusal, match="one root"):
        files_of(FORMATS["lingua"], order(SPARSE, sources=sources() | {"web": Source("web", 1e9, 1.0)}))


def test_a_folder_is_written_whole_and_replaced_when_forced(tmp_path):
    rows, asked, place = [FORMATS["hf"], FORMATS["lingua"]], order(SPARSE), tmp_path / "out"
    assert export({"": asked}, rows, place)[0] == "'web' is read 4.00 times"
    assert sorted(path.name for path in place.iterdir()) == ["hf", "lingua"]
    with pytest.raises(Refusal, match="holds something"):
        export({"": asked}, rows, place)
    export({"a": asked, "b": asked}, rows[:1], place, force=True)
    assert sorted(str(path.relative_to(place)) for path in place.rglob("*.*")) == [
        "a/EXPORT.md", "a/mixture.py", "b/EXPORT.md", "b/mixture.py"]  # fmt: skip
    with pytest.raises(Refusal):
        export({"": order(SPARSE, sources={name: Source("x" + name) for name in NAMES})}, rows, place, force=True)
    assert (place / "a").is_dir(), "what was there stays where the new one is refused"
