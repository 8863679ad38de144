"""In a real browser: what a student clicks on answers, and what a lecturer hands out opens without a network."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import fixtures_browser
import nbformat
import plotly.graph_objects as go
import psutil
import pytest
from conftest import REPOSITORY
from fixtures_reports import notebook

from demix_nb import PLOTLY
from demix_nb.figures.colours import contrast
from demix_nb.running import report, report_pages

pytestmark = pytest.mark.browser
browser, axe = fixtures_browser.browser, fixtures_browser.axe

SETTINGS = {  # every cell in the page, wherever it is scrolled; no news
    "notebook-extension/tracker": {"windowingMode": "none"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
MINUTE = 60_000  # milliseconds
ALL_RUN = """() => {
  const cells = jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells;
  return cells.every((cell) => cell.cell_type !== "code" || cell.execution_count > 0);
}"""
WIDGET = "application/vnd.jupyter.widget-view+json"
OUTPUTS = """() => jupyterapp.shell.currentWidget.content.model.sharedModel.toJSON().cells
  .flatMap((cell) => cell.outputs ?? [])"""


@pytest.fixture(scope="module")
def finished(story, tmp_path_factory):
    """Return a copy of the finished smoke run, which no test here can spoil for another."""
    return shutil.copytree(story[0], tmp_path_factory.mktemp("finished") / "run")


# --- the report ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(finished):
    return report.write("smoke", finished)


def drawn_in(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum(PLOTLY in output.get("data", {}) for output in outputs)


WIDTHS = (390, 820, 1280)


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_of_the_report_opens_from_disk(browser, finished, pages, width, mode):
    context, complaints, total = walker(browser, width, mode), [], 0
    page = context.new_page()
    # a renderer without GPU tells how slowly pixels are read; no page can help that
    page.on("console", lambda said: "GPU stall due to ReadPixels" in said.text or complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url[:100]))
    for path in pages:
        figures = figures_of(finished, path)
        fixtures_browser.opened(page, path, figures)
        assert page.locator(".js-plotly-plot").count() == figures
        heights = page.evaluate(
            "[...document.querySelectorAll('.plotly-figure .plot-container')].map(e => e.offsetHeight)"
        )
        assert all(height > 200 for height in heights), f"{path.name} has collapsed figures"
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"), path.name
        links = page.evaluate("[...document.querySelectorAll('a:not(.csv)')].map(link => link.getAttribute('href'))")
        assert all((path.parent / link).is_file() for link in links if not link.startswith("http")), path.name
        assert page.evaluate(fixtures_browser.WIDER) == [], path.name
        for asked in (fixtures_browser.OVERLAPS, fixtures_browser.CUT, fixtures_browser.PALE):
            assert page.evaluate(asked) == [], path.name
        total += figures
    context.close()
    assert complaints == [] and total >= 8


def walker(browser, width, mode):
    return browser.new_context(offline=True, viewport={"width": width, "height": 900}, color_scheme=mode)


def figures_of(finished, path):
    notebook = finished / "notebooks" / f"{path.stem}.ipynb"
    return drawn_in(nbformat.read(notebook, as_version=4)) if notebook.is_file() else 0


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_axe_has_nothing_serious_against_any_page(browser, finished, pages, axe, mode):
    for width in (WIDTHS[0], WIDTHS[-1]):
        context = walker(browser, width, mode)
        page = context.new_page()
        for path in pages:
            fixtures_browser.opened(page, path, figures_of(finished, path))
            page.evaluate(axe)
            assert page.evaluate(fixtures_browser.AXE) == [], f"{path.name} at {width}"
        context.close()


def test_what_is_asked_of_pages_finds_planted_faults(browser, axe):
    page = walker(browser, 390, "light").new_page()
    page.set_content(
        "<main><img src='data:,'><p style='width: 500px'>wide</p><div class='desk'><b>one</b>"
        "<b style='margin-left: -20px'>other</b></div><p style='color: #bbb'>pale</p></main>"
    )
    page.evaluate(axe)
    found = " ".join(page.evaluate(fixtures_browser.AXE))
    assert "image-alt" in found and "color-contrast" in found
    assert len(page.evaluate(fixtures_browser.WIDER)) == 2 and page.evaluate(fixtures_browser.OVERLAPS) == [
        "one | other"
    ]
    page.context.close()


def test_what_is_asked_of_figures_finds_planted_faults(browser, tmp_path):
    dots = {"mode": "markers", "marker": {"color": "#dddddd", "size": 9}}
    figure = go.Figure([go.Scatter(y=[1, 2], **dots), go.Scatter(y=[2, 1], mode="lines", fill="tozeroy",
                                                                 line={"width": 0, "color": "#dddddd"})])  # fmt: skip
    figure.update_layout(title={"text": "a title that is longer than a telephone is wide " * 2}, showlegend=False)
    figure.update_xaxes(title={"text": "pale", "font": {"color": "#bbbbbb"}})
    for text in ("one", "other"):
        figure.add_annotation(x=0.5, y=1.5, text=text, showarrow=False)
    told = notebook({PLOTLY: json.loads(figure.to_json())})
    path = tmp_path / "planted.html"
    path.write_text(report_pages.page(told, "", "planted", {"planted": "planted"}), "utf-8")
    page = walker(browser, 390, "light").new_page()
    fixtures_browser.opened(page, path, 1)
    assert page.evaluate(fixtures_browser.OVERLAPS) == ["one | other"]
    assert [text[:7] for text in page.evaluate(fixtures_browser.CUT)] == ["a title"]
    pale = {one.split()[1] for one in page.evaluate(fixtures_browser.PALE)}
    assert pale == {"pale", "point", "js-fill"}
    page.context.close()


def test_marks_stand_out_and_text_is_read_on_either_page(browser, pages):
    for mode in ("light", "dark"):
        context = walker(browser, 820, mode)
        page = context.new_page()
        page.goto(pages[0].as_uri())
        told = page.evaluate(
            "['--page', '--code', '--text', '--quiet', '--link', '--stale', '--mark'].map((name) => "
            "[name, getComputedStyle(document.documentElement).getPropertyValue(name).trim()])"
        )
        colours = {name: value if len(value) == 7 else "#" + "".join(2 * part for part in value[1:])
                   for name, value in told}  # fmt: skip
        for ground in ("--page", "--code"):
            for text in ("--text", "--quiet", "--link", "--stale"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (mode, text, ground)
            assert contrast(colours["--mark"], colours[ground]) >= 3, (mode, ground)
        hues = set(page.evaluate("[...document.querySelectorAll('[style*=\"--hue\"]')].map(e => e.style.cssText)"))
        assert hues and all(contrast(hue.split(":")[1].strip(" ;"), colours["--page"]) >= 3 for hue in hues)
        context.close()


def test_figures_open_on_tap_and_tables_can_be_taken_along(browser, finished, pages):
    page = walker(browser, 390, "light").new_page()
    path = next(path for path in pages if path.stem == "05_search")
    page.goto(path.as_uri())
    figure = page.locator("button.zoom").first
    figure.click()
    wide = page.locator("dialog img").evaluate("image => [image.clientWidth, image.naturalWidth]")
    assert wide[0] >= wide[1] > figure.bounding_box()["width"], "as large as it is"
    page.keyboard.press("Escape")
    assert page.locator("dialog").is_hidden()
    with page.expect_download() as taken:
        page.locator("a.csv").first.click()
    rows = list(csv.reader(taken.value.path().read_text("utf-8").splitlines()))
    shown = page.locator("table.dataframe").first.locator("tr").count()
    assert len(rows) == shown and len({len(row) for row in rows}) == 1
    page.context.close()


def test_code_opens_on_demand(browser, pages):
    page = walker(browser, 820, "light").new_page()
    page.goto(next(path for path in pages if path.stem == "05_search").as_uri())
    code = page.locator("details.code pre")
    assert code.count() >= 10 and not any(one.is_visible() for one in code.all())
    page.get_by_role("button", name="show all code").click()
    assert all(one.is_visible() for one in code.all())
    page.context.close()


def test_the_report_is_small_enough_to_be_sent(pages):
    assert sum(path.stat().st_size for path in pages) < 8e6


# --- JupyterLab ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clone(finished, tmp_path_factory):
    """Return a copy of the repository, which may be written to, with the smoke run as its laptop run."""
    root = tmp_path_factory.mktemp("clone")
    for folder in ("demix_nb", "notebooks", "data/results", "data/tasks"):
        shutil.copytree(REPOSITORY / folder, root / folder)
    shutil.copytree(finished, root / "data" / "runs" / "laptop")
    return root


@pytest.fixture(scope="module")
def lab(clone):
    """Start `demix-nb lab` on the clone; return its address, with the token."""
    process, address = start_lab(clone, clone)
    yield address
    stop(process)


def start_lab(root, own):
    """Start `demix-nb lab` in the clone `root`, with settings and traces under `own`; return process and address."""
    for name, values in SETTINGS.items():
        path = own / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    places = {"JUPYTERLAB_SETTINGS_DIR": own / "settings", "JUPYTERLAB_WORKSPACES_DIR": own / "workspaces"}
    places |= {"JUPYTER_CONFIG_DIR": own / "config", "JUPYTER_RUNTIME_DIR": own / "runtime", "PYTHONPATH": root}
    command = [sys.executable, "-m", "demix_nb", "lab", "--no-browser", "--allow-root"]
    log = own / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "--LabApp.expose_app_in_browser=True"], cwd=root, stdout=file, stderr=subprocess.STDOUT,
            env=os.environ | {name: str(value) for name, value in places.items()},
        )  # fmt: skip
    return process, address_in(log, process)


def stop(process):
    for each in [*psutil.Process(process.pid).children(recursive=True), process]:
        each.kill()
    process.wait()


def address_in(log, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if found := re.search(r"http://\S+token=\w+", log.read_text()):
            return found[0]
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not start:\n{log.read_text()}")


def opened(browser, lab, name, workspace):
    """Open a notebook and return its page once the kernel is idle; a click before that is lost."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    alone = lab.replace("/lab/tree/00_tour", f"/lab/workspaces/{workspace}/tree/{name}")  # no tabs of another test
    page.goto(alone, timeout=2 * MINUTE)
    page.get_by_text("| Idle").first.wait_for(timeout=2 * MINUTE)
    return page


