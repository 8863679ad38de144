"""What only the papers' and studies' notebooks use: claims beside the print, what is read off the study's tables."""

from demix_nb.papers.claims import Claims, told
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
    "merged_over_trained",
    "order_kept",
    "printed_merged_over_trained",
    "told",
]
