"""litdata: `CombinedStreamingDataset` draws a sample of a source at a time by its weight.

Samples are blocks of tokens where `TokensLoader` reads them, so weights are shares of tokens. With weights it stops at
the first source that is exhausted (`iterate_over_all=False`; litdata refuses weights otherwise).

Source: litdata `streaming/combined.py`.
"""

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_rows, number, rows_of

HEAD = '''"""Blocks of tokens of all sources, in their shares."""

from litdata import CombinedStreamingDataset, StreamingDataset, TokensLoader

# path, share of the blocks
'''
TAIL = '''

def train(*, block_size={sequence}, seed=0):
    """Return the blocks of all sources, combined; it ends with the first source that is exhausted."""
    parts = [StreamingDataset(path, item_loader=TokensLoader(block_size), shuffle=True) for path, _ in SOURCES]
    shares = [share for _, share in SOURCES]
    return CombinedStreamingDataset(parts, seed=seed, weights=shares, iterate_over_all=False)
'''


def write(order: Order) -> dict[str, str]:
    """Return the file of an order."""
    rows = [(order.sources[name].path, number(share)) for name, share in order.phases[0].shares.items()]
    return {"mixture.py": HEAD + as_rows("SOURCES", rows) + TAIL.format(sequence=order.sequence)}


def read(files: Files) -> list[Weights]:
    """Return each path's weight."""
    return [dict(rows_of(files["mixture.py"], "SOURCES"))]


FORMAT = Format(
    name="litdata",
    label="litdata",
    weight="token share",
    zeros="never drawn",
    exhausted="the data end with the first source that is exhausted",
    phases=False,
    grammar="litdata: src/litdata/streaming/combined.py",
    use="`from mixture import train`, in a `StreamingDataLoader`",
    write=write,
    read=read,
    chance=True,
    real="litdata 0.2.76: CombinedStreamingDataset",
)
