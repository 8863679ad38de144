"""The desk's JavaScript, in a browser, against Python: projections, predictions, places, dragged scores, files."""

import json
from dataclasses import replace

import fixtures_browser
import numpy as np
import pandas as pd
import pytest
import yaml
from fixtures_reports import finished
from scipy.optimize import minimize

from demix_nb.facts import Facts
from demix_nb.mixtures import recipe
from demix_nb.packed import PACKED, Packed
from demix_nb.panels.desk import guess
from demix_nb.panels.known import Known
from demix_nb.predictors import PREDICTORS
from demix_nb.region import Region
from demix_nb.running import report, report_desk
from demix_nb.running.shell import asset
from demix_nb.scored import Scored
from demix_nb.store import Refusal
from demix_nb.study import Study

pytestmark = pytest.mark.browser
browser = fixtures_browser.browser
NAMES = [f"c{number}" for number in range(8)]
REGIONS = {
    "free": {},
    "boxes": {"lower": {"c0": 0.1}, "upper": {"c1": 0.2, "c2": 0.05}},
    "groups": {"upper": {"c3": 0.3}, "groups": {"a": (["c0", "c1"], 0.3, 0.5), "b": (["c2", "c3", "c4"], 0.0, 0.2)}},
    "near": {"near": (dict.fromkeys(NAMES, 0.125), 0.2), "upper": {"c5": 0.14}},
    "all": {"near": ({"c0": 0.5, "c6": 0.5}, 0.4), "groups": {"a": (["c0", "c1"], 0.2, 0.6)}, "fixed": {"c7": 0.05}},
}
RULED = {"upper": {"code_stdlib": 0.2}, "groups": {"math": {"lower": 0.3, "upper": 0.5}}}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("desk") / "run")


@pytest.fixture(scope="module")
def desk_page(browser, run_dir):
    """Return the open desk, which may not complain."""
    report.write("laptop", run_dir)
    context, complaints = browser.new_context(offline=True), []
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((run_dir / "report" / "desk.html").as_uri())
    yield page
    assert complaints == []
    context.close()


@pytest.fixture
def page(desk_page):
    """The same, as it is when it is opened."""
    desk_page.goto("about:blank")
    desk_page.goto(desk_page.desk)
    return desk_page


@pytest.fixture(scope="module", autouse=True)
def address(desk_page):
    desk_page.desk = desk_page.url


@pytest.fixture(scope="module")
def scored(run_dir):
    return Facts(run_dir).scored("search").by_family()


@pytest.fixture(scope="module")
def predictor(scored):
    return PREDICTORS["gaussian_process"].new(rng=np.random.default_rng(0)).fit(scored)


def shares(page):
    return pd.Series(page.evaluate("desk.shares"), page.evaluate("KNOWN.candidates"))


def drawn(n, names, rng):
    return pd.DataFrame(rng.dirichlet(np.full(len(names), 0.6), n), [f"m{i}" for i in range(n)], names)


# --- numbers


def test_two_hundred_mixtures_are_predicted_as_in_python(page, scored, predictor, rng):
    mixtures = drawn(200, scored.candidates, rng)
    told = page.evaluate("rows => rows.map(row => SURFACES.map(one => one.predict(row)))", mixtures.to_numpy().tolist())
    means, spreads = np.array(told)[:, :, 0], np.array(told)[:, :, 1]
    assert np.abs(means - predictor.predict(mixtures).scores.to_numpy()).max() < 1e-9
    assert np.abs(spreads - predictor.spread(mixtures).to_numpy()).max() < 1e-9


def test_its_intervals_are_those_of_the_panels(page, run_dir, scored, rng):
    play, mixtures = Known(Study.open(run_dir)), drawn(20, scored.candidates, rng)
    asked = "rows => rows.map(row => SURFACES.map((one, f) => KNOWN.tasks[f].sure * one.predict(row)[1]))"
    told = page.evaluate(asked, mixtures.to_numpy().tolist())
    ours = [guess(play.predictor, mixture, play.families).reach for _, mixture in mixtures.iterrows()]
    assert np.abs(np.array(told) - np.array(ours)).max() < 1e-9


