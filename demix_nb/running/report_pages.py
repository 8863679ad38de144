"""An executed notebook as a page: prose first, code folded, figures as the reader's eyes want them.

Formulas are MathML, which browsers draw themselves (MathJax would be fetched); plotly.js lies once in a page that has
plotly figures, gzipped, 2.0 MB instead of 4.8, and the browser unpacks it. Numbers of a table are rounded for the eye;
its CSV has them in full. No page holds a path of the machine that made it.
"""

import base64
import gzip
import html
import importlib.resources
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import pass_context
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode

from demix_nb import PLOTLY, ROOT
from demix_nb.figures.gallery import rows
from demix_nb.running import gallery
from demix_nb.running.shell import asset, document

OPENING = re.compile(r"#\s+(?P<title>.+)\n[\s\S]*?\*\*Question\.\*\*\s+(?P<question>[\s\S]+?)\n\s*\n")
SHOWN = re.compile(r"show_source\(")
DEFINED = re.compile(r"\b(?:def|class)\s+(\w+)")
LIGHT = re.compile(r'<style(?: scoped(?:="")?)?>[\s\S]*?</style>')  # of light pages only; a Styler's has a type
NUMBER = re.compile(r"<td([^>]*)>(-?(?:\d+\.\d+(?:e[+-]?\d+)?|\d{4,}))</td>")
WORDS = re.compile(r"<td(?=[^>]*>(?!(?:[-+±≥≤<>\d.,%/\s–]|e[+-]\d|NaN|True|False)*</td>)[^<]+</td>)")
COUNT, DECIMALS = 10_000, 3  # from here on a number is read as a count; below, so many decimals are
TEMPLATE = """{%- extends 'basic/index.html.j2' -%}
{%- block input_group -%}
{%- if cell.metadata.told -%}
<details class="code"><summary>{{ cell.metadata.told }}</summary>{{ super() }}</details>
{%- endif -%}
{%- endblock -%}"""


class Formulas(IPythonRenderer):
    """Markdown to HTML with formulas as MathML; those that stand alone, and tables, scroll inside themselves."""

    def block_math(self, body: str) -> str:
        return f'<div class="formula">{mathml(body, display="block")}</div>'

    def inline_math(self, body: str) -> str:
        return mathml(body)

    def table(self, text: str) -> str:
        return f'<div class="scrolls">{super().table(text)}</div>'


def rendered(source: str) -> str:
    """Return Markdown as HTML."""
    return MarkdownWithMath(renderer=Formulas(escape=False, exclude_anchor_links=True)).render(source)


class Body(HTMLExporter):
    """nbconvert's plain body of a notebook, without prompts, its code folded, its formulas as MathML."""

    def __init__(self) -> None:
        super().__init__(raw_template=TEMPLATE, exclude_input_prompt=True, exclude_output_prompt=True)

    @pass_context
    def markdown2html(self, context: object, source: str) -> str:
        return rendered(source)


@cache
def _exporter() -> Body:
    return Body()  # one for all pages: its templates take a third of a second


def opening(notebook: NotebookNode) -> dict[str, str]:
    """Return the title and the question that a notebook opens with."""
    return OPENING.match(notebook.cells[0].source).groupdict()


def page(notebook: NotebookNode, facts: str, name: str, titles: dict[str, str]) -> str:
    """Return an executed notebook, step `name`, as a page; `titles`: step → title of all pages, in their order."""
    has_figures = embed_figures(notebook)
    describe_images(notebook)
    fold(notebook)
    body, _ = _exporter().from_notebook_node(notebook)
    body = LIGHT.sub("", body)
    body = re.sub(r'<a href="(?:[\w.]+/)*(\w+)\.ipynb">(.*?)</a>', lambda link: _link(*link.groups(), titles), body)
    body = re.sub(r"(<img [^>]*>)", r'<button type="button" class="zoom">\1</button>', body)
    body = WORDS.sub("<td data-words", NUMBER.sub(_rounded, body))
    way = around(name, titles)
    top = f'{way}<p><button type="button" id="all-code" aria-pressed="false">show all code</button></p>'
    scripts = [plotly()] if has_figures else []
    return document(opening(notebook)["title"], body, top=top, bottom=way + facts, scripts=scripts)


def _link(target: str, text: str, titles: dict[str, str]) -> str:
    return f'<a href="{target}.html">{text}</a>' if target in titles else text


