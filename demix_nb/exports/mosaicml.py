"""mosaicml-streaming: streams with a `proportion` each, normalised, met exactly in every epoch.

Of an epoch's samples each stream gets a whole number, cut off, and the few that are left go to streams drawn at random.
A stream that is too small is repeated, one that is too large is sampled from. `repeat` would be epochs and `choose` a
count; all streams must be told in one way.

Source: mosaicml-streaming `base/stream.py` (`Stream.apply_weights`).
"""

import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, numbers


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; an epoch is the run, where its size is known."""
    weights = numbers(order.phases[0].shares)
    streams = {name: _place(order.sources[name].path) | {"proportion": weight} for name, weight in weights.items()}
    size = {} if order.tokens is None else {"epoch_size": order.tokens // order.sequence}
    return {"streams.yaml": as_yaml({"dataset": {"streams": streams} | size})}


def _place(path: str) -> dict[str, str]:
    return {"remote" if "://" in path else "local": path}


def read(files: Files) -> list[Weights]:
    """Return the proportion of each stream's path."""
    streams = yaml.safe_load(files["streams.yaml"])["dataset"]["streams"].values()
    return [{one.get("local") or one["remote"]: one["proportion"] for one in streams}]


FORMAT = Format(
    name="mosaicml",
    label="mosaicml-streaming",
    weight="token share",
    zeros="allowed, never drawn",
    exhausted="it is repeated within an epoch, as often as its share needs",
    phases=False,
    grammar="mosaicml-streaming: streaming/base/stream.py",
    use="`streams` of llm-foundry's `train_loader.dataset`, or `Stream(**stream)` for each",
    write=write,
    read=read,
    real="mosaicml-streaming 0.13.0: Stream, Stream.apply_weights",
)
