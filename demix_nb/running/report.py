"""A finished run as HTML pages that open from disk: one per notebook, and an index.

Whoever is handed a page needs no Python, no server and no network for it, so everything lies inside: figures as they
were drawn, formulas as MathML, which browsers draw themselves (MathJax would be fetched), and plotly.js once in a page
that has plotly figures and not in the others. It is stored gzipped, 2.0 MB instead of 4.8, and the browser unpacks it.
Knows notebooks and files, not science.
"""

import base64
import gzip
import html
import importlib.resources
import json
import re
from collections.abc import Mapping
from pathlib import Path

import nbformat
from jinja2 import pass_context
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments.formatters import HtmlFormatter

from demix_nb import PLOTLY, store
from demix_nb.figures.gallery import rows
from demix_nb.running import gallery, runner
from demix_nb.store import Refusal, atomic

OPENING = re.compile(r"#\s+(?P<title>.+)\n[\s\S]*?\*\*Question\.\*\*\s+(?P<question>[\s\S]+?)\n\s*\n")
STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --page: #fff; --quiet: #5c6370; --line: #dfe2e6; --code: #f6f7f9;
  --link: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e6e9; --page: #16181c; --quiet: #9aa2ad; --line: #353a42;
  --code: #1f2329; --link: #56b4e9; } }
body { margin: 0 auto; max-width: 58rem; padding: 1rem 1.2rem 4rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, sans-serif; }
a { color: var(--link); }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .5em; }
header { border-bottom: 1px solid var(--line); color: var(--quiet); font-size: .85rem; padding-bottom: .6rem; }
header p { margin: .2rem 0; }
pre { background: var(--code); border-radius: 6px; font-size: .82rem; line-height: 1.4; margin: .4rem 0;
  overflow-x: auto; padding: .6rem .8rem; }
code { font-size: .88em; }
math[display=block] { margin: .8rem 0; }
.output_area { margin: .5rem 0; overflow-x: auto; }
.output_text pre { background: none; border-left: 3px solid var(--line); border-radius: 0; }
.output_area img, .plotly-figure { background: #fff; border-radius: 6px; box-sizing: border-box; max-width: 100%;
  padding: .4rem; }
table { border: 0; border-collapse: collapse; font-size: .85rem; }
td, th { border: 0; border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: right;
  vertical-align: top; }
tbody th, .index td { text-align: left; }
.index td:nth-child(2) { white-space: nowrap; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .6rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; }
"""
DRAW = """
const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
const library = document.createElement("script");
library.textContent = await new Response(unpacked).text();
document.head.append(library);
for (const place of document.querySelectorAll(".plotly-figure")) {
  const figure = JSON.parse(place.firstElementChild.textContent);
  place.style.height = `${figure.layout.height ?? 450}px`;
  await Plotly.newPlot(place, {...figure, config: {responsive: true, displaylogo: false}});
}
"""


class Formulas(IPythonRenderer):
    """Markdown to HTML with formulas as MathML."""

    def block_math(self, body: str) -> str:
        return f"<div>{mathml(body, display='block')}</div>"

    def inline_math(self, body: str) -> str:
        return mathml(body)


class Body(HTMLExporter):
    """nbconvert's plain body of a notebook, without prompts, its formulas as MathML."""

    def __init__(self) -> None:
        super().__init__(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)

    @pass_context
    def markdown2html(self, context: object, source: str) -> str:
        return MarkdownWithMath(renderer=Formulas(escape=False, exclude_anchor_links=True)).render(source)


def write(profile: str, run_dir: Path) -> list[Path]:
    """Write `run_dir`/report: index.html and one page per finished notebook; returns the paths, the index first.

    Raises Refusal when no notebook of this run has finished, or when it ran before stamps said where and how.
    """
    done = [name for name in runner.STEPS if (run_dir / "stamps" / f"{name}.json").is_file()]
    if not done:
        raise Refusal(f"no finished notebook in {run_dir}; run `demix-nb run --profile {profile}` first")
    stamps = {name: json.loads((run_dir / "stamps" / f"{name}.json").read_text()) for name in done}
    notebooks = {name: nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4) for name in done}
    pages = {"index": index(profile, run_dir, notebooks, stamps)}
    for name, notebook in notebooks.items():
        facts = described(profile, name, stamps[name], stamps[name]["seconds"])
        pages[name] = page(notebook, facts, done)
    return [_write(run_dir / "report" / f"{name}.html", text) for name, text in pages.items()]


