"""torchtitan: its interleaved loader draws packed sequences of a source at a time by its weight.

Its `InterleavedDataset` draws whatever its sources yield; the text loader that is configured here packs each source
into sequences first, so that weights are shares of tokens, not of documents. Names of sources are looked up in lower
case, so they are numbered.

Source: torchtitan `hf_datasets/text_datasets.py`, `InterleavedHuggingFaceTextDataLoader`.
"""

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_rows, kind_of, number, rows_of

HEAD = '''"""Sources of torchtitan's interleaved text loader: put `dataloader()` into a config of your registry."""

from datasets import load_dataset
from torchtitan.hf_datasets import DatasetConfig
from torchtitan.hf_datasets.text_datasets import DATASETS, HFDataSource, InterleavedHuggingFaceTextDataLoader

# name, loader, path, share of the tokens
'''
TAIL = '''

def _config(kind, path):
    how = {"data_files": path} if kind else {}
    return DatasetConfig(
        path=path,
        loader=lambda _: load_dataset(kind or path, split="train", streaming=True, **how),
        sample_processor=lambda sample: sample["text"],
    )


DATASETS |= {name: _config(kind, path) for name, kind, path, _ in SOURCES}


def dataloader(**options):
    """Return the configuration of the data loader; a source that is exhausted begins again."""
    sources = [HFDataSource(dataset=name, dataset_path=path, infinite=True, weight=weight)
               for name, _, path, weight in SOURCES]
    return InterleavedHuggingFaceTextDataLoader.Config(sources=sources, **options)
'''


def write(order: Order) -> dict[str, str]:
    """Return the file of an order."""
    shares = order.phases[0].shares
    paths = [order.sources[name].path for name in shares.index]
    rows = [(f"source_{place:03d}", kind_of(path), path, number(share))
            for place, (path, share) in enumerate(zip(paths, shares, strict=True))]  # fmt: skip
    return {"sources.py": HEAD + as_rows("SOURCES", rows) + TAIL}


def read(files: Files) -> list[Weights]:
    """Return each path's weight."""
    return [{path: weight for *_, path, weight in rows_of(files["sources.py"], "SOURCES")}]


FORMAT = Format(
    name="torchtitan",
    label="torchtitan, interleaved",
    weight="token share",
    zeros="never drawn",
    exhausted="it begins again (`infinite=True`), shuffled anew",
    phases=False,
    grammar="torchtitan: torchtitan/hf_datasets/text_datasets.py, HFDataSource",
    use="`dataloader=sources.dataloader()` in a config of the registry",
    write=write,
    read=read,
    chance=True,
    real="torchtitan 0.3.0: InterleavedHuggingFaceTextDataLoader",
)
