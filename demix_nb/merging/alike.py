"""Say why opened checkpoints cannot be merged with each other: another architecture, other tensors, another tokenizer.

An average of weights means something only if the models compute the same with them. Configurations are compared as
transformers understands them, not as they are spelt (a default left out, the rotary base by its name of version 4),
and tokenizers by what they do. Each check in `PROBLEMS` answers with one sentence (what is wrong, where, the remedy) or
with None: the merge engine raises it, the doctor lists it, so both refuse the same things.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from demix_nb.merging.folders import PROVENANCE, Checkpoint, open_checkpoint, read_config
from demix_nb.merging.tokens import difference
from demix_nb.store import Refusal

# What two mergeable configurations may differ in: where they came from, how they were saved, trained and are sampled
# from, what heads of other tasks would do; not what they compute.
INCIDENTAL = PROVENANCE | {"dtype", "torch_dtype", "tokenizer_class"}
INCIDENTAL |= {"bos_token_id", "eos_token_id", "pad_token_id", "use_cache", "task_specific_params"}
INCIDENTAL |= {"initializer_range", "attention_dropout", "hidden_dropout", "classifier_dropout", "embedding_dropout"}
INCIDENTAL |= {"attn_pdrop", "embd_pdrop", "resid_pdrop", "summary_first_dropout", "gradient_checkpointing"}
INCIDENTAL |= {"output_router_logits", "router_aux_loss_coef", "router_jitter_noise"}
INCIDENTAL |= {"summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"}
INCIDENTAL |= {"id2label", "label2id", "problem_type", "num_labels"}
INCIDENTAL |= {"max_window_layers"}  # transformers writes out in layer_types what follows from it


def architecture_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """Every component must have been built from configurations that mean the same."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        if expected.spelling == found.spelling:
            continue
        try:
            ours, theirs = meaning(expected.directory), meaning(found.directory)
        except Refusal as refusal:
            return str(refusal)
        for key in sorted(ours.keys() | theirs.keys()):
            if (a := ours.get(key)) != (b := theirs.get(key)):
                return f"'{first}' and '{name}' disagree on config '{key}': {a!r} vs {b!r}; train them from one base"
    return None


def tensor_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """Every component must store the same tensors in the same shapes."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        if missing := sorted(expected.shapes.keys() - found.shapes.keys()):
            return f"'{name}' lacks tensor '{missing[0]}' that '{first}' has; save it again from a complete model"
        if extra := sorted(found.shapes.keys() - expected.shapes.keys()):
            return f"'{name}' has an extra tensor '{extra[0]}' that '{first}' lacks; save both the same way"
        for tensor, shape in expected.shapes.items():
            if shape != found.shapes[tensor]:
                shapes = f"{shape} in '{first}' vs {found.shapes[tensor]} in '{name}'"
                return f"components disagree on '{tensor}': {shapes}; train them from one base (notebook 01)"
    return None


def tokenizer_problem(checkpoints: Mapping[str, Checkpoint]) -> str | None:
    """A token id must mean the same text in every component, and the same text must become the same ids."""
    for (first, expected), (name, found) in _against_first(checkpoints):
        try:
            differs = difference(expected.directory, found.directory)
        except Refusal as refusal:
            return str(refusal)
        if differs:
            told = f"'{first}' and '{name}' have different tokenizers: {differs}"
            return f"{told}; train the components with one tokenizer"
    return None


PROBLEMS = {"architecture": architecture_problem, "tensors": tensor_problem, "tokenizer": tokenizer_problem}


def open_alike(directories: Mapping[str, Path]) -> dict[str, Checkpoint]:
    """Open all folders; raises Refusal with the first problem that forbids merging them."""
    checkpoints = {name: open_checkpoint(directory) for name, directory in directories.items()}
    for find in PROBLEMS.values():
        if problem := find(checkpoints):
            raise Refusal(problem)
    return checkpoints


def meaning(directory: Path) -> dict[str, Any]:
    """Key → value of everything in a folder's configuration that is computed with; keys of parts are dotted."""
    config = read_config(directory)
    how = {"attn_implementation": config._attn_implementation, "experts_implementation": config._experts_implementation}
    return dict(_leaves(config.to_dict() | how))


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The entries of a configuration and its parts, without what is incidental."""
    for key, value in config.items():
        if key in INCIDENTAL or (key == "type" and "rope_type" in config):  # the older name of that kind
            continue
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _against_first(checkpoints: Mapping[str, Checkpoint]) -> Iterator[tuple]:
    first, *rest = checkpoints.items()
    return ((first, other) for other in rest)
