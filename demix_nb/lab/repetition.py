"""How often a model reads the same text: as often as the run that its mixture is for, however short the model's own is.

A candidate of D tokens with the share r of a run of T tokens is read r·T/D times. A model of T' < T tokens on the same
recipe reads it r·T'/D times, and so hides that the run learns scarce text by heart. `matched` gives it r·T'/e tokens of
a candidate that the run reads e times, D·T'/T where it has them.

Source: Repetition Mismatch (arXiv 2606.07597), which subsamples scarce text so for trained proxies; components, of
which merged and mixed proxies are made, are models like any other here.
"""

from dataclasses import replace

from demix_nb.lab.corpora import Corpora
from demix_nb.lab.jobs import Job


def matched(job: Job, corpora: Corpora, *, target: float) -> Job:
    """Return the job with as much text of each candidate as makes it repeat that as often as a run of `target` tokens.

    Whoever the run would not repeat is left alone, and so is one of whom there is no more text than that.
    """
    there = corpora.table["tokens"]
    read = {name: share for name, share in job.recipe.items() if share * target > there[name]}
    amounts = {name: round(there[name] * job.tokens / target) for name in read}
    return replace(job, distinct={name: few for name, few in amounts.items() if few < len(corpora.train[name])})
