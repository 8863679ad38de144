"""What goes out beside a merged checkpoint: a model card that the hub understands, and the same merge for mergekit.

The card's metadata name the components as base models of a merge, so that the hub draws its tree; a licence stands in
them where all components that have one state the same. What mergekit is told are folders and shares.

Source: huggingface.co/docs/hub/model-cards (`base_model_relation`); mergekit (2403.13257), its YAML configuration.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData, metadata_load

from demix_nb.merging.bank import Bank, Weights
from demix_nb.merging.methods import METHODS
from demix_nb.store import Refusal, folder_hash

CARD, MERGEKIT = "README.md", "mergekit_config.yml"
LINEAR = "linear"


def card(title: str, bank: Bank, weights: Weights, method: str, settings: Mapping[str, Any]) -> str:
    """Return the model card of a merge; raises Refusal for a component whose own card cannot be read."""
    row, taking = METHODS[method], {bank.names[k]: bank.rows[k].directory for k in bank.shares(weights)}
    licences = {name: found for name, folder in taking.items() if (found := licence(folder))}
    rows = [f"| {name} | {weights[name]:.6g} | {licences.get(name, '')} | `{folder_hash(folder)}` |"
            for name, folder in taking.items()]  # fmt: skip
    rows += [f"| base | | | `{folder_hash(bank.base)}` |"] if row.updates else []
    listed = ", ".join(f"{name} = {value}" for name, value in settings.items()) or "none"
    return (
        f"---\n{_metadata([*taking.values()], set(licences.values())).to_yaml()}\n---\n"
        f"# {title}\n\nA proxy: the merge of {len(rows)} models below, not trained itself. Made with demix_nb.\n\n"
        f"Method: [{method}]({row.paper}); settings: {listed}.\n\n"
        "| component | weight | licence | sha256 of weights, configuration and tokenizer |\n| --- | --- | --- | --- |\n"
        + "\n".join(rows)
        + "\n"
    )


def _metadata(folders: list[Path], licences: set[str]) -> ModelCardData:
    """What the hub reads; a repository's name holds letters, digits and marks alone."""
    names = [re.sub(r"[^\w.]+", "-", folder.resolve().name).strip("-.") for folder in folders]
    return ModelCardData(
        base_model=names,
        base_model_relation="merge",
        library_name="transformers",
        license=next(iter(licences)) if len(licences) == 1 else None,
        pipeline_tag="text-generation",
        tags=["merge", "model-soup"],
    )


def licence(folder: Path) -> str | None:
    """Return the licence that a checkpoint's card states, if it has one; raises Refusal for a card that is broken."""
    if not (folder / CARD).is_file():
        return None
    try:
        found = metadata_load(folder / CARD) or {}
    except (ValueError, yaml.YAMLError) as error:
        raise Refusal(f"the metadata of {folder / CARD} cannot be read; mend them, or move it away") from error
    return found.get("license")


def for_mergekit(bank: Bank, weights: Weights, dtype: str) -> str:
    """Return a linear merge as mergekit is told it: folders, shares and the dtype of what comes out."""
    models = [
        {"model": str(bank.rows[k].directory.resolve()), "parameters": {"weight": float(weights[bank.names[k]])}}
        for k in bank.shares(weights)
    ]
    return yaml.safe_dump({"merge_method": LINEAR, "models": models, "dtype": dtype}, sort_keys=False)
