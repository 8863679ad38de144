"""The first page of a report: which mixture, how it compares, by how much, how sure, and what is not shown.

Everything it says comes from the run's tables and its `mixture.yaml`. What was really trained speaks before what was
predicted, and one number decides the verdict: by how many seed noises the answer is ahead of the baseline, with its
interval over all seeds (`headroom`).
"""

import html
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from nbformat import NotebookNode

from demix_nb import headroom, store
from demix_nb.facts import Facts
from demix_nb.figures.colours import families as hues
from demix_nb.intervals import with_interval
from demix_nb.running.report_pages import opening, rendered

NAMED, LEAST = 5, 0.05  # candidates that the sentence names at most, and the share from which on it does
LISTED = 20  # candidates that have a bar; the others are one
NOISES = "seed noises"  # what another seed of the same mixture moves a level by


@dataclass(frozen=True)
class Answer:
    """What a run answers; `told`: its `mixture.yaml`, nothing where notebook 05 has not run, or an older one has."""

    study: Facts
    told: Mapping

    @classmethod
    def read(cls, run_dir: Path) -> "Answer":
        """Read the answer of a run's folder."""
        path = run_dir / "mixture.yaml"
        told = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return cls(Facts(run_dir), told if {"mixture", "headroom", "unpriced"} <= told.keys() else {})

    @property
    def mixture(self) -> pd.Series:
        """The shares, largest first."""
        return pd.Series(self.told["mixture"]).sort_values(ascending=False, kind="stable")

    @property
    def baseline(self) -> str:
        """What it is held against, by name."""
        return self.told["headroom"]["baseline"]

    @property
    def kind(self) -> str:
        """The kind of proxy whose winner it is."""
        return next(kind for kind in self.study.kinds if self.told["found_by"] == f"demix, {kind}")

    @property
    def wins(self) -> pd.DataFrame:
        """Of the really trained winners, the rows that are held against the baseline: one for each seed."""
        won = self.study["won"] if "won" in self.study else pd.DataFrame({"baseline": []})
        return won[won["baseline"] == self.baseline]

    @cached_property
    def ahead(self) -> pd.Series:
        """By how many seed noises it is ahead when really trained, mean over seeds: headroom, low, high; else empty."""
        if not len(self.wins):
            return pd.Series(dtype=float)
        known, again = self.study.references, self.study.scored("replicate", "reference")
        gaps = (again.level(known) - known.level(known)[again.names]).to_numpy()
        gain = (self.wins["baseline_level"] - self.wins["winner_level"]).mean()
        return headroom.headroom(gain, gaps / np.sqrt(2 * len(self.wins)), gaps, rng=np.random.default_rng(0))

    @property
    def order(self) -> pd.Series:
        """How well proxies of its kind order the references: value, low, high of the rank's ρ; empty without them."""
        table = self.study["fidelity"] if "fidelity" in self.study else pd.DataFrame({"measure": []})
        rows = table[(table.index == self.kind) & (table["measure"] == "rho_rank")]
        if "suite" in rows:
            rows = rows[rows["suite"].isin(self.study.ranked["suite"])]
        return rows.iloc[0] if len(rows) else pd.Series(dtype=float)

    # --- in words

    @property
    def sentence(self) -> str:
        """What to do, whether it won, why to believe it, and what nobody has shown."""
        return f"Train on {self.shares}; {self.outcome}; {self.belief}; not shown: {', or '.join(self.open)}."

    @property
    def shares(self) -> str:
        """The largest shares by name."""
        large = self.mixture[self.mixture >= LEAST][:NAMED]
        rest = self.mixture.drop(large.index)
        told = [f"{percent(share)} {name}" for name, share in large.items()]
        if len(rest):
            told.append(
                f"{percent(rest.sum())} in {len(rest)} others" if large.size else "many candidates a little each"
            )
        return " and ".join([", ".join(told[:-1]), told[-1]] if len(told) > 1 else told)

    @property
    def outcome(self) -> str:
        """What happened when it was really trained, else what is predicted."""
        if not len(self.ahead):
            return f"no model was trained on it: it is predicted {self.told['headroom']['told']}"
        seeds, ahead = len(self.wins), int((self.wins["headroom"] > 0).sum())
        by = f"{self.known(self.ahead)} {NOISES}"
        if self.ahead["low"] > 0:
            return f"really trained, it beat {self.baseline} by {by}, in {ahead} of {seeds} seeds"
        if self.ahead["high"] < 0:
            return f"really trained, it lost to {self.baseline}: {by} ahead, in {ahead} of {seeds} seeds"
        return f"really trained with {seeds} seeds, it is level with {self.baseline}: {by} ahead"

    @property
    def belief(self) -> str:
        """What stands behind it."""
        verdict, _, because = self.told["trust"].partition(": ")
        if not len(self.order):
            return "its proxies were held against no really trained model"
        count, known = len(self.study["reference_mixtures"]), self.known(self.order.rename({"value": "headroom"}), 2)
        how = {"use": "believe it", "use with care": "believe it with care"}.get(verdict, "do not rely on it")
        # the reason for care is the interval's lower end, which stands here anyway
        also = f" ({because})" if verdict not in ("use", "use with care") and because else ""
        return f"{how}: its proxies order {count} really trained mixtures with ρ {known}{also}"

    @property
    def open(self) -> Iterator[str]:
        """What this run does not show."""
        if not len(self.ahead):
            yield f"that it beats {self.baseline}"
        elif not self.ahead["low"] > 0:
            yield f"that it is any better than {self.baseline}"
        yield "that it holds on another base"
        if self.study.budget:
            yield f"that it holds for models trained on more than {self.study.budget:,.0f} tokens"

    @staticmethod
    def known(found: Mapping | pd.Series, digits: int = 1) -> str:
        """A value with its interval where there is one."""
        value, low, high = found["headroom"], found["low"], found["high"]
        if value is None or np.isnan(value):
            return "not known"
        return f"{value:.{digits}f}" if low is None or np.isnan(low) else with_interval(value, low, high, digits=digits)

    @property
    def numbers(self) -> Iterator[tuple[str, str]]:
        """The three numbers, and what each is; one that nobody knows says so."""
        seeds = f"mean of {len(self.wins)} seeds" if len(self.ahead) else "no model was trained on it"
        trained = self.known(self.ahead) if len(self.ahead) else "not known"
        yield trained, f"{NOISES} ahead of {self.baseline}, really trained ({seeds})"
        predicted = f"{NOISES} ahead of {self.baseline}, as predicted before any was trained"
        yield self.known(self.told["headroom"]), predicted
        order = self.order.rename({"value": "headroom"})
        against = f"against {len(self.study['reference_mixtures'])} really trained mixtures" if len(order) else ""
        yield (self.known(order, 2) if len(order) else "not known"), f"ρ of the rank of {self.kind} proxies {against}"

    @property
    def binding(self) -> str:
        """What binds the answer, and what a point of share more would gain."""
        if not self.told["bounds"] and not self.told["prices"]:
            return "Nothing binds: this run has no bounds on the mixture."
        if why := self.told["unpriced"]:
            return html.escape(f"What a bound costs is not known: {why}.")
        if not self.told["prices"]:
            return "Nothing binds: the best mixture meets none of its bounds."
        told = [f"{html.escape(bound)}: {with_interval(price['gain'], price['low'], price['high'], digits=3)}"
                for bound, price in self.told["prices"].items()]  # fmt: skip
        more = "What a point of share more, or 0.01 more of a guardrail's margin, would gain in the objective"
        return f"{more} (of a rank, in levels): {'; '.join(told)}."


