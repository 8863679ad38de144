"""nanotron: stages of data, each with folders of tokenised sequences and their weights.

Weights are normalised and met sequence by sequence, by the largest error so far; the first of equal errors is taken, so
that a source of weight 0 may be drawn: it is left out. A stage begins at a step, the first at 1.

Source: nanotron `config/config.py` (`DatasetStageArgs`, `NanosetDatasetsArgs`), `data/nanoset.py`, `docs/nanoset.md`.
"""

import pandas as pd
import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, numbers


def write(order: Order) -> dict[str, str]:
    """Return the file of an order; raises Refusal where several phases' steps are not known."""
    starts = order.starts if len(order.phases) > 1 else [0]
    stages = [
        {
            "name": f"phase {place}",
            "start_training_step": start + 1,
            "data": {"dataset": _dataset(order, phase.shares), "num_loading_workers": 1, "seed": 0},
        }
        for place, (start, phase) in enumerate(zip(starts, order.phases, strict=True), 1)
    ]
    return {"data_stages.yaml": as_yaml({"data_stages": stages})}


def _dataset(order: Order, shares: pd.Series) -> dict[str, list]:
    weights = numbers(shares)
    folders = [order.sources[name].path for name in weights]
    return {"dataset_folder": folders, "dataset_weights": list(weights.values())}


def read(files: Files) -> list[Weights]:
    """Return the weights of each folder, stage by stage."""
    stages = [one["data"]["dataset"] for one in yaml.safe_load(files["data_stages.yaml"])["data_stages"]]
    return [dict(zip(one["dataset_folder"], one["dataset_weights"], strict=True)) for one in stages]


FORMAT = Format(
    name="nanotron",
    label="nanotron",
    weight="token share",
    zeros="may be drawn all the same, where errors are equal",
    exhausted="it begins again",
    phases=True,
    grammar="nanotron: src/nanotron/config/config.py, docs/nanoset.md",
    use="`data_stages:` of your training file",
    write=write,
    read=read,
)
