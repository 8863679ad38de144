"""A stack: several opinions in one, weighted by how well each predicts what it has not seen.

Which predictor suits is not known before, and what orders best need not choose best. So three are asked that err
differently: a Gaussian process that believes this task alone; one whose scales all tasks share, over a plane;
and a ridge, which orders worst and yet chooses well, as the best mixtures lie at the rim, where a surface falls back to
the mean. A process takes the power of the shares and the warp of the scores under which the runs are likeliest.
An opinion counts by 1/(squared error out of fold)², and the spread is scaled until it covers what was held out.

Fewer runs than candidates know no plane, and hardly a power or a warp: none lies under the shared process, the ridge
counts for less, and a plain process, on roots as they are, is asked too: the prior of its scales takes long distances
for granted, as few runs of many candidates cannot tell them.

Sources: van der Laan, Polley & Hubbard, Super Learner (2007), whose weights are fitted; ours are not, as two dozen runs
tell three numbers badly. Scales that tasks share: Minka & Picard, Learning How to Learn is Learning with Point Sets
(1997).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from demix_nb.predictors.gaussian import Conditioned, Prior, Surface, Theta
from demix_nb.predictors.laws import Ridge
from demix_nb.predictors.regressor import FOLDS, Mixtures, Scores, constant, deal_folds, widened
from demix_nb.predictors.warp import FORMS, Warp

POWERS = (0.15, 0.25, 0.35, 0.5, 0.75)  # of the shares, that are tried
MIDDLE, ROOT = 0.35, 0.5  # at which the warp is chosen; that of a plain process
MOST = 192  # rows that scales are learnt from; all rows are predicted from
NEAR = 0.7  # standard deviation of a task's log w around what all tasks share
BRIEF = 30  # steps of L-BFGS where the start is another fit's end
REFIT = 20  # and where a fifth of the rows is left out
SHY = 0.1  # least belief: a mean alone would order nothing
LEAST = 1e-12  # of the variance: no error is less

Opinion = tuple[Scores, Scores]  # mean and standard deviation


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


@dataclass
class Shared:
    """What all tasks say together: the rows that scales are learnt from, whether they know a plane, and per power the
    numbers of a common fit.
    """

    rows: Int[ndarray, " row"]
    plane: bool
    thetas: dict[float, Theta]

    @classmethod
    def learn(cls, x: Mixtures, y: Float[ndarray, "mixture task"], rng: np.random.Generator) -> "Shared":
        """Learn from the tasks that vary over the rows, each with mean 0 and variance 1; all rows where none does."""
        rows = np.sort(rng.permutation(len(x))[:MOST])
        if not (some := _varying(y[rows])).shape[1]:
            rows, some = np.arange(len(x)), _varying(y)
        if not some.shape[1]:
            return cls(rows, False, {})  # there is nothing to learn, as each task will be told
        targets, thetas, starts = (some - some.mean(axis=0)) / some.std(axis=0), {}, None
        plane = len(x) >= x.shape[1]
        for power in POWERS:
            surface = _surface(x[rows], power, plane=plane)
            steps = 100 if starts is None else BRIEF
            prior = surface.wide[0], targets.shape[1] * surface.wide[1]  # all tasks count as one: they move together
            thetas[power], _ = surface.fit(targets, starts or surface.starts, prior, steps)
            starts = [thetas[power]]
        return cls(rows, plane, thetas)

    def prior(self, power: float, columns: int) -> Prior:
        """A task's numbers lie near the common ones, the scales more so than the amplitudes."""
        return self.thetas[power], np.r_[np.full(columns, NEAR**-2), [0.25] * (1 + self.plane), 0.05]


def _varying(y: Float[ndarray, "mixture task"]) -> Float[ndarray, "mixture some"]:
    return y[:, [not constant(column) for column in y.T]]


def _surface(x: Mixtures, power: float, *, plane: bool, raw: bool = False) -> Surface:
    return Surface(Points.of(x, power, raw=raw)(x), Points.of(x, 1.0)(x) if plane else None)


@dataclass
class Process:
    """A surface on powers of shares, over a plane in the shares or not, and how it was found."""

    power: float
    plane: bool
    warp: Warp
    theta: Theta
    prior: Prior
    value: float
    raw: bool = False

    def seen(self, x: Mixtures, y: Scores) -> "Process":
        """Let these rows speak, under the numbers that were found."""
        self.points, self.flat = Points.of(x, self.power, raw=self.raw), Points.of(x, 1.0)
        self.known: Conditioned = self._surface(x).conditioned(self.theta, self.warp(y))
        return self

    def _surface(self, x: Mixtures) -> Surface:
        return _surface(x, self.power, plane=self.plane, raw=self.raw)

    def again(self, x: Mixtures, y: Scores) -> "Process":
        """The same found from other rows, scales from the first `MOST` of them, beginning where it ended."""
        few = slice(MOST)
        found = _found(self._surface(x[few]), self.warp(y[few]), [self.theta], self.prior, REFIT)
        return Process(self.power, self.plane, self.warp, *found, self.raw).seen(x, y)

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


def _found(surface: Surface, target: Scores, starts: Sequence[Theta], prior: Prior, steps: int) -> tuple:
    theta, value = surface.fit(target[:, None], starts, prior, steps)
    return theta, prior, value


@dataclass
class Plane:
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


