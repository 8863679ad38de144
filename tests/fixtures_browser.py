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
# texts of a panel on top of each other
OVERLAPS = """() => [...document.querySelectorAll(".plotly-figure, .desk, .bars, .numbers, nav")].flatMap((panel) => {
  const inside = [...panel.querySelectorAll("text, label, output, b, span, th, td, a")]
    .filter((e) => e.textContent.trim() && !e.querySelector("text, label, output, b, span, th, td, a"))
    .filter((e) => !/rotate\\((?!0)/.test(e.getAttribute("transform") ?? "")) // their boxes are larger than they are
    .map((e) => [e, e.getBoundingClientRect()]).filter(([e, box]) => box.width && getComputedStyle(e).opacity > 0);
  return inside.flatMap(([one, a], i) => inside.slice(i + 1).filter(([other, b]) => {
    const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    return wide > 2 && high > 3;
  }).map(([other]) => `${one.textContent.trim()} | ${other.textContent.trim()}`));
})"""
# texts of a plotly figure that its edge cuts
CUT = """() => [...document.querySelectorAll(".plotly-figure")].flatMap((place) => {
  const box = place.getBoundingClientRect();
  return [...place.querySelectorAll("text")].filter((e) => {
    const {left, right, width} = e.getBoundingClientRect();
    return width && getComputedStyle(e).opacity > 0 && (left < box.left - 1 || right > box.right + 1);
  }).map((e) => e.textContent.trim());
})"""
# texts and marks of plotly figures that are pale against what they stand on: a mark is seen by its fill or by its edge
PALE = """() => {
  const channels = (said) => said.match(/[\\d.]+/g).map(Number), over = ([r, g, b, a = 1], ground, thin = 1) =>
    [r, g, b].map((part, i) => part * a * thin + ground[i] * (1 - a * thin));
  const light = (colour) => colour.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (one, other) => {
    const [dark, bright] = [light(one), light(other)].sort((a, b) => a - b);
    return (bright + 0.05) / (dark + 0.05);
  };
  const ink = (look, what) => (look[what] === "none" ? null : look[what]), page =
    channels(getComputedStyle(document.body).backgroundColor);
  const middle = (e) => {
    const {x, y, width, height} = e.getBoundingClientRect();
    return [x + width / 2, y + height / 2];
  };
  const thinned = (e) => { // how much of it is left by itself and by what holds it
    let left = 1;
    for (let at = e; at && at.tagName !== "DIV"; at = at.parentNode) left *= getComputedStyle(at).opacity;
    return left;
  };
  const told = (e, what) => channels(ink(getComputedStyle(e), what) ?? "0 0 0 0");
  const about = (e) => e.closest(".trace").__data__[0].trace, map = (e) => about(e).marker?.symbol === "hexagon";
  const under = (e, tiles) => { // the tile of a map that a mark lies on
    const [x, y] = middle(e), far = ({place: [a, b]}) => Math.hypot(a - x, b - y);
    const [near] = tiles.filter((tile) => far(tile) < tile.reach).sort((a, b) => far(a) - far(b));
    return near?.colour ?? page;
  };
  const stands = (e, what, ground) => {
    const look = getComputedStyle(e), drawn = what === "fill" || parseFloat(look.strokeWidth) > 0;
    return contrast(over(told(e, what), ground, drawn * thinned(e) * look[`${what}Opacity`]), ground);
  };
  return [...document.querySelectorAll(".plotly-figure")].flatMap((place, number) => {
    const seen = (e) => e.getBoundingClientRect().width + e.getBoundingClientRect().height > 0 && thinned(e) > 0;
    const texts = [...place.querySelectorAll("text")].filter((e) => e.textContent.trim() && seen(e))
      .map((e) => [e, contrast(over(told(e, "fill"), page, thinned(e)), page), 4.5]);
    const points = [...place.querySelectorAll("path.point, .legendpoints path")];
    const tiles = points.filter((e) => e.closest(".trace") && e.matches(".point") && map(e))
      .map((e) => ({place: middle(e), reach: e.getBoundingClientRect().height / 2,
                    colour: over(told(e, "fill"), page)}));
    const marks = points.filter((e) => !(e.matches(".point") && map(e))).concat(
      [...place.querySelectorAll(".js-line, .js-fill, .errorbar path, .shapelayer path, .legendlines path")]
        .filter((e) => e.matches(".js-fill") || parseFloat(getComputedStyle(e).strokeWidth) > 0));
    return texts.concat(marks.filter(seen).map((e) => {
      const ground = under(e, tiles), edge = e.matches(".js-fill") ? e.closest(".trace").querySelector(".js-line") : e;
      return [e, Math.max(stands(e, "fill", ground), edge ? stands(edge, "stroke", ground) : 1), 3];
    })).filter(([, value, least]) => value < least - 0.005)
      .map(([e, value]) => `${number}: ${e.textContent.trim() || e.getAttribute("class")} ${value.toFixed(2)}`);
  });
}"""
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
    drawn = f"document.querySelectorAll('.plotly-figure[data-drawn]').length == {figures}"
    page.wait_for_function(drawn, timeout=120_000)
