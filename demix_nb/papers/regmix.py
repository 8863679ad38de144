"""RegMix's public run tables: what 512 + 256 tiny, 256 small and 64 large models scored on mixtures of 17 Pile domains.

The one place where a mixture study published every run: training mixtures and validation losses of models of 1M, 60M
and 1B parameters (arXiv 2407.01492, sections 3 and 4). Replaying them costs minutes and trains nothing. The files are
read from a folder, or fetched once from the public repository at a fixed commit and checked by sha256; none is in ours.

Shares are printed with three digits, so rows sum to 0.996–1.003: they are divided by their sum, and the note says so.
What the replay makes of the runs stands below them, each beside what the paper printed.
"""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from demix_nb import DATA, scoresheets, sheets
from demix_nb.decide import best
from demix_nb.parallel import fan_out
from demix_nb.predictors import Predictor
from demix_nb.scored import Scored, describe
from demix_nb.store import Refusal

COMMIT = "b004d3a3f39846dcec6b3740da22bcd1ba95a5d0"
URL = f"https://raw.githubusercontent.com/sail-sg/regmix/{COMMIT}/data/"  # MIT licence
SHA256 = {
    "test_mixture_1B.csv": "dd38052949c0a5f84165bdcb3ae3a331c7f07efd9bb83848bd579dfc4ce75a2c",
    "test_mixture_1m.csv": "197267b7d6f15367e2f46c881e564c35b0d34e51b1754bb09d07e650cf8e1ce8",
    "test_mixture_60m.csv": "197267b7d6f15367e2f46c881e564c35b0d34e51b1754bb09d07e650cf8e1ce8",
    "test_pile_loss_1B.csv": "b2451e2b7fa15400688edc39e4d32f21ccbe0fb356e07d62a0e9ccddf247114f",
    "test_pile_loss_1m.csv": "e027b1674f60140a65a87b5e4a59ab5f09dc33e8fd02c080682678074b160f53",
    "test_pile_loss_60m.csv": "8fe69d59ab7dd4fae4736459f4265ec93c7ed1ad1eca407346052560edc72b5b",
    "train_mixture_1m.csv": "04a32ef4ab594376bf90e11404c033668f887c351d6a03ad3744824c7296a2d8",
    "train_pile_loss_1m.csv": "49a959aa07ce5c20831d5abe3a7896ff0cd90a398bd407c8913fd5588be0465a",
}
SETS = {"train": "train_{}_1m.csv", "1M": "test_{}_1m.csv", "60M": "test_{}_60m.csv", "1B": "test_{}_1B.csv"}
SUM_TOLERANCE = 0.01  # a row further from 1 than three-digit rounding explains is an error

DOMAINS = {  # name in the files → name in the paper, in the files' order
    "arxiv": "ArXiv", "freelaw": "FreeLaw", "nih_exporter": "NIH ExPorter", "pubmed_central": "PubMed Central",
    "wikipedia_en": "Wikipedia (en)", "dm_mathematics": "DM Mathematics", "github": "Github",
    "philpapers": "PhilPapers", "stackexchange": "Stack Exchange", "enron_emails": "Enron Emails",
    "gutenberg_pg_19": "Gutenberg (PG-19)", "pile_cc": "Pile-CC", "ubuntu_irc": "Ubuntu IRC", "europarl": "EuroParl",
    "hackernews": "HackerNews", "pubmed_abstracts": "PubMed Abstracts", "uspto_backgrounds": "USPTO Backgrounds",
}  # fmt: skip
UNSCORED = {"NIH ExPorter", "PhilPapers", "Enron Emails", "EuroParl"}  # trained on, but no validation loss published
TARGET = "Pile-CC"  # the loss that RegMix minimises
TWO = {"linear": "ridge", "lightgbm": "lightgbm_regmix"}  # the paper's regressions → their names in `PREDICTORS`
TOP = 1024  # best predicted mixtures whose shares Figure 14 shows
BLURRED = (24, 56, 64)  # models of Appendix G whose scores the print cut by a digit


