"""RESULTS.md: what the committed tables say, as Markdown, so that no number in prose is typed by hand.

Every section is a function from committed tables to a table of text; the page is written by `demix-nb figures` and
tested for being current. Knows tables and labels, not science.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from demix_nb.fidelity import CEILING
from demix_nb.figures import regression
from demix_nb.figures.gallery import reader
from demix_nb.figures.pipeline import kind_label
from demix_nb.headroom import WORTH
from demix_nb.intervals import with_interval
from demix_nb.running import results_answers, results_hundred, results_making, results_map, results_text
from demix_nb.running.results_map import markdown, over_bases
from demix_nb.store import atomic

Read = Callable[[str], pd.DataFrame]  # name of a committed table → table
TWO_THREADS = 100  # is added to the number of a base where two threads train it: other sums, counted as the same base
MEASURES = {"rho_macro": ("macro ρ", 2), "rho_rank": ("ρ of the macro rank", 2), "error": ("mean abs. error", 3)}


def millions(tokens: float) -> str:
    """Return tokens as "2.1M" or "0.13M", a dash where there are none."""
    return "–" if pd.isna(tokens) else f"{tokens / 1e6:.{1 if tokens >= 1e6 else 2}f}M"


def named(kind: str, budget: float) -> str:
    """Return what a row of fidelity is called."""
    return "a second seed of the references (ceiling)" if kind == CEILING else kind_label(kind, budget)


def kinds(report: pd.DataFrame, trust: pd.DataFrame) -> str:
    """Return the fidelity of every kind of proxy: measures with 95 % intervals, cost, verdict of the trust gate."""
    rows = []
    for (kind, budget), mine in report.groupby([report.index, report["budget"].fillna(0.0)], sort=False):
        known = mine.set_index("measure")
        cells = [with_interval(*known.loc[name, ["value", "low", "high"]], digits=digits)
                 for name, (_, digits) in MEASURES.items()]  # fmt: skip
        verdict = trust[(trust.index == kind) & (trust["budget"].fillna(0.0) == budget)]["verdict"]
        rows.append(
            [named(kind, budget), millions(mine["tokens"].iloc[0]), *cells, *(verdict if len(verdict) else ["–"])]
        )
    return markdown(["kind of proxy", "training tokens", *(name for name, _ in MEASURES.values()), "trust gate"], rows)


def costs(table: pd.DataFrame) -> str:
    """Return what trained proxies must spend to order mixtures as well as each other kind, by budget of components."""
    own, rows = table[table["measure"] == "rho_rank"].fillna({"beyond": ""}), []
    own = pd.concat([own.loc[[kind]].sort_values("share") for kind in own.index.unique()])
    for kind, row in own.iterrows():
        told = with_interval(*row[["ratio", "low", "high"]], digits=1, beyond=row["beyond"])
        spent = [f"{row['share']:g}", millions(row["tokens"]), millions(row["trained_tokens"])]
        rows.append([kind_label(str(kind)), *spent, f"{row['value']:.2f}", told])
    heads = ["kind of proxy", "share of the full budget", "its tokens", "trained proxies'", "ρ of the rank", "times"]
    return markdown(heads, rows)


def strategies(summary: pd.DataFrame) -> str:
    """Return the really trained winners of every strategy, best level first."""
    table = summary.pivot(columns="measure")
    order = table["value", "level"].sort_values().index
    digits = {"macro": 1, "place": 1, "level": 2}

    def told(name: str, measure: str) -> str:
        value, low, high = (table.loc[name, (column, measure)] for column in ("value", "low", "high"))
        return with_interval(value, low, high, digits=digits[measure])

    rows = [[name, *(told(name, measure) for measure in digits)] for name in order]
    return markdown(["strategy", "macro rank", "place", "level"], rows)


def quality(models: pd.DataFrame) -> str:
    """Return the trained mixtures of one run: mean macro rank and place, and the places by seed."""
    rows = []
    for name, mine in models.groupby("strategy", sort=False):
        places = ", ".join(f"{place:.0f}" for place in mine.sort_values("seed")["place"])
        rows.append([name, f"{mine['macro'].mean():.1f}", f"{mine['place'].mean():.1f}", places])
    return markdown(["trained mixture", "macro rank", "place", "places by seed"], rows)


def won(verdict: pd.DataFrame) -> str:
    """Return by how many seed noises the mixture found is ahead of every plain one when really trained, over bases.

    A base counts once, by the mean of its seeds and numbers of threads; `least` is of all.
    """
    rows = []
    for name, mine in verdict.groupby("baseline", sort=False):
        told = over_bases(mine["headroom"].groupby(_base(mine)).mean(), digits=1)
        beaten = f"{(mine['headroom'] >= WORTH).sum()} of {len(mine)}"
        rows.append([name, told, f"{mine['headroom'].min():.1f}", beaten])
    return markdown(["ahead of", "seed noises", "least", f"by {WORTH:g} or more, of all"], rows)


def _base(table: pd.DataFrame) -> pd.Index:
    """Return whose base a row is of, by however many threads."""
    return table.index.astype(int) % TWO_THREADS


def ahead(won: pd.DataFrame) -> str:
    """Return by how many seed noises one run's winner is ahead of plain mixtures, as sure as replicates make it."""
    rows = [[row["baseline"], with_interval(row["headroom"], row["low"], row["high"], digits=1)]
            for _, row in won.iterrows()]  # fmt: skip
    return markdown(["ahead of", "seed noises"], rows)