def test_places_are_those_of_python(page, scored, predictor, rng):
    mixtures = drawn(60, scored.candidates, rng)
    guess = predictor.predict(mixtures)
    higher = [bool(one) for one in scored.tasks["higher_is_better"]]
    asked = "([rows, higher]) => rows.map(row => place(row, KNOWN.among, higher))"
    told = page.evaluate(asked, [guess.scores.to_numpy().tolist(), higher])
    assert told == guess.places(scored)["place"].astype(int).to_list()


def test_the_slope_is_that_of_the_mean(page, scored, predictor, rng):
    at = drawn(20, scored.candidates, rng).clip(lower=0.01)
    at = at.div(at.sum(axis=1), axis=0)
    told = np.array(page.evaluate("rows => rows.map(row => SURFACES[0].gradient(row))", at.to_numpy().tolist()))
    first, step = predictor.regressors[scored.tasks.index[0]], 1e-6
    for number in range(at.shape[1]):
        moved = step * np.eye(at.shape[1])[number]
        slope = (first.predict(at.to_numpy() + moved) - first.predict(at.to_numpy() - moved)) / (2 * step)
        assert told[:, number] == pytest.approx(slope, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("bounds", REGIONS.values(), ids=REGIONS)
def test_a_projection_is_pythons(page, bounds, rng):
    region = Region(NAMES, **bounds)
    weights = drawn(60, NAMES, rng)
    told = page.evaluate(
        "([rows, bounds]) => rows.map(row => nearest(row, bounds))",
        [weights.to_numpy().tolist(), report_desk.bounds(region)],
    )
    ours = pd.DataFrame([region.nearest(row) for _, row in weights.iterrows()])
    assert np.abs(np.array(told) - ours.to_numpy()).max() < 1e-9


@pytest.mark.parametrize("bounds", REGIONS.values(), ids=REGIONS)
def test_a_moved_slider_stays_in_the_region_and_is_the_nearest_with_that_share(page, bounds, rng):
    region = Region(NAMES, **bounds)
    for start in region.nearest(pd.Series(rng.dirichlet(np.ones(8)), NAMES)), region.nearest(pd.Series(0.125, NAMES)):
        for i, wanted, locked in ((0, 0.0, []), (0, 0.9, [1, 2]), (3, 0.25, [0]), (7, 0.5, []), (5, 0.13, [4])):
            asked = [start.to_list(), i, wanted, locked, report_desk.bounds(region)]
            told = page.evaluate("([x, i, to, held, b]) => moved(x, i, to, new Set(held), b)", asked)
            found = pd.Series(told, NAMES)
            assert region.holds(found.to_frame("m").T).all() and found.iloc[locked].equals(start.iloc[locked])
            fixed = {NAMES[j]: start.iloc[j] for j in locked}
            if not moves(region, bounds, fixed, i, found.iloc[i], wanted):
                continue
            nearest = within(bounds, fixed | {NAMES[i]: found.iloc[i]}).nearest(start)
            assert np.abs(found - nearest).max() < 1e-6


def within(bounds, fixed):
    return Region(NAMES, **(bounds | {"fixed": bounds.get("fixed", {}) | fixed}))


def moves(region, bounds, fixed, i, found, wanted):
    """Whether the share can be set; asserts that nothing nearer to what was wanted can be had."""
    nearer = found + (wanted - found) * 1e-4
    if NAMES[i] in bounds.get("fixed", {}):
        assert found == pytest.approx(bounds["fixed"][NAMES[i]], abs=1e-12)
        return False
    if abs(wanted - found) > 1e-6:
        with pytest.raises(Refusal):
            within(bounds, fixed | {NAMES[i]: nearer}).nearest(pd.Series(0.125, NAMES))
        return False
    return True


def divergence(x, other):
    return float((x * np.log(np.maximum(x, 1e-12) / np.maximum(other, 1e-12))).sum())


@pytest.mark.parametrize("by", [-0.3, 0.2, 0.5])
def test_a_dragged_score_is_had_by_the_nearest_mixture(page, scored, predictor, by):
    start, name = shares(page), scored.tasks.index[2]
    surface = predictor.regressors[name]

    def score(x):
        return float(surface.predict(np.maximum(x, 0.0)[None])[0])

    wanted = score(start.to_numpy()) + by * surface.scale
    told = np.array(page.evaluate("to => drawn(SURFACES[2], desk.shares, to, new Set(), KNOWN.bounds)", wanted))
    assert score(told) == pytest.approx(wanted, abs=1e-6 * surface.scale) and told.sum() == pytest.approx(1)
    assert divergence(told, start.to_numpy()) <= 1.05 * least(told, start, score, wanted, surface.scale) + 1e-6


def least(told, start, score, wanted, scale):
    """The least divergence from the start at which a score is what is wanted, by another's method."""
    found = minimize(
        divergence, told, args=(start.to_numpy(),), method="SLSQP", bounds=[(1e-9, 1)] * len(told),
        constraints=[{"type": "eq", "fun": lambda x: x.sum() - 1},
                     {"type": "eq", "fun": lambda x: (score(x) - wanted) / scale}],
    )  # fmt: skip
    return found.fun


def test_a_dragged_score_leaves_locks_and_bounds_alone(browser, tmp_path):
    folder = finished(tmp_path / "run", region=RULED)
    report.write("laptop", folder)
    page = browser.new_page()
    page.goto((folder / "report" / "desk.html").as_uri())
    region, before = Facts(folder).region, shares(page)
    assert "nearest mixture" in page.locator("#desk-said").text_content(), "the answer was found without these bounds"
    page.evaluate("desk.locked.add(0); drag(0, SURFACES[0].mean(desk.shares) - 0.1)")
    after = shares(page)
    assert region.holds(pd.DataFrame([before, after], ["a", "b"])).all() and after.iloc[0] == before.iloc[0]
    assert np.abs(after - before).max() > 0.01
    page.close()


# --- what a hand does


def test_arrows_move_a_point_and_the_rest_makes_room(page):
    before = shares(page)
    page.get_by_label("math_word", exact=True).press("ArrowRight")
    after = shares(page)
    others = before.index != "math_word"
    assert after["math_word"] == pytest.approx(before["math_word"] + 0.01) and after.sum() == pytest.approx(1)
    assert (after / before)[others].std() == pytest.approx(0, abs=1e-9), "others keep their proportions"
    said = page.get_by_label("math_word", exact=True).get_attribute("aria-valuetext")
    assert said == f"{100 * after['math_word']:.1f} %"


def test_a_held_candidate_stays_and_one_that_cannot_move_says_why(page):
    held = [name for name in shares(page).index if name != "math_word"]
    before = shares(page)
    page.get_by_label("hold general", exact=True).check()
    page.get_by_label("math_word", exact=True).press("ArrowRight")
    assert shares(page)["general"] == before["general"] and shares(page)["code_cpp"] != before["code_cpp"]
    for name in held:
        page.get_by_label(f"hold {name}", exact=True).check()
    still = shares(page)
    page.get_by_label("math_word", exact=True).press("ArrowRight")
    assert shares(page).equals(still) and "math_word cannot move" in page.locator("#desk-said").text_content()


def test_a_preset_pressed_again_resets(page):
    preset = page.get_by_role("button", name="natural")
    preset.click()
    natural = shares(page)
    assert preset.get_attribute("aria-pressed") == "true"
    page.get_by_label("code_cpp", exact=True).press("ArrowUp")
    assert preset.get_attribute("aria-pressed") == "false" and not shares(page).equals(natural)
    preset.click()
    assert shares(page).equals(natural)


def test_a_link_carries_the_mixture(page, browser):
    page.get_by_label("code_cpp", exact=True).press("ArrowUp")
    mixture = shares(page)
    other = browser.new_page()
    other.goto(page.url)
    assert np.abs(shares(other) - mixture).max() < 1e-6 and "of the link" in other.locator("#desk-said").text_content()
    other.goto(page.desk + "#somebody=1")
    assert "another run" in other.locator("#desk-said").text_content()
    other.close()


def test_the_yaml_is_the_mixture_and_its_recipe(page):
    told, mixture = yaml.safe_load(page.evaluate("yaml()")), shares(page)
    assert list(told) == ["mixture", "recipe"]
    for part, wanted in (("mixture", mixture), ("recipe", recipe(mixture, "general", 0.5))):
        assert sum(told[part].values()) == pytest.approx(1, abs=1e-12)
        assert np.abs(pd.Series(told[part]) - wanted).max() < 1e-6
    odd = ["no", "a b", "x: y", '"', "1e3", "ok_name-2"]
    page.evaluate(
        "names => { [KNOWN.candidates, KNOWN.general, desk.shares] = [names, null, names.map(() => 1)]; }", odd
    )
    assert list(yaml.safe_load(page.evaluate("yaml()"))["mixture"]) == odd


def test_epochs_are_counted_at_any_budget(page, run_dir):
    study = Facts(run_dir)
    page.locator("#desk-budget").fill("1e9")
    page.get_by_role("button", name="ten times the tokens").click()
    assert float(page.locator("#desk-budget").input_value()) == 1e10
    rows = {row.locator("th").text_content(): row for row in page.locator("#desk-recipe tr").all()}
    wanted = study.recipe(shares(page)) * 1e10 / study.tokens
    for name in ("general", "code_stdlib"):
        assert float(rows[name].locator("td").nth(2).text_content()) == pytest.approx(wanted[name], rel=0.01)
        assert "stale" in rows[name].locator("td").nth(2).get_attribute("class")


def test_the_diamond_can_be_dragged_by_keyboard(page):
    diamond = page.get_by_label("predicted score, math; moves the mixture")
    before, place = float(diamond.get_attribute("aria-valuetext").split()[0]), shares(page)
    diamond.press("ArrowLeft")
    assert float(diamond.get_attribute("aria-valuetext").split()[0]) < before and not shares(page).equals(place)


COUNTED = """() => {
  const counted = window.asked;
  window.asked = {};
  if (counted) return;
  for (const name of ["read", "mean", "gradient"]) {
    const kind = Object.getPrototypeOf(SURFACES[0]), of = kind[name];
    if (of) kind[name] = function (shares) {
      asked[name] = (asked[name] ?? 0) + 1;
      return of.call(this, shares);
    };
  }
}"""  # what the time of a move is made of


def test_a_move_is_answered_within_a_frame(page):
    took = page.evaluate("""() => {
      const range = document.getElementById("desk-share-3"), times = [];
      for (let turn = 0; turn < 60; turn++) {
        range.value = (turn * 7) % 60;
        const began = performance.now();
        range.dispatchEvent(new Event("input"));
        document.body.getBoundingClientRect();
        times.push(performance.now() - began);
      }
      return times.sort((a, b) => a - b)[30];
    }""")
    assert took < 16, f"{took:.1f} ms"


def test_a_move_asks_each_surface_for_little(page):
    page.evaluate(COUNTED)
    asked = page.evaluate("""() => {
      const range = document.getElementById("desk-share-3");
      for (let turn = 0; turn < 60; turn++) {
        range.value = (turn * 7) % 60;
        range.dispatchEvent(new Event("input"));
      }
      return {...asked, surfaces: SURFACES.length};
    }""")
    assert 0 < asked["mean"] <= 2 * 60 * asked["surfaces"] and "gradient" not in asked


# --- mixed proxies themselves


@pytest.fixture(scope="module")
def exact(browser, tmp_path_factory):
    """Return the open desk of a run whose answers are packed, as many tokens as the laptop's, and these."""
    run_dir, rng = finished(tmp_path_factory.mktemp("exact") / "run"), np.random.default_rng(3)
    study = Facts(run_dir)
    tokens = np.full(len(study.ranked), 4000)
    facts = {"tokens": tokens, "bytes": 2 * tokens, "shift": -3.0 * tokens}
    levels = rng.integers(0, 128, (len(study.candidates), tokens.sum()), dtype=np.uint8)
    found = Packed(list(study.candidates), levels, 0.0129, pd.DataFrame(facts, study.ranked.index))
    found.write(run_dir / PACKED)
    report.write("laptop", run_dir)
    page = browser.new_context(offline=True).new_page()
    page.goto((run_dir / "report" / "desk.html").as_uri())
    page.wait_for_function("SURFACES.length > 0 && desk.shares.length > 0")
    yield page, found, study, run_dir / "report"
    page.context.close()


def test_mixed_scores_are_those_of_python(exact, rng):
    page, found, study, _ = exact
    mixtures = drawn(200, found.names, rng)
    told = page.evaluate("rows => rows.map(row => SURFACES.map(one => one.predict(row)))", mixtures.to_numpy().tolist())
    ours = Scored(mixtures, found.scores(mixtures), study.ranked).by_family().scores
    assert np.abs(np.array(told)[:, :, 0] - ours.to_numpy()).max() < 1e-9 and not np.array(told)[:, :, 1].any()
    searched = study["search_mixtures"]
    among = Scored(searched, found.scores(searched), study.ranked).by_family().scores
    assert np.abs(np.array(page.evaluate("KNOWN.among")) - among.to_numpy()).max() < 1e-9
    text = page.locator("#desk-strips").text_content()
    assert "Predicted" not in text and "±" not in text


def test_slopes_of_mixed_scores_are_those_of_a_step(exact):
    page, start = exact[0], shares(exact[0])
    slopes = page.evaluate("SURFACES[1].gradient(desk.shares)")
    for i, name in enumerate(start.index[:3]):
        step = 1e-5 * (start.index == name)
        ends = page.evaluate("rows => rows.map(row => SURFACES[1].mean(row))", [list(start + step), list(start - step)])
        assert slopes[i] == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4)