def around(name: str, titles: dict[str, str]) -> str:
    """Return links to the page before, to the contents, and to the page after."""
    steps = list(titles)
    place = steps.index(name)
    before = [(steps[place - 1], "←&nbsp;{}")] if place else []
    after = [(steps[place + 1], "{}&nbsp;→")] if place + 1 < len(steps) else []
    short = {step: html.escape(title.partition(":")[0]) for step, title in titles.items()}
    links = [f'<a href="{step}.html">{text.format(short[step])}</a>' for step, text in (*before, *after)]
    links.insert(len(before), '<a href="index.html">contents</a>')
    return f'<nav aria-label="pages">{"".join(links)}</nav>'


def places(notebook: NotebookNode) -> dict[str, str]:
    """Return the folders of the machine on which a notebook ran, and of this one: folder → what a page says instead."""
    told = notebook.metadata.get("papermill", {})
    found = {told.get("parameters", {}).get("run_dir", ""): "RUN", str(ROOT): "HERE", sys.prefix: "PYTHON"}
    found |= {str(Path(told.get("input_path", "")).parent.parent): "HERE", str(Path.home()): "HOME"}
    return {folder: said for folder, said in found.items() if len(Path(folder).parts) > 1}


def anonymous(text: str, found: Mapping[str, str]) -> str:
    """Return a page that names none of these folders."""
    for folder in sorted(found, key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}(?![\w.-])", found[folder], text)
    return text


# --- what a page does with cells


def fold(notebook: NotebookNode) -> None:
    """Say what each fold of code holds, and fold the source that `show_source` shows, in the place of its call."""
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        lines = cell.source.splitlines()
        told = f"code, {len(lines)} line{'s' * (len(lines) > 1)}" if lines else ""
        if "injected-parameters" in cell.metadata.get("tags", []):
            told = "parameters of this run"
        cell.metadata["told"] = "" if all(SHOWN.match(line) for line in lines) else told
        for data in (output.data for output in cell.outputs if "text/latex" in output.get("data", {})):
            if 'class="highlight"' in data.get("text/html", ""):
                name = DEFINED.search(data["text/plain"])
                told = f"source of <code>{name[1]}</code>" if name else "source"
                data["text/html"] = f'<details class="code"><summary>{told}</summary>{data["text/html"]}</details>'


def _rounded(cell: re.Match) -> str:
    """A number of a table as it is read: counts whole, all else to three decimals, what is small to three digits."""
    facts, told = cell.groups()
    value, decimals = float(told), len(told.partition(".")[2])
    if abs(value) >= COUNT or not decimals:
        short = f"{value:,.0f}"
    elif decimals <= DECIMALS:  # as the notebook rounded it
        return cell[0]
    else:
        short = f"{value:.{DECIMALS}f}" if abs(value) >= 0.01 or value == 0 else f"{value:.{DECIMALS}g}"
    return f'<td{facts}><data value="{told}">{short}</data></td>'


def embed_figures(notebook: NotebookNode) -> int:
    """Turn plotly outputs, which nbconvert drops, into places where they are drawn; returns how many there are."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    found = [output.data for output in outputs if PLOTLY in output.get("data", {})]
    for data in found:
        figure = json.dumps(data.pop(PLOTLY)).replace("</", "<\\/")
        data["text/html"] = f'<div class="plotly-figure"><script type="application/json">{figure}</script></div>'
    return len(found)


def describe_images(notebook: NotebookNode) -> None:
    """Give every quoted figure its caption from the gallery as its alternative text."""
    captions = {name: row.caption for name, row in rows().items()}
    for cell in notebook.cells:
        names = gallery.shown_in(cell.source)
        images = [output for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
        for name, image in zip(names, images, strict=False):  # a figure may be drawn only under a condition
            image.metadata["image/png"] = {**image.metadata.get("image/png", {}), "alt": captions[name]}


@cache
def plotly() -> str:
    """Return plotly.js, gzipped, and the script that unpacks it and draws every figure of the page."""
    library = importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    packed = base64.b64encode(gzip.compress(library, 9, mtime=0)).decode()
    told = f'<script type="text/plain" id="plotly">{packed}</script>\n'
    return f'{told}<script type="module">\n{asset("plotly.js")}</script>\n'
