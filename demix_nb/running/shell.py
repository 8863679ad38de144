"""What all pages of a report share: the frame around a body, and the files of `web/` that are written into it."""

import html
import importlib.resources
from collections.abc import Sequence
from functools import cache

from pygments.formatters import HtmlFormatter

from demix_nb.store import Refusal


@cache
def asset(name: str) -> str:
    """Return a file of `web/`."""
    return importlib.resources.files("demix_nb.running").joinpath("web", name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Return files of `web/` as one script."""
    return "<script>\n" + "\n".join(asset(name) for name in names) + "</script>\n"


@cache
def _style() -> str:
    light, dark = (HtmlFormatter(style=style).get_style_defs(".highlight") for style in ("default", "github-dark"))
    plain = ".highlight, .highlight pre { background: var(--code) }"
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n{plain}\n{asset('page.css')}"


def document(title: str, body: str, *, top: str = "", bottom: str = "", scripts: Sequence[str] = ()) -> str:
    """Return a page that needs nothing beside itself; `scripts`: elements that come after the body."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<style>{_style()}</style>\n</head>\n<body>\n<header>{top}</header>\n<main>\n{body}\n</main>\n"
        f"<footer>{bottom}</footer>\n{''.join(scripts)}{script('page.js')}</body>\n</html>\n"
    )


def described(profile: str, name: str, stamp: dict, seconds: float) -> str:
    """Return one line: profile, seconds, machine, versions, commit; raises Refusal for a stamp that lacks them."""
    if "machine" not in stamp:
        raise Refusal(f"{name} ran before runs noted their machine; run `demix-nb run {name}` again")
    versions = ", ".join(f"{library} {version}" for library, version in stamp["versions"].items())
    facts = (f"profile {profile}", f"{seconds:.0f} s", stamp["machine"], versions, f"commit {stamp['commit']}")
    return f"<p>{html.escape(' · '.join(facts))}</p>"