def choose_run_all(page):
    page.locator("li.lm-MenuBar-item", has_text=re.compile("^Run$")).click()
    page.locator('li[data-command="runmenu:run-all"]').click()


def run_all(browser, lab, name):
    """Open a notebook, choose Run → Run All Cells, and return its page when all have run."""
    page = opened(browser, lab, name, name)
    choose_run_all(page)
    page.wait_for_function(ALL_RUN, timeout=4 * MINUTE)
    errors = [output for output in page.evaluate(OUTPUTS) if output["output_type"] == "error"]
    assert errors == []
    return page


def test_the_lab_answers_this_computer_only_and_asks_for_its_token(lab):
    address = urlsplit(lab)
    assert address.hostname == "127.0.0.1"
    listening = {link.laddr.ip for link in psutil.net_connections("tcp")
                 if link.status == psutil.CONN_LISTEN and link.laddr.port == address.port}  # fmt: skip
    assert listening == {"127.0.0.1"}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"http://{address.netloc}/api/contents")


def test_the_tour_runs_and_draws(browser, lab):
    page = run_all(browser, lab, "00_tour")
    page.locator(".jupyter-widgets .js-plotly-plot .main-svg").first.wait_for(timeout=MINUTE)
    told = [output.get("data", {}) for output in page.evaluate(OUTPUTS)]
    assert sum(PLOTLY in one for one in told) >= 2 and sum(WIDGET in one for one in told) >= 1
    commands = [process.cmdline() for process in psutil.Process().children(recursive=True)]
    assert {command[0] for command in commands if "ipykernel_launcher" in command} == {sys.executable}
    page.close()


