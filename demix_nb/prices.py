"""Shadow prices: what one more point of share would be worth, for every bound that binds the answer.

A bound that is met exactly costs something, or it would not be met. Its price is what the objective gains where it is
loosened by a point of share, or by a billion tokens of data, and the problem is solved again; a guardrail's, where its
margin is wider by a hundredth of its unit. A bound whose price is nothing need not be argued about. How sure a price
is, drawn surfaces tell, of which each has an optimum of its own, before and after: a cloud of mixtures is brought
within the bounds as they are and as they would be, and every surface takes the best of each.

Source: sensitivity of constrained optima (Boyd & Vandenberghe, Convex Optimization, 5.6), by differences, as an
objective here may have no second derivative; sequential quadratic programs: Kraft (1988), scipy's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray
from scipy.optimize import minimize

from demix_nb.decide import Loss, Objective, drawn
from demix_nb.goals import Rails
from demix_nb.intervals import interval
from demix_nb.region import Region

POINT = 0.01  # of share, or of a guardrail's unit, by which a bound is loosened
BILLION = 1e9  # tokens more, where a bound is an amount of data
PRICED = [
    f"{what}{end}" for what, ends in (("", ("gain", "low", "high")), ("billion", ("", "_low", "_high"))) for end in ends
]
BINDS = 1e-4  # how near a bound must be to bind
STEP = 1e-4  # share of the mixture that is moved to a candidate to learn the slope; by 1e-3 programs go astray
LEAST = 1e-3  # of share, by which a bound is loosened at least: what less gains is lost in rounding
FLOOR = 1e-9  # least share: roots have no slope at 0
STEPS, CLOSE = 50, 1e-7  # quadratic programs at most; what the objective falls by in the last
DRAWS = 200  # surfaces
CLOUD, STRENGTHS = 150, (10, 30, 100, 300, 1000)  # mixtures among which a surface has its optimum; Dirichlet strengths
HALVINGS = 20  # on the way from a mixture that breaks a guardrail to one that does not


def loss_of(predictor, by: Objective) -> Loss:
    """Return an objective of predictions as a loss with its slope towards each candidate, by differences.

    `by` must value each mixture by itself. The slopes are those of moving share from all others in proportion.
    """

    def loss(mixture: pd.Series) -> tuple[float, pd.Series]:
        values = by(predictor.predict(_moved(mixture)))
        return float(values["it"]), (values[list(mixture.index)] - values["it"]) / STEP

    return loss


def _moved(mixture: pd.Series) -> pd.DataFrame:
    """A mixture, and what becomes of it where a little share goes to each candidate."""
    names = list(mixture.index)
    moved = (1 - STEP) * mixture.to_numpy() + STEP * np.eye(len(names))
    return pd.DataFrame(np.vstack([mixture, moved]), ["it", *names], names).rename_axis("mixture")


def none() -> pd.DataFrame:
    """Return the prices of no bound."""
    return pd.DataFrame(columns=PRICED, dtype=float).rename_axis("bound")


@dataclass(frozen=True)
class Problem:
    """An objective's loss to be made least within a region and, where there are some, guardrails."""

    loss: Loss
    region: Region
    rails: Rails | None = None

    def solve(self, start: pd.Series) -> pd.Series:
        """Return the optimum downhill of a mixture that is allowed; the mixture itself where none is better."""
        names, linear = self.region.candidates, _Linear(self.region)

        def told(point: ndarray) -> tuple[float, ndarray]:
            value, slope = self.loss(linear.mixture(point))
            return value, np.pad(slope[names].to_numpy(float), (0, len(point) - len(names)))

        found = minimize(
            told, linear.point(start), jac=True, method="SLSQP", bounds=linear.bounds,
            constraints=[*linear.constraints(), *self._kept(linear)], options={"maxiter": STEPS, "ftol": CLOSE},
        )  # fmt: skip
        there = self.region.nearest(linear.mixture(found.x))
        better = self.loss(there)[0] <= self.loss(start)[0] or not self.keeps(start)
        return there if better and self.keeps(there) else start

    def keeps(self, mixture: pd.Series) -> bool:
        """Whether a mixture keeps the guardrails, to within what binds."""
        return self.rails is None or self.rails.keep(mixture.to_frame("it").T, within=BINDS).item()

    def _kept(self, linear: "_Linear") -> Iterator[dict]:
        """The guardrails as a constraint: room of 0 or more, and how it changes towards each candidate."""
        if self.rails is not None:
            rails, names = self.rails, self.region.candidates

            def room(point: ndarray) -> ndarray:
                return rails.room(linear.mixture(point).to_frame("it").T).loc["it"].to_numpy()

            def slopes(point: ndarray) -> ndarray:
                rooms = rails.room(_moved(linear.mixture(point)))
                rises = ((rooms.loc[names] - rooms.loc["it"]) / STEP).to_numpy().T
                return np.pad(rises, ((0, 0), (0, len(point) - len(names))))

            yield {"type": "ineq", "fun": room, "jac": slopes}

    def met(self, mixture: pd.Series) -> dict[str, "Problem"]:
        """Return the bounds and guardrails that a mixture meets: name → the same problem with it loosened."""
        found = self.region.limits.met(mixture[self.region.candidates].to_numpy(float), BINDS)
        bounds = {name: self.wider(name, POINT) for name in found}
        if self.rails is None:
            return bounds
        room = self.rails.room(mixture.to_frame("it").T).loc["it"]
        rails = {name: replace(self, rails=self.rails.loosened(name, POINT)) for name in room.index[room <= BINDS]}
        return bounds | {f"guardrail {name}": problem for name, problem in rails.items()}

    def wider(self, bound: str, by: float) -> "Problem":
        """Return the same with a bound by name wider by so much share."""
        limits = self.region.limits.loosened(bound, by)
        region = Region(self.region.candidates, limits.lower, limits.upper, groups=limits.groups, near=limits.near)
        return replace(self, region=region)

    def within(self, cloud: pd.DataFrame) -> pd.DataFrame:
        """Return mixtures brought within the bounds, and from there within the guardrails, towards the safest."""
        found = self.region.project(cloud)
        if self.rails is None:
            return found
        room = self.rails.room(found).min(axis=1)
        safe, out = found.loc[room.idxmax()], found[room < 0]
        low, high = np.zeros((len(out), 1)), np.ones((len(out), 1))
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            kept = self.rails.keep(safe + middle * (out - safe)).to_numpy()[:, None]
            low, high = np.where(kept, middle, low), np.where(kept, high, middle)
        return pd.concat([found[room >= 0], safe + low * (out - safe)]).loc[found.index]