def load(directory: str | Path = "") -> dict[str, Scored]:
    """Return "train" (512 × 1M) and the unseen "1M" (256), "60M" (256) and "1B" (64) runs; scores are losses in nats.

    Reads the folder `directory`, or when that is "" downloads once into the user's cache. Raises Refusal when a file
    is missing, cannot be fetched, or has an unknown or missing column, a row twice or in one table only, a value that
    is no number, a negative share, or shares whose sum is off by more than 1 %.
    """
    folder = Path(directory) if str(directory) else fetch(URL)
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing:
        raise Refusal(f"{folder} has no {missing[0]}; {HELP}")
    return {name: _runs(folder / pattern.format("mixture"), folder / pattern.format("pile_loss"))
            for name, pattern in SETS.items()}  # fmt: skip


def printed(table: str) -> pd.DataFrame:
    """Return a table of the paper as typed into `data/published/regmix_<table>.csv`, first column as index.

    The paper's two regressions have our names.
    """
    return pd.read_csv(DATA / "published" / f"regmix_{table}.csv", index_col=0).rename(index=TWO)


HELP = (
    "give the folder with the eight CSV files (`-p regmix_dir=DIR`); they are in the folder data/ of "
    f"https://github.com/sail-sg/regmix at commit {COMMIT[:7]}"
)


def fetch(url: str) -> Path:
    """Download what the cache folder (`DEMIX_NB_CACHE`, or the user's) lacks and return that folder."""
    path = pooch.os_cache("demix_nb") / "regmix"
    files = {name: f"sha256:{digest}" for name, digest in SHA256.items()}
    cache = pooch.create(path, url, registry=files, env="DEMIX_NB_CACHE")
    try:
        for name in files:
            cache.fetch(name)
    except Exception as error:  # requests, sockets and pooch's checksum all raise their own kinds
        raise Refusal(f"could not fetch RegMix's tables: {error}; {HELP}") from error
    return Path(cache.path)


def _runs(mixture_csv: Path, loss_csv: Path) -> Scored:
    shares = _named(mixture_csv, "train_the_pile_{}", set(DOMAINS.values()))
    scored = set(DOMAINS.values()) - UNSCORED
    losses = _named(loss_csv, "metric/the_pile_{}_val_loss", scored)
    negative = np.argwhere(shares.to_numpy() < 0)
    if len(negative):
        row, column = shares.index[negative[0, 0]], shares.columns[negative[0, 1]]
        raise Refusal(f"{mixture_csv.name}: row {row!r}, column {column!r} is negative; shares are not")
    sums = shares.sum(axis=1)
    off = (sums - 1).abs()
    if off.max() > SUM_TOLERANCE:
        row, column = off.idxmax(), shares.loc[off.idxmax()].idxmax()
        raise Refusal(f"{mixture_csv.name}: row {row!r} sums to {sums[row]:.4g}, largest in column {column!r}; not 1")
    note = f"{mixture_csv.name}: {(off > 1e-9).sum()} of {len(sums)} rows summed to {sums.min():.3f}–{sums.max():.3f}"
    shares = shares.div(sums, axis=0)
    losses = scoresheets.paired(shares, losses, loss_csv.name)
    return Scored(shares, losses, describe(losses.columns, unit="nats", higher_is_better=False), (note,))


def _named(path: Path, pattern: str, expected: set[str]) -> pd.DataFrame:
    """Columns under the paper's names, in its order; raises Refusal naming the first unknown or missing one."""
    table = sheets.numbers(sheets.table(path), path.name).rename_axis(index="mixture")
    names = {pattern.format(key): name for key, name in DOMAINS.items()}
    for kind, odd in (
        ("unknown", [column for column in table if names.get(column) not in expected]),
        ("missing", [column for column, name in names.items() if name in expected and column not in table]),
    ):
        if odd:
            raise Refusal(f"{path.name}: {kind} column {odd[0]!r}; {HELP}")
    return table.rename(columns=names)[[name for name in DOMAINS.values() if name in expected]]


# --- what the replay makes of the runs, beside what was printed