def by_base(bases: pd.DataFrame) -> str:
    """Return every kind's fidelity as mean over bases."""
    rows = []
    for (kind, budget), mine in bases.groupby(["proxy", bases["budget"].fillna(0.0)], sort=False):
        known = mine.groupby(["measure", _base(mine)])["value"].mean()
        cells = [over_bases(known[name], digits) for name, (_, digits) in MEASURES.items()]
        rows.append([named(kind, budget), *cells])
    return markdown(["kind of proxy", *(name for name, _ in MEASURES.values())], rows)


def predictors(table: pd.DataFrame, runs: int = 64) -> str:
    """Return ρ / regret of every predictor on each public table after `runs` random runs, or as many as there are."""
    own = regression.after(table, runs)
    heads = [f"{name}, {mine['runs'].iloc[0]} runs" for name, mine in own.groupby(level=0, sort=False)]
    rows = []
    for name, mine in own.groupby("predictor", sort=False):
        cells = [f"{row['rho']:.2f} / {row['regret single']:.2f}" for _, row in mine.iterrows()]
        rows.append([regression.label(name), *cells])
    return markdown(["predictor", *heads], rows)


def beside(table: pd.DataFrame, default: str = "stack") -> str:
    """Return how the default predictor does beside the best of all others, cell by cell of public table and runs."""
    cells = pd.concat([regression.after(table, runs) for runs in (24, 64, 128)]).reset_index(names="table")
    rows = []
    for (name, runs), mine in cells.drop_duplicates(["table", "runs", "predictor"]).groupby(["table", "runs"]):
        own, others = (mine[(mine["predictor"] == default) == it].set_index("predictor") for it in (True, False))
        told = []
        for measure, best in (("rho", others["rho"].idxmax()), ("regret single", others["regret single"].idxmin())):
            told += [f"{own[measure].item():.2f}", f"{others.loc[best, measure]:.2f} ({regression.label(best)})"]
        rows.append([str(name), str(runs), *told])
    return markdown(["table", "runs", "ρ", "the best other's", "regret", "the best other's"], rows)


def exports(table: pd.DataFrame) -> str:
    """Return what trainers draw of what was asked: where it differs most, and of the smallest share."""
    phases = table.groupby([table.index, "mixture"])["phase"].transform("max")
    rows = []
    for (name, row), last in zip(table.iterrows(), phases, strict=True):
        where = [name, f"{row['mixture']}, phase {row['phase']}" if last > 1 else row["mixture"], row["read"]]
        told = ["–"] * 5
        if pd.notna(row["requested"]):
            told = [row["candidate"], f"{row['requested']:.6f}", f"{row['realised']:.6f}", f"{row['difference']:.1e}",
                    f"{row['least']:.4g} → {row['least_realised']:.4g}"]  # fmt: skip
        rows.append([*where, *told])
    head = ["format", "mixture", "read by", "most off", "requested", "realised", "difference", "smallest share"]
    return markdown(head, rows)


def seconds(run: pd.DataFrame) -> str:
    """Return how long each step took, where and from which commit."""
    rows = [[name, f"{row['seconds']:.0f}", str(row["machine"]), str(row["commit"])]
            for name, row in run.astype(object).fillna("–").iterrows()]  # fmt: skip
    return markdown(
        ["step", "seconds", "machine", "commit"], [*rows, ["**sum**", f"{run['seconds'].sum():.0f}", "", ""]]
    )


def ratios(table: pd.DataFrame) -> str:
    """Return how many times more mixtures move a family than seeds do, by suite."""
    rows = [[family, *(f"{value:.1f}" for value in row)] for family, row in table.iterrows()]
    return markdown(["family", *table.columns], rows)


HEAD = """# Results

Written by `demix-nb figures` from the committed tables under `data/results/`; no number here is typed by hand. Brackets
are 95 % bootstrap intervals, over mixtures for fidelity and over seeds for strategies. Every figure with its command is
in [figures/README.md](figures/README.md), what was measured by hand in [LOG.md](LOG.md)."""