@pytest.mark.parametrize("by", [-0.1, 0.3, 1.0])
def test_a_dragged_mixed_score_is_had_by_the_nearest_mixture_in_a_few_readings(exact, by):
    page, found, study, _ = exact
    start, tasks = shares(page), study.ranked.query("family == @study.ranked.family.unique()[1]").index
    wanted, scale = page.evaluate(
        "by => [SURFACES[1].mean(desk.shares) + by * SURFACES[1].scale, SURFACES[1].scale]", by
    )

    def score(x):
        one = pd.DataFrame([np.maximum(x, 0) / np.maximum(x, 0).sum()], columns=start.index)
        return float(found.scores(one)[tasks].mean(axis=1).iloc[0])

    page.evaluate(COUNTED)
    told, asked = page.evaluate("to => [drawn(SURFACES[1], desk.shares, to, new Set(), KNOWN.bounds), asked]", wanted)
    assert score(np.array(told)) == pytest.approx(wanted, abs=1e-5 * scale)
    assert divergence(np.array(told), start) <= 1.05 * least(np.array(told), start, score, wanted, scale) + 1e-6
    assert asked["read"] + asked["gradient"] <= 20


def test_a_mixed_score_can_be_dragged_and_is_had_within_a_frame(exact):
    page = exact[0]
    wanted = page.evaluate("SURFACES[1].mean(desk.shares) + 0.3 * SURFACES[1].scale")
    asked = """to => [...Array(9)].map(() => {
      const began = performance.now(), found = drawn(SURFACES[1], desk.shares, to, new Set(), KNOWN.bounds);
      return [performance.now() - began, SURFACES[1].mean(found)];
    }).sort((a, b) => a[0] - b[0])[4]"""
    took, score = page.evaluate(asked, wanted)
    assert score == pytest.approx(wanted, abs=1e-3 * page.evaluate("SURFACES[1].scale"))
    assert took < 16, f"{took:.1f} ms"
    moving = """() => [...Array(30)].map((_, turn) => {
      const began = performance.now();
      move(3, ((turn * 7) % 60) / 100);
      document.body.getBoundingClientRect();
      return performance.now() - began;
    }).sort((a, b) => a - b)[15]"""
    took = page.evaluate(moving)
    assert took < 16, f"{took:.1f} ms"