@pytest.fixture(scope="module")
def playground(browser, lab):
    page = run_all(browser, lab, "08_playground")
    yield page
    page.close()


READ = (
    """rows => rows.map(row => [".widget-label", ".widget-readout"].map(part => row.querySelector(part).textContent))"""
)


def shares(page):
    """The weights on screen, slider → per cent."""
    found = page.locator(".widget-hslider").evaluate_all(READ)
    return {name.strip(): float(share.rstrip("%")) for name, share in found if share.endswith("%")}


def row(page, kind, name):
    """The first box of a kind that holds the slider of a candidate."""
    label = page.locator(".widget-label", has_text=re.compile(rf"^\s*{name}\s*$"))
    return page.locator(kind, has=label).first


def move(page, name, to):
    """Click on a slider at `to` of its length."""
    rail = row(page, ".widget-hslider", name).locator(".noUi-base")
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    page.mouse.click(box["x"] + to * box["width"], box["y"] + box["height"] / 2)


def predicted(page):
    return page.locator(".js-plotly-plot", has_text="predicted place").first.locator(".infolayer").text_content()


def scored(page):
    return page.locator(".js-plotly-plot", has_text="really merged").first.locator(".scatterlayer").text_content()


def settled(page):
    """The weights on screen once the kernel has answered: until then only the slider under the mouse has moved."""
    deadline = time.monotonic() + 30
    while abs(sum((found := shares(page)).values()) - 100) > 1e-6:
        assert time.monotonic() < deadline, f"the weights on screen sum to {sum(found.values())} %"
        page.wait_for_timeout(20)
    return sorted(found.items())


