"""What notebooks share: whose claims bind, how a value is quoted."""

from demix_nb.notebook import claimed, with_interval
from demix_nb.sources import BUILTIN


def test_a_claim_binds_our_candidates_where_it_is_wanted():
    assert claimed(True, BUILTIN) and claimed(True, reversed(list(BUILTIN)))
    assert not claimed(False, BUILTIN)
    assert not claimed(True, ["news", "law"]) and not claimed(True, list(BUILTIN)[1:])


def test_a_value_is_quoted_with_its_interval_or_said_to_be_undefined():
    assert with_interval(0.912, 0.786, 0.954) == "0.91 [0.79, 0.95]"
    assert with_interval(8.16, 6.71, 9.8, digits=1) == "8.2 [6.7, 9.8]"
    assert with_interval(float("nan"), float("nan"), float("nan"), undefined="undefined (why)") == "undefined (why)"
