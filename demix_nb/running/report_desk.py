"""The desk of a run: sliders that answer without Python, in any browser, from disk.

All it needs is what the search scored. The page holds the shares and the family scores of every proxy, and the numbers
of one Gaussian process per family; a hundred lines of JavaScript (`web/mixing.js`) condition the processes when the
page opens, keep mixtures in the region and drag scores. All numbers are float64, in as many digits as they need.

Sources: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapter 2; epochs: Muennighoff et al.
(2305.16264).
"""

import html
import json
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from demix_nb.facts import Facts
from demix_nb.figures.colours import families as hues
from demix_nb.packed import PACKED, Packed
from demix_nb.predictors import PREDICTORS, SURE, calibrated
from demix_nb.region import Region
from demix_nb.running.shell import script
from demix_nb.scored import Scored

PREDICTOR = PREDICTORS["gaussian_process"]  # its spread says where nobody has looked
LISTED = 20  # sliders that are seen at once; the others are folded
STALE = 4  # epochs beyond which repeated text is worth less than fresh text (Muennighoff et al., 2305.16264)
REGION = ("caps", "max_epochs", "target_tokens")  # parameters of notebook 05 that bound the region


def contents(
    study: Facts, asked: Mapping[str, object] | None, answer: str, packed: Packed | None = None
) -> dict | None:
    """Return what the desk of a run knows, as JSON has it; None where no search has run, or too few were scored.

    `asked`: the parameters of notebook 05; `answer`: the named mixture that the desk starts from.
    """
    if asked is None or "search_scores" not in study:
        return None
    found = searched(study, packed).by_family()
    if len(found) < PREDICTOR.needs(len(study.candidates)):
        return None
    named = study["named_mixtures"][study.candidates].sort_index(key=lambda names: names != answer, kind="stable")
    region = study.bounded(**{name: asked[name] for name in REGION})
    colours = hues([*study.families.values(), *found.tasks.index])
    tokens = study.tokens.astype(float)
    return desk(found, region, named, colours) | {
        "hues": [colours[study.families[name]] for name in study.candidates],
        "listed": [study.candidates.index(name) for name in named.mean().nlargest(LISTED).index],
        "tokens": {name: None if np.isnan(there) else there for name, there in tokens.items()},
        "budget": study.budget or (float(tokens.sum()) if tokens.notna().all() else None),
        "general": study.general,
        "beta": study.beta,
        "stale": STALE,
    }


def desk(found: Scored, region: Region, presets: pd.DataFrame, colours: Mapping[str, str]) -> dict:
    """Return candidates, bounds, presets, proxies, and of every family (one task each of `found`) its process."""
    process = PREDICTOR.new(rng=np.random.default_rng(0)).fit(found)
    process, _ = calibrated(process, found, rng=np.random.default_rng([0, 7]))  # as panels have it
    return {
        "candidates": list(found.candidates),
        "bounds": bounds(region),
        "presets": {name: shares.tolist() for name, shares in presets[found.candidates].iterrows()},
        "runs": found.mixtures.to_numpy().tolist(),
        "among": found.averaged().scores[list(process.regressors)].to_numpy().tolist(),
        "tasks": [
            {
                "name": name,
                "unit": found.tasks.at[name, "unit"],
                "higher": bool(found.tasks.at[name, "higher_is_better"]),
                "hue": colours[name],
                "theta": one.theta.tolist(),
                "sure": SURE * float(process.times[name]),
                "scores": found.scores[name].tolist(),
            }
            for name, one in process.regressors.items()
        ],
    }


def searched(study: Facts, packed: Packed | None) -> Scored:
    """Return the search's mixtures with their scores, by task: those of mixed proxies where these are packed."""
    found = study.scored("search")
    return replace(found, scores=packed.scores(found.mixtures)[list(found.scores)]) if packed else found


def exactly(known: Mapping, packed: Packed, members: pd.Series) -> dict:
    """Return what is `known` with mixed proxies themselves in the predictors' place; `members`: task → family."""
    ends = packed.tasks["tokens"].cumsum()
    parts = packed.tasks.assign(start=ends - packed.tasks["tokens"], end=ends)[["start", "end", "bytes", "shift"]]
    tasks = [{fact: task[fact] for fact in ("name", "unit", "higher", "hue")}
             | {"sure": 0, "parts": parts.loc[members.index[members == task["name"]]].to_dict("records")}
             for task in known["tasks"]]  # fmt: skip
    exact = {"levels": packed.text, "total": packed.levels.shape[1], "step": packed.step}
    return {**known, "runs": [], "tasks": tasks, "exact": exact}


