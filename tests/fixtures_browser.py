"""A browser for tests: Debian's chromium, and what is asked of every page in it."""

import io
import shutil
import subprocess
import tarfile

import pytest
from playwright.sync_api import sync_playwright

QUIET = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def chromium_path():
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    """Return Debian's chromium, or skip saying that it is not there."""
    path = chromium_path()
    if path is None:
        pytest.skip("no chromium on this machine; `apt-get install chromium` as root brings it")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield chromium
        chromium.close()


# --- what is asked of every page: each returns what is wrong

WIDER = """() => [...document.body.querySelectorAll("*")].filter((e) => {
  const box = e.getBoundingClientRect(), boxes = "pre, .output_area, .scrolls, .formula, dialog, .plotly-figure, .away";
  return box.width && box.right > innerWidth + 1 && !e.closest(boxes);
}).map((e) => `${e.tagName} ${e.className} ${Math.round(e.getBoundingClientRect().right)}`)
  .concat(document.documentElement.scrollWidth > innerWidth ? ["the page"] : [])"""
# texts of a panel on top of each other; corners of a plotly triangle have a tick and a name in one place
OVERLAPS = """() => [...document.querySelectorAll(".plotly-figure, .desk, .bars, .numbers, nav")].flatMap((panel) => {
  const inside = [...panel.querySelectorAll("text, label, output, b, span, th, td, a")]
    .filter((e) => e.textContent.trim() && !e.querySelector("text, label, output, b, span, th, td, a"))
    .filter((e) => !/rotate\\((?!0)/.test(e.getAttribute("transform") ?? "")) // their boxes are larger than they are
    .filter((e) => !e.closest(".ternary"))
    .map((e) => [e, e.getBoundingClientRect()]).filter(([e, box]) => box.width && getComputedStyle(e).opacity > 0);
  return inside.flatMap(([one, a], i) => inside.slice(i + 1).filter(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return wide > 2 && high > 3;
  }).map(([other]) => `${one.textContent.trim()} | ${other.textContent.trim()}`));
})"""
AXE = """async () => {
  const found = await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]});
  return found.violations.filter((one) => ["serious", "critical"].includes(one.impact))
    .map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" · ")}`);
}"""
AXE_CORE = "axe-core@4.14.1"  # a test dependency that pip does not have


@pytest.fixture(scope="session")
def axe(pytestconfig):
    """Return axe-core's source, from npm's registry into pytest's cache; skip where it cannot be had."""
    kept = pytestconfig.cache.mkdir("axe-core") / f"{AXE_CORE}.js"
    if not kept.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip(f"no npm on this machine, which brings {AXE_CORE}")
        asked = [npm, "pack", AXE_CORE, "--silent", "--pack-destination", str(kept.parent)]
        done = subprocess.run(asked, cwd=kept.parent, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"npm cannot bring {AXE_CORE}: {done.stderr.strip()[-200:]}")
        packed = kept.parent / done.stdout.strip().splitlines()[-1]
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            kept.write_bytes(archive.extractfile("package/axe.min.js").read())
        packed.unlink()
    return kept.read_text(encoding="utf-8")


def opened(page, path, figures):
    """Open a page of a report and wait until its figures are drawn."""
    page.goto(path.as_uri())
    drawn = f"document.querySelectorAll('.plotly-figure .main-svg').length >= {figures}"
    page.wait_for_function(drawn, timeout=120_000)
