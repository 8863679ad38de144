"""Ask of checkpoint folders, before anything is merged, whether a merge of them can mean something.

An average of weights is a model only if the weights belong together: one architecture, one tokenizer, one base that
none has left too far behind, no mountain of loss between any two (linear mode connectivity, 1912.05671). `examine`
yields one `Finding` per check, each a sentence, a failed one with its remedy; it stops where more would mean nothing.

Source: DeMix (arXiv 2602.00747) eq. 4 and appendix D, where merges agree with mixtures as long as δ ≪ 1.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import PreTrainedModel

from demix_nb.merging.alike import PROBLEMS
from demix_nb.merging.bank import READ_BLOCK, Bank
from demix_nb.merging.folders import Checkpoint, Folders, all_finite, by_name, open_checkpoint
from demix_nb.merging.layout import Piece
from demix_nb.merging.sphere import gram
from demix_nb.merging.tokens import beyond, digest, open_tokenizer, rows_of
from demix_nb.store import Refusal

DRIFT_LIMIT = 0.35  # paper silent: DeMix's largest δ is 0.10, unrelated weights have 0.71
SAME_UPDATE = 0.999  # cosine above which two components are one for any mixture
BARRIER_LIMIT = 0.05  # of the loss; paper silent: siblings have none, models from different seeds several times this
BETWEEN = (0.25, 0.5, 0.75)  # where along the way from one component to the other the loss is measured
TOKENS = 256  # read of each text
PAIRED = 12  # components up to which the loss is measured between every two; 100 have 4,950 pairs
TABLES = {"drift": "layer", "cosines": "component", "loss barrier": "way"}  # check with a table → its index's name


@dataclass(frozen=True)
class Finding:
    """The outcome of one check, in a sentence; `table` where numbers belong to it."""

    check: str
    passed: bool
    sentence: str
    table: pd.DataFrame | None = None


def examine(directories: Folders, base: str | Path | None = None, texts: Sequence[str] = ()) -> Iterator[Finding]:
    """Yield one finding per check of component folders; `base` adds drift and cosines, `texts` the loss barrier.

    Of no components there is nothing to find.
    """
    if not directories:
        return
    for finding in _structure(directories, base):
        yield finding
        if not finding.passed:
            return
    bank = Bank.load(directories, base)
    if base:
        yield from (drift_finding(bank), cosine_finding(bank))
    if texts and len(bank.names) > 1:
        yield barrier_finding(bank, texts)


@dataclass(frozen=True)
class Checkup:
    """All that was found; `checkup[check]` is a check's table (`TABLES`), without rows where it was not made."""

    findings: Sequence[Finding]

    @property
    def summary(self) -> pd.DataFrame:
        """The findings as a table: index check, columns passed and sentence."""
        rows = [(finding.check, finding.passed, finding.sentence) for finding in self.findings]
        return pd.DataFrame(rows, columns=["check", "passed", "sentence"]).set_index("check")

    @property
    def failed(self) -> list[str]:
        """The sentences of the checks that failed."""
        return [finding.sentence for finding in self.findings if not finding.passed]

    def __getitem__(self, check: str) -> pd.DataFrame:
        found = [finding.table for finding in self.findings if finding.check == check and finding.table is not None]
        return found[0] if found else pd.DataFrame(index=pd.Index([], name=TABLES[check]))


def checkup(directories: Folders, base: str | Path | None = None, texts: Sequence[str] = ()) -> Checkup:
    """Return what `examine` finds, all of it."""
    return Checkup(list(examine(directories, base, texts)))


def drift(bank: Bank) -> pd.DataFrame:
    """How far each tensor moved: index (component, tensor), columns `moved` Σ|Θ−Θ_base| and `size` Σ|Θ|+Σ|Θ_base|.

    The sum of `moved` over the sum of `size` is δ (DeMix eq. 4). Raises Refusal without a base.
    """
    moves = []
    for piece, base in _with_base(bank):
        for row, name in enumerate(bank.names):
            point = bank.read(row, piece).double()
            size = (point.abs() + base.abs()).sum().item()
            moves.append((name, piece.name, (point - base).abs().sum().item(), size))
    table = pd.DataFrame(moves, columns=["component", "tensor", "moved", "size"])
    return table.groupby(["component", "tensor"], sort=False).sum()


def cosines(bank: Bank) -> pd.DataFrame:
    """Cosine between the updates Θᵢ − Θ_base, component × component. Raises Refusal without a base."""
    rows = range(len(bank.names))
    products = sum(gram([bank.read(row, piece) - base for row in rows]) for piece, base in _with_base(bank))
    lengths = products.diagonal().sqrt()
    names = pd.Index(bank.names, name="component")
    return pd.DataFrame((products / torch.outer(lengths, lengths)).numpy(), index=names, columns=bank.names)


