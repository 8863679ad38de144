"""Every committed figure has its row, its notebook, and its place on a page that is current."""

import re

from conftest import REPOSITORY

from demix_nb.figures import gallery
from demix_nb.running import runner
from demix_nb.running.gallery import page

RESULTS = REPOSITORY / "data" / "results"


def test_the_page_is_current_and_its_links_lead_somewhere():
    shown = {name: row for name, row in gallery.rows().items() if (REPOSITORY / "figures" / f"{name}.png").is_file()}
    text = (REPOSITORY / "figures" / "README.md").read_text()
    assert text == page(shown)
    links = set(re.findall(r"\]\(([^)]+)\)", text))
    awaited = {table for row in shown.values() for table in row.tables if not list(RESULTS.glob(f"*/{table}.csv"))}
    titles = re.findall(r"^## (.*)$", text, re.M)
    anchors = {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
    broken = [link for link in links - anchors if not (REPOSITORY / "figures" / link).exists()]
    assert [link for link in broken if link.rpartition("/")[2].removesuffix(".csv") not in awaited] == []


def test_every_committed_figure_has_a_row_and_every_row_a_notebook():
    rows = gallery.rows()
    files = {path.stem for path in (REPOSITORY / "figures").glob("*.png")} - {"playground"}  # the screen, no table
    assert files <= set(rows)
    assert {row.notebook for row in rows.values()} <= set(runner.STEPS)