def changes(page, read, before, timeout=60.0):
    """Return the seconds until `read(page)` differs from `before`."""
    began = time.monotonic()
    while read(page) == before:
        assert time.monotonic() < began + timeout, f"nothing changed: {before}"
        page.wait_for_timeout(50)
    return time.monotonic() - began


def test_a_slider_is_answered_while_cells_still_run(browser, lab, clone):
    notebook, gate = nbformat.read(clone / "notebooks" / "08_playground.ipynb", as_version=4), clone / "gate"
    desk = next(i for i, cell in enumerate(notebook.cells) if "play.desk()" in cell.source)
    waiting = f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists():\n    time.sleep(0.1)"
    notebook.cells.insert(desk + 1, nbformat.v4.new_code_cell(waiting))
    nbformat.write(notebook, clone / "notebooks" / "waiting.ipynb")
    page = opened(browser, lab, "waiting", "waiting")
    choose_run_all(page)
    page.locator(".js-plotly-plot", has_text="predicted place").first.wait_for(timeout=MINUTE)
    before = predicted(page)
    move(page, "math_drill", 0.8)
    changes(page, predicted, before)
    assert not page.evaluate(ALL_RUN)
    gate.touch()
    page.wait_for_function(ALL_RUN, timeout=4 * MINUTE)
    page.close()


def test_a_moved_slider_changes_what_is_predicted_and_what_is_scored(playground):
    page = playground
    page.locator(".js-plotly-plot", has_text="really merged").first.wait_for(timeout=MINUTE)
    before, told, live = shares(page), predicted(page), scored(page)
    move(page, "math_drill", 0.8)
    changes(page, predicted, told)
    changes(page, scored, live)
    after = shares(page)
    assert after["math_drill"] == pytest.approx(80, abs=3) and after["general"] < before["general"]


def test_locks_hold_and_the_weights_on_screen_sum_to_one(playground):
    page = playground
    assert sum(shares(page).values()) == pytest.approx(100, abs=1e-6)
    held = shares(page)["general"]
    row(page, ".widget-hbox", "general").locator("input[type=checkbox]").check()
    for name, to in (("code_cpp", 0.5), ("math_word", 0.9), ("code_cpp", 0.3), ("math_drill", 0.97)):
        before = sorted(shares(page).items())
        move(page, name, to)
        changes(page, settled, before)
        assert shares(page)["general"] == held


def test_a_dragged_score_moves_the_mixture_and_a_preset_pressed_again_puts_it_back(playground):
    page = playground
    preset = page.get_by_role("button", name="uniform", exact=True).first
    preset.click()
    page.wait_for_timeout(1000)
    uniform = settled(page)
    score = page.locator('.widget-label[title="math, bpb"]').locator("..").locator(".noUi-base")
    score.scroll_into_view_if_needed()
    handle = score.locator(".noUi-handle").bounding_box()
    page.mouse.click(handle["x"] + handle["width"] / 2 - 25, handle["y"] + handle["height"] / 2)
    changes(page, settled, uniform)
    page.get_by_text(re.compile(r"math .* bpb is reached by moving")).first.wait_for(timeout=MINUTE)
    moved = settled(page)
    preset.click()
    changes(page, settled, moved)
    assert settled(page) == uniform


def test_controls_stand_beside_what_they_change(playground):
    picture = playground.locator(".js-plotly-plot", has_text="predicted place").first
    picture.evaluate("element => element.scrollIntoView({block: 'center'})")
    slider = row(playground, ".widget-hslider", "code_cpp")
    assert slider.bounding_box()["x"] + slider.bounding_box()["width"] <= picture.bounding_box()["x"]


def test_a_pressed_cell_shows_its_curve(playground):
    cell = playground.locator('button[title^="math_word → "]').first
    target = cell.get_attribute("title").removeprefix("math_word → ")

    def curves(page):
        titles = page.locator(".js-plotly-plot .infolayer", has_text="share of math_word").all_text_contents()
        return [title for title in titles if target in title]

    assert curves(playground) == []
    cell.scroll_into_view_if_needed()
    cell.click()
    changes(playground, curves, [])