def delta(component: Mapping[str, Tensor], base: Mapping[str, Tensor]) -> float:
    """Size of an update δ = Σ|Θ−Θ_base| / (Σ|Θ|+Σ|Θ_base|), DeMix eq. 4, of two state dicts.

    0 for no update; two unrelated models come near 0.7. Raises Refusal where the two have different tensors.
    """
    if component.keys() != base.keys():
        raise Refusal(f"state dicts differ in '{min(component.keys() ^ base.keys())}'; compare models of one kind")
    # tied weights have two names and one place: count them once
    pairs = {tensor.data_ptr(): (tensor.double(), base[name].double()) for name, tensor in component.items()}
    moved = sum((a - b).abs().sum().item() for a, b in pairs.values())
    return moved / sum((a.abs().sum() + b.abs().sum()).item() for a, b in pairs.values())


def drift_finding(bank: Bank) -> Finding:
    """δ of every component, and per layer in the table (rows layers, columns components)."""
    table = drift(bank)
    total = table.groupby(level="component", sort=False).sum()
    delta = total["moved"] / total["size"]
    layers = table.groupby([table.index.get_level_values("tensor").map(layer_of), "component"], sort=False).sum()
    by_layer = (layers["moved"] / layers["size"]).unstack("component")[bank.names].rename_axis("layer")
    if not np.isfinite(delta).all():
        odd = delta.index[~np.isfinite(delta)][0]
        told = f"how far '{odd}' is from its base cannot be said (δ is {delta[odd]})"
        return Finding("drift", False, f"{told}; look for weights that are all zero or beyond any scale", by_layer)
    if delta.min() == 0:
        return Finding("drift", False, f"'{delta.idxmin()}' equals the base; name the trained checkpoint", by_layer)
    if delta.max() > DRIFT_LIMIT:
        far = f"'{delta.idxmax()}' has left its base, δ = {delta.max():.2f} > {DRIFT_LIMIT}"
        return Finding("drift", False, f"{far}; train it shorter, or check that this is its base", by_layer)
    return Finding("drift", True, f"δ is {delta.min():.3f} to {delta.max():.3f}", by_layer)


def cosine_finding(bank: Bank) -> Finding:
    """Cosines between updates: two components that are one leave a mixture undetermined."""
    table = cosines(bank)
    if still := [name for name in bank.names if not np.isfinite(table.loc[name, name])]:
        told = f"the update of '{still[0]}' has no direction, its cosines are no numbers"
        return Finding("cosines", False, f"{told}; name the trained checkpoint, this one is its base", table)
    upper = {pair: table.loc[pair] for pair in itertools.combinations(bank.names, 2)}
    if same := [f"'{a}' and '{b}'" for (a, b), cosine in upper.items() if cosine > SAME_UPDATE]:
        return Finding("cosines", False, f"the updates of {same[0]} are the same; drop one of the two", table)
    span = f"{min(upper.values()):.2f} to {max(upper.values()):.2f}" if upper else "one component only"
    return Finding("cosines", True, f"between updates: {span}", table)


def barrier_finding(bank: Bank, texts: Sequence[str]) -> Finding:
    """Loss along the segment between each pair (nats per token); the barrier is its largest rise above the chord.

    Of more than `PAIRED` components, the pairs of the first with each other one.
    """
    folder = bank.rows[0].directory
    if digest(folder) is None:
        return Finding("loss barrier", False, f"{folder} stores no tokenizer; save one beside each component")
    tokenizer = open_tokenizer(folder)
    documents = [ids for text in texts if len(ids := tokenizer(text, return_tensors="pt").input_ids[0, :TOKENS]) > 1]
    if not documents:
        return Finding("loss barrier", False, "no text is longer than one token; give held-out text of some sentences")
    model = bank.model()

    def loss(weights: Mapping[str, float]) -> float:
        bank.write(model, weights)
        return _loss(model, documents)

    end = {name: loss({name: 1.0}) for name in bank.names}
    pairs, few = itertools.combinations(bank.names, 2), len(bank.names) <= PAIRED
    rows = {
        f"{a} → {b}": [end[a], *(loss({a: 1 - t, b: t}) for t in BETWEEN), end[b]]
        for a, b in pairs
        if few or a == bank.names[0]
    }
    losses = pd.DataFrame.from_dict(rows, orient="index", columns=[0.0, *BETWEEN, 1.0]).rename_axis("way")
    others = f"'{bank.names[0]}' and another (of {len(bank.names)} components no other pairs are measured)"
    return _judge_barrier(losses, "two components" if few else others)


def layer_of(tensor: str) -> str:
    """'layer 3' for a tensor of the fourth block, its own name for one outside the blocks."""
    number = re.search(r"\.(\d+)\.", tensor)
    return f"layer {number[1]}" if number else tensor


