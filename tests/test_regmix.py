"""RegMix's tables: what was published is read as published, what is broken is named."""

import functools
import http.server
import threading

import numpy as np
import pandas as pd
import pytest

from demix_nb import regmix, runs
from demix_nb.regmix import DOMAINS, UNSCORED, load
from demix_nb.runs import RunsError


@pytest.fixture
def published(shared):
    if not (folder := shared / "regmix").is_dir():
        pytest.skip("no regmix/ beside the repository: RegMix's eight CSV files")
    return load(folder)


@pytest.fixture
def folder(tmp_path, rng):
    """Eight small tables in the published layout, shares rounded to three digits as there."""
    for pattern in regmix.SETS.values():
        shares = pd.DataFrame(rng.dirichlet(np.ones(17), 6).round(3), columns=[f"train_the_pile_{k}" for k in DOMAINS])
        scored = [key for key, name in DOMAINS.items() if name not in UNSCORED]
        losses = pd.DataFrame(rng.normal(5, 1, (6, 13)), columns=[f"metric/the_pile_{k}_val_loss" for k in scored])
        shares.to_csv(tmp_path / pattern.format("mixture"), index_label="index")
        losses.to_csv(tmp_path / pattern.format("pile_loss"), index_label="index")
    return tmp_path


def edit(path, change):
    change(pd.read_csv(path, index_col=0)).to_csv(path)


def test_published_tables_have_the_papers_counts(published):
    assert {name: len(table) for name, table in published.items()} == {"train": 512, "1M": 256, "60M": 256, "1B": 64}
    for table in published.values():
        np.testing.assert_allclose(table.mixtures.sum(axis=1), 1)
        assert list(table.mixtures) == list(DOMAINS.values()) and table.scores.shape[1] == 13
    pd.testing.assert_frame_equal(published["1M"].mixtures, published["60M"].mixtures)
    assert "303 of 512 rows summed to 0.996–1.003" in published["train"].notes[0]


def test_appendix_g_lists_the_same_64_mixtures(published):
    printed = pd.read_csv(runs.Path(__file__).parent.parent / "data/published/regmix_appendix_g_64x1b.csv", index_col=0)
    whole = printed.drop(index=[24, 56, 64])  # the print lost a digit there
    shares = published["1B"].mixtures.set_axis(range(1, 65))[whole.columns[:17]].loc[whole.index]
    np.testing.assert_allclose(shares, whole.iloc[:, :17].astype(float), atol=0.003)


def test_rows_are_normalised_and_said_so(folder):
    table = load(folder)["train"]
    np.testing.assert_allclose(table.mixtures.sum(axis=1), 1, rtol=1e-12)
    assert "rows summed to" in table.notes[0]


def test_column_order_in_the_file_does_not_matter(folder):
    before = load(folder)["1B"]
    edit(folder / "test_mixture_1B.csv", lambda table: table[table.columns[::-1]])
    edit(folder / "test_pile_loss_1B.csv", lambda table: table.iloc[::-1])
    pd.testing.assert_frame_equal(load(folder)["1B"].mixtures, before.mixtures)
    pd.testing.assert_frame_equal(load(folder)["1B"].scores, before.scores)


def put(row, column, value):
    def change(table):
        table.loc[row, column] = value
        return table

    return change


PILE, LOSS = "train_the_pile_pile_cc", "metric/the_pile_pile_cc_val_loss"
BROKEN = {
    "sum": ("test_mixture_60m.csv", put(2, PILE, 3.0), "row '2' sums to .*'Pile-CC'"),
    "negative": ("train_mixture_1m.csv", put(1, PILE, -0.1), "row '1', column 'Pile-CC' is negative"),
    "nan share": ("train_mixture_1m.csv", put(3, PILE, np.nan), f"row '3', column '{PILE}' holds 'nan'"),
    "nan loss": ("test_pile_loss_1B.csv", put(4, LOSS, np.nan), f"row '4', column '{LOSS}' holds 'nan'"),
    "text": ("test_pile_loss_1B.csv", lambda t: t.astype(object).pipe(put(0, LOSS, "oops")), "holds 'oops'"),
    "missing column": ("test_mixture_1m.csv", lambda t: t.drop(columns=PILE), f"missing column '{PILE}'"),
    "unknown column": ("test_pile_loss_1m.csv", lambda t: t.assign(extra=1.0), "unknown column 'extra'"),
    "twice": ("train_mixture_1m.csv", lambda t: pd.concat([t, t.loc[[5]]]), "row '5' comes twice"),
    "loss twice": ("train_pile_loss_1m.csv", lambda t: pd.concat([t, t.loc[[5]]]), "row '5' comes twice"),
    "disagree": ("train_pile_loss_1m.csv", lambda t: t.rename(index={0: 99}), "2 rows have no partner"),
}


