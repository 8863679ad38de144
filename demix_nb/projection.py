"""The nearest mixture that obeys bounds, exactly, and which bounds contradict each other where none does.

Of all mixtures within the bounds, argmin KL(x‖p) is x_i = clip(c·d_g·p_i, low_i, high_i): one factor c for the sum 1,
and one more, d_g, for a group whose sum would be out of its own bounds. Within a distance of a baseline b, in total
variation, the middle of three values takes the place of c·d_g·p_i: itself over u, b_i, itself times u, with u ≥ 1
for the distance. Every sum is piecewise linear and rises with its factor, so a factor is found by Newton steps that a
bisection guards; u by bisection. Rows are many (pools of 200,000): all are moved at once, in blocks that fit a cache.

Source: the conditions of Karush, Kuhn and Tucker for that problem; the smallest contradiction by deletion (Chinneck &
Dravnieks 1991), on linear programs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linprog

BLOCK = 8192  # rows moved at once
CLOSE = 1e-14  # how far from its sum a row may end
STEPS = 200  # of a factor; about ten are taken, and of bisections alone as many as float64 needs
WIDEST = 60.0  # largest log u
HALVINGS = 60  # of the interval of log u
SLACK = 1e-9  # how far beyond a bound rounding may lead

Rows = Float[np.ndarray, "n k"]
Masks = Bool[np.ndarray, "group k"]
Column = Float[np.ndarray, "m 1"]
Each = Float[np.ndarray, " m"]
Chosen = Int[np.ndarray, " some"]
Part = Float[np.ndarray, "m some"]


@dataclass(frozen=True)
class Bounds:
    """Bounds on k shares: `low` and `high` of each, of the sums of disjoint `groups`, and `reach` around `centre`.

    `reach`: the largest total variation, 0.5·Σ|x − centre|; None where nothing is to be near.
    """

    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    groups: Masks
    least: Float[np.ndarray, " group"]
    most: Float[np.ndarray, " group"]
    centre: Float[np.ndarray, " k"] | None = None
    reach: float = 1.0

    def project(self, shares: Rows) -> Rows:
        """Return the rows within the bounds that are nearest to positive `shares` (zeros stay at their lower bound)."""
        blocks = [self._near(shares[first : first + BLOCK]) for first in range(0, len(shares), BLOCK)]
        return np.concatenate(blocks) if blocks else shares

    def far(self, shares: Rows) -> Float[np.ndarray, " n"]:
        """Return by how much the worst bound of each row is broken; 0 or less: none is."""
        sums = shares @ self.groups.T
        broken = [self.low - shares, shares - self.high, self.least - sums, sums - self.most]
        if self.centre is not None:
            broken.append((distance(shares, self.centre) - self.reach)[:, None])
        return np.concatenate(broken, axis=1).max(axis=1)

    def within_reach(self, shares: Rows) -> Bool[np.ndarray, " n"]:
        """Return whether each row can be brought within the bounds where its zeros stay at their lower bound.

        Near a centre, only rows without zeros are taken to be.
        """
        most = np.where(shares > 0, self.high, self.low)
        if self.centre is not None:
            return (shares > 0).all(axis=1)
        sums, (least, largest) = most @ self._parts.T, self._ends
        return (sums >= least).all(axis=1) & (np.minimum(sums, largest).sum(axis=1) >= 1)

    def _near(self, shares: Rows) -> Rows:
        found = self._at(shares, None)
        if self.centre is None or not (out := distance(found, self.centre) > self.reach).any():
            return found
        rows, left, right = shares[out], np.zeros((out.sum(), 1)), np.full((out.sum(), 1), WIDEST)
        for _ in range(HALVINGS):
            middle = (left + right) / 2
            beyond = (distance(self._at(rows, np.exp(middle)), self.centre) > self.reach)[:, None]
            left, right = np.where(beyond, middle, left), np.where(beyond, right, middle)
        found[out] = self._at(rows, np.exp(right))
        return found

    def _at(self, shares: Rows, pull: Column | None) -> Rows:
        """Return the rows whose sum is 1, groups within their bounds, for a given u."""
        everyone, least, most = np.arange(len(self.low)), *self._ends

        def total(factor: Column, rows: Chosen) -> tuple[Each, Each]:
            values, slopes = self._raised(shares[rows], factor, everyone, None if pull is None else pull[rows])
            sums, rises = values @ self._parts.T, slopes @ self._parts.T
            free = (sums > least) & (sums < most)
            return np.clip(sums, least, most).sum(axis=1), (rises * free).sum(axis=1)

        top = self._largest(shares, pull)
        found = self._raised(shares, _factor(total, np.ones(len(shares)), top), everyone, pull)[0]
        for mask, low, high in zip(self.groups, self.least, self.most, strict=True):
            members, sums = np.flatnonzero(mask), found[:, mask].sum(axis=1)
            for bound, out in ((low, sums < low), (high, sums > high)):
                own = np.flatnonzero(out)
                if len(own):
                    up = None if pull is None else pull[own]
                    found[np.ix_(own, members)] = self._within(shares[own], members, bound, up, top[own])
        return found

    def _within(self, shares: Rows, members: Chosen, bound: float, pull: Column | None, top: Column) -> Part:
        """Return the shares of a group's members where its sum is `bound`."""

        def total(factor: Column, rows: Chosen) -> tuple[Each, Each]:
            values, slopes = self._raised(shares[rows], factor, members, None if pull is None else pull[rows])
            return values.sum(axis=1), slopes.sum(axis=1)

        factor = _factor(total, np.full(len(shares), bound), top)
        return self._raised(shares, factor, members, pull)[0]

    def _raised(self, shares: Rows, factor: Column, members: Chosen, pull: Column | None) -> tuple[Part, Part]:
        """Return the members' shares at a factor, and how each rises with it."""
        slope = shares[:, members]
        raised = factor * slope
        if pull is not None:
            centre = self.centre[members]
            under, over = raised * pull < centre, raised > centre * pull
            bent = [under, over], [raised * pull, raised / pull], [slope * pull, slope / pull]
            raised, slope = np.select(bent[0], bent[1], centre), np.select(bent[0], bent[2], 0.0)
        low, high = self.low[members], self.high[members]
        return np.clip(raised, low, high), slope * ((raised > low) & (raised < high))

    def _largest(self, shares: Rows, pull: Column | None) -> Column:
        """A factor at which every positive share is at its upper bound."""
        least = np.where(shares > 0, shares, np.inf).min(axis=1, keepdims=True)
        return 2.0 / np.where(np.isfinite(least), least, 1.0) * (1.0 if pull is None else pull)

    @property
    def _parts(self) -> Float[np.ndarray, "part k"]:
        """The groups, and what is in none."""
        return np.vstack([self.groups, ~self.groups.any(axis=0)]).astype(float)

    @property
    def _ends(self) -> tuple[Float[np.ndarray, " part"], Float[np.ndarray, " part"]]:
        return np.append(self.least, -np.inf), np.append(self.most, np.inf)


