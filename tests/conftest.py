"""Array shapes and argument types in annotations are checked while tests run; paths to optional source data."""

from pathlib import Path

import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from commands import REPOSITORY, SCORED, Command, times
from jaxtyping import install_import_hook

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is welcome where a float is asked for
hook = install_import_hook("demix_nb", f"{__name__}.checker")

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


@pytest.fixture
def styled():
    """Draw in the house style and leave no figure open."""
    from matplotlib import pyplot

    from demix_nb import figures

    figures.style()
    yield
    pyplot.close("all")


@pytest.fixture
def drawn_twice(tmp_path, styled):
    """Return a check that a figure, drawn and saved twice, gives the same file, and nothing beside it."""
    from demix_nb import figures

    def check(draw) -> None:
        files = [figures.save(draw(), tmp_path / f"{number}.png") for number in range(2)]
        assert files[0].read_bytes() == files[1].read_bytes()
        assert sorted(tmp_path.iterdir()) == files

    return check


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Return three tiny domains of generated sentences, built through the real door for own corpora."""
    from demix_nb import corpora

    folder = tmp_path_factory.mktemp("own")
    draw = np.random.default_rng(5)
    words = {
        "general": "the a river city people wrote about its long history and many small towns of north".split(),
        "math": "let x be equal to three plus seven times the root of two minus one over five so".split(),
        "code": "def return self for in range import if else lambda yield assert class with open as".split(),
    }
    for name, vocabulary in words.items():
        lines = [" ".join(draw.choice(vocabulary, size=60)) + f" {draw.integers(1e9)}" for _ in range(400)]
        (folder / f"{name}.jsonl").write_text("\n".join(f'{{"text": "{line}"}}' for line in lines))
    return corpora.build(
        folder.parent / "data", sources=folder, megabytes=0.12, vocab_size=400, heldout_kb=4, seed=0, n_jobs=1
    )


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """Return the run's folder, what the finishing run printed, and what the two killed ones had left."""
    run_dir = tmp_path_factory.mktemp("smoke") / "run"
    left = {}
    Command(run_dir).kill_when(lambda: len(times("models/reference-*/training.json", run_dir)) >= 2)
    left["models"] = times("models/*/training.json", run_dir)
    Command(run_dir).kill_when(lambda: len(times("cache/*.json", run_dir)) >= SCORED)
    left["models"] |= times("models/*/training.json", run_dir)
    left["scores"] = times("cache/*.json", run_dir)
    return run_dir, Command(run_dir).finish(), left


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run unit tests first, then notebooks, then the browser: what is quick to fail fails first."""
    items.sort(key=lambda item: [bool(item.get_closest_marker(name)) for name in ("browser", "notebooks", "slow")])
