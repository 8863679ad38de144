"""The set of mixtures that is allowed, and every draw from it.

A region is the simplex cut by bounds on candidates, on sums of groups of them, and by a distance from a baseline.
Whatever needs mixtures (a search, a design of references, a gradient step) draws them here, so that none leaves the
region by a hair: rows are moved to the nearest mixture within the bounds, in KL divergence (`projection`). The released
DeMix sampler clips once and rescales instead, and a fifth of what it emits breaks a cap. Uniform draws gather at the
centre where candidates are many (of a hundred the largest share is 5 %), so a design is a row of `DESIGNS`.

Sources: DeMix (arXiv 2602.00747) 2.4; RegMix (2407.01492) 3.1; maximin designs: Johnson, Moore & Ylvisaker (1990).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from demix_nb.limits import Group, Limits, Near, Shares, of_data, that_fits
from demix_nb.mixtures import SPARSE_BELOW, natural, uniform, validate
from demix_nb.store import Refusal

TOLERANCE = 1e-9  # how far beyond a bound a share may lie by rounding
FLOOR = 1e-9  # what a zero weight becomes where bounds need it: a projection cannot lift an exact zero
STRENGTHS = tuple(np.geomspace(0.5, 5.0, 15))  # Dirichlet strengths, DeMix code's log grid
MAX_REDRAWS = 1000  # tiny Dirichlet strengths underflow; this often in a row they never will be usable
POOL = 2000  # mixtures among which a maximin design chooses


class Region:
    """Mixtures of `candidates` within bounds; never empty.

    `lower` ≤ share ≤ `upper` (by default 0 and 1), shares that are `fixed`, sums of disjoint `groups` (name → members,
    least, largest), and `near` a mixture: (its shares, largest total variation 0.5·Σ|x − shares|). `data`: candidate →
    share that a token more of it adds to an upper bound by data.

    Raises Refusal when it is made: for a bound on no candidate, a bound outside 0 … 1 or above its partner, a fixed
    share out of its bounds, groups that overlap, and where no mixture obeys all bounds: which, and what would mend it.
    """

    def __init__(
        self,
        candidates: Sequence[str],
        lower: Shares | None = None,
        upper: Shares | None = None,
        *,
        fixed: Shares | None = None,
        groups: Mapping[str, Group] | None = None,
        near: Near | None = None,
        data: Mapping[str, float] | None = None,
    ) -> None:
        self.candidates = list(candidates)
        self.limits = replace(Limits.of(self.candidates, lower, upper, fixed, groups or {}, near), data=data or {})
        self.limits.check()

    @classmethod
    def of_data(
        cls,
        tokens: pd.Series,
        *,
        target_tokens: float,
        epochs: float | Shares,
        general: str | None,
        beta: float,
        lower: Shares | None = None,
        upper: Shares | None = None,
        **bounds,
    ) -> "Region":
        """The mixtures whose recipe repeats no candidate more than `epochs` times in a run of `target_tokens`.

        `tokens`: candidate → tokens there are. What binds is the recipe (1−β)·general + β·α: the general candidate's
        diluting share counts. `epochs` may be candidate → number; who is not named is not limited. `lower`, `upper` and
        other `bounds` hold beside that; `general` None: nothing dilutes. Raises Refusal as the class does, saying what
        amount would fit, for amounts that are not positive, and where diluting alone repeats the general candidate too
        often.
        """
        caps, names, own = of_data(tokens, target_tokens, epochs, general, beta), list(tokens.index), dict(upper or {})

        def make(times: float = 1.0) -> "Region":
            of_data = {name: cap for name, cap in caps(times).items() if cap < own.get(name, 1.0)}
            rates = pd.Series(epochs, names, dtype=float)[list(of_data)] / (beta * target_tokens)
            return cls(names, lower, own | of_data, **bounds, data=rates.to_dict())

        try:
            return make()
        except Refusal as refusal:
            raise Refusal(f"{refusal}{that_fits(make, target_tokens)}") from refusal

    @property
    def lower(self) -> pd.Series:
        """Candidate → least share."""
        return self.limits.lower

    @property
    def upper(self) -> pd.Series:
        """Candidate → largest share."""
        return self.limits.upper

    @property
    def told(self) -> dict[str, dict]:
        """The bounds that bind anything: lower above 0, upper below 1, groups, and near."""
        return self.limits.told

    @property
    def bounded(self) -> bool:
        """Whether the region is less than the whole simplex."""
        return bool(self.limits.named)

    def holds(self, mixtures: pd.DataFrame) -> pd.Series:
        """Return mixture → whether it lies in the region (to 1e-9)."""
        shares = validate(mixtures, self.candidates)
        return pd.Series(self.limits.bounds.far(shares.to_numpy()) <= TOLERANCE, shares.index)

    def project(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the mixtures of the region that are nearest to these in KL divergence, row by row.

        Zero shares stay at their lower bound, but in rows that cannot obey all bounds without them.
        """
        table = validate(mixtures, self.candidates)
        if not self.bounded:
            return table
        short = ~self.limits.bounds.within_reach(shares := table.to_numpy())
        shares = np.where(short[:, None], np.maximum(shares, FLOOR), shares)
        return pd.DataFrame(self.limits.bounds.project(shares), index=table.index, columns=table.columns)

    def settled(self, mixtures: pd.DataFrame) -> pd.DataFrame:
        """Return the mixtures as they are where they lie in the region, the nearest of it where they don't."""
        out = ~self.holds(mixtures)
        return pd.concat([mixtures[~out], self.project(mixtures[out])]).loc[mixtures.index] if out.any() else mixtures

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

    def design(
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
        return self.design(n, how="dirichlet" if wide else how, rng=rng, prefix=prefix)


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


def _dirichlet(alpha: Float[np.ndarray, " k"], rng: np.random.Generator) -> Float[np.ndarray, " k"]:
    """Draw one Dirichlet row; gamma draws of tiny strengths can all underflow, so such a row is drawn again."""
    for _ in range(MAX_REDRAWS):
        row = rng.dirichlet(alpha)
        if np.isfinite(row).all() and row.sum() > 0:
            return row
    raise Refusal(f"Dirichlet strengths {alpha} give no usable draw; use larger strengths")