def _write(path: Path, text: str) -> Path:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def described(profile: str, name: str, stamp: Mapping, seconds: float) -> str:
    """Return one line: profile, seconds, machine, versions, commit; raises Refusal for a stamp that lacks them."""
    if "machine" not in stamp:
        raise Refusal(f"{name} ran before runs noted their machine; run `demix-nb run {name}` again")
    versions = ", ".join(f"{library} {version}" for library, version in stamp["versions"].items())
    facts = (f"profile {profile}", f"{seconds:.0f} s", stamp["machine"], versions, f"commit {stamp['commit']}")
    return html.escape(" · ".join(facts))


def page(notebook: NotebookNode, facts: str, names: list[str]) -> str:
    """Return an executed notebook as a self-contained page; links lead to the other pages, `names`."""
    title = opening(notebook)["title"]
    has_figures = embed_figures(notebook)
    describe_images(notebook)
    body, _ = Body().from_notebook_node(notebook)
    body = re.sub(r"<style(?: scoped)?>[\s\S]*?</style>", "", body)  # of tables and sources, made for light pages only
    body = re.sub(r'<a href="(?:[\w.]+/)*(\w+)\.ipynb">(.*?)</a>', lambda link: _link(*link.groups(), names), body)
    head = f'<p><a href="index.html">All notebooks of this run</a></p><p>{facts}</p>'
    return _document(title, head, body, plotly() if has_figures else "")


def _link(target: str, text: str, names: list[str]) -> str:
    return f'<a href="{target}.html">{text}</a>' if target in names else text


def _document(title: str, head: str, body: str, end: str = "") -> str:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    plain = ".highlight, .highlight pre { background: var(--code) }"
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<style>{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{plain}\n{STYLE}</style>\n</head>\n<body>\n"
        f"<header>{head}</header>\n<main>\n{body}\n</main>\n{end}</body>\n</html>\n"
    )


def opening(notebook: NotebookNode) -> dict[str, str]:
    """Return the title and the question that a notebook opens with."""
    return OPENING.match(notebook.cells[0].source).groupdict()


def embed_figures(notebook: NotebookNode) -> int:
    """Turn plotly outputs, which nbconvert drops, into places where `DRAW` draws them; returns how many there are."""
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


def plotly() -> str:
    """Return plotly.js, gzipped, and the script that unpacks it and draws every figure of the page."""
    library = importlib.resources.files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    packed = base64.b64encode(gzip.compress(library, 9, mtime=0)).decode()
    return f'<script type="text/plain" id="plotly">{packed}</script>\n<script type="module">{DRAW}</script>\n'


def index(profile: str, run_dir: Path, notebooks: Mapping[str, NotebookNode], stamps: Mapping[str, Mapping]) -> str:
    """Return the first page: what the run found, notebook by notebook, and the mixture it recommends."""
    rows = []
    for name, notebook in notebooks.items():
        said = opening(notebook)
        link = f'<a href="{name}.html">{html.escape(said["title"])}</a><br>{html.escape(said["question"])}'
        rows.append(f"<tr><td>{link}</td><td>{stamps[name]['seconds']:.0f} s</td><td>{found(run_dir, name)}</td></tr>")
    answer = run_dir / "mixture.yaml"
    told = answer.read_text(encoding="utf-8") if answer.is_file() else ""
    recommended = f"<h2>The mixture</h2><pre>{html.escape(told)}</pre>" if told else ""
    table = f'<table class="index"><tbody>{"".join(rows)}</tbody></table>'
    body = f"<h1>Run <code>{html.escape(profile)}</code></h1>{table}"
    last, seconds = list(notebooks)[-1], sum(stamp["seconds"] for stamp in stamps.values())
    facts = described(profile, last, stamps[last], seconds)
    return _document(f"demix_nb, run {profile}", f"<p>{facts}</p>", body + recommended)


def found(run_dir: Path, name: str) -> str:
    """Return a notebook's lines of the closing table as HTML; nothing for one that wrote none."""
    summary = run_dir / "summary" / f"{name}.csv"
    values = store.read(summary, "summary")["value"] if summary.is_file() else {}
    return "<br>".join(f"{html.escape(key)}: <b>{html.escape(value)}</b>" for key, value in values.items())
