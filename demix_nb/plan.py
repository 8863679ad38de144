"""What a search will cost before anything is trained: tokens, FLOPs, GPU-hours, energy and disk, by kind of proxy.

A kind of proxy is paid for in models: components once, trained proxies for every mixture that is looked at, references
for what must be fitted to some. Beside them stand the references and replicates that make any of it worth believing.
Training a model of P parameters on T tokens takes 6·P·T floating-point operations, measuring it 2·P·T. What fidelity
that bought is known from our own regimes (`data/results/regimes.csv`), and from nowhere else.

Sources: DeMix (arXiv 2602.00747) 3.3.1, Tables 2 and 3, whose costs count an evaluation as 0.013B tokens and neither
base nor references; Kaplan et al. (2001.08361) 2.1; peaks and watts: the vendors' data sheets.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from demix_nb.proxies import KINDS
from demix_nb.store import Refusal

EVALUATION = 0.013e9  # tokens of measuring one model, DeMix 3.3.1
TRAINING, MEASURING = 6, 2  # operations per parameter and token
BYTES = 2  # of a number on disk: checkpoints are kept in bfloat16
HOUR = 3600.0  # seconds
GPUS = {  # dense bfloat16 operations a second, watts
    "a100": (312e12, 400.0),
    "h100": (989e12, 700.0),
    "h200": (989e12, 700.0),
    "l40s": (362e12, 350.0),
    "rtx4090": (165e12, 450.0),
}
PLANNED = ("merged", "mixed", "fused mixed", "trained")  # kinds that stand for all: others cost as one of these


@dataclass(frozen=True)
class Sizes:
    """What is planned: models of `parameters`, how many of each, and tokens of one.

    `searched`: mixtures that are looked at; `fitted`: references that a kind is fitted to. `budget`: tokens of a
    trained proxy, as a share of a component's. Raises Refusal for what is not positive.
    """

    candidates: int
    parameters: float
    component_tokens: float
    reference_tokens: float
    searched: int = 112
    references: int = 96
    replicates: int = 8
    fitted: int = 16
    budget: float = 1.0
    evaluation: float = EVALUATION

    def __post_init__(self) -> None:
        for name in ("candidates", "parameters", "component_tokens", "reference_tokens", "searched", "budget"):
            if not (np.isfinite(value := getattr(self, name)) and value > 0):
                raise Refusal(f"{name} is {value}; give a number above 0")
        for name in ("references", "replicates", "fitted", "evaluation"):
            if not (np.isfinite(value := getattr(self, name)) and value >= 0):
                raise Refusal(f"{name} is {value}; give 0 or more")

    def of(self, kind: str) -> pd.Series:
        """Return the models, training tokens and measured tokens of a search with one kind of proxy.

        Mixed probabilities read the tasks once per component; all others measure a model for every mixture.
        """
        row = KINDS[kind]
        models = self.searched if row.trains else self.candidates
        tokens = row.cost(candidates=self.candidates, tokens=self.component_tokens, searched=self.searched,
                          budget=self.budget if row.trains else 1.0)  # fmt: skip
        own = self.fitted if row.references else 0
        read = self.candidates if row.gradient or kind == "fused mixed" else self.searched
        return pd.Series(
            {
                "models": models + own,
                "tokens": tokens + own * self.reference_tokens,
                "measured": (read + own) * self.evaluation,
            }
        )

    @property
    def truth(self) -> pd.Series:
        """Return the same of the references and replicates that proxies are judged by."""
        models = self.references + self.replicates
        return pd.Series(
            {"models": models, "tokens": models * self.reference_tokens, "measured": models * self.evaluation}
        )


@dataclass(frozen=True)
class Machine:
    """A GPU by name (a row of GPUS), and the share of its peak that is reached."""

    gpu: str = "h100"
    utilisation: float = 0.4

    def __post_init__(self) -> None:
        if self.gpu not in GPUS:
            raise Refusal(f"there is no GPU {self.gpu!r} here; take one of {', '.join(GPUS)}")
        if not 0 < self.utilisation <= 1:
            raise Refusal(f"utilisation is {self.utilisation}; it is the share of the peak that is reached, above 0")

    def hours(self, operations: float) -> float:
        """Return the GPU-hours that so many operations take."""
        return operations / (GPUS[self.gpu][0] * self.utilisation) / HOUR

    def kilowatt_hours(self, hours: float) -> float:
        """Return the energy of so many GPU-hours at the GPU's limit."""
        return hours * GPUS[self.gpu][1] / 1000


def table(sizes: Sizes, machine: Machine) -> pd.DataFrame:
    """Return what each kind of proxy costs, and what references cost beside it.

    Index: kinds of PLANNED and `references`. Columns: models, tokens (of training), measured (tokens read), flops,
    gpu_hours, kwh, disk (bytes).
    """
    rows = pd.DataFrame({kind: sizes.of(kind) for kind in PLANNED} | {"references": sizes.truth}).T
    rows = rows.rename_axis("proxy").astype({"models": int})
    rows["flops"] = sizes.parameters * (TRAINING * rows["tokens"] + MEASURING * rows["measured"])
    rows["gpu_hours"] = rows["flops"].map(machine.hours)
    return rows.assign(
        kwh=rows["gpu_hours"].map(machine.kilowatt_hours), disk=rows["models"] * sizes.parameters * BYTES
    )


def fidelity(regimes: pd.DataFrame, suite: str = "heldout") -> pd.DataFrame:
    """Return what kinds reached in our regimes where components had the references' tokens: means over bases.

    Index regime and proxy; columns delta, rho_macro, rho_rank, error and bases.
    """
    rows = regimes[(regimes["suite"] == suite) & (regimes["share"] == 1) & regimes["proxy"].isin(PLANNED)].reset_index()
    rows = rows[
        (rows["proxy"] != "trained") | (rows["budget"] == rows["budget"].where(rows["proxy"] == "trained").max())
    ]
    own = rows[rows["measure"].isin(["rho_macro", "rho_rank", "error"])]
    means = own.pivot_table(index=["regime", "proxy"], columns="measure", values="value", sort=False)
    facts = own.groupby(["regime", "proxy"], sort=False).agg(delta=("delta", "mean"), bases=("base", "nunique"))
    return facts.join(means)


def cheapest(costs: pd.DataFrame, known: pd.DataFrame, wanted: float, measure: str = "rho_macro") -> pd.Series:
    """Return regime → the kind with the fewest GPU-hours whose `measure` was at least `wanted` there, "" where none."""
    hours = costs["gpu_hours"]
    found: Mapping[str, str] = {
        str(regime): min((kind for _, kind in own.index[own[measure] >= wanted]), key=hours.get, default="")
        for regime, own in known.groupby(level=0, sort=False)
    }
    return pd.Series(found, dtype=object).rename_axis("regime")