# --- as a page ------------------------------------------------------------------------------------------------------


def front(answer: Answer) -> str:
    """The answer as the top of a page."""
    if not answer.told:
        return "<h1>Which mixture to train on</h1><p class='lead'>Notebook 05, which answers, has not run yet.</p>"
    cards = "".join(f"<li><b>{value}</b><span>{html.escape(what)}</span></li>" for value, what in answer.numbers)
    return (
        f'<h1>Which mixture to train on</h1>\n<p class="lead">{html.escape(answer.sentence)}</p>\n'
        f'<ul class="numbers">{cards}</ul>\n<p class="quiet">Brackets are 95 % intervals; a seed noise is what '
        f"another seed of the same mixture changes, and under {headroom.WORTH:g} of them it could be luck.</p>\n"
        f"{bars(answer)}\n<h2>What binds</h2><p>{answer.binding}</p>\n"
    )


def bars(answer: Answer) -> str:
    """The answer beside the baseline, with the shares that are as good."""
    plain, tied = answer.study.plain.loc[answer.baseline], answer.told["tied"]
    scale = max([answer.mixture.max(), plain.max(), *(high for _, high in tied.values())])
    colours, rows = hues(answer.study.families.values()), []
    for name, share in answer.mixture[:LISTED].items():
        told = [f"{100 * share:.1f}", f"{100 * plain[name]:.1f}"]
        if tied:
            told.append("{:.0f} to {:.0f}".format(*(100 * end for end in tied[name])))
        picture = _bar(share / scale, plain[name] / scale, [end / scale for end in tied.get(name, [])])
        rows.append(_row(name, colours[answer.study.families[name]], picture, told))
    rest = answer.mixture[LISTED:]
    others = f"<p>{len(rest)} others have {percent(rest.sum(), 1)}.</p>" if len(rest) else ""
    named = ["answer, %", f"{html.escape(answer.baseline)}, %", *(["as good, %"] if tied else [])]
    head = "".join(f'<th role="columnheader">{one}</th>' for one in named)
    head = f'<tr role="row"><th role="columnheader">candidate</th><td role="cell" class="picture"></td>{head}</tr>'
    table = (
        f'<table class="bars" role="table"><thead role="rowgroup">{head}</thead>'
        f'<tbody role="rowgroup">{"".join(rows)}</tbody></table>'
    )
    return f"<h2>The answer beside {html.escape(answer.baseline)}</h2><p>{caption(answer)}</p>{table}{others}"


