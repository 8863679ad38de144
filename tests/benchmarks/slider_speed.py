"""Seconds from Run All to an answer in the playground, in a real browser; by hand, on an idle machine.

    python tests/benchmarks/slider_speed.py [trials]

Needs chromium and a finished run in data/runs/laptop. Prints per trial when the desk was on screen, when a slider moved
at that moment was answered, when all cells had run, and how long single moves took after that until the merged model's
scores had changed. The browser shares the cores with the kernel.
"""

import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))
import test_browser as screen

ROOT = Path(__file__).parent.parent.parent


def trial(browser, lab, name):
    """Print one line of timings for a fresh kernel."""
    page = screen.opened(browser, lab, "08_playground", name)
    time.sleep(3)  # the page itself must have settled
    began = time.perf_counter()
    screen.choose_run_all(page)
    desk = page.locator(".js-plotly-plot", has_text="predicted place").first.locator(".infolayer")
    desk.wait_for(timeout=screen.MINUTE)
    shown, before = time.perf_counter() - began, screen.predicted(page)
    screen.move(page, "code_cpp", 0.8)
    screen.changes(page, screen.predicted, before)
    answered = time.perf_counter() - began
    page.wait_for_function(screen.ALL_RUN, timeout=4 * screen.MINUTE)
    done = time.perf_counter() - began
    time.sleep(3)
    moves = []
    for to in (0.2, 0.6, 0.3):
        before = screen.scored(page)
        screen.move(page, "code_cpp", to)
        moves.append(screen.changes(page, screen.scored, before))
    later = ", ".join(f"{seconds:.2f}" for seconds in moves)
    print(f"desk {shown:.1f} s, answered {answered:.1f} s, all run {done:.1f} s; later moves {later} s", flush=True)
    page.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
    page.close()


def main(trials=3):
    if not (ROOT / "data" / "runs" / "laptop" / "stamps" / "07_mixture_quality.json").is_file():
        sys.exit("no finished run in data/runs/laptop; `demix-nb run` makes it")
    if not screen.chromium_path():
        sys.exit("no chromium on this machine; `apt-get install chromium` as root brings it")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        process, lab = screen.start_lab(ROOT, Path(folder))
        try:
            browser = playwright.chromium.launch(executable_path=screen.chromium_path(), args=screen.QUIET)
            for number in range(trials):
                trial(browser, lab, f"trial{number}")
            browser.close()
        finally:
            screen.stop(process)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
