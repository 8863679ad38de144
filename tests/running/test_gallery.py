"""The gallery keeps a run's tables, draws the figures from them, and says where each came from."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from conftest import REPOSITORY

from demix_nb import store
from demix_nb.figures import gallery as figures
from demix_nb.running import gallery, runner
from demix_nb.store import Refusal

pytestmark = pytest.mark.usefixtures("styled")

RESULTS = REPOSITORY / "data" / "results" / "laptop"


@pytest.fixture
def run(tmp_path):
    """A run of which only the last step is left."""
    folder = tmp_path / "run"
    (folder / "tables").mkdir(parents=True)
    for table in ("quality", "reference_mixtures"):
        shutil.copy(RESULTS / f"{table}.csv", folder / "tables")
    (folder / "stamps").mkdir()
    stamp = {"seconds": 79.0, "parameters": {"seed": 3}, "machine": "Linux, 2 cores", "commit": "abc"}
    (folder / "stamps" / "07_mixture_quality.json").write_text(json.dumps(stamp))
    return folder


def test_keeping_copies_tables_draws_from_them_and_writes_the_page(run, tmp_path):
    shown, results = tmp_path / "figures", tmp_path / "results"
    assert next(iter(gallery.keep("laptop", run, shown, results))) == "quality"
    assert (results / "laptop" / "quality.csv").read_text() == (run / "tables" / "quality.csv").read_text()
    assert (shown / "quality.png").read_bytes()[:4] == b"\x89PNG"
    when = store.read(results / "laptop" / "run.csv", "run").loc["07_mixture_quality"]
    assert when[["seconds", "seed", "machine", "commit"]].tolist() == [79.0, 3, "Linux, 2 cores", "abc"]
    page = (shown / "README.md").read_text()
    assert "](quality.png)" in page and "demix-nb run 07_mixture_quality" in page
    assert "`demix_nb.figures.pipeline.quality`" in page and "../data/results/laptop/quality.csv" in page


def test_what_another_run_took_stays_where_this_one_has_no_step(run, tmp_path):
    stamp = run / "stamps" / "07_mixture_quality.json"
    another = json.loads(stamp.read_text()) | {"seconds": 80.0}
    gallery.keep("laptop", run, tmp_path / "figures", tmp_path / "results")
    stamp.rename(stamp.with_name("04_regression.json"))
    stamp.write_text(json.dumps(another))
    gallery.keep("laptop", run, tmp_path / "figures", tmp_path / "results")
    stamp.unlink()
    gallery.keep("laptop", run, tmp_path / "figures", tmp_path / "results")
    took = store.read(tmp_path / "results" / "laptop" / "run.csv", "run")["seconds"]
    assert took.to_dict() == {"04_regression": 79.0, "07_mixture_quality": 80.0}
    assert list(took.index) == ["04_regression", "07_mixture_quality"], "in the order of the story"


def test_the_committed_gallery_has_pictures_of_every_notebook_of_the_course_but_those_with_panels():
    parts = (REPOSITORY / "figures" / "README.md").read_text("utf-8").split("\n## ")
    course = [step for step in runner.STEPS if step[0].isdigit()][1:-1]
    assert len(course) == 7 and len(parts) > 7
    for step in course:
        (part,) = (part for part in parts if f"Notebook [`{step}`](../notebooks/{step}.ipynb)" in part)
        drawn = re.findall(r"!\[[^\]]+\]\((\w+)\.png\)", part)
        assert drawn and all((REPOSITORY / "figures" / f"{name}.png").is_file() for name in drawn), step


def test_headings_are_called_as_github_calls_them():
    heading = "3 · Proxy fidelity: do merged proxies order mixtures?"
    assert gallery._anchor(heading) == "3--proxy-fidelity-do-merged-proxies-order-mixtures"


def test_others_data_stays_where_it_is_but_its_figure_comes_along(run, tmp_path, monkeypatch):
    theirs = replace(figures.FIGURES["quality"], read=("theirs",), outside=("theirs",))
    monkeypatch.setattr(figures, "rows", lambda: {"of_theirs": theirs})
    (run / "tables" / "theirs.csv").write_text("mixture,a\nm,1\n")
    (run / "figures").mkdir()
    (run / "figures" / "of_theirs.png").write_bytes(b"drawn by the run")
    assert list(gallery.keep("laptop", run, tmp_path / "figures", tmp_path / "results")) == ["of_theirs"]
    assert not list((tmp_path / "results").rglob("theirs.csv"))
    assert (tmp_path / "figures" / "of_theirs.png").read_bytes() == b"drawn by the run"
    assert "`theirs` (not ours, not committed)" in (tmp_path / "figures" / "README.md").read_text()


def test_a_run_without_tables_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"no tables in .*run `demix-nb run --profile laptop` first"):
        gallery.keep("laptop", tmp_path, tmp_path / "figures", tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_a_cells_figures_are_found():
    cell = 'study.figure("quality");\nfigure = gallery.draw("mixtures", read)\nplt.figure("quality of life")'
    assert gallery.shown_in(cell) == ["quality", "mixtures"]
