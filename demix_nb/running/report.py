"""A finished run as HTML pages that open from disk: the answer first, a desk to try others, a page per notebook.

Whoever is handed a page needs no Python, no server and no network for it, so everything lies inside. Knows notebooks,
tables and files, not science.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import nbformat

from demix_nb.facts import Facts
from demix_nb.packed import Packed
from demix_nb.running import report_answer, report_desk, report_pages, runner
from demix_nb.running.shell import described, document
from demix_nb.store import Refusal, atomic


def write(profile: str, run_dir: Path) -> list[Path]:
    """Write `run_dir`/report: index.html, desk.html where a search has run, and a page per finished notebook.

    Returns the paths, the index first. Raises Refusal when no notebook of this run has finished, or when it ran before
    stamps said where and how.
    """
    done = [name for name in runner.STEPS if (run_dir / "stamps" / f"{name}.json").is_file()]
    if not done:
        raise Refusal(f"no finished notebook in {run_dir}; run `demix-nb run --profile {profile}` first")
    stamps = {name: json.loads((run_dir / "stamps" / f"{name}.json").read_text()) for name in done}
    notebooks = {name: nbformat.read(run_dir / "notebooks" / f"{name}.ipynb", as_version=4) for name in done}
    titles = {name: report_pages.opening(notebook)["title"] for name, notebook in notebooks.items()}
    facts = {name: described(profile, name, stamp, stamp["seconds"]) for name, stamp in stamps.items()}
    pages = first_pages(profile, run_dir, notebooks, stamps)
    for name, notebook in notebooks.items():
        pages[name] = report_pages.page(notebook, facts[name], name, titles)
    places = {str(run_dir): "RUN"}
    for notebook in notebooks.values():
        places |= report_pages.places(notebook)
    return [
        _write(run_dir / "report" / f"{name}.html", report_pages.anonymous(text, places))
        for name, text in pages.items()
    ]


def _write(path: Path, text: str) -> Path:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    path.chmod(0o644)
    return path


def first_pages(profile: str, run_dir: Path, notebooks: Mapping, stamps: Mapping[str, Mapping]) -> dict[str, str]:
    """Return the index, and the desk by itself where there is one."""
    last, seconds = list(notebooks)[-1], sum(stamp["seconds"] for stamp in stamps.values())
    facts = described(profile, last, stamps[last], seconds)
    answer = report_answer.Answer.read(run_dir)
    packed = report_desk.packed(Facts(run_dir))
    known, told = desk(run_dir, stamps.get("05_search"), answer, packed)
    part, scripts = report_desk.section(known, told, "h2") if known else ("", [])
    story = report_answer.story(run_dir, notebooks, stamps)
    pages = {
        "index": document(
            "Which mixture to train on", report_answer.front(answer) + part + story, bottom=facts, scripts=scripts
        )
    }
    if known:
        top = '<nav aria-label="pages"><a href="index.html">contents</a></nav>'
        if packed:
            known = report_desk.exactly(known, packed, Facts(run_dir).scored("search").tasks["family"])
            told = report_desk.explained(known, "mixed", "")
        part, scripts = report_desk.section(known, told, "h1")
        pages["desk"] = document("Try another mixture", part, top=top, bottom=facts, scripts=scripts)
    return pages


def desk(
    run_dir: Path, stamp: Mapping | None, answer: report_answer.Answer, packed: Packed | None
) -> tuple[dict | None, str]:
    """Return what the desk knows, and in words what that is; None where no search has run."""
    study, asked = Facts(run_dir), None if stamp is None else stamp["parameters"]
    known = report_desk.contents(study, asked, answer.told.get("found_by", ""), packed)
    if known is None:
        return None, ""
    kind = "mixed" if packed else study.kinds[0]
    return known, report_desk.explained(known, kind, asked["predictor"])
