"""Merging: components and a mixture in, a model out; and a doctor who says beforehand whether that can mean something.

`Bank` opens checkpoints and writes any merge of them into a live model, `METHODS` holds the published ways to merge,
`save` keeps a merge as a checkpoint, `save_moved` an update on another start, `examine` is the doctor. Knows weights,
not tasks; importing it imports torch.
"""

from demix_nb.merging.bank import Bank
from demix_nb.merging.doctor import Finding, checkup, delta, examine
from demix_nb.merging.methods import METHODS, Method
from demix_nb.merging.saving import save, save_moved
from demix_nb.merging.timing import compared, speed

__all__ = [
    "METHODS",
    "Bank",
    "Finding",
    "Method",
    "checkup",
    "compared",
    "delta",
    "examine",
    "save",
    "save_moved",
    "speed",
]
