"""The gallery keeps what a run drew, and names for each figure the notebook and the function that draws it."""

import inspect

import pytest
from matplotlib.figure import Figure

from demix_nb import figures, gallery
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
    entries = gallery.keep("laptop", run, shown, results)
    assert [entry.file for entry in entries] == ["quality.png"]
    assert (shown / "quality.png").read_bytes() == (run / "figures" / "quality.png").read_bytes()
    assert (results / "laptop" / "quality.csv").read_text() == "model,macro\na,1\n"
    page = (shown / "README.md").read_text()
    assert "](quality.png)" in page and "demix-nb run 07_mixture_quality" in page and "../notebooks/07_mixture" in page


def test_a_run_without_figures_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no figures in .*run `demix-nb run --profile laptop` first"):
        gallery.keep("laptop", tmp_path, tmp_path / "figures", tmp_path / "results")
    assert list(tmp_path.iterdir()) == []
