"""The command `demix-nb plan`: a study file, or numbers alone, told as what a search costs and what that bought us."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from rich.table import Table

from demix_nb import DATA, devices, plan, store, studyfile
from demix_nb.proxies import KINDS
from demix_nb.store import Refusal

REGIMES = DATA / "results" / "regimes.csv"
UNITS = {"tokens": (1e9, "B tokens"), "flops": (1e18, "EFLOP"), "gpu_hours": (1, "GPU-hours"), "kwh": (1, "kWh"),
         "disk": (1e9, "GB")}  # fmt: skip
NEEDED = ("candidates", "parameters", "component_tokens", "reference_tokens")


def sizes(study: Path | None, said: Mapping[str, float | None]) -> plan.Sizes:
    """Return what is planned: what is `said`, and for what is not, what a study file and its checkpoints tell.

    References have a component's tokens where nothing is said. Raises Refusal naming what nobody told.
    """
    told = ({} if study is None else _of_study(studyfile.read(study))) | {
        k: v for k, v in said.items() if v is not None
    }
    if "component_tokens" in told:
        told.setdefault("reference_tokens", told["component_tokens"])
    if missing := [name for name in NEEDED if name not in told]:
        raise Refusal(f"nobody said {missing[0]}; give --{missing[0].replace('_', '-')}")
    whole = {
        name: int(told[name])
        for name in ("candidates", "searched", "references", "replicates", "fitted")
        if name in told
    }
    return plan.Sizes(**told | whole)


def _of_study(file: studyfile.StudyFile) -> dict[str, float]:
    """What a study file tells: candidates, the parameters of its models, tokens of a component trained here."""
    folders = [folder for folder in (file.base, *file.folders.values()) if folder is not None and folder.is_dir()]
    told = {"candidates": len(file.candidates)} if file.candidates else {}
    told |= {"parameters": devices.numbers(folders[0])} if folders else {}
    tokens = (file.training or {}).get("tokens")
    return told | ({} if tokens is None else {"component_tokens": float(tokens)})


def costs(found: pd.DataFrame) -> Table:
    """Return the costs as a table to print."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("kind of proxy", no_wrap=True)
    for name in ("models", *(unit for _, unit in UNITS.values())):
        shown.add_column(name, justify="right")
    for kind, row in found.iterrows():
        label = KINDS[kind].label if kind in KINDS else "references, replicates"
        shown.add_row(label, f"{row['models']:.0f}", *(_short(row[name] / scale) for name, (scale, _) in UNITS.items()))
    return shown


def known() -> pd.DataFrame | None:
    """Return what our own regimes reached, None where their table is not there."""
    return plan.fidelity(store.read(REGIMES, "regimes")) if REGIMES.is_file() else None


def reached(found: pd.DataFrame) -> Table:
    """Return fidelity by regime and kind as a table to print."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("measured in", no_wrap=True)
    shown.add_column("kind of proxy", no_wrap=True)
    for name in ("δ, %", "macro ρ", "ρ of rank", "error", "bases"):
        shown.add_column(name, justify="right")
    for (regime, kind), row in found.iterrows():
        rows = [f"{100 * row['delta']:.2f}", *(f"{row[name]:.2f}" for name in ("rho_macro", "rho_rank"))]
        shown.add_row(regime, KINDS[kind].label, *rows, f"{row['error']:.3f}", f"{row['bases']:.0f}")
    return shown


def _short(number: float) -> str:
    """A number in three digits, whole ones from a hundred on."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