def table2(judged: pd.DataFrame) -> pd.DataFrame:
    """Return ρ of the paper's two regressions on unseen runs, beside what was printed, all in percent.

    Index predictor; columns test, rho, low, high, printed, difference (ours minus printed). `judged`: errors on the
    unseen runs (`Judge.held_out`). Raises Refusal where one of the two was not judged.
    """
    if missing := [name for name in TWO.values() if name not in judged.index.get_level_values("predictor")]:
        raise Refusal(f"{missing[0]!r} was not judged, but its values are printed; add it to the predictors")
    paper = printed("table2_rank_invariance")[["rho_1m", "rho_60m", "rho_1b"]].set_axis(["1M", "60M", "1B"], axis=1)
    paper = paper.rename_axis(index="predictor", columns="test").stack()
    ours = 100 * judged.droplevel("task").loc[paper.index, ["rho", "low", "high"]]
    return ours.assign(printed=paper, difference=ours["rho"] - paper).reset_index("test")


def draw(n: int, *, rng: np.random.Generator) -> pd.DataFrame:
    """Draw `n` mixtures from Dirichlet(x⁰), x⁰ the token shares of Table 1 (RegMix 3.3)."""
    amounts = printed("table1_pile_sizes")["effective_size_gib"][list(DOMAINS.values())]
    return pd.DataFrame(rng.dirichlet(amounts / amounts.sum(), n), columns=amounts.index)


def search(
    fits: Mapping[str, Predictor], pool: pd.DataFrame, *, n_jobs: int
) -> tuple[dict[str, pd.DataFrame], pd.Series]:
    """Return for each predictor the `TOP` mixtures of a pool that it predicts best, best first, and its CPU seconds."""
    done = fan_out(_timed, [(predictor, pool) for predictor in fits.values()], n_jobs=n_jobs, ordered=True)
    found = dict(zip(fits, done, strict=True))
    return {name: rows for name, (rows, _) in found.items()}, pd.Series(
        {name: took for name, (_, took) in found.items()}
    )


def _timed(predictor: Predictor, pool: pd.DataFrame) -> tuple[pd.DataFrame, float]:
    began = time.process_time()
    return best(predictor, pool, TOP), time.process_time() - began


def table7(found: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Return the mixtures found after the printed one of RegMix and before those of DoReMi and Human.

    Index domain; columns mixture (its name), share, printed.
    """
    paper = printed("table7_mixtures")
    regmix, *others = (
        paper[name].rename("share").to_frame().assign(mixture=f"{name}, printed", printed=True)
        for name in ("RegMix", "DoReMi", "Human")
    )
    ours = [shares.rename("share").to_frame().assign(mixture=name, printed=False) for name, shares in found.items()]
    return pd.concat([regmix, *ours, *others]).rename_axis("domain")[["mixture", "share", "printed"]]


def figure14(tops: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return mean and 5–95 % of each domain's share in the mixtures that predictors hold for the best.

    Index domain; columns fitted (to what), value, low, high.
    """
    parts = []
    for fitted, rows in tops.items():
        low, high = rows.quantile(0.05), rows.quantile(0.95)
        parts.append(pd.DataFrame({"fitted": fitted, "value": rows.mean(), "low": low, "high": high}))
    return pd.concat(parts).rename_axis("domain")


def appendix_g(large: Scored, *, whole: bool = False) -> pd.DataFrame:
    """Return the 13 downstream scores and their average, percent, of the 64 models of 1B; index as in `large`.

    `whole`: without the three models whose scores lost a digit in print.
    """
    scores = printed("appendix_g_64x1b").set_axis(large.mixtures.index).iloc[:, len(DOMAINS) :]
    return scores.drop(index=scores.index[[model - 1 for model in BLURRED]]) if whole else scores


def downstream(large: Scored) -> pd.DataFrame:
    """Return Pearson's r of minus the loss with downstream scores, domain × score (Figure 5a; models printed whole)."""
    scores = appendix_g(large, whole=True)
    losses = large.scores.loc[scores.index]
    return pd.DataFrame({score: -losses.corrwith(scores[score]) for score in scores}).rename_axis("domain")


def table3(large: Scored) -> pd.DataFrame:
    """Return worst and best downstream scores as printed and as Appendix G has them, and how far they are `off`."""
    paper = printed("table3_worst_best").rename(index={"Average Performance": "Avg"})
    scores = appendix_g(large)
    table = paper.assign(worst_of_64=scores.min(), best_of_64=scores.max())
    off = (table[["worst", "best"]] - table[["worst_of_64", "best_of_64"]].to_numpy()).abs().max(axis=1)
    return table.assign(off=off)
