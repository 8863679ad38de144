"""A step in pieces of rows is the step of all rows, however they are cut and whatever is padding."""

import numpy as np
import pytest
import torch
from test_train import job, weights

from demix_nb.lab.loop import PADDING, initial, mean_loss, next_token_losses
from demix_nb.lab.train import train, train_all
from demix_nb.store import Refusal


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "m"
    return folder, train(job("m"), folder, small_data)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7])
def test_a_model_trained_in_pieces_is_the_same_within_rounding(rows, small_data, whole, tmp_path):
    record = train(job("m"), tmp_path / "m", small_data, rows_at_once=rows)
    folder, alone = whole
    assert record["key"] == alone["key"]
    assert np.allclose(np.array(record["curve"])[:, 1], np.array(alone["curve"])[:, 1], rtol=1e-5)
    pieces, one = weights(tmp_path / "m"), weights(folder)
    assert all(torch.allclose(pieces[name], one[name], atol=1e-4) for name in one)
    start = initial(job("m"), small_data).state_dict()
    assert max((one[name] - start[name]).abs().max() for name in one) > 0.01, "it had moved further than that"


@pytest.mark.parametrize("rows", [8, 100])
def test_a_piece_that_holds_all_rows_changes_no_bit(rows, small_data, whole, tmp_path):
    train(job("m"), tmp_path / "m", small_data, rows_at_once=rows)
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (whole[0] / "model.safetensors").read_bytes()


@pytest.fixture
def padded(rng):
    """Seven rows of which some are mostly padding, one of them all."""
    batch = torch.tensor(rng.integers(5, 200, size=(7, 33)))
    for row, kept in enumerate([33, 2, 20, 1, 33, 10, 0]):
        batch[row, kept:] = PADDING
    return batch


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_every_token_of_text_weighs_the_same_and_padding_nothing(rows, small_data, padded):
    model = initial(job(), small_data)
    losses = next_token_losses(model, padded)
    text = padded[:, 1:] != PADDING
    losses[text].mean().backward()
    expected = {name: value.grad.clone() for name, value in model.named_parameters()}
    model.zero_grad()
    parts = []
    for part in mean_loss(model, padded, rows):
        part.backward()
        parts.append(part.item())
    assert len(parts) == -(-7 // rows) and sum(parts) == pytest.approx(losses[text].mean().item(), rel=1e-6)
    for name, value in model.named_parameters():
        assert torch.allclose(value.grad, expected[name], atol=1e-7), name
    model.zero_grad()
    naive = torch.stack([next_token_losses(model, piece).mean() for piece in padded.split(rows)]).mean()
    assert abs(naive.item() - sum(parts)) > 0.1, "a mean of means is another loss"


def test_only_one_piece_is_in_memory(small_data, padded):
    seen, alive = [], []

    def losses(model, piece):
        alive.append(sum(part.grad_fn is not None for part in seen))
        return next_token_losses(model, piece)

    for part in mean_loss(initial(job(), small_data), padded, 2, losses):
        part.backward()
        with pytest.raises(RuntimeError, match="second time"):
            part.backward()  # what it was computed from is gone before the next is asked for
    assert len(alive) == 4


@pytest.mark.parametrize("rows", [0, -1])
def test_pieces_without_rows_are_refused_before_training(rows, small_data, tmp_path):
    with pytest.raises(Refusal, match=f"rows_at_once is {rows}; give a number of sequences"):
        list(train_all([job("m")], tmp_path, small_data, rows_at_once=rows))
    assert list(tmp_path.iterdir()) == []
