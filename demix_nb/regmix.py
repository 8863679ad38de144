"""RegMix's public run tables: what 512 + 256 tiny, 256 small and 64 large models scored on mixtures of 17 Pile domains.

The one place where a mixture study published every run: training mixtures and validation losses of models of 1M, 60M
and 1B parameters (arXiv 2407.01492, sections 3 and 4). Replaying them costs minutes and trains nothing. The files are
read from a folder, or fetched once from the public repository at a fixed commit and checked by sha256; none is in ours.

Shares are printed with three digits, so rows sum to 0.996–1.003: they are divided by their sum, and the note says so.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pooch

from demix_nb.runs import Runs, RunsError, describe, paired, read_scores

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


def load(directory: str | Path = "") -> dict[str, Runs]:
    """Return "train" (512 × 1M) and the unseen "1M" (256), "60M" (256) and "1B" (64) runs; scores are losses in nats.

    Reads the folder `directory`, or when that is "" downloads once into the user's cache. Raises RunsError when a file
    is missing, cannot be fetched, or has an unknown or missing column, a row twice or in one table only, a value that
    is no number, a negative share, or shares whose sum is off by more than 1 %.
    """
    folder = Path(directory) if str(directory) else fetch(URL)
    missing = [name for name in SHA256 if not (folder / name).is_file()]
    if missing:
        raise RunsError(f"{folder} has no {missing[0]}; {HELP}")
    return {name: _runs(folder / pattern.format("mixture"), folder / pattern.format("pile_loss"))
            for name, pattern in SETS.items()}  # fmt: skip


def printed(table: str) -> pd.DataFrame:
    """Return a table of the paper as typed into `data/published/regmix_<table>.csv`, first column as index."""
    return pd.read_csv(Path(__file__).parent.parent / "data" / "published" / f"regmix_{table}.csv", index_col=0)


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
        raise RunsError(f"could not fetch RegMix's tables: {error}; {HELP}") from error
    return Path(cache.path)


def _runs(mixture_csv: Path, loss_csv: Path) -> Runs:
    shares = _named(read_scores(mixture_csv), "train_the_pile_{}", set(DOMAINS.values()), mixture_csv.name)
    scored = set(DOMAINS.values()) - UNSCORED
    losses = _named(read_scores(loss_csv), "metric/the_pile_{}_val_loss", scored, loss_csv.name)
    negative = np.argwhere(shares.to_numpy() < 0)
    if len(negative):
        row, column = shares.index[negative[0, 0]], shares.columns[negative[0, 1]]
        raise RunsError(f"{mixture_csv.name}: row {row!r}, column {column!r} is negative; shares are not")
    sums = shares.sum(axis=1)
    off = (sums - 1).abs()
    if off.max() > SUM_TOLERANCE:
        row, column = off.idxmax(), shares.loc[off.idxmax()].idxmax()
        raise RunsError(f"{mixture_csv.name}: row {row!r} sums to {sums[row]:.4g}, largest in column {column!r}; not 1")
    note = f"{mixture_csv.name}: {(off > 1e-9).sum()} of {len(sums)} rows summed to {sums.min():.3f}–{sums.max():.3f}"
    shares = shares.div(sums, axis=0)
    losses = paired(shares, losses, loss_csv.name)
    return Runs(shares, losses, describe(losses.columns, unit="nats", higher_is_better=False), (note,))


def _named(table: pd.DataFrame, pattern: str, expected: set[str], file: str) -> pd.DataFrame:
    """Columns under the paper's names, in its order; raises RunsError naming the first unknown or missing one."""
    names = {pattern.format(key): name for key, name in DOMAINS.items()}
    for kind, odd in (
        ("unknown", [column for column in table if names.get(column) not in expected]),
        ("missing", [column for column, name in names.items() if name in expected and column not in table]),
    ):
        if odd:
            raise RunsError(f"{file}: {kind} column {odd[0]!r}; {HELP}")
    if table.index.has_duplicates:
        raise RunsError(f"{file}: row {table.index[table.index.duplicated()][0]!r} comes twice; keep one")
    return table.rename(columns=names)[[name for name in DOMAINS.values() if name in expected]]
