"""Read an export with its trainer's own code and draw from it; runs in the trainer's environment, without ours.

`python draws.py NAME EXPORT DRAWS`: prints how many tokens of each path are drawn, as JSON in the last line. The data
lie where the export says, made by `trainers.py`: documents say which source they are of and how many tokens they have.
"""

import json
import os
import runpy
import sys
from collections import Counter
from importlib import import_module, util
from pathlib import Path
from types import ModuleType

import numpy as np
import yaml

SEED = 1


def bare(name: str) -> None:
    """Have a package without running its `__init__`, which would import what is not installed."""
    top, *rest = name.split(".")
    within = sys.modules[top].__path__[0] if top in sys.modules else util.find_spec(top).submodule_search_locations[0]
    module = sys.modules[name] = ModuleType(name)
    module.__path__ = [os.path.join(within, *rest)]


def counted(texts: list[str]) -> Counter:
    """Tokens of documents by their source; a document is its source's number, repeated."""
    found: Counter = Counter()
    for text in texts:
        found[text.partition(" ")[0]] += text.count(" ") + 1
    return found


def by_path(found: Counter, paths: list[str]) -> dict[str, int]:
    """The same by path; sources are numbered, and a file is called by its number."""
    return {path: int(found[Path(path).stem]) for path in paths}


def megatron(folder: Path, draws: int) -> dict[str, int]:
    get_blend_from_list = import_module("megatron.core.datasets.utils").get_blend_from_list
    normalize = import_module("megatron.core.datasets.utils").normalize
    helpers = import_module("megatron.core.datasets.helpers")
    prefixes, weights = get_blend_from_list((folder / "data_args.txt").read_text().split())
    assert all(weight > 0 for weight in weights), "as BlendedDataset asserts"
    index, within = np.zeros(draws, np.int16), np.zeros(draws, np.int64)
    helpers.build_blending_indices(index, within, normalize(weights), len(prefixes), draws, False)
    return dict(zip(prefixes, np.bincount(index, minlength=len(prefixes)).tolist(), strict=True))


def olmo_core(folder: Path, draws: int) -> dict[str, int]:
    mixture = import_module("olmo_core.data.source_mixture")
    listed = mixture.SourceMixtureList.from_dict(yaml.safe_load((folder / "sources.yaml").read_text()))
    how = {"requested_tokens": draws * 16, "global_batch_size": 16 * 100, "render_tables": False}
    built = mixture.SourceMixtureDatasetConfig(source_list=listed, **how).build(npdtype=np.uint16, sequence_length=16)
    found: Counter = Counter()
    for (path, _), tokens in built.to_index().items():
        found[path] += tokens
    return dict(found)


def hf(folder: Path, draws: int) -> dict[str, int]:
    made = runpy.run_path(str(folder / "mixture.py"))
    found: Counter = Counter()
    for batch in made["train"](seed=SEED, streaming=False).iter(10_000):
        found += counted(batch["text"])
    return by_path(found, [path for _, path, _ in made["SOURCES"]])


def llamafactory(folder: Path, draws: int) -> dict[str, int]:
    os.environ["DISABLE_VERSION_CHECK"] = "1"
    for name in ("llamafactory", "llamafactory.hparams", "llamafactory.data"):
        bare(name)
    arguments = import_module("llamafactory.hparams.data_args").DataArguments
    sys.modules["llamafactory.hparams"].DataArguments = arguments
    said = yaml.safe_load((folder / "data.yaml").read_text())
    assert said.pop("stage") == "pt"
    given = arguments(**said)
    listed = import_module("llamafactory.data.parser").get_dataset_list(given.dataset, str(folder))
    paths = [one.dataset_name for one in listed]
    opened = [import_module("datasets").load_dataset("json", data_files=path, split=one.split)
              for path, one in zip(paths, listed, strict=True)]  # fmt: skip
    merged = import_module("llamafactory.data.data_utils").merge_dataset(opened, given, seed=SEED)
    found: Counter = Counter()
    for batch in merged.iter(10_000):
        found += counted(batch[listed[0].prompt])
    return by_path(found, paths)


def torchtitan(folder: Path, draws: int) -> dict[str, int]:
    made = runpy.run_path(str(folder / "sources.py"))
    loaders = import_module("torchtitan.hf_datasets.text_datasets")

    class Words:
        """A tokenizer of words: a token each."""

        def encode(self, text: str, add_bos: bool, add_eos: bool) -> list[int]:
            words = text.split()
            return [int(words[0])] * (len(words) + add_bos)

    how = {"dp_world_size": 1, "dp_rank": 0, "tokenizer": Words(), "seq_len": 16, "local_batch_size": 1000}
    loader = loaders.InterleavedHuggingFaceTextDataLoader(made["dataloader"](), **how)
    found: Counter = Counter()
    for number, (batch, _) in enumerate(loader, 1):
        found += Counter(map(str, batch["input"].flatten().tolist()))
        if number * 1000 >= draws:
            break
    return by_path(found, [path for *_, path, _ in made["SOURCES"]])


def litdata(folder: Path, draws: int) -> dict[str, int]:
    torch = import_module("torch")
    writer, loader = import_module("litdata.streaming.writer").BinaryWriter, import_module("litdata").TokensLoader(2)
    made = runpy.run_path(str(folder / "mixture.py"))
    for path, share in made["SOURCES"]:
        if not Path(path).exists():
            os.makedirs(path)
            out = writer(path, chunk_bytes="8MB", item_loader=loader)
            out.add_item(0, torch.full((2 * int(draws * share * 1.2 + 100),), int(Path(path).stem), dtype=torch.int16))
            out.done()
            out.merge()
    found: Counter = Counter()
    for number, block in enumerate(made["train"](block_size=2, seed=SEED), 1):
        found[str(int(block[0]))] += len(block)
        if number == draws:
            break
    return by_path(found, [path for path, _ in made["SOURCES"]])


def mosaicml(folder: Path, draws: int) -> dict[str, int]:
    for name in ("streaming", "streaming.base"):
        bare(name)
    stream = import_module("streaming.base.stream").Stream
    said = yaml.safe_load((folder / "streams.yaml").read_text())["dataset"]["streams"]
    streams = [stream(**one) for one in said.values()]
    stream.apply_weights(streams, np.full(len(streams), 10_000), draws, SEED)
    return {one.local: int(one.choose) for one in streams}


if __name__ == "__main__":
    name, folder, draws = sys.argv[1:]
    print(json.dumps(globals()[name.replace("-", "_")](Path(folder), int(draws))))