class _Linear:
    """A region's bounds as scipy takes them; behind the shares, where it is near a mixture, their distances from it."""

    def __init__(self, region: Region) -> None:
        self.names, self.near = region.candidates, region.limits.near
        rows = [(bound.row, bound.most) for bound in region.limits.named if bound.grouped or len(bound.row) > self.size]
        if self.near is not None:
            apart = np.eye(self.size)
            rows += [(np.r_[sign * one, -one], sign * centre)
                     for one, centre in zip(apart, self.near[0], strict=True) for sign in (1.0, -1.0)]  # fmt: skip
        self.width = self.size * (1 if self.near is None else 2)
        self.rows = np.array([np.pad(row, (0, self.width - len(row))) for row, _ in rows]).reshape(-1, self.width)
        self.most = np.array([most for _, most in rows])
        self.bounds = [
            (max(low, FLOOR), max(high, FLOOR)) for low, high in zip(region.lower, region.upper, strict=True)
        ]
        self.bounds += [(0.0, 1.0)] * (self.width - self.size)

    @property
    def size(self) -> int:
        return len(self.names)

    def point(self, mixture: pd.Series) -> ndarray:
        shares = np.maximum(mixture[self.names].to_numpy(float), FLOOR)
        return shares if self.near is None else np.r_[shares, np.abs(shares - self.near[0].to_numpy())]

    def mixture(self, point: ndarray) -> pd.Series:
        shares = np.maximum(point[: self.size], FLOOR)
        return pd.Series(shares / shares.sum(), self.names)

    def constraints(self) -> list[dict]:
        whole = np.r_[np.ones(self.size), np.zeros(self.width - self.size)]
        rest = {"type": "ineq", "fun": lambda x: self.most - self.rows @ x, "jac": lambda x: -self.rows}
        return [
            {"type": "eq", "fun": lambda x: whole @ x - 1, "jac": lambda x: whole},
            *([rest] * bool(len(self.rows))),
        ]


def prices(
    predictor,
    region: Region,
    by: Objective,
    answer: pd.Series,
    *,
    rng: np.random.Generator,
    rails: Rails | None = None,
) -> tuple[pd.Series, pd.DataFrame]:
    """Return the optimum that lies downhill of an answer, and what each bound it meets is worth.

    Index `bound`, by name; columns `gain`, by how much the objective falls for a point of share, of a guardrail for a
    hundredth of its unit, with `low` and `high` (95 %); for bounds that are amounts of data `billion`, by how much for
    a billion tokens more, with its interval. A billion that is less than a thousandth of the mixture counts as its part
    of that. The answer keeps the `rails`; where it doesn't there are no prices.
    """
    problem, rows = Problem(loss_of(predictor, by), region, rails), {}
    here = problem.solve(region.nearest(answer))
    for name, wider in problem.met(here).items() if problem.keeps(here) else ():
        point, billion = _gain(predictor, by, here, problem, wider, rng), np.full(3, np.nan)
        more = BILLION * region.limits.tokens(name)
        if not np.isnan(more):
            solved = max(more, LEAST)
            billion = _gain(predictor, by, here, problem, problem.wider(name, solved), rng) * more / solved
        rows[name] = [*point, *billion]
    return here, pd.DataFrame.from_dict(rows, "index", columns=PRICED, dtype=float).rename_axis("bound")


def _gain(predictor, by: Objective, here: pd.Series, problem: Problem, wider: Problem, rng) -> Float[ndarray, "3"]:
    """Return what is gained from one problem to a wider one, low and high."""
    there = wider.solve(here)
    cloud = Region(list(here.index)).dirichlet(here, CLOUD, rng=rng, strengths=STRENGTHS)
    before = pd.concat([here.to_frame("here").T, problem.within(cloud)])
    after = pd.concat([there.to_frame("there").T, wider.within(cloud)]).add_prefix("wider ", axis=0)
    values = drawn(predictor, pd.concat([before, after]).rename_axis("mixture"), DRAWS, by, rng=rng)
    gains = values[:, : len(before)].min(axis=1) - values.min(axis=1)
    return np.array([max(problem.loss(here)[0] - problem.loss(there)[0], 0.0), *interval(gains)])
