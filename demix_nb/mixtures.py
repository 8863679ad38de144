"""The simplex: make, check, cap, average and read data mixtures.

A *mixture table* is a DataFrame with one row per mixture (index `mixture`) and one float column per candidate; rows are
non-negative and sum to 1. A single mixture is a Series over the candidates. A mixture α says how the candidates share
the space that β leaves them; the *recipe* is what is really trained on, (1−β)·general + β·α. Samplers take an explicit
random generator, caps are met by exact projection: the released DeMix sampler clips once and rescales, so that many of
its samples break a cap.

Source: DeMix (arXiv 2602.00747) 2.2 and 2.4; RegMix (arXiv 2407.01492) 3.1; SPEC of caps: KL projection by bisection.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from jaxtyping import Float

SUM_TOLERANCE = 1e-6  # float64 rounding of a sum of a few dozen shares, with room for CSVs printed to 7 digits
SPARSE_BELOW = 2e-4  # weights under this become zero, RegMix and DeMix code
FLOOR = 1e-9  # what a zero weight becomes before caps are met: a row may need more support than it drew
STRENGTHS = np.geomspace(0.5, 5.0, 15)  # Dirichlet strengths, DeMix code's log grid
MAX_REDRAWS = 1000  # a sampler that rejects this often in a row has impossible caps


class MixtureError(ValueError):
    """A mixture that is not on the simplex, or names the wrong candidates."""


def validate(mixtures: pd.DataFrame, candidates: Sequence[str] | None = None) -> pd.DataFrame:
    """Return `mixtures` as a clean mixture table (columns in the order of `candidates`).

    Raises MixtureError naming the row and column for unknown, missing or duplicate names, NaN, negative weights and
    rows whose sum is off 1 by more than 1e-6.
    """
    if mixtures.empty:
        raise MixtureError("the mixture table is empty; give at least one mixture")
    check_names(mixtures, candidates)
    table = mixtures[list(candidates)] if candidates is not None else mixtures
    table = table.astype(float).rename_axis(index="mixture", columns=None)
    bad = ~np.isfinite(table.to_numpy()) | (table.to_numpy() < 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise MixtureError(
            f"mixture {table.index[row]!r} has weight {table.iat[row, column]} for {table.columns[column]!r}; "
            "weights must be finite and not negative"
        )
    sums = table.sum(axis=1)
    if (off := (sums - 1).abs() > SUM_TOLERANCE).any():
        name = off.idxmax()
        raise MixtureError(f"mixture {name!r} sums to {sums[name]:.6g}, not 1; divide its weights by their sum")
    return table


def check_names(mixtures: pd.DataFrame, candidates: Sequence[str] | None) -> None:
    """Raise MixtureError for a duplicate mixture or candidate name, or candidates other than those expected."""
    for kind, names in (("mixture", mixtures.index), ("candidate", mixtures.columns)):
        if names.has_duplicates:
            raise MixtureError(f"{kind} {names[names.duplicated()][0]!r} appears twice; give each {kind} one name")
    if candidates is None:
        return
    if unknown := [name for name in mixtures.columns if name not in candidates]:
        raise MixtureError(f"unknown candidate {unknown[0]!r}; the candidates are {', '.join(candidates)}")
    if missing := [name for name in candidates if name not in mixtures.columns]:
        raise MixtureError(f"no weight for candidate {missing[0]!r}; write 0 if it is not to be used")


def as_table(mixtures: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Stack named single mixtures into a mixture table."""
    return validate(pd.DataFrame(dict(mixtures)).T)


def uniform(candidates: Sequence[str]) -> pd.Series:
    """Return equal shares."""
    return pd.Series(1.0 / len(candidates), index=list(candidates))


def one_hot(candidates: Sequence[str], name: str) -> pd.Series:
    """Return all weight on `name`; raises MixtureError when it is no candidate."""
    if name not in candidates:
        raise MixtureError(f"unknown candidate {name!r}; the candidates are {', '.join(candidates)}")
    return pd.Series({candidate: float(candidate == name) for candidate in candidates})


def natural(tokens: pd.Series) -> pd.Series:
    """Return shares in proportion to the tokens there are (the mixture one gets by concatenating everything)."""
    if not (tokens > 0).all():
        raise MixtureError(f"candidate {tokens.idxmin()!r} has {tokens.min()} tokens; drop it or give it text")
    return tokens.astype(float) / tokens.sum()


def temperature(tokens: pd.Series, power: float) -> pd.Series:
    """Return natural shares to the power `power`, renormalised: 1 = natural, 0 = uniform (mT5, 2010.11934)."""
    return natural(natural(tokens) ** power)


def unimax(tokens: pd.Series, target_tokens: float, epochs: float) -> pd.Series:
    """Return equal shares of `target_tokens`, but no candidate repeated more than `epochs` times (2304.09151).

    What the small ones cannot take is shared by the others: water-filling, which is the KL projection of equal shares.
    Raises MixtureError when all candidates together hold too little for that.
    """
    equal = uniform(list(natural(tokens).index)).to_frame("unimax").T
    return project(equal, upper=caps(tokens, target_tokens, epochs)).loc["unimax"]