def _row(name: str, hue: str, picture: str, told: list[str]) -> str:
    """A row with its roles, which a narrow page's layout would take from it."""
    cells = "".join(f'<td role="cell">{one}</td>' for one in told)
    return (
        f'<tr role="row" style="--hue: {hue}"><th role="rowheader" scope="row">{html.escape(name)}</th>'
        f'<td role="cell" class="picture">{picture}</td>{cells}</tr>'
    )


def caption(answer: Answer) -> str:
    """What the bars show."""
    told = "Bars are shares of the mixture, in the colour of their family; below each, in grey, the baseline's."
    if answer.told["tied"]:
        told += " Lines span mixtures that cannot be told from the best: within them, choose for other reasons."
    else:
        told += " Which other mixtures are as good is not known."
    if answer.study.general and answer.study.beta < 1:
        told += f" Of what a run reads {percent(answer.study.beta)} is this mixture, the rest {answer.study.general}."
    return html.escape(told)


def percent(share: float, digits: int = 0) -> str:
    """Return a share as it is read."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def _bar(share: float, plain: float, tied: list[float]) -> str:
    line = f'<line class="tied" x1="{tied[0]:.1%}" x2="{tied[1]:.1%}" y1="7" y2="7"/>' if tied else ""
    return (
        f'<svg aria-hidden="true"><rect class="answer" width="{share:.1%}" height="14" y="0"/>'
        f'<rect class="baseline" width="{plain:.1%}" height="5" y="16"/>{line}</svg>'
    )


def story(run_dir: Path, notebooks: Mapping[str, NotebookNode], stamps: Mapping[str, Mapping]) -> str:
    """Return the notebooks, a question each with what it found folded, and at the end the answer as a file."""
    items = []
    for name, notebook in notebooks.items():
        said = opening(notebook)
        question = rendered(said["question"]).strip().removeprefix("<p>").removesuffix("</p>")
        link = f'<a href="{name}.html">{html.escape(said["title"])}</a>'
        items.append(f"<li><p>{link}</p><p>{question}</p>{found(run_dir, name, stamps[name]['seconds'])}</li>")
    path = run_dir / "mixture.yaml"
    told = path.read_text(encoding="utf-8") if path.is_file() else ""
    file = f"<details><summary>mixture.yaml</summary><pre>{html.escape(told)}</pre></details>" if told else ""
    return f'<h2>How it was found</h2><ol class="story">{"".join(items)}</ol>{file}'


def found(run_dir: Path, name: str, seconds: float) -> str:
    """Return what a notebook noted in the closing table, folded; nothing for one that noted nothing."""
    summary = run_dir / "summary" / f"{name}.csv"
    values = store.read(summary, "summary")["value"] if summary.is_file() else {}
    if not len(values):
        return ""
    rows = "".join(f'<tr><th scope="row">{html.escape(key)}</th><td data-words>{html.escape(value)}</td></tr>'
                   for key, value in values.items())  # fmt: skip
    table = f'<div class="scrolls"><table><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>what it noted, in {seconds:.0f} s</summary>{table}</details>"
