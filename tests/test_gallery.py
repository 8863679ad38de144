"""The gallery keeps what a run drew, and names for each figure the notebook and the function that draws it."""

import inspect
import json

import pytest
from matplotlib.figure import Figure

from demix_nb import figures, gallery, tables
from demix_nb.runner import RunError


def test_every_entry_is_drawn_by_the_function_it_names():
    found = gallery.entries()
    assert {"fidelity_scatter.png", "merge_path.png", "quality.png"} <= {entry.file for entry in found}
    assert len({entry.file for entry in found}) == len(found), "two notebooks save one file"
    named = {entry.file: entry.function for entry in found}
    assert named["quality.png"] == "figures.quality" and named["merge_path.png"] == "figures.merge_path"
    caption = next(entry.caption for entry in found if entry.file == "quality.png")
    assert inspect.getdoc(figures.quality).startswith(caption[:30])


def test_keeping_copies_figures_and_tables_and_writes_the_page(tmp_path):
    run, shown, results = (tmp_path / name for name in ("run", "figures", "results"))
    figure = Figure()
    figure.add_subplot().plot([1, 2])
    figures.save(figure, run / "figures" / "quality.png")
    (run / "tables").mkdir()
    (run / "tables" / "quality.csv").write_text("model,macro\na,1\n")
    (run / "stamps").mkdir()
    stamp = {"seconds": 79.0, "parameters": {"seed": 3}, "machine": "Linux, 2 cores", "commit": "abc"}
    (run / "stamps" / "07_mixture_quality.json").write_text(json.dumps(stamp))
    entries = gallery.keep("laptop", run, shown, results)
    assert [entry.file for entry in entries] == ["quality.png"]
    assert (shown / "quality.png").read_bytes() == (run / "figures" / "quality.png").read_bytes()
    assert (results / "laptop" / "quality.csv").read_text() == "model,macro\na,1\n"
    when = tables.read(results / "laptop" / "run.csv", "run").loc["07_mixture_quality"]
    assert when[["seconds", "seed", "machine", "commit"]].tolist() == [79.0, 3, "Linux, 2 cores", "abc"]
    page = (shown / "README.md").read_text()
    assert "](quality.png)" in page and "demix-nb run 07_mixture_quality" in page and "../notebooks/07_mixture" in page


def test_a_run_without_figures_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no figures in .*run `demix-nb run --profile laptop` first"):
        gallery.keep("laptop", tmp_path, tmp_path / "figures", tmp_path / "results")
    assert list(tmp_path.iterdir()) == []


def test_a_profile_with_steps_of_its_own_keeps_their_figures_alone(tmp_path):
    run = tmp_path / "run"
    for name in ("quality.png", "study_kinds.png"):
        figure = Figure()
        figure.add_subplot().plot([1, 2])
        figures.save(figure, run / "figures" / name)
    entries = gallery.keep("study", run, tmp_path / "figures", tmp_path / "results")
    assert [entry.file for entry in entries] == ["study_kinds.png"]
