"""axolotl: it cannot weigh. Datasets are put together whole, so each is told how many of its documents to read.

A source that must be read several times stands several times, whole, and the last time in part (`split: train[:n]`, a
slice that HF `datasets` takes). Those first documents should be in random order.

Source: axolotl `utils/schemas/datasets.py`; `datasets`' slicing of splits.
"""

import re

import yaml

from demix_nb.exports.formats import MEANINGS, Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, kind_of
from demix_nb.store import Refusal


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; raises Refusal where the run's size, or documents' lengths, are not known."""
    counts = MEANINGS["count"].of(order, order.phases[0])
    entries = [entry for name, count in counts.items() for entry in _entries(order, name, int(count))]
    said = {"datasets": entries, "dataset_exact_deduplication": False, "sample_packing": True, "num_epochs": 1}
    return {"datasets.yaml": as_yaml(said)}


def _entries(order: Order, name: str, count: int) -> list[dict]:
    """A source's entries: as often whole as it fits in, then a part."""
    source = order.sources[name]
    if source.tokens is None:
        raise Refusal(f"axolotl is told how many documents to read, and how many tokens {name!r} has is not known; "
                      "write its tokens beside its path")  # fmt: skip
    there = round(source.tokens / source.document_tokens)
    slices = [f"train[:{there}]"] * (count // there) + ([f"train[:{count % there}]"] if count % there else [])
    kind = kind_of(source.path)
    place = {"path": kind, "data_files": [source.path]} if kind else {"path": source.path}
    return [place | {"split": part, "type": "completion"} for part in slices]


def read(files: Files) -> list[Weights]:
    """Return how many documents of each path are read."""
    found: dict[str, float] = {}
    for one in yaml.safe_load(files["datasets.yaml"])["datasets"]:
        path = one.get("data_files", [one["path"]])[0]
        found[path] = found.get(path, 0) + int(re.fullmatch(r"train\[:(\d+)\]", one["split"])[1])
    return [found]


FORMAT = Format(
    name="axolotl",
    label="axolotl",
    weight="count",
    zeros="a slice without documents is refused",
    exhausted="it stands several times, as it cannot be repeated otherwise",
    phases=False,
    grammar="axolotl: src/axolotl/utils/schemas/datasets.py",
    use="`datasets:` of your training file, with one epoch",
    write=write,
    read=read,
)
