"""From benchmark scores to one number: family means, ranks within families, and their macro average.

Benchmarks have different units and spreads, so DeMix compares mixtures by rank: the score of a family (general, math,
code) is the mean of its benchmarks, models are ranked within each family (1 = best), and the macro rank is the mean
over the families. Benchmarks are found by name and direction, never by position: the official code reads
rows by number.

Source: DeMix (arXiv 2602.00747) 2.4 and 3.3.2.
"""

import pandas as pd


class RankingError(ValueError):
    """Scores that cannot be ranked: a benchmark is missing or is not a number."""


def check_scores(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of `scores` named in the task table; raises RankingError naming a missing or NaN score."""
    if missing := [task for task in tasks.index if task not in scores.columns]:
        raise RankingError(
            f"benchmark {missing[0]!r} is missing from the score table; score it or drop it from the tasks"
        )
    table = scores[list(tasks.index)]
    if (holes := table.isna()).any(axis=None):
        mixture = holes.any(axis=1).idxmax()
        raise RankingError(f"mixture {mixture!r} has no score for {holes.loc[mixture].idxmax()!r}; score it again")
    return table


def family_scores(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return the mean benchmark of each family, mixture × family, in the tasks' unit (DeMix 3.3.2).

    Raises RankingError when the benchmarks of one family differ in unit or direction: their mean would mean nothing.
    """
    table = check_scores(scores, tasks)
    for family, group in tasks.groupby("family"):
        if group[["unit", "higher_is_better"]].drop_duplicates().shape[0] > 1:
            raise RankingError(
                f"family {family!r} mixes {', '.join(sorted(set(group['unit'])))}; rank one unit at a time"
            )
    families = pd.unique(tasks["family"])
    return pd.DataFrame({family: table[tasks.index[tasks["family"] == family]].mean(axis=1) for family in families})


def directions(tasks: pd.DataFrame) -> pd.Series:
    """Return family → whether higher is better."""
    return tasks.groupby("family", sort=False)["higher_is_better"].first()


def family_ranks(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Return ranks within each family, mixture × family, 1 = best; ties share their mean rank."""
    families = family_scores(scores, tasks)
    better_high = directions(tasks)
    return pd.DataFrame({name: families[name].rank(ascending=not better_high[name]) for name in families})


def macro_rank(scores: pd.DataFrame, tasks: pd.DataFrame) -> pd.Series:
    """Return the mean of the family ranks, one number per mixture, 1 = best (DeMix 3.3.2)."""
    return family_ranks(scores, tasks).mean(axis=1).rename("rank")


def rank_among(scores: pd.DataFrame, references: pd.DataFrame, tasks: pd.DataFrame) -> pd.DataFrame:
    """Rank each row of `scores` among the references plus itself (DeMix Table 3).

    Columns: the rank in each family, `macro` (their mean), and `place`: 1 + how many references have a better macro
    rank. Families pull apart, so the best macro rank is far from 1; the place is not.
    """
    rows = {}
    for name, row in scores.iterrows():
        ranks = family_ranks(pd.concat([references, row.to_frame("\0").T]), tasks)
        macro = ranks.mean(axis=1)
        place = 1 + int((macro < macro["\0"]).sum())
        rows[name] = {**ranks.loc["\0"], "macro": macro["\0"], "place": place}
    return pd.DataFrame(rows).T.rename_axis(index=scores.index.name)
