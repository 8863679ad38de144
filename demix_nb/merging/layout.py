"""Where each stored tensor of a checkpoint lies in a live model whose weights are one flat vector of P numbers.

A live model is not its checkpoint: tied weights have two names, and transformers fuses experts when it loads. We ask
transformers to undo its loading on a model that has shapes but no data, with all weights laid end to end; the offsets
of what comes out say, for any architecture, which numbers of the vector belong to which stored tensor.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, equal
from torch.overrides import TorchFunctionMode
from transformers import PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from demix_nb.merging.folders import Checkpoint
from demix_nb.store import Refusal


@dataclass(frozen=True)
class Piece:
    """Part of the flat space: a stored tensor, `rows` of one, or (without a name) a plain range; and where it lies."""

    index: int
    name: str | None
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    rows: slice | None = None

    def blocks(self, numbers: float) -> Iterator["Piece"]:
        """The same piece cut along its first axis into pieces of at most `numbers` numbers (or one row)."""
        if math.prod(self.shape) <= numbers:
            yield self
            return
        step = max(1, int(numbers * self.shape[0] / math.prod(self.shape)))
        for start in range(0, self.shape[0], step):
            rows = slice(start, min(start + step, self.shape[0]))
            shape, offset = (rows.stop - start, *self.shape[1:]), self.offset + start * self.stride[0]
            yield Piece(self.index, self.name, shape, self.stride, offset, rows)


def layout(shapes: PreTrainedModel, checkpoints: Sequence[Checkpoint]) -> tuple[dict[str, Piece], dict[str, Tensor]]:
    """Name → piece of every stored floating tensor, and the integer tensors, which cannot be averaged.

    `shapes`: a model without data, on one flat vector. Raises Refusal where a checkpoint lacks a tensor of its
    architecture or has another one, or where what is tied or cannot be averaged differs.
    """
    places, integers = _places(shapes)
    first, pieces = checkpoints[0], {}
    for index, ((shape, stride, offset), names) in enumerate(sorted(places.items(), key=lambda item: item[0][2])):
        stored = [name for name in names if name in first.files]
        if not stored or first.shapes[stored[0]] != shape:
            raise Refusal(f"{first.directory} has no '{names[0]}' of shape {shape} as its config asks; save it again")
        if integer := next((one for one in checkpoints if not one.dtypes[stored[0]].is_floating_point), None):
            raise Refusal(f"{integer.directory} stores '{stored[0]}' in whole numbers; dequantise it to bfloat16")
        _check_tied(stored, checkpoints)
        pieces[stored[0]] = Piece(index, stored[0], shape, stride, offset)
    if extra := sorted(first.files.keys() - {name for names in places.values() for name in names} - set(integers)):
        raise Refusal(f"{first.directory} has '{extra[0]}', unknown to its architecture; load and save it again")
    return pieces, {name: _common(name, checkpoints) for name in integers}


def check_layers(one: Checkpoint, config: PretrainedConfig) -> None:
    """Raises Refusal where a configuration asks for more layers than tensors are stored, before they are all built."""
    if (layers := getattr(config.get_text_config(), "num_hidden_layers", 0) or 0) > len(one.files):
        told = f"{one.directory}: config.json asks for {layers} layers and {len(one.files)} tensors are stored"
        raise Refusal(f"{told}; save the checkpoint again")


def check_dtype(one: Checkpoint, config: PretrainedConfig, shapes: PreTrainedModel) -> None:
    """Raises Refusal where `from_pretrained` would round a checkpoint: its configuration asks for a narrower dtype."""
    floats = {name: dtype for name, dtype in one.dtypes.items() if dtype.is_floating_point}
    asked = next(iter(floats.values()), torch.float32) if config.dtype is None else config.dtype
    if not (isinstance(asked, torch.dtype) and asked.is_floating_point):
        raise Refusal(f"{one.directory}: config.json asks for dtype {asked}, in which no weights are stored; mend it")
    kept = shapes._keep_in_fp32_modules_strict | (shapes._keep_in_fp32_modules if asked == torch.float16 else set())
    for name, dtype in floats.items():
        if torch.promote_types(dtype, asked) != asked and not kept & set(name.split(".")):
            stored, narrow = (str(one).removeprefix("torch.") for one in (dtype, asked))
            told = f"{one.directory} stores '{name}' as {stored}, which transformers would round to {narrow}"
            raise Refusal(f"{told} by its config.json; write dtype {stored} there, or save the model as {narrow}")


class _AsViews(TorchFunctionMode):
    """Undoing a load copies chunks by .contiguous(); left as views they still say where each stored tensor lies."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return args[0] if function is Tensor.contiguous else function(*args, **(kwargs or {}))


def stored_views(model: PreTrainedModel) -> dict[str, Tensor]:
    """A model's tensors under the names they are stored by, as views into the model."""
    with _AsViews():
        return revert_weight_conversion(model, model.state_dict())


def _places(shapes: PreTrainedModel) -> tuple[dict[tuple, list[str]], list[str]]:
    """The names stored at each (shape, stride, offset) of the flat vector, and the stored integer tensors."""
    flat = next(shapes.parameters()).untyped_storage()
    places, integers = {}, []
    for name, tensor in stored_views(shapes).items():
        if not tensor.is_floating_point():
            integers.append(name)
        elif tensor.untyped_storage()._cdata == flat._cdata:
            places.setdefault((tuple(tensor.shape), tensor.stride(), tensor.storage_offset()), []).append(name)
    if sum(math.prod(shape) for shape, _, _ in places) != flat.nbytes() // shapes.dtype.itemsize:
        kind = shapes.config.model_type
        raise Refusal(f"transformers computes weights of {kind} anew on loading; it cannot be merged in place")
    return places, integers


def _check_tied(names: Sequence[str], checkpoints: Sequence[Checkpoint]) -> None:
    """Tensors with one place must be equal where they are stored more than once."""
    for name in names[1:]:
        for one in checkpoints:
            if not equal(one.read(names[0]), one.read(name)):
                raise Refusal(f"{one.directory}: '{name}' is tied to '{names[0]}' but differs; save it again")


def _common(name: str, checkpoints: Sequence[Checkpoint]) -> Tensor:
    """An integer tensor of the first checkpoint, after checking that all agree."""
    values = checkpoints[0].read(name).clone()
    for one in checkpoints[1:]:
        if not equal(one.read(name), values):
            raise Refusal(
                f"{one.directory}: integer tensor '{name}' differs from {checkpoints[0].directory}'s; use one base"
            )
    return values
