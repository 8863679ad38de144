"""How files of trainers are spelt: numbers to ten digits, YAML in the order given, Python with its data on top.

Python files hold their paths and weights as one literal, which is read back without running them.
"""

import ast
from typing import Any

import pandas as pd
import yaml


def number(value: float) -> float:
    """Return a weight with ten digits, as many as a table of shares has."""
    return float(f"{value:.10g}")


def numbers(weights: pd.Series) -> dict[str, float]:
    """Return weights by name, with ten digits each."""
    return {name: number(weight) for name, weight in weights.items()}


class _Plain(yaml.SafeDumper):
    """YAML in which what comes twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def as_yaml(content: dict[str, Any]) -> str:
    """Return a mapping as YAML, a line for every entry."""
    how = {"sort_keys": False, "allow_unicode": True, "width": 1000, "default_flow_style": False}
    return yaml.dump(content, Dumper=_Plain, **how)


def as_rows(name: str, rows: list[tuple]) -> str:
    """Return Python that gives a name to a list of rows, a line for every row."""
    return f"{name} = [\n" + "".join(f"    {row!r},\n" for row in rows) + "]\n"


def rows_of(text: str, name: str) -> list[tuple]:
    """Return the list that Python gives that name to; the file is not run."""
    tree = ast.parse(text)
    found = [node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == name]
    return ast.literal_eval(found[0])


KINDS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv", ".txt": "text", ".arrow": "arrow"}


def kind_of(path: str) -> str:
    """Return which loader of HF `datasets` reads such files, by their ending; empty for a name on the hub."""
    stem = path.removesuffix(".gz").removesuffix(".zst")
    return KINDS.get("." + stem.rpartition(".")[2], "") if "." in stem.rpartition("/")[2] else ""
