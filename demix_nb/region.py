"""The set of mixtures that is allowed, and every draw from it.

A region is the simplex cut by a lower and an upper bound on each candidate's share. Whatever needs mixtures (a search,
a design of references, a gradient step) draws them here, so that none leaves the region by a hair: rows are moved to
the nearest mixture x within the bounds, argmin KL(x‖p) = clip(c·p, lower, upper), with c by bisection on log c. The
released DeMix sampler clips once and rescales instead, and a fifth of what it emits breaks a cap. Uniform draws gather
at the centre where candidates are many (of a hundred the largest share is 5 %), so a design is a row of `DESIGNS`.

Sources: DeMix (arXiv 2602.00747) 2.4; RegMix (2407.01492) 3.1; maximin designs: Johnson, Moore & Ylvisaker (1990).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from demix_nb.mixtures import SPARSE_BELOW, natural, uniform, validate
from demix_nb.store import Refusal

TOLERANCE = 1e-9  # how far beyond a bound a share may lie by rounding
FLOOR = 1e-9  # what a zero weight becomes where bounds need it: a projection cannot lift an exact zero
BISECTIONS = 100  # halvings of the interval of log c, far below float64's resolution
STRENGTHS = tuple(np.geomspace(0.5, 5.0, 15))  # Dirichlet strengths, DeMix code's log grid
MAX_REDRAWS = 1000  # tiny Dirichlet strengths underflow; this often in a row they never will be usable
POOL = 2000  # mixtures among which a maximin design chooses

Shares = Mapping[str, float] | pd.Series  # candidate → share


class Region:
    """Mixtures of `candidates` with lower ≤ share ≤ upper (by default 0 and 1); never empty.

    Raises Refusal when it is made: for a bound on no candidate, a bound outside 0 … 1 or above its partner, and where
    no mixture obeys all bounds.
    """

    def __init__(self, candidates: Sequence[str], lower: Shares | None = None, upper: Shares | None = None) -> None:
        self.candidates = list(candidates)
        self.lower, self.upper = (
            _bound(given, self.candidates, kind, default)
            for given, kind, default in ((lower, "lower", 0.0), (upper, "upper", 1.0))
        )
        if (crossed := self.lower > self.upper).any():
            name = crossed.idxmax()
            low, high = self.lower[name], self.upper[name]
            raise Refusal(f"{name!r} has lower bound {low:g} above its upper bound {high:g}; widen them")
        if self.lower.sum() > 1 + TOLERANCE:
            raise Refusal(f"lower bounds sum to {self.lower.sum():.4g} > 1: {_said(self.lower)}; lower one of them")
        if self.upper.sum() < 1 - TOLERANCE:
            raise Refusal(f"upper bounds allow at most {self.upper.sum():.4g} < 1: {_said(self.upper)}; raise one")

    @classmethod
    def of_data(
        cls,
        tokens: pd.Series,
        *,
        target_tokens: float,
        epochs: float,
        general: str | None,
        beta: float,
        lower: Shares | None = None,
        upper: Shares | None = None,
    ) -> "Region":
        """The mixtures whose recipe repeats no candidate more than `epochs` times in a run of `target_tokens`.

        `tokens`: candidate → tokens there are. What binds is the recipe (1−β)·general + β·α: the general candidate's
        diluting share counts. `lower` and `upper` bound shares beside that; `general` None: nothing dilutes. Raises
        Refusal as the class does, for amounts that are not positive, and where diluting alone repeats the general
        candidate too often.
        """
        if not (target_tokens > 0 and epochs > 0):
            raise Refusal(f"target_tokens is {target_tokens} and epochs {epochs}; both must be positive")
        room = epochs * tokens / target_tokens - (1 - beta) * (tokens.index == general)
        if general is not None and room[general] < 0:
            raise Refusal(
                f"diluting with {general!r} alone repeats it {(1 - beta) * target_tokens / tokens[general]:.3g} times "
                f"in {target_tokens:g} tokens, {epochs:g} are allowed; lower target_tokens or allow more epochs"
            )
        caps = (room / beta).clip(upper=1.0) if beta > 0 else pd.Series(1.0, tokens.index)
        return cls(list(tokens.index), lower, caps.combine(_bound(upper, list(tokens.index), "upper", 1.0), min))

    @property
    def told(self) -> dict[str, dict[str, float]]:
        """The bounds that bind anything: lower above 0, upper below 1."""
        kept = {"lower": self.lower[self.lower > 0], "upper": self.upper[self.upper < 1]}
        return {kind: bounds.round(6).to_dict() for kind, bounds in kept.items() if len(bounds)}

    @property
    def bounded(self) -> bool:
        """Whether the region is less than the whole simplex."""
        return bool((self.lower > 0).any() or (self.upper < 1).any())

    def holds(self, mixtures: pd.DataFrame) -> pd.Series:
        """Return mixture → whether it lies in the region (to 1e-9)."""
        shares = validate(mixtures, self.candidates)
        inside = (shares >= self.lower - TOLERANCE) & (shares <= self.upper + TOLERANCE)
        return inside.all(axis=1)

    # --- projection

    def project(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the mixtures of the region that are nearest to these in KL divergence, row by row.

        Zero shares stay at their lower bound, but in rows that cannot reach the sum 1 without them.
        """
        table = validate(mixtures, self.candidates)
        if not self.bounded:
            return table
        low, high = self.lower.to_numpy(), self.upper.to_numpy()
        shares = table.to_numpy()
        short = np.where(shares > 0, high, low).sum(axis=1) < 1
        shares = np.where(short[:, None], np.maximum(shares, FLOOR), shares)
        return pd.DataFrame(_project(shares, low, high), index=table.index, columns=table.columns)

    def nearest(self, weights: pd.Series) -> pd.Series:
        """Return the mixture of the region nearest to positive weights, which need not sum to 1; nothing falls to 0."""
        shares = np.maximum(weights[self.candidates] / weights[self.candidates].sum(), FLOOR)
        return self.project((shares / shares.sum()).to_frame("mixture").T).loc["mixture"]

    # --- draws

    def draw(self, n: int, *, rng: np.random.Generator, prefix: str = "m") -> pd.DataFrame:
        """Draw `n` mixtures uniformly from the simplex (DeMix 2.4, step 1), moved into the region where it is less."""
        return self.project(named(rng.dirichlet(np.ones(len(self.candidates)), size=n), self.candidates, prefix))

    def dirichlet(
        self,
        prior: pd.Series,
        n: int,
        *,
        rng: np.random.Generator,
        strengths: Sequence[float] = STRENGTHS,
        prefix: str = "m",
    ) -> pd.DataFrame:
        """Draw `n` mixtures from Dirichlet(λ·prior), λ drawn from `strengths` (RegMix 3.1), and move them inside.

        Weights below 2e-4 are set to zero, as the RegMix and DeMix code does.
        """
        prior = prior[self.candidates].to_numpy()
        alphas = np.maximum(rng.choice(np.asarray(strengths), size=n)[:, None] * prior, 1e-3)
        shares = np.stack([_dirichlet(alpha, rng) for alpha in alphas])
        shares[shares < SPARSE_BELOW] = 0.0
        if self.bounded:
            shares = np.maximum(shares, FLOOR)
        return self.project(named(shares / shares.sum(axis=1, keepdims=True), self.candidates, prefix))

    def sample(
        self, n: int, *, how: str = "uniform", rng: np.random.Generator, prefix: str = "m", prior: Shares | None = None
    ) -> pd.DataFrame:
        """Return a design of `n` mixtures, drawn as the row `how` of `DESIGNS` says.

        `prior`: the shares that sparse draws centre on, equal ones where none are given. Raises Refusal for a design
        that is no row.
        """
        if how not in DESIGNS:
            raise Refusal(f"there is no design {how!r}; take one of {', '.join(DESIGNS)}")
        centre = uniform(self.candidates) if prior is None else pd.Series(prior)
        return DESIGNS[how].draw(self, n, centre, rng=rng, prefix=prefix)

    def pool(self, n: int, *, how: str = "uniform", rng: np.random.Generator, prefix: str = "p") -> pd.DataFrame:
        """Return `n` mixtures to choose among, as wide as the design `how`; raises Refusal as `sample`."""
        wide = how in DESIGNS and DESIGNS[how].sparse
        return self.sample(n, how="dirichlet" if wide else how, rng=rng, prefix=prefix)

    # --- regions of a hierarchy's stages

    def over(self, filled: pd.DataFrame) -> "Region":
        """The shares that groups may have; `filled` is group × candidate, how each group is filled (rows sum to 1)."""
        inside = filled[self.candidates].where(filled[self.candidates] > 0)
        lower, upper = (self.lower / inside).max(axis=1), (self.upper / inside).min(axis=1).clip(upper=1.0)
        return Region(list(filled.index), lower, upper)

    def inside(self, members: Sequence[str], share: float) -> "Region":
        """How the members of a group may divide its `share` of the mixture among them; shares of the group, sum 1."""
        names = list(members)
        return Region(names, (self.lower[names] / share).clip(upper=1.0), (self.upper[names] / share).clip(upper=1.0))


