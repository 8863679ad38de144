"""A finished run to be reported: the committed laptop tables, their study file and answer, and two small notebooks."""

import base64
import json
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import plotly.graph_objects as go
import yaml
from commands import REPOSITORY

from demix_nb import PLOTLY

TABLES = REPOSITORY / "data" / "results" / "laptop"
PIXEL = base64.b64encode(b"\x89PNG, a picture").decode()
OPENING = """# 5 · Search: a title

**Question.** Does $\\alpha$ matter?

**Answer.** $$M(\\alpha)=\\sum_i \\alpha_i\\,\\Theta_i$$

Next: [6 · Interactions](06_domain_interactions.ipynb), [7 · Quality](07_mixture_quality.ipynb)
"""
ASKED = {"caps": {}, "max_epochs": 0.0, "target_tokens": 0, "predictor": "stack"}
STAMP = {"seconds": 12.3, "machine": "a machine", "versions": {"torch": "2.13"}, "commit": "abc1234"}


def notebook(*outputs, source="1"):
    """A notebook of one cell with these outputs, MIME bundles."""
    cell = nbformat.v4.new_code_cell(source, outputs=[nbformat.v4.new_output("display_data", data) for data in outputs])
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(OPENING), cell])


def plotly_output(title="t"):
    """A plotly figure as a notebook stores it."""
    return {PLOTLY: json.loads(go.Figure(go.Scatter(y=[1, 2]), layout={"title": title}).to_json())}


def pages_alone(folder: Path) -> Path:
    """Write two finished notebooks without a study into a folder."""
    for name in ("notebooks", "stamps", "summary"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    made = {
        "05_search": notebook(plotly_output(), plotly_output("</script><b>bold</b>")),
        "06_domain_interactions": notebook({"image/png": PIXEL}, {"text/plain": f"kept & shown {folder}/tables"}),
    }
    for name, content in made.items():
        nbformat.write(content, folder / "notebooks" / f"{name}.ipynb")
        (folder / "stamps" / f"{name}.json").write_text(json.dumps(STAMP | {"parameters": ASKED}))
    (folder / "summary" / "05_search.csv").write_text("result,value\nits place,3 of <113>\n")
    return folder


def finished(folder: Path, *, region: dict | None = None, **told) -> Path:
    """Write a whole run: pages, the committed tables, a study within `region`, an answer, which `told` changes."""
    pages_alone(folder)
    shutil.copytree(TABLES, folder / "tables")
    corpora = pd.read_csv(TABLES / "corpora.csv", index_col=0)
    candidates = {name: {"family": row["family"], "tokens": float(row["tokens"]), "component": f"models/{name}"}
                  for name, row in corpora.iterrows()}  # fmt: skip
    study = {"candidates": candidates, "base": "models/base", "general": "general", "beta": 0.5, "tasks": ["nine"]}
    study |= {"training": {"trainer": "demix_nb.lab.train", "tokens": 300000}, "region": region or {}}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    named = pd.read_csv(TABLES / "named_mixtures.csv", index_col=0)
    (folder / "mixture.yaml").write_text(yaml.safe_dump(answer(named.loc["demix, mixed"]) | told, sort_keys=False))
    return folder


def answer(mixture: pd.Series) -> dict:
    """What notebook 05 writes of a mixture."""
    ahead = {"told": "something to find: 2.0 [-6.8, 12.1] seed noises ahead of the baseline, perhaps under 2",
             "baseline": "uniform", "headroom": 2.0, "low": -6.8, "high": 12.1}  # fmt: skip
    return {
        "headroom": ahead,
        "found_by": "demix, mixed",
        "mixture": mixture.round(6).to_dict(),
        "bounds": {},
        "tied": {name: [round(share / 3, 4), round(min(3 * share, 1.0), 4)] for name, share in mixture.items()},
        "prices": {},
        "unpriced": "",
        "predictor": "stack",
        "evidence": "references",
        "trust": "use with care: ρ of the rank may be as low as 0.49",
    }
