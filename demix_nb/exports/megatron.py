"""Megatron-LM and NeMo: a flat list of weights and prefixes, as arguments, as a file, or by split.

A list of odd length is read as paths alone, so every prefix has its weight; weights of 0 are refused by an assertion
when the data are built. A blend is met sequence by sequence, by the largest error so far (`build_blending_indices`).

Source: Megatron-LM `get_blend_from_list`, `--data-path`, `--data-args-path`, `--per-split-data-args-path`.
"""

import json
import shlex

import yaml

from demix_nb.exports.formats import Files, Format, Weights
from demix_nb.exports.order import Order
from demix_nb.exports.texts import as_yaml, numbers
from demix_nb.store import Refusal

SPLITS = ("train", "valid", "test")


def write(order: Order) -> dict[str, str]:
    """Return the files of an order; raises Refusal for a path with a blank, and where only some name what is held out.

    The blend of what is held out is the one that is trained on.
    """
    weights = numbers(order.phases[0].shares)
    blends = {split: _blend(order, weights, split) for split in SPLITS}
    train = blends["train"]
    lines = " ".join(["--data-path", *(f"\\\n  {shlex.quote(word)}" for word in train)])
    files = {
        "arguments.txt": f"{lines}\n",
        "data_args.txt": " ".join(train) + "\n",
        "nemo.yaml": as_yaml({"data": {"data_prefix": [_typed(word) for word in train]}}),
    }
    if all(blends.values()):
        files["per_split.json"] = json.dumps(blends, indent=1) + "\n"
    return files


def _blend(order: Order, weights: dict[str, float], split: str) -> list[str]:
    """Weight, prefix, weight, prefix, …; nothing where no candidate has this split."""
    paths = {name: getattr(order.sources[name], "path" if split == "train" else split) for name in weights}
    if not any(paths.values()):
        return []
    if missing := [name for name, path in paths.items() if not path]:
        raise Refusal(f"{missing[0]!r} has no {split} path and others have; name all or none")
    if odd := [path for path in paths.values() if len(path.split()) > 1]:
        raise Refusal(f"Megatron parts its arguments at blanks, and {odd[0]!r} holds one; link it to another name")
    return [word for name, weight in weights.items() for word in (repr(weight), paths[name])]


def _typed(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word


def read(files: Files) -> list[Weights]:
    """Return what all files that carry the blend say; they must agree."""
    words = files["data_args.txt"].split()
    _, *given = shlex.split(files["arguments.txt"].replace("\\\n", " "))
    nemo = yaml.safe_load(files["nemo.yaml"])["data"]["data_prefix"]
    split = json.loads(files.get("per_split.json", "{}")).get("train", words)
    found = [dict(zip(blend[1::2], map(float, blend[::2]), strict=True)) for blend in (words, given, nemo, split)]
    assert all(one == found[0] for one in found), "the files disagree"
    return found[:1]


FORMAT = Format(
    name="megatron",
    label="Megatron-LM, NeMo",
    weight="token share",
    zeros="refused when the data are built",
    exhausted="it is read again, shuffled anew, for as many epochs as its share needs",
    phases=False,
    grammar="Megatron-LM: megatron/core/datasets/utils.py, get_blend_from_list",
    use="`--data-args-path data_args.txt`, or `--per-split-data-args-path per_split.json`; "
    "NeMo: `data.data_prefix` of nemo.yaml",
    write=write,
    read=read,
    real="megatron-core 0.16.1: get_blend_from_list, helpers.build_blending_indices",
)