# --- designs: draw(region, n, prior, *, rng, prefix)


@dataclass(frozen=True)
class Design:
    """A way to choose mixtures before anything is known; `use`: what it is for, in one sentence.

    `sparse`: whether it reaches mixtures of few candidates, as those to choose among then must too.
    """

    draw: Callable[..., pd.DataFrame]
    label: str
    paper: str
    use: str
    sparse: bool = True


def _maximin(region: Region, n: int, prior: pd.Series, *, rng: np.random.Generator, prefix: str) -> pd.DataFrame:
    """Choose greedily among a pool, half of it sparse: first its most central, each next the farthest from all before.

    Distance is Euclidean on √shares.
    """
    half = max(POOL // 2, n)
    drawn = [region.draw(half, rng=rng), region.dirichlet(prior, half, rng=rng)]
    pool = np.concatenate([table.to_numpy() for table in drawn])
    points = np.sqrt(pool)
    chosen = [int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    gap = np.full(len(points), np.inf)
    while len(chosen) < n:
        gap = np.minimum(gap, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        gap[chosen[-1]] = -1.0
        chosen.append(int(gap.argmax()))
    return named(pool[chosen], region.candidates, prefix)


DESIGNS = {
    "uniform": Design(
        lambda region, n, prior, **how: region.draw(n, **how), "uniform", "DeMix (2602.00747) 2.4",
        "a dozen candidates or fewer: no mixture is preferred, but of a hundred candidates all are near the centre",
        sparse=False,
    ),
    "dirichlet": Design(
        lambda region, n, prior, **how: region.dirichlet(prior, n, **how), "Dirichlet by strength",
        "RegMix (2407.01492) 3.1, DeMix's code",
        "many candidates: a few of them share a mixture, so that each is seen with much weight and with none",
    ),
    "maximin": Design(
        _maximin, "maximin", "Johnson, Moore & Ylvisaker (1990)",
        "few runs, as far apart as a pool of both allows: of a hundred candidates mostly one or two at a time",
    ),
}  # fmt: skip


def named(shares: Float[np.ndarray, "n k"], candidates: Sequence[str], prefix: str) -> pd.DataFrame:
    """Return rows of shares as a mixture table; rows are called `<prefix>0`, `<prefix>1`, … with leading zeros."""
    width = len(str(max(len(shares) - 1, 0)))
    index = pd.Index([f"{prefix}{i:0{width}d}" for i in range(len(shares))], name="mixture")
    return pd.DataFrame(shares, index=index, columns=list(candidates))


def unimax(tokens: pd.Series, target_tokens: float, epochs: float) -> pd.Series:
    """Return equal shares of `target_tokens`, but no candidate repeated more than `epochs` times (2304.09151).

    What the small ones cannot take is shared by the others: water-filling, which is the KL projection of equal shares.
    Raises Refusal when all candidates together hold too little for that.
    """
    data = {"target_tokens": target_tokens, "epochs": epochs, "general": None, "beta": 1.0}
    return Region.of_data(natural(tokens) * tokens.sum(), **data).nearest(uniform(list(tokens.index)))


def _bound(given: Shares | None, candidates: list[str], kind: str, default: float) -> pd.Series:
    bound = pd.Series(dict(given) if given is not None else {}, dtype=float)
    if unknown := [name for name in bound.index if name not in candidates]:
        raise Refusal(f"{kind} bound for unknown candidate {unknown[0]!r}; candidates: {', '.join(candidates)}")
    if odd := [name for name, share in bound.items() if not -TOLERANCE <= share <= 1 + TOLERANCE]:
        raise Refusal(f"{kind} bound of {odd[0]!r} is {bound[odd[0]]:g}; a bound is a share between 0 and 1")
    return bound.reindex(candidates).fillna(default).clip(0.0, 1.0)


def _said(bounds: pd.Series) -> str:
    return ", ".join(f"{name} {share:.3g}" for name, share in bounds.items())


def _project(
    p: Float[np.ndarray, "n k"], low: Float[np.ndarray, " k"], high: Float[np.ndarray, " k"]
) -> Float[np.ndarray, "n k"]:
    left = np.full((len(p), 1), -60.0)
    right = 60.0 - np.log(np.where(p > 0, p, 1.0).min(axis=1, keepdims=True))
    for _ in range(BISECTIONS):
        middle = (left + right) / 2
        below = np.clip(np.exp(middle) * p, low, high).sum(axis=1, keepdims=True) < 1
        left, right = np.where(below, middle, left), np.where(below, right, middle)
    return np.clip(np.exp(right) * p, low, high)


def _dirichlet(alpha: Float[np.ndarray, " k"], rng: np.random.Generator) -> Float[np.ndarray, " k"]:
    """Draw one Dirichlet row; gamma draws of tiny strengths can all underflow, so such a row is drawn again."""
    for _ in range(MAX_REDRAWS):
        row = rng.dirichlet(alpha)
        if np.isfinite(row).all() and row.sum() > 0:
            return row
    raise Refusal(f"Dirichlet strengths {alpha} give no usable draw; use larger strengths")
