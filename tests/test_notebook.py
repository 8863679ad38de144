"""What notebooks share: whose claims bind."""

from demix_nb.notebook import claimed
from demix_nb.sources import BUILTIN


def test_a_claim_binds_our_candidates_where_it_is_wanted():
    assert claimed(True, BUILTIN) and claimed(True, reversed(list(BUILTIN)))
    assert not claimed(False, BUILTIN)
    assert not claimed(True, ["news", "law"]) and not claimed(True, list(BUILTIN)[1:])