def test_a_move_reads_each_mixed_score_once(exact):
    page = exact[0]
    page.evaluate(COUNTED)
    asked = page.evaluate("() => { move(3, 0.41); return {...asked, surfaces: SURFACES.length}; }")
    assert asked["read"] == asked["surfaces"]


def test_only_the_desk_by_itself_carries_what_is_mixed(exact, tmp_path):
    _, found, study, pages = exact
    assert len((pages / "desk.html").read_text()) < len(found.text) + 150_000
    assert '"exact"' not in (pages / "index.html").read_text()
    other = replace(found, names=found.names[::-1])
    assert report_desk.packed(study).names == found.names
    other.write(study.folder / PACKED)
    assert report_desk.packed(study) is None, "of other candidates"


# --- what the page is


def test_the_desk_is_small_and_fetches_nothing(run_dir, desk_page):
    text = (run_dir / "report" / "desk.html").read_text()
    assert len(text.encode()) < 150_000 and "http://" not in text and "src=" not in text
    data = json.loads(text.split('id="desk-data">')[1].split("</script>")[0])
    assert len(data["runs"]) == 112 and next(iter(data["presets"])) == "demix, mixed"


def test_the_scripts_are_short():
    for name in ("mixing.js", "exact.js", "desk.js", "page.js", "plotly.js"):
        lines = asset(name).splitlines()
        assert len(lines) <= 300 and max(map(len, lines)) <= 120, name
