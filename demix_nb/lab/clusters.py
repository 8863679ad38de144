"""Many candidates out of few: each is divided by what its documents are about.

Whoever mixes a crawl by topic or by site has hundreds of candidates, of any size, that nobody named. Here a candidate's
documents, as TF-IDF of their words, are divided by k-means; sizes are as they come, and a part is called by the words
that stand out in it. `numbers` says into how many each is divided, so that all together are as many as one wants;
`variants.divided` makes corpora of them.

Sources: a hundred domains: RegMix (arXiv 2407.01492); clusters as candidates: CLIMB (2504.13161), on embeddings; finer
partition: DeMix (2602.00747), Table 7.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer

from demix_nb.lab.corpora import Corpora
from demix_nb.lab.variants import Parts, documents
from demix_nb.mixtures import apportion
from demix_nb.store import Refusal

WORD = r"[A-Za-z_]{3,}"  # a word of prose or a name of code; no file is called by anything else
WORDS = 5000  # the most frequent, that documents are compared by
NAMED = 2  # words that a part is called by
STARTS = 3  # of k-means, the best of which is kept


def numbers(corpora: Corpora, total: int) -> dict[str, int]:
    """Return into how many parts to divide each candidate but the general one, so that all are `total`.

    In proportion to the text that is trained on, two at least. Raises Refusal where that makes more, or a candidate has
    fewer documents.
    """
    text = corpora.table["train_tokens"].drop(corpora.general)
    spare = total - 1 - 2 * len(text)
    if spare < 0:
        raise Refusal(f"{len(text)} candidates in two and the general one are {1 + 2 * len(text)}, more than {total}; "
                      "ask for more")  # fmt: skip
    more = apportion(text / text.sum(), spare)
    found = {name: 2 + more.get(name, 0) for name in text.index}
    if few := [name for name in found if found[name] > corpora.table.loc[name, "train_documents"]]:
        raise Refusal(f"{few[0]!r} has fewer documents than the {found[few[0]]} parts it is to have; ask for fewer")
    return found


def by_topic(corpora: Corpora, name: str, number: int) -> Parts:
    """Divide a candidate into `number` clusters of its documents, called `<candidate>-<word>-<word>`.

    Held-out documents go where they belong (a part may get none). Raises Refusal where the documents do not differ
    enough to be so many.
    """
    texts, unseen = documents(corpora.train[name], corpora.tokenizer.eos_token_id), corpora.heldout[name]
    counts = TfidfVectorizer(token_pattern=WORD, max_features=WORDS, sublinear_tf=True)
    points = counts.fit_transform(corpora.tokenizer.batch_decode([text[:-1] for text in texts]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # that there are fewer kinds is refused below
        found = KMeans(number, n_init=STARTS, random_state=0).fit(points)
    if (there := len(np.unique(found.labels_))) < number:
        raise Refusal(f"the documents of {name!r} are of {there} kinds, too few for {number} parts; ask for fewer")
    taken = found.predict(counts.transform(unseen)) if unseen else np.empty(0, int)
    return {
        part: ([texts[i] for i in np.flatnonzero(found.labels_ == k)],
               [unseen[i] for i in np.flatnonzero(taken == k)])
        for k, part in enumerate(_called(name, found.cluster_centers_, counts.get_feature_names_out()))
    }  # fmt: skip


def inside(finer: Corpora) -> pd.DataFrame:
    """Return what share of a whole candidate's text lies in each part: candidate × part, rows sum to 1.

    A table of mixtures of the whole candidates times this is the same data said in parts. `finer`: as `divided` makes.
    """
    tokens, whole = finer.table["train_tokens"], finer.table["part_of"]
    shares = pd.DataFrame(
        {part: tokens[part] * (whole.unique() == whole[part]) for part in whole.index}, whole.unique()
    )
    return shares.div(shares.sum(axis=1), axis=0)


def _called(name: str, centres: np.ndarray, words: np.ndarray) -> list[str]:
    """Return a name for each cluster: the words by which its centre is above the mean of all, one more if it is taken.

    Words that stand in every cluster alike name none.
    """
    found: list[str] = []
    for above in centres - centres.mean(axis=0):
        ranked, many = words[np.argsort(-above, kind="stable")], NAMED
        while (called := "-".join([name, *ranked[:many]])) in found:
            many += 1
        found.append(called)
    return found
