"""Hand over: a mixture as the files that trainers read. `FORMATS`: a row and a file for every trainer.

What "weight" means differs from trainer to trainer (a share of tokens, a share of documents, a count), and so does what
they do with a source that has been read through; every row says it, and `export` writes it beside the files.
"""

from demix_nb.exports import (
    axolotl,
    hf,
    levanter,
    lingua,
    litdata,
    llamafactory,
    megatron,
    mosaicml,
    nanotron,
    olmo_core,
    torchtitan,
)
from demix_nb.exports.formats import MEANINGS, Format
from demix_nb.exports.order import SEQUENCE, Order, Phase, Source
from demix_nb.exports.page import export, files_of

_MODULES = (
    megatron, olmo_core, hf, torchtitan, llamafactory, levanter, nanotron, litdata, mosaicml, lingua, axolotl,
)  # fmt: skip
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in _MODULES}

__all__ = ["FORMATS", "MEANINGS", "SEQUENCE", "Format", "Order", "Phase", "Source", "export", "files_of"]
