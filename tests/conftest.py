"""Array shapes and argument types in annotations are checked while tests run; paths to optional source data."""

import os
import pickle

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything counts cores: each has a process of its own already

from pathlib import Path

import numpy as np
import pytest
from beartype import BeartypeConf, beartype
from commands import REPOSITORY, run_story, run_study
from filelock import FileLock
from jaxtyping import install_import_hook

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is welcome where a float is asked for
hook = install_import_hook("demix_nb", f"{__name__}.checker")

TURNS = {"test_exercises.py": 0, "test_studies.py": 1, "test_own_studies.py": 2}
TURNS |= {"test_real_study.py": 2, "test_notebooks.py": 3, "test_browser.py": 3}
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

    from demix_nb.figures import marks

    pyplot.switch_backend("agg")
    marks.theme()
    yield
    pyplot.close("all")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory):
    """Return three tiny candidates of generated sentences, built through the real door for own corpora."""
    from demix_nb.lab import corpora

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
def small_study(small_data, tmp_path_factory):
    """Return an opened study of three tiny components, trained from one base on `small_data`."""
    from demix_nb import lab
    from demix_nb.study import Study

    run = tmp_path_factory.mktemp("study")
    (run / "corpora").symlink_to(small_data.directory)
    setting = lab.Setting(
        {"hidden": 32, "layers": 1, "head_dim": 16, "context": 32}, general="general", beta=0.5, tokens=5120,
        learning_rate=5e-3, batch=256, schedule="cosine", base=run / "models" / "base",
    )  # fmt: skip
    tasks = lab.tasks(small_data.candidates, ["heldout"], steer="heldout", limit=4)
    setting.write(run, small_data.families, small_data.table["tokens"], tasks=tasks)
    lab.train_base(run, setting, tokens=5120, learning_rate=5e-3)
    study = Study.open(run, n_jobs=1)
    study["corpora"] = small_data.table
    study.train(study.corners, "component")
    return study


@pytest.fixture(scope="session")
def story(tmp_path_factory):
    """Return the run's folder, what the finishing run printed, and what the two killed ones had left.

    It is run once, by whichever of the processes that share the tests asks first; the other waits.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    told = base / "story.pickle"
    with FileLock(base / "story.lock"):
        if not told.exists():
            told.write_bytes(pickle.dumps(run_story(base / "story" / "run")))
    return pickle.loads(told.read_bytes())


@pytest.fixture(scope="session")
def study(story, tmp_path_factory):
    """Return the folder of the studies' run, which began as a copy of the story's, and what it printed."""
    return run_study(story[0], tmp_path_factory.mktemp("study") / "run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files that are dealt to three processes, a file to one of them.

    One begins with the story, one waits for it to go on with the studies, one begins with the rooms' unit tests. What
    takes minutes comes before the many short files, which fill the end.
    """
    marks = ("browser", "notebooks", "slow")
    items.sort(key=lambda item: [_turn(item), *(bool(item.get_closest_marker(mark)) for mark in marks)])


def _turn(item: pytest.Item) -> int:
    rooms, others = 2, 4
    return TURNS.get(item.path.name, others if item.path.parent.name == "tests" else rooms)


# --- what measures models is tested with: made once per module, of `fixtures_scoring`


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A cache folder that holds small benchmarks."""
    from fixtures_scoring import cached

    with cached(tmp_path_factory.mktemp("cache")) as folder:
        yield folder


@pytest.fixture(scope="module")
def tokenizer():
    """The tiny tokenizer."""
    from fixtures_scoring import small_tokenizer

    return small_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    """A tiny model for it."""
    from fixtures_scoring import tiny

    return tiny(tokenizer)


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """A small suite of both."""
    from fixtures_scoring import small_suite

    return small_suite(tmp_path_factory.mktemp("suite"))


# --- what merges small components is tested with


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three tiny components by name, drifted from their base, and the base's folder."""
    from fixtures_models import ARCHITECTURES, family

    return family(tmp_path_factory.mktemp("llama"), ARCHITECTURES["llama"](), drift=0.1)


@pytest.fixture(scope="module")
def bank(folders):
    """These, opened."""
    from demix_nb.merging import Bank

    return Bank.load(*folders)
