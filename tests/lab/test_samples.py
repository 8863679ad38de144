"""What is shown of candidates is theirs: the beginning of a document, and how long their documents are."""

from types import SimpleNamespace

import numpy as np

from demix_nb.lab.samples import BINS, lengths, samples


def test_lengths_are_those_between_ends():
    assert lengths(np.array([5, 6, 0, 7, 0, 0, 8, 8, 8, 0]), 0).to_list() == [2, 1, 0, 3]
    assert lengths(np.array([], dtype=int), 0).empty


def test_every_candidate_has_a_row_with_its_text_and_all_its_documents():
    stream = np.concatenate([np.r_[np.ones(size, int), 0] for size in (10, 10, 500, 90_000)])
    corpora = SimpleNamespace(
        candidates=["general", "code_cpp"], families={"general": "general", "code_cpp": "code"},
        heldout={"general": ["A law.\n\nIts $text$ " + "goes on " * 99], "code_cpp": ["int main() {}"]},
        train={"general": stream, "code_cpp": stream[:11]}, tokenizer=SimpleNamespace(eos_token_id=0),
    )  # fmt: skip
    figure = samples(corpora)
    words, bars = figure.axes[::2], figure.axes[1::2]
    told = [[text.get_text() for text in axes.texts] for axes in words]
    assert told[0][0] == "general" and told[0][1].startswith("A law. Its $text$ goes on") and told[0][1].endswith("…")
    assert told[1] == ["code_cpp", "int main() {}"]
    counted = [sum(bar.get_height() for bar in axes.patches) for axes in bars]
    assert counted == [4, 1] and bars[0].get_xscale() == "log" and BINS[-1] < 90_000
    assert words[0].texts[0].get_color() != words[1].texts[0].get_color()
    figure.canvas.draw()
