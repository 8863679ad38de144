"""Pages of a run open from disk: nothing is fetched, nothing is lost, plotly.js is only where it is needed."""

import base64
import gzip
import importlib.resources
import json
import re

import nbformat
import pandas as pd
import pytest
from fixtures_reports import OPENING, PIXEL, notebook, pages_alone

from demix_nb import NOTEBOOKS, __main__
from demix_nb.figures.gallery import FIGURES
from demix_nb.running import origin, report, report_pages
from demix_nb.store import Refusal


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return pages_alone(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def pages(run_dir):
    return {path.stem: path.read_text() for path in report.write("small", run_dir)}


def test_an_index_and_a_page_per_finished_notebook(pages):
    assert list(pages) == ["index", "05_search", "06_domain_interactions"]
    index = pages["index"]
    assert 'href="05_search.html"' in index and "5 · Search: a title" in index and "matter?</p>" in index
    assert '<th scope="row">its place</th><td data-words>3 of &lt;113&gt;</td>' in index


def test_every_page_says_where_its_numbers_come_from(pages):
    for name, seconds in (("05_search", 12), ("index", 25)):
        assert f"profile small · {seconds} s · a machine · torch 2.13 · commit abc1234" in pages[name]


def test_plotly_comes_whole_once_and_only_where_it_is_needed(pages):
    (packed,) = re.findall(r'id="plotly">([^<]+)<', pages["05_search"])
    original = importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    assert gzip.decompress(base64.b64decode(packed)) == original
    assert len(pages["05_search"]) < 2.2e6
    assert "DecompressionStream" not in pages["06_domain_interactions"] and len(pages["06_domain_interactions"]) < 5e4


def test_figures_keep_their_data_and_cannot_break_out_of_it(pages):
    found = re.findall(r'<script type="application/json">(.*?)</script>', pages["05_search"], flags=re.DOTALL)
    figures = [json.loads(text) for text in found]
    assert [figure["layout"]["title"]["text"] for figure in figures] == ["t", "</script><b>bold</b>"]
    assert all(len(figure["data"]) == 1 for figure in figures)


def test_formulas_are_mathml_and_nothing_is_fetched(pages):
    assert pages["05_search"].count("<math") == 2
    assert "$" not in re.search(r"<main>.*</main>", pages["06_domain_interactions"], re.S)[0]
    for text in pages.values():
        loaded = re.findall(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="([^"]+)"', text)
        assert all(target.startswith("data:") for target in loaded)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.rglob("*.ipynb")), ids=lambda path: path.stem)
def test_every_formula_of_the_notebooks_is_understood(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    body, _ = report_pages.Body().from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    formulas = re.findall(r"<math.*?</math>", body, flags=re.DOTALL)
    assert body.count("<math") == len(formulas) and "$$" not in body
    assert not [formula for formula in formulas if "\\" in formula], "a command that MathML has no sign for"


def test_links_lead_to_pages_that_are_there(pages):
    assert '<a href="06_domain_interactions.html">6 · Interactions</a>' in pages["05_search"]
    assert "7 · Quality" in pages["05_search"] and "07_mixture_quality" not in pages["05_search"]


def test_pictures_are_inside_with_their_caption(tmp_path):
    drawn = notebook({"image/png": PIXEL}, source='study.figure("quality");')
    text = report_pages.page(drawn, "facts", "05_search", {"05_search": "5 · Search"})
    caption = FIGURES["quality"].caption
    assert f'src="data:image/png;base64,{PIXEL}"' in text and f'alt="{caption}"' in text


def test_what_cannot_be_reported_says_what_to_run(tmp_path, capsys):
    assert __main__.main(["report", "--profile", "smoke", "--run-dir", str(tmp_path)]) == 2
    assert "run `demix-nb run --profile smoke` first" in capsys.readouterr().err
    (pages_alone(tmp_path) / "stamps" / "05_search.json").write_text(json.dumps({"seconds": 1}))
    with pytest.raises(Refusal, match="run `demix-nb run 05_search` again"):
        report.write("small", tmp_path)


def test_the_command_writes_the_report(run_dir, capsys):
    assert __main__.main(["report", "--run-dir", str(run_dir)]) == 0
    assert "3 pages" in capsys.readouterr().out and (run_dir / "report" / "index.html").is_file()


def test_links_between_folders_of_notebooks_lead_to_pages_beside_each_other():
    linked = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{OPENING}\n[search](../05_search.ipynb)")])
    titles = {"04_regression": "4 · Regression", "05_search": "5 · Search"}
    assert '<a href="05_search.html">search</a>' in report_pages.page(linked, "facts", "04_regression", titles)


def test_pages_lead_to_their_neighbours_and_to_the_contents(pages):
    ways = {name: re.search(r'<nav aria-label="pages">.*?</nav>', pages[name])[0] for name in list(pages)[1:]}
    links = {name: re.findall(r'href="(\w+)\.html"', way) for name, way in ways.items()}
    assert links == {"05_search": ["index", "06_domain_interactions"], "06_domain_interactions": ["05_search", "index"]}


def test_code_is_folded_and_source_stands_in_the_place_of_its_call():
    shown = {"text/plain": "def merge(a):\n    pass", "text/latex": "v", "text/html": '<div class="highlight">d</div>'}
    made = notebook(shown, source="show_source(merge)")
    made.cells.append(nbformat.v4.new_code_cell("a = 1\nb = 2"))
    text = report_pages.page(made, "facts", "05_search", {"05_search": "5 · Search"})
    assert re.findall(r"<summary>(.*?)</summary>", text) == ["source of <code>merge</code>", "code, 2 lines"]
    assert "show_source" not in text


def test_numbers_are_rounded_for_the_eye_and_kept_in_full():
    table = pd.DataFrame({"a": [0.0307816646, 1.23456789, 300000.0], "b": [9149926, 12, 0.5]}, dtype=object)
    text = report_pages.page(notebook({"text/html": table.to_html()}), "", "05_search", {"05_search": "5"})
    full = dict(re.findall(r'<data value="([^"]+)">([^<]+)</data>', text))
    assert full == {"0.030782": "0.031", "1.234568": "1.235", "300000.0": "300,000", "9149926": "9,149,926"}
    assert "<td>12</td>" in text and "<td>0.5</td>" in text and "<td data-words>" not in text


def test_a_tables_own_look_stays_and_that_of_light_pages_goes():
    table = pd.DataFrame({"a": [1.5]})
    bold = table.style.map(lambda _: "font-weight: bold").to_html()
    outputs = [{"text/html": f"<div><style scoped>th {{ color: black }}</style>{table.to_html()}</div>"},
               {"text/html": bold}]  # fmt: skip
    text = report_pages.page(notebook(*outputs), "", "05_search", {"05_search": "5"})
    assert "font-weight: bold" in text.split("<main>")[1] and "color: black" not in text


def test_no_page_names_a_folder_of_the_machine(run_dir, pages):
    assert str(run_dir) not in "".join(pages.values()) and "RUN/tables" in pages["06_domain_interactions"]


def test_stamps_say_where_numbers_come_from():
    said = origin.circumstances()
    assert "cores" in said["machine"] and said["versions"]["torch"].startswith("2.") and said["commit"]
