"""Milliseconds that a report's desk takes for a move and for a dragged score, in a real browser; idle machine.

    python -m tests.benchmarks.frames [data/runs/laptop/report/desk.html]

Needs chromium. A hundred each, the layout of the page included in a move; medians, the tenth quickest and slowest.
"""

import sys
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
from fixtures_browser import QUIET, chromium_path

DESK = Path(__file__).parents[2] / "data" / "runs" / "laptop" / "report" / "desk.html"
MOVES = """() => [...Array(100)].map((_, turn) => {
  const began = performance.now();
  move(turn % desk.shares.length, ((turn * 7) % 60) / 100);
  document.body.getBoundingClientRect();
  return performance.now() - began;
})"""
DRAGS = """() => [...Array(100)].map((_, turn) => {
  const surface = SURFACES[turn % SURFACES.length];
  const wanted = surface.mean(desk.shares) + (turn % 7 - 3) / 5 * surface.scale;
  const began = performance.now();
  drawn(surface, desk.shares.map((share) => share * 1), wanted, new Set(), KNOWN.bounds);
  return performance.now() - began;
})"""


def main(page_file: Path) -> None:
    """Print a line for moves and one for drags."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=QUIET)
        page = browser.new_page()
        page.goto(page_file.resolve().as_uri())
        page.wait_for_function("SURFACES.length > 0 && desk.shares.length > 0")
        for told, asked in {"moves": MOVES, "dragged scores": DRAGS}.items():
            low, middle, high = np.quantile(page.evaluate(asked), [0.1, 0.5, 0.9])
            print(f"{told}: median {middle:.1f} ms, nine in ten within {high:.1f} ms, the quickest tenth {low:.1f} ms")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DESK)
