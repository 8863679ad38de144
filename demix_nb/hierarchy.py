"""Search by groups of candidates: any strategy over the groups' shares, then inside each group, or the other way round.

A hierarchy is a strategy made of strategies. Each stage speaks of its own few candidates, of the groups or of one
group's members, and what it asks is said in terms of all of them, so that whoever scores sees ordinary mixtures.

Source: MergeMix (arXiv 2601.17858), coarse and fine, Table 3.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pandas as pd

from demix_nb import mixtures as simplex
from demix_nb.decide import Search
from demix_nb.region import TOLERANCE, Region
from demix_nb.scored import Scored
from demix_nb.store import Refusal


def advance(search: Search, answer: Scored | None) -> tuple[pd.DataFrame | None, pd.Series | None]:
    """Send an answer (None: begin); return what is asked next, or in the end (None, the winner)."""
    try:
        return search.send(answer), None
    except StopIteration as end:
        return None, end.value


def top_down(region, predictor, tasks, *, rng, groups, flat, prior=None, **options) -> Search:
    """Search the groups' shares, then inside each group with all others fixed (MergeMix, coarse and fine, Table 3).

    `groups`: name → candidates; `flat`: any strategy. At first each group is filled evenly, or like `prior`. Mixtures
    are called `<stage>/<name>`. Raises Refusal for groups that are no partition of the candidates.
    """
    search = partial(flat, predictor=predictor, tasks=tasks, rng=rng, **options)
    filled = _filled(region, groups, prior)
    mixture, totals = filled.iloc[0], pd.Series(1.0, index=list(groups))
    if len(groups) > 1:
        mixture = yield from _lifted(search(over(region, filled)), "groups", lambda shares: shares @ filled, region)
        totals = (filled > 0).astype(float) @ mixture
    for group, members in groups.items():
        if len(members) > 1 and totals[group] >= simplex.SPARSE_BELOW:
            rest = mixture.where(~mixture.index.isin(members), 0.0)
            inner = search(inside(region, members, totals[group]))
            mixture = yield from _lifted(inner, group, partial(_into, rest, totals[group]), region)
    return mixture


def bottom_up(region, predictor, tasks, *, rng, groups, flat, prior=None, **options) -> Search:
    """Search inside each group first, then the shares of the groups so filled: each has become one expert (MergeMix).

    All others stand beside it evenly, or like `prior`: by itself a group would be asked for what others do better, and
    bounds would bind it that do not in the end. Arguments, names and refusals as of `top_down`.
    """
    search, filled = partial(flat, predictor=predictor, tasks=tasks, rng=rng, **options), _filled(region, groups, prior)
    even = filled.mean() if prior is None else prior[region.candidates] / prior[region.candidates].sum()
    even = region.settled(simplex.as_table({"even": even})).loc["even"]
    for group, members in groups.items():
        rest, share = even.where(~even.index.isin(members), 0.0), even[list(members)].sum()
        if len(members) > 1 and share >= simplex.SPARSE_BELOW:
            inner = search(inside(region, members, share))
            found = yield from _lifted(inner, group, partial(_into, rest, share), region)
            own = found.where(found.index.isin(members), 0.0)
            filled.loc[group] = own / own.sum()
    if len(groups) == 1:
        return filled.iloc[0]
    return (yield from _lifted(search(over(region, filled)), "groups", lambda shares: shares @ filled, region))


def over(region: Region, filled: pd.DataFrame) -> Region:
    """Return the shares that groups may have; `filled` is group × candidate, how each is filled (rows sum to 1).

    A group of the region that is made of parts of several, and a distance, are not said here: they are settled later.
    """
    parts = filled[region.candidates].where(filled[region.candidates] > 0)
    lower, upper = (region.lower / parts).max(axis=1), (region.upper / parts).min(axis=1).clip(upper=1.0)
    groups = {}
    for name, (members, low, high) in region.limits.groups.items():
        part = filled[list(members)].sum(axis=1)
        if (part[part > 0] > 1 - TOLERANCE).all():
            groups[name] = (list(part.index[part > 0]), low, high)
        elif (part > 0).sum() == 1:
            of, held = part.idxmax(), part.max()
            lower[of], upper[of] = max(lower[of], low / held), min(upper[of], high / held)
    return Region(list(filled.index), lower, upper, groups=groups)


def inside(region: Region, members: Sequence[str], share: float) -> Region:
    """Return how the members of a group may divide its `share` of the mixture among them; shares of the group, sum 1.

    A group of the region that reaches beyond the members, and a distance, are not said here either.
    """
    names = list(members)
    groups = {
        name: (own, min(low / share, 1.0), min(high / share, 1.0))
        for name, (own, low, high) in region.limits.groups.items()
        if set(own) < set(names)
    }
    bounds = ((side[names] / share).clip(upper=1.0) for side in (region.lower, region.upper))
    return Region(names, *bounds, groups=groups)


def _lifted(search: Search, stage: str, expand: Callable[[pd.DataFrame], pd.DataFrame], region: Region) -> Search:
    """Return a search that asks in terms of all candidates for one that speaks of groups, or of the members of one.

    What a stage cannot know of the region is settled when it asks.
    """
    asked, found = advance(search, None)
    while asked is not None:
        scored = yield region.settled(expand(asked)).rename(index=lambda name: f"{stage}/{name}")
        asked, found = advance(search, Scored(asked, scored.scores.set_axis(asked.index), scored.tasks))
    return region.settled(expand(simplex.as_table({"winner": found}))).loc["winner"]


def _into(rest: pd.Series, share: float, mixtures: pd.DataFrame) -> pd.DataFrame:
    """Return mixtures of all candidates: `share` of them as `mixtures` say, beside the fixed `rest`."""
    return (share * mixtures).reindex(columns=rest.index, fill_value=0.0) + rest


def _filled(region: Region, groups: Mapping[str, Sequence[str]], prior: pd.Series | None) -> pd.DataFrame:
    """Return group × candidate, how each group is filled: evenly or like `prior`, as near as the region allows."""
    names = [name for members in groups.values() for name in members]
    if twice := [name for name in names if names.count(name) > 1]:
        raise Refusal(f"candidate {twice[0]!r} is in two groups; give it one")
    if len(names) < 2 or not all(map(len, groups.values())):
        raise Refusal(f"groups {dict(groups)} leave nothing to search; name two candidates, one in each group")
    if odd := set(names) ^ set(region.candidates):
        raise Refusal(f"{min(odd)!r} is not both a candidate and in a group; the groups must hold every candidate once")
    weights = pd.Series(1.0, index=region.candidates) if prior is None else prior[region.candidates]
    weights = region.nearest(weights) if region.bounded else weights  # so that one choice of shares is always allowed
    rows = {group: weights.where(weights.index.isin(members), 0.0) for group, members in groups.items()}
    filled = pd.DataFrame(rows).T
    return filled.div(filled.sum(axis=1), axis=0)