@pytest.mark.parametrize(("file", "change", "message"), BROKEN.values(), ids=BROKEN)
def test_a_broken_table_is_named(folder, file, change, message):
    edit(folder / file, change)
    with pytest.raises(RunsError, match=message) as caught:
        load(folder)
    assert file in str(caught.value)


def test_a_missing_file_says_where_to_get_it(folder):
    (folder / "test_mixture_1B.csv").unlink()
    with pytest.raises(RunsError, match=r"no test_mixture_1B.csv; give the folder .*regmix_dir=DIR.*github"):
        load(folder)


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """A web server on this machine and an empty cache."""
    monkeypatch.setenv("DEMIX_NB_CACHE", str(tmp_path / "cache"))

    def start(folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        handler.func.log_message = lambda *_: None
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    servers = []
    yield start
    for server in servers:
        server.shutdown()


def test_download_is_checked_and_cached(serve, shared, published):
    url = serve(shared / "regmix")
    fetched = load(regmix.fetch(url))
    pd.testing.assert_frame_equal(fetched["1B"].scores, published["1B"].scores)
    assert regmix.fetch("http://127.0.0.1:9/") == regmix.fetch(url)  # second time from the cache: nobody listens on 9


def test_a_download_with_other_content_is_refused(serve, folder):
    with pytest.raises(RunsError, match="could not fetch"):
        regmix.fetch(serve(folder))


def test_without_folder_and_network_it_stops_with_the_remedy(serve, monkeypatch):
    monkeypatch.setattr(regmix, "URL", "http://127.0.0.1:9/")
    with pytest.raises(RunsError, match=r"could not fetch.*give the folder"):
        load()


def test_any_pair_of_csv_files_is_read_by_name(tmp_path):
    pd.DataFrame({"a": [3, 1], "b": [1, 1]}, ["x", "y"]).to_csv(tmp_path / "mixtures.csv")
    pd.DataFrame({"loss": [2.0, 1.0]}, ["y", "x"]).to_csv(tmp_path / "scores.csv")
    table = runs.read(tmp_path / "mixtures.csv", tmp_path / "scores.csv")
    assert table.mixtures.loc["x", "a"] == 0.75 and table.scores.loc["x", "loss"] == 1.0
    assert not table.tasks.loc["loss", "higher_is_better"] and len(table.notes) == 2
    pd.DataFrame({"loss": [2.0, 1.0]}, ["y", "z"]).to_csv(tmp_path / "scores.csv")
    with pytest.raises(RunsError, match=r"scores.csv: 2 rows have no partner"):
        runs.read(tmp_path / "mixtures.csv", tmp_path / "scores.csv")
    with pytest.raises(RunsError, match="no score file"):
        runs.read(tmp_path / "mixtures.csv", tmp_path / "other.csv")


def test_sampling_runs_keeps_rows_together(folder, rng):
    table = load(folder)["train"]
    some = table.sample(4, rng=rng)
    assert len(some) == 4
    pd.testing.assert_frame_equal(some.scores, table.scores.loc[some.mixtures.index])
    rest, held = table.split(1 / 3, rng=rng)
    assert (len(rest), len(held)) == (4, 2) and not set(rest.scores.index) & set(held.scores.index)
    with pytest.raises(RunsError, match="leaves nothing"):
        table.split(0.01, rng=rng)
    assert list(table.only(["Pile-CC"]).scores) == list(table.only(["Pile-CC"]).tasks.index) == ["Pile-CC"]
    with pytest.raises(RunsError, match="cannot draw 7 runs out of 6"):
        table.sample(7, rng=rng)