def page(laptop: Read, study: Read, tables: Read, real: Read, top: Read) -> str:
    """Return RESULTS.md from the committed tables of three profiles, of the public tables, and of the map."""
    parts = [
        HEAD,
        *wider_sections(real, top),
        *study_sections(study),
        "## A laptop's run",
        "Profile `laptop`: thirteen candidates as they come, a base that has read some of everything; "
        f"{len(laptop('reference_mixtures'))} references. `demix-nb run && demix-nb figures`",
        *laptop_sections(laptop),
        "## Is it luck?",
        "The same run on bases with text and seeds of their own, by one thread and two, which round otherwise; "
        "brackets over bases (Student's t). `python -m tests.benchmarks.bases --threads 1 2 --out data/results/laptop`",
        won(laptop("verdict")),
        by_base(laptop("bases")),
        "## Whose mixture is best where there is something to find",
        "Same bases: every strategy's winner of three seeds, really trained; searches cost as many training tokens as "
        "the components, 24 more references for `mended` and `fused mixed`. Levels as above. "
        "`python -m tests.benchmarks.bases --study study_strategies --out data/results/laptop`",
        results_hundred.whose(laptop("whose")),
        "## Two phases",
        "Same bases: runs that go on with another mixture half-way, really trained, and what proxies say of them: "
        "steps have half-way checkpoints of the components, the last rows components trained from the merge of the "
        "first phase. "
        "`python -m tests.benchmarks.phases RUN RUN RUN --out data/results/laptop`",
        results_making.phases(laptop("two_phases")),
        *results_answers.sections(top("answers")),
        *predictor_sections(tables),
        "## How long it takes",
        "Profile `laptop`:",
        seconds(laptop("run")),
        "Profile `study` (what an earlier execution had trained or measured was not done again):",
        seconds(study("run")),
    ]
    return "\n\n".join(parts) + "\n"


def study_sections(study: Read) -> list[str]:
    """Return what the profile `study` found: kinds of proxy, strategies, and how text and models are made."""
    return [
        "## Which proxy to trust",
        "Profile `study`: seven candidates that one would choose, a base that has read general text alone; "
        f"{len(study('reference_mixtures'))} references, each trained twice; held-out text; costs are those of a "
        "search over 112 mixtures. `demix-nb run --profile study`",
        kinds(study("proxy_kinds"), study("trust")),
        "How many times more mixtures move a family's score than seeds do:",
        ratios(study("family_signal_to_noise")),
        "![Kinds of proxy](figures/study_kinds.png)",
        "What trained proxies must spend to order mixtures by the macro rank as well, components having had a share of "
        "a reference's tokens; intervals over mixtures, bounds where the trained budgets do not reach:",
        costs(study("tokens_to_reach")),
        "## Whose mixture is best",
        "Same study: winners really trained with five seeds, ranked among the references; level is the families' mean "
        "in standard deviations of the references, lower is better.",
        strategies(study("strategy_summary")),
        "![Strategies](figures/study_strategies.png)",
        *results_text.sections(study),
        *results_making.sections(study),
        *results_hundred.sections(study),
    ]


def wider_sections(real: Read, top: Read) -> list[str]:
    """Return the map, the real model's fidelity, and what trainers draw of a mixture."""
    return [
        *results_map.sections(top("regimes")),
        "## A real model",
        "Profile `real`: SmolLM2 of 135 million parameters as the base, seven candidates, 49,152 tokens a model, "
        f"{len(real('reference_mixtures'))} references; held-out text. `demix-nb run --profile real`",
        kinds(real("fidelity"), real("trust")),
        "Mixtures found on merged proxies (`demix, merged`) and on mixed ones, and plain ones, really trained, ranked "
        "among the references; then by how many seed noises the one that is recommended is ahead:",
        quality(real("quality")),
        ahead(real("won")),
        "## What trainers draw",
        "Shares of tokens asked of `demix-nb export` and drawn by each trainer's own code, a million sequences or "
        "documents each (trainers that draw at random are then off by 0.0005 where a share is a half); `grammar`: read "
        "back as documented. `python -m tests.foreign.report --out data/results`",
        exports(top("exports")),
    ]


def predictor_sections(tables: Read) -> list[str]:
    """Return what predictors do on public tables."""
    found = tables("predictors_on_tables")
    return [
        "## What predicts from few runs",
        "Public tables of really trained runs, six tasks of each, five draws with test sets of their own: ρ / regret "
        "of the predicted best in standard deviations. "
        "`python -m tests.benchmarks.tables FOLDER… --out data/results/tables`",
        predictors(found),
        "The default (stack) beside the best of all others, which another table or number of runs may change:",
        beside(found),
        "![Predictors on public tables](figures/predictors_on_tables.png)",
    ]


def laptop_sections(laptop: Read) -> list[str]:
    """Return the laptop's fidelity by suite, and its trained mixtures."""
    fidelity, trust = laptop("fidelity"), laptop("trust")
    ranked = laptop("tasks").query("in_rank")["suite"].iloc[0]
    named: Mapping[str, str] = {"heldout": "held-out text", "nine": "the nine benchmarks"}
    parts = []
    for suite, rows in fidelity.groupby("suite", sort=False):
        verdicts = trust if suite == ranked else trust.iloc[:0]
        parts += [f"Fidelity on {named.get(suite, suite)}, bits per byte:", kinds(rows, verdicts)]
    return [*parts, "Really trained mixtures, ranked among the references:", quality(laptop("quality"))]


def write(results: Path, target: Path) -> Path:
    """Write the page from the committed tables, whole or not at all; returns the path."""
    text = page(*(reader(results / name) for name in ("laptop", "study", "tables", "real", "")))
    with atomic(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    target.chmod(0o644)
    return target
