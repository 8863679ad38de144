"""Pages of a run open from disk: nothing is fetched, nothing is lost, plotly.js is only where it is needed."""

import base64
import gzip
import importlib.resources
import json
import re

import nbformat
import plotly.graph_objects as go
import pytest

from demix_nb import NOTEBOOKS, PLOTLY, __main__
from demix_nb.figures.gallery import FIGURES
from demix_nb.running import origin, report
from demix_nb.store import Refusal

PIXEL = base64.b64encode(b"\x89PNG, a picture").decode()
OPENING = """# 5 · Search: a title

**Question.** Does $\\alpha$ matter?

**Answer.** $$M(\\alpha)=\\sum_i \\alpha_i\\,\\Theta_i$$

Next: [6 · Interactions](06_domain_interactions.ipynb), [7 · Quality](07_mixture_quality.ipynb)
"""
STAMP = {"seconds": 12.3, "machine": "a machine", "versions": {"torch": "2.13"}, "commit": "abc1234"}


def notebook(*outputs, source="1"):
    cell = nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("display_data", data) for data in outputs])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(OPENING), cell])


def plotly_output(title="t"):
    return {PLOTLY: json.loads(go.Figure(go.Scatter(y=[1, 2]), layout={"title": title}).to_json())}


def make_run(tmp_path):
    for folder in ("notebooks", "stamps", "summary"):
        (tmp_path / folder).mkdir()
    made = {
        "05_search": notebook(plotly_output(), plotly_output("</script><b>bold</b>")),
        "06_domain_interactions": notebook({"image/png": PIXEL}, {"text/plain": "kept & shown"}),
    }
    for name, content in made.items():
        nbformat.write(content, tmp_path / "notebooks" / f"{name}.ipynb")
        (tmp_path / "stamps" / f"{name}.json").write_text(json.dumps(STAMP))
    (tmp_path / "summary" / "05_search.csv").write_text("result,value\nits place,3 of <113>\n")
    (tmp_path / "mixture.yaml").write_text("beta: 0.5\n")
    return tmp_path


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def pages(run_dir):
    return {path.stem: path.read_text() for path in report.write("small", run_dir)}


def test_an_index_and_a_page_per_finished_notebook(pages):
    assert list(pages) == ["index", "05_search", "06_domain_interactions"]
    index = pages["index"]
    assert 'href="05_search.html"' in index and "5 · Search: a title" in index and "Does $\\alpha$ matter?" in index
    assert "its place: <b>3 of &lt;113&gt;</b>" in index and "beta: 0.5" in index


def test_every_page_says_where_its_numbers_come_from(pages):
    for name, seconds in (("05_search", 12), ("index", 25)):
        assert f"profile small · {seconds} s · a machine · torch 2.13 · commit abc1234" in pages[name]


def test_plotly_comes_whole_once_and_only_where_it_is_needed(pages):
    (packed,) = re.findall(r'id="plotly">([^<]+)<', pages["05_search"])
    original = importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    assert gzip.decompress(base64.b64decode(packed)) == original
    assert len(pages["05_search"]) < 2.2e6
    assert "<script" not in pages["06_domain_interactions"] and len(pages["06_domain_interactions"]) < 5e4


def test_figures_keep_their_data_and_cannot_break_out_of_it(pages):
    found = re.findall(r'<script type="application/json">(.*?)</script>', pages["05_search"], flags=re.DOTALL)
    figures = [json.loads(text) for text in found]
    assert [figure["layout"]["title"]["text"] for figure in figures] == ["t", "</script><b>bold</b>"]
    assert all(len(figure["data"]) == 1 for figure in figures)


def test_formulas_are_mathml_and_nothing_is_fetched(pages):
    assert pages["05_search"].count("<math") == 2 and "$" not in pages["06_domain_interactions"].split("<main>")[1]
    for text in pages.values():
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="([^"]+)"', text)
        assert all(target.startswith("data:") for target in loaded)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_understood(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    body, _ = report.Body().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    formulas = re.findall(r"<math.*?</math>", body, flags=re.DOTALL)
    assert body.count("<math") == len(formulas) and "$$" not in body
    assert not [formula for formula in formulas if "\\" in formula], "a command that MathML has no sign for"


def test_links_lead_to_pages_that_are_there(pages):
    assert '<a href="06_domain_interactions.html">6 · Interactions</a>' in pages["05_search"]
    assert "7 · Quality" in pages["05_search"] and "07_mixture_quality" not in pages["05_search"]


def test_pictures_are_inside_with_their_caption(tmp_path):
    drawn = notebook({"image/png": PIXEL}, source='study.figure("quality");')
    text = report.page(drawn, "facts", [])
    caption = FIGURES["quality"].caption
    assert f'src="data:image/png;base64,{PIXEL}"' in text and f'alt="{caption}"' in text


def test_what_cannot_be_reported_says_what_to_run(tmp_path, capsys):
    assert __main__.main(["report", "--profile", "smoke", "--run-dir", str(tmp_path)]) == 2
    assert "run `demix-nb run --profile smoke` first" in capsys.readouterr().err
    (make_run(tmp_path) / "stamps" / "05_search.json").write_text(json.dumps({"seconds": 1}))
    with pytest.raises(Refusal, match="run `demix-nb run 05_search` again"):
        report.write("small", tmp_path)


def test_the_command_writes_the_report(run_dir, capsys):
    assert __main__.main(["report", "--run-dir", str(run_dir)]) == 0
    assert "2 notebooks" in capsys.readouterr().out and (run_dir / "report" / "index.html").is_file()


def test_links_between_folders_of_notebooks_lead_to_pages_beside_each_other():
    linked = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{OPENING}\n[search](../05_search.ipynb)")])
    assert '<a href="05_search.html">search</a>' in report.page(linked, "facts", ["05_search"])


def test_stamps_say_where_numbers_come_from():
    said = origin.circumstances()
    assert "cores" in said["machine"] and said["versions"]["torch"].startswith("2.") and said["commit"]