def packed(study: Facts) -> Packed | None:
    """Return the answer probabilities that notebook 05 packed; None where it did not, or for another search."""
    path = study.folder / PACKED
    if not path.is_file() or "search_scores" not in study:
        return None
    found, scored = Packed.read(path), study.scored("search")
    return found if found.names == scored.candidates and {*scored.scores} <= {*found.tasks.index} else None


def bounds(region: Region) -> dict:
    """Return the bounds of a region in numbers, candidates by their places."""
    limits = region.limits.bounds
    groups = zip(limits.groups, limits.least, limits.most, strict=True)
    return {
        "low": limits.low.tolist(),
        "high": limits.high.tolist(),
        "groups": [{"members": np.flatnonzero(mask).tolist(), "least": float(least), "most": float(most)}
                   for mask, least, most in groups],
        "centre": None if limits.centre is None else limits.centre.tolist(),
        "reach": limits.reach,
    }  # fmt: skip


def section(known: Mapping, told: str, heading: str) -> tuple[str, list[str]]:
    """Return the desk's part of a page, and its scripts; `told`: what its numbers are, `heading`: h1 or h2."""
    data = json.dumps(known, separators=(",", ":")).replace("</", "<\\/")
    rows = "".join(f"<th>{head}</th>" for head in ("candidate", "share", "tokens", "epochs"))
    place, scores = ("Place", "scores") if "exact" in known else ("Predicted place", "predicted scores")
    alone = ' <a href="desk.html">The desk on a page of its own.</a>' if heading == "h2" else ""
    body = f"""<section id="desk" aria-labelledby="desk-title">
<{heading} id="desk-title">Try another mixture</{heading}>
<p class="quiet">{html.escape(told)}{alone}</p>
<div id="desk-presets" role="group" aria-label="start from"></div>
<p id="desk-said" role="status"></p>
<div class="desk">
<div id="desk-sliders" role="group" aria-label="shares of the mixture"></div>
<div id="desk-strips" role="group" aria-label="{scores}">
<p>{place} <b id="desk-place"></b> by macro rank</p></div>
</div>
<p><button type="button" id="desk-copy">copy as YAML</button>
<button type="button" id="desk-link">copy a link to it</button></p>
<h3>What a run of it would read</h3>
<p><label for="desk-budget">tokens to train</label> <input type="number" id="desk-budget" min="1" step="any">
<button type="button" data-times="0.1" aria-label="a tenth of the tokens">÷ 10</button>
<button type="button" data-times="10" aria-label="ten times the tokens">× 10</button></p>
<div class="scrolls"><table><thead><tr>{rows}</tr></thead><tbody id="desk-recipe"></tbody></table></div>
<p class="quiet">Beyond {STALE} epochs, in bold, repeated text is worth less than fresh (Muennighoff et al., 2023).</p>
<details><summary>as YAML</summary><pre id="desk-yaml"></pre></details>
<noscript><p>The desk needs JavaScript, all of which is in this page.</p></noscript>
</section>"""
    told = f'<script type="application/json" id="desk-data">{data}</script>\n'
    return body, [told, script("mixing.js", "exact.js", "desk.js")]


def explained(known: Mapping, kind: str, chooser: str) -> str:
    """Return in words what the desk predicts or mixes, from what, and what the answer was chosen by."""
    if "exact" in known:
        return (
            "Move a slider, or drag a diamond to the score that you want. Diamonds are what the mixed proxy of the "
            "mixture really scores, from the components' probabilities of every answer, to a thousandth of a bit per "
            f"byte; dots are what those of the {len(known['among'])} mixtures of the search do. A proxy's score is no "
            "training run."
        )
    return (
        f"Move a slider, or drag a diamond to the score that you want. Diamonds are what a {kind} proxy of the mixture "
        "is predicted to score, with intervals of 90 % that are calibrated on proxies left out, among the "
        f"{len(known['among'])} that were scored (dots). Here a Gaussian process on √shares predicts, as it fits into "
        f"a page; the answer was chosen with “{chooser}”, so both may differ a little. A predicted score is no "
        "training run."
    )
