"""lingua: a folder for every source below one root, and weights by folder.

A source is drawn for every line of JSON, before documents are packed, so weights are shares of documents.

Source: lingua `lingua/data.py` (`choose_source`), `DataArgs`.
"""

import posixpath

import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, numbers
from demix_nb.store import Refusal


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; raises Refusal for paths without one root."""
    weights = numbers(order.documents(order.phases[0]))
    paths = [order.sources[name].path for name in weights]
    try:
        root = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    except ValueError as error:
        raise Refusal("lingua reads folders below one root; give all paths whole, or all relative") from error
    folders = [posixpath.relpath(path, root or ".") for path in paths]
    sources = dict(zip(folders, weights.values(), strict=True))
    return {"data.yaml": as_yaml({"data": {"root_dir": root, "sources": sources}})}


def read(files: Files) -> list[Weights]:
    """Return each folder's weight."""
    data = yaml.safe_load(files["data.yaml"])["data"]
    return [{posixpath.join(data["root_dir"], name): weight for name, weight in data["sources"].items()}]


FORMAT = Format(
    name="lingua",
    label="lingua",
    weight="document share",
    zeros="never drawn",
    exhausted="it begins again",
    phases=False,
    grammar="lingua: lingua/data.py",
    use="`data:` of your training file; each source is a folder of `*.chunk.*.jsonl`",
    write=write,
    read=read,
    chance=True,
)
