"""A replayed search shows each mixture once, and the best so far only improves."""

from itertools import pairwise

import fixtures_panels

from demix_nb.panels import replay

play, scored, corners = fixtures_panels.play, fixtures_panels.scored, fixtures_panels.corners


def test_a_replay_shows_each_mixture_once_and_the_best_only_improves(play, scored, corners, rng):
    rounds = play.study["search_rounds"]["round"]
    stages = replay.replay_stages(scored, rounds, corners, rng=rng)
    assert len(stages) == 2 * rounds.nunique() and stages[0].ground is None
    assert [name for stage in stages for name in stage.new] == scored.names
    shots = [replay.replay(stage, scored, corners) for stage in stages]
    best = shots[-1].data[4].y
    assert all(later <= earlier for earlier, later in pairwise(best))
    assert best[-1] == scored.ranks.min()
    moving = replay.film(stages, scored, corners)
    assert [len(frame.data) for frame in moving.frames] == [5] * len(stages)
