"""An export, written whole or not at all: the trainer's files, and a page that says what their numbers mean.

What a trainer cannot say is refused before anything is written, and a source that will be read more than once is told
with its epochs.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from demix_nb.exports.formats import Format
from demix_nb.exports.order import Order
from demix_nb.store import Refusal, atomic_folder

PAGE = "EXPORT.md"


def files_of(row: Format, order: Order) -> dict[str, str]:
    """Return name → text of all files of an order in a format; raises Refusal for phases that it cannot express."""
    if len(order.phases) > 1 and not row.phases:
        raise Refusal(f"{row.label} has no phases, and the mixture has {len(order.phases)}; give it one at a time, "
                      "or export to levanter or nanotron")  # fmt: skip
    files = row.write(order)
    return files | {PAGE: _page(row, order, row.shares(files, order))}


def export(orders: Mapping[str, Order], rows: list[Format], folder: Path, *, force: bool = False) -> list[str]:
    """Write orders (by name; "" for one alone) in formats below a folder; return what is to be said of them.

    One order in one format lies in the folder itself, else in folders by their names. Raises Refusal where the folder
    holds something and is not forced, and as `files_of`.
    """
    written = {(name, row.name): files_of(row, order) for name, order in orders.items() for row in rows}
    if not force and folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise Refusal(f"{folder} holds something; give another folder, or --force to replace it")
    with atomic_folder(folder) as hidden:
        for (name, trainer), files in written.items():
            place = hidden / name / (trainer if len(rows) > 1 else "")
            place.mkdir(parents=True, exist_ok=True)
            for file, text in files.items():
                (place / file).write_text(text, encoding="utf-8")
        if force and folder.exists():
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
    several = len(orders) > 1
    return [f"{name}: {note}" if several else note for name, order in orders.items() for note in repeated(order, rows)]


def repeated(order: Order, rows: list[Format]) -> list[str]:
    """Return a sentence for every source that is read more than once, and what each trainer then does."""
    often = order.epochs[order.epochs > 1]
    return [f"{name!r} is read {epochs:.2f} times" for name, epochs in often.items()] + [
        f"{row.name}: a source that has been read through: {row.exhausted}" for row in rows if len(often)
    ]


def _page(row: Format, order: Order, written: list[pd.Series]) -> str:
    """What the files mean, for whoever finds them."""
    parts = [
        f"# For {row.label}\n\n{row.use}\n",
        f"A weight is a {row.weight}: {row.meaning.told}. A weight of 0: {row.zeros}; sources without share are left "
        f"out. A source that has been read through: {row.exhausted}.",
        f"Tested against {row.real or 'its documented grammar alone'} ({row.grammar}).",
        _chance(row, order),
    ]
    for place, (phase, shares) in enumerate(zip(order.phases, written, strict=True)):
        several = len(order.phases) > 1
        parts += [f"## Phase {place + 1}, {phase.part:.1%} of the run\n"] if several else []
        parts += [_table(order, place, shares)]
    return "\n".join(parts)


def _chance(row: Format, order: Order) -> str:
    """How far off the shares of a run are where sources are drawn at random: a standard deviation at a share of ½."""
    if not row.chance:
        return ""
    if order.tokens is None:
        return "Sources are drawn at random: the shorter the run, the further off are its shares.\n"
    lengths = order.lengths(order.phases[0]) if row.weight == "document share" else pd.Series([order.sequence])
    draws = order.tokens / lengths.mean()
    return f"Sources are drawn at random: in this run a share of a half is off by about {0.5 / draws**0.5:.1g}.\n"


def _table(order: Order, place: int, written: pd.Series) -> str:
    """Asked shares, and those that the files give, with the budget's sequences and epochs where they are known."""
    asked, epochs = order.phases[place].shares, order.epochs
    head = ["candidate", "token share asked", "as written", "sequences", "epochs of the run"]
    lines = [" | ".join(head), " | ".join(["---"] * len(head))]
    for name, share in asked.items():
        count = "not known" if order.tokens is None else f"{order.sequences[place][name]:,}"
        often = "not known" if pd.isna(epochs[name]) else f"{epochs[name]:.3g}"
        lines.append(" | ".join([name, f"{share:.6g}", f"{written[name]:.6g}", count, often]))
    return "\n".join(f"| {line} |" for line in lines) + "\n"
