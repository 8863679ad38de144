"""Opinions on one task, of which a stack makes one: what each says of a mixture, and how sure it is.

A process takes the power of the shares under which the runs are likeliest. Tasks move together, and what many share is
told with less noise than each: so a plain process is asked about every principal component of all scores, and a task is
what it has of them. A ridge orders worst and yet chooses well, as the best mixtures lie at the rim, where a surface
falls back to the mean.

Sources: Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), chapters 2 and 5. Principal components:
Higdon, Gattiker, Williams & Rightley, Computer Model Calibration Using High-Dimensional Output (2008), section 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from demix_nb.predictors.gaussian import Conditioned, Prior, Surface, Theta
from demix_nb.predictors.laws import Ridge
from demix_nb.predictors.regressor import FOLDS, Mixtures, Scores, constant
from demix_nb.predictors.warp import Warp

ROOT = 0.5  # the power of a plain process
MOST = 192  # rows that scales are learnt from; all rows are predicted from
LONG = 100  # steps of L-BFGS where nothing is known
BRIEF = 30  # where the start is another fit's end
REFIT = 20  # and where a fifth of the rows is left out
AXES = 8  # principal components at most; what lies outside of them is noise to them
FLAT = 1e-6  # of the longest: an axis on which runs lie no farther apart holds rounding

Opinion = tuple[Scores, Scores]  # mean and standard deviation


def varying(y: Float[ndarray, "run task"]) -> Float[ndarray, "run some"]:
    """Return the tasks that vary over these runs, each with mean 0 and variance 1."""
    some = y[:, [not constant(column) for column in y.T]]
    return (some - some.mean(axis=0)) / some.std(axis=0)


class Member:
    """What can be asked: `seen` and `again` let runs speak, `predict`, `opinion` and `draw` tell of mixtures."""

    def held_out(self, x: Mixtures, y: Scores, fold: Int[ndarray, " run"]) -> Opinion:
        """What it says of each run, having seen the other folds."""
        mean, deviation = np.empty((2, len(y)))
        for k in range(FOLDS):
            out = fold == k
            mean[out], deviation[out] = self.without(k, x[~out], y[~out]).opinion(x[out])
        return mean, deviation

    def without(self, k: int, x: Mixtures, y: Scores) -> "Member":
        """The same having seen these runs, which are all but those of fold k."""
        return self.again(x, y)


@dataclass(frozen=True)
class Points:
    """Where mixtures lie on a scale of powers: centred, of a total variance of 1 over the rows of fit unless `raw`."""

    power: float
    middle: ndarray
    size: float

    @classmethod
    def of(cls, x: Mixtures, power: float, *, raw: bool = False) -> "Points":
        z = x**power
        return cls(power, z.mean(axis=0), 1.0 if raw else float(np.sqrt(z.var(axis=0).sum())) or 1.0)

    def __call__(self, x: Mixtures) -> ndarray:
        return (x**self.power - self.middle) / self.size


def surface(x: Mixtures, power: float, *, plane: bool, raw: bool = False) -> Surface:
    return Surface(Points.of(x, power, raw=raw)(x), Points.of(x, 1.0)(x) if plane else None)


@dataclass
class Process(Member):
    """A surface on powers of shares, over a plane in the shares or not, and how it was found."""

    power: float
    plane: bool
    warp: Warp
    theta: Theta
    prior: Prior
    value: float
    raw: bool = False

    @classmethod
    def found(
        cls, x: Mixtures, y: Scores, power: float, warp: Warp, *, prior: Prior | None = None,
        starts: Sequence[Theta] = (), steps: int = BRIEF, plane: bool = False, raw: bool = False,
    ) -> "Process":  # fmt: skip
        """Find the likeliest numbers; `LONG` steps where there is no start, and the wide prior where none is given."""
        on = surface(x, power, plane=plane, raw=raw)
        prior = prior or on.wide
        theta, value = on.fit(warp(y)[:, None], starts or on.starts, prior, steps if starts else LONG)
        return cls(power, plane, warp, theta, prior, value, raw)

    def seen(self, x: Mixtures, y: Scores) -> "Process":
        """Let these rows speak, under the numbers that were found."""
        self.points, self.flat = Points.of(x, self.power, raw=self.raw), Points.of(x, 1.0)
        on = surface(x, self.power, plane=self.plane, raw=self.raw)
        self.known: Conditioned = on.conditioned(self.theta, self.warp(y))
        return self

    def again(self, x: Mixtures, y: Scores) -> "Process":
        """The same found from other rows, scales from the first `MOST` of them, beginning where it ended."""
        same = {"prior": self.prior, "starts": [self.theta], "steps": REFIT, "plane": self.plane, "raw": self.raw}
        return Process.found(x[:MOST], y[:MOST], self.power, self.warp, **same).seen(x, y)

    def _at(self, x: Mixtures) -> tuple[ndarray, ndarray | None]:
        return self.points(x), self.flat(x) if self.plane else None

    def predict(self, x: Mixtures) -> Scores:
        return self.warp.back(self.known.mean(*self._at(x)))

    def opinion(self, x: Mixtures) -> Opinion:
        """The spread is half of what lies between one deviation below and one above, on the scale of the scores."""
        mean, deviation = self.known.mean_and_spread(*self._at(x))
        return self.warp.back(mean), (self.warp.back(mean + deviation) - self.warp.back(mean - deviation)) / 2

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        points, plane = self._at(x)
        return self.warp.back(self.known.draw(points, n, rng, plane))


@dataclass
class Axes:
    """The principal components of all tasks' scores over some runs, and a plain process on each.

    `out`: how far each run lies out on each axis, orthonormal columns. `folds`: the axes of the runs without each fold,
    which speak of that fold alone.
    """

    out: Float[ndarray, "run axis"]
    known: list[Conditioned] = field(default_factory=list)
    folds: list["Axes"] = field(default_factory=list)
    kept: dict[str, tuple] = field(default_factory=dict)

    @classmethod
    def learn(cls, x: Mixtures, y: Float[ndarray, "run task"], rows: ndarray, starts: Sequence[Theta] = ()) -> "Axes":
        """Learn the axes of these runs; scales from the `rows`, beginning where those of other runs ended."""
        u, s, _ = np.linalg.svd(varying(y), full_matrices=False)
        axes = cls(u[:, :AXES][:, s[:AXES] > FLAT * s.max(initial=0)])
        few, every = Surface(np.sqrt(x[rows])), Surface(np.sqrt(x))
        for n, column in enumerate((axes.out / axes.sizes).T):
            begin, steps = ([starts[n]], REFIT) if n < len(starts) else (few.starts, LONG)
            theta, _ = few.fit(column[rows, None], begin, few.wide, steps)
            axes.known.append(every.conditioned(theta, column))
        return axes

    @property
    def sizes(self) -> Float[ndarray, " axis"]:
        return self.out.std(axis=0)

    def folded(self, x: Mixtures, y: Float[ndarray, "run task"], fold: Int[ndarray, " run"]) -> "Axes":
        """The same, having said what it would of each fold had it not seen it."""
        for k in range(FOLDS):
            left, starts = fold != k, [one.theta for one in self.known]
            part = Axes.learn(x[left], y[left], np.arange(min(MOST, left.sum())), starts)
            part.said("mean_and_spread", x[~left])
            part.known = []  # as large as the square of the runs, and wanted by nobody
            self.folds.append(part)
        return self

    def said(self, what: str, x: Mixtures) -> list:
        """What every axis says of these mixtures; kept, as the next task asks of the same."""
        before, said = self.kept.get(what, (None, None))
        if not np.array_equal(before, x):
            z = np.sqrt(x)
            said = [getattr(one, what)(z) for one in self.known]
            self.kept[what] = x.copy(), said
        return said


@dataclass
class Together(Member):
    """A task as what it has of the axes; what it has beside them is noise."""

    axes: Axes

    def seen(self, x: Mixtures, y: Scores) -> "Together":
        self.centre = y.mean()
        along = self.axes.out.T @ (y - self.centre)
        self.rest, self.along = (y - self.centre - self.axes.out @ along).var(), along * self.axes.sizes
        return self

    def without(self, k: int, x: Mixtures, y: Scores) -> "Together":
        return Together(self.axes.folds[k]).seen(x, y)

    def predict(self, x: Mixtures) -> Scores:
        return self.centre + self.along @ np.array(self.axes.said("mean", x))

    def opinion(self, x: Mixtures) -> Opinion:
        said = self.axes.said("mean_and_spread", x)
        means, deviations = np.reshape(said, (len(said), 2, len(x))).swapaxes(0, 1)
        return self.centre + self.along @ means, np.sqrt(self.along**2 @ deviations**2 + self.rest)

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        drawn = (mean + rng.normal(size=(n, len(x))) @ root.T for mean, root in self.axes.said("open", x))
        return self.centre + sum(share * one for share, one in zip(self.along, drawn, strict=True))


@dataclass
class Plane(Member):
    """A ridge; its spread is what it missed in its own folds."""

    rng: np.random.Generator

    def seen(self, x: Mixtures, y: Scores) -> "Plane":
        self.ridge = Ridge(self.rng).fit(x, y)
        return self

    def again(self, x: Mixtures, y: Scores) -> "Plane":
        return Plane(self.rng).seen(x, y)

    def predict(self, x: Mixtures) -> Scores:
        return self.ridge.predict(x)

    def opinion(self, x: Mixtures) -> Opinion:
        return self.predict(x), np.full(len(x), self.ridge.missed)

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        return self.ridge.draw(x, n, rng)