def distance(shares: Rows, centre: Float[np.ndarray, " k"]) -> Float[np.ndarray, " n"]:
    """Return the total variation 0.5·Σ|x − centre| of each row."""
    return np.abs(shares - centre).sum(axis=1) / 2


def _factor(total: Callable, wanted: Each, top: Column) -> Column:
    """Return the factor of each row at which `total(factor, rows)`, (sum, slope), is what is wanted."""
    left, right = np.full(len(wanted), 1e-300), top[:, 0].copy()
    factor, active = np.minimum(np.ones(len(wanted)), right), np.arange(len(wanted))
    for turn in range(STEPS):
        sums, slopes = total(factor[active, None], active)
        gap = wanted[active] - sums
        left[active] = np.where(gap > 0, factor[active], left[active])
        right[active] = np.where(gap < 0, factor[active], right[active])
        going = np.abs(gap) > CLOSE
        active, gap, slopes = active[going], gap[going], slopes[going]
        if not len(active):
            break
        with np.errstate(divide="ignore", invalid="ignore"):
            step = factor[active] + gap / slopes
        low, high = left[active], right[active]
        halved = np.sqrt(low) * np.sqrt(high)
        usual = (step > low) & (step < high) & (turn % 4 != 3)
        moved = np.where(usual, step, halved)
        stuck = (moved <= low) | (moved >= high)  # neighbours in float64: nothing lies between
        factor[active] = np.where(stuck, high, moved)
        active = active[~stuck]
    return factor[:, None]


# --- what contradicts what


@dataclass(frozen=True)
class Bound:
    """One bound by name: `row` · x ≤ `most`; a lower one has both signs turned.

    `kind`: lower, upper or near; `of`: the candidate or the group, which `grouped` says it is.
    """

    kind: str
    of: str
    grouped: bool
    row: Float[np.ndarray, " k"]
    most: float

    @property
    def name(self) -> str:
        """What it is called."""
        return " ".join([self.kind, *(["group"] if self.grouped else []), *([self.of] if self.of else [])])

    def at(self, loosened: float) -> str:
        """The bound as it would have to be, loosened by so much."""
        value = abs(self.most + loosened) if self.most + loosened else 0.0
        return f"{self.name} to {value:.4g}"


def contradiction(bounds: Sequence[Bound], size: int, centre: Float[np.ndarray, " k"] | None = None) -> list[Bound]:
    """Return a smallest set of bounds that no mixture of `size` shares obeys; none where one obeys all.

    Smallest: without any of them the others can be met. A bound with `row` of length 2·size has, behind the shares,
    their distances |x − centre|.
    """
    if slack(bounds, size, centre) <= SLACK:
        return []
    found = list(bounds)
    for bound in bounds:
        fewer = [one for one in found if one is not bound]
        if slack(fewer, size, centre) > SLACK:
            found = fewer
    return found


def slack(
    bounds: Sequence[Bound], size: int, centre: Float[np.ndarray, " k"] | None = None, only: Bound | None = None
) -> float:
    """Return by how much all bounds together, or `only` one of them, must be loosened until a mixture obeys them."""
    width = 2 * size + len(bounds)
    rows, most = [], []
    for number, bound in enumerate(bounds):
        row = np.zeros(width)
        row[: len(bound.row)] = bound.row
        row[2 * size + number] = -1.0 if only is None or only is bound else 0.0
        rows.append(row)
        most.append(bound.most)
    for sign in (1.0, -1.0) if centre is not None else ():
        for name in range(size):
            row = np.zeros(width)
            row[name], row[size + name] = sign, -1.0
            rows.append(row)
            most.append(sign * centre[name])
    cost = np.concatenate([np.zeros(2 * size), np.ones(len(bounds))])
    whole = np.concatenate([np.ones(size), np.zeros(width - size)])[None]
    found = linprog(cost, A_ub=np.array(rows) if rows else None, b_ub=most or None, A_eq=whole, b_eq=[1.0])
    return float(found.fun) if found.status == 0 else np.inf
