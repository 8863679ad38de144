"""OLMo-core: a list of sources with target ratios that sum to 1, and how often each may be repeated.

A source whose ratio needs more tokens than it has is refused by OLMo-core unless `max_repetition_ratio` allows it;
where tokens and budget are known, it is set to the epochs that are needed.

Source: OLMo-core `SourceMixtureList.from_dict`, `SourceMixtureDatasetConfig.build`.
"""

import math

import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, numbers


def write(order: Order) -> dict[str, str]:
    """Return the file of an order."""
    weights, epochs = numbers(order.phases[0].shares), order.epochs
    sources = []
    for name, weight in weights.items():
        said = {"source_name": name, "target_ratio": weight, "paths": [order.sources[name].path]}
        often = epochs[name]
        if often > 1:  # false where it is not known
            said["max_repetition_ratio"] = float(math.ceil(often))
        sources.append(said)
    return {"sources.yaml": as_yaml({"sources": sources})}


def read(files: Files) -> list[Weights]:
    """Return the target ratio of each source's path."""
    return [{one["paths"][0]: one["target_ratio"] for one in yaml.safe_load(files["sources.yaml"])["sources"]}]


FORMAT = Format(
    name="olmo-core",
    label="OLMo-core",
    weight="token share",
    zeros="allowed",
    exhausted="refused, unless max_repetition_ratio allows it: it is set where tokens and budget are known",
    phases=False,
    grammar="OLMo-core: src/olmo_core/data/source_mixture.py",
    use="`SourceMixtureList.from_dict(yaml.safe_load(open('sources.yaml')))` as `source_list` of "
    "`SourceMixtureDatasetConfig`",
    write=write,
    read=read,
    real="ai2-olmo-core 3.0.0: SourceMixtureList.from_dict, SourceMixtureDatasetConfig.build",
)
