"""RegMix's tables: what was published is read as published, what is broken is named."""

import functools
import http.server
import threading

import numpy as np
import pandas as pd
import pytest

from demix_nb.papers import regmix
from demix_nb.papers.regmix import DOMAINS, UNSCORED, load
from demix_nb.predictors import PREDICTORS
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal


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
    printed = regmix.printed("appendix_g_64x1b")
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
    "nan share": ("train_mixture_1m.csv", put(3, PILE, np.nan), f"row '3', column '{PILE}' holds nothing"),
    "nan loss": ("test_pile_loss_1B.csv", put(4, LOSS, np.nan), f"row '4', column '{LOSS}' holds nothing"),
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
    with pytest.raises(Refusal, match=message) as caught:
        load(folder)
    assert file in str(caught.value)


def test_a_missing_file_says_where_to_get_it(folder):
    (folder / "test_mixture_1B.csv").unlink()
    with pytest.raises(Refusal, match=r"no test_mixture_1B.csv; give the folder .*regmix_dir=DIR.*github"):
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
    with pytest.raises(Refusal, match="could not fetch"):
        regmix.fetch(serve(folder))


def test_without_folder_and_network_it_stops_with_the_remedy(serve, monkeypatch):
    monkeypatch.setattr(regmix, "URL", "http://127.0.0.1:9/")
    with pytest.raises(Refusal, match=r"could not fetch.*give the folder"):
        load()


# --- what the replay makes of the runs


def judged(value):
    rows = pd.MultiIndex.from_product([["ridge", "lightgbm_regmix", "stack"], ["1M", "60M", "1B"], ["Pile-CC"]])
    return pd.DataFrame(value, rows.set_names(["predictor", "test", "task"]), ["rho", "low", "high", "mse"])


def test_table_2_puts_the_printed_value_beside_ours():
    table = regmix.table2(judged(0.9))
    assert list(table.index) == 3 * ["ridge"] + 3 * ["lightgbm_regmix"] and set(table["rho"]) == {90.0}
    np.testing.assert_allclose(table["rho"] - table["difference"], table["printed"])
    big = table[table["test"] == "1B"]["printed"]
    assert big.to_dict() == {"ridge": 88.01, "lightgbm_regmix": 97.12}
    with pytest.raises(Refusal, match=r"'ridge' was not judged.*add it"):
        regmix.table2(judged(0.9).drop("ridge", level="predictor"))


def test_mixtures_are_drawn_around_the_token_shares(rng):
    pool, amounts = regmix.draw(20_000, rng=rng), regmix.printed("table1_pile_sizes").query("available")
    known = amounts["effective_size_gib"] / amounts["effective_size_gib"].sum()
    assert list(pool) == list(DOMAINS.values())
    np.testing.assert_allclose(pool.mean(), known[list(pool)], atol=0.01)


def test_the_search_returns_what_is_predicted_best_first(rng):
    pool = regmix.draw(3000, rng=rng)
    loss = pd.DataFrame({"loss": -np.sqrt(pool["Pile-CC"])})
    seen = Scored(pool, loss, describe(["loss"], unit="nats", higher_is_better=False)).take(range(200))
    tops, seconds = regmix.search({"ridge": (fit := PREDICTORS["ridge"].new(rng=rng).fit(seen))}, pool, n_jobs=1)
    assert list(tops["ridge"].index) == list(fit.predict(pool).scores["loss"].nsmallest(regmix.TOP).index)
    assert tops["ridge"]["Pile-CC"].mean() > 1.5 * pool["Pile-CC"].mean()
    assert list(seconds.index) == ["ridge"] and seconds.min() >= 0


def test_table_7_lists_what_was_found_between_what_was_printed(rng):
    found = {name: regmix.draw(1, rng=rng).iloc[0] for name in ("one", "two")}
    table = regmix.table7(found)
    order = ["RegMix, printed", "one", "two", "DoReMi, printed", "Human, printed"]
    assert list(table["mixture"].unique()) == order
    assert table.groupby("mixture")["printed"].first().to_dict() == {name: "printed" in name for name in order}
    assert table[table["mixture"] == "one"]["share"].to_dict() == found["one"].to_dict()


def test_figure_14_has_mean_and_quantiles_by_fit(rng):
    tops = {"a": regmix.draw(200, rng=rng), "b": regmix.draw(100, rng=rng)}
    table = regmix.figure14(tops)
    for name, rows in tops.items():
        mine = table[table["fitted"] == name]
        np.testing.assert_allclose(mine["value"].sum(), 1)
        inside = (rows >= mine["low"]) & (rows <= mine["high"])
        assert inside["Pile-CC"].mean() == pytest.approx(0.9, abs=0.01)


def test_downstream_scores_are_those_of_the_models_that_were_printed_whole(published):
    large = published["1B"]
    scores = regmix.appendix_g(large, whole=True)
    assert scores.shape == (61, 14) and len(regmix.appendix_g(large)) == 64
    table = regmix.downstream(large)
    losses = large.scores.loc[scores.index, "Pile-CC"]
    assert table.loc["Pile-CC", "HellaSwag"] == pytest.approx(-np.corrcoef(losses, scores["HellaSwag"])[0, 1])
    assert table["HellaSwag"].idxmax() == "Pile-CC", "section 5.1: web text tells most"


def test_table_3_follows_from_appendix_g_but_for_one_cell(published):
    off = regmix.table3(published["1B"])["off"]
    beyond = off.index[off > 0.05 + 1e-9]  # what rounding to one decimal accounts for
    assert list(beyond) == ["WinoGrande"], "the worst is a model whose digits the print lost"
