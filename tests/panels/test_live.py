"""A live proxy is the merge it claims to be, measured on excerpts, and what it writes depends on the mixture alone."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import fixtures_models
import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from demix_nb import STATIC
from demix_nb.merging import Bank
from demix_nb.mixtures import as_table, one_hot, uniform
from demix_nb.panels import Playground, playground
from demix_nb.panels.live import EXCERPT, NEXT, NOTHING, PROMPT, Live, _padded
from demix_nb.region import Region
from demix_nb.store import Refusal

NAMES = ("a", "b-c", "d[e]")  # names may hold what names of folders are made of
TRAINED = ("0.20", "0.50")  # shares of "d[e]" at which a model was trained between it and "b-c"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """What a live proxy asks of a study: three tiny components, their held-out text, and two references between."""
    folder, draw = tmp_path_factory.mktemp("study"), np.random.default_rng(7)
    sources = fixtures_models.ARCHITECTURES["qwen3"]()
    components, base = fixtures_models.family(folder / "made", sources, names=NAMES, drift=0.3)
    for weight in TRAINED:
        shutil.copytree(components["d[e]"], folder / "models" / f"path-b-c-d[e]-{weight}")
    words = [[" ".join(f"w{n}" for n in draw.integers(3, 64, 60)) for _ in range(40)] for _ in NAMES]
    return SimpleNamespace(
        bank=Bank.load(components, base=base), families={"a": "general", "b-c": "math", "d[e]": "math"},
        heldout=SimpleNamespace(heldout=dict(zip(NAMES, words, strict=True))), models=folder / "models",
        tokenizer=AutoTokenizer.from_pretrained(base), window=32, components=components,
        here=("float32", "cpu"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def live(study):
    return Live(study)


def test_a_corner_scores_like_its_component_on_the_same_excerpts(live, study):
    corners = as_table({name: one_hot(NAMES, name) for name in NAMES})
    scored = live(corners)
    for name, folder in study.components.items():
        component = live.suite.measure(AutoModelForCausalLM.from_pretrained(folder))
        assert scored.scores.loc[name].to_list() == pytest.approx(component.to_list(), rel=1e-6)
    assert list(scored.scores) == list(NAMES) and not scored.tasks["higher_is_better"].any()
    assert scored.tasks["family"].to_dict() == study.families


def test_a_move_is_read_on_little_text(live, study):
    assert all(len(text) > 2 * EXCERPT for text in map("\n".join, study.heldout.heldout.values()))
    asked = [instance.args[0] for task in live.suite.loaded.values() for instance in task.instances]
    assert len(asked) == len(NAMES) and all(len(text) <= EXCERPT for text in asked)
    assert all(len(tokens) == PROMPT for tokens in live.starts.values())


def test_the_same_mixture_writes_the_same_and_leaves_the_dice_alone(live):
    even, corner = uniform(NAMES), one_hot(NAMES, "a")
    before = torch.get_rng_state()
    first, other, again = (live.write_on(mixture, ["a", "b-c"], tokens=8) for mixture in (even, corner, even))
    pd.testing.assert_series_equal(first, again)
    assert (first != other).any() and (torch.get_rng_state() == before).all()
    assert (live.write_on(even, ["a", "b-c"], tokens=8, seed=1) != first).any()


def test_a_slider_and_a_cell_may_ask_at_the_same_time(live):
    corners = [one_hot(NAMES, name) for name in NAMES]
    tables = [corner.to_frame("corner").T for corner in corners]
    alone = [(live(table).scores, live.write_on(corner, ["a"], tokens=4))
             for table, corner in zip(tables, corners, strict=True)]  # fmt: skip
    with ThreadPoolExecutor(2 * len(corners)) as pool:
        scores = [pool.submit(live, table) for table in tables * 3]
        texts = [pool.submit(live.write_on, corner, ["a"], tokens=4) for corner in corners * 3]
    for (score, text), asked, written in zip(alone * 3, scores, texts, strict=True):
        pd.testing.assert_frame_equal(asked.result().scores, score)
        pd.testing.assert_series_equal(written.result(), text)


def test_all_ways_from_one_candidate_to_another_begin_and_end_alike(live):
    curves = live.path("a", "d[e]", points=3)
    assert list(curves) == ["merged", "mixed"], "no model was trained between them"
    merged, mixed = curves.values()
    assert list(merged.index) == list(mixed.index) == [0, 0.5, 1]
    assert merged.loc[[0, 1]].to_numpy() == pytest.approx(mixed.loc[[0, 1]].to_numpy(), rel=1e-5)
    assert (merged.loc[0.5] != mixed.loc[0.5]).all()


def test_where_models_were_trained_between_two_candidates_they_are_measured_as_well(live):
    assert live.trained_pair == ("b-c", "d[e]")
    curves = live.path("b-c", "d[e]", points=3)
    reference = curves["reference"]
    assert list(reference.index) == [0.2, 0.5] and list(reference) == ["b-c", "d[e]"]
    for weight in reference.index:  # the copies that stand for trained models are the component at the end
        assert reference.loc[weight].to_list() == pytest.approx(curves["merged"].loc[1].to_list(), rel=1e-6)


def test_what_follows_is_as_likely_as_the_model_says_token_by_token(live, study):
    corner, names = one_hot(NAMES, "b-c"), ["a", "b-c"]
    odds = live.odds(corner, names)
    model = AutoModelForCausalLM.from_pretrained(study.components["b-c"])
    for name, right, wrong in zip(names, names, names[::-1], strict=True):
        for column, other in (("p_right", right), ("p_wrong", wrong)):
            start, after = live.starts[name], live.follows[other]
            assert 0 < len(after) <= NEXT and odds.loc[name, column[2:]] == study.tokenizer.decode(after)
            likely, known = 1.0, list(start)
            for token in after:
                likely *= model(torch.tensor([known])).logits[0, -1].softmax(0)[token].item()
                known.append(token)
            assert odds.loc[name, column] == pytest.approx(likely ** (1 / len(after)), rel=1e-4)
    assert odds.loc["a", "given"] == live.prompts["a"]


def changed(study, **given):
    return SimpleNamespace(**vars(study) | given)


def test_models_are_opened_as_the_study_opens_its_own(live, study):
    half = Live(changed(study, here=("bfloat16", "cpu")))
    even = uniform(NAMES).to_frame("even").T
    scores = half(even).scores
    assert half.model.dtype == torch.bfloat16 and live.model.dtype == torch.float32
    assert np.allclose(scores, live(even).scores, rtol=0.02) and not scores.equals(live(even).scores)
    assert set(half.path("b-c", "d[e]", points=3)) == {"merged", "mixed", "reference"}, "references, too, as they are"


def test_what_is_written_follows_beginnings_of_any_length_as_it_does_alone(study):
    short = dict(zip(NAMES, ([text] for text in ("w5 w6", "w7 w8 w9 w10", "w11")), strict=True))
    live, even = Live(changed(study, heldout=SimpleNamespace(heldout=short))), uniform(NAMES)
    live.model.generation_config.top_k = 1  # the likeliest token, so that the dice of a row say nothing
    together = live.write_on(even, list(NAMES), tokens=6)
    assert together.to_list() == [live.write_on(even, [name], tokens=6)[name] for name in NAMES]


def test_beginnings_go_where_the_model_is():
    tokens, mask = _padded([[5, 6], [7]], torch.device("meta"))
    assert tokens.device.type == mask.device.type == "meta" and tokens.shape == mask.shape == (2, 2)
    tokens, mask = _padded([[5, 6], [7]], torch.device("cpu"))
    assert tokens.tolist() == [[5, 6], [0, 7]] and mask.tolist() == [[1, 1], [0, 1]]


def test_candidates_without_text_have_no_score_but_move_the_others(study):
    texts = {"a": study.heldout.heldout["a"], "d[e]": []}
    live = Live(changed(study, heldout=SimpleNamespace(heldout=texts)))
    scores = live(as_table({name: one_hot(NAMES, name) for name in NAMES})).scores
    assert list(scores) == ["a"] and scores["a"].nunique() == 3
    assert {kind: list(table) for kind, table in live.path("a", "b-c", points=3).items()} == {
        "merged": ["a"], "mixed": ["a"]
    }  # fmt: skip


def test_without_any_text_a_mixture_is_not_scored_but_writes_from_nothing(study):
    live = Live(changed(study, heldout=None))
    assert list(live.prompts) == [NOTHING] and live.write_on(uniform(NAMES), [NOTHING], tokens=8)[NOTHING]
    with pytest.raises(Refusal, match="no candidate has held-out text"):
        live(uniform(NAMES).to_frame("even").T)


def test_nothing_is_opened_before_it_is_asked_for():
    assert Live(SimpleNamespace()).write_on.__doc__


def test_a_playground_shows_what_a_study_of_checkpoints_has(study, monkeypatch):
    monkeypatch.setenv(STATIC, "1")
    named = as_table({"even": uniform(NAMES)})
    tables = type("Tables", (SimpleNamespace,), {
        "__getitem__": lambda self, name: named, "__contains__": lambda self, name: False
    })  # fmt: skip
    whole = tables(**vars(study), candidates=list(NAMES), opens=True, given=None, folder=None)
    whole.region = Region(NAMES)
    whole.components = SimpleNamespace(folders=study.components)
    play = Playground(whole)
    scores, written = play.live().still
    assert isinstance(scores, go.Figure) and list(written.data) == [
        "given", "really follows", "p", "follows elsewhere", "p there"
    ], "models of noise cannot write"  # fmt: skip
    assert len(written.data) == 2, "one candidate per family chooses"
    monkeypatch.setattr(playground, "READABLE", 100.0)
    assert list(play.live().still[1].data) == ["given", "written"]
    assert len(play.path().still[0].data) > 2 and list(play.glance(named).names) == ["even"]
    whole.components = SimpleNamespace(folders={"a": study.models / "gone"})
    assert "models of this run are not here" in Playground(whole).live().still[0].layout.annotations[0].text
    whole.components, whole.heldout = SimpleNamespace(folders=study.components), None
    mute = Playground(whole)
    said, written = mute.live().still
    assert "no held-out text" in said.layout.annotations[0].text and len(written.data) == 1
    assert len(mute.glance(named)) == 0 and "no held-out text" in mute.path().still[0].layout.annotations[0].text


def test_without_a_model_between_any_two_the_ends_are_the_first_and_the_last(study, tmp_path):
    assert Live(SimpleNamespace(**vars(study) | {"models": tmp_path})).trained_pair == (NAMES[0], NAMES[-1])
