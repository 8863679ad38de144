"""LLaMA-Factory: names and probabilities parted by commas, and a file that says where each dataset lies.

Mixing is HF's `interleave_datasets`, so probabilities are shares of documents. `interleave_over` reads on when a source
is exhausted; `interleave_under` would stop there.

Source: LLaMA-Factory `hparams/data_args.py`, `data/data_utils.py` (`merge_dataset`), `data/README.md`.
"""

import json

import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, kind_of, numbers
from demix_nb.store import Refusal


def write(order: Order) -> dict[str, str]:
    """Return the files of an order; raises Refusal for a name with a comma, which would be two."""
    weights = numbers(order.documents(order.phases[0]))
    if odd := [name for name in weights if "," in name]:
        raise Refusal(f"LLaMA-Factory parts names at commas, and {odd[0]!r} holds one; rename it")
    paths = {name: order.sources[name].path for name in weights}
    info = {name: {"file_name" if kind_of(path) else "hf_hub_url": path, "columns": {"prompt": "text"}}
            for name, path in paths.items()}  # fmt: skip
    said = {
        "stage": "pt",
        "dataset_dir": ".",
        "dataset": ",".join(weights),
        "mix_strategy": "interleave_over",
        "interleave_probs": ",".join(map(repr, weights.values())),
        "packing": True,
    }
    return {"dataset_info.json": json.dumps(info, indent=1, ensure_ascii=False) + "\n", "data.yaml": as_yaml(said)}


def read(files: Files) -> list[Weights]:
    """Return the probability of each dataset's path."""
    said, info = yaml.safe_load(files["data.yaml"]), json.loads(files["dataset_info.json"])
    names, weights = said["dataset"].split(","), str(said["interleave_probs"]).split(",")
    places = [info[name].get("file_name") or info[name]["hf_hub_url"] for name in names]
    return [dict(zip(places, map(float, weights), strict=True))]


FORMAT = Format(
    name="llamafactory",
    label="LLaMA-Factory",
    weight="document share",
    zeros="never drawn, and waited for for ever",
    exhausted="it begins again, until every source has been read through once; then an epoch ends",
    phases=False,
    grammar="LLaMA-Factory: src/llamafactory/hparams/data_args.py, data/README.md",
    use="keys of data.yaml in your training file; `dataset_dir` is the folder of dataset_info.json",
    write=write,
    read=read,
    chance=True,
    real="llamafactory 0.9.5: DataArguments, get_dataset_list, merge_dataset",
)
