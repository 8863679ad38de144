"""A matched model repeats text as the run does that it stands for: counted in the sequences it is given."""

from dataclasses import replace

import numpy as np
import pytest

from demix_nb.lab import variants
from demix_nb.lab.batches import batches, sequences_of
from demix_nb.lab.jobs import Architecture, Job, Setting
from demix_nb.lab.repetition import matched
from demix_nb.lab.train import another_base, read_record, train_design
from demix_nb.store import Refusal

TINY = Architecture(hidden=32, layers=1, head_dim=16, context=32)
TARGET = 20_480


@pytest.fixture(scope="module")
def scarce(small_data, tmp_path_factory):
    """The small corpora with 40 blocks of `math`."""
    folder = tmp_path_factory.mktemp("scarce") / "corpora"
    return variants.scarce(small_data, folder, {"math": 40 * TINY.context + 1}, rng=np.random.default_rng(0))


def job(share, tokens, **options):
    return Job("m", "m", {"general": 1 - share, "math": share}, tokens, 5e-3, TINY, batch=256, **options)


def often(asked, corpora, name):
    """How often the text that is read of a candidate is read: sequences over different sequences."""
    text = np.asarray(corpora.train[name])
    starts = {text[i : i + 33].tobytes() for i in range(0, len(text) - 32, 32)}
    rows = [row.numpy().astype(text.dtype).tobytes() for batch in batches(asked, corpora) for row in batch]
    mine = [row for row in rows if row in starts]
    return len(mine) / len(set(mine))


def test_the_first_blocks_of_the_first_order_are_kept_and_all_is_as_it_was(rng):
    tokens = np.arange(101, dtype=np.uint16)
    whole, few, every = (
        sequences_of(tokens, 25, 10, rng=np.random.default_rng(3), distinct=distinct)[:, 0]
        for distinct in (None, 40, 100)
    )
    assert (whole == every).all() and (few[:4] == whole[:4]).all()
    assert set(few) == set(whole[:4]) and np.unique(few, return_counts=True)[1].tolist() in ([6, 6, 6, 7], [7, 6, 6, 6])
    assert len(sequences_of(tokens, 5, 10, rng=rng, distinct=1)) == 5


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("budget", [0.125, 0.25, 0.5, 1.0])
def test_a_short_model_repeats_as_the_long_one_does(scarce, share, budget):
    full, short = job(share, TARGET), job(share, round(budget * TARGET))
    told = matched(short, scarce, target=TARGET)
    assert replace(told, distinct={}) == short and (budget < 1 or told == short)
    assert often(told, scarce, "math") == pytest.approx(often(full, scarce, "math"), rel=0.15)
    if budget <= 0.25:
        assert often(short, scarce, "math") < 0.6 * often(full, scarce, "math"), "unmatched it does not"


def test_what_the_run_does_not_repeat_stays_as_it_is(small_data, scarce):
    plain = Job("m", "m", {"general": 0.9, "code": 0.1}, 1280, 5e-3, TINY, batch=256)
    assert matched(plain, scarce, target=1280) == plain
    assert plain.key(small_data) == replace(plain, distinct={}).key(small_data)
    assert plain.key(small_data) != replace(plain, distinct={"code": 64}).key(small_data)


def test_a_design_is_trained_matched(small_study, scarce):
    how = {"corpora": scarce, "budget": 0.25, "repetition": "matched", "target": TARGET}
    folders, models = train_design(small_study, small_study.corners.loc[["math"]], "matched", **how)
    plain = train_design(small_study, small_study.corners.loc[["math"]], "plain", corpora=scarce, budget=0.25)[1]
    assert read_record(folders["math"])["key"] != plain["key"].iloc[0]
    assert models["tokens"].iloc[0] == plain["tokens"].iloc[0]
    with pytest.raises(Refusal, match="matched"):
        train_design(small_study, small_study.corners, "odd", repetition="machted")


def test_a_study_file_says_that_repetition_is_matched_and_for_which_run(small_study, small_data, tmp_path):
    plain = Setting.read(small_study.folder)
    told = replace(plain, repetition="matched")
    told.write(tmp_path, small_data.families, small_data.table["tokens"], run={"target_tokens": 1e9})
    assert Setting.read(tmp_path) == replace(told, target=1e9) and plain.target is None and plain.repetition == ""
    with pytest.raises(Refusal, match="repetition is 'often'"):
        replace(plain, repetition="often")


def test_a_base_of_another_seed_differs_in_its_seed_alone(small_study):
    own, other = another_base(small_study, 0), another_base(small_study, 7)
    records = [read_record(folder) for folder in (own, other)]
    assert own == small_study.file.base and other.parent == own.parent
    assert records[0]["recipe"] == records[1]["recipe"] and records[0]["tokens"] == records[1]["tokens"]
    assert [record["seed"] for record in records] == [0, 7] and records[0]["key"] != records[1]["key"]
