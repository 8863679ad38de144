"""What only the papers' and studies' notebooks use: claims beside the print, what is read off the study's tables."""

from demix_nb.papers.claims import Claims, told
from demix_nb.papers.making import less, over_bases, tokens_to_equal
from demix_nb.papers.readings import (
    behind,
    exponent,
    merged_over_trained,
    order_kept,
    printed_merged_over_trained,
)

__all__ = [
    "Claims",
    "behind",
    "exponent",
    "less",
    "merged_over_trained",
    "order_kept",
    "over_bases",
    "printed_merged_over_trained",
    "tokens_to_equal",
    "told",
]
