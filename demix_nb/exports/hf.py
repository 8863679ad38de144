"""Hugging Face `datasets`: `interleave_datasets` draws documents, a source at a time by its probability.

It stops at the first source that is exhausted unless told otherwise; here it is told to read on, and sources begin
again. A source of probability 0 would then be waited for for ever. Documents of all lengths are one draw each, so that
shares are those of documents; they hold where documents are packed, not cut to a length.

Source: `datasets.interleave_datasets`.
"""

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_rows, kind_of, number, rows_of

HEAD = '''"""Documents of all sources, in shares that give the tokens theirs; pack them, do not cut them."""

from datasets import interleave_datasets, load_dataset

# loader, path, share of the documents
'''
TAIL = '''

def train(*, seed=0, streaming=True):
    """Return the documents of all sources, interleaved; a source that is exhausted begins again."""
    parts = [
        load_dataset(kind, data_files=path, split="train", streaming=streaming)
        if kind
        else load_dataset(path, split="train", streaming=streaming)
        for kind, path, _ in SOURCES
    ]
    shares = [share for *_, share in SOURCES]
    return interleave_datasets(parts, probabilities=shares, seed=seed, stopping_strategy="all_exhausted")
'''


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; raises Refusal where documents' lengths are not known."""
    weights = order.documents(order.phases[0])
    paths = {name: order.sources[name].path for name in weights.index}
    rows = [(kind_of(path), path, number(weights[name])) for name, path in paths.items()]
    return {"mixture.py": HEAD + as_rows("SOURCES", rows) + TAIL}


def read(files: Files) -> list[Weights]:
    """Return each path's probability."""
    return [{path: share for _, path, share in rows_of(files["mixture.py"], "SOURCES")}]


FORMAT = Format(
    name="hf",
    label="Hugging Face datasets",
    weight="document share",
    zeros="never drawn, and waited for for ever where all sources are to be exhausted",
    exhausted="it begins again, until every source has been read through once; then the data end",
    phases=False,
    grammar="datasets: interleave_datasets(datasets, probabilities, seed, stopping_strategy)",
    use="`from mixture import train`",
    write=write,
    read=read,
    chance=True,
    real="datasets (this installation's): load_dataset, interleave_datasets",
)