def sample_uniform(candidates: Sequence[str], n: int, *, rng: np.random.Generator, prefix: str = "m") -> pd.DataFrame:
    """Draw `n` mixtures uniformly from the simplex (DeMix 2.4, step 1)."""
    return _table(rng.dirichlet(np.ones(len(candidates)), size=n), candidates, prefix)


def sample_dirichlet(
    prior: pd.Series,
    n: int,
    *,
    rng: np.random.Generator,
    strengths: Sequence[float] = STRENGTHS,
    upper: pd.Series | None = None,
    prefix: str = "m",
) -> pd.DataFrame:
    """Draw `n` mixtures from Dirichlet(λ·prior), λ drawn from `strengths` (RegMix 3.1).

    Weights below 2e-4 are set to zero, as the RegMix and DeMix code does; then rows above `upper` are projected.
    """
    alphas = np.maximum(rng.choice(np.asarray(strengths), size=n)[:, None] * prior.to_numpy(), 1e-3)
    shares = np.stack([_dirichlet(alpha, rng) for alpha in alphas])
    shares[shares < SPARSE_BELOW] = 0.0
    if upper is not None:
        shares = np.maximum(shares, FLOOR)  # a projection cannot lift an exact zero
    table = _table(shares / shares.sum(axis=1, keepdims=True), list(prior.index), prefix)
    return table if upper is None else project(table, upper=upper)


def _dirichlet(alpha: Float[np.ndarray, " k"], rng: np.random.Generator) -> Float[np.ndarray, " k"]:
    """Draw one Dirichlet row; gamma draws of tiny strengths can all underflow, so such a row is drawn again."""
    for _ in range(MAX_REDRAWS):
        row = rng.dirichlet(alpha)
        if np.isfinite(row).all() and row.sum() > 0:
            return row
    raise MixtureError(f"Dirichlet strengths {alpha} give no usable draw; use larger strengths")


def _table(shares: Float[np.ndarray, "n k"], candidates: Sequence[str], prefix: str) -> pd.DataFrame:
    width = len(str(max(len(shares) - 1, 0)))
    index = pd.Index([f"{prefix}{i:0{width}d}" for i in range(len(shares))], name="mixture")
    return pd.DataFrame(shares, index=index, columns=list(candidates))


def average(mixtures: pd.DataFrame) -> pd.Series:
    """Return the mean mixture (DeMix 3 averages the top 128; a mean of points of the simplex is on the simplex)."""
    return validate(mixtures).mean()


def recipe(mixture: pd.Series, general: str, beta: float) -> pd.Series:
    """Return the token shares really trained on, (1−β)·general + β·α (DeMix 2.2)."""
    if not 0 <= beta <= 1:
        raise MixtureError(f"beta is {beta}; it is the share of the candidates and lies between 0 and 1")
    mixture = validate(mixture.to_frame("mixture").T).iloc[0]
    return beta * mixture + (1 - beta) * one_hot(list(mixture.index), general)


def project(
    target: pd.DataFrame, lower: pd.Series | float = 0.0, upper: pd.Series | float = 1.0, *, steps: int = 100
) -> pd.DataFrame:
    """Return the mixtures within the bounds that are closest to `target` in KL divergence, row by row.

    The solution of argmin KL(x‖p), lower ≤ x ≤ upper, Σx = 1 is x = clip(c·p, lower, upper); c is found by bisection on
    log c. Zero targets stay at their lower bound. Raises MixtureError naming the bounds when they cannot be met.
    """
    table = validate(target)
    low, high = (_bound(bound, table.columns, kind) for bound, kind in ((lower, "lower"), (upper, "upper")))
    if (low > high).any():
        i = int(np.argmax(low > high))
        raise MixtureError(
            f"{table.columns[i]!r} has lower bound {low[i]:g} above its upper bound {high[i]:g}; widen them"
        )
    if low.sum() > 1 + SUM_TOLERANCE:
        raise MixtureError(f"lower bounds sum to {low.sum():.4g} > 1: {dict(zip(table.columns, low, strict=True))}")
    shares = _project(table.to_numpy(), low, high, table.columns, steps)
    return pd.DataFrame(shares, index=table.index, columns=table.columns)


def _bound(bound: pd.Series | float, candidates: pd.Index, kind: str) -> Float[np.ndarray, " k"]:
    if not isinstance(bound, pd.Series):
        return np.full(len(candidates), float(bound))
    if unknown := [name for name in bound.index if name not in candidates]:
        raise MixtureError(f"{kind} bound for unknown candidate {unknown[0]!r}; candidates: {', '.join(candidates)}")
    default = 0.0 if kind == "lower" else 1.0
    return bound.reindex(candidates).fillna(default).to_numpy(float)


