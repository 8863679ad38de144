"""Array shapes and argument types in annotations are checked while tests run; paths to optional source data."""

from pathlib import Path

import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is welcome where a float is asked for
hook = install_import_hook("demix_nb", f"{__name__}.checker")

REPOSITORY = Path(__file__).parent.parent
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Return the folder of source data beside the repository, or skip saying what is missing."""
    if not SHARED.is_dir():
        pytest.skip(f"no source data at {SHARED.name}/ beside the repository (RegMix tables, released mixtures)")
    return SHARED


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a generator with a fixed seed."""
    return np.random.default_rng(20261122)