def _judge_barrier(losses: pd.DataFrame, between: str = "two components") -> Finding:
    t = np.array(losses.columns)
    chord = np.outer(losses[0.0], 1 - t) + np.outer(losses[1.0], t)
    barrier = ((losses - chord) / chord).max(axis=1, skipna=False)
    if len(odd := barrier[~np.isfinite(barrier)]):
        told = f"{odd.index[0]}: the loss on the way is no number ({', '.join(map(str, losses.loc[odd.index[0]]))})"
        return Finding("loss barrier", False, f"{told}; look for weights beyond any scale, or for another text", losses)
    if len(barrier) and barrier.max() > BARRIER_LIMIT:
        rise = f"{barrier.idxmax()}: the loss rises {barrier.max():.0%} in between"
        return Finding("loss barrier", False, f"{rise}; train both from one base, or shorter", losses)
    return Finding("loss barrier", True, f"largest rise between {between}: {barrier.max():.1%}", losses)


def _with_base(bank: Bank) -> Iterator[tuple[Piece, Tensor]]:
    """The base block by block, in float64. Raises Refusal without one."""
    if bank.base is None:
        raise Refusal("drift and cosines are measured from the base; load the bank with base=folder")
    for piece in (block for slot in bank.slots.values() for block in slot.blocks(READ_BLOCK)):
        yield piece, bank.read(-1, piece).double()


def _loss(model: PreTrainedModel, documents: Sequence[Tensor]) -> float:
    """Mean loss in nats per predicted token."""
    with torch.inference_mode():
        sums = [model(ids[None], labels=ids[None]).loss.item() * (len(ids) - 1) for ids in documents]
    return sum(sums) / sum(len(ids) - 1 for ids in documents)


def _structure(directories: Folders, base: str | Path | None) -> Iterator[Finding]:
    """The checks that need no arithmetic, each of use only where those before it passed."""
    try:
        folders = by_name(directories) | ({"(base)": Path(base)} if base else {})
        checkpoints = {name: open_checkpoint(folder) for name, folder in folders.items()}
    except Refusal as error:
        yield Finding("checkpoints", False, str(error))
        return
    yield Finding("checkpoints", True, f"{len(checkpoints)} folders open")
    for check, find in PROBLEMS.items():
        problem, note = find(checkpoints), ""
        if check == "tokenizer" and problem is None:
            problem, note = _rowless(checkpoints)
        yield Finding(check, problem is None, problem or f"the same {check} in all{note}")
    yield _dtypes(checkpoints)
    yield _finite(checkpoints)
    yield _complete(directories, base)


def _rowless(checkpoints: Mapping[str, Checkpoint]) -> tuple[str | None, str]:
    """What is wrong, and what is to be noted, where tokenizers have words for which embeddings have no row."""
    note = ""
    for name, opened in checkpoints.items():
        if digest(opened.directory) is None:
            continue
        try:
            rows = rows_of(opened.directory)
        except Refusal:  # the model's check will say it
            return None, ""
        try:
            words, always = beyond(opened.directory, rows)
        except Refusal as refusal:
            return str(refusal), ""
        listed = ", ".join(f"{word!r} ({number})" for word, number in sorted(words.items())[:3])
        if always:
            told = f"the tokenizer of '{name}' gives every text an id that has no row in its embedding ({listed})"
            return f"{told}; resize the embedding, or take the tokenizer of the base", ""
        if words and not note:
            note = f"; '{name}' has no row for {len(words)} of its tokens ({listed}): text that holds one is not scored"
    return None, note


def _dtypes(checkpoints: Mapping[str, Checkpoint]) -> Finding:
    found: set[str] = set()
    for name, opened in checkpoints.items():
        stored = {str(dtype).removeprefix("torch.") for dtype in opened.dtypes.values() if dtype.is_floating_point}
        if not stored:
            return Finding("dtype", False, f"'{name}' stores no floating-point tensor; dequantise it to bfloat16")
        found |= stored
    return Finding("dtype", True, f"stored as {' and '.join(sorted(found))}; merged in float32")


def _finite(checkpoints: Mapping[str, Checkpoint]) -> Finding:
    for name, opened in checkpoints.items():
        for tensor in opened.files:
            if not all_finite(opened.read(tensor)):
                return Finding("finite", False, f"'{name}': '{tensor}' holds NaN or infinity; train that model again")
    return Finding("finite", True, "all numbers are finite")


def _complete(directories: Folders, base: str | Path | None) -> Finding:
    """Every tensor the architecture has and no other, and what is tied is equal where it is stored twice."""
    try:
        bank = Bank.load(directories, base, "streamed")
    except Refusal as error:
        return Finding("model", False, str(error))
    tied = " with tied embeddings" if getattr(bank.config, "tie_word_embeddings", False) else ""
    return Finding("model", True, f"complete {bank.config.model_type} of {bank.size:,} parameters{tied}")