def _project(
    p: Float[np.ndarray, "n k"],
    low: Float[np.ndarray, " k"],
    high: Float[np.ndarray, " k"],
    names: pd.Index,
    steps: int,
) -> Float[np.ndarray, "n k"]:
    reach = np.where(p > 0, high, low).sum(axis=1)  # no factor lifts a zero share above its lower bound
    if reach.min() < 1 - SUM_TOLERANCE:
        raise MixtureError(
            f"upper bounds allow at most {reach.min():.4g} < 1 in all: {dict(zip(names, high, strict=True))}; "
            "raise a cap or give another candidate weight"
        )
    left = np.full((len(p), 1), -60.0)
    right = 60.0 - np.log(np.where(p > 0, p, 1.0).min(axis=1, keepdims=True))
    for _ in range(steps):
        middle = (left + right) / 2
        below = np.clip(np.exp(middle) * p, low, high).sum(axis=1, keepdims=True) < 1
        left, right = np.where(below, middle, left), np.where(below, right, middle)
    return np.clip(np.exp(right) * p, low, high)


def caps(tokens: pd.Series, target_tokens: float, epochs: float) -> pd.Series:
    """Return the largest share of each candidate that repeats it at most `epochs` times: epochs · tokens / target."""
    if target_tokens <= 0 or epochs <= 0:
        raise MixtureError(f"target_tokens ({target_tokens}) and epochs ({epochs}) must be positive")
    return (epochs * tokens / target_tokens).clip(upper=1.0)


def upper_bounds(shares: Mapping[str, float], candidates: Sequence[str]) -> pd.Series:
    """Return one cap per candidate, 1 where `shares` names none; raises MixtureError for an unknown name or odd cap."""
    if unknown := [name for name in shares if name not in candidates]:
        raise MixtureError(f"cap for unknown candidate {unknown[0]!r}; the candidates are {', '.join(candidates)}")
    if odd := [name for name, share in shares.items() if not 0 <= share <= 1]:
        raise MixtureError(f"cap of {odd[0]!r} is {shares[odd[0]]}; a cap is a share between 0 and 1")
    return pd.Series({name: float(shares.get(name, 1.0)) for name in candidates})


def read(path: str | Path, candidates: Sequence[str] | None = None) -> tuple[pd.DataFrame, list[str]]:
    """Read mixtures as people have them; return the mixture table and one note per entry that was normalised.

    Takes CSV (first column names the mixture), YAML or JSON (name → candidate → weight; a flat candidate → weight
    mapping is one mixture). Raw token counts are divided by their sum. Raises MixtureError naming the entry for
    unknown candidates, negative, NaN, all-zero or empty entries.
    """
    path = Path(path)
    if not path.is_file():
        raise MixtureError(f"no mixture file at {path}; give a .csv, .yaml or .json file")
    rows, notes = {}, []
    for name, weights in _entries(path):
        rows[name], note = _normalise(path, name, weights, candidates)
        notes += note
    if not rows:
        raise MixtureError(f"{path.name} is empty; give at least one mixture")
    columns = list(candidates) if candidates is not None else list(next(iter(rows.values())))
    return validate(pd.DataFrame(rows).T.reindex(columns=columns), columns), notes


def _entries(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    if path.suffix == ".csv":
        frame = pd.read_csv(path, index_col=0)
        if frame.index.has_duplicates:
            raise MixtureError(f"{path.name}: entry {frame.index[frame.index.duplicated()][0]!r} appears twice")
        yield from ((str(name), row.to_dict()) for name, row in frame.iterrows())
        return
    text = path.read_text(encoding="utf-8")
    content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    if not isinstance(content, Mapping):
        raise MixtureError(f"{path.name} must map names to weights; it holds a {type(content).__name__}")
    nested = [isinstance(value, Mapping) for value in content.values()]
    if any(nested) and not all(nested):
        name = next(key for key, flag in zip(content, nested, strict=True) if not flag)
        raise MixtureError(f"{path.name}: entry {name!r} is not a mapping from candidates to weights")
    yield from content.items() if any(nested) else [(path.stem, content)]


def _normalise(
    path: Path, name: str, weights: Mapping[str, object], candidates: Sequence[str] | None
) -> tuple[dict[str, float], list[str]]:
    where = f"{path.name}: entry {name!r}"
    if not weights:
        raise MixtureError(f"{where} is empty; give at least one candidate a weight")
    if unknown := [key for key in weights if candidates is not None and key not in candidates]:
        raise MixtureError(f"{where} names unknown candidate {unknown[0]!r}; candidates: {', '.join(candidates)}")
    row = {str(key): weights.get(key, 0.0) for key in (candidates if candidates is not None else weights)}
    for key, value in row.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value) or value < 0:
            raise MixtureError(f"{where} has weight {value!r} for {key!r}; weights are numbers, finite, not negative")
    total = sum(row.values())
    if total == 0:
        raise MixtureError(f"{where} is all zero; give at least one candidate a weight")
    note = [] if abs(total - 1) <= SUM_TOLERANCE else [f"{name}: weights summed to {total:.6g}, divided by it"]
    return {key: value / total for key, value in row.items()}, note