@dataclass
class Stack:
    """Opinions on one task, weighted by 1/(squared error out of fold)², with a spread that covers what was out.

    The processes are one opinion, their weighted mean, before it is held against the plane; two dozen runs of one task
    tell hardly which is nearer, so the errors of all tasks count as much as its own (`settle`). What all say is drawn
    towards the mean of the runs as far as that helped out of fold (`belief`): the order stays.
    """

    shared: Shared
    rng: np.random.Generator

    def fit(self, x: Mixtures, y: Scores) -> "Stack":
        rows = self.shared.rows
        if constant(y[rows]):
            rows = np.arange(len(y))
        together = self._together(x[rows], y[rows], y)
        processes = [self._alone(x[rows], y[rows], together.warp, POWERS), together]
        if not self.shared.plane:
            processes.append(self._alone(x[rows], y[rows], Warp(*FORMS[0], y), (ROOT,), raw=True))
        self.members = [*(one.seen(x, y) for one in processes), Plane(self.rng).seen(x, y)]
        self.centre, self.seen = y.mean(), y
        self._hold_out(x, y)
        self.weigh(self.errors)
        return self

    def _together(self, x: Mixtures, y: Scores, every: Scores) -> Process:
        """The process near the scales that all tasks share: the likeliest warp, then the likeliest power."""
        found = [self._near(x, y, MIDDLE, Warp(*form, every)) for form in FORMS]
        warp = min(found, key=lambda one: one.value - one.warp.slopes).warp
        return min((self._near(x, y, power, warp) for power in POWERS), key=lambda one: one.value)

    def _near(self, x: Mixtures, y: Scores, power: float, warp: Warp) -> Process:
        plane = self.shared.plane
        surface, prior = _surface(x, power, plane=plane), self.shared.prior(power, x.shape[1])
        return Process(power, plane, warp, *_found(surface, warp(y), [prior[0]], prior, BRIEF))

    def _alone(self, x: Mixtures, y: Scores, warp: Warp, powers: Sequence[float], *, raw: bool = False) -> Process:
        """The process that knows this task alone: the likeliest power."""
        found, starts = [], None
        for power in powers:
            surface = _surface(x, power, plane=False, raw=raw)
            fit = _found(surface, warp(y), starts or surface.starts, surface.wide, BRIEF if starts else 100)
            found.append(Process(power, False, warp, *fit, raw))
            starts = [fit[0]]
        return min(found, key=lambda one: one.value)

    def _hold_out(self, x: Mixtures, y: Scores) -> None:
        """What each opinion says of runs it has not seen; the processes are weighted."""
        fold = deal_folds(x, FOLDS, self.rng)
        self.guess, self.doubt = (np.empty((len(self.members), len(y))) for _ in range(2))
        for k in range(FOLDS):
            train, test = fold != k, fold == k
            for row, member in enumerate(self.members):
                self.guess[row, test], self.doubt[row, test] = member.again(x[train], y[train]).opinion(x[test])
        self.curved = weights(((self.guess[:-1] - y) ** 2).mean(axis=1))
        both = np.stack([self.curved @ self.guess[:-1], self.guess[-1]])
        self.errors = np.log(np.maximum(((both - y) ** 2).mean(axis=1) / y.var(), LEAST))
        self.determined = min(1.0, len(y) / x.shape[1])  # a plane has as many numbers as candidates

    @staticmethod
    def settle(stacks: Sequence["Stack"]) -> None:
        """Weigh the opinions of several tasks on the same runs."""
        common = np.mean([stack.errors for stack in stacks], axis=0)
        for stack in stacks:
            stack.weigh((stack.errors + common) / 2)

    def weigh(self, errors: Float[ndarray, " opinion"]) -> None:
        """Weigh the processes and the plane by the logarithms of their errors, and scale what they say together."""
        flat = weights(np.exp(errors))[1] * self.determined
        self.weights = np.r_[(1 - flat) * self.curved, flat]
        held, deviation = self._joined(self.guess, self.doubt)
        away = held - self.centre
        self.belief = float(np.clip(away @ (self.seen - self.centre) / max(away @ away, 1e-300), SHY, 1.0))
        self.wide = widened((self.seen - self.centre - self.belief * away) / deviation)

    def _joined(self, means: ndarray, spreads: ndarray) -> tuple[ndarray, ndarray]:
        """Mean and standard deviation of the weighted opinions: each one's own, and how far they lie apart."""
        mean = self.weights @ means
        return mean, np.sqrt(self.weights @ (spreads**2 + (means - mean) ** 2))

    def predict(self, x: Mixtures) -> Scores:
        joint = self.weights @ np.stack([member.predict(x) for member in self.members])
        return self.centre + self.belief * (joint - self.centre)

    def spread(self, x: Mixtures) -> Scores:
        means, spreads = map(np.stack, zip(*(member.opinion(x) for member in self.members), strict=True))
        return self.wide * self._joined(means, spreads)[1]

    def draw(self, x: Mixtures, n: int, rng: np.random.Generator) -> ndarray:
        """Draw from one opinion at a time, as often as it counts; as wide around the mean as the spread is made."""
        counts = rng.multinomial(n, self.weights / self.weights.sum()).tolist()
        parts = [member.draw(x, count, rng) for member, count in zip(self.members, counts, strict=True) if count]
        drawn, mean = self.centre + self.belief * (np.concatenate(parts) - self.centre), self.predict(x)
        return rng.permutation(mean + self.wide * (drawn - mean))


def weights(errors: Float[ndarray, " opinion"]) -> Float[ndarray, " opinion"]:
    """Return 1/error², sum 1; what errs nowhere has all of it."""
    if errors.min() <= 0:
        return (errors <= 0) / (errors <= 0).sum()
    raw = (errors.min() / errors) ** 2
    return raw / raw.sum()
