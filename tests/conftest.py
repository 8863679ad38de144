"""Array shapes and argument types in annotations are checked while tests run; paths to optional source data."""

import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

sys.modules.pop("demix_nb", None)
hook = install_import_hook("demix_nb", "beartype.beartype")

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of source data beside the repository, or skip saying what is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no source data at {SHARED.name}/ beside the repository (RegMix tables, released mixtures)")
    return SHARED
