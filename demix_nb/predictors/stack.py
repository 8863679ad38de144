"""A stack: several opinions in one, weighted by how well each predicts what it has not seen.

Which predictor suits is not known before, and what orders best need not choose best. So four are asked that err
differently: a Gaussian process that believes this task alone; one whose scales all tasks share, over a plane; what the
tasks' principal components say of it; and a ridge. An opinion counts by 1/(squared error out of fold)², and the spread
is scaled until it covers what was held out.

Fewer runs than candidates know no plane, and hardly a power or a warp: none lies under the shared process, the ridge
counts for less, and a plain process, on roots as they are, is asked too: the prior of its scales takes long distances
for granted, as few runs of many candidates cannot tell them. One task alone has no components.

Sources: van der Laan, Polley & Hubbard, Super Learner (2007), whose weights are fitted; ours are not, as two dozen runs
tell three numbers badly. Scales that tasks share: Minka & Picard, Learning How to Learn is Learning with Point Sets
(1997).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from demix_nb.predictors.gaussian import Prior, Theta
from demix_nb.predictors.opinions import BRIEF, LONG, MOST, ROOT, Axes, Plane, Process, Together, surface, varying
from demix_nb.predictors.regressor import FOLDS, Mixtures, Scores, constant, deal_folds, widened
from demix_nb.predictors.warp import FORMS, Warp

POWERS = (0.15, 0.25, 0.35, 0.5, 0.75)  # of the shares, that are tried
MIDDLE = 0.35  # at which the warp is chosen
NEAR = 0.7  # standard deviation of a task's log w around what all tasks share
SHY = 0.1  # least belief: a mean alone would order nothing
LEAST = 1e-12  # of the variance: no error is less


@dataclass
class Shared:
    """What all tasks say together: the rows that scales are learnt from, whether they know a plane, per power the
    numbers of a common fit, the fold of every run and, of several tasks, their axes.
    """

    rows: Int[ndarray, " row"]
    plane: bool = False
    thetas: dict[float, Theta] = field(default_factory=dict)
    fold: Int[ndarray, " run"] | None = None
    axes: Axes | None = None

    @classmethod
    def learn(cls, x: Mixtures, y: Float[ndarray, "mixture task"], rng: np.random.Generator) -> "Shared":
        """Learn from the tasks that vary over the rows, each with mean 0 and variance 1; all rows where none does.

        Raises Refusal as `deal_folds` does.
        """
        rows = np.sort(rng.permutation(len(x))[:MOST])
        if not (some := varying(y[rows])).shape[1]:
            rows, some = np.arange(len(x)), varying(y)
        shared = cls(rows, len(x) >= x.shape[1])
        if not some.shape[1]:
            return shared  # there is nothing to learn, as each task will be told
        starts: list[Theta] = []
        for power in POWERS:
            on = surface(x[rows], power, plane=shared.plane)
            prior = on.wide[0], some.shape[1] * on.wide[1]  # all tasks count as one: they move together
            shared.thetas[power], _ = on.fit(some, starts or on.starts, prior, BRIEF if starts else LONG)
            starts = [shared.thetas[power]]
        shared.fold = deal_folds(x, FOLDS, rng)
        if some.shape[1] > 1:
            shared.axes = Axes.learn(x, y, rows).folded(x, y, shared.fold)
        return shared

    def prior(self, power: float, columns: int) -> Prior:
        """A task's numbers lie near the common ones, the scales more so than the amplitudes."""
        return self.thetas[power], np.r_[np.full(columns, NEAR**-2), [0.25] * (1 + self.plane), 0.05]


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
        if self.shared.axes:
            processes.append(Together(self.shared.axes))
        self.members = [one.seen(x, y) for one in (*processes, Plane(self.rng))]
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
        prior = self.shared.prior(power, x.shape[1])
        return Process.found(x, y, power, warp, prior=prior, starts=[prior[0]], plane=self.shared.plane)

    def _alone(self, x: Mixtures, y: Scores, warp: Warp, powers: Sequence[float], *, raw: bool = False) -> Process:
        """The process that knows this task alone: the likeliest power."""
        tried: list[Process] = []
        for power in powers:
            tried.append(Process.found(x, y, power, warp, starts=[one.theta for one in tried[-1:]], raw=raw))
        return min(tried, key=lambda one: one.value)

    def _hold_out(self, x: Mixtures, y: Scores) -> None:
        """What each opinion says of runs it has not seen; the processes are weighted."""
        said = [one.held_out(x, y, self.shared.fold) for one in self.members]
        self.guess, self.doubt = map(np.stack, zip(*said, strict=True))
        self.curved = weights(((self.guess[:-1] - y) ** 2).mean(axis=1))
        both = np.stack([self.curved @ self.guess[:-1], self.guess[-1]])
        self.errors = np.log(np.maximum(((both - y) ** 2).mean(axis=1) / y.var(), LEAST))
        self.determined = min(1.0, len(y) / x.shape[1])  # a plane has as many numbers as candidates

    @staticmethod
    def settle(stacks: Sequence["Stack"]) -> None:
        """Weigh the opinions of several tasks on the same runs; the axes of all are one, as workers return copies."""
        common, shared = np.mean([stack.errors for stack in stacks], axis=0), stacks[0].shared
        for stack in stacks:
            stack.weigh((stack.errors + common) / 2)
            stack.shared = shared
            for one in stack.members:
                if isinstance(one, Together):
                    one.axes = shared.axes

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
