"""Where each stored tensor of a checkpoint lies in a live model whose weights are one flat vector of P numbers.

A live model is not its checkpoint: tied weights have two names, and transformers fuses experts when it loads. We ask
transformers to undo its loading on a model that has shapes but no data, with all weights laid end to end; the offsets
of what comes out say, for any architecture, which numbers of the vector belong to which stored tensor.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion
from transformers.initialization import no_init_weights

from demix_nb.checkpoints import Checkpoint


@dataclass(frozen=True)
class Piece:
    """Part of the flat space: a stored tensor, `rows` of one, or (without a name) a plain range; and where it lies."""

    index: int
    name: str | None
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    rows: slice | None = None

    def of(self, vector: Tensor, start: int = 0) -> Tensor:
        """The piece as a view into a flat vector that begins at `start` of its storage."""
        return vector.as_strided(self.shape, self.stride, start + self.offset)

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


class _AsViews(TorchFunctionMode):
    """Undoing a load copies chunks by .contiguous(); left as views they still say where each stored tensor lies."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        return args[0] if function is Tensor.contiguous else function(*args, **(kwargs or {}))


def layout(
    config: PretrainedConfig, checkpoint: Checkpoint
) -> tuple[dict[str, Piece], dict[str, list[str]], list[str]]:
    """Name → piece of every stored floating tensor, the tied names stored beside it, and the integer tensors.

    Raises ValueError where the checkpoint lacks a tensor of its architecture, has another one, or cannot be laid out.
    """
    places, integers = _places(config)
    pieces, tied = {}, {}
    for index, ((shape, stride, offset), names) in enumerate(sorted(places.items(), key=lambda item: item[0][2])):
        stored = [name for name in names if name in checkpoint.files]
        if not stored or checkpoint.shapes[stored[0]] != shape:
            raise ValueError(
                f"{checkpoint.directory} has no '{names[0]}' of shape {shape} as its config asks; save it again"
            )
        pieces[stored[0]], tied[stored[0]] = Piece(index, stored[0], shape, stride, offset), stored[1:]
    if extra := sorted(checkpoint.files.keys() - {name for names in places.values() for name in names} - set(integers)):
        raise ValueError(
            f"{checkpoint.directory} has '{extra[0]}', unknown to its architecture; load and save it again"
        )
    return pieces, tied, integers


def blank_model(config: PretrainedConfig, dtype: torch.dtype, device: str | torch.device) -> PreTrainedModel:
    """A live model on one flat vector of NaN, so that one forgotten to be written cannot pass for a proxy."""
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(deepcopy(config), dtype=dtype, trust_remote_code=False)
    model.tie_weights()  # skipped along with the initialisation
    _lay_flat(model, dtype, device).fill_(torch.nan)
    return model.to(device).eval().requires_grad_(False)


def stored_views(model: PreTrainedModel) -> dict[str, Tensor]:
    """A model's tensors under the names they are stored by, as views into the model."""
    with _AsViews():
        return revert_weight_conversion(model, model.state_dict())


def flat_vector(model: PreTrainedModel, size: int) -> Tensor:
    """The one vector of P = `size` numbers behind a model's weights. Raises ValueError where there is none."""
    weights = list(_floating(model))
    storage = weights[0].untyped_storage()
    shared = {tensor.untyped_storage().data_ptr() for tensor in weights} == {storage.data_ptr()}
    if not shared or storage.nbytes() != size * weights[0].itemsize:
        raise ValueError("this model was not made by this bank's model(), or was moved since; use model(dtype, device)")
    return torch.empty(0, dtype=weights[0].dtype, device=weights[0].device).set_(storage)


def _places(config: PretrainedConfig) -> tuple[dict[tuple, list[str]], list[str]]:
    """The names stored at each (shape, stride, offset) of the flat vector, and the stored integer tensors."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(deepcopy(config), trust_remote_code=False)
    flat, places, integers = _lay_flat(model, torch.float32, "meta"), {}, []
    for name, tensor in stored_views(model).items():
        if not tensor.is_floating_point():
            integers.append(name)
        elif tensor.untyped_storage()._cdata == flat.untyped_storage()._cdata:
            places.setdefault((tuple(tensor.shape), tensor.stride(), tensor.storage_offset()), []).append(name)
    if sum(math.prod(shape) for shape, _, _ in places) != len(flat):
        raise ValueError(
            f"transformers computes weights of {config.model_type} anew on loading; it cannot be merged in place"
        )
    return places, integers


def _floating(model: PreTrainedModel) -> Iterator[Tensor]:
    """Every floating parameter and stored buffer once, tied ones too, in the order of the state dict."""
    state = model.state_dict(keep_vars=True).values()
    return iter({id(tensor): tensor for tensor in state if tensor.is_floating_point()}.values())


def _lay_flat(model: PreTrainedModel, dtype: torch.dtype, device: str | torch.device) -> Tensor:
    """Turn a model's weights into views of one new vector, which is returned."""
    weights, start = list(_floating(model)), 0
    flat = torch.empty(sum(tensor.numel() for tensor in weights), dtype=dtype, device=device)
    for tensor in weights:
        tensor.data = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    return flat
